/*
 * Reference kernel of the kind sparse: the entries of a tile's lists in file order.
 * Every index is in range because x is padded to whole blocks of columns.
 * Spec: spec/terms/sparse.md, spec/numerics.md 3.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

void pith_sparse_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                 size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	const struct pith_sparse *s = &term->u.sparse;
	if (s->masks != NULL) {
		pith_sparse_mask_apply_reference(term, act, tile_begin, tile_end, add, y, ldy);
		return;
	}
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			for (size_t b = 0; b < s->blocks; b++) {
				const uint8_t *list = s->offsets + 4 * (tile * s->blocks + b);
				const float *x =
				    act->x + token * act->ldx + b * PITH_SPARSE_BLOCK_COLUMNS;
				for (size_t e = load_le32(list); e < load_le32(list + 4); e++) {
					unsigned index = load_le16(s->index + 2 * e);
					float value = f32_of_f16(load_le16(s->values + 2 * e));
					// spec numerics.3: "t = fma(value, x'[column], t)"
					t[index % 16] = fmaf(value, x[index / 16], t[index % 16]);
				}
			}
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
