/*
 * Reference kernel of the kind columns.
 * Spec: spec/terms/columns.md, spec/numerics.md 3.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

void pith_columns_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                  size_t tile_begin, size_t tile_end, bool add, float *y,
                                  size_t ldy)
{
	const struct pith_columns *c = &term->u.columns;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			const float *x = act->x + token * act->ldx;
			float t[PITH_TILE_ROWS] = {0};
			for (size_t i = 0; i < c->column_count; i++) {
				float v = x[load_le32(c->index + 4 * i)];
				const uint8_t *value =
				    c->values + 2 * PITH_TILE_ROWS * (tile * c->column_count + i);
				for (size_t r = 0; r < PITH_TILE_ROWS; r++) {
					uint16_t half = load_le16(value + 2 * r);
					float w = c->dtype == PITH_DTYPE_F16 ? f32_of_f16(half)
					                                     : f32_of_bf16(half);
					// spec numerics.3: "t = fma(value[i][k], x'[index[k]], t)"
					t[r] = fmaf(w, v, t[r]);
				}
			}
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
