/*
 * Keys and what they recall: spec/text_archive.md, section 15.  Floats are used one operation at a time, each of them
 * IEEE; sums are of integers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "recall.h"

#include <math.h>
#include <stdlib.h>

#define KEY_MAX 127.0f
#define LEAST_STATE 0x1p-64f /* states that are smaller or larger than this and the next have a key of zeros */
#define MOST_STATE 0x1p64f
#define MEAN_COUNT 1024u     /* states that the mean is of, more or less */
#define OCTAVES 1179648.0f   /* 18 octaves from a cosine of 1 to one of 0, in units of 2^-16 octaves */
#define AGE 64.0f            /* and one for 1024 tokens */
#define LEAST_EXPONENT (-1114112.0f) /* 17 octaves: nothing is left */
#define ROUNDER 12582912.0f  /* 1.5 * 2^23 leaves the nearest integer in the low bits */
#define ROUNDER_BITS 0x4b400000

/* ---- memory ---- */

static size_t width_of(size_t hidden_count) { return (hidden_count + 63) / 64 * 64; }

static size_t cap_of(size_t token_count, size_t ahead)
{
	return (token_count < RECALL_COUNT ? token_count : RECALL_COUNT) + ahead;
}

size_t recall_nbytes(size_t stream_count, size_t hidden_count, size_t token_count, size_t ahead)
{
	size_t width = width_of(hidden_count), nbytes;
	size_t of_key = width + width / 8 + sizeof(float);
	return pith_mul_size(cap_of(token_count, ahead) * of_key + hidden_count * sizeof(float), stream_count,
	                     &nbytes) ? nbytes : 0;
}

pith_status recall_open(struct recall *r, const struct recall_loops *loops, size_t stream_count,
                        size_t hidden_count, size_t token_count, size_t ahead, struct pith_error *err)
{
	size_t width = width_of(hidden_count), cap = cap_of(token_count, ahead);
	*r = (struct recall){.loops = loops, .hidden_count = hidden_count, .width = width, .cap = cap};
	if (recall_nbytes(stream_count, hidden_count, token_count, ahead) != 0) {
		r->keys = calloc(stream_count * cap, width);
		r->signs = calloc(stream_count * cap, width / 8);
		r->inverse = calloc(stream_count * cap, sizeof(float));
		r->mean = calloc(stream_count * hidden_count, sizeof(float));
	}
	return r->keys != NULL && r->signs != NULL && r->inverse != NULL && r->mean != NULL ? PITH_OK :
	       pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to recall");
}

void recall_close(struct recall *r)
{
	free(r->keys);
	free(r->signs);
	free(r->inverse);
	free(r->mean);
	*r = (struct recall){0};
}

/* ---- keys ---- */

static int32_t nearest(float x) { return (int32_t)bits_of_f32(x + ROUNDER) - ROUNDER_BITS; }

static float largest(const float *hidden, const float *mean, size_t count)
{
	float most = 0;
	for (size_t i = 0; i < count; i++) {
		float x = fabsf(hidden[i] - mean[i]);
		most = x > most ? x : most;
	}
	return most;
}

void recall_add(struct recall *r, size_t stream, size_t t, const float *hidden)
{
	size_t at = stream * r->cap + t % r->cap;
	int8_t *key = r->keys + at * r->width;
	uint64_t *signs = r->signs + at * (r->width / 64);
	float *mean = r->mean + stream * r->hidden_count;
	float most = largest(hidden, mean, r->hidden_count);
	float scale = most >= LEAST_STATE && most <= MOST_STATE ? KEY_MAX / most : 0;
	float share = 1.0f / (float)(t + 1 < MEAN_COUNT ? t + 1 : MEAN_COUNT);
	int32_t square = 0;
	memset(signs, 0, r->width / 8);
	for (size_t i = 0; i < r->hidden_count; i++) {
		float x = hidden[i] - mean[i];
		int32_t q = nearest(x * scale);
		key[i] = (int8_t)q;
		signs[i / 64] |= (uint64_t)(q < 0) << i % 64;
		square += q * q;
		mean[i] += x * share;
	}
	r->inverse[at] = square > 0 ? 1.0f / sqrtf((float)square) : 0;
}

/* ---- search ---- */

/* Tokens of [begin, end) whose keys are near; the ring may begin anew between them. */
static size_t near_tokens(const struct recall *r, size_t stream, size_t begin, size_t end, uint32_t *hits)
{
	size_t words = r->width / 64, n = 0;
	const uint64_t *signs = r->signs + stream * r->cap * words, *query = signs + end % r->cap * words;
	uint32_t most = (uint32_t)(13 * r->hidden_count / 32);
	while (begin < end) {
		size_t at = begin % r->cap, run = r->cap - at < end - begin ? r->cap - at : end - begin;
		n += r->loops->near(query, signs + at * words, words, run, most, (uint32_t)begin, hits + n);
		begin += run;
	}
	return n;
}

/* 2^16 * 2^(x / 65536), but not more than 2^16. */
static uint32_t weight_of(float x)
{
	if (!(x >= LEAST_EXPONENT))
		return 0;
	int32_t n = nearest(x);
	n = n < 0 ? n : 0; /* rounding makes a cosine slightly more than 1 */
	uint32_t k = (uint32_t)(65535 - n) >> 16, f = (uint32_t)n + (k << 16);
	uint32_t a = 14820u + (5110u * f >> 16);
	a = 45605u + (a * f >> 16);
	a = 65536u + (a * f >> 16);
	return a >> k;
}

void recall_sums(const struct recall *r, size_t stream, size_t t, const struct vocab_tree *tree,
                 const uint32_t *ids, uint32_t *scratch, uint32_t *sums)
{
	const int8_t *keys = r->keys + stream * r->cap * r->width;
	uint32_t *hits = scratch;
	int16_t *query = (int16_t *)(scratch + RECALL_COUNT);
	const float *inverse = r->inverse + stream * r->cap;
	size_t begin = t > RECALL_COUNT ? t - RECALL_COUNT : 0;
	size_t count = near_tokens(r, stream, begin, t, hits);
	for (size_t i = 0; i < r->width; i++)
		query[i] = keys[t % r->cap * r->width + i];
	memset(sums, 0, (tree->count + 1) * sizeof(*sums));
	for (size_t h = 0; h < count; h++) {
		size_t j = hits[h] % r->cap;
		float cosine = (float)r->loops->dot(query, keys + j * r->width, r->width) * inverse[t % r->cap] * inverse[j];
		sums[tree->position[ids[hits[h]]] + 1] +=
			weight_of((cosine - 1.0f) * OCTAVES - (float)(t - hits[h]) * AGE);
	}
	uint32_t sum = 0;
	for (size_t i = 1; i <= tree->count; i++)
		sums[i] = sum += sums[i];
}
