/*
 * Logits to integer frequencies; included once for each instruction set, no parameters.  Two float operations and their
 * rounding are the whole meeting of floats and integers, and both are IEEE: the same bits everywhere.  Loops have
 * the shape that compilers turn into vectors; spec/text_archive.md, section 8, is the meaning.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "frequencies.h"

#define LANES 16u
#define UNITS_PER_OCTAVE 94548.4609375f /* 65536 * log2(e) */
#define LEAST_BITS ((int32_t)0xc9f80000) /* of -2031616: 31 octaves */
/* Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits. */
#define ROUNDER 12582912.0f
#define ROUNDER_BITS 0x4b400000

/*
 * The greatest logit.  Compares bits as integers, which order like the floats when those of negative ones are
 * flipped: compilers do not vectorise float comparisons.  NaN and infinity of plus sign come out on top.
 */
static float greatest(const float *logits, size_t count)
{
	int32_t best = INT32_MIN;
	for (size_t i = 0; i < count; i++) {
		int32_t bits = (int32_t)bits_of_f32(logits[i]);
		int32_t key = bits ^ (int32_t)((uint32_t)(bits >> 31) >> 1);
		best = key > best ? key : best;
	}
	return f32_of_bits((uint32_t)best ^ (uint32_t)(best >> 31) >> 1);
}

static inline uint32_t exp2_fixed(float logit, float m)
{
	float t = (logit - m) * UNITS_PER_OCTAVE;
	/* max(t, -2031616) on the bits: t <= 0, and among negative floats the integers order the other way round */
	int32_t bits = (int32_t)(bits_of_f32(t) | 0x80000000u);
	bits = bits > LEAST_BITS ? LEAST_BITS : bits; /* NaN too */
	int32_t n = (int32_t)bits_of_f32(f32_of_bits((uint32_t)bits) + ROUNDER) - ROUNDER_BITS;
	uint32_t k = (uint32_t)(65535 - n) >> 16;
	uint32_t f = (uint32_t)n + (k << 16);
	uint32_t a = 14820u + (5110u * f >> 16);
	a = 45605u + (a * f >> 16);
	a = 65536u + (a * f >> 16);
	/* a * 2^14 >> k in floats, which have a vector form everywhere: exact, for a has 17 bits */
	return (uint32_t)(int32_t)((float)(int32_t)a * f32_of_bits((127u + 14u - k) << 23));
}

static void exponentials(const float *restrict logits, size_t count, float m,
                         uint32_t *restrict e)
{
	for (size_t i = 0; i < count; i++)
		e[i] = exp2_fixed(logits[i], m);
}

/* Sum in 32-bit lanes: upper and lower halves apart, so that BLOCK values cannot overflow. */
static uint64_t sum_of(const uint32_t *e, size_t count)
{
	enum { BLOCK = 16384 };
	uint64_t total = 0;
	for (size_t begin = 0; begin < count; begin += BLOCK) {
		size_t end = count - begin < BLOCK ? count : begin + BLOCK;
		uint32_t upper[LANES] = {0}, lower[LANES] = {0};
		size_t i = begin;
		for (; i + LANES <= end; i += LANES) {
			for (size_t j = 0; j < LANES; j++) {
				upper[j] += e[i + j] >> 16;
				lower[j] += e[i + j] & 65535u;
			}
		}
		for (; i < end; i++)
			total += e[i];
		for (size_t j = 0; j < LANES; j++)
			total += ((uint64_t)upper[j] << 16) + lower[j];
	}
	return total;
}

static bool frequencies(const float *logits, size_t count, const uint32_t *order, uint32_t *scratch,
                        uint32_t *sums)
{
	float m = greatest(logits, count);
	if (!(m - m == 0.0f)) /* infinite or NaN */
		return false;
	exponentials(logits, count, m, scratch);
	uint64_t total = sum_of(scratch, count);
	unsigned shift = 0;
	while (total >> shift >= (uint64_t)1 << 31)
		shift++;
	for (size_t i = 0; i < count; i++)
		scratch[i] = (scratch[i] >> shift) + 1;
	uint32_t sum = sums[0] = 0;
#pragma GCC unroll 8
	for (size_t i = 0; i < count; i++)
		sums[i + 1] = sum += scratch[order[i]];
	return true;
}
