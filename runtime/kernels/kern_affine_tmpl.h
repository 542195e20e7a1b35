/*
 * The kind affine on vector lanes; agrees with kern_affine.c bit for bit.  Lanes are
 * rows, so each adds up its own row in ascending columns and no order changes.
 *
 * Parameters: a lanes_<isa>.h included before (LANE_WIDTH rows at a time, 16 = LANE_WIDTH *
 * LANE_PARTS).  Per (tile, block of 32 columns) the codes are decoded once into eight
 * vectors and used for all tokens of a batch.  One body, inlined for every number of bits
 * and for runs of 16 and 32 columns; a single token is a batch of one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_batch.h"
#include "lanes_slice16.h"

/* Scales and zero-points of the rows of a group, LANE_PARTS vectors each. */
struct affine_scale {
	vf s[LANE_PARTS], z[LANE_PARTS];
};

/* 'tg' = tile * groups + group; zero_mode: that of 'a', a constant where speed matters. */
LANE_INLINE void load_scale_as(const struct pith_affine *a, unsigned bits, unsigned zero_mode,
                               size_t tg, struct affine_scale *scale)
{
#pragma GCC unroll 4
	for (size_t part = 0; part < LANE_PARTS; part++) {
		size_t at = tg * PITH_TILE_ROWS + part * LANE_WIDTH;
		if (zero_mode == 3) {
			slice16_two_level(a->scale_codes + 2 * tg * a->scale_bits, a->scale_bits,
			                  a->zero_codes + 2 * tg * a->zero_bits, a->zero_bits,
			                  a->second_level + 8 * tg, part, &scale->s[part],
			                  &scale->z[part]);
			continue;
		}
		scale->s[part] = vf_from_f16(a->scales + 2 * at);
		switch (zero_mode) {
		case 0: scale->z[part] = vf_set1((float)(1u << (bits - 1))); break;
		case 1: scale->z[part] = vf_from_u8(a->zeros + at); break;
		default: scale->z[part] = vf_from_f16(a->zeros + 2 * at);
		}
	}
}

LANE_INLINE void load_scale(const struct pith_affine *a, size_t tg, struct affine_scale *scale)
{
	load_scale_as(a, a->bits, a->zero_mode, tg, scale);
}

/*
 * Of a run that does not exist (n ends in the first half of a block): it adds fma(0, 0, t), which
 * is t, because no t is -0: a sum that starts at +0 and whose terms do not underflow never is.
 */
LANE_INLINE void zero_scale(struct affine_scale *scale)
{
	for (size_t part = 0; part < LANE_PARTS; part++)
		scale->s[part] = scale->z[part] = vf_zero();
}

/* What a run adds to t: isum of codes, fsum of activations, u = s * as. */
LANE_INLINE vf affine_add_scaled_run(vf t, vi isum, vf fsum, vf u, vf z)
{
	return vf_fma(u, vf_fnma(z, fsum, vf_from_i32(isum)), t);
}

LANE_INLINE vf affine_add_run(vf t, vi isum, vf fsum, float as, vf s, vf z)
{
	return affine_add_scaled_run(t, isum, fsum, vf_mul(s, vf_set1(as)), z);
}

/* One run of one token: 'count' vectors of codes against q; asum: its sum of q. */
LANE_INLINE vf affine_run(const vi *code, unsigned count, unsigned bits, const int8_t *q, vi asum,
                          float as, vf s, vf z, vf t)
{
	vi isum = code_dot(code, count, bits, q, asum);
	return affine_add_run(t, isum, vf_from_i32(asum), as, s, z);
}

/*
 * What the columns of one block do to one token's accumulator: one run of 32 columns, or with
 * 'half' two of 16.  s, z: [2] of the rows at hand, one per run.
 */
LANE_INLINE vf affine_token(const vi code[SLICE16_VECTORS], unsigned bits, bool half,
                            const int8_t *q, const int32_t *sum, float as, const vf s[2],
                            const vf z[2], vf t)
{
	vi first = vi_set1(sum[0]), second = vi_set1(sum[1]);
	if (!half)
		return affine_run(code, 8, bits, q, vi_add(first, second), as, s[0], z[0], t);
	t = affine_run(code, 4, bits, q, first, as, s[0], z[0], t);
	return affine_run(code + 4, 4, bits, q + 16, second, as, s[1], z[1], t);
}

/* Block 'b' of a tile for all tokens. */
LANE_INLINE void affine_block(const uint8_t *block, size_t b, unsigned bits, bool half,
                              const struct affine_scale scale[2], const struct token_batch *batch)
{
	const size_t ldq = batch->ldq, lds = batch->lds, count = batch->count;
#pragma GCC unroll 1
	for (size_t part = 0; part < LANE_PARTS; part++) {
		/* locals, because a store to t might change what a pointer leads to */
		const vf s[2] = {scale[0].s[part], scale[half].s[part]};
		const vf z[2] = {scale[0].z[part], scale[half].z[part]};
		vi code[SLICE16_VECTORS];
		slice16_decode(block, bits, part, code);
		const int8_t *q = batch->q + b * PITH_ACT_GROUP;
		const float *as = batch->as + b;
		const int32_t *sum = batch->sum + 2 * b;
		float *t = batch->t + part * LANE_WIDTH;
		for (float *end = t + count * PITH_TILE_ROWS; t != end; t += PITH_TILE_ROWS) {
			vf_store(
			    t, affine_token(code, bits, half, q, sum, *as, s, z, vf_load(t)));
			q += ldq;
			as += lds;
			sum += 2 * lds;
		}
	}
}

/* A whole tile; batch->t is zero on entry and has the sums after. */
LANE_INLINE void affine_tile(const struct pith_term *term, size_t tile,
                             const struct token_batch *batch, unsigned bits, bool half)
{
	const struct pith_affine *a = &term->u.affine;
	const size_t block_nbytes = (size_t)64 * bits;
	const uint8_t *block = a->codes + tile * a->blocks * block_nbytes;
	const size_t per_group = half ? 1 : a->group_size / PITH_ACT_GROUP;
	size_t tg = tile * a->groups;
	for (size_t b = 0; b < a->blocks;) {
		struct affine_scale scale[2];
		load_scale(a, tg++, &scale[0]);
		if (half && b * PITH_ACT_GROUP + 16 < term->n)
			load_scale(a, tg++, &scale[1]);
		else if (half)
			zero_scale(&scale[1]);
		size_t end = b + per_group < a->blocks ? b + per_group : a->blocks;
		for (; b < end; b++, block += block_nbytes)
			affine_block(block, b, bits, half, scale, batch);
	}
}

/* Functions, not code in a macro: each line below is one instance of affine_tile. */
#define AFFINE_INSTANCE(bits, half)                                                                \
	static void affine_tile_##bits##_##half(const struct pith_term *term, size_t tile,         \
	                                        const struct token_batch *batch)                   \
	{                                                                                          \
		affine_tile(term, tile, batch, bits, half);                                        \
	}
#define AFFINE_INSTANCES(bits)                                                                     \
	AFFINE_INSTANCE(bits, 0)                                                                   \
	AFFINE_INSTANCE(bits, 1)
AFFINE_INSTANCES(1)
AFFINE_INSTANCES(2)
AFFINE_INSTANCES(3)
AFFINE_INSTANCES(4)
AFFINE_INSTANCES(5)
AFFINE_INSTANCES(6)
AFFINE_INSTANCES(7)
AFFINE_INSTANCES(8)

#define AFFINE_ROW(bits)                                                                           \
	{                                                                                          \
		affine_tile_##bits##_0, affine_tile_##bits##_1                                     \
	}
/* [bits - 1][runs of 16] */
static token_tile_fn *const affine_tiles[8][2] = {
    AFFINE_ROW(1), AFFINE_ROW(2), AFFINE_ROW(3), AFFINE_ROW(4),
    AFFINE_ROW(5), AFFINE_ROW(6), AFFINE_ROW(7), AFFINE_ROW(8),
};

#include "kern_affine_run_tmpl.h"
#include "kern_affine_token_tmpl.h"

void LANE_NAME(pith_affine_apply)(const struct pith_term *term, const struct pith_act *act,
                                  size_t tile_begin, size_t tile_end, bool add, float *y,
                                  size_t ldy)
{
	const struct pith_affine *a = &term->u.affine;
	const bool half = a->group_size < PITH_ACT_GROUP;
	const bool long_runs = act->one_scale && !half;
	if (act->k == 1 && !long_runs) {
		affine_token_apply(term, act, tile_begin, tile_end, add, y);
		return;
	}
	token_tile_fn *fn =
	    long_runs ? affine_long_tiles[a->bits - 1] : affine_tiles[a->bits - 1][half];
	token_batches_apply(fn, term, act, tile_begin, tile_end, add, y, ldy);
}
