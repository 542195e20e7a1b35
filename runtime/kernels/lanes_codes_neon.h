/*
 * Lookups and trits on NEON lanes: the vocabulary of kern_codebook*_tmpl.h and
 * kern_ternary_tmpl.h beside that of lanes_neon.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_CODES_NEON_H
#define PITH_RUNTIME_LANES_CODES_NEON_H

#include "lanes_neon.h"

/* ---- i8 entries: tables are cut into chunks of 16 entries, one per register ---- */

#define LANE_ENTRY_FLIP 0u /* tables hold the entries as they are */

LANE_INLINE vi vi_repeat16(const uint8_t *p) { return (vi){vld1q_u8(p), vld1q_u8(p)}; }

/* Bytes of 'code' (below 16 * chunks) replaced by the entries they name. */
LANE_INLINE uint8x16_t lookup_bytes(const vi *table, unsigned chunks, uint8x16_t code)
{
	if (chunks == 1)
		return vqtbl1q_u8(table[0].lo, code);
	if (chunks == 2)
		return vqtbl2q_u8((uint8x16x2_t){{table[0].lo, table[1].lo}}, code);
	uint8x16_t entry = vdupq_n_u8(0); /* an index out of range leaves it */
	for (unsigned j = 0; j < chunks; j += 4) {
		const uint8x16x4_t four = {
		    {table[j].lo, table[j + 1].lo, table[j + 2].lo, table[j + 3].lo}};
		entry = vqtbx4q_u8(entry, four, vsubq_u8(code, vdupq_n_u8((uint8_t)(16 * j))));
	}
	return entry;
}
LANE_INLINE vi vi_lookup(const vi *table, unsigned chunks, vi code)
{
	return (vi){lookup_bytes(table, chunks, code.lo), lookup_bytes(table, chunks, code.hi)};
}

/* Four rows of codes, chunk of row r in rows.val[r]: bytes of other chunks give 'entry'. */
LANE_INLINE uint8x16_t lookup_row_bytes(uint8x16_t entry, uint8x16x4_t rows, unsigned j,
                                        unsigned chunks, uint8x16_t code)
{
	const uint8x16_t first = {0, 0, 0, 0, 16, 16, 16, 16, 32, 32, 32, 32, 48, 48, 48, 48};
	if (chunks == 1)
		return vqtbl4q_u8(rows, vaddq_u8(code, first));
	/* far out of range unless the chunk is this one */
	uint8x16_t own = veorq_u8(code, vdupq_n_u8((uint8_t)(16 * j)));
	own = vqaddq_u8(own, vandq_u8(vcgtq_u8(own, vdupq_n_u8(15)), vdupq_n_u8(0xc0)));
	return vqtbx4q_u8(entry, rows, vqaddq_u8(own, first));
}
/* A table per row: table[4 * chunk + r] has in register l the chunk of row 4 l + r. */
LANE_INLINE vi vi_lookup_rows(const vi *table, unsigned chunks, vi code)
{
	vi entry = vi_zero();
	for (unsigned j = 0; j < chunks; j++) {
		const vi *t = table + 4 * (size_t)j;
		const uint8x16x4_t low = {{t[0].lo, t[1].lo, t[2].lo, t[3].lo}};
		const uint8x16x4_t high = {{t[0].hi, t[1].hi, t[2].hi, t[3].hi}};
		entry.lo = lookup_row_bytes(entry.lo, low, j, chunks, code.lo);
		entry.hi = lookup_row_bytes(entry.hi, high, j, chunks, code.hi);
	}
	return entry;
}

/* Σ entry * q over 'count' vectors of 8 rows x 4 columns. */
LANE_INLINE vi entry_dot(const vi *entry, unsigned count, const int8_t *q, vi asum)
{
	(void)asum;
	return signed_dot(vi_zero(), entry, count, q);
}

/* ---- f32 entries ---- */

/* Lane i is byte k of lane i of 'code'. */
LANE_INLINE vi code_byte(vi code, unsigned k)
{
	const int32x4_t right = vdupq_n_s32(-(int32_t)(8 * k));
	const uint32x4_t byte = vdupq_n_u32(0xff);
	return vi_of_u32(vandq_u32(vshlq_u32(u32_of(code.lo), right), byte),
	                 vandq_u32(vshlq_u32(u32_of(code.hi), right), byte));
}

/* Lane i is table[stride * byte k of lane i of 'code' + row * i]. */
LANE_INLINE vf vf_gather(const float *table, vi code, unsigned k, size_t stride, size_t row)
{
	const vi index = code_byte(code, k);
	uint32_t at[LANE_WIDTH];
	float entry[LANE_WIDTH];
	vst1q_u32(at, u32_of(index.lo));
	vst1q_u32(at + 4, u32_of(index.hi));
	for (unsigned i = 0; i < LANE_WIDTH; i++)
		entry[i] = table[stride * at[i] + row * i];
	return vf_load(entry);
}

/* Of one register of indices below 16 into floats, 64 bytes of which are there in any plane. */
LANE_INLINE float32x4_t lookup_sixteen(const float *table, uint8x16_t code)
{
	const uint8x16x4_t bytes = vld1q_u8_x4((const uint8_t *)table);
	/* 4 * code + 0 .. 3 in the four bytes of a lane */
	uint32x4_t from = vmlaq_n_u32(vdupq_n_u32(0x03020100), u32_of(code), 0x04040404);
	return vreinterpretq_f32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_u32(from)));
}

/* Lane i is table[byte k of lane i of 'code'], a table of 2^bits floats. */
LANE_INLINE vf vf_lookup(const float *table, unsigned bits, vi code, unsigned k)
{
	if (bits > 4)
		return vf_gather(table, code, k, 1, 0);
	const vi index = code_byte(code, k);
	return (vf){lookup_sixteen(table, index.lo), lookup_sixteen(table, index.hi)};
}

/* The same with a table per row: entry e of lane i is table[16 * e + i]. */
LANE_INLINE vf vf_lookup_rows(const float *table, unsigned bits, vi code, unsigned k)
{
	(void)bits;
	return vf_gather(table, code, k, 16, 1);
}

/* ---- trits ---- */

/* Bytes of a line as trits_next and trits_of take them. */
LANE_INLINE vi trits_first(vi line) { return line; }
LANE_INLINE vi trits_next(vi b)
{
	const uint8x16_t three = vdupq_n_u8(3);
	return (vi){vmulq_u8(b.lo, three), vmulq_u8(b.hi, three)};
}
/* -(trit + 1) = -floor(3 b / 256): is b above 85, above 170? */
LANE_INLINE vi trits_of(vi b)
{
	const uint8x16_t one = vdupq_n_u8(85), two = vdupq_n_u8(170);
	return (vi){vaddq_u8(vcgtq_u8(b.lo, one), vcgtq_u8(b.lo, two)),
	            vaddq_u8(vcgtq_u8(b.hi, one), vcgtq_u8(b.hi, two))};
}
/* Σ trit * q of a run of eight vectors; asum: the sum of its q. */
LANE_INLINE vi trits_dot(const vi *trits, const int8_t *q, vi asum)
{
	const vi negative = signed_dot(asum, trits, 8, q);
	return vi_of_s32(vnegq_s32(s32_of(negative.lo)), vnegq_s32(s32_of(negative.hi)));
}

#endif
