/*
 * Reference kernel of the kind ternary: integer sums over runs of 32 columns, one fma per run
 * and row.  Spec: spec/terms/ternary.md, spec/numerics.md 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/* The trit of 'row' and 'column' of a tile whose lines begin at 'lines'. */
static int trit_of(const uint8_t *lines, size_t row, size_t column)
{
	const size_t in_line = column % PITH_TERNARY_LINE_COLUMNS;
	unsigned byte = lines[column / PITH_TERNARY_LINE_COLUMNS * 64 + 4 * row + in_line % 4];
	// spec ternary: "d_f   = floor( ((byte * 3^f) mod 256) * 3 / 256 )"
	for (size_t f = 0; f < in_line / 4; f++)
		byte = byte * 3 % 256;
	return (int)(byte * 3 / 256) - 1;
}

static float ternary_row(const struct pith_term *term, size_t tile, size_t row, const int8_t *q,
			 const float *as)
{
	const struct pith_ternary *ternary = &term->u.ternary;
	const uint8_t *lines = ternary->codes + tile * ternary->lines * 64;
	const float s = load_f32(ternary->scales + 4 * (tile * PITH_TILE_ROWS + row));
	float t = 0.0f;
	for (size_t first = 0; first < term->n; first += PITH_ACT_GROUP) {
		size_t end = first + PITH_ACT_GROUP < term->n ? first + PITH_ACT_GROUP : term->n;
		int isum = 0;
		for (size_t j = first; j < end; j++)
			isum += trit_of(lines, row, j) * q[j];
		// spec numerics.4: "t    = fma( fl(s * as), f32(isum), t )"
		float u = s * as[first / PITH_ACT_GROUP];
		t = fmaf(u, (float)isum, t);
	}
	return t;
}

void pith_ternary_apply_reference(const struct pith_term *term, const struct pith_act *act,
				  size_t tile_begin, size_t tile_end, bool add, float *y,
				  size_t ldy)
{
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			for (size_t r = 0; r < pith_tile_row_count(term, tile); r++)
				t[r] = ternary_row(term, tile, r, act->q + token * act->ldq,
						   act->scale + token * act->lds);
			pith_tile_store(term, tile, t, add,
					y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
