/*
 * Two-level grids: every row's own range first, then codes for the scales and zero-points of the
 * 16 rows, then, for each row, the pair of codes near its own with the least error.  The last
 * step is not in the paper; 3-bit scales and zero-points are coarse, and the best pair is often
 * not the pair of nearest ones.  With 2-bit codes the ranges are those of least error first: they are much
 * narrower than the values', and codes of scales reach no lower than the least of the tile.
 *
 * Spec: spec/terms/affine.md, "Two-level scales"
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_two_level.h"

#include "bytes.h"

#define SEARCH_REACH 3.0f   /* codes to either side of the nearest one */
#define NARROW_STEPS 12u     /* of 5 % */
#define MIN_SPREAD 0x1p-11f /* closer values count as one: f16 holds no more */

struct quant_grid two_level_range(float low, float high, float top)
{
	struct quant_grid g = {.top = top};
	if (low == high) {
		low = low < 0.0f ? low : 0.0f;
		high = high > 0.0f ? high : 0.0f;
	}
	g.scale = (high - low) / top;
	g.zero = g.scale > 0.0f ? -low / g.scale : 0.0f;
	return g;
}

/* Codes of 16 numbers: value = (code - zero) * scale, both f16. */
struct second_grid {
	float scale, zero, top;
};

// spec affine: "s = fl( fl(q_s - scale_zero) * scale_scale )"
static float second_value(const struct second_grid *g, float code)
{
	return (code - g->zero) * g->scale;
}

static float second_code(const struct second_grid *g, float v)
{
	return g->scale == 0.0f ? 0.0f : grid_round(grid_clamp(v / g->scale + g->zero, 0.0f, g->top));
}

/* used: which of v count.  false: too large for f16. */
static bool second_fit(const float *v, const bool *used, size_t count, uint32_t bits,
                       struct second_grid *g)
{
	float low = INFINITY, high = -INFINITY;
	*g = (struct second_grid){.top = (float)((1u << bits) - 1u)};
	for (size_t i = 0; i < count; i++) {
		low = used[i] && v[i] < low ? v[i] : low;
		high = used[i] && v[i] > high ? v[i] : high;
	}
	if (!(low <= high))
		return true; /* none: scale 0 */
	float size = fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high);
	g->scale = f32_of_f16(f16_of_f32((high - low) / g->top));
	g->zero = f32_of_f16(f16_of_f32(g->scale == 0.0f ? INFINITY : -low / g->scale));
	if (high - low > size * MIN_SPREAD && isfinite(g->zero))
		return isfinite(g->scale);
	/* as good as equal: code 1 is the value */
	g->zero = 0.0f;
	g->scale = f32_of_f16(f16_of_f32(low + (high - low) / 2.0f));
	return isfinite(g->scale);
}

/* Squared error in eight lanes, so that it vectorizes without reassociation. */
static float row_error2(const float *w, const float *importance, size_t count,
                        const struct quant_grid *g)
{
	float lane[8] = {0};
	float inverse = 1.0f / (g->scale > 1e-30f ? g->scale : 1e-30f);
	size_t j = 0;
	for (; j + 8 <= count; j += 8) {
		for (size_t i = 0; i < 8; i++) {
			float q = grid_round(grid_clamp(w[j + i] * inverse + g->zero, 0.0f, g->top));
			float e = w[j + i] - quant_grid_value(g, q);
			lane[i] += e * e * importance[j + i];
		}
	}
	for (; j < count; j++) {
		float e = w[j] - quant_grid_value(g, quant_grid_code(g, w[j]));
		lane[j % 8] += e * e * importance[j];
	}
	return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

struct tile_fit {
	const struct two_level_rule *rule;
	struct second_grid scale, zero;
	float top;
};

static struct quant_grid grid_of(const struct tile_fit *f, float scale_code, float zero_code)
{
	return (struct quant_grid){.scale = second_value(&f->scale, scale_code),
	                           .zero = second_value(&f->zero, zero_code), .top = f->top};
}

/* The best pair of codes near *scale_code and *zero_code. */
static void search_row(const struct tile_fit *f, const float *w, const float *importance,
                       size_t count, float *scale_code, float *zero_code)
{
	float s0 = grid_clamp(*scale_code - SEARCH_REACH, 0.0f, f->scale.top);
	float s1 = grid_clamp(*scale_code + SEARCH_REACH, 0.0f, f->scale.top);
	float z0 = grid_clamp(*zero_code - SEARCH_REACH, 0.0f, f->zero.top);
	float z1 = grid_clamp(*zero_code + SEARCH_REACH, 0.0f, f->zero.top);
	struct quant_grid g = grid_of(f, *scale_code, *zero_code);
	float best = row_error2(w, importance, count, &g);
	for (float s = s0; s <= s1; s++) {
		for (float z = z0; z <= z1; z++) {
			g = grid_of(f, s, z);
			float e = row_error2(w, importance, count, &g);
			if (e < best) {
				best = e;
				*scale_code = s;
				*zero_code = z;
			}
		}
	}
}

/* *grid: the row's own range of what counts; false: nothing does, or all is 0. */
static bool row_range(const float *w, const float *importance, size_t count, float top,
                      struct quant_grid *grid)
{
	float low = INFINITY, high = -INFINITY;
	for (size_t j = 0; j < count; j++) {
		low = importance[j] > 0.0f && w[j] < low ? w[j] : low;
		high = importance[j] > 0.0f && w[j] > high ? w[j] : high;
	}
	*grid = (struct quant_grid){.top = top};
	if (!(low <= high) || (low == 0.0f && high == 0.0f))
		return false;
	/* a zero-point far outside of the codes would cost the tile's other rows their precision */
	low = low > high / 2.0f ? 0.0f : low;
	high = high < low / 2.0f ? 0.0f : high;
	*grid = two_level_range(low, high, top);
	return true;
}

/* Narrow a row's own range to where its error is least. */
static void narrow(const float *w, const float *importance, size_t count, struct quant_grid *grid)
{
	struct quant_grid full = *grid;
	float best = row_error2(w, importance, count, grid), middle = full.top / 2.0f;
	for (unsigned i = 1; i <= NARROW_STEPS; i++) {
		float keep = 1.0f - 0.05f * (float)i;
		struct quant_grid g = full;
		g.scale = full.scale * keep;
		g.zero = middle + (full.zero - middle) / keep;
		float e = row_error2(w, importance, count, &g);
		if (e < best) {
			best = e;
			*grid = g;
		}
	}
}

bool two_level_fit(const struct two_level_rule *rule, const float *w, size_t stride,
                   const float *importance, size_t rows, size_t count, struct two_level_tile *out,
                   size_t *row)
{
	struct tile_fit f = {.rule = rule, .top = (float)((1u << rule->bits) - 1u)};
	float scale[TWO_LEVEL_ROWS], zero[TWO_LEVEL_ROWS];
	bool used[TWO_LEVEL_ROWS];
	*out = (struct two_level_tile){{{0}}, {0}, {0}, {0}};
	for (*row = 0; *row < rows; ++*row) {
		struct quant_grid own;
		used[*row] = row_range(w + *row * stride, importance + *row * count, count, f.top, &own);
		if (rule->search && rule->bits == 2 && used[*row])
			narrow(w + *row * stride, importance + *row * count, count, &own);
		scale[*row] = own.scale;
		zero[*row] = own.zero;
		if (!isfinite(own.scale) || !isfinite(own.zero))
			return false;
	}
	*row = 0;
	if (!second_fit(scale, used, rows, rule->scale_bits, &f.scale) ||
	    !second_fit(zero, used, rows, rule->zero_bits, &f.zero))
		return false;
	const float level[4] = {f.scale.scale, f.scale.zero, f.zero.scale, f.zero.zero};
	for (size_t i = 0; i < 4; i++)
		out->second_level[i] = f16_of_f32(level[i]);
	for (size_t i = 0; i < rows; i++) {
		float s = second_code(&f.scale, scale[i]), z = second_code(&f.zero, zero[i]);
		if (rule->search || !used[i])
			search_row(&f, w + i * stride, importance + i * count, count, &s, &z);
		out->scale_code[i] = (uint8_t)s;
		out->zero_code[i] = (uint8_t)z;
		out->grid[i] = grid_of(&f, s, z);
	}
	return true;
}
