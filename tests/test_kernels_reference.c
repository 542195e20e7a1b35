/*
 * The reference kernels against what they must mean: sums in f64 over the packers' source arrays,
 * with the error that the number of roundings allows, and small cases worked by hand
 * from spec/numerics.md, where the order shows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct pith_kernels reference(void)
{
	struct pith_kernels set;
	pith_set_reference(&set);
	return set;
}

/* ---- terms ---- */

enum { M = 21, N = 201, K = 3, LDY = 32 };

/*
 * Bind 'packed', apply it to 'act' and compare with Σ w[i][j] * x[t][j] in f64.  w: [M, N];
 * x: [K, N] as the kernel sees it.  Every one of 'roundings' steps may err by half an
 * ulp of what has been added up so far, which is at most Σ |w x|.
 */
static void compare_apply(struct pith_packed_term *packed, const struct pith_act *act,
                          const double *w, const double *x, double roundings)
{
	struct pith_term term;
	assert_int_equal(pith_packed_bind(packed, M, N, &term, NULL), PITH_OK);
	float y[K * LDY];
	struct pith_kernels set = reference();
	set.apply[packed->kind](&term, act, 0, term.tiles, false, y, LDY);
	for (size_t t = 0; t < K; t++)
		for (size_t i = 0; i < LDY; i++) {
			double sum = 0, size = 0;
			for (size_t j = 0; i < M && j < N; j++) {
				sum += w[i * N + j] * x[t * N + j];
				size += fabs(w[i * N + j] * x[t * N + j]);
			}
			double error = fabs((double)y[t * LDY + i] - sum);
			if (!(error <= roundings * 0x1p-24 * size))
				fail_msg("token %zu row %zu is %.9g, not %.9g (size %g)", t, i,
				         (double)y[t * LDY + i], sum, size);
		}
	/* add: what was there counts */
	float twice[K * LDY];
	memcpy(twice, y, sizeof(y));
	set.apply[packed->kind](&term, act, 0, term.tiles, true, twice, LDY);
	for (size_t i = 0; i < K * LDY; i++)
		assert_true(twice[i] == 2 * y[i]);
	pith_packed_free(packed);
}

static void exact_x(const struct pith_act *act, double *x)
{
	for (size_t t = 0; t < K; t++)
		for (size_t j = 0; j < N; j++)
			x[t * N + j] = (double)act->x[t * act->ldx + j];
}

/* What int8 activations stand for, and that they are near the floats they came from. */
static void quantized_x(const struct pith_act *act, double *x)
{
	for (size_t t = 0; t < K; t++)
		for (size_t j = 0; j < N; j++) {
			double scale = (double)act->scale[t * act->lds + j / 32];
			x[t * N + j] = act->q[t * act->ldq + j] * scale;
			double off = fabs(x[t * N + j] - (double)act->x[t * act->ldx + j]);
			assert_true(off <= 0.50001 * scale);
		}
}

static void dense_meaning(void **unused)
{
	(void)unused;
	struct rng rng = {11};
	static float values[M * N];
	static double w[M * N], x[K * N];
	for (uint32_t dtype = PITH_DTYPE_F32; dtype <= PITH_DTYPE_BF16; dtype++) {
		struct arena arena = {0};
		struct pith_act act;
		struct pith_packed_term packed;
		for (size_t i = 0; i < M * N; i++) {
			values[i] = rng_unit(&rng);
			if (dtype == PITH_DTYPE_F16)
				values[i] = f32_of_f16(f16_of_f32(values[i]));
			if (dtype == PITH_DTYPE_BF16)
				values[i] = f32_of_bf16(bf16_of_f32(values[i]));
			w[i] = (double)values[i];
		}
		make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
		exact_x(&act, x);
		assert_int_equal(pith_dense_pack(values, M, N, dtype, &packed, NULL), PITH_OK);
		compare_apply(&packed, &act, w, x, N / 16 + 1 + 4);
		arena_free(&arena);
	}
}

/* Source arrays of an affine matrix and the matrix they mean. */
struct affine_arrays {
	uint8_t codes[M * N], zeros[M * N], scale_codes[M * N], zero_codes[M * N];
	uint16_t scales[M * N], real_zeros[M * N], second_level[2 * N * 4];
	double w[M * N];
};

static double half_value(uint16_t h) { return (double)f32_of_f16(h); }

/* s and z of (row, group) by the words of spec/terms/affine.md, in f64. */
static void source_scale(const struct affine_arrays *a, const struct pith_affine_source *s,
                         size_t groups, size_t row, size_t group, double *scale, double *zero)
{
	size_t at = row * groups + group;
	const uint16_t *level = a->second_level + (row / 16 * groups + group) * 4;
	*scale = half_value(a->scales[at]);
	*zero = 1u << (s->bits - 1);
	if (s->zero_mode == 1)
		*zero = a->zeros[at];
	if (s->zero_mode == 2)
		*zero = half_value(a->real_zeros[at]);
	if (s->zero_mode == 3) {
		*scale = (a->scale_codes[at] - half_value(level[1])) * half_value(level[0]);
		*zero = (a->zero_codes[at] - half_value(level[3])) * half_value(level[2]);
	}
}

static void fill_affine(struct affine_arrays *a, const struct pith_affine_source *s, size_t width,
                        size_t groups, struct rng *rng)
{
	for (size_t i = 0; i < M * N; i++) {
		a->codes[i] = (uint8_t)rng_below(rng, (size_t)1 << s->bits);
		a->zeros[i] = (uint8_t)rng_below(rng, (size_t)1 << s->bits);
		a->scale_codes[i] = (uint8_t)rng_below(rng, (size_t)1 << s->scale_bits);
		a->zero_codes[i] = (uint8_t)rng_below(rng, (size_t)1 << s->zero_bits);
		a->scales[i] = f16_of_f32(rng_unit(rng));
		a->real_zeros[i] = f16_of_f32(rng_unit(rng) * 4.0f);
	}
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(a->second_level); i++)
		a->second_level[i] = f16_of_f32(rng_unit(rng) * (i % 2 ? 3.0f : 0.1f));
	for (size_t i = 0; i < M; i++)
		for (size_t j = 0; j < N; j++) {
			double scale, zero;
			source_scale(a, s, groups, i, j / width, &scale, &zero);
			a->w[i * N + j] = scale * (a->codes[i * N + j] - zero);
		}
}

/* f64 size of what a real zero-point cancels: |s| (|c| + |z|) |x| instead of |w x|. */
static double cancellation(const struct pith_affine_source *s)
{
	return s->zero_mode >= 2 ? 200.0 : 1.0;
}

static void affine_meaning(void **unused)
{
	(void)unused;
	static const size_t group_list[] = {0, 16, 32, 64, 96, 128};
	static struct affine_arrays a;
	static double x[K * N];
	struct rng rng = {12};
	for (uint32_t bits = 1; bits <= 8; bits++)
		for (uint32_t zero_mode = 0; zero_mode <= 3; zero_mode++)
			for (size_t g = 0; g < PITH_ARRAY_LENGTH(group_list); g++) {
				struct arena arena = {0};
				struct pith_act act;
				struct pith_packed_term packed;
				bool two = zero_mode == 3;
				struct pith_affine_source s = {.bits = bits,
				                               .scale_mode = two,
				                               .zero_mode = zero_mode,
				                               .scale_bits = two ? bits : 0,
				                               .zero_bits = two ? 9 - bits : 0,
				                               .group_size = group_list[g],
				                               .codes = a.codes,
				                               .scales = a.scales,
				                               .zeros = zero_mode == 1
				                                            ? (void *)a.zeros
				                                            : (void *)a.real_zeros,
				                               .scale_codes = a.scale_codes,
				                               .zero_codes = a.zero_codes,
				                               .second_level = a.second_level};
				size_t width = s.group_size ? s.group_size : N;
				fill_affine(&a, &s, width, (N + width - 1) / width, &rng);
				make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
				quantized_x(&act, x);
				assert_int_equal(pith_affine_pack(&s, M, N, &packed, NULL),
				                 PITH_OK);
				/* at most 13 runs of three roundings, two for s, z */
				compare_apply(&packed, &act, a.w, x, 41 * cancellation(&s));
				arena_free(&arena);
			}
}

/* Source arrays of a codebook matrix in f64: w = s * e, from the words of spec/terms/codebook.md. */
static void codebook_meaning(void **unused)
{
	(void)unused;
	static uint8_t codes[M * N], scale_codes[M * N];
	static uint16_t scales[M * N], level[4];
	static int8_t small[M * 256];
	static float large[M * 256];
	static double w[M * N], x[K * N];
	static const uint32_t scale_modes[] = {0, 2, 3};
	static const size_t group_list[] = {0, 16, 32, 96};
	struct rng rng = {17};
	for (size_t i = 0; i < 7 * 3 * 4 * 4; i++) {
		struct arena arena = {0};
		struct pith_act act;
		struct pith_packed_term packed;
		struct pith_codebook_source s = {.bits = 2 + (uint32_t)i % 7,
		                                 .scale_mode = scale_modes[i / 7 % 3],
		                                 .codes = codes,
		                                 .scales = scales,
		                                 .scale_codes = scale_codes,
		                                 .second_level = level};
		s.group_size = s.scale_mode == 3 ? 0 : group_list[i / 21 % 4];
		s.real = s.scale_mode == 3 || i / 84 % 2;
		s.per_row = i / 168;
		s.entries = s.real ? (void *)large : (void *)small;
		size_t count = (size_t)1 << s.bits, width = s.group_size ? s.group_size : N;
		size_t groups = (N + width - 1) / width;
		for (size_t j = 0; j < M * 256; j++) {
			small[j] = (int8_t)rng_below(&rng, 256);
			large[j] = rng_unit(&rng);
		}
		for (size_t j = 0; j < 4; j++)
			level[j] = f16_of_f32(rng_unit(&rng) * (j % 2 ? 3.0f : 0.1f));
		for (size_t j = 0; j < M * N; j++) {
			codes[j] = (uint8_t)rng_below(&rng, count);
			scale_codes[j] = (uint8_t)rng_below(&rng, 256);
			scales[j] = f16_of_f32(rng_unit(&rng));
		}
		for (size_t j = 0; j < M * N; j++) {
			size_t row = j / N, at = row * groups + j % N / width;
			size_t e = (s.per_row ? row * count : 0) + codes[j];
			double scale = s.scale_mode == 3 ? 1 : half_value(scales[at]);
			if (s.scale_mode == 2)
				scale = (scale_codes[at] - half_value(level[row / 16 * 2 + 1])) *
				        half_value(level[row / 16 * 2]);
			w[j] = scale * (s.real ? (double)large[e] : small[e]);
		}
		make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
		if (s.real)
			exact_x(&act, x);
		else
			quantized_x(&act, x);
		assert_int_equal(pith_codebook_pack(&s, M, N, &packed, NULL), PITH_OK);
		compare_apply(&packed, &act, w, x, s.real ? N + 3 : 30);
		arena_free(&arena);
	}
}

static void ternary_meaning(void **unused)
{
	(void)unused;
	static int8_t trits[M * N];
	static float scales[M];
	static double w[M * N], x[K * N];
	struct rng rng = {18};
	struct arena arena = {0};
	struct pith_act act;
	struct pith_packed_term packed;
	for (size_t i = 0; i < M; i++)
		scales[i] = rng_unit(&rng);
	for (size_t i = 0; i < M * N; i++) {
		trits[i] = (int8_t)((int)rng_below(&rng, 3) - 1);
		w[i] = (double)scales[i / N] * trits[i];
	}
	make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
	quantized_x(&act, x);
	assert_int_equal(pith_ternary_pack(trits, scales, M, N, &packed, NULL), PITH_OK);
	compare_apply(&packed, &act, w, x, 16);
	arena_free(&arena);
}

static void sparse_meaning(void **unused)
{
	(void)unused;
	struct rng rng = {13};
	struct arena arena = {0};
	struct pith_act act;
	struct pith_packed_term packed;
	static struct pith_sparse_source_entry entries[M * N];
	static double w[M * N], x[K * N];
	size_t count = 0;
	for (uint32_t i = 0; i < M * N; i++) {
		w[i] = 0;
		if (rng_below(&rng, 10) != 0)
			continue;
		entries[count] =
		    (struct pith_sparse_source_entry){i / N, i % N, f16_of_f32(rng_unit(&rng))};
		w[i] = half_value(entries[count++].value);
	}
	make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
	exact_x(&act, x);
	assert_int_equal(pith_sparse_pack(entries, count, M, N, &packed, NULL), PITH_OK);
	compare_apply(&packed, &act, w, x, 60);
	arena_free(&arena);
}

static void columns_meaning(void **unused)
{
	(void)unused;
	static const uint32_t index[] = {0, 1, 16, 31, 77, 200};
	enum { C = 6 };
	struct rng rng = {14};
	static float values[M * C];
	static double w[M * N], x[K * N];
	for (int pass = 0; pass < 2; pass++) {
		struct arena arena = {0};
		struct pith_act act;
		struct pith_packed_term packed;
		memset(w, 0, sizeof(w));
		for (size_t i = 0; i < M * C; i++) {
			float v = rng_unit(&rng);
			values[i] = pass ? f32_of_f16(f16_of_f32(v)) : f32_of_bf16(bf16_of_f32(v));
			w[i / C * N + index[i % C]] = (double)values[i];
		}
		make_act(&act, &arena, &rng, FILL_RANDOM, K, N);
		exact_x(&act, x);
		assert_int_equal(pith_columns_pack(index, values, C, M, N,
		                                   pass ? PITH_DTYPE_F16 : PITH_DTYPE_BF16, &packed,
		                                   NULL),
		                 PITH_OK);
		compare_apply(&packed, &act, w, x, C);
		arena_free(&arena);
	}
}

/* ---- worked by hand ---- */

/* Section 1: lanes, then the tree.  In any plainer order the ones would be lost or kept. */
static void dense_order(void **unused)
{
	(void)unused;
	/* lane 0: 2^24 (column 0) + 1 (column 16) = 2^24: the tie goes to even.  Lane 8: 1 + 1 = 2
	 */
	float w[32] = {0}, one[32];
	w[0] = 0x1p24f;
	w[16] = w[8] = w[24] = 1.0f;
	/* a[1] = L1 + L9 = -2^25 + 2, c[1] = b[1] + b[3]: 1 is added to b[3] = 2^25 first and lost
	 */
	w[1] = -0x1p25f;
	w[9] = 2.0f;
	w[3] = 0x1p25f;
	w[7] = 1.0f;
	for (size_t i = 0; i < 32; i++)
		one[i] = 1.0f;
	struct pith_term term;
	make_shape(&term, 1, 32);
	term.u.dense = (struct pith_dense){(const uint8_t *)w, PITH_DTYPE_F32, 4};
	struct pith_act act = {.k = 1, .n = 32, .x = one, .ldx = 32};
	float y[16];
	struct pith_kernels set = reference();
	set.apply[PITH_KIND_DENSE](&term, &act, 0, 1, false, y, 16);
	/* a[0] = 2^24 + 2; a[1] = -2^25 + 2; a[3] = 2^25, a[7] = 1, b[3] = 2^25 (tie to even);
	   c[1] = b[1] + b[3] = 2; c[0] = 2^24 + 2; sum = 2^24 + 4 */
	assert_true(y[0] == 0x1p24f + 4.0f);
	for (size_t i = 1; i < 16; i++)
		assert_int_equal(bits_of_f32(y[i]), 0);
}

/* One row, 2 bits, two groups of 32 of which the second has one column. */
static void affine_by_hand(void **unused)
{
	(void)unused;
	uint8_t codes[33], zeros[2] = {1, 3};
	uint16_t scales[2] = {0x3c00, 0xc000}; /* 1, -2 */
	for (size_t j = 0; j < 33; j++)
		codes[j] = (uint8_t)(j % 4);
	struct pith_affine_source s = {.bits = 2,
	                               .zero_mode = 1,
	                               .group_size = 32,
	                               .codes = codes,
	                               .scales = scales,
	                               .zeros = zeros};
	struct pith_packed_term packed;
	struct pith_term term;
	assert_int_equal(pith_affine_pack(&s, 1, 33, &packed, NULL), PITH_OK);
	assert_int_equal(pith_packed_bind(&packed, 1, 33, &term, NULL), PITH_OK);
	int8_t q[64] = {0};
	for (size_t j = 0; j < 33; j++)
		q[j] = (int8_t)(j < 4 ? 10 : 1);
	q[32] = -7;
	float as[2] = {0.5f, 0.25f}, y[16];
	int32_t sum[4] = {52, 16, -7, 0};
	struct pith_act act = {
	    .k = 1, .n = 33, .q = q, .ldq = 64, .scale = as, .lds = 2, .sum = sum};
	struct pith_kernels set = reference();
	set.apply[PITH_KIND_AFFINE](&term, &act, 0, 1, false, y, 16);
	/* c - 1 = -1 0 1 2 repeating: 10 * 2 + 7 * 2 = 34, times 1 * 0.5; then (0 - 3) * -7 = 21,
	 * times -2 * 0.25 */
	assert_true(y[0] == 17.0f - 10.5f);
	pith_packed_free(&packed);
}

static void quantize_by_hand(void **unused)
{
	(void)unused;
	float x[64] = {254.0f, -254.0f, 1.0f, 3.0f, -1.0f, 5.0f, 2.0f};
	x[20] = -8.0f;
	x[32] = 0x1.fffffep-101f; /* just below 2^-100 */
	int8_t q[64];
	float scale[2];
	int32_t sum[4];
	struct pith_kernels set = reference();
	assert_true(set.quantize(x, 33, q, scale, sum));
	/* 0.5, 1.5, -0.5, 2.5: ties to even */
	static const int8_t want[7] = {127, -127, 0, 2, 0, 2, 1};
	assert_memory_equal(q, want, 7);
	assert_int_equal(q[20], -4);
	assert_true(scale[0] == 2.0f && scale[1] == 0.0f);
	assert_int_equal(q[32], 0);
	static const int32_t sums[4] = {5, -4, 0, 0};
	assert_memory_equal(sum, sums, sizeof(sums));
	x[32] = 0x1p-100f;
	assert_true(set.quantize(x, 33, q, scale, sum));
	assert_int_equal(q[32], 127);
	assert_true(scale[1] == 0x1p-100f / 127.0f);
	x[63] = f32_of_bits(0x7f800000u);
	assert_false(set.quantize(x, 64, q, scale, sum));
}

/* ---- vectors ---- */

static void exp_accuracy(void **unused)
{
	(void)unused;
	struct pith_kernels set = reference();
	const float infinity = f32_of_bits(0x7f800000u);
	float x[6] = {0.0f, -infinity, infinity, 200.0f, 88.0f, -87.33655f}, y[6];
	set.exp_array(x, 6, y);
	assert_int_equal(bits_of_f32(y[0]), 0x3f800000);
	assert_int_equal(bits_of_f32(y[1]), 0);
	assert_true(y[2] == y[4] && y[3] == y[4]);
	assert_int_equal(bits_of_f32(y[5]), 0);
	double worst = 0;
	for (float v = -87.0f; v < 88.0f; v += 0.00137f) {
		float got;
		set.exp_array(&v, 1, &got);
		double error = fabs((double)got / exp((double)v) - 1);
		worst = error > worst ? error : worst;
	}
	assert_true(worst < 1.5 * 0x1p-23); /* measured: 0.6 of an ulp of 2^-23 */
}

static void vector_meaning(void **unused)
{
	(void)unused;
	enum { COUNT = 77 };
	struct rng rng = {15};
	struct pith_kernels set = reference();
	float x[COUNT], w[COUNT], y[COUNT];
	double squares = 0;
	for (size_t i = 0; i < COUNT; i++) {
		x[i] = rng_unit(&rng) * 4.0f;
		w[i] = rng_unit(&rng);
		squares += (double)x[i] * (double)x[i];
	}
	/* a large eps, so that leaving it out would show */
	set.rmsnorm(x, w, 0.5f, COUNT, y);
	double r = 1 / sqrt(squares / COUNT + 0.5);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(fabs((double)y[i] - (double)x[i] * r * (double)w[i]) <=
		            10 * 0x1p-24 * fabs((double)y[i]));
	set.silu_mul(x, w, COUNT, y);
	for (size_t i = 0; i < COUNT; i++) {
		double want = (double)x[i] / (1 + exp(-(double)x[i])) * (double)w[i];
		assert_true(fabs((double)y[i] - want) <= 6 * 0x1p-24 * fabs(want));
	}
	memcpy(y, x, sizeof(y));
	set.add(y, w, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(y[i] == x[i] + w[i]);
}

static void rotate_meaning(void **unused)
{
	(void)unused;
	struct pith_kernels set = reference();
	/* two heads of d = 4: pairs are (0, 2) and (1, 3); a quarter turn and none */
	float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, c[2] = {0, 1}, s[2] = {1, 0};
	set.rotate(x, 2, 4, c, s);
	static const float want[8] = {-3, 2, 1, 4, -7, 6, 5, 8};
	assert_memory_equal(x, want, sizeof(want));
}

/* Softmax of the scores in f64; what a type rounds away is within its bound. */
static void attention_meaning(void **unused)
{
	(void)unused;
	enum { G = 2, D = 45, LAST = 70 };
	static const double bounds[] = {2e-6, 1.5e-3, 1e-2};
	struct rng rng = {16};
	struct pith_kernels set = reference();
	static float q[G * D], keys[(LAST + 1) * D], values[(LAST + 1) * D], out[G * D];
	for (size_t i = 0; i < G * D; i++)
		q[i] = rng_unit(&rng);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(keys); i++) {
		keys[i] = rng_unit(&rng);
		values[i] = rng_unit(&rng);
	}
	static const size_t first_list[] = {0, 31, 32, 40, 70};
	for (unsigned type = 0; type < PITH_KV_TYPE_COUNT; type++)
	for (size_t f = 0; f < PITH_ARRAY_LENGTH(first_list); f++) {
		static float cache[2][3 * D * 32], scale[2][3 * 2 * 32];
		struct pith_kv kv = {cache[0], cache[1], scale[0], scale[1]};
		struct pith_query query[G];
		double largest = 0;
		for (size_t h = 0; h < G; h++)
			query[h] = (struct pith_query){q + h * D, out + h * D, first_list[f], LAST};
		assert_true(set.append[type](&kv, D, 0, LAST + 1, keys, D, values, D));
		set.attention[type](&kv, D, query, G, 0.5f);
		for (size_t h = 0; h < G; h++) {
			double sum = 0, o[D] = {0};
			for (size_t j = first_list[f]; j <= LAST; j++) {
				double score = 0;
				for (size_t i = 0; i < D; i++)
					score += (double)q[h * D + i] * (double)keys[j * D + i];
				double p = exp(score * 0.5);
				sum += p;
				for (size_t i = 0; i < D; i++)
					o[i] += p * (double)values[j * D + i];
			}
			for (size_t i = 0; i < D; i++)
				largest = fmax(largest, fabs((double)out[h * D + i] - o[i] / sum));
		}
		assert_true(largest < bounds[type]);
		/* and it does round: the types are not one */
		assert_true(type == PITH_KV_F32 || largest > bounds[type] / 100);
	}
}

/* numerics.md 7, i8, worked by hand: one position whose weight is 1, so the output is the value. */
static void cache_by_hand(void **unused)
{
	(void)unused;
	struct pith_kernels set = reference();
	float value[34] = {[0] = 127, [1] = -63.4f, [2] = 0.5f, [3] = 1.5f, [32] = 2, [33] = -1};
	static const float want[] = {127, -63, 0, 2};
	uint8_t memory[2][32 * 34 * 4];
	float scale[2][2 * 32], q[34] = {0}, out[34];
	struct pith_kv kv = {memory[0], memory[1], scale[0], scale[1]};
	assert_true(set.append[PITH_KV_I8](&kv, 34, 0, 1, value, 34, value, 34));
	set.attention[PITH_KV_I8](&kv, 34, &(struct pith_query){q, out, 0, 0}, 1, 1.0f);
	for (size_t i = 0; i < 4; i++)
		assert_true(out[i] == want[i]);
	assert_true(out[32] == (2.0f / 127.0f) * 127.0f && out[33] == (2.0f / 127.0f) * -64.0f);
	/* binary16: 2049 is a tie and goes to 2048, 2^-24 stays */
	float half[2] = {2049, 0x1p-24f};
	assert_true(set.append[PITH_KV_F16](&kv, 2, 0, 1, half, 2, half, 2));
	set.attention[PITH_KV_F16](&kv, 2, &(struct pith_query){q, out, 0, 0}, 1, 1.0f);
	assert_true(out[0] == 2048 && out[1] == 0x1p-24f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(dense_meaning),     cmocka_unit_test(affine_meaning),
	    cmocka_unit_test(codebook_meaning),  cmocka_unit_test(ternary_meaning),
	    cmocka_unit_test(sparse_meaning),    cmocka_unit_test(columns_meaning),
	    cmocka_unit_test(dense_order),       cmocka_unit_test(affine_by_hand),
	    cmocka_unit_test(quantize_by_hand),  cmocka_unit_test(exp_accuracy),
	    cmocka_unit_test(vector_meaning),    cmocka_unit_test(rotate_meaning),
	    cmocka_unit_test(attention_meaning), cmocka_unit_test(cache_by_hand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
