/*
 * Building a tokenizer blob (spec/tokenizer.md) from its parts: what importers call.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TOKENIZER_BUILD_H
#define PITH_TOKENIZER_BUILD_H

#include "pith_status.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer_token {
	uint8_t *bytes; /* what the token decodes to; NULL and 0: unused */
	uint32_t nbytes;
	uint32_t flags; /* enum token_flag, without UNUSED and DIRECT */
};

struct tokenizer_merge {
	uint32_t left, right, merged; /* ids; rank is the index */
};

struct tokenizer_added {
	uint32_t id;
	uint32_t flags; /* enum added_flag */
};

/* All ids are below token_count. */
struct tokenizer_parts {
	uint32_t kind, pretokenizer, flags; /* as in the header of the blob */
	uint32_t bos_id, eos_id, unk_id, pad_id;
	uint32_t byte_ids[256];
	struct tokenizer_token *tokens;
	size_t token_count;
	struct tokenizer_merge *merges; /* of a pair that is listed twice the last counts */
	size_t merge_count;
	struct tokenizer_added *added; /* the tokens with CONTROL or ADDED, each once; sorted here */
	size_t added_count;
};

/*
 * Build and check the blob.  It chooses table sizes, DIRECT tokens, and space-runs in place of
 * "none" where that is the same.  *blob is malloc'd, the caller frees it.  Returns
 * PITH_E_LIMIT (a bound of the spec), PITH_E_MEMORY, or PITH_E_CORRUPT (the parts break a rule).
 */
pith_status tokenizer_build(struct tokenizer_parts *parts, uint8_t **blob, size_t *blob_nbytes,
                            struct pith_error *err);

#endif
