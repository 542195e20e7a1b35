/*
 * LoRC (ZeroQuant-V2, Yao et al. 2023): what quantization left wrong, as a product of two thin
 * matrices: the best of its rank, by least squares over the weight or, weighted, over its inputs.
 *
 * The leading vectors come from the eigenvectors of E E^T (or E^T E, whichever is smaller), in f64.
 * Spec: spec/terms/lowrank.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

enum { LORC_RANK, LORC_WEIGHT, LORC_DTYPE };
enum { WEIGHT_NONE, WEIGHT_DIAGONAL };

static const struct scheme_key lorc_keys[] = {
    [LORC_RANK] = {"rank", SCHEME_INTEGER, 8, 1, PITH_LOWRANK_MAX_RANK, NULL},
    [LORC_WEIGHT] = {"weight", SCHEME_CHOICE, WEIGHT_NONE, 0, 0, "none|inputs"},
    [LORC_DTYPE] = {"dtype", SCHEME_CHOICE, 0, 0, 0, "f16|bf16"},
    {0},
};

struct lorc_work {
	const struct quant_job *job;
	size_t m, n, side, rank; /* side: the smaller of m and n */
	double *e;      /* [m, n] the error, its columns times factor */
	double *gram;   /* [side, side] */
	double *vector; /* [side, rank] columns: leading eigenvectors */
	double *value;  /* [side] */
	double *other;  /* [rank, n] or [m, rank]: the product of the vectors and e */
	double *factor; /* [n] */
	float *u, *v;   /* [m, rank], [rank, n] */
};

static bool allocate(struct lorc_work *k)
{
	size_t longer = k->m > k->n ? k->m : k->n;
	k->e = malloc(k->m * k->n * sizeof(*k->e));
	k->gram = malloc(k->side * k->side * sizeof(*k->gram));
	k->vector = malloc(k->side * k->rank * sizeof(*k->vector));
	k->value = malloc(k->side * sizeof(*k->value));
	k->other = malloc(longer * k->rank * sizeof(*k->other));
	k->factor = malloc(k->n * sizeof(*k->factor));
	k->u = malloc(k->m * k->rank * sizeof(*k->u));
	k->v = malloc(k->rank * k->n * sizeof(*k->v));
	return k->e && k->gram && k->vector && k->value && k->other && k->factor && k->u && k->v;
}

static void release(struct lorc_work *k)
{
	free(k->e);
	free(k->gram);
	free(k->vector);
	free(k->value);
	free(k->other);
	free(k->factor);
	free(k->u);
	free(k->v);
}

/* Root of the mean square of every column's inputs, none below a hundredth of the mean. */
static void set_factors(struct lorc_work *k, const uint32_t *permute, bool weighted)
{
	double mean = 0;
	for (size_t j = 0; j < k->n; j++) {
		size_t column = permute ? permute[j] : j;
		k->factor[j] = weighted ? (double)k->job->inputs->hessian[column * k->n + column] : 1;
		mean += k->factor[j] / (double)k->n;
	}
	for (size_t j = 0; j < k->n; j++)
		k->factor[j] = mean > 0 ? sqrt(k->factor[j] + 0.01 * mean) : 1;
}

static bool leading_vectors(struct lorc_work *k)
{
	lapack_int size = (lapack_int)k->side, rank = (lapack_int)k->rank, found = 0;
	bool rows = k->m <= k->n;
	lapack_int *support = malloc(2 * k->side * sizeof(*support));
	if (!support)
		return false;
	cblas_dsyrk(CblasRowMajor, CblasUpper, rows ? CblasNoTrans : CblasTrans, (int)k->side,
	            (int)(rows ? k->n : k->m), 1.0, k->e, (int)k->n, 0.0, k->gram, (int)k->side);
	/* the row-major upper triangle is the column-major lower one; values ascend */
	lapack_int info = LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'L', size, k->gram, size, 0, 0,
	                                 size - rank + 1, size, 0, &found, k->value, k->vector, size,
	                                 support);
	free(support);
	return info == 0 && found == rank;
}

/*
 * E' ~ (Q Q^T) E' with Q [m, rank], or E' (Q Q^T) with Q [n, rank]; 'vector' holds Q's columns behind
 * each other.  The factors get equal norms: in f16 neither is then at an end of the range.
 */
static void make_factors(struct lorc_work *k)
{
	size_t m = k->m, n = k->n, r = k->rank;
	bool rows = m <= n;
	if (rows)
		cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)r, (int)n, (int)m, 1.0,
		            k->vector, (int)m, k->e, (int)n, 0.0, k->other, (int)n);
	else
		cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)r, (int)n, 1.0, k->e,
		            (int)n, k->vector, (int)n, 0.0, k->other, (int)r);
	for (size_t p = 0; p < r; p++) {
		/* largest first */
		size_t from = r - 1 - p;
		double norm = k->value[from] > 0 ? sqrt(sqrt(k->value[from])) : 0;
		double split = norm > 0 ? norm : 1;
		for (size_t i = 0; i < m; i++)
			k->u[i * r + p] = (float)(rows ? k->vector[from * m + i] * split :
			                                 k->other[i * r + from] / split);
		for (size_t j = 0; j < n; j++)
			k->v[p * n + j] = (float)((rows ? k->other[from * n + j] / split :
			                                  k->vector[from * n + j] * split) /
			                          k->factor[j]);
	}
}

static pith_status after_lorc(const struct scheme_link *link, const struct quant_job *job,
                              const float *error, struct quant_result *out, struct pith_error *err)
{
	struct lorc_work k = {.job = job, .m = job->m, .n = job->n};
	bool weighted = scheme_u32(link, LORC_WEIGHT) == WEIGHT_DIAGONAL;
	uint32_t dtype = scheme_u32(link, LORC_DTYPE) == 0 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16;
	k.side = job->m < job->n ? job->m : job->n;
	k.rank = scheme_u32(link, LORC_RANK) < k.side ? scheme_u32(link, LORC_RANK) : k.side;
	if (weighted && !job->inputs)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "lorc:weight=inputs needs --calib");
	if (out->term_count == PITH_MAX_TERMS)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "too many terms");
	pith_status status = allocate(&k) ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK) {
		set_factors(&k, out->permute, weighted);
		for (size_t i = 0; i < k.m * k.n; i++)
			k.e[i] = (double)error[i] * k.factor[i % k.n];
		if (leading_vectors(&k)) {
			make_factors(&k);
			status = pith_lowrank_pack(k.u, k.v, k.rank, k.m, k.n, dtype,
			                           &out->term[out->term_count], err);
			out->term_count += status == PITH_OK;
		} else {
			status = pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
			                   "no eigenvectors for the error of %.100s", job->tensor->name);
		}
	}
	release(&k);
	return status;
}

static bool lorc_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                        uint32_t *plane_count, uint32_t *term_count)
{
	uint64_t u, v, side = m < n ? m : n, rank = scheme_u32(link, LORC_RANK);
	*plane_count = 2;
	*term_count = 1;
	if (!pith_lowrank_sizes(rank < side ? rank : side, m, n, &u, &v))
		return false;
	*nbytes = pith_round_up((size_t)u, PITH_ALIGN) + pith_round_up((size_t)v, PITH_ALIGN);
	return true;
}

const struct quant_method quant_method_lorc = {
    .name = "lorc",
    .help = "add a product of two thin matrices for what is still wrong; rank=1..1024 (8),\n"
            "weight=none|inputs (none: least squares over the weight), dtype=f16|bf16 (f16)",
    .role = QUANT_AFTER,
    .keys = lorc_keys,
    .plain_key = "rank",
    .nbytes = lorc_nbytes,
    .after = after_lorc,
};
