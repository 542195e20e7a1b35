/*
 * Pruners and lorc against masks by sorting and a solve in f64 that follows the paper's formulas on the
 * inverse Hessian itself, without its Cholesky factor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "bytes.h"
#include "oracle_solve.h"
#include "quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { M = 20, N = 96 };

static float weights[M * N], hessian[N * N];

static double unit(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (double)(*state >> 11) * 0x1p-52 - 1;
}

/* Weights, and the Hessian of correlated inputs whose columns differ in size. */
static int fill(void **unused)
{
	static double x[300][N];
	uint64_t state = 7;
	(void)unused;
	for (size_t i = 0; i < M * N; i++)
		weights[i] = (float)unit(&state);
	for (size_t k = 0; k < 300; k++)
		for (size_t j = 0; j < N; j++)
			x[k][j] = unit(&state) * (1 + (double)(j % 7)) + (j > 0 ? 0.6 * x[k][j - 1] : 0);
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < N; j++) {
			double sum = 0;
			for (size_t k = 0; k < 300; k++)
				sum += x[k][i] * x[k][j];
			hessian[i * N + j] = (float)(2 * sum / 300);
		}
	return 0;
}

/* The scheme's matrix and tr(E H E^T). */
static double run(const char *text, const float *from, float *w)
{
	struct calibration_inputs in = {.n = N, .token_count = 300, .hessian = hessian};
	struct source_tensor tensor = {.name = "w"};
	struct quant_job job = {.tensor = &tensor, .m = M, .n = N, .weights = from, .inputs = &in,
	                        .threads = 2};
	struct scheme s;
	struct quant_result out;
	struct pith_error err = {0};
	if (scheme_parse(text, &s, &err) != PITH_OK || scheme_run(&s, &job, &out, &err) != PITH_OK)
		fail_msg("%s: %s", text, err.msg);
	assert_int_equal(quant_result_unpack(&out, M, N, w, &err), PITH_OK);
	double proxy = out.proxy2;
	quant_result_free(&out);
	return proxy;
}

static size_t lower(const double *score, size_t count, size_t j)
{
	size_t before = 0;
	for (size_t i = 0; i < count; i++)
		before += score[i] < score[j] || (score[i] == score[j] && i < j);
	return before;
}

static void wanda_drops_the_lowest_of_each_row(void **unused)
{
	static float w[M * N];
	(void)unused;
	run("wanda:60%", weights, w);
	for (size_t i = 0; i < M; i++) {
		double score[N];
		for (size_t j = 0; j < N; j++)
			score[j] = fabs((double)weights[i * N + j]) * sqrt((double)hessian[j * N + j]);
		for (size_t j = 0; j < N; j++) {
			bool kept = lower(score, N, j) >= 57; /* int(96 * 0.6) */
			float half = f32_of_f16(f16_of_f32(weights[i * N + j]));
			assert_true(w[i * N + j] == (kept ? half : 0));
		}
	}
}

/* Optimal brain surgeon, column by column, 2:4: remove a column from the inverse when it is done. */
static void sparsegpt_is_the_surgeon(void **unused)
{
	static double inverse[N][N], v[M][N];
	static bool drop[M][N];
	static float w[M * N];
	double mean = 0;
	(void)unused;
	run("sparsegpt:2:4,block=32", weights, w);
	for (size_t j = 0; j < N; j++)
		mean += (double)hessian[j * N + j] / N;
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < N; j++)
			inverse[i][j] = (double)hessian[i * N + j] + (i == j ? 0.01 * mean : 0);
	oracle_invert(&inverse[0][0], N);
	for (size_t i = 0; i < M * N; i++)
		v[i / N][i % N] = (double)weights[i];
	for (size_t p = 0; p < N; p++) {
		/* U_jj^2 of a later column is its entry when those between have been removed */
		double d[4], a[4][4];
		for (size_t i = 0; p % 4 == 0 && i < 16; i++)
			a[i / 4][i % 4] = inverse[p + i / 4][p + i % 4];
		for (size_t k = 0; p % 4 == 0 && k < 4; k++) {
			d[k] = a[k][k];
			for (size_t i = k + 1; i < 4; i++)
				for (size_t j = k + 1; j < 4; j++)
					a[i][j] -= a[i][k] * a[k][j] / a[k][k];
		}
		for (size_t i = 0; i < M; i++) {
			double score[4];
			for (size_t k = 0; p % 4 == 0 && k < 4; k++)
				score[k] = v[i][p + k] * v[i][p + k] / d[k];
			for (size_t k = 0; p % 4 == 0 && k < 4; k++)
				drop[i][p + k] = lower(score, 4, k) < 2;
			double e = drop[i][p] ? v[i][p] / inverse[p][p] : 0;
			for (size_t j = p; j < N; j++)
				v[i][j] -= e * inverse[p][j];
		}
		double done[N], pivot = inverse[p][p];
		memcpy(done, inverse[p], sizeof(done));
		for (size_t i = p; i < N; i++)
			for (size_t j = p; j < N; j++)
				inverse[i][j] -= done[i] * done[j] / pivot;
	}
	for (size_t i = 0; i < M; i++)
		for (size_t j = 0; j < N; j++) {
			assert_true((w[i * N + j] == 0) == drop[i][j]);
			/* halves, whose rounding is repaired too */
			assert_true(fabs((double)w[i * N + j] - v[i][j]) < 0.01);
		}
}

static void better_methods_err_less(void **unused)
{
	static float w[M * N];
	static const char *const levels[] = {"50%", "2:4", "2:4+rtn:bits=4,group=32"};
	(void)unused;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(levels); i++) {
		char text[3][64];
		snprintf(text[0], 64, "sparsegpt:%s", levels[i]);
		snprintf(text[1], 64, "wanda:%s", levels[i]);
		snprintf(text[2], 64, "magnitude:%s", levels[i]);
		double surgeon = run(text[0], weights, w), wanda = run(text[1], weights, w);
		assert_true(surgeon < wanda);
		assert_true(wanda < run(text[2], weights, w));
	}
}

/* rtn's error is a full matrix; what a rank of 20, all there is, leaves is the rounding of f16. */
static void lorc_takes_the_whole_error(void **unused)
{
	static float w[M * N];
	(void)unused;
	static const char *const weight[] = {"none", "inputs"};
	for (size_t i = 0; i < 2; i++) {
		char text[64];
		snprintf(text, sizeof(text), "rtn:bits=2+lorc:rank=20,weight=%s", weight[i]);
		run(text, weights, w);
		for (size_t k = 0; k < M * N; k++)
			assert_true(fabsf(w[k] - weights[k]) < 0.005f);
	}
	double last = run("rtn:bits=2", weights, w);
	for (int rank = 2; rank <= 8; rank += 2) {
		char text[64];
		snprintf(text, sizeof(text), "rtn:bits=2+lorc:rank=%d,weight=inputs", rank);
		double now = run(text, weights, w);
		assert_true(now < last);
		last = now;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wanda_drops_the_lowest_of_each_row),
		cmocka_unit_test(sparsegpt_is_the_surgeon),
		cmocka_unit_test(better_methods_err_less),
		cmocka_unit_test(lorc_takes_the_whole_error),
	};
	return cmocka_run_group_tests(tests, fill, NULL);
}
