/*
 * GPTQ (Frantar et al. 2022): columns are rounded one after the other, and what a column's
 * rounding breaks is repaired in the columns that are still to come.
 *
 * order=static rounds the columns with the largest Hessian diagonal first, each with the grid of
 * the group it is stored in; these grids are fitted before.  order=act fits grids as it goes, to groups of
 * columns in the order of rounding, and stores the permutation; order=natural does so
 * from left to right.  Other than in the authors' code a group that starts inside a block is
 * fitted to weights that hold all repairs so far.  Dead columns (0 in all inputs) are rounded as they
 * are, not cleared: another text may use them.
 *
 * Rows are independent: results do not depend on the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"
#include "quant_hessian.h"

#include <cblas.h>
#include <stdlib.h>

#define BLOCK_COLUMNS 128u
#define TASK_ROWS 32u

enum { GPTQ_BITS, GPTQ_GROUP, GPTQ_ZERO, GPTQ_ORDER, GPTQ_GRID, GPTQ_DAMP };
enum { ORDER_NATURAL, ORDER_ACT, ORDER_STATIC };
enum { FIT_MINMAX, FIT_MSE, FIT_HESSIAN };

static const struct scheme_key gptq_keys[] = {
    [GPTQ_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [GPTQ_GROUP] = {"group", SCHEME_GROUP, 128, 0, 0, NULL},
    [GPTQ_ZERO] = {"zero", SCHEME_CHOICE, GRID_ZERO_INT, 0, 0, "sym|int|real"},
    [GPTQ_ORDER] = {"order", SCHEME_CHOICE, ORDER_STATIC, 0, 0, "natural|act|static"},
    [GPTQ_GRID] = {"grid", SCHEME_CHOICE, FIT_MSE, 0, 0, "minmax|mse|hessian"},
    [GPTQ_DAMP] = {"damp", SCHEME_NUMBER, 0.01, 0, 10, NULL},
    {0},
};

static void gptq_grid(const struct scheme_link *link, struct quant_grid_rule *rule)
{
	rule->bits = scheme_u32(link, GPTQ_BITS);
	rule->group_size = scheme_u32(link, GPTQ_GROUP);
	rule->zero_mode = scheme_u32(link, GPTQ_ZERO);
	rule->search = scheme_u32(link, GPTQ_GRID) == FIT_MINMAX ? GRID_MINMAX : GRID_LEAST;
}

struct gptq_work {
	struct quant_codes codes;
	struct hessian_factor factor;
	uint32_t order;    /* ORDER_ */
	float *w;          /* [m, n] in the weight's order of columns */
	float *importance; /* [n] by place in the codes, or NULL */
	size_t *overflow;  /* [m] column, SIZE_MAX: none, SIZE_MAX - 1: no memory */
	const struct quant_job *job;
};

/* One row on its way: scratch of a task. */
struct gptq_row {
	const struct gptq_work *work;
	size_t row;
	float *w;    /* [n] in the order of rounding */
	float *error; /* [BLOCK_COLUMNS] of this block, divided by U's diagonal */
	struct quant_grid *grid; /* [groups] */
};

static bool fit(const struct gptq_row *r, const float *w, size_t group)
{
	const struct gptq_work *k = r->work;
	size_t first = group * k->codes.group_size;
	size_t count = k->codes.n - first;
	count = count < k->codes.group_size ? count : k->codes.group_size;
	if (!quant_grid_fit(&k->codes.rule, w + first, k->importance ? k->importance + first : NULL,
	                    count, &r->grid[group])) {
		k->overflow[r->row] = first;
		return false;
	}
	quant_codes_set_grid(&k->codes, r->row, group, &r->grid[group]);
	return true;
}

/* Columns begin .. end-1, within one block: round, and repair up to the block's end. */
static bool round_block(const struct gptq_row *r, size_t begin, size_t end)
{
	const struct gptq_work *k = r->work;
	size_t n = k->codes.n;
	uint8_t *codes = k->codes.codes + r->row * n;
	for (size_t j = begin; j < end; j++) {
		const float *u = k->factor.upper + j * n;
		size_t place = k->order == ORDER_STATIC ? k->factor.order[j] : j;
		size_t group = place / k->codes.group_size;
		if (k->order != ORDER_STATIC && place % k->codes.group_size == 0 && !fit(r, r->w, group))
			return false;
		float q = quant_grid_code(&r->grid[group], r->w[j]);
		codes[place] = (uint8_t)q;
		float e = (r->w[j] - quant_grid_value(&r->grid[group], q)) / u[j];
		r->error[j - begin] = e;
		cblas_saxpy((int)(end - j - 1), -e, u + j + 1, 1, r->w + j + 1, 1);
	}
	return true;
}

static bool start_row(const struct gptq_row *r)
{
	const struct gptq_work *k = r->work;
	size_t n = k->codes.n;
	const float *w = k->w + r->row * n;
	k->overflow[r->row] = SIZE_MAX;
	for (size_t j = 0; j < n; j++)
		r->w[j] = w[k->factor.order[j]];
	for (size_t g = 0; k->order == ORDER_STATIC && g < k->codes.groups; g++)
		if (!fit(r, w, g))
			return false;
	return true;
}

/* Rows of one task together, block by block; w: [TASK_ROWS, n]. */
static void solve_rows(const struct gptq_work *k, size_t first, size_t rows, float *w, float *error,
                       struct quant_grid *grid)
{
	size_t n = k->codes.n;
	struct gptq_row row[TASK_ROWS];
	bool good[TASK_ROWS];
	for (size_t i = 0; i < rows; i++) {
		row[i] = (struct gptq_row){k, first + i, w + i * n, error + i * BLOCK_COLUMNS,
		                           grid + i * k->codes.groups};
		good[i] = start_row(&row[i]);
	}
	for (size_t begin = 0; begin < n; begin += BLOCK_COLUMNS) {
		size_t end = n - begin < BLOCK_COLUMNS ? n : begin + BLOCK_COLUMNS;
		for (size_t i = 0; i < rows; i++)
			good[i] = good[i] && round_block(&row[i], begin, end);
		if (end < n)
			cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)(n - end),
			            (int)(end - begin), -1.0f, error, BLOCK_COLUMNS,
			            k->factor.upper + begin * n + end, (int)n, 1.0f, w + end, (int)n);
	}
}

static void run_task(void *ctx, size_t task)
{
	const struct gptq_work *k = ctx;
	size_t first = task * TASK_ROWS, n = k->codes.n;
	size_t rows = k->codes.m - first < TASK_ROWS ? k->codes.m - first : TASK_ROWS;
	float *w = malloc(TASK_ROWS * n * sizeof(*w));
	float *error = calloc(TASK_ROWS * BLOCK_COLUMNS, sizeof(*error));
	struct quant_grid *grid = malloc(TASK_ROWS * k->codes.groups * sizeof(*grid));
	if (w && error && grid)
		solve_rows(k, first, rows, w, error, grid);
	else
		k->overflow[first] = SIZE_MAX - 1;
	free(w);
	free(error);
	free(grid);
}

static pith_status check_rows(const struct gptq_work *k, struct pith_error *err)
{
	for (size_t i = 0; i < k->codes.m; i++) {
		if (k->overflow[i] == SIZE_MAX - 1)
			return quant_no_memory(k->job, err);
		if (k->overflow[i] != SIZE_MAX)
			return quant_grid_overflow(k->job, i, k->overflow[i], err);
	}
	return PITH_OK;
}

/* The Hessian's diagonal, as weights of the squared errors when a grid is fitted. */
static pith_status set_importance(struct gptq_work *k, struct pith_error *err)
{
	size_t n = k->codes.n;
	const float *h = k->job->inputs->hessian;
	k->importance = malloc(n * sizeof(*k->importance));
	if (!k->importance)
		return quant_no_memory(k->job, err);
	for (size_t j = 0; j < n; j++) {
		size_t column = k->order == ORDER_STATIC ? j : k->factor.order[j];
		k->importance[j] = h[column * n + column] + (float)k->factor.damping;
	}
	return PITH_OK;
}

static pith_status solve(const struct scheme_link *link, struct gptq_work *k,
                         struct quant_result *out, struct pith_error *err)
{
	const struct quant_job *job = k->job;
	enum hessian_order order =
	    k->order == ORDER_NATURAL ? HESSIAN_NATURAL : HESSIAN_ACTIVATION;
	PITH_TRY(hessian_factor_make(job, order, link->value[GPTQ_DAMP], &k->factor, err));
	if (scheme_u32(link, GPTQ_GRID) == FIT_HESSIAN)
		PITH_TRY(set_importance(k, err));
	PITH_TRY(quant_job_load(job, &k->w, err));
	k->overflow = calloc(job->m, sizeof(*k->overflow));
	if (!k->overflow)
		return quant_no_memory(job, err);
	quant_rows(job->threads, (job->m + TASK_ROWS - 1) / TASK_ROWS, run_task, k);
	PITH_TRY(check_rows(k, err));
	PITH_TRY(quant_codes_pack(&k->codes, out, err));
	if (k->order == ORDER_ACT) {
		out->permute = k->factor.order;
		k->factor.order = NULL;
	}
	return PITH_OK;
}

static pith_status quantize_gptq(const struct scheme_link *link, const struct quant_job *job,
                                 struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule;
	struct gptq_work k = {.order = scheme_u32(link, GPTQ_ORDER), .job = job};
	gptq_grid(link, &rule);
	PITH_TRY(quant_codes_new(&rule, job, &k.codes, err));
	pith_status status = solve(link, &k, out, err);
	hessian_factor_free(&k.factor);
	quant_codes_free(&k.codes);
	free(k.w);
	free(k.importance);
	free(k.overflow);
	return status;
}

static bool gptq_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                        uint32_t *plane_count, uint32_t *term_count)
{
	struct quant_grid_rule rule;
	gptq_grid(link, &rule);
	*term_count = 1;
	if (!quant_grid_nbytes(&rule, m, n, nbytes, plane_count))
		return false;
	if (scheme_u32(link, GPTQ_ORDER) == ORDER_ACT)
		*nbytes += pith_round_up(4 * (size_t)n, PITH_ALIGN);
	return true;
}

const struct quant_method quant_method_gptq = {
    .name = "gptq",
    .help = "rounding with error feedback (needs --calib); bits=2..8 (4),\n"
            "group=16|32|64|128|256|row (128), zero=int|real|sym (int),\n"
            "order=natural|act|static (static: most active columns first, groups as\n"
            "stored), grid=minmax|mse|hessian (mse: scales by least squared error, hessian:\n"
            "weighted by the Hessian), damp=SHARE (1%)",
    .role = QUANT_QUANTIZE,
    .needs_inputs = true,
    .keys = gptq_keys,
    .nbytes = gptq_nbytes,
    .quantize = quantize_gptq,
    .grid = gptq_grid,
};
