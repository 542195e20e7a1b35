/*
 * Reference kernel of the kind dense: sixteen column lanes and one tree per output.
 * Spec: spec/terms/dense.md, spec/numerics.md 1 and 3.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

static float dense_value(const struct pith_dense *dense, size_t i)
{
	const uint8_t *p = dense->values + i * dense->value_nbytes;
	if (dense->dtype == PITH_DTYPE_F32)
		return load_f32(p);
	if (dense->dtype == PITH_DTYPE_F16)
		return f32_of_f16(load_le16(p));
	return f32_of_bf16(load_le16(p));
}

/* dot16 of row 'row' and x: [n]. */
static float dense_dot(const struct pith_term *term, size_t row, const float *x)
{
	// spec numerics.3: "dense: t[i] = dot16(W[i], x')"
	float lane[PITH_LANES] = {0};
	size_t padded = pith_round_up(term->n, PITH_LANES);
	for (size_t j = 0; j < padded; j++) {
		float w = j < term->n ? dense_value(&term->u.dense, row * term->n + j) : 0.0f;
		float v = j < term->n ? x[j] : 0.0f;
		lane[j % PITH_LANES] = fmaf(w, v, lane[j % PITH_LANES]);
	}
	return pith_lane_tree(lane);
}

void pith_dense_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			for (size_t r = 0; r < pith_tile_row_count(term, tile); r++)
				t[r] = dense_dot(term, tile * PITH_TILE_ROWS + r,
				                 act->x + token * act->ldx);
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
