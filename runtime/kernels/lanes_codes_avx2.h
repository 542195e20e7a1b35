/*
 * Lookups and trits on AVX2 lanes: the vocabulary of kern_codebook*_tmpl.h and
 * kern_ternary_tmpl.h beside that of lanes_avx2.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_CODES_AVX2_H
#define PITH_RUNTIME_LANES_CODES_AVX2_H

#include "lanes_avx2.h"

/* ---- i8 entries: tables are cut into chunks of 16 entries, one per 128-bit lane ---- */

#define LANE_ENTRY_FLIP 0u /* tables hold the entries as they are */

LANE_INLINE vi vi_repeat16(const uint8_t *p)
{
	return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* Indices into chunk j for vpshufb: bytes of other chunks get their top bit set and give 0. */
LANE_INLINE vi chunk_index(vi code, unsigned j)
{
	vi own = _mm256_xor_si256(code, vi_set1_u8(16 * j));
	return _mm256_adds_epu8(own, vi_set1_u8(0x70));
}

/* Bytes of 'code' (below 16 * chunks) replaced by the entries they name. */
LANE_INLINE vi vi_lookup(const vi *table, unsigned chunks, vi code)
{
	if (chunks <= 2) {
		vi low = _mm256_shuffle_epi8(table[0], code);
		if (chunks == 1)
			return low;
		vi high = _mm256_shuffle_epi8(table[1], code);
		return _mm256_blendv_epi8(low, high, _mm256_slli_epi16(code, 3));
	}
	vi entry = vi_zero();
	for (unsigned j = 0; j < chunks; j++)
		entry = _mm256_or_si256(entry,
		                        _mm256_shuffle_epi8(table[j], chunk_index(code, j)));
	return entry;
}

/* A table per row: table[4 * chunk + r] has in 128-bit lane l the chunk of row 4 l + r. */
LANE_INLINE vi vi_lookup_rows(const vi *table, unsigned chunks, vi code)
{
	vi entry = vi_zero();
	for (unsigned j = 0; j < chunks; j++) {
		vi index = chunks == 1 ? code : chunk_index(code, j);
		vi r0 = _mm256_shuffle_epi8(table[4 * j], index);
		vi r1 = _mm256_shuffle_epi8(table[4 * j + 1], index);
		vi r2 = _mm256_shuffle_epi8(table[4 * j + 2], index);
		vi r3 = _mm256_shuffle_epi8(table[4 * j + 3], index);
		/* lane i takes its four bytes from the table of its own row */
		vi here = _mm256_blend_epi32(_mm256_blend_epi32(r0, r1, 0x22),
		                             _mm256_blend_epi32(r2, r3, 0x88), 0xcc);
		entry = _mm256_or_si256(entry, here);
	}
	return entry;
}

/*
 * Σ entry * q over 'count' vectors of 8 rows x 4 columns.  vpmaddubsw takes unsigned by signed and
 * saturates: the sign of the entry is moved to q (2 * 127 * 128 = 32512).
 */
LANE_INLINE vi entry_dot(const vi *entry, unsigned count, const int8_t *q, vi asum)
{
	const vi ones = _mm256_set1_epi16(1);
	vi sum = vi_zero();
	(void)asum;
	for (unsigned i = 0; i < count; i++) {
		int32_t q4;
		memcpy(&q4, q + 4 * i, 4);
		vi signed_q = _mm256_sign_epi8(vi_set1(q4), entry[i]);
		vi pair = _mm256_maddubs_epi16(_mm256_abs_epi8(entry[i]), signed_q);
		sum = vi_add(sum, _mm256_madd_epi16(pair, ones));
	}
	return sum;
}

/* ---- f32 entries ---- */

/* Lane i is bit b of byte k of lane i of 'code', where a float has its sign. */
LANE_INLINE vm code_bit(vi code, unsigned k, unsigned b)
{
	return _mm256_sll_epi32(code, _mm_cvtsi32_si128((int)(31 - 8 * k - b)));
}

LANE_INLINE vi code_byte(vi code, unsigned k)
{
	return vi_and(_mm256_srl_epi32(code, _mm_cvtsi32_si128((int)(8 * k))), vi_set1(0xff));
}

/* Lane i is table[byte k of lane i of 'code'], a table of 2^bits floats. */
LANE_INLINE vf vf_lookup(const float *table, unsigned bits, vi code, unsigned k)
{
	if (bits > 4)
		return _mm256_i32gather_ps(table, code_byte(code, k), 4);
	const vi index = _mm256_srl_epi32(code, _mm_cvtsi32_si128((int)(8 * k)));
	vf low = _mm256_permutevar8x32_ps(vf_load(table), index); /* the low three bits count */
	if (bits <= 3)
		return low;
	vf high = _mm256_permutevar8x32_ps(vf_load(table + 8), index);
	return vf_select(code_bit(code, k, 3), high, low);
}

/* The same with a table per row: entry e of lane i is table[16 * e + i]. */
LANE_INLINE vf vf_lookup_rows(const float *table, unsigned bits, vi code, unsigned k)
{
	if (bits > 4) {
		vi index = _mm256_slli_epi32(code_byte(code, k), 4);
		index = vi_add(index, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
		return _mm256_i32gather_ps(table, index, 4);
	}
	vf entry[16];
	for (unsigned e = 0; e < 1u << bits; e++)
		entry[e] = vf_load(table + 16 * e);
	for (unsigned b = 0; b < bits; b++) { /* a tree of choices, lowest bit first */
		vm one = code_bit(code, k, b);
		for (unsigned e = 0; e < 1u << (bits - b - 1); e++)
			entry[e] = vf_select(one, entry[2 * e + 1], entry[2 * e]);
	}
	return entry[0];
}

/* ---- trits ---- */

/*
 * Bytes of a line as trits_next and trits_of take them: less 128, for signed comparisons;
 * 3 (b - 128) is 3 b - 128 modulo 256, so the offset stays.
 */
LANE_INLINE vi trits_first(vi line)
{
	return _mm256_xor_si256(line, vi_set1_u8(0x80));
}
LANE_INLINE vi trits_next(vi b)
{
	return _mm256_add_epi8(b, _mm256_add_epi8(b, b));
}
/* trit + 1 = floor(3 b / 256): is b above 85, above 170? */
LANE_INLINE vi trits_of(vi b)
{
	vi one = _mm256_cmpgt_epi8(b, _mm256_set1_epi8(85 - 128));
	vi two = _mm256_cmpgt_epi8(b, _mm256_set1_epi8(170 - 128));
	return _mm256_abs_epi8(_mm256_add_epi8(one, two));
}
/* Σ trit * q of a run of eight vectors; asum: the sum of its q. */
LANE_INLINE vi trits_dot(const vi *trits, const int8_t *q, vi asum)
{
	return _mm256_sub_epi32(code_dot(trits, 8, 2, q, asum), asum);
}

#endif
