/*
 * Σ code * q of a block of the layout slice16 on AVX-512, straight from its lines: vpdpbusd
 * takes any unsigned bytes, so that the code of a high nibble stays where it is, counts sixteen
 * times, and a second sum is divided by sixteen at the end.  That saves most shifts where codes
 * have at most four bits.  With GFNI two bits move to their places in one instruction instead of three.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_NIBBLES_AVX512_H
#define PITH_RUNTIME_LANES_NIBBLES_AVX512_H

#include "lanes_avx512.h"
#include "lanes_slice16.h"

/* Sums of codes in low and in high nibbles. */
struct nibble_sums {
	vi low, high;
};

LANE_INLINE vi dot_step(vi sum, vi code, const int8_t *q)
{
	int32_t q4;
	memcpy(&q4, q, 4);
	return _mm512_dpbusd_epi32(sum, code, _mm512_set1_epi32(q4));
}

/* Add codes of 'bits' bits in both nibbles of 'pair', of the columns at 'low' and at 'high'. */
LANE_INLINE void nibbles_add(struct nibble_sums *sums, vi pair, unsigned bits, const int8_t *low,
                             const int8_t *high)
{
	const unsigned mask = (1u << bits) - 1u;
	sums->low = dot_step(sums->low, vi_and(pair, vi_set1_u8(mask)), low);
	sums->high = dot_step(sums->high, vi_and(pair, vi_set1_u8(mask << 4)), high);
}

/* 0x33 of a, 0xcc of b */
LANE_INLINE vi vi_merge_pairs(vi a, vi b)
{
	return _mm512_ternarylogic_epi32(a, b, vi_set1_u8(0x33), 0xe4);
}

/* Bits 'first' and 'second' of every byte, at bits 2 and 6; the others are left for a mask. */
LANE_INLINE vi vi_third_bits(vi line, unsigned first, unsigned second)
{
#if defined(__GFNI__)
	/* a matrix of bits: byte 7 - i of it says which bits make bit i */
	const uint64_t rows = (uint64_t)1 << (first + 8 * (7 - 2)) |
	                      (uint64_t)1 << (second + 8 * (7 - 6));
	return _mm512_gf2p8affine_epi64_epi8(line, _mm512_set1_epi64((long long)rows), 0);
#else
	const vi low = move_field(line, first, 2), high = move_field(line, second, 6);
	return _mm512_ternarylogic_epi32(low, high, vi_set1_u8(0x04), 0xe4);
#endif
}

/* Add columns 16 half .. 16 half + 15 of a block; q: [32]. */
LANE_INLINE void half_block_add(struct nibble_sums *sums, const uint8_t *block, unsigned bits,
                                unsigned half, const int8_t *q)
{
	q += 16 * half;
	if (bits == 4) {
		for (unsigned l = 0; l < 2; l++)
			nibbles_add(sums, vi_load(block + 64 * (size_t)(2 * half + l)), 4,
			            q + 8 * l, q + 8 * l + 4);
		return;
	}
	const vi line = vi_load(block + 64 * (size_t)half), next = LANE_SHIFT_RIGHT(line, 2);
	if (bits == 2) {
		nibbles_add(sums, line, 2, q, q + 8);
		nibbles_add(sums, next, 2, q + 4, q + 12);
		return;
	}
	const vi third = vi_load(block + 128);
	const vi a = vi_third_bits(third, 4 * half, 4 * half + 2);     /* columns 0 and 8 */
	const vi b = vi_third_bits(third, 4 * half + 1, 4 * half + 3); /* columns 4 and 12 */
	nibbles_add(sums, vi_merge_pairs(line, a), 3, q, q + 8);
	nibbles_add(sums, vi_merge_pairs(next, b), 3, q + 4, q + 12);
}

LANE_INLINE vi nibbles_total(const struct nibble_sums *sums)
{
	return _mm512_add_epi32(sums->low, _mm512_srai_epi32(sums->high, 4));
}

/* As slice16_decoded_dot() of lanes_slice16.h. */
LANE_INLINE void slice16_dot(const uint8_t *block, unsigned bits, bool half, size_t part,
                             const int8_t *q, const vi asum[2], vi csum[2])
{
	if (bits == 1 || bits > 4) {
		slice16_decoded_dot(block, bits, half, part, q, asum, csum);
		return;
	}
	struct nibble_sums sums = {vi_zero(), vi_zero()};
	half_block_add(&sums, block, bits, 0, q);
	if (half) {
		csum[0] = nibbles_total(&sums);
		sums = (struct nibble_sums){vi_zero(), vi_zero()};
	}
	half_block_add(&sums, block, bits, 1, q);
	csum[half] = nibbles_total(&sums);
}

/* Lane i is first + the number of three bits that bit i of the masks makes. */
LANE_INLINE vi vi_from_three_masks(const uint8_t *masks, int32_t first)
{
	vi code = vi_set1(first);
	code = _mm512_mask_or_epi32(code, load_le16(masks), code, vi_set1(1));
	code = _mm512_mask_or_epi32(code, load_le16(masks + 2), code, vi_set1(2));
	return _mm512_mask_or_epi32(code, load_le16(masks + 4), code, vi_set1(4));
}

/*
 * As slice16_two_level_masks() of lanes_slice16.h.  With three bits there are eight scales and
 * eight zero-points in a group: they are computed in one vector and looked up.
 */
LANE_INLINE void slice16_two_level(const uint8_t *scale_codes, unsigned scale_bits,
                                   const uint8_t *zero_codes, unsigned zero_bits,
                                   const uint8_t *level, size_t part, vf *s, vf *z)
{
	if (scale_bits != 3 || zero_bits != 3) {
		slice16_two_level_masks(scale_codes, scale_bits, zero_codes, zero_bits, level, part,
		                        s, z);
		return;
	}
	const vf code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
	const vi zero_at = _mm512_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3);
	const vi scale_at = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
	__m128i halves = _mm_loadl_epi64((const __m128i *)(const void *)level);
	vf l = _mm512_castps128_ps512(_mm_cvtph_ps(halves));
	vf centred = vf_sub(code, _mm512_permutexvar_ps(zero_at, l));
	vf table = vf_mul(centred, _mm512_permutexvar_ps(scale_at, l));
	*s = _mm512_permutexvar_ps(vi_from_three_masks(scale_codes, 0), table);
	*z = _mm512_permutexvar_ps(vi_from_three_masks(zero_codes, 8), table);
}

/*
 * As struct level_3_masks of lanes_slice16.h.  Two groups share tables of sixteen: scales (zero-points)
 * of the first at even places, of the second at odd ones, so that what tables are made of is
 * broadcast by loads, two floats at a time.
 */
struct level_3 {
	/* 16 rows a group: scale << 1 | zero << 5, with 0x11 more for the second of two */
	_Alignas(64) uint8_t code[16 * LEVEL_3_GROUPS];
	/* of two groups: scale_zero, scale_scale, zero_zero, zero_scale of both */
	_Alignas(64) float level[4 * LEVEL_3_GROUPS];
};

/*
 * Loads take no part in what binds here, the ports of vectors; compilers would rather keep 'v' in registers
 * and take it apart there.
 */
#define LANE_IN_MEMORY(v) __asm__("" : "+m"(v))

/* What struct level_3 has of codes; words: masks of the scales of four groups, from word 16 on those of their zero-points. */
LANE_INLINE vi level_3_codes(vi words)
{
	const vi second = _mm512_setr_epi64(0, 0, 0x1111111111111111, 0x1111111111111111, 0, 0,
	                                    0x1111111111111111, 0x1111111111111111);
#if defined(__GFNI__)
	/*
	 * Eight rows of a group are a matrix of 8 x 8 bits to be transposed: its first byte is the mask of bit 7 of
	 * the code.  Words: what a group needs, in that order; bytes: of rows 0 .. 7, then of rows 8 .. 15.
	 */
	static const uint16_t from[32] = {18, 17, 16, 31, 2, 1, 0, 31, 21, 20, 19, 31, 5,  4,  3, 31,
	                                  24, 23, 22, 31, 8, 7, 6, 31, 27, 26, 25, 31, 11, 10, 9, 31};
	const vi halves = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
	const vi rows = _mm512_set1_epi64((long long)0x8040201008040201u); /* row i is bit i */
	const vi matrix = _mm512_shuffle_epi8(
	    _mm512_permutexvar_epi16(_mm512_loadu_si512(from), words), halves);
	return _mm512_or_si512(_mm512_gf2p8affine_epi64_epi8(rows, matrix, 0), second);
#else
	/*
	 * Of a bit the masks of four groups, put together, are one mask of 64 bytes.  Word g of mask k: that of bit k of
	 * the scale of group g; from 3 on zeros.
	 */
	static const uint16_t from[32] = {0,  3,  6,  9,  1,  4,  7,  10, 2,  5,  8,
	                                  11, 16, 19, 22, 25, 17, 20, 23, 26, 18, 21,
	                                  24, 27, 31, 31, 31, 31, 31, 31, 31, 31};
	uint64_t mask[8];
	_mm512_storeu_si512(mask, _mm512_permutexvar_epi16(_mm512_loadu_si512(from), words));
	LANE_IN_MEMORY(mask);
	vi code = second;
	for (unsigned k = 0; k < 6; k++)
		code = vi_or_bytes(code, mask[k], 0, k < 3 ? 2u << k : 4u << k);
	return code;
#endif
}

LANE_INLINE void level_3_decode(struct level_3 *l, const uint8_t *scale_codes,
                                const uint8_t *zero_codes, const uint8_t *level, size_t groups)
{
	const __mmask16 words = (__mmask16)((1u << 3 * groups) - 1u);
	const __mmask16 halves = (__mmask16)((1u << 4 * groups) - 1u);
	const vi masks = _mm512_inserti64x4(
	    _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(words, scale_codes)),
	    _mm256_maskz_loadu_epi16(words, zero_codes), 1);
	_mm512_store_si512(l->code, level_3_codes(masks));
	const vi order = _mm512_setr_epi32(1, 5, 0, 4, 3, 7, 2, 6, 9, 13, 8, 12, 11, 15, 10, 14);
	vf widened = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(halves, level));
	_mm512_store_ps(l->level, _mm512_permutexvar_ps(order, widened));
	LANE_IN_MEMORY(*l);
}

/* Two floats at p in turn. */
LANE_INLINE vf vf_two(const float *p)
{
	return _mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_loadl_pd(_mm_setzero_pd(), (const double *)(const void *)p)));
}

/* Groups that are not there have codes and levels of 0, so 'two' makes no difference. */
LANE_INLINE void level_3_pair(const struct level_3 *l, size_t i, bool two, size_t part, float as,
                              vf *u, vf *z)
{
	const vf codes = _mm512_setr_ps(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
	const float *v = l->level + 4 * i;
	const vf scales = vf_mul(vf_mul(vf_sub(codes, vf_two(v)), vf_two(v + 2)), vf_set1(as));
	const vf zeros = vf_mul(vf_sub(codes, vf_two(v + 4)), vf_two(v + 6));
	(void)two;
	(void)part;
	for (unsigned g = 0; g < 2; g++) {
		const __m128i *code = (const __m128i *)(const void *)(l->code + 16 * (i + g));
		vi index = _mm512_cvtepu8_epi32(_mm_load_si128(code));
		u[g] = _mm512_permutexvar_ps(index, scales);
		z[g] = _mm512_permutexvar_ps(_mm512_srli_epi32(index, 4), zeros);
	}
}

#endif
