/*
 * Float and byte lanes of AVX2 (avx2, fma, f16c), the vocabulary of the kern_*_tmpl.h
 * templates: a vf is LANE_WIDTH floats, LANE_PARTS of them are the sixteen lanes of
 * spec/numerics.md 1.  Included by kern_*_avx2.c only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_AVX2_H
#define PITH_RUNTIME_LANES_AVX2_H

#include "bytes.h"

#include <immintrin.h>

#define LANE_WIDTH 8u
#define LANE_PARTS 2u
#define LANE_INLINE static inline __attribute__((always_inline))
#define LANE_NAME(stem) stem##_avx2

/* Register blocking of the templates: 16 vector registers. */
#define DENSE_BATCH_ROWS 2u
#define DENSE_BATCH_TOKENS 2u
#define COLUMNS_BATCH_TOKENS 4u
#define ATTENTION_HEADS 2u

typedef __m256 vf;  /* 8 f32 */
typedef __m256i vi; /* 32 bytes, or 8 i32 */
typedef __m256i vm; /* all ones or zeros per float lane */

/* Lanes begin .. end-1 counted from lane 'from' of this vector. */
LANE_INLINE vm vm_between(size_t begin, size_t end, size_t from)
{
	__m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
	                                _mm256_set1_epi32((int)from));
	__m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), lane);
	return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)begin), lane), below);
}

/* Ask for the line at p, into the second-level cache; p need not be readable. */
LANE_INLINE void prefetch_line(const uint8_t *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

LANE_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
LANE_INLINE vf vf_set1(float v) { return _mm256_set1_ps(v); }
LANE_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
LANE_INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
LANE_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
LANE_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
LANE_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
LANE_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
LANE_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
LANE_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
LANE_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
/* c - a * b and a * b - c, rounded once */
LANE_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
LANE_INLINE vf vf_fms(vf a, vf b, vf c) { return _mm256_fmsub_ps(a, b, c); }
LANE_INLINE vf vf_neg(vf v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }

/* The first 'count' floats, zeros behind; nothing beyond them is touched.  count <= LANE_WIDTH. */
LANE_INLINE vf vf_load_part(const float *p, size_t count)
{
	return _mm256_maskload_ps(p, vm_between(0, count, 0));
}

LANE_INLINE void vf_store_part(float *p, vf v, size_t count)
{
	_mm256_maskstore_ps(p, vm_between(0, count, 0), v);
}

LANE_INLINE vm vf_less(vf a, vf b) { return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
LANE_INLINE vm vf_is_nan(vf a) { return _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
/* m ? a : b */
LANE_INLINE vf vf_select(vm m, vf a, vf b)
{
	return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m));
}
/* Lanes begin .. end-1 of the 32 positions of a block, as seen by its vector 'part'. */
LANE_INLINE vm vm_range(size_t begin, size_t end, size_t part)
{
	return vm_between(begin, end, part * LANE_WIDTH);
}
LANE_INLINE float vf_first(vf v) { return _mm256_cvtss_f32(v); }
LANE_INLINE float vf_largest(vf v)
{
	__m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 b = _mm_max_ps(a, _mm_movehl_ps(a, a));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

/* Widen 16-bit floats; 'part' forms read 'count' values only. */
LANE_INLINE vf vf_widen_bf16(__m128i h)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
LANE_INLINE vf vf_from_f16(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
LANE_INLINE vf vf_from_bf16(const uint8_t *p)
{
	return vf_widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
LANE_INLINE __m128i load_halves_part(const uint8_t *p, size_t count)
{
	uint8_t halves[16] = {0};
	memcpy(halves, p, 2 * count);
	return _mm_loadu_si128((const __m128i *)(const void *)halves);
}
LANE_INLINE vf vf_from_f16_part(const uint8_t *p, size_t count)
{
	return _mm256_cvtph_ps(load_halves_part(p, count));
}
LANE_INLINE vf vf_from_bf16_part(const uint8_t *p, size_t count)
{
	return vf_widen_bf16(load_halves_part(p, count));
}
LANE_INLINE void widen_four_f16(const uint8_t *p, float out[4])
{
	_mm_storeu_ps(out, _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
LANE_INLINE vf vf_from_u8(const uint8_t *p)
{
	__m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p);
	return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

LANE_INLINE vf vf_from_i8(const uint8_t *p)
{
	__m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p);
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
LANE_INLINE vf vf_from_i8_part(const uint8_t *p, size_t count)
{
	uint8_t bytes[8] = {0};
	memcpy(bytes, p, count);
	return vf_from_i8(bytes);
}
/* Rounded to nearest even. */
LANE_INLINE void vf_store_f16(uint8_t *p, vf v)
{
	_mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

LANE_INLINE vi vi_load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
LANE_INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
LANE_INLINE vi vi_set1(int32_t v) { return _mm256_set1_epi32(v); }
LANE_INLINE vi vi_set1_u8(unsigned v) { return _mm256_set1_epi8((char)v); }
LANE_INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
/* a | (b & mask) */
LANE_INLINE vi vi_or_and(vi a, vi b, vi mask)
{
	return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}
/* The lowest bits at the places where 'mask' has ones, in order. */
LANE_INLINE uint64_t deposit_bits(uint64_t bits, uint64_t mask) { return _pdep_u64(bits, mask); }
/*
 * ---- bytes and lanes chosen by the bits of a mask ----
 * expand: lane i is the next of the halves at p where bit i is set, which are read from p on; all
 * LANE_WIDTH of them are touched.
 */
/* Eight bits as bytes 0x00 and 0xff. */
LANE_INLINE uint64_t bytes_of_bits(unsigned bits)
{
	return _pdep_u64(bits, 0x0101010101010101u) * 0xff;
}
/* The rank of every set bit among them. */
LANE_INLINE vi ranks_of_bits(unsigned bits)
{
	uint64_t rank = _pdep_u64(0x0706050403020100u, bytes_of_bits(bits));
	return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)rank));
}
LANE_INLINE vf vf_expand_f16(const uint8_t *p, unsigned bits)
{
	return _mm256_permutevar8x32_ps(vf_from_f16(p), ranks_of_bits(bits));
}
/* The same of floats. */
LANE_INLINE vf vf_expand(const float *p, unsigned bits)
{
	return _mm256_permutevar8x32_ps(vf_load(p), ranks_of_bits(bits));
}
/* Bit i: is number i of sixteen u16, which are below 2^15, above 'least'? */
LANE_INLINE unsigned bits_above(const uint8_t *counts, unsigned least)
{
	const __m128i *p = (const __m128i *)(const void *)counts;
	const __m128i all = _mm_set1_epi16((short)least);
	return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(_mm_cmpgt_epi16(_mm_loadu_si128(p), all),
	                                                   _mm_cmpgt_epi16(_mm_loadu_si128(p + 1), all)));
}
/* a * b + c where the bit is set, else c */
LANE_INLINE vf vf_fma_where(unsigned bits, vf a, vf b, vf c)
{
	__m256i where =
	    _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes_of_bits(bits)));
	return _mm256_blendv_ps(c, _mm256_fmadd_ps(a, b, c), _mm256_castsi256_ps(where));
}
/* Byte i is 0xff where bit i of the 32 bits of vector 'part' is set. */
LANE_INLINE vi vi_bytes_of_bits(uint64_t bits, size_t part)
{
	const vi from = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2,
	                                 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
	const vi bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
	vi v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(uint32_t)(bits >> (32 * part))), from);
	return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
}
/* Of 64 bits, those of vector 'part' are meant: 0 where set; 'value' or'ed where set. */
LANE_INLINE vi vi_clear_bytes(vi v, uint64_t bits, size_t part)
{
	return _mm256_andnot_si256(vi_bytes_of_bits(bits, part), v);
}
LANE_INLINE vi vi_or_bytes(vi v, uint64_t bits, size_t part, unsigned value)
{
	return vi_or_and(v, vi_bytes_of_bits(bits, part), vi_set1_u8(value));
}
/* Every one of LANE_WIDTH bytes four times. */
LANE_INLINE vi vi_spread_u8(const uint8_t *p)
{
	__m256i lane = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
	return _mm256_mullo_epi32(lane, _mm256_set1_epi32(0x01010101));
}

LANE_INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
LANE_INLINE vf vf_from_i32(vi v) { return _mm256_cvtepi32_ps(v); }
LANE_INLINE vi vi_from_f32(vf v) { return _mm256_cvtps_epi32(v); }
/* 2^n of integers n in -126 .. 127 */
LANE_INLINE vf vf_exp2i(vi n)
{
	return _mm256_castsi256_ps(
	    _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/* Bits of |v|: they order as integers, infinity and NaN above all numbers. */
LANE_INLINE vi vi_magnitude(vf v)
{
	return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}
LANE_INLINE vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
LANE_INLINE int32_t vi_largest(vi v)
{
	__m128i a = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	a = _mm_max_epi32(a, _mm_shuffle_epi32(a, 0x4e));
	return _mm_cvtsi128_si32(_mm_max_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}
LANE_INLINE int32_t vi_sum(vi v)
{
	__m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}
/* LANE_WIDTH numbers in -128 .. 127 as bytes */
LANE_INLINE void vi_store_i8(int8_t *p, vi v)
{
	__m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	_mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(words, words));
}
/* Shifts inside 16 bits; spelled as functions of literals so that every optimisation level takes
 * them. */
#define LANE_SHIFT_RIGHT(v, s) _mm256_srli_epi16(v, s)
#define LANE_SHIFT_LEFT(v, s) _mm256_slli_epi16(v, s)

/* Lane i is the number whose bit k is bit (8 * part + i) of masks[k]; bits <= 8. */
LANE_INLINE vf vf_from_masks(const uint8_t *masks, unsigned bits, size_t part)
{
	const vi low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
	const vi lane_bit = part == 0 ? low : _mm256_slli_epi32(low, 8);
	vi code = vi_zero();
#pragma GCC unroll 8
	for (unsigned k = 0; k < 8; k++) {
		if (k == bits)
			break;
		vi mask = _mm256_set1_epi16((short)load_le16(masks + 2 * (size_t)k));
		vi set = _mm256_cmpeq_epi32(_mm256_and_si256(mask, lane_bit), lane_bit);
		code = _mm256_or_si256(code, _mm256_and_si256(set, vi_set1((int32_t)(1u << k))));
	}
	return _mm256_cvtepi32_ps(code);
}

/* The tree of spec/numerics.md 1 over sixteen lanes. */
LANE_INLINE float vf_tree(const vf lane[LANE_PARTS])
{
	__m256 a = _mm256_add_ps(lane[0], lane[1]);
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	__m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/*
 * How many pair sums of vpmaddubsw fit into 16 bits: a pair is at most 2 * 127 * (2^bits - 1),
 * so 4 bits take 8 of them (30480), 5 bits 4 (31496), 6 bits 2 (32004), 7 bits 1 (32258).
 */
LANE_INLINE unsigned pairs_in_16_bits(unsigned bits)
{
	return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

/*
 * Σ code * q over 'count' vectors of 8 rows x 4 columns and 4 * count activations, per row;
 * asum: the sum of those activations.  Eight bits would saturate vpmaddubsw: there c - 128 is
 * taken as sign and magnitude, the sign moved to q (2 * 127 * 128 = 32512), and 128 * asum added.
 */
LANE_INLINE vi code_dot(const vi *code, unsigned count, unsigned bits, const int8_t *q, vi asum)
{
	const unsigned pairs = pairs_in_16_bits(bits);
	const vi ones = _mm256_set1_epi16(1), high = vi_set1_u8(0x80);
	vi sum = bits == 8 ? _mm256_slli_epi32(asum, 7) : vi_zero();
	for (unsigned i = 0; i < count; i += pairs) {
		vi part = ones; /* set by the first step */
		for (unsigned j = i; j < i + pairs && j < count; j++) {
			int32_t q4;
			memcpy(&q4, q + 4 * j, 4);
			vi x = vi_set1(q4), c = code[j];
			if (bits == 8) {
				vi centred = _mm256_xor_si256(c, high);
				x = _mm256_sign_epi8(x, centred);
				c = _mm256_abs_epi8(centred);
			}
			vi pair = _mm256_maddubs_epi16(c, x);
			/* nothing saturates; a plain sum would be made a tree that spills the codes
			 */
			part = j == i ? pair : _mm256_adds_epi16(part, pair);
		}
		part = _mm256_madd_epi16(part, ones);
		sum = i == 0 && bits != 8 ? part : vi_add(sum, part);
	}
	return sum;
}

#endif
