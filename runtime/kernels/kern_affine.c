/*
 * Reference kernel of the kind affine: integer sums over runs, one fma (or two) per
 * run and row.  Spec: spec/terms/affine.md, spec/numerics.md 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/*
 * The field of 'width' bits (one part of a code: 8, 4, 2 or 1) of 'row' and 'column' of a block.
 * 'lines' points to the first line of the part.  The table of spec/terms/affine.md.
 */
static unsigned code_part(const uint8_t *lines, unsigned width, size_t row, size_t column)
{
	size_t fields = 8 / width;
	size_t line = column / (4 * fields);
	size_t field = column / 4 % fields;
	unsigned byte = lines[line * 64 + 4 * row + column % 4];
	unsigned mask = (1u << width) - 1u;
	return byte >> (field * width) & mask;
}

int pith_slice16_code_reference(const uint8_t *block, unsigned bits, size_t row, size_t column)
{
	if (bits == 8)
		return (int)code_part(block, 8, row, column);
	unsigned code = 0, shift = 0;
	for (unsigned width = 4; width != 0; width /= 2) {
		if ((bits & width) == 0)
			continue;
		code |= code_part(block, width, row, column) << shift;
		block += (size_t)64 * width;
		shift += width;
	}
	return (int)code;
}

/* A scale code: 'bits' masks of u16, bit 'row' of each. */
static float second_level_code(const uint8_t *masks, unsigned bits, size_t row)
{
	unsigned code = 0;
	for (unsigned k = 0; k < bits; k++) {
		unsigned mask = load_le16(masks + 2 * (size_t)k);
		code |= (mask >> row & 1u) << k;
	}
	return (float)code;
}

/*
 * fl( fl(code - zero) * scale ), "Two-level scales" of spec/terms/affine.md.
 * level: [4] f16; 'at' is 0 for the scale and 2 for the zero-point.
 */
static float second_level_value(float code, const uint8_t *level, size_t at)
{
	float scale = f32_of_f16(load_le16(level + 2 * at));
	float zero = f32_of_f16(load_le16(level + 2 * at + 2));
	float centred = code - zero;
	return centred * scale;
}

/* Scale and zero-point of 'row' in group 'tg' = tile * groups + group. */
static void affine_scale(const struct pith_affine *a, size_t tg, size_t row, float *s, float *z)
{
	size_t at = tg * PITH_TILE_ROWS + row;
	if (a->scale_mode == 1) {
		const uint8_t *level = a->second_level + 8 * tg;
		const uint8_t *scale_masks = a->scale_codes + 2 * tg * a->scale_bits;
		const uint8_t *zero_masks = a->zero_codes + 2 * tg * a->zero_bits;
		*s = second_level_value(second_level_code(scale_masks, a->scale_bits, row), level,
		                        0);
		*z = second_level_value(second_level_code(zero_masks, a->zero_bits, row), level, 2);
		return;
	}
	*s = f32_of_f16(load_le16(a->scales + 2 * at));
	if (a->zero_mode == 0)
		*z = (float)(1u << (a->bits - 1));
	else if (a->zero_mode == 1)
		*z = (float)a->zeros[at];
	else
		*z = f32_of_f16(load_le16(a->zeros + 2 * at));
}

/* One run: columns 'begin' .. 'end' - 1 of a row; returns the new t. */
static float affine_run(const struct pith_affine *a, size_t tile, size_t row, size_t begin,
                        size_t end, const int8_t *q, float as, float s, float z, float t)
{
	int isum = 0, asum = 0;
	for (size_t j = begin; j < end; j++) {
		const uint8_t *block =
		    a->codes + (tile * a->blocks + j / PITH_ACT_GROUP) * 64 * a->bits;
		isum += pith_slice16_code_reference(block, a->bits, row, j % PITH_ACT_GROUP) * q[j];
		asum += q[j];
	}
	float u = s * as;
	// spec numerics.4: "v    = fma( -z, f32(asum), f32(isum) )"
	float v = fmaf(-z, (float)asum, (float)isum);
	return fmaf(u, v, t);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Row 'row' of tile 'tile' for one token; q, as: this token's. */
static float affine_row(const struct pith_term *term, size_t tile, size_t row, const int8_t *q,
                        const float *as, size_t run)
{
	const struct pith_affine *a = &term->u.affine;
	float t = 0.0f;
	for (size_t group = 0; group < a->groups; group++) {
		size_t stop = least((group + 1) * a->group_size, term->n);
		float s, z;
		affine_scale(a, tile * a->groups + group, row, &s, &z);
		// spec numerics.4: "of longer ones every 256 columns, counted from the first, are a run"
		for (size_t j = group * a->group_size; j < stop; j += run)
			t = affine_run(a, tile, row, j, least(j + run, stop), q,
			               as[j / PITH_ACT_GROUP], s, z, t);
	}
	return t;
}

void pith_affine_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                 size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	const size_t run = act->one_scale ? PITH_RUN_COLUMNS : PITH_ACT_GROUP;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			for (size_t r = 0; r < pith_tile_row_count(term, tile); r++)
				t[r] = affine_row(term, tile, r, act->q + token * act->ldq,
				                  act->scale + token * act->lds, run);
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
