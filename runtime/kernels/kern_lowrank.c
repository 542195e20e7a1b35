/*
 * Reference kernel of the kind lowrank: the columns of U by h = V x', which is prepared
 * once per input.  Spec: spec/terms/lowrank.md, spec/numerics.md 3.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

void pith_lowrank_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                  size_t tile_begin, size_t tile_end, bool add, float *y,
                                  size_t ldy)
{
	const struct pith_lowrank *l = &term->u.lowrank;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			const float *h = act->h + token * act->ldh;
			float t[PITH_TILE_ROWS] = {0};
			for (size_t k = 0; k < l->rank; k++) {
				const uint8_t *u = l->u + 2 * PITH_TILE_ROWS * (tile * l->rank + k);
				for (size_t r = 0; r < PITH_TILE_ROWS; r++) {
					uint16_t half = load_le16(u + 2 * r);
					float w = l->dtype == PITH_DTYPE_F16 ? f32_of_f16(half)
					                                     : f32_of_bf16(half);
					// spec numerics.3: "t = fma(U[i][k], h[k], t)"
					t[r] = fmaf(w, h[k], t[r]);
				}
			}
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
