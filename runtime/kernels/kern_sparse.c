/*
 * Reference kernel of the kind sparse: the entries of a tile's lists in file order, layer after layer.
 * Every index is in range because x is padded to whole blocks of columns.
 * Spec: spec/terms/sparse.md, spec/numerics.md 3.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

static void apply_list(const struct pith_sparse *s, size_t list, const float *x, float *t)
{
	const uint8_t *counts = s->counts + 2 * PITH_TILE_ROWS * list;
	size_t e = load_le32(s->offsets + 4 * list), end = load_le32(s->offsets + 4 * (list + 1));
	for (size_t layer = 0; e < end; layer++) {
		for (size_t row = 0; row < PITH_TILE_ROWS; row++) {
			if (load_le16(counts + 2 * row) <= layer)
				continue;
			size_t column = load_le16(s->index + 2 * e) % PITH_SPARSE_BLOCK_COLUMNS;
			float value = f32_of_f16(load_le16(s->values + 2 * e));
			// spec numerics.3: "t = fma(value, x'[column], t)"
			t[row] = fmaf(value, x[column], t[row]);
			e++;
		}
	}
}

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
			for (size_t b = 0; b < s->blocks; b++)
				apply_list(s, tile * s->blocks + b,
				           act->x + token * act->ldx + b * PITH_SPARSE_BLOCK_COLUMNS,
				           t);
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
