/*
 * Reference kernel of the kind codebook: with i8 entries integer sums over runs and one fma per
 * run and row; with f32 entries one fma per column.
 * Spec: spec/terms/codebook.md, spec/numerics.md 3 and 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/* Scale of (tile, group, row); 1 where there is none, which changes no bit. */
static float codebook_scale(const struct pith_codebook *c, size_t tile, size_t group, size_t row)
{
	const size_t at = (tile * c->groups + group) * PITH_TILE_ROWS + row;
	if (c->scales != NULL)
		return f32_of_f16(load_le16(c->scales + 2 * at));
	if (c->scale_codes == NULL)
		return 1.0f;
	// spec codebook: "s = fl( fl(q_s - scale_zero) * scale_scale )"
	const uint8_t *level = c->second_level + 4 * tile;
	float centred = (float)c->scale_codes[at] - f32_of_f16(load_le16(level + 2));
	return centred * f32_of_f16(load_le16(level));
}

/* Place of the entry that row and column of the tile name. */
static size_t entry_index(const struct pith_codebook *c, size_t tile, size_t row, size_t column)
{
	const uint8_t *block = c->codes + (tile * c->blocks + column / 32) * 64 * c->bits;
	size_t code = (size_t)pith_slice16_code_reference(block, c->bits, row, column % 32);
	return c->per_row ? ((tile << c->bits) + code) * PITH_TILE_ROWS + row : code;
}

static float integer_row(const struct pith_term *term, size_t tile, size_t row, const int8_t *q,
			 const float *as)
{
	const struct pith_codebook *c = &term->u.codebook;
	const size_t width = c->group_size < PITH_ACT_GROUP ? c->group_size : PITH_ACT_GROUP;
	float t = 0.0f;
	for (size_t first = 0; first < term->n; first += width) {
		size_t end = first + width < term->n ? first + width : term->n;
		int isum = 0;
		for (size_t j = first; j < end; j++)
			isum += (int8_t)c->entries[entry_index(c, tile, row, j)] * q[j];
		// spec numerics.4: "t    = fma( fl(s * as), f32(isum), t )"
		float u = codebook_scale(c, tile, first / c->group_size, row) *
			  as[first / PITH_ACT_GROUP];
		t = fmaf(u, (float)isum, t);
	}
	return t;
}

static float real_row(const struct pith_term *term, size_t tile, size_t row, const float *x)
{
	const struct pith_codebook *c = &term->u.codebook;
	float t = 0.0f;
	for (size_t j = 0; j < term->n; j++) {
		// spec numerics.3: "t = fma(W[i][j], x'[j], t) with W[i][j] = fl(s * e)"
		float w = load_f32(c->entries + 4 * entry_index(c, tile, row, j));
		if (c->scale_mode != 3)
			w = codebook_scale(c, tile, j / c->group_size, row) * w;
		t = fmaf(w, x[j], t);
	}
	return t;
}

void pith_codebook_apply_reference(const struct pith_term *term, const struct pith_act *act,
				   size_t tile_begin, size_t tile_end, bool add, float *y,
				   size_t ldy)
{
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			for (size_t r = 0; r < pith_tile_row_count(term, tile); r++)
				t[r] = term->u.codebook.real
					   ? real_row(term, tile, r, act->x + token * act->ldx)
					   : integer_row(term, tile, r, act->q + token * act->ldq,
							 act->scale + token * act->lds);
			pith_tile_store(term, tile, t, add,
					y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
