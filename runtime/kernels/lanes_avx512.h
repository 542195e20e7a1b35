/*
 * Float and byte lanes of AVX-512 (f, bw, vl, dq, vnni), the vocabulary of the
 * kern_*_tmpl.h templates: a vf is LANE_WIDTH floats, LANE_PARTS of them are the sixteen
 * lanes of spec/numerics.md 1.  Included by kern_*_avx512.c only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_AVX512_H
#define PITH_RUNTIME_LANES_AVX512_H

#include "bytes.h"

#include <immintrin.h>

#define LANE_WIDTH 16u
#define LANE_PARTS 1u
#define LANE_INLINE static inline __attribute__((always_inline))
#define LANE_NAME(stem) stem##_avx512

/* Register blocking of the templates: 32 vector registers. */
#define DENSE_BATCH_ROWS 4u
#define DENSE_BATCH_TOKENS 4u
#define COLUMNS_BATCH_TOKENS 8u
#define ATTENTION_HEADS 4u

typedef __m512 vf;    /* 16 f32 */
typedef __m512i vi;   /* 64 bytes, or 16 i32 */
typedef __mmask16 vm; /* a truth value per float lane */

/* The lowest 'count' lanes, count <= 16. */
LANE_INLINE vm vm_first(size_t count) { return (vm)((1u << count) - 1u); }

/* Ask for the line at p, into the second-level cache; p need not be readable. */
LANE_INLINE void prefetch_line(const uint8_t *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

LANE_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
LANE_INLINE vf vf_set1(float v) { return _mm512_set1_ps(v); }
LANE_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
LANE_INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
LANE_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
LANE_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
LANE_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
LANE_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
LANE_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
LANE_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
LANE_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
/* c - a * b and a * b - c, rounded once */
LANE_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
LANE_INLINE vf vf_fms(vf a, vf b, vf c) { return _mm512_fmsub_ps(a, b, c); }
LANE_INLINE vf vf_neg(vf v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f)); }

/* The first 'count' floats, zeros behind; nothing beyond them is touched.  count <= LANE_WIDTH. */
LANE_INLINE vf vf_load_part(const float *p, size_t count)
{
	return _mm512_maskz_loadu_ps(vm_first(count), p);
}

LANE_INLINE void vf_store_part(float *p, vf v, size_t count)
{
	_mm512_mask_storeu_ps(p, vm_first(count), v);
}

LANE_INLINE vm vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LANE_INLINE vm vf_is_nan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
/* m ? a : b */
LANE_INLINE vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
/* Lanes begin .. end-1 of the 32 positions of a block, as seen by its vector 'part'. */
LANE_INLINE vm vm_range(size_t begin, size_t end, size_t part)
{
	uint64_t mask = ((uint64_t)1 << end) - ((uint64_t)1 << begin);
	return (vm)(mask >> (part * LANE_WIDTH));
}
LANE_INLINE float vf_first(vf v) { return _mm512_cvtss_f32(v); }
LANE_INLINE float vf_largest(vf v) { return _mm512_reduce_max_ps(v); }

/* Widen 16-bit floats; 'part' forms read 'count' values only. */
LANE_INLINE vf vf_from_f16(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
LANE_INLINE vf vf_widen_bf16(__m256i h)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
LANE_INLINE vf vf_from_bf16(const uint8_t *p)
{
	return vf_widen_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
LANE_INLINE vf vf_from_f16_part(const uint8_t *p, size_t count)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(count), p));
}
LANE_INLINE vf vf_from_bf16_part(const uint8_t *p, size_t count)
{
	return vf_widen_bf16(_mm256_maskz_loadu_epi16(vm_first(count), p));
}
LANE_INLINE void widen_four_f16(const uint8_t *p, float out[4])
{
	_mm_storeu_ps(out, _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
LANE_INLINE vf vf_from_u8(const uint8_t *p)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

LANE_INLINE vf vf_from_i8(const uint8_t *p)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
LANE_INLINE vf vf_from_i8_part(const uint8_t *p, size_t count)
{
	__m128i bytes = _mm_maskz_loadu_epi8(vm_first(count), p);
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
/* Rounded to nearest even. */
LANE_INLINE void vf_store_f16(uint8_t *p, vf v)
{
	__m256i halves = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	_mm256_storeu_si256((__m256i *)(void *)p, halves);
}

LANE_INLINE vi vi_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
LANE_INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
LANE_INLINE vi vi_set1(int32_t v) { return _mm512_set1_epi32(v); }
LANE_INLINE vi vi_set1_u8(unsigned v) { return _mm512_set1_epi8((char)v); }
LANE_INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
/* a | (b & mask) */
LANE_INLINE vi vi_or_and(vi a, vi b, vi mask)
{
	return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}
/* The lowest bits at the places where 'mask' has ones, in order. */
LANE_INLINE uint64_t deposit_bits(uint64_t bits, uint64_t mask) { return _pdep_u64(bits, mask); }
/*
 * As mask_planes_scalar() of kern_sparse_mask_tmpl.h.  Planes of a section of 64 codes are neighbours,
 * so that four move by the same number of bits at a time; a move by 64 gives 0.
 */
LANE_INLINE void mask_planes(const uint8_t *codes, size_t at, unsigned bits, uint64_t plane[8])
{
	const uint8_t *p = codes + 8 * (at / 64 * bits);
	const __m128i right = _mm_cvtsi32_si128((int)(at % 64));
	const __m128i left = _mm_cvtsi32_si128(64 - (int)(at % 64));
	for (unsigned b = 0; b < bits; b += 4) {
		const __mmask8 some = (__mmask8)((1u << (bits - b < 4 ? bits - b : 4)) - 1u);
		__m256i low = _mm256_maskz_loadu_epi64(some, p + (size_t)8 * b);
		__m256i high = _mm256_maskz_loadu_epi64(some, p + (size_t)8 * (bits + b));
		_mm256_storeu_si256((__m256i *)(void *)(plane + b),
		                    _mm256_or_si256(_mm256_srl_epi64(low, right),
		                                    _mm256_sll_epi64(high, left)));
	}
}

/*
 * ---- bytes and lanes chosen by the bits of a mask ----
 * expand: lane i is the next of the halves at p where bit i is set, which are read from p on; all
 * LANE_WIDTH of them are touched.
 */
LANE_INLINE vf vf_expand_f16(const uint8_t *p, unsigned bits)
{
	return _mm512_maskz_expand_ps((vm)bits, vf_from_f16(p));
}
/* The same of floats. */
LANE_INLINE vf vf_expand(const float *p, unsigned bits)
{
	return _mm512_maskz_expand_ps((vm)bits, vf_load(p));
}
/* Bit i: is number i of sixteen u16, which are below 2^15, above 'least'? */
LANE_INLINE unsigned bits_above(const uint8_t *counts, unsigned least)
{
	return _mm256_cmpgt_epu16_mask(_mm256_loadu_si256((const __m256i *)(const void *)counts),
	                               _mm256_set1_epi16((short)least));
}
/* a * b + c where the bit is set, else c */
LANE_INLINE vf vf_fma_where(unsigned bits, vf a, vf b, vf c)
{
	return _mm512_mask3_fmadd_ps(a, b, c, (vm)bits);
}
/* Of 64 bits, those of vector 'part' are meant: 0 where set; 'value' or'ed where set. */
LANE_INLINE vi vi_clear_bytes(vi v, uint64_t bits, size_t part)
{
	(void)part;
	return _mm512_mask_mov_epi8(v, bits, _mm512_setzero_si512());
}
LANE_INLINE vi vi_or_bytes(vi v, uint64_t bits, size_t part, unsigned value)
{
	(void)part;
	return _mm512_mask_add_epi8(v, bits, v, _mm512_set1_epi8((char)value)); /* the bit is 0 yet */
}
/* Every one of LANE_WIDTH bytes four times. */
LANE_INLINE vi vi_spread_u8(const uint8_t *p)
{
	__m512i lane = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
	return _mm512_mullo_epi32(lane, _mm512_set1_epi32(0x01010101));
}

LANE_INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
LANE_INLINE vf vf_from_i32(vi v) { return _mm512_cvtepi32_ps(v); }
LANE_INLINE vi vi_from_f32(vf v) { return _mm512_cvtps_epi32(v); }
/* 2^n of integers n in -126 .. 127 */
LANE_INLINE vf vf_exp2i(vi n)
{
	return _mm512_castsi512_ps(
	    _mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
/* Bits of |v|: they order as integers, infinity and NaN above all numbers. */
LANE_INLINE vi vi_magnitude(vf v)
{
	return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}
LANE_INLINE vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
LANE_INLINE int32_t vi_largest(vi v) { return _mm512_reduce_max_epi32(v); }
LANE_INLINE int32_t vi_sum(vi v) { return _mm512_reduce_add_epi32(v); }
/* LANE_WIDTH numbers in -128 .. 127 as bytes */
LANE_INLINE void vi_store_i8(int8_t *p, vi v)
{
	_mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v));
}
/* Shifts inside 16 bits; spelled as functions of literals so that every optimisation level takes
 * them. */
#define LANE_SHIFT_RIGHT(v, s) _mm512_srli_epi16(v, s)
#define LANE_SHIFT_LEFT(v, s) _mm512_slli_epi16(v, s)

/* Lane i is the number whose bit k is bit i of masks[k]; bits <= 8, sums of powers of two are
 * exact. */
LANE_INLINE vf vf_from_masks(const uint8_t *masks, unsigned bits, size_t part)
{
	(void)part;
	vf code = vf_zero();
#pragma GCC unroll 8
	for (unsigned k = 0; k < 8; k++) {
		if (k == bits)
			break;
		code = _mm512_mask_add_ps(code, load_le16(masks + 2 * (size_t)k), code,
		                          vf_set1((float)(1u << k)));
	}
	return code;
}

/* The tree of spec/numerics.md 1 over sixteen lanes. */
LANE_INLINE float vf_tree(const vf lane[LANE_PARTS])
{
	__m256 a =
	    _mm256_add_ps(_mm512_castps512_ps256(lane[0]), _mm512_extractf32x8_ps(lane[0], 1));
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	__m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/*
 * Σ code * q over 'count' vectors of 16 rows x 4 columns and 4 * count activations, per row.
 * vpdpbusd takes unsigned bytes by signed bytes and does not saturate: any codes will do.  Two
 * chains, because a row of eight dependent steps would wait for itself.
 */
LANE_INLINE vi code_dot(const vi *code, unsigned count, unsigned bits, const int8_t *q, vi asum)
{
	(void)bits;
	(void)asum;
	vi even = vi_zero(), odd = vi_zero();
	for (unsigned i = 0; i < count; i += 2) {
		int32_t q0, q1;
		memcpy(&q0, q + 4 * i, 4);
		memcpy(&q1, q + 4 * i + 4, 4);
		even = _mm512_dpbusd_epi32(even, code[i], _mm512_set1_epi32(q0));
		odd = _mm512_dpbusd_epi32(odd, code[i + 1], _mm512_set1_epi32(q1));
	}
	return _mm512_add_epi32(even, odd);
}

#endif
