/*
 * Float and byte lanes of NEON with dot products (aarch64, ARMv8.2 dotprod), the vocabulary of the
 * kern_*_tmpl.h templates: a vf is LANE_WIDTH floats, LANE_PARTS of them are the sixteen lanes of
 * spec/numerics.md 1.  A vector is a pair of registers: shared work of a step is then done half as
 * often as for one, and eight vectors of codes still leave half of the registers.  Included by
 * kern_*_neon.c only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_NEON_H
#define PITH_RUNTIME_LANES_NEON_H

#include "bytes.h"

#include <arm_neon.h>

#define LANE_WIDTH 8u
#define LANE_PARTS 2u
#define LANE_INLINE static inline __attribute__((always_inline))
#define LANE_NAME(stem) stem##_neon

/* Register blocking of the templates: 32 registers, two a vector. */
#define DENSE_BATCH_ROWS 2u
#define DENSE_BATCH_TOKENS 2u
#define COLUMNS_BATCH_TOKENS 4u
#define ATTENTION_HEADS 2u

/* Lanes 0 .. 3 and 4 .. 7. */
typedef struct {
	float32x4_t lo, hi;
} vf; /* 8 f32 */
typedef struct {
	uint8x16_t lo, hi;
} vi; /* 32 bytes, or 8 i32 */
typedef struct {
	uint32x4_t lo, hi;
} vm; /* all ones or zeros per float lane */

LANE_INLINE vi vi_of_s32(int32x4_t lo, int32x4_t hi)
{
	return (vi){vreinterpretq_u8_s32(lo), vreinterpretq_u8_s32(hi)};
}
LANE_INLINE vi vi_of_u32(uint32x4_t lo, uint32x4_t hi)
{
	return (vi){vreinterpretq_u8_u32(lo), vreinterpretq_u8_u32(hi)};
}
LANE_INLINE int32x4_t s32_of(uint8x16_t v) { return vreinterpretq_s32_u8(v); }
LANE_INLINE uint32x4_t u32_of(uint8x16_t v) { return vreinterpretq_u32_u8(v); }

/* Lanes begin .. end-1 counted from lane 'from' of this vector. */
LANE_INLINE vm vm_between(size_t begin, size_t end, size_t from)
{
	const uint32x4_t step = {0, 1, 2, 3};
	const uint32x4_t low = vdupq_n_u32((uint32_t)begin), high = vdupq_n_u32((uint32_t)end);
	const uint32x4_t a = vaddq_u32(step, vdupq_n_u32((uint32_t)from));
	const uint32x4_t b = vaddq_u32(a, vdupq_n_u32(4));
	return (vm){vandq_u32(vcgeq_u32(a, low), vcltq_u32(a, high)),
	            vandq_u32(vcgeq_u32(b, low), vcltq_u32(b, high))};
}

/* Ask for the line at p, into the second-level cache; p need not be readable. */
LANE_INLINE void prefetch_line(const uint8_t *p) { __builtin_prefetch(p, 0, 2); }

LANE_INLINE vf vf_set1(float v) { return (vf){vdupq_n_f32(v), vdupq_n_f32(v)}; }
LANE_INLINE vf vf_zero(void) { return vf_set1(0); }
LANE_INLINE vf vf_load(const float *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4)}; }
LANE_INLINE void vf_store(float *p, vf v)
{
	vst1q_f32(p, v.lo);
	vst1q_f32(p + 4, v.hi);
}
LANE_INLINE vf vf_add(vf a, vf b) { return (vf){vaddq_f32(a.lo, b.lo), vaddq_f32(a.hi, b.hi)}; }
LANE_INLINE vf vf_sub(vf a, vf b) { return (vf){vsubq_f32(a.lo, b.lo), vsubq_f32(a.hi, b.hi)}; }
LANE_INLINE vf vf_mul(vf a, vf b) { return (vf){vmulq_f32(a.lo, b.lo), vmulq_f32(a.hi, b.hi)}; }
LANE_INLINE vf vf_div(vf a, vf b) { return (vf){vdivq_f32(a.lo, b.lo), vdivq_f32(a.hi, b.hi)}; }
/* Of a number and a NaN the number. */
LANE_INLINE vf vf_min(vf a, vf b) { return (vf){vminnmq_f32(a.lo, b.lo), vminnmq_f32(a.hi, b.hi)}; }
LANE_INLINE vf vf_max(vf a, vf b) { return (vf){vmaxnmq_f32(a.lo, b.lo), vmaxnmq_f32(a.hi, b.hi)}; }
LANE_INLINE vf vf_neg(vf v) { return (vf){vnegq_f32(v.lo), vnegq_f32(v.hi)}; }
LANE_INLINE vf vf_fma(vf a, vf b, vf c)
{
	return (vf){vfmaq_f32(c.lo, a.lo, b.lo), vfmaq_f32(c.hi, a.hi, b.hi)};
}
/* c - a * b and a * b - c, rounded once */
LANE_INLINE vf vf_fnma(vf a, vf b, vf c)
{
	return (vf){vfmsq_f32(c.lo, a.lo, b.lo), vfmsq_f32(c.hi, a.hi, b.hi)};
}
LANE_INLINE vf vf_fms(vf a, vf b, vf c) { return vf_fma(a, b, vf_neg(c)); }

/* The first 'count' floats, zeros behind; nothing beyond them is touched.  count <= LANE_WIDTH. */
LANE_INLINE vf vf_load_part(const float *p, size_t count)
{
	float part[LANE_WIDTH] = {0};
	memcpy(part, p, count * sizeof(float));
	return vf_load(part);
}

LANE_INLINE void vf_store_part(float *p, vf v, size_t count)
{
	float part[LANE_WIDTH];
	vf_store(part, v);
	memcpy(p, part, count * sizeof(float));
}

LANE_INLINE vm vf_less(vf a, vf b) { return (vm){vcltq_f32(a.lo, b.lo), vcltq_f32(a.hi, b.hi)}; }
LANE_INLINE vm vf_is_nan(vf a)
{
	return (vm){vmvnq_u32(vceqq_f32(a.lo, a.lo)), vmvnq_u32(vceqq_f32(a.hi, a.hi))};
}
/* m ? a : b */
LANE_INLINE vf vf_select(vm m, vf a, vf b)
{
	return (vf){vbslq_f32(m.lo, a.lo, b.lo), vbslq_f32(m.hi, a.hi, b.hi)};
}
/* Lanes begin .. end-1 of the 32 positions of a block, as seen by its vector 'part'. */
LANE_INLINE vm vm_range(size_t begin, size_t end, size_t part)
{
	return vm_between(begin, end, part * LANE_WIDTH);
}
LANE_INLINE float vf_first(vf v) { return vgetq_lane_f32(v.lo, 0); }
LANE_INLINE float vf_largest(vf v) { return vmaxnmvq_f32(vmaxnmq_f32(v.lo, v.hi)); }

/* Widen 16-bit floats; 'part' forms read 'count' values only. */
LANE_INLINE vf vf_widen_f16(uint16x8_t h)
{
	return (vf){vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h))),
	            vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(h)))};
}
LANE_INLINE vf vf_widen_bf16(uint16x8_t h)
{
	return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
	            vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(h), 16))};
}
LANE_INLINE uint16x8_t load_halves(const uint8_t *p) { return vreinterpretq_u16_u8(vld1q_u8(p)); }
LANE_INLINE uint16x8_t load_halves_part(const uint8_t *p, size_t count)
{
	uint8_t halves[16] = {0};
	memcpy(halves, p, 2 * count);
	return load_halves(halves);
}
LANE_INLINE vf vf_from_f16(const uint8_t *p) { return vf_widen_f16(load_halves(p)); }
LANE_INLINE vf vf_from_bf16(const uint8_t *p) { return vf_widen_bf16(load_halves(p)); }
LANE_INLINE vf vf_from_f16_part(const uint8_t *p, size_t count)
{
	return vf_widen_f16(load_halves_part(p, count));
}
LANE_INLINE vf vf_from_bf16_part(const uint8_t *p, size_t count)
{
	return vf_widen_bf16(load_halves_part(p, count));
}
LANE_INLINE void widen_four_f16(const uint8_t *p, float out[4])
{
	vst1q_f32(out, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))));
}
LANE_INLINE vf vf_from_u8(const uint8_t *p)
{
	uint16x8_t words = vmovl_u8(vld1_u8(p));
	return (vf){vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))),
	            vcvtq_f32_u32(vmovl_u16(vget_high_u16(words)))};
}
LANE_INLINE vf vf_from_i8(const uint8_t *p)
{
	int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p)));
	return (vf){vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))),
	            vcvtq_f32_s32(vmovl_s16(vget_high_s16(words)))};
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
	vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v.lo)));
	vst1_u8(p + 8, vreinterpret_u8_f16(vcvt_f16_f32(v.hi)));
}

LANE_INLINE vi vi_load(const uint8_t *p) { return (vi){vld1q_u8(p), vld1q_u8(p + 16)}; }
LANE_INLINE vi vi_set1(int32_t v) { return vi_of_s32(vdupq_n_s32(v), vdupq_n_s32(v)); }
LANE_INLINE vi vi_set1_u8(unsigned v) { return (vi){vdupq_n_u8((uint8_t)v), vdupq_n_u8((uint8_t)v)}; }
LANE_INLINE vi vi_zero(void) { return vi_set1_u8(0); }
LANE_INLINE vi vi_and(vi a, vi b) { return (vi){vandq_u8(a.lo, b.lo), vandq_u8(a.hi, b.hi)}; }
LANE_INLINE vi vi_or(vi a, vi b) { return (vi){vorrq_u8(a.lo, b.lo), vorrq_u8(a.hi, b.hi)}; }
/* a | (b & mask) */
LANE_INLINE vi vi_or_and(vi a, vi b, vi mask) { return vi_or(a, vi_and(b, mask)); }

/*
 * The lowest bits at the places where 'mask' has ones, in order (NEON has no such instruction): a
 * bit moves left by the number of zeros of the mask below its place, one binary digit of that
 * number at a time, the highest first.
 */
LANE_INLINE uint64_t deposit_bits(uint64_t bits, uint64_t mask)
{
	uint64_t ones = mask, zeros = ~mask << 1, move[6];
	for (unsigned i = 0; i < 6; i++) { /* zeros: below each place a zero not yet counted */
		uint64_t odd = zeros ^ zeros << 1;
		odd ^= odd << 2;
		odd ^= odd << 4;
		odd ^= odd << 8;
		odd ^= odd << 16;
		odd ^= odd << 32;
		move[i] = odd & ones;
		ones = (ones ^ move[i]) | move[i] >> (1u << i);
		zeros &= ~odd;
	}
	for (unsigned i = 6; i-- > 0;)
		bits = (bits & ~move[i]) | (bits << (1u << i) & move[i]);
	return bits & mask;
}

/*
 * ---- bytes and lanes chosen by the bits of a mask ----
 * expand: lane i is the next of the halves at p where bit i is set, which are read from p on; all
 * LANE_WIDTH of them are touched.
 */
/* The rank of every set bit among them. */
LANE_INLINE uint8x8_t ranks_of_bits(unsigned bits)
{
	/* bytes 0 and 1 by bit, then in each byte the number of ones below it */
	uint64_t set = bits * 0x0101010101010101u & 0x8040201008040201u;
	set = (set + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
	return vcreate_u8(set * 0x0101010101010101u - set);
}
LANE_INLINE vf vf_expand_f16(const uint8_t *p, unsigned bits)
{
	uint8x8_t rank = ranks_of_bits(bits);
	uint8x8_t low = vadd_u8(rank, rank), high = vadd_u8(low, vdup_n_u8(1));
	uint8x16_t from = vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
	return vf_widen_f16(vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(p), from)));
}
/* The same of floats. */
LANE_INLINE vf vf_expand(const float *p, unsigned bits)
{
	const uint8x16_t four = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
	const uint8x16_t byte = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
	const uint8x8_t rank = vshl_n_u8(ranks_of_bits(bits), 2);
	const uint8x16_t ranks = vcombine_u8(rank, rank);
	const uint8x16_t lo = vaddq_u8(vqtbl1q_u8(ranks, four), byte);
	const uint8x16_t hi = vaddq_u8(vqtbl1q_u8(ranks, vaddq_u8(four, vdupq_n_u8(4))), byte);
	const uint8x16x2_t from = {{vreinterpretq_u8_f32(vld1q_f32(p)), vreinterpretq_u8_f32(vld1q_f32(p + 4))}};
	return (vf){vreinterpretq_f32_u8(vqtbl2q_u8(from, lo)), vreinterpretq_f32_u8(vqtbl2q_u8(from, hi))};
}
/* Bit i: is number i of sixteen u16, which are below 2^15, above 'least'? */
LANE_INLINE unsigned bits_above(const uint8_t *counts, unsigned least)
{
	const uint16x8_t bit = {1, 2, 4, 8, 16, 32, 64, 128}, all = vdupq_n_u16((uint16_t)least);
	const uint16x8_t low = vcgtq_u16(load_halves(counts), all);
	const uint16x8_t high = vcgtq_u16(load_halves(counts + 16), all);
	return vaddvq_u16(vandq_u16(low, bit)) | (unsigned)vaddvq_u16(vandq_u16(high, bit)) << 8;
}
/* a * b + c where the bit is set, else c */
LANE_INLINE vf vf_fma_where(unsigned bits, vf a, vf b, vf c)
{
	const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
	const uint32x4_t all = vdupq_n_u32(bits);
	return vf_select((vm){vtstq_u32(all, low), vtstq_u32(all, high)}, vf_fma(a, b, c), c);
}
/* Byte i is 0xff where bit i of the 32 bits of vector 'part' is set. */
LANE_INLINE vi vi_bytes_of_bits(uint64_t bits, size_t part)
{
	const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
	const uint32_t own = (uint32_t)(bits >> (32 * part));
	uint8x16_t lo = vcombine_u8(vdup_n_u8((uint8_t)own), vdup_n_u8((uint8_t)(own >> 8)));
	uint8x16_t hi = vcombine_u8(vdup_n_u8((uint8_t)(own >> 16)), vdup_n_u8((uint8_t)(own >> 24)));
	return (vi){vtstq_u8(lo, bit), vtstq_u8(hi, bit)};
}
/* Of 64 bits, those of vector 'part' are meant: 0 where set; 'value' or'ed where set. */
LANE_INLINE vi vi_clear_bytes(vi v, uint64_t bits, size_t part)
{
	const vi set = vi_bytes_of_bits(bits, part);
	return (vi){vbicq_u8(v.lo, set.lo), vbicq_u8(v.hi, set.hi)};
}
LANE_INLINE vi vi_or_bytes(vi v, uint64_t bits, size_t part, unsigned value)
{
	return vi_or_and(v, vi_bytes_of_bits(bits, part), vi_set1_u8(value));
}
/* Every one of LANE_WIDTH bytes four times. */
LANE_INLINE vi vi_spread_u8(const uint8_t *p)
{
	const uint8x16_t from = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
	const uint8x16_t bytes = vcombine_u8(vld1_u8(p), vdup_n_u8(0));
	return (vi){vqtbl1q_u8(bytes, from), vqtbl1q_u8(bytes, vaddq_u8(from, vdupq_n_u8(4)))};
}

LANE_INLINE vi vi_add(vi a, vi b)
{
	return vi_of_s32(vaddq_s32(s32_of(a.lo), s32_of(b.lo)), vaddq_s32(s32_of(a.hi), s32_of(b.hi)));
}
LANE_INLINE vf vf_from_i32(vi v)
{
	return (vf){vcvtq_f32_s32(s32_of(v.lo)), vcvtq_f32_s32(s32_of(v.hi))};
}
LANE_INLINE vi vi_from_f32(vf v) { return vi_of_s32(vcvtnq_s32_f32(v.lo), vcvtnq_s32_f32(v.hi)); }
/* 2^n of integers n in -126 .. 127 */
LANE_INLINE vf vf_exp2i(vi n)
{
	const vi biased = vi_add(n, vi_set1(127));
	return (vf){vreinterpretq_f32_s32(vshlq_n_s32(s32_of(biased.lo), 23)),
	            vreinterpretq_f32_s32(vshlq_n_s32(s32_of(biased.hi), 23))};
}
/* Bits of |v|: they order as integers, infinity and NaN above all numbers. */
LANE_INLINE vi vi_magnitude(vf v)
{
	return (vi){vreinterpretq_u8_f32(vabsq_f32(v.lo)), vreinterpretq_u8_f32(vabsq_f32(v.hi))};
}
LANE_INLINE vi vi_max(vi a, vi b)
{
	return vi_of_s32(vmaxq_s32(s32_of(a.lo), s32_of(b.lo)), vmaxq_s32(s32_of(a.hi), s32_of(b.hi)));
}
LANE_INLINE int32_t vi_largest(vi v)
{
	return vmaxvq_s32(vmaxq_s32(s32_of(v.lo), s32_of(v.hi)));
}
LANE_INLINE int32_t vi_sum(vi v) { return vaddvq_s32(vaddq_s32(s32_of(v.lo), s32_of(v.hi))); }
/* LANE_WIDTH numbers in -128 .. 127 as bytes */
LANE_INLINE void vi_store_i8(int8_t *p, vi v)
{
	int16x8_t words = vcombine_s16(vmovn_s32(s32_of(v.lo)), vmovn_s32(s32_of(v.hi)));
	vst1_s8(p, vmovn_s16(words));
}
/* Shifts inside bytes, which every field stays within; spelled as functions of literals, as the
 * instructions want them. */
#define LANE_SHIFT_RIGHT(v, s) ((vi){vshrq_n_u8((v).lo, s), vshrq_n_u8((v).hi, s)})
#define LANE_SHIFT_LEFT(v, s) ((vi){vshlq_n_u8((v).lo, s), vshlq_n_u8((v).hi, s)})

/* Lane i is the number whose bit k is bit (8 * part + i) of masks[k]; bits <= 8. */
LANE_INLINE vf vf_from_masks(const uint8_t *masks, unsigned bits, size_t part)
{
	const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
	uint32x4_t a = vdupq_n_u32(0), b = a;
#pragma GCC unroll 8
	for (unsigned k = 0; k < 8; k++) {
		if (k == bits)
			break;
		const uint32x4_t mask = vdupq_n_u32(masks[2 * (size_t)k + part]);
		const uint32x4_t value = vdupq_n_u32(1u << k);
		a = vorrq_u32(a, vandq_u32(vtstq_u32(mask, low), value));
		b = vorrq_u32(b, vandq_u32(vtstq_u32(mask, high), value));
	}
	return (vf){vcvtq_f32_u32(a), vcvtq_f32_u32(b)};
}

/* The tree of spec/numerics.md 1 over sixteen lanes. */
LANE_INLINE float vf_tree(const vf lane[LANE_PARTS])
{
	const vf a = vf_add(lane[0], lane[1]);
	const float32x4_t b = vaddq_f32(a.lo, a.hi);
	const float32x2_t c = vadd_f32(vget_low_f32(b), vget_high_f32(b));
	return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}

/* sum + Σ over four vectors of 8 rows x 4 columns of signed bytes against 16 activations. */
LANE_INLINE vi dot_four(vi sum, const vi v[4], int8x16_t q)
{
	int32x4_t lo = s32_of(sum.lo), hi = s32_of(sum.hi);
	lo = vdotq_laneq_s32(lo, vreinterpretq_s8_u8(v[0].lo), q, 0);
	hi = vdotq_laneq_s32(hi, vreinterpretq_s8_u8(v[0].hi), q, 0);
	lo = vdotq_laneq_s32(lo, vreinterpretq_s8_u8(v[1].lo), q, 1);
	hi = vdotq_laneq_s32(hi, vreinterpretq_s8_u8(v[1].hi), q, 1);
	lo = vdotq_laneq_s32(lo, vreinterpretq_s8_u8(v[2].lo), q, 2);
	hi = vdotq_laneq_s32(hi, vreinterpretq_s8_u8(v[2].hi), q, 2);
	lo = vdotq_laneq_s32(lo, vreinterpretq_s8_u8(v[3].lo), q, 3);
	hi = vdotq_laneq_s32(hi, vreinterpretq_s8_u8(v[3].hi), q, 3);
	return vi_of_s32(lo, hi);
}

/* sum + Σ v * q of signed bytes over 'count' (4 or 8) vectors of 8 rows x 4 columns, per row. */
LANE_INLINE vi signed_dot(vi sum, const vi *v, unsigned count, const int8_t *q)
{
	for (unsigned i = 0; i < count; i += 4)
		sum = dot_four(sum, v + i, vld1q_s8(q + 4 * i));
	return sum;
}

/*
 * Σ code * q over 'count' vectors of 8 rows x 4 columns and 4 * count activations, per row;
 * asum: the sum of those activations.  sdot takes signed bytes: of eight bits c - 128 is taken, and
 * 128 * asum added.
 */
LANE_INLINE vi code_dot(const vi *code, unsigned count, unsigned bits, const int8_t *q, vi asum)
{
	if (bits < 8)
		return signed_dot(vi_zero(), code, count, q);
	const uint8x16_t high = vdupq_n_u8(0x80);
	vi centred[8];
	for (unsigned i = 0; i < count; i++)
		centred[i] = (vi){veorq_u8(code[i].lo, high), veorq_u8(code[i].hi, high)};
	const vi sum = vi_of_s32(vshlq_n_s32(s32_of(asum.lo), 7), vshlq_n_s32(s32_of(asum.hi), 7));
	return signed_dot(sum, centred, count, q);
}

#endif
