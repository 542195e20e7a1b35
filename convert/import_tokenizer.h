/*
 * Hugging Face tokenizer files to a tokenizer blob (spec/tokenizer.md).
 *
 * Understood: model type BPE, as byte-level BPE (ByteLevel pre-tokenizer, alone or after
 * one of the known splits) and as SentencePiece-style BPE (Prepend/Replace normalizer or
 * Metaspace).  Anything else is PITH_E_UNSUPPORTED with the part named, never guessed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_IMPORT_TOKENIZER_H
#define PITH_IMPORT_TOKENIZER_H

#include "pith_status.h"

#include <stddef.h>
#include <stdint.h>

/* The files of one model, as bytes; NULL where there is none.  Borrowed for the call. */
struct import_tokenizer_files {
	const char *tokenizer_json; /* required */
	size_t tokenizer_nbytes;
	const char *tokenizer_config; /* tokenizer_config.json: special tokens, add_bos_token */
	size_t tokenizer_config_nbytes;
	const char *model_config; /* config.json: vocab_size, and special ids that nothing else gives */
	size_t model_config_nbytes;
};

/*
 * Import.  With a model_config the vocabulary is padded with unused tokens up to its vocab_size;
 * added tokens beyond it, which the model has no row for, are left out.
 *
 * *blob is malloc'd and the caller frees it; NULL on error.  Returns PITH_E_CORRUPT (malformed JSON or
 * contradictory contents), PITH_E_UNSUPPORTED, PITH_E_LIMIT, PITH_E_MEMORY.
 */
pith_status import_tokenizer(const struct import_tokenizer_files *files, uint8_t **blob,
                             size_t *blob_nbytes, struct pith_error *err);

/* import_tokenizer() without a model_config; 'config_json' may be NULL. */
pith_status import_tokenizer_json(const char *json, size_t nbytes, const char *config_json,
                                  size_t config_nbytes, uint8_t **blob, size_t *blob_nbytes,
                                  struct pith_error *err);

#endif
