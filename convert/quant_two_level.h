/*
 * Grids of a tile of 16 rows and one group of columns whose scales and zero-points are
 * themselves codes (SpQR, section 4: "bilevel quantization").
 *
 * Spec: spec/terms/affine.md, "Two-level scales"
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_TWO_LEVEL_H
#define PITH_CONVERT_QUANT_TWO_LEVEL_H

#include "quant_grid.h"

#define TWO_LEVEL_ROWS 16u

struct two_level_rule {
	uint32_t bits, scale_bits, zero_bits;
	bool search; /* codes of scale and zero-point together by least squared error, else the nearest ones */
};

struct two_level_tile {
	struct quant_grid grid[TWO_LEVEL_ROWS]; /* as decoded from what follows */
	uint8_t scale_code[TWO_LEVEL_ROWS], zero_code[TWO_LEVEL_ROWS];
	uint16_t second_level[4]; /* f16 bits: scale_scale, scale_zero, zero_scale, zero_zero */
};

/* Range of values, not widened to hold 0, as a grid with a real zero-point; one value: exact. */
struct quant_grid two_level_range(float low, float high, float top);

/*
 * Fit to rows w + i * stride, [rows, count].  importance: [rows, count] >= 0, weights of the squared errors;
 * values with 0 are left out.  Rows beyond 'rows' get codes 0.  rows is 1..16.  false: the values are too
 * large for f16; *row says where.
 */
bool two_level_fit(const struct two_level_rule *rule, const float *w, size_t stride,
                   const float *importance, size_t rows, size_t count, struct two_level_tile *out,
                   size_t *row);

#endif
