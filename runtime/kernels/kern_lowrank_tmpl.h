/*
 * The kind lowrank on vector lanes; agrees with kern_lowrank.c bit for bit.  Lanes are rows.
 *
 * Parameters: a lanes_<isa>.h included before; COLUMNS_BATCH_TOKENS accumulators of sixteen
 * lanes must fit the registers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

/* One tile for 'tokens' tokens (a constant): out[token * 16 + row]. */
LANE_INLINE void lowrank_tile(const struct pith_lowrank *l, size_t tile, const float *const *h,
                              bool f16, unsigned tokens, float *out)
{
	const uint8_t *u = l->u + 2 * PITH_TILE_ROWS * tile * l->rank;
	vf t[COLUMNS_BATCH_TOKENS][LANE_PARTS];
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			t[i][part] = vf_zero();
	for (size_t k = 0; k < l->rank; k++, u += 2 * PITH_TILE_ROWS) {
		for (size_t part = 0; part < LANE_PARTS; part++) {
			const uint8_t *p = u + 2 * part * LANE_WIDTH;
			vf factor = f16 ? vf_from_f16(p) : vf_from_bf16(p);
			for (unsigned i = 0; i < tokens; i++)
				t[i][part] = vf_fma(factor, vf_set1(h[i][k]), t[i][part]);
		}
	}
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			vf_store(out + i * PITH_TILE_ROWS + part * LANE_WIDTH, t[i][part]);
}

void LANE_NAME(pith_lowrank_apply)(const struct pith_term *term, const struct pith_act *act,
                                   size_t tile_begin, size_t tile_end, bool add, float *y,
                                   size_t ldy)
{
	const struct pith_lowrank *l = &term->u.lowrank;
	const bool f16 = l->dtype == PITH_DTYPE_F16;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += COLUMNS_BATCH_TOKENS) {
			size_t left = act->k - token;
			size_t count = left < COLUMNS_BATCH_TOKENS ? left : COLUMNS_BATCH_TOKENS;
			const float *h[COLUMNS_BATCH_TOKENS];
			for (size_t i = 0; i < COLUMNS_BATCH_TOKENS; i++)
				h[i] = act->h + (token + (i < count ? i : count - 1)) * act->ldh;
			float t[COLUMNS_BATCH_TOKENS * PITH_TILE_ROWS];
			if (count == 1)
				lowrank_tile(l, tile, h, f16, 1, t);
			else
				lowrank_tile(l, tile, h, f16, COLUMNS_BATCH_TOKENS, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
