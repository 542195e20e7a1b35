/*
 * Lookups and trits on AVX-512 lanes: the vocabulary of kern_codebook*_tmpl.h and
 * kern_ternary_tmpl.h beside that of lanes_avx512.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_CODES_AVX512_H
#define PITH_RUNTIME_LANES_CODES_AVX512_H

#include "lanes_avx512.h"

/* ---- i8 entries: tables are cut into chunks of 16 entries, one per 128-bit lane ---- */

/* vpdpbusd wants entries unsigned: tables hold entry + 128, and entry_dot takes it back. */
#define LANE_ENTRY_FLIP 0x80u

LANE_INLINE vi vi_repeat16(const uint8_t *p)
{
	return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* Bytes of 'code' (below 16 * chunks) replaced by the entries they name. */
LANE_INLINE vi vi_lookup(const vi *table, unsigned chunks, vi code)
{
	vi entry = _mm512_shuffle_epi8(table[0], code);
	if (chunks == 2)
		return _mm512_mask_shuffle_epi8(
		    entry, _mm512_test_epi8_mask(code, vi_set1_u8(0x10)), table[1], code);
	const vi high = vi_and(code, vi_set1_u8(0xf0));
	const vi low = chunks == 16 ? vi_and(code, vi_set1_u8(0x0f)) : code;
	for (unsigned j = 1; j < chunks; j++)
		entry = _mm512_mask_shuffle_epi8(
		    entry, _mm512_cmpeq_epi8_mask(high, vi_set1_u8(16 * j)), table[j], low);
	return entry;
}

/* A table per row: table[4 * chunk + r] has in 128-bit lane l the chunk of row 4 l + r. */
LANE_INLINE vi vi_lookup_rows(const vi *table, unsigned chunks, vi code)
{
	const __mmask64 rows = 0x000f000f000f000fu;
	const vi high = vi_and(code, vi_set1_u8(0xf0));
	const vi low = chunks == 16 ? vi_and(code, vi_set1_u8(0x0f)) : code;
	vi entry = vi_zero();
	for (unsigned j = 0; j < chunks; j++) {
		__mmask64 here = chunks == 1 ? ~(__mmask64)0 :
		                               _mm512_cmpeq_epi8_mask(high, vi_set1_u8(16 * j));
		for (unsigned r = 0; r < 4; r++)
			entry = _mm512_mask_shuffle_epi8(entry, here & rows << 4 * r,
			                                 table[4 * j + r], low);
	}
	return entry;
}

/* Σ entry * q over 'count' vectors of 16 rows x 4 columns; asum: the sum of those q. */
LANE_INLINE vi entry_dot(const vi *entry, unsigned count, const int8_t *q, vi asum)
{
	return _mm512_sub_epi32(code_dot(entry, count, 8, q, asum), _mm512_slli_epi32(asum, 7));
}

/* ---- f32 entries ---- */

/* Lane i is table[byte k of lane i of 'code'], a table of 2^bits floats. */
LANE_INLINE vf vf_lookup(const float *table, unsigned bits, vi code, unsigned k)
{
	const vi index = k == 0 ? code : _mm512_srli_epi32(code, 8 * k);
	if (bits <= 4) /* only the low four bits count */
		return _mm512_permutexvar_ps(index, vf_load(table));
	vf low = _mm512_permutex2var_ps(vf_load(table), index, vf_load(table + 16));
	if (bits == 5)
		return low;
	if (bits == 6) {
		vf high = _mm512_permutex2var_ps(vf_load(table + 32), index, vf_load(table + 48));
		return vf_select(_mm512_test_epi32_mask(index, vi_set1(0x20)), high, low);
	}
	return _mm512_i32gather_ps(vi_and(index, vi_set1(0xff)), table, 4);
}

/* The same with a table per row: entry e of lane i is table[16 * e + i]. */
LANE_INLINE vf vf_lookup_rows(const float *table, unsigned bits, vi code, unsigned k)
{
	if (bits > 4) {
		vi index = vi_and(_mm512_srli_epi32(code, 8 * k), vi_set1(0xff));
		index = _mm512_slli_epi32(index, 4);
		index = vi_add(index, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
		                                        14, 15));
		return _mm512_i32gather_ps(index, table, 4);
	}
	vf entry[16];
	for (unsigned e = 0; e < 1u << bits; e++)
		entry[e] = vf_load(table + 16 * e);
	for (unsigned b = 0; b < bits; b++) { /* a tree of choices, lowest bit first */
		vm one = _mm512_test_epi32_mask(code, vi_set1((int32_t)(1u << (8 * k + b))));
		for (unsigned e = 0; e < 1u << (bits - b - 1); e++)
			entry[e] = vf_select(one, entry[2 * e + 1], entry[2 * e]);
	}
	return entry[0];
}

/* ---- trits ---- */

/* trits_of gives (trit + 1) << LANE_TRIT_SHIFT, so that no field has to be moved. */
#define LANE_TRIT_SHIFT 6

/* Bytes of a line as trits_next and trits_of take them; the first trit is in front. */
LANE_INLINE vi trits_first(vi line)
{
	return line;
}
LANE_INLINE vi trits_next(vi b)
{
	return _mm512_add_epi8(b, _mm512_add_epi8(b, b));
}
/* floor(3 b / 256): b - ceil(b / 4) = floor(3 b / 4), whose upper two bits it is. */
LANE_INLINE vi trits_of(vi b)
{
	vi quarter = _mm512_avg_epu8(_mm512_avg_epu8(b, vi_zero()), vi_zero());
	return vi_and(_mm512_sub_epi8(b, quarter), vi_set1_u8(0xc0));
}
/* Σ trit * q of a run of eight vectors; asum: the sum of its q. */
LANE_INLINE vi trits_dot(const vi *trits, const int8_t *q, vi asum)
{
	vi sum = code_dot(trits, 8, 8, q, asum);
	return _mm512_sub_epi32(_mm512_srai_epi32(sum, LANE_TRIT_SHIFT), asum);
}

#endif
