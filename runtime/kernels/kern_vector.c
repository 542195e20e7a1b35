/*
 * Reference kernels on vectors: activation quantization, exp, RMSNorm, the SiLU gate,
 * the residual sum and the rotation.  Spec: spec/numerics.md 4 to 7.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/* Adding and subtracting it rounds |v| < 2^22 to an integer, ties to even. */
static const float round_magic = 12582912.0f;

/* Two roundings that no compiler may cancel: -ffast-math is banned for this reason too. */
static float round_even(float v)
{
	float shifted = v + round_magic;
	return shifted - round_magic;
}

/* max |x[j]|; false: a value is not finite. */
static bool largest_value(const float *x, size_t n, float *amax)
{
	uint32_t largest =
	    0; /* bits of |x| order as integers; those of NaN and infinity are on top */
	for (size_t j = 0; j < n; j++) {
		uint32_t magnitude = bits_of_f32(x[j]) & 0x7fffffffu;
		if (magnitude > largest)
			largest = magnitude;
	}
	*amax = f32_of_bits(largest);
	return largest < 0x7f800000u;
}

/* The scale of a group and its inverse, both 0 where all q are. */
static void scale_of_group(float amax, float *scale, float *inv)
{
	// spec numerics.4: "If amax < 2^-100, all q are 0 and as = 0."
	bool nothing = amax < 0x1p-100f;
	*inv = nothing ? 0.0f : 127.0f / amax;
	*scale = nothing ? 0.0f : amax / 127.0f;
}

/* 32 columns.  The clamp is int8_static's; under the other rules it changes nothing. */
static void round_columns(const float *x, float inv, int8_t *q, int32_t sum[2])
{
	sum[0] = sum[1] = 0;
	for (size_t j = 0; j < PITH_ACT_GROUP; j++) {
		float scaled = x[j] * inv;
		scaled = scaled < -127.0f ? -127.0f : scaled > 127.0f ? 127.0f : scaled;
		int v = (int)round_even(scaled);
		q[j] = (int8_t)v;
		sum[j / 16] += v;
	}
}

static bool quantize_group(const float *x, int8_t *q, float *scale, int32_t sum[2])
{
	float amax, inv;
	if (!largest_value(x, PITH_ACT_GROUP, &amax))
		return false;
	scale_of_group(amax, scale, &inv);
	round_columns(x, inv, q, sum);
	return true;
}

bool pith_quantize_row_reference(const float *x, size_t n, float static_scale, int8_t *q,
                                 float *scale, int32_t *sum)
{
	float amax, inv, as;
	if (!largest_value(x, n, &amax))
		return false;
	scale_of_group(amax, &as, &inv);
	if (static_scale != 0.0f) {
		// spec numerics.4: "int8_static: as = activation_scale, inv = fl(1 / as)"
		as = static_scale;
		inv = 1.0f / as;
	}
	for (size_t b = 0; b < (n + PITH_ACT_GROUP - 1) / PITH_ACT_GROUP; b++) {
		round_columns(x + b * PITH_ACT_GROUP, inv, q + b * PITH_ACT_GROUP, sum + 2 * b);
		scale[b] = as;
	}
	return true;
}

bool pith_quantize_reference(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
	bool finite = true;
	for (size_t b = 0; b < (n + PITH_ACT_GROUP - 1) / PITH_ACT_GROUP; b++)
		finite &= quantize_group(x + b * PITH_ACT_GROUP, q + b * PITH_ACT_GROUP, scale + b,
		                         sum + 2 * b);
	return finite;
}

float pith_exp_reference(float x)
{
	if (x != x)
		return x;
	if (x < -87.33654f)
		return 0.0f;
	if (x > 88.0f)
		x = 88.0f;
	float n = round_even(x * 1.44269504f);
	float r = fmaf(-n, 0.693145752f, x);
	r = fmaf(-n, 1.42860677e-6f, r);
	float p = 1.98756915e-4f;
	p = fmaf(p, r, 1.39819994e-3f);
	p = fmaf(p, r, 8.33345205e-3f);
	p = fmaf(p, r, 4.16657962e-2f);
	p = fmaf(p, r, 1.66666657e-1f);
	p = fmaf(p, r, 0.5f);
	float square = r * r;
	p = fmaf(p, square, r);
	p = p + 1.0f;
	return p * f32_of_bits((uint32_t)((int)n + 127) << 23);
}

void pith_exp_array_reference(const float *x, size_t n, float *y)
{
	for (size_t j = 0; j < n; j++)
		y[j] = pith_exp_reference(x[j]);
}

void pith_rmsnorm_reference(const float *x, const float *w, float eps, size_t n, float *y)
{
	float lane[PITH_LANES] = {0};
	for (size_t j = 0; j < pith_round_up(n, PITH_LANES); j++) {
		float v = j < n ? x[j] : 0.0f;
		lane[j % PITH_LANES] = fmaf(v, v, lane[j % PITH_LANES]);
	}
	// spec numerics.6: "m = fl(ss / f32(n)); r = fl(1 / fl(sqrt(fl(m + eps))))"
	float mean = pith_lane_tree(lane) / (float)n;
	float root = sqrtf(mean + eps);
	float r = 1.0f / root;
	for (size_t j = 0; j < n; j++) {
		float scaled = x[j] * r;
		y[j] = scaled * w[j];
	}
}

void pith_silu_mul_reference(const float *g, const float *u, size_t n, float *h)
{
	for (size_t j = 0; j < n; j++) {
		float gate = g[j] / (1.0f + pith_exp_reference(-g[j]));
		h[j] = gate * u[j];
	}
}

void pith_add_reference(float *x, const float *y, size_t n)
{
	for (size_t j = 0; j < n; j++)
		x[j] = x[j] + y[j];
}

void pith_rotate_reference(float *x, size_t head_count, size_t d, const float *cosine,
                           const float *sine)
{
	size_t half = d / 2;
	for (size_t h = 0; h < head_count; h++) {
		float *low = x + h * d, *high = low + half;
		for (size_t i = 0; i < half; i++) {
			float a = low[i], b = high[i];
			float bs = b * sine[i], as = a * sine[i];
			low[i] = fmaf(a, cosine[i], -bs);
			high[i] = fmaf(b, cosine[i], as);
		}
	}
}
