/*
 * Bitmasks of the kind sparse on vector lanes; agrees with kern_sparse_mask.c bit for bit.
 * Lanes are rows.  Nothing is expanded in memory: values of a column of the tile are spread over its
 * sixteen lanes in a register, codes of a line over its 64 bytes.  Where a code is absent stands its
 * row's zero-point, which adds nothing to Σ (c - z) q, so that the sums are those of affine.
 *
 * Parameters: a lanes_<isa>.h included before; mask_planes, or mask_planes_scalar under this name.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#define MASK_BATCH 32u /* tokens that share a block of codes */
#define MASK_LINES 8u  /* of a block */

/* ---- f16 values ---- */

/* One tile for 'tokens' tokens (a constant): out[token * 16 + row]. */
LANE_INLINE void mask_values_tile(const struct pith_sparse *s, size_t tile, const float *const *x,
                                  unsigned tokens, float *out)
{
	const uint8_t *line = s->masks + 64 * tile * s->blocks;
	size_t at = pith_sparse_first(s, tile);
	vf t[COLUMNS_BATCH_TOKENS][LANE_PARTS];
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			t[i][part] = vf_zero();
	for (size_t b = 0; b < s->blocks; b++) {
		at = at < s->value_count ? at : s->value_count;
		for (size_t j = 32 * b; j < 32 * b + 32; j += 4, line += 8) {
			const uint64_t mask = load_le64(line);
			for (size_t k = 0; k < 4; k++) {
				for (size_t part = 0; part < LANE_PARTS; part++) {
					const unsigned bits =
					    (unsigned)(mask >> (16 * k + part * LANE_WIDTH)) &
					    ((1u << LANE_WIDTH) - 1u);
					const vf w = vf_expand_f16(s->values + 2 * at, bits);
					for (unsigned i = 0; i < tokens; i++)
						t[i][part] = vf_fma_where(bits, w, vf_set1(x[i][j + k]),
						                          t[i][part]);
					at += (size_t)__builtin_popcount(bits);
				}
			}
		}
	}
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			vf_store(out + i * PITH_TILE_ROWS + part * LANE_WIDTH, t[i][part]);
}

static void mask_values_apply(const struct pith_term *term, const struct pith_act *act,
                              size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += COLUMNS_BATCH_TOKENS) {
			size_t left = act->k - token;
			size_t count = left < COLUMNS_BATCH_TOKENS ? left : COLUMNS_BATCH_TOKENS;
			const float *x[COLUMNS_BATCH_TOKENS];
			for (size_t i = 0; i < COLUMNS_BATCH_TOKENS; i++)
				x[i] = act->x + (token + (i < count ? i : count - 1)) * act->ldx;
			float t[COLUMNS_BATCH_TOKENS * PITH_TILE_ROWS];
			if (count == 1)
				mask_values_tile(&term->u.sparse, tile, x, 1, t);
			else
				mask_values_tile(&term->u.sparse, tile, x, COLUMNS_BATCH_TOKENS, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}

/* ---- codes ---- */

/* Bit 'b' of the 64 codes from number 'at' on. */
LANE_INLINE uint64_t mask_plane(const uint8_t *codes, size_t at, unsigned bits, unsigned b)
{
	const uint8_t *p = codes + 8 * (at / 64 * bits + b);
	const unsigned shift = at % 64;
	return load_le64(p) >> shift | load_le64(p + (size_t)8 * bits) << 1 << (63 - shift);
}

/* plane[b] is bit b of the 64 codes from number 'at' on. */
LANE_INLINE void mask_planes_scalar(const uint8_t *codes, size_t at, unsigned bits, uint64_t plane[8])
{
	for (unsigned b = 0; b < bits; b++)
		plane[b] = mask_plane(codes, at, bits, b);
}

/* The bytes of a block, absent ones being zero[row]: code[l] holds columns 4 l .. 4 l + 3. */
LANE_INLINE size_t mask_decode(const uint8_t *codes, const uint8_t *line, size_t at, unsigned bits,
                               const vi zero[LANE_PARTS], vi code[LANE_PARTS][MASK_LINES])
{
	for (size_t l = 0; l < MASK_LINES; l++) {
		const uint64_t mask = load_le64(line + 8 * l);
		for (size_t part = 0; part < LANE_PARTS; part++)
			code[part][l] = vi_clear_bytes(zero[part], mask, part);
		uint64_t planes[8];
		mask_planes(codes, at, bits, planes);
		for (unsigned b = 0; b < bits; b++) {
			uint64_t plane = deposit_bits(planes[b], mask);
			for (size_t part = 0; part < LANE_PARTS; part++)
				code[part][l] = vi_or_bytes(code[part][l], plane, part, 1u << b);
		}
		at += (size_t)__builtin_popcountll(mask);
	}
	return at;
}

/* A group's scales and zero-points; those also as four equal bytes a row. */
struct mask_scale {
	vf s[LANE_PARTS], z[LANE_PARTS];
	vi zero[LANE_PARTS];
};

LANE_INLINE void mask_load_scale(const struct pith_sparse *s, size_t cell, unsigned bits,
                                 struct mask_scale *scale)
{
	for (size_t part = 0; part < LANE_PARTS; part++) {
		size_t at = cell + part * LANE_WIDTH;
		scale->s[part] = vf_from_f16(s->scales + 2 * at);
		if (s->zero_mode == 1) {
			scale->z[part] = vf_from_u8(s->zeros + at);
			scale->zero[part] = vi_spread_u8(s->zeros + at);
		} else {
			scale->z[part] = vf_set1((float)(1u << (bits - 1)));
			scale->zero[part] = vi_set1_u8(1u << (bits - 1));
		}
	}
}

/* One tile for act's tokens from 'token' on: t: [count, 16], zeros on entry. */
LANE_INLINE void mask_codes_tile(const struct pith_sparse *s, size_t tile,
                                 const struct pith_act *act, size_t token, size_t count,
                                 unsigned bits, float *t)
{
	const uint8_t *line = s->masks + 64 * tile * s->blocks;
	const size_t per_group = s->group_size / PITH_ACT_GROUP;
	size_t at = pith_sparse_first(s, tile), cell = tile * s->groups * PITH_TILE_ROWS;
	struct mask_scale scale = {0};
	for (size_t b = 0; b < s->blocks; b++, line += 64) {
		if (b % per_group == 0) {
			mask_load_scale(s, cell, bits, &scale);
			cell += PITH_TILE_ROWS;
		}
		vi code[LANE_PARTS][MASK_LINES];
		at = at < s->value_count ? at : s->value_count;
		at = mask_decode(s->values, line, at, bits, scale.zero, code);
		for (size_t i = 0; i < count; i++) {
			const int8_t *q = act->q + (token + i) * act->ldq + PITH_ACT_GROUP * b;
			const int32_t *sum = act->sum + 2 * ((token + i) * act->lds + b);
			const vf as = vf_set1(act->scale[(token + i) * act->lds + b]);
			const vi asum = vi_set1(sum[0] + sum[1]);
			for (size_t part = 0; part < LANE_PARTS; part++) {
				float *to = t + i * PITH_TILE_ROWS + part * LANE_WIDTH;
				vf csum = vf_from_i32(code_dot(code[part], MASK_LINES, bits, q, asum));
				/* exact: integers below 2^24 */
				vf isum = vf_fnma(scale.z[part], vf_from_i32(asum), csum);
				vf_store(to, vf_fma(vf_mul(scale.s[part], as), isum, vf_load(to)));
			}
		}
	}
}

typedef void mask_tile_fn(const struct pith_sparse *s, size_t tile, const struct pith_act *act,
                          size_t token, size_t count, float *t);

/* Functions, not code in a macro: each line below is one instance of mask_codes_tile. */
#define MASK_INSTANCE(bits)                                                                        \
	static void mask_tile_##bits(const struct pith_sparse *s, size_t tile,                     \
	                             const struct pith_act *act, size_t token, size_t count,       \
	                             float *t)                                                     \
	{                                                                                          \
		mask_codes_tile(s, tile, act, token, count, bits, t);                              \
	}
MASK_INSTANCE(1)
MASK_INSTANCE(2)
MASK_INSTANCE(3)
MASK_INSTANCE(4)
MASK_INSTANCE(5)
MASK_INSTANCE(6)
MASK_INSTANCE(7)
MASK_INSTANCE(8)

static mask_tile_fn *const mask_tiles[9] = {
    NULL,        mask_tile_1, mask_tile_2, mask_tile_3, mask_tile_4,
    mask_tile_5, mask_tile_6, mask_tile_7, mask_tile_8,
};

void LANE_NAME(pith_sparse_mask_apply)(const struct pith_term *term, const struct pith_act *act,
                                       size_t tile_begin, size_t tile_end, bool add, float *y,
                                       size_t ldy)
{
	const struct pith_sparse *s = &term->u.sparse;
	if (s->bits == 0) {
		mask_values_apply(term, act, tile_begin, tile_end, add, y, ldy);
		return;
	}
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += MASK_BATCH) {
			size_t left = act->k - token, count = left < MASK_BATCH ? left : MASK_BATCH;
			float t[MASK_BATCH * PITH_TILE_ROWS];
			memset(t, 0, count * PITH_TILE_ROWS * sizeof(float));
			mask_tiles[s->bits](s, tile, act, token, count, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
