/*
 * A language model of a page for tests of the coder: 330 tokens, among them duplicates, tokens without
 * bytes and prefixes of each other; logits from a hash of the last two tokens and of how far
 * the window has come, so that a wrong context shows at once; states from the last token and the place.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_TOY_LM_H
#define PITH_TESTS_TOY_LM_H

#include "text_lm.h"

#include <stdlib.h>

enum { TOY_VOCAB = 330, TOY_CONTEXT = 64, TOY_HIDDEN = 24 };

struct toy_session {
	size_t sequences, context, batch;
	uint32_t *last;   /* [sequences, 2] */
	size_t *length;   /* [sequences] */
	float *logits;    /* [batch, TOY_VOCAB] */
	float *hidden;    /* [batch, TOY_HIDDEN] */
};

static const char *const toy_words[] = {"the ", "the", " of", "e ", "th", "in", "ab", "abc", "abcd",
                                        "\n\n", "  ", "    ", "\xc3\xa9", "the "};

/* 0: start token without bytes; 1..256: bytes; words; a second copy of all bytes' first 32; the rest empty. */
static const uint8_t *toy_token_bytes(const void *ctx, uint32_t id, size_t *nbytes)
{
	static const uint8_t all[256] = {
#define B4(x) (x), (x) + 1, (x) + 2, (x) + 3
#define B16(x) B4(x), B4((x) + 4), B4((x) + 8), B4((x) + 12)
#define B64(x) B16(x), B16((x) + 16), B16((x) + 32), B16((x) + 48)
		B64(0), B64(64), B64(128), B64(192)
	};
	(void)ctx;
	*nbytes = 0;
	if (id >= 1 && id <= 256) {
		*nbytes = 1;
		return &all[id - 1];
	}
	if (id >= 257 && id < 257 + sizeof(toy_words) / sizeof(toy_words[0])) {
		*nbytes = strlen(toy_words[id - 257]);
		return (const uint8_t *)toy_words[id - 257];
	}
	if (id >= 280 && id < 312) {
		*nbytes = 1;
		return &all[id - 280];
	}
	return NULL;
}

static pith_status toy_encode(const void *ctx, const uint8_t *text, size_t nbytes, uint32_t *ids,
                              size_t ids_cap, size_t *ids_count, struct pith_error *err)
{
	size_t count = 0;
	for (size_t i = 0; i < nbytes;) {
		uint32_t best = 1u + text[i];
		size_t best_nbytes = 1;
		for (uint32_t w = 0; w < sizeof(toy_words) / sizeof(toy_words[0]); w++) {
			size_t n = strlen(toy_words[w]);
			if (n > best_nbytes && n <= nbytes - i && memcmp(toy_words[w], text + i, n) == 0) {
				best = 257 + w;
				best_nbytes = n;
			}
		}
		if (count == ids_cap)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "too many tokens");
		ids[count++] = best;
		i += best_nbytes;
	}
	(void)ctx;
	*ids_count = count;
	return PITH_OK;
}

static size_t toy_session_nbytes(const void *ctx, const struct pith_session_options *o)
{
	(void)ctx;
	return o->sequence_count * o->context_length * 8;
}

static pith_status toy_session_new(const void *ctx, const struct pith_session_options *o,
                                   void **session, struct pith_error *err)
{
	struct toy_session *s = calloc(1, sizeof(*s));
	(void)ctx;
	(void)err;
	s->sequences = o->sequence_count;
	s->context = o->context_length;
	s->batch = o->batch_count;
	s->last = calloc(2 * s->sequences, sizeof(*s->last));
	s->length = calloc(s->sequences, sizeof(*s->length));
	s->logits = calloc(s->batch * TOY_VOCAB, sizeof(*s->logits));
	s->hidden = calloc(s->batch * TOY_HIDDEN, sizeof(*s->hidden));
	*session = s;
	return PITH_OK;
}

static void toy_session_free(void *session)
{
	struct toy_session *s = session;
	free(s->last);
	free(s->length);
	free(s->logits);
	free(s->hidden);
	free(s);
}

static void toy_state(uint32_t token, uint32_t position, float *out)
{
	uint32_t h = token * 2654435761u;
	for (uint32_t i = 0; i < TOY_HIDDEN; i++) {
		h = h * 1664525u + 1013904223u;
		out[i] = (float)((int32_t)(h >> 16) - 32768 + (int32_t)(position * (i + 1) % 64 * 64));
	}
}

static pith_status toy_step(void *session, const struct pith_row *rows, size_t count,
                            const float **logits, struct pith_error *err)
{
	struct toy_session *s = session;
	size_t out = 0;
	if (count < 1 || count > s->batch)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "toy: %zu rows", count);
	for (size_t r = 0; r < count; r++) {
		uint32_t *last = &s->last[2 * rows[r].sequence];
		if (rows[r].token >= TOY_VOCAB || s->length[rows[r].sequence] == s->context)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "toy: context full");
		size_t position = s->length[rows[r].sequence]++;
		last[1] = position == 0 ? 0 : last[0];
		last[0] = rows[r].token;
		if (!rows[r].want_logits)
			continue;
		toy_state(last[0], (uint32_t)position, &s->hidden[out * TOY_HIDDEN]);
		float *l = &s->logits[out++ * TOY_VOCAB];
		uint32_t h = last[0] * 2654435761u ^ last[1] * 40503u ^ (uint32_t)position * 977u;
		for (uint32_t v = 0; v < TOY_VOCAB; v++) {
			h = h * 1664525u + 1013904223u;
			size_t n;
			toy_token_bytes(NULL, v, &n);
			l[v] = (float)(h >> 16) * (1.0f / 65536.0f) + (n > 1 ? 7.0f : 0.0f);
		}
	}
	*logits = out > 0 ? s->logits : NULL;
	return PITH_OK;
}

static size_t toy_logit_stride(const void *session)
{
	(void)session;
	return TOY_VOCAB;
}

static const float *toy_hidden(const void *session, size_t *stride)
{
	*stride = TOY_HIDDEN;
	return ((const struct toy_session *)session)->hidden;
}

static void toy_truncate(void *session, size_t sequence, size_t length)
{
	struct toy_session *s = session;
	s->length[sequence] = length;
}

static const struct text_lm toy_lm = {
	.vocab_count = TOY_VOCAB,
	.context_length = TOY_CONTEXT,
	.hidden_count = TOY_HIDDEN,
	.identity = "a toy model 330",
	.token_bytes = toy_token_bytes,
	.encode = toy_encode,
	.session_nbytes = toy_session_nbytes,
	.session_new = toy_session_new,
	.session_free = toy_session_free,
	.session_step = toy_step,
	.logit_stride = toy_logit_stride,
	.session_hidden = toy_hidden,
	.session_truncate = toy_truncate,
};

#endif
