/*
 * SparseGPT (Frantar & Alistarh 2023): columns are pruned one after the other, and what a
 * pruned value took is repaired in the columns still to come; with a quantizer behind it what is kept
 * is rounded in the same pass, so that one repair serves both.
 *
 * Without a pattern the mask is chosen for a block of columns at once, by one threshold over all
 * rows on w^2 / U_jj^2 of the weights as repaired so far; with n:m per row and n:m group when its
 * first column is reached.  A grid is fitted when its group's first column is reached, to what is
 * then known to be kept.
 *
 * Between two blocks rows are independent: results do not depend on the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "prune.h"
#include "quant_hessian.h"

#include "bytes.h"

#include <cblas.h>
#include <stdlib.h>

#define MAX_BLOCK 1024u
#define TASK_ROWS 16u

enum { SPARSEGPT_SPARSITY, SPARSEGPT_BLOCK, SPARSEGPT_DAMP };

static const struct scheme_key sparsegpt_keys[] = {
    [SPARSEGPT_SPARSITY] = {"sparsity", SCHEME_SPARSITY, 0.5, 0, 1, NULL},
    [SPARSEGPT_BLOCK] = {"block", SCHEME_INTEGER, 128, 32, MAX_BLOCK, NULL},
    [SPARSEGPT_DAMP] = {"damp", SCHEME_NUMBER, 0.01, 0, 10, NULL},
    {0},
};

struct sparsegpt_work {
	struct prune_store store;
	struct hessian_factor factor;
	size_t n, block;
	size_t begin, end;  /* columns of the block at hand */
	float *score;       /* [m, block] */
	float *error;       /* [m, block], divided by U's diagonal */
	float *scratch;     /* [m, 2 * width of a grid's group]; NULL without codes */
	float *importance;  /* [n]: the damped Hessian's diagonal */
	struct quant_grid *grid; /* [m]: of the group at hand */
	size_t *overflow;        /* [m] column, or SIZE_MAX */
};

static float diagonal(const struct sparsegpt_work *k, size_t j)
{
	return k->factor.upper[j * k->n + j];
}

static float score_of(const struct sparsegpt_work *k, const float *w, size_t j)
{
	float d = diagonal(k, j);
	return w[j] * w[j] / (d * d);
}

static void score_block(void *ctx, size_t row)
{
	struct sparsegpt_work *k = ctx;
	size_t width = k->end - k->begin;
	for (size_t j = k->begin; j < k->end; j++)
		k->score[row * width + j - k->begin] = score_of(k, k->store.w + row * k->n, j);
}

/* One threshold for the block: scores at or below it go, as in the authors' code. */
static void mask_block(struct sparsegpt_work *k)
{
	size_t m = k->store.job->m, width = k->end - k->begin;
	quant_rows(k->store.job->threads, m, score_block, k);
	float threshold = prune_threshold(k->score, m * width, k->store.wish.share);
	bool all = k->store.wish.share * (double)(m * width) < 1; /* nothing is to go */
	for (size_t row = 0; row < m; row++)
		for (size_t j = k->begin; j < k->end; j++)
			k->store.present[row * k->n + j] =
			    all || score_of(k, k->store.w + row * k->n, j) > threshold;
}

/* The n:m groups of one row whose first columns are begin .. end-1. */
static void mask_pattern(const struct sparsegpt_work *k, size_t row, size_t begin, size_t end)
{
	float score[32];
	uint32_t ranked[32];
	for (size_t first = begin; first < end; first += k->store.wish.columns) {
		size_t count = k->n - first;
		count = count < k->store.wish.columns ? count : k->store.wish.columns;
		for (size_t j = 0; j < count; j++)
			score[j] = score_of(k, k->store.w + row * k->n, first + j);
		prune_row(&k->store.wish, score, count, k->store.present + row * k->n + first, ranked);
	}
}

/* The grid of the group that begins at column j. */
static bool start_group(const struct sparsegpt_work *k, size_t row, size_t j)
{
	const struct quant_codes *c = &k->store.codes;
	size_t count = k->n - j < c->group_size ? k->n - j : c->group_size;
	if (k->store.wish.columns != 0 && j % k->store.wish.columns == 0)
		mask_pattern(k, row, j, j + count); /* a forecast: chosen anew when it is reached */
	if (!prune_grid_fit(&c->rule, k->store.w + row * k->n + j,
	                    k->store.present + row * k->n + j, k->importance + j, count,
	                    k->scratch + row * 2 * c->group_size, &k->grid[row])) {
		k->overflow[row] = j;
		return false;
	}
	quant_codes_set_grid(c, row, j / c->group_size, &k->grid[row]);
	return true;
}

/* What is stored for column j of a row. */
static float keep(const struct sparsegpt_work *k, size_t row, size_t j)
{
	size_t i = row * k->n + j;
	if (!k->store.present[i])
		return 0;
	if (!k->store.coded)
		return f32_of_f16(f16_of_f32(k->store.w[i]));
	float code = quant_grid_code(&k->grid[row], k->store.w[i]);
	k->store.codes.codes[i] = (uint8_t)code;
	return quant_grid_value(&k->grid[row], code);
}

/* The block's columns of one row, with repairs up to its end. */
static bool solve_row(const struct sparsegpt_work *k, size_t row)
{
	const struct prune_wish *wish = &k->store.wish;
	float *w = k->store.w + row * k->n, *error = k->error + row * k->block;
	for (size_t j = k->begin; j < k->end; j++) {
		if (k->store.coded && j % k->store.codes.group_size == 0 && !start_group(k, row, j))
			return false;
		if (wish->columns != 0 && j % wish->columns == 0)
			mask_pattern(k, row, j, j + 1);
		const float *u = k->factor.upper + j * k->n;
		float value = keep(k, row, j);
		float e = (w[j] - value) / u[j];
		w[j] = value;
		error[j - k->begin] = e;
		for (size_t l = j + 1; l < k->end; l++)
			w[l] -= e * u[l];
	}
	return true;
}

static void solve_task(void *ctx, size_t task)
{
	const struct sparsegpt_work *k = ctx;
	size_t first = task * TASK_ROWS, m = k->store.job->m;
	size_t rows = m - first < TASK_ROWS ? m - first : TASK_ROWS;
	for (size_t row = first; row < first + rows; row++)
		if (k->overflow[row] != SIZE_MAX || !solve_row(k, row))
			return;
	if (k->end < k->n)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)(k->n - k->end),
		            (int)(k->end - k->begin), -1.0f, k->error + first * k->block, (int)k->block,
		            k->factor.upper + k->begin * k->n + k->end, (int)k->n, 1.0f,
		            k->store.w + first * k->n + k->end, (int)k->n);
}

static pith_status solve_blocks(struct sparsegpt_work *k, struct pith_error *err)
{
	const struct quant_job *job = k->store.job;
	for (k->begin = 0; k->begin < k->n; k->begin = k->end) {
		k->end = k->n - k->begin < k->block ? k->n : k->begin + k->block;
		if (k->store.wish.columns == 0)
			mask_block(k);
		quant_rows(job->threads, (job->m + TASK_ROWS - 1) / TASK_ROWS, solve_task, k);
		for (size_t row = 0; row < job->m; row++)
			if (k->overflow[row] != SIZE_MAX)
				return quant_grid_overflow(job, row, k->overflow[row], err);
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, (uint64_t)job->m * k->end, err));
	}
	return PITH_OK;
}

static pith_status allocate(struct sparsegpt_work *k, struct pith_error *err)
{
	const struct quant_job *job = k->store.job;
	size_t m = job->m, group = k->store.coded ? k->store.codes.group_size : 0;
	k->score = malloc(m * k->block * sizeof(*k->score));
	k->error = malloc(m * k->block * sizeof(*k->error));
	k->scratch = malloc((m * 2 * group + 1) * sizeof(*k->scratch));
	k->importance = malloc(k->n * sizeof(*k->importance));
	k->grid = malloc(m * sizeof(*k->grid));
	k->overflow = malloc(m * sizeof(*k->overflow));
	if (!k->score || !k->error || !k->scratch || !k->importance || !k->grid || !k->overflow)
		return quant_no_memory(job, err);
	for (size_t row = 0; row < m; row++)
		k->overflow[row] = SIZE_MAX;
	for (size_t j = 0; j < k->n; j++)
		k->importance[j] = job->inputs->hessian[j * k->n + j] + (float)k->factor.damping;
	memset(k->store.present, 1, m * k->n);
	return PITH_OK;
}

static pith_status quantize_sparsegpt(const struct scheme_link *link, const struct quant_job *job,
                                      struct quant_result *out, struct pith_error *err)
{
	struct sparsegpt_work k = {.n = job->n};
	PITH_TRY(prune_store_new(link, SPARSEGPT_SPARSITY, job, &k.store, err));
	k.block = scheme_u32(link, SPARSEGPT_BLOCK);
	/* no n:m group straddles two blocks */
	if (k.store.wish.columns != 0)
		k.block = pith_round_up(k.block, k.store.wish.columns);
	pith_status status = hessian_factor_make(job, HESSIAN_NATURAL, link->value[SPARSEGPT_DAMP],
	                                         &k.factor, err);
	if (status == PITH_OK)
		status = allocate(&k, err);
	if (status == PITH_OK)
		status = solve_blocks(&k, err);
	if (status == PITH_OK)
		status = prune_store_pack(&k.store, out, err);
	hessian_factor_free(&k.factor);
	free(k.score);
	free(k.error);
	free(k.scratch);
	free(k.importance);
	free(k.grid);
	free(k.overflow);
	prune_store_free(&k.store);
	return status;
}

static bool sparsegpt_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n,
                             uint64_t *nbytes, uint32_t *plane_count, uint32_t *term_count)
{
	return prune_nbytes(link, SPARSEGPT_SPARSITY, m, n, nbytes, plane_count, term_count);
}

const struct quant_method quant_method_sparsegpt = {
    .name = "sparsegpt",
    .help = "prune with error feedback (needs --calib), rounding in the same pass with\n"
            "+gptq:bits=4 or +rtn behind it; sparsity=50%|2:4 (50%), block=COLUMNS (128),\n"
            "damp=SHARE (1%)",
    .role = QUANT_PRUNE,
    .needs_inputs = true,
    .keys = sparsegpt_keys,
    .plain_key = "sparsity",
    .nbytes = sparsegpt_nbytes,
    .quantize = quantize_sparsegpt,
};
