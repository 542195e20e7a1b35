/*
 * Vector kernels on lanes; agree with kern_vector.c bit for bit.
 *
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"
#include "lanes_exp.h"

#include <math.h>

#define QUANTIZE_VECTORS (PITH_ACT_GROUP / LANE_WIDTH)

/* 32 columns; clamp: to -127 .. 127, where |x * inv| may be larger. */
LANE_INLINE void round_columns(const vf v[QUANTIZE_VECTORS], vf inv, bool clamp, int8_t *q,
                               int32_t sum[2])
{
	vi half[2] = {vi_zero(), vi_zero()};
	for (unsigned i = 0; i < QUANTIZE_VECTORS; i++) {
		vf scaled = vf_mul(v[i], inv);
		if (clamp)
			scaled = vf_min(vf_max(scaled, vf_set1(-127.0f)), vf_set1(127.0f));
		vi n = vi_from_f32(scaled); /* rounds as the mode says: to even */
		vi_store_i8(q + i * LANE_WIDTH, n);
		half[i / LANE_PARTS] = vi_add(half[i / LANE_PARTS], n);
	}
	sum[0] = vi_sum(half[0]);
	sum[1] = vi_sum(half[1]);
}

LANE_INLINE bool quantize_group(const float *x, int8_t *q, float *scale, int32_t sum[2])
{
	vf v[QUANTIZE_VECTORS];
	vi largest = vi_zero();
	for (unsigned i = 0; i < QUANTIZE_VECTORS; i++) {
		v[i] = vf_load(x + i * LANE_WIDTH);
		largest = vi_max(largest, vi_magnitude(v[i]));
	}
	const uint32_t top = (uint32_t)vi_largest(largest);
	if (top >= 0x7f800000u)
		return false;
	const float amax = f32_of_bits(top);
	const bool nothing = amax < 0x1p-100f;
	const vf inv = vf_set1(nothing ? 0.0f : 127.0f / amax);
	*scale = nothing ? 0.0f : amax / 127.0f;
	round_columns(v, inv, false, q, sum);
	return true;
}

bool LANE_NAME(pith_quantize_row)(const float *x, size_t n, float static_scale, int8_t *q,
                                  float *scale, int32_t *sum)
{
	const size_t blocks = (n + PITH_ACT_GROUP - 1) / PITH_ACT_GROUP;
	vi largest = vi_zero();
	for (size_t j = 0; j < blocks * PITH_ACT_GROUP; j += LANE_WIDTH)
		largest = vi_max(largest, vi_magnitude(vf_load(x + j)));
	const uint32_t top = (uint32_t)vi_largest(largest);
	if (top >= 0x7f800000u)
		return false;
	const float amax = f32_of_bits(top);
	const bool nothing = amax < 0x1p-100f;
	float as = nothing ? 0.0f : amax / 127.0f, inv = nothing ? 0.0f : 127.0f / amax;
	if (static_scale != 0.0f) {
		as = static_scale;
		inv = 1.0f / as;
	}
	for (size_t b = 0; b < blocks; b++) {
		vf v[QUANTIZE_VECTORS];
		for (unsigned i = 0; i < QUANTIZE_VECTORS; i++)
			v[i] = vf_load(x + b * PITH_ACT_GROUP + i * LANE_WIDTH);
		round_columns(v, vf_set1(inv), true, q + b * PITH_ACT_GROUP, sum + 2 * b);
		scale[b] = as;
	}
	return true;
}

bool LANE_NAME(pith_quantize)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
	for (size_t b = 0; b < (n + PITH_ACT_GROUP - 1) / PITH_ACT_GROUP; b++)
		if (!quantize_group(x + b * PITH_ACT_GROUP, q + b * PITH_ACT_GROUP, scale + b,
		                    sum + 2 * b))
			return false;
	return true;
}

void LANE_NAME(pith_exp_array)(const float *x, size_t n, float *y)
{
	size_t j = 0;
	for (; j + LANE_WIDTH <= n; j += LANE_WIDTH)
		vf_store(y + j, vf_exp(vf_load(x + j)));
	if (j < n)
		vf_store_part(y + j, vf_exp(vf_load_part(x + j, n - j)), n - j);
}

LANE_INLINE vf silu(vf g, vf u)
{
	vf gate = vf_div(g, vf_add(vf_set1(1.0f), vf_exp(vf_neg(g))));
	return vf_mul(gate, u);
}

void LANE_NAME(pith_silu_mul)(const float *g, const float *u, size_t n, float *h)
{
	size_t j = 0;
	for (; j + LANE_WIDTH <= n; j += LANE_WIDTH)
		vf_store(h + j, silu(vf_load(g + j), vf_load(u + j)));
	if (j < n)
		vf_store_part(h + j, silu(vf_load_part(g + j, n - j), vf_load_part(u + j, n - j)),
		              n - j);
}

void LANE_NAME(pith_add)(float *x, const float *y, size_t n)
{
	size_t j = 0;
	for (; j + LANE_WIDTH <= n; j += LANE_WIDTH)
		vf_store(x + j, vf_add(vf_load(x + j), vf_load(y + j)));
	if (j < n)
		vf_store_part(x + j, vf_add(vf_load_part(x + j, n - j), vf_load_part(y + j, n - j)),
		              n - j);
}

/* dot16(x, x) */
LANE_INLINE float sum_of_squares(const float *x, size_t n)
{
	vf lane[LANE_PARTS];
	for (size_t part = 0; part < LANE_PARTS; part++)
		lane[part] = vf_zero();
	size_t j = 0;
	for (; j + PITH_LANES <= n; j += PITH_LANES)
		for (size_t part = 0; part < LANE_PARTS; part++) {
			vf v = vf_load(x + j + part * LANE_WIDTH);
			lane[part] = vf_fma(v, v, lane[part]);
		}
	for (size_t part = 0; part < LANE_PARTS && j + part * LANE_WIDTH < n; part++) {
		const size_t at = j + part * LANE_WIDTH;
		vf v = vf_load_part(x + at, n - at < LANE_WIDTH ? n - at : LANE_WIDTH);
		lane[part] = vf_fma(v, v, lane[part]);
	}
	return vf_tree(lane);
}

void LANE_NAME(pith_rmsnorm)(const float *x, const float *w, float eps, size_t n, float *y)
{
	const float mean = sum_of_squares(x, n) / (float)n;
	const vf r = vf_set1(1.0f / sqrtf(mean + eps));
	size_t j = 0;
	for (; j + LANE_WIDTH <= n; j += LANE_WIDTH)
		vf_store(y + j, vf_mul(vf_mul(vf_load(x + j), r), vf_load(w + j)));
	if (j < n) {
		vf scaled = vf_mul(vf_load_part(x + j, n - j), r);
		vf_store_part(y + j, vf_mul(scaled, vf_load_part(w + j, n - j)), n - j);
	}
}

/* 'count' pairs (low[i], high[i]) by the angles c[i], s[i]; count <= LANE_WIDTH. */
LANE_INLINE void rotate_part(float *low, float *high, const float *c, const float *s, size_t count)
{
	vf a = vf_load_part(low, count), b = vf_load_part(high, count);
	vf cosine = vf_load_part(c, count), sine = vf_load_part(s, count);
	vf_store_part(low, vf_fms(a, cosine, vf_mul(b, sine)), count);
	vf_store_part(high, vf_fma(b, cosine, vf_mul(a, sine)), count);
}

void LANE_NAME(pith_rotate)(float *x, size_t head_count, size_t d, const float *cosine,
                            const float *sine)
{
	const size_t half = d / 2;
	for (size_t h = 0; h < head_count; h++) {
		float *low = x + h * d, *high = low + half;
		size_t i = 0;
		for (; i + LANE_WIDTH <= half; i += LANE_WIDTH) {
			vf a = vf_load(low + i), b = vf_load(high + i);
			vf c = vf_load(cosine + i), s = vf_load(sine + i);
			vf_store(low + i, vf_fms(a, c, vf_mul(b, s)));
			vf_store(high + i, vf_fma(b, c, vf_mul(a, s)));
		}
		if (i < half)
			rotate_part(low + i, high + i, cosine + i, sine + i, half - i);
	}
}
