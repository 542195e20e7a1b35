/*
 * The loops of recall_search.h in the shape that compilers turn into vectors; included once for each instruction set, no
 * parameters.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "recall_search.h"

/* Compilers know this for the instruction where there is one. */
static inline uint32_t ones_of(uint64_t v)
{
	v = v - (v >> 1 & 0x5555555555555555u);
	v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
	return (uint32_t)(v * 0x0101010101010101u >> 56);
}

static inline size_t near_of(const uint64_t *query, const uint64_t *signs, size_t words, size_t count,
                             uint32_t most, uint32_t first, uint32_t *hits)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t apart = 0;
		for (size_t w = 0; w < words; w++)
			apart += ones_of(query[w] ^ signs[i * words + w]);
		hits[n] = first + (uint32_t)i;
		n += apart <= most;
	}
	return n;
}

static size_t near(const uint64_t *query, const uint64_t *signs, size_t words, size_t count, uint32_t most,
                   uint32_t first, uint32_t *hits)
{
	return words == 4 ? near_of(query, signs, 4, count, most, first, hits) :
	                    near_of(query, signs, words, count, most, first, hits);
}

static int32_t dot(const int16_t *query, const int8_t *key, size_t width)
{
	int32_t sum = 0;
	for (size_t i = 0; i < width; i++)
		sum += query[i] * (int16_t)key[i];
	return sum;
}
