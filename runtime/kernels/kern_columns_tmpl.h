/*
 * The kind columns on vector lanes; agrees with kern_columns.c bit for bit.  Lanes are rows.
 *
 * Parameters: a lanes_<isa>.h included before; COLUMNS_BATCH_TOKENS accumulators of sixteen
 * lanes must fit the registers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

/* One tile for 'tokens' tokens (a constant): out[token * 16 + row]. */
LANE_INLINE void columns_tile(const struct pith_term *term, size_t tile, const float *const *x,
                              bool f16, unsigned tokens, float *out)
{
	const struct pith_columns *c = &term->u.columns;
	const uint8_t *value = c->values + 2 * PITH_TILE_ROWS * tile * c->column_count;
	vf t[COLUMNS_BATCH_TOKENS][LANE_PARTS];
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			t[i][part] = vf_zero();
	for (size_t at = 0; at < c->column_count; at++, value += 2 * PITH_TILE_ROWS) {
		const size_t column = load_le32(c->index + 4 * at);
		for (size_t part = 0; part < LANE_PARTS; part++) {
			const uint8_t *p = value + 2 * part * LANE_WIDTH;
			vf weight = f16 ? vf_from_f16(p) : vf_from_bf16(p);
			for (unsigned i = 0; i < tokens; i++)
				t[i][part] = vf_fma(weight, vf_set1(x[i][column]), t[i][part]);
		}
	}
	for (unsigned i = 0; i < tokens; i++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			vf_store(out + i * PITH_TILE_ROWS + part * LANE_WIDTH, t[i][part]);
}

void LANE_NAME(pith_columns_apply)(const struct pith_term *term, const struct pith_act *act,
                                   size_t tile_begin, size_t tile_end, bool add, float *y,
                                   size_t ldy)
{
	const bool f16 = term->u.columns.dtype == PITH_DTYPE_F16;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += COLUMNS_BATCH_TOKENS) {
			size_t left = act->k - token;
			size_t count = left < COLUMNS_BATCH_TOKENS ? left : COLUMNS_BATCH_TOKENS;
			const float *x[COLUMNS_BATCH_TOKENS];
			for (size_t i = 0; i < COLUMNS_BATCH_TOKENS; i++)
				x[i] = act->x + (token + (i < count ? i : count - 1)) * act->ldx;
			float t[COLUMNS_BATCH_TOKENS * PITH_TILE_ROWS];
			if (count == 1)
				columns_tile(term, tile, x, f16, 1, t);
			else
				columns_tile(term, tile, x, f16, COLUMNS_BATCH_TOKENS, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
