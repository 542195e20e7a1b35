/*
 * spqr against an independent solve in f64 - the inverse Hessian itself, from which every rounded
 * column is eliminated, and leave-one-out by refitting without each weight - and owq's columns
 * against sensitivities from what rtn stores; awkward shapes and weights for both.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "bytes.h"
#include "calibrate_stats.h"
#include "oracle_solve.h"
#include "quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 48, N = 112, GROUP = 16, TOKENS = 400 };

static uint64_t random_state = 3;

static double uniform(void) /* [-1, 1) */
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (double)(random_state >> 11) * 0x1p-52 - 1.0;
}

struct problem {
	size_t m, n;
	float *w;
	struct calibration_stats *stats;
	const struct calibration_inputs *in;
};

/* Inputs that depend on each other; every 23rd column is large, 'dead' (if below n) is 0. */
static struct problem make_problem(size_t m, size_t n, size_t dead)
{
	struct problem p = {.m = m, .n = n, .w = malloc(m * n * sizeof(float))};
	struct pith_error err;
	float *x = malloc(TOKENS * n * sizeof(*x));
	for (size_t t = 0; t < TOKENS; t++) {
		double shared = uniform() + uniform();
		for (size_t j = 0; j < n; j++)
			x[t * n + j] = j == dead ? 0
			                         : (float)((uniform() + 0.6 * shared) * (j % 23 == 4 ? 6 : 1));
	}
	assert_int_equal(calibration_stats_new(n, TOKENS, &p.stats, &err), PITH_OK);
	calibration_stats_add(p.stats, x, TOKENS, 2);
	calibration_stats_finish(p.stats);
	p.in = calibration_stats_inputs(p.stats);
	free(x);
	for (size_t i = 0; i < m * n; i++)
		p.w[i] = (float)((uniform() + uniform() + uniform()) * (i % 97 == 5 ? 0.2 : 0.04));
	return p;
}

static void free_problem(struct problem *p)
{
	calibration_stats_free(p->stats);
	free(p->w);
}

static pith_status run(const struct problem *p, const char *text, float *out, struct quant_result *q,
                       struct pith_error *err)
{
	struct source_tensor tensor = {.name = "blk.self_attn.w", .dtype = PITH_DTYPE_F32};
	struct scheme s;
	assert_int_equal(scheme_parse(text, &s, err), PITH_OK);
	struct quant_job job = {.tensor = &tensor, .m = p->m, .n = p->n, .weights = p->w,
	                        .inputs = p->in, .threads = 2};
	pith_status status = scheme_run(&s, &job, q, err);
	if (status == PITH_OK)
		assert_int_equal(quant_result_unpack(q, p->m, p->n, out, err), PITH_OK);
	return status;
}

static double proxy(const struct problem *p, const float *q)
{
	double sum = 0;
	size_t n = p->n;
	for (size_t r = 0; r < p->m; r++)
		for (size_t i = 0; i < n; i++)
			for (size_t j = 0; j < n; j++)
				sum += ((double)p->w[r * n + i] - (double)q[r * n + i]) *
				       (double)p->in->hessian[i * n + j] *
				       ((double)p->w[r * n + j] - (double)q[r * n + j]);
	return sum;
}

/* ---- the independent solve ---- */

static double half(double v) { return (double)f32_of_f16(f16_of_f32((float)v)); }
static double to_grid(double v, double s, double z, double top)
{
	return s * (fmin(fmax(nearbyint(v / fmax(s, 1e-9) + z), 0), top) - z);
}

/* Scale and zero-point of the values that are not skipped. */
static void fit(const double *v, const bool *skip, double top, double *s, double *z)
{
	double low = INFINITY, high = -INFINITY;
	for (size_t j = 0; j < GROUP; j++) {
		low = skip[j] ? low : fmin(low, v[j]);
		high = skip[j] ? high : fmax(high, v[j]);
	}
	*s = (high - low) / top;
	*z = -low / *s;
}

/* Sum of (e / U)^2 of those not skipped; u2: U^2. */
static double group_error(const double *v, const bool *skip, const double *u2, double top)
{
	double s, z, sum = 0;
	fit(v, skip, top, &s, &z);
	for (size_t j = 0; j < GROUP; j++) {
		double e = v[j] - to_grid(v[j], s, z, top);
		sum += skip[j] ? 0 : e * e / u2[j];
	}
	return sum;
}

/* 16 numbers to a grid of 2^bits with f16 scale and zero. */
static void second_level(double v[16], unsigned bits)
{
	double low = v[0], high = v[0], top = (1 << bits) - 1;
	for (size_t i = 1; i < 16; i++) {
		low = fmin(low, v[i]);
		high = fmax(high, v[i]);
	}
	double s = half((high - low) / top), z = half(-low / s);
	for (size_t i = 0; i < 16; i++)
		v[i] = to_grid(v[i], s, z, top);
}

struct reference {
	float q[M * N];
	size_t outliers;
};

/* SpQR as in the paper; U_jj^2 is the inverse's diagonal once the columns before are eliminated. */
static void solve(const struct problem *p, const size_t *order, double top, double threshold,
                  struct reference *out)
{
	static double h[N * N], w[M * N];
	double u2[N], mean = 0, unit = 0;
	for (size_t j = 0; j < N; j++)
		mean += (double)p->in->hessian[j * N + j] / N;
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < N; j++)
			h[i * N + j] = (double)p->in->hessian[order[i] * N + order[j]] +
			               (i == j ? 0.01 * mean : 0);
	oracle_invert(h, N);
	/* all eliminations first: row j of h is then what column j's error does to those behind it */
	for (size_t j = 0; j < N; j++) {
		u2[j] = h[j * N + j];
		for (size_t i = j + 1; i < N; i++)
			for (size_t k = j + 1; k < N; k++)
				h[i * N + k] -= h[i * N + j] * h[j * N + k] / h[j * N + j];
	}
	for (size_t j = 0; j < N; j++) {
		double sum = 0, sum2 = 0;
		for (size_t r = 0; r < M; r++) {
			w[r * N + j] = (double)p->w[r * N + order[j]];
			sum += w[r * N + j];
			sum2 += w[r * N + j] * w[r * N + j];
		}
		unit += (sum2 - sum * sum / M) / (M - 1) / u2[j] / N;
	}
	double s[M], z[M];
	*out = (struct reference){.outliers = 0};
	for (size_t j = 0; j < N; j++) {
		for (size_t r = 0; j % GROUP == 0 && r < M; r++) {
			const double *v = w + r * N + j;
			bool none[GROUP] = {false}, skip[GROUP] = {false};
			double base = group_error(v, none, u2 + j, top);
			for (size_t k = 0; k < GROUP; k++) {
				none[k] = true;
				skip[k] = base - group_error(v, none, u2 + j, top) > threshold * unit;
				none[k] = false;
			}
			fit(v, skip, top, &s[r], &z[r]);
		}
		for (size_t r = 0; j % GROUP == 0 && r < M; r += 16) {
			second_level(s + r, 3);
			second_level(z + r, 3);
		}
		for (size_t r = 0; r < M; r++) {
			double v = w[r * N + j], q = to_grid(v, s[r], z[r], top), e = v - q;
			if (e * e / u2[j] > threshold * unit) {
				q = v;
				out->outliers++;
			}
			for (size_t k = j; k < N; k++)
				w[r * N + k] -= (v - q) / h[j * N + j] * h[j * N + k];
			out->q[r * N + order[j]] = (float)q;
		}
	}
}

static size_t value_count(const struct quant_result *q)
{
	return q->term_count > 1 ? q->term[1].param[1] : 0;
}

static void test_spqr(void **state)
{
	(void)state;
	static const double thresholds[] = {1e6, 0.5, 0.3};
	static float ours[M * N];
	static struct reference theirs;
	struct problem p = make_problem(M, N, N);
	for (unsigned bits = 2; bits <= 4; bits++) {
		for (size_t i = 0; i < 6; i++) {
			struct quant_result q;
			struct pith_error err;
			char text[120];
			size_t order[N];
			oracle_sort_by_diagonal(p.in->hessian, N, order);
			for (size_t j = 0; i % 2 == 1 && j < N; j++)
				order[j] = j;
			snprintf(text, sizeof(text), "spqr:bits=%u,grid=minmax,threshold=%.1f,order=%s", bits,
			         thresholds[i / 2], i % 2 == 1 ? "identity" : "act");
			assert_int_equal(run(&p, text, ours, &q, &err), PITH_OK);
			assert_true((q.permute == NULL) == (i % 2 == 1));
			for (size_t j = 0; q.permute && j < N; j++)
				assert_int_equal(q.permute[j], order[j]);
			solve(&p, order, (double)((1u << bits) - 1), thresholds[i / 2], &theirs);
			double a = proxy(&p, ours), b = proxy(&p, theirs.q);
			assert_true(fabs(q.proxy2 - a) <= 1e-4 * a);
			assert_true(fabs(a - b) <= 0.005 * b);
			double more = (double)value_count(&q) - (double)theirs.outliers;
			assert_true(fabs(more) <= 2 + 0.02 * (double)theirs.outliers);
			quant_result_free(&q);
			/* the search only changes what is better */
			snprintf(text, sizeof(text), "spqr:bits=%u,threshold=%.1f,order=%s", bits,
			         thresholds[i / 2], i % 2 == 1 ? "identity" : "act");
			assert_int_equal(run(&p, text, ours, &q, &err), PITH_OK);
			assert_true(proxy(&p, ours) < b);
			quant_result_free(&q);
		}
	}
	free_problem(&p);
}

static void test_outlier_share(void **state)
{
	(void)state;
	static const double shares[] = {0.005, 0.01, 0.05};
	struct problem p = make_problem(200, 160, 160);
	float *out = malloc(p.m * p.n * sizeof(*out));
	double before = INFINITY;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(shares); i++) {
		struct quant_result q;
		struct pith_error err;
		char text[60];
		snprintf(text, sizeof(text), "spqr:outliers=%g%%", 100 * shares[i]);
		assert_int_equal(run(&p, text, out, &q, &err), PITH_OK);
		assert_int_equal(q.term_count, 2);
		assert_int_equal(q.term[1].kind, PITH_KIND_SPARSE);
		double aim = shares[i] * (double)(p.m * p.n);
		assert_true(fabs((double)value_count(&q) - aim) <= 1 + 0.02 * aim);
		assert_true(q.proxy2 < before);
		before = q.proxy2;
		quant_result_free(&q);
	}
	free(out);
	free_problem(&p);
}

/* ---- owq ---- */

static void test_owq_columns(void **state)
{
	(void)state;
	static float ours[M * N], rounded[M * N];
	struct problem p = make_problem(M, N, N);
	struct quant_result q;
	struct pith_error err;
	assert_int_equal(run(&p, "rtn:bits=3,group=row,search=0", rounded, &q, &err), PITH_OK);
	quant_result_free(&q);
	assert_int_equal(run(&p, "owq:bits=3,columns=5,grid=minmax", ours, &q, &err), PITH_OK);
	assert_int_equal(q.term_count, 2);
	assert_int_equal(q.term[1].kind, PITH_KIND_COLUMNS);
	assert_int_equal(q.term[1].param[1], 5);
	assert_null(q.permute);
	double sensitivity[N], kept[N] = {0}, least = INFINITY, most = 0;
	for (size_t j = 0; j < N; j++) {
		sensitivity[j] = 0;
		for (size_t r = 0; r < M; r++) {
			double e = (double)p.w[r * N + j] - (double)rounded[r * N + j];
			sensitivity[j] += e * e * (double)p.in->hessian[j * N + j];
		}
	}
	for (size_t k = 0; k < 5; k++)
		kept[load_le32(q.term[1].plane[0].data + 4 * k)] = 1;
	for (size_t j = 0; j < N; j++) {
		least = kept[j] > 0 ? fmin(least, sensitivity[j]) : least;
		most = kept[j] > 0 ? most : fmax(most, sensitivity[j]);
	}
	assert_true(least >= most);
	/* codes of kept columns are an exact 0 */
	struct quant_result dense = q;
	dense.term_count = 1;
	assert_int_equal(quant_result_unpack(&dense, M, N, rounded, &err), PITH_OK);
	for (size_t r = 0; r < M; r++)
		for (size_t j = 0; j < N; j++)
			assert_true(kept[j] > 0 ? rounded[r * N + j] == 0 : rounded[r * N + j] == ours[r * N + j]);
	double with = q.proxy2;
	quant_result_free(&q);
	/* what they take over from the others is part of the gain: as given, they would be worse */
	for (size_t r = 0; r < M; r++)
		for (size_t j = 0; j < N; j++)
			ours[r * N + j] = kept[j] > 0 ? p.w[r * N + j] : ours[r * N + j];
	assert_true(with < 0.98 * proxy(&p, ours));
	assert_int_equal(run(&p, "gptq:bits=3,group=row,grid=minmax", ours, &q, &err), PITH_OK);
	assert_true(with < q.proxy2);
	quant_result_free(&q);
	/* 112 * 12 * 0.5 / 13 / 7 = 7.4 */
	assert_int_equal(run(&p, "owq:bits=3.5", ours, &q, &err), PITH_OK);
	assert_int_equal(q.term[1].param[1], 8);
	quant_result_free(&q);
	free_problem(&p);
}

/* ---- awkward weights ---- */

static void test_awkward(void **state)
{
	(void)state;
	static const size_t shapes[][2] = {{1, 1}, {5, 7}, {17, 33}, {40, 130}, {1, 64}};
	static const char *const schemes[] = {"spqr", "spqr:group=row,outliers=5%", "spqr:threshold=0.2,bits=2",
	                                      "owq:bits=3.1", "owq:bits=2,columns=3,group=16",
	                                      "owq:bits=4,columns=200", "owq:zero=sym,columns=1,dtype=bf16",
	                                      "owq:group=32,order=natural,columns=4", "spqr:detect=plain,scale_bits=8"};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(shapes) * PITH_ARRAY_LENGTH(schemes) * 3; i++) {
		size_t m = shapes[i % 5][0], n = shapes[i % 5][1], kind = i / 5 % 3;
		struct problem p = make_problem(m, n, n / 2);
		float *out = malloc(m * n * sizeof(*out));
		struct quant_result q;
		struct pith_error err;
		for (size_t j = 0; j < m * n; j++) /* zero; constant rows, one of them zero */
			p.w[j] = kind == 1 ? 0 : kind == 2 ? (float)(j / n) * 0.125f : p.w[j];
		assert_int_equal(run(&p, schemes[i / 15], out, &q, &err), PITH_OK);
		for (size_t j = 0; j < m * n; j++) {
			assert_true(isfinite(out[j]));
			assert_true(kind != 1 || out[j] == 0);
		}
		/* scales of 3 bits do not reach every constant of a tile */
		assert_true(q.error2 <= (kind == 2 ? 1.0 : 0.5) * q.norm2);
		for (size_t t = 0; t < q.term_count; t++) {
			struct pith_term bound;
			assert_int_equal(pith_packed_bind(&q.term[t], m, n, &bound, &err), PITH_OK);
			assert_int_equal(pith_term_verify(&bound, &err), PITH_OK);
		}
		quant_result_free(&q);
		free(out);
		free_problem(&p);
	}
}

static void test_too_large(void **state)
{
	(void)state;
	static const char *const schemes[] = {"spqr", "owq:columns=2"};
	struct problem p = make_problem(20, 32, 32);
	float *out = malloc(p.m * p.n * sizeof(*out));
	p.w[17 * 32 + 9] = 3e8f;
	p.w[17 * 32 + 10] = -3e8f;
	for (size_t i = 0; i < 2; i++) {
		struct quant_result q;
		struct pith_error err;
		assert_int_equal(run(&p, schemes[i], out, &q, &err), PITH_E_LIMIT);
		assert_non_null(strstr(err.msg, "blk.self_attn.w"));
		assert_non_null(strstr(err.msg, "f16"));
		assert_int_equal(q.term_count, 0);
	}
	free(out);
	free_problem(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spqr),      cmocka_unit_test(test_outlier_share),
		cmocka_unit_test(test_owq_columns), cmocka_unit_test(test_awkward),
		cmocka_unit_test(test_too_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
