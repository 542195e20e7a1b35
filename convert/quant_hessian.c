/*
 * Cholesky factor of the inverse Hessian (GPTQ, section 3, step 3).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_hessian.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#define MAX_TRIES 12u

struct ranked_column {
	float diagonal;
	uint32_t column;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked_column *x = a, *y = b;
	if (x->diagonal != y->diagonal)
		return x->diagonal < y->diagonal ? 1 : -1;
	return x->column < y->column ? -1 : x->column > y->column;
}

pith_status hessian_sort(const struct quant_job *job, enum hessian_order order, uint32_t *out,
                         struct pith_error *err)
{
	size_t n = job->n;
	struct ranked_column *ranked = malloc(n * sizeof(*ranked));
	if (!ranked)
		return quant_no_memory(job, err);
	for (size_t j = 0; j < n; j++)
		ranked[j] = (struct ranked_column){job->inputs->hessian[j * n + j], (uint32_t)j};
	if (order == HESSIAN_ACTIVATION)
		qsort(ranked, n, sizeof(*ranked), compare_ranked);
	for (size_t j = 0; j < n; j++)
		out[j] = ranked[j].column;
	free(ranked);
	return PITH_OK;
}

/* The permuted, damped Hessian; only the triangle that the solver reads. a: [n, n] f64. */
static void fill_matrix(const float *h, const struct hessian_factor *f, double *a)
{
	size_t n = f->n;
	for (size_t i = 0; i < n; i++) {
		const float *row = h + (size_t)f->order[i] * n;
		for (size_t j = i; j < n; j++)
			a[i * n + j] = (double)row[f->order[j]];
		a[i * n + i] = (f->dead[i] ? 1.0 : a[i * n + i]) + f->damping;
	}
}

/*
 * In column-major terms the row-major upper triangle is the lower one, so that no call
 * transposes: A = L L^T, then A^-1, then A^-1 = L' L'^T with L'^T = U in the upper triangle.
 */
static bool factor_in_place(double *a, size_t n)
{
	lapack_int size = (lapack_int)n;
	return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', size, a, size) == 0 &&
	       LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'L', size, a, size) == 0 &&
	       LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', size, a, size) == 0;
}

static bool upper_is_finite(const double *a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i; j < n; j++)
			if (!isfinite((float)a[i * n + j]))
				return false;
	return true;
}

/* *mean of the diagonal, dead columns counted as 1; false: something is not finite. */
static bool scan_hessian(const float *h, struct hessian_factor *f, double *mean)
{
	size_t n = f->n;
	for (size_t i = 0; i < n * n; i++)
		if (!isfinite(h[i]))
			return false;
	*mean = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)h[(size_t)f->order[i] * n + f->order[i]];
		f->dead[i] = !(d > 0);
		*mean += (f->dead[i] ? 1.0 : d) / (double)n;
	}
	return true;
}

static pith_status factor(const struct quant_job *job, double damp, double *a,
                          struct hessian_factor *f, struct pith_error *err)
{
	const float *h = job->inputs->hessian;
	double mean;
	if (!scan_hessian(h, f, &mean))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "the inputs of %.100s are not finite: the model overflows on this text",
		                 job->tensor->name);
	f->damping = damp * mean;
	for (unsigned i = 0; i < MAX_TRIES; i++) {
		fill_matrix(h, f, a);
		if (factor_in_place(a, f->n) && upper_is_finite(a, f->n)) {
			for (size_t j = 0; j < f->n * f->n; j++)
				f->upper[j] = (float)a[j];
			return PITH_OK;
		}
		f->damping = f->damping > 0 ? 10 * f->damping : 1e-6 * mean;
	}
	return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
	                 "the Hessian of %.100s cannot be inverted, damping %g", job->tensor->name,
	                 f->damping);
}

pith_status hessian_factor_make_in(const struct quant_job *job, const uint32_t *order, double damp,
                                   struct hessian_factor *out, struct pith_error *err)
{
	size_t n = job->n;
	hessian_memo_clear(job->inputs->memo);
	*out = (struct hessian_factor){.n = n};
	out->order = malloc(n * sizeof(*out->order));
	out->dead = malloc(n * sizeof(*out->dead));
	out->upper = malloc(n * n * sizeof(*out->upper));
	double *a = calloc(n * n, sizeof(*a));
	pith_status status = out->order && out->dead && out->upper && a ? PITH_OK
	                                                                : quant_no_memory(job, err);
	if (status == PITH_OK) {
		memcpy(out->order, order, n * sizeof(*order));
		status = factor(job, damp, a, out, err);
	}
	free(a);
	if (status != PITH_OK)
		hessian_factor_free(out);
	return status;
}

static pith_status make_sorted(const struct quant_job *job, enum hessian_order order, double damp,
                               struct hessian_factor *out, struct pith_error *err)
{
	uint32_t *sorted = malloc(job->n * sizeof(*sorted));
	pith_status status = sorted ? hessian_sort(job, order, sorted, err) : quant_no_memory(job, err);
	memset(out, 0, sizeof(*out));
	if (status == PITH_OK)
		status = hessian_factor_make_in(job, sorted, damp, out, err);
	free(sorted);
	return status;
}

/* The memo's factor with an order and marks of its own, which methods take and change. */
static pith_status borrow(const struct quant_job *job, const struct hessian_memo *memo,
                          struct hessian_factor *out, struct pith_error *err)
{
	size_t n = memo->factor.n;
	*out = memo->factor;
	out->borrowed = true;
	out->order = malloc(n * sizeof(*out->order));
	out->dead = malloc(n * sizeof(*out->dead));
	if (!out->order || !out->dead) {
		hessian_factor_free(out);
		return quant_no_memory(job, err);
	}
	memcpy(out->order, memo->factor.order, n * sizeof(*out->order));
	memcpy(out->dead, memo->factor.dead, n * sizeof(*out->dead));
	return PITH_OK;
}

pith_status hessian_factor_make(const struct quant_job *job, enum hessian_order order, double damp,
                                struct hessian_factor *out, struct pith_error *err)
{
	struct hessian_memo *memo = job->inputs->memo;
	const float *hessian = job->inputs->hessian;
	if (!memo)
		return make_sorted(job, order, damp, out, err);
	if (memo->hessian != hessian || memo->order != order || memo->damp != damp) {
		memset(out, 0, sizeof(*out));
		hessian_memo_clear(memo); /* make_sorted() forgets what is there */
		PITH_TRY(make_sorted(job, order, damp, &memo->factor, err));
		memo->hessian = hessian;
		memo->order = order;
		memo->damp = damp;
	}
	return borrow(job, memo, out, err);
}

void hessian_memo_clear(struct hessian_memo *m)
{
	if (!m)
		return;
	hessian_factor_free(&m->factor);
	m->hessian = NULL;
}

void hessian_factor_free(struct hessian_factor *f)
{
	free(f->order);
	free(f->dead);
	if (!f->borrowed)
		free(f->upper);
	memset(f, 0, sizeof(*f));
}
