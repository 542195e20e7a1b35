/*
 * What the coder needs of a language model: bytes of tokens, a lossless cut of text
 * into tokens, and logits.  text_model.c makes one of a pith_model and its tokenizer;
 * tests bring models of their own.  Immutable and shareable; sessions are not.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_LM_H
#define PITH_TEXT_LM_H

#include "pithrun.h"

struct text_lm {
	const void *ctx;
	size_t vocab_count;    /* V: logits of one prediction */
	size_t context_length; /* most positions of a sequence */
	size_t hidden_count;   /* columns of a hidden state; 0: it has none to show */
	uint32_t start_token;  /* spec text_archive.md 7 */
	uint32_t numerics_version;
	uint8_t identity[16];

	/* Bytes of a token, borrowed; NULL and 0 for one that stands for no text. */
	const uint8_t *(*token_bytes)(const void *ctx, uint32_t id, size_t *nbytes);
	/* Cut 'text' into tokens whose bytes, joined, are the text.  ids: [nbytes] is always enough. */
	pith_status (*encode)(const void *ctx, const uint8_t *text, size_t nbytes, uint32_t *ids,
	                      size_t ids_cap, size_t *ids_count, struct pith_error *err);

	/* As the functions of pithrun.h that bear these names. */
	size_t (*session_nbytes)(const void *ctx, const struct pith_session_options *options);
	pith_status (*session_new)(const void *ctx, const struct pith_session_options *options,
	                           void **session, struct pith_error *err);
	void (*session_free)(void *session);
	pith_status (*session_step)(void *session, const struct pith_row *rows, size_t count,
	                            const float **logits, struct pith_error *err);
	size_t (*logit_stride)(const void *session);
	const float *(*session_hidden)(const void *session, size_t *stride);
	void (*session_truncate)(void *session, size_t sequence, size_t length);
};

#endif
