/*
 * Statistics of inputs against sums in f64, and gptq against an independent solve: column by column with
 * the inverse Hessian itself, from which every rounded column is eliminated (Frantar and Alistarh, Optimal
 * Brain Compression, section 4), no Cholesky factor and no blocks.
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
#include <stdlib.h>

enum { M = 40, N = 160, TOKENS = 500 };

static uint64_t random_state = 1;

static double uniform(void) /* [-1, 1) */
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (double)(random_state >> 11) * 0x1p-52 - 1.0;
}

/* Columns that differ in size and depend on each other. */
static void fill_inputs(float *x, size_t k, size_t n)
{
	for (size_t t = 0; t < k; t++) {
		double shared = uniform() + uniform();
		for (size_t j = 0; j < n; j++)
			x[t * n + j] = (float)((uniform() + 0.6 * shared) * (j % 9 == 4 ? 6.0 : 1.0) + 0.1);
	}
}

static struct calibration_stats *gather(const float *x, size_t k, size_t n, unsigned threads)
{
	struct calibration_stats *s;
	struct pith_error err;
	assert_int_equal(calibration_stats_new(n, k, &s, &err), PITH_OK);
	for (size_t t = 0; t < k; t += 77)
		calibration_stats_add(s, x + t * n, k - t < 77 ? k - t : 77, threads);
	calibration_stats_finish(s);
	return s;
}

/* ---- statistics ---- */

static void test_statistics(void **state)
{
	(void)state;
	float *x = malloc(sizeof(*x) * TOKENS * N);
	fill_inputs(x, TOKENS, N);
	struct calibration_stats *one = gather(x, TOKENS, N, 1), *three = gather(x, TOKENS, N, 3);
	const struct calibration_inputs *in = calibration_stats_inputs(one);
	assert_int_equal(in->token_count, TOKENS);
	assert_int_equal(in->sample_count, TOKENS);
	assert_memory_equal(in->sample, x, sizeof(*x) * TOKENS * N);
	assert_memory_equal(in->hessian, calibration_stats_inputs(three)->hessian,
	                    sizeof(float) * N * N);
	for (size_t i = 0; i < N; i++) {
		double low = INFINITY, high = -INFINITY, sum = 0, sum_abs = 0;
		for (size_t t = 0; t < TOKENS; t++) {
			double v = (double)x[t * N + i];
			low = fmin(low, v);
			high = fmax(high, v);
			sum += v;
			sum_abs += fabs(v);
		}
		assert_true((double)in->min[i] == low && (double)in->max[i] == high);
		assert_true((double)in->absmax[i] == fmax(high, -low));
		assert_true(fabs((double)in->mean[i] - sum / TOKENS) < 1e-6);
		assert_true(fabs((double)in->mean_abs[i] - sum_abs / TOKENS) < 1e-5);
		for (size_t j = 0; j < N; j++) {
			double h = 0, size = 0;
			for (size_t t = 0; t < TOKENS; t++) {
				h += 2.0 / TOKENS * (double)x[t * N + i] * (double)x[t * N + j];
				size += 2.0 / TOKENS * fabs((double)x[t * N + i] * (double)x[t * N + j]);
			}
			assert_true(fabs((double)in->hessian[i * N + j] - h) <= 2e-6 * size);
		}
	}
	calibration_stats_free(one);
	calibration_stats_free(three);
	free(x);
}

/* ---- the independent solve ---- */

struct problem {
	float w[M * N];
	struct calibration_stats *stats;
	const struct calibration_inputs *in;
};

static struct problem *make_problem(size_t dead)
{
	struct problem *p = malloc(sizeof(*p));
	float *x = malloc(sizeof(*x) * TOKENS * N);
	fill_inputs(x, TOKENS, N);
	for (size_t t = 0; t < TOKENS; t++)
		if (dead < N)
			x[t * N + dead] = 0;
	for (size_t i = 0; i < M * N; i++)
		p->w[i] = (float)(uniform() + uniform() + uniform());
	p->stats = gather(x, TOKENS, N, 2);
	p->in = calibration_stats_inputs(p->stats);
	free(x);
	return p;
}

static void free_problem(struct problem *p)
{
	calibration_stats_free(p->stats);
	free(p);
}

static double half(double v) { return (double)f32_of_f16(f16_of_f32((float)v)); }

/* Smallest and largest value with 0, as GPTQ has it; z a whole number. */
static double round_to_grid(const double *group, size_t count, double v, double top)
{
	double low = 0, high = 0;
	for (size_t j = 0; j < count; j++) {
		low = fmin(low, group[j]);
		high = fmax(high, group[j]);
	}
	double s = half((high - low) / top), z = nearbyint(-low / s);
	return s * (fmin(fmax(nearbyint(v / s) + z, 0), top) - z);
}

/*
 * order: column at each place.  fixed: grids of the groups of the columns' own order, from the start;
 * else of places, from the weights when their first column's turn comes.
 */
static void solve_independently(const struct problem *p, const size_t *order, bool fixed,
                                size_t group, double top, float *out)
{
	static double h[N * N], w[M * N], original[M * N];
	double mean = 0;
	for (size_t j = 0; j < N; j++)
		mean += (double)p->in->hessian[j * N + j] / N;
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < N; j++)
			h[i * N + j] = (double)p->in->hessian[order[i] * N + order[j]] +
			               (i == j ? 0.01 * mean : 0);
	oracle_invert(h, N);
	for (size_t r = 0; r < M; r++)
		for (size_t j = 0; j < N; j++) {
			w[r * N + j] = (double)p->w[r * N + order[j]];
			original[r * N + j] = (double)p->w[r * N + j];
		}
	static double range[M * N]; /* the group as it was when its grid was made */
	for (size_t j = 0; j < N; j++) {
		if (!fixed && j % group == 0)
			memcpy(range, w, sizeof(w));
		for (size_t r = 0; r < M; r++) {
			size_t place = fixed ? order[j] : j, first = place / group * group;
			const double *values = (fixed ? original : range) + r * N + first;
			double q = round_to_grid(values, group, w[r * N + j], top);
			double e = (w[r * N + j] - q) / h[j * N + j];
			for (size_t k = j; k < N; k++)
				w[r * N + k] -= e * h[j * N + k];
			out[r * N + order[j]] = (float)q;
		}
		for (size_t i = j + 1; i < N; i++)
			for (size_t k = j + 1; k < N; k++)
				h[i * N + k] -= h[i * N + j] * h[j * N + k] / h[j * N + j];
	}
}

static double proxy(const struct problem *p, const float *q)
{
	double sum = 0;
	for (size_t r = 0; r < M; r++)
		for (size_t i = 0; i < N; i++)
			for (size_t j = 0; j < N; j++)
				sum += ((double)p->w[r * N + i] - (double)q[r * N + i]) *
				       (double)p->in->hessian[i * N + j] *
				       ((double)p->w[r * N + j] - (double)q[r * N + j]);
	return sum;
}

static pith_status run(const struct problem *p, const char *text, const struct calibration_inputs *in,
                       float *out, struct quant_result *q)
{
	struct source_tensor tensor = {.name = "w", .dtype = PITH_DTYPE_F32};
	struct scheme s;
	struct pith_error err;
	assert_int_equal(scheme_parse(text, &s, &err), PITH_OK);
	struct quant_job job = {.tensor = &tensor, .m = M, .n = N, .weights = p->w, .inputs = in,
	                        .threads = 2};
	pith_status status = scheme_run(&s, &job, q, &err);
	if (status == PITH_OK)
		assert_int_equal(quant_result_unpack(q, M, N, out, &err), PITH_OK);
	return status;
}

static void test_gptq(void **state)
{
	(void)state;
	static const struct {
		const char *order;
		bool sorted, fixed;
	} cases[] = {{"natural", false, false}, {"act", true, false}, {"static", true, true}};
	static float ours[M * N], theirs[M * N], rounded[M * N];
	struct problem *p = make_problem(N);
	for (unsigned bits = 2; bits <= 4; bits++) {
		struct quant_result q;
		char text[100];
		snprintf(text, sizeof(text), "rtn:bits=%u,group=32,search=0", bits);
		assert_int_equal(run(p, text, p->in, rounded, &q), PITH_OK);
		assert_true(fabs(q.proxy2 - proxy(p, rounded)) <= 1e-4 * q.proxy2);
		quant_result_free(&q);
		for (size_t i = 0; i < PITH_ARRAY_LENGTH(cases); i++) {
			size_t order[N];
			for (size_t j = 0; j < N; j++)
				order[j] = j;
			if (cases[i].sorted)
				oracle_sort_by_diagonal(p->in->hessian, N, order);
			snprintf(text, sizeof(text), "gptq:bits=%u,group=32,grid=minmax,order=%s", bits,
			         cases[i].order);
			assert_int_equal(run(p, text, p->in, ours, &q), PITH_OK);
			assert_true((q.permute != NULL) == (i == 1));
			assert_true(fabs(q.proxy2 - proxy(p, ours)) <= 1e-4 * q.proxy2);
			quant_result_free(&q);
			solve_independently(p, order, cases[i].fixed, 32, (double)((1u << bits) - 1), theirs);
			assert_true(proxy(p, ours) <= 1.005 * proxy(p, theirs));
			assert_true(proxy(p, ours) >= 0.995 * proxy(p, theirs));
			assert_true(proxy(p, ours) < 0.9 * proxy(p, rounded));
		}
	}
	free_problem(p);
}

/* ---- the full search of grids ---- */

/* Least sum of |error|^2.4 over every zero-point and 'steps' scales. */
static double least_power(const float *w, size_t count, double top, double steps)
{
	double low = 0, high = 0, least = INFINITY;
	for (size_t j = 0; j < count; j++) {
		low = fmin(low, (double)w[j]);
		high = fmax(high, (double)w[j]);
	}
	double full = half((high - low) / top);
	for (double i = 1; i <= steps; i++) {
		double s = half(full * i / steps);
		for (double z = 0; z <= top; z++) {
			double sum = 0;
			for (size_t j = 0; j < count; j++) {
				double q = fmin(fmax(nearbyint((double)w[j] / s) + z, 0), top);
				sum += pow(fabs((double)w[j] - s * (q - z)), 2.4);
			}
			least = fmin(least, sum);
		}
	}
	return least;
}

/* Columns that do not depend on each other: what is rounded is the weights themselves. */
static void test_full_grids(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t group;
		double top, steps;
	} cases[] = {{"gptq:bits=3,group=row,grid=full", N, 7, 100},
	             {"gptq:bits=2,group=32,grid=full", 32, 3, 100},
	             {"owq:bits=3,columns=0,group=32,grid=full", 32, 7, 40}};
	static float out[M * N], h[N * N];
	struct problem *p = make_problem(N);
	struct calibration_inputs in = *p->in;
	for (size_t i = 0; i < N * N; i++)
		h[i] = i % (N + 1) == 0 ? 1.0f : 0.0f;
	in.hessian = h;
	for (size_t c = 0; c < PITH_ARRAY_LENGTH(cases); c++) {
		struct quant_result q;
		assert_int_equal(run(p, cases[c].text, &in, out, &q), PITH_OK);
		quant_result_free(&q);
		for (size_t first = 0; first < M * N; first += cases[c].group) {
			double sum = 0;
			for (size_t j = first; j < first + cases[c].group; j++)
				sum += pow(fabs((double)p->w[j] - (double)out[j]), 2.4);
			double least = least_power(p->w + first, cases[c].group, cases[c].top, cases[c].steps);
			assert_true(sum <= least * (1 + 1e-4) && sum >= least * (1 - 1e-4));
		}
	}
	free_problem(p);
}

/* ---- awkward Hessians ---- */

static void test_dead_column(void **state)
{
	(void)state;
	static float a[M * N], b[M * N];
	struct problem *p = make_problem(5);
	struct quant_result q;
	assert_true(p->in->hessian[5 * N + 5] == 0);
	assert_int_equal(run(p, "gptq:bits=4,group=16", p->in, a, &q), PITH_OK);
	quant_result_free(&q);
	for (size_t i = 0; i < M * N; i++)
		assert_true(isfinite(a[i]));
	/* a dead column changes nothing outside its group */
	for (size_t r = 0; r < M; r++)
		p->w[r * N + 5] = 0;
	assert_int_equal(run(p, "gptq:bits=4,group=16", p->in, b, &q), PITH_OK);
	quant_result_free(&q);
	double before = 0, after = 0;
	for (size_t r = 0; r < M; r++)
		for (size_t j = 16; j < N; j++) {
			before += fabs((double)a[r * N + j]);
			after += fabs((double)b[r * N + j]);
		}
	assert_true(fabs(before - after) < 0.01 * before);
	free_problem(p);
}

/* Fewer tokens than columns: without damping there is no inverse. */
static void test_singular(void **state)
{
	(void)state;
	static float x[20 * N], out[M * N];
	struct problem *p = make_problem(N);
	fill_inputs(x, 20, N);
	struct calibration_stats *s = gather(x, 20, N, 1);
	struct quant_result q;
	assert_int_equal(run(p, "gptq:bits=3,damp=0", calibration_stats_inputs(s), out, &q), PITH_OK);
	assert_true(isfinite(q.proxy2) && q.proxy2 < 0.1 * q.proxy_norm2);
	quant_result_free(&q);
	calibration_stats_free(s);
	free_problem(p);
}

static void test_not_finite(void **state)
{
	(void)state;
	static float out[M * N], h[N * N];
	struct problem *p = make_problem(N);
	struct calibration_inputs in = *p->in;
	struct quant_result q;
	memcpy(h, in.hessian, sizeof(h));
	in.hessian = h;
	h[7 * N + 9] = h[9 * N + 7] = NAN;
	assert_int_equal(run(p, "gptq", &in, out, &q), PITH_E_CORRUPT);
	h[7 * N + 9] = h[9 * N + 7] = INFINITY;
	assert_int_equal(run(p, "gptq", &in, out, &q), PITH_E_CORRUPT);
	free_problem(p);
}

/* What methods keep for one another changes no result, whoever comes first. */
static void test_memo(void **state)
{
	(void)state;
	static const char *const text[] = {"gptq:bits=3,group=32", "spqr:bits=2", "gptq:order=natural",
	                                   "owq:bits=3,columns=4", "gptq:bits=3,group=32,damp=5%",
	                                   "sparsegpt:50%", "spqr:bits=3,order=identity", "rptq+gptq"};
	static float kept[M * N], fresh[M * N];
	struct problem *p = make_problem(7);
	struct calibration_inputs alone = *p->in;
	assert_true(alone.memo != NULL);
	alone.memo = NULL;
	for (size_t i = 0; i < 3 * PITH_ARRAY_LENGTH(text); i++) {
		struct quant_result a, b;
		const char *s = text[i * 5 % PITH_ARRAY_LENGTH(text)];
		assert_int_equal(run(p, s, p->in, kept, &a), PITH_OK);
		assert_int_equal(run(p, s, &alone, fresh, &b), PITH_OK);
		assert_memory_equal(kept, fresh, sizeof(kept));
		assert_int_equal(a.permute != NULL, b.permute != NULL);
		if (a.permute)
			assert_memory_equal(a.permute, b.permute, N * sizeof(*a.permute));
		quant_result_free(&a);
		quant_result_free(&b);
	}
	free_problem(p);
}

/* ---- chains ---- */

static void test_chains(void **state)
{
	(void)state;
	static const char *const bad[] = {"gptq+rtn", "rtn+bf16", "", "+", "gptq+", "+gptq", "rtn:bits=4+rtn"};
	struct scheme s;
	struct pith_error err;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(bad); i++)
		assert_int_equal(scheme_parse(bad[i], &s, &err), PITH_E_ARGUMENT);
	assert_int_equal(scheme_parse("gptq:damp=5%", &s, &err), PITH_OK);
	assert_true(fabs(s.link[0].value[5] - 0.05) < 1e-12);
	uint32_t n, m;
	double share;
	assert_true(scheme_sparsity(2 + 4 * 256.0, &n, &m, &share));
	assert_true(n == 2 && m == 4 && share == 0.5);
	assert_false(scheme_sparsity(0.6, &n, &m, &share));
	assert_true(share == 0.6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_statistics), cmocka_unit_test(test_gptq),
	    cmocka_unit_test(test_full_grids),
	    cmocka_unit_test(test_dead_column), cmocka_unit_test(test_singular),
	    cmocka_unit_test(test_not_finite), cmocka_unit_test(test_memo),
	    cmocka_unit_test(test_chains),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
