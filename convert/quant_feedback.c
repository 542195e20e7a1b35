/*
 * Rounding with error feedback, block by block of columns (GPTQ, section 3, step 2).
 *
 * Rows are independent: results do not depend on the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_feedback.h"

#include "quant_grid.h"

#include <cblas.h>
#include <stdlib.h>

#define BLOCK_COLUMNS 128u

struct feedback_run {
	const struct feedback *solve;
	struct {
		pith_status status;
		size_t row, column;
	} *task;
};

/* Columns begin .. end-1, within one block: round, and repair up to the block's end. */
static pith_status round_block(struct feedback_task *t, size_t begin, size_t end, float *error)
{
	size_t n = t->solve->job->n;
	for (size_t j = begin; j < end; j++) {
		const float *u = t->solve->factor->upper + j * n;
		float value[FEEDBACK_MAX_ROWS];
		PITH_TRY(t->solve->round(t, j, value));
		for (size_t i = 0; i < t->rows; i++) {
			float *w = t->w + i * n;
			float e = (w[j] - value[i]) / u[j];
			error[i * BLOCK_COLUMNS + j - begin] = e;
			cblas_saxpy((int)(end - j - 1), -e, u + j + 1, 1, w + j + 1, 1);
		}
	}
	return PITH_OK;
}

static pith_status solve_task(struct feedback_task *t, float *error)
{
	const struct feedback *f = t->solve;
	size_t n = f->job->n;
	for (size_t i = 0; i < t->rows; i++)
		for (size_t j = 0; j < n; j++)
			t->w[i * n + j] = f->w[(t->first + i) * n + f->factor->order[j]];
	if (f->start)
		PITH_TRY(f->start(t));
	for (size_t begin = 0; begin < f->rounded; begin += BLOCK_COLUMNS) {
		size_t left = f->rounded - begin;
		size_t end = begin + (left < BLOCK_COLUMNS ? left : BLOCK_COLUMNS);
		PITH_TRY(round_block(t, begin, end, error));
		if (end < n)
			cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->rows, (int)(n - end),
			            (int)(end - begin), -1.0f, error, BLOCK_COLUMNS,
			            f->factor->upper + begin * n + end, (int)n, 1.0f, t->w + end, (int)n);
	}
	return f->finish ? f->finish(t) : PITH_OK;
}

static void run_task(void *ctx, size_t i)
{
	const struct feedback_run *r = ctx;
	const struct feedback *f = r->solve;
	struct feedback_task t = {.solve = f, .number = i * f->every};
	t.first = t.number * f->task_rows;
	t.rows = f->job->m - t.first < f->task_rows ? f->job->m - t.first : f->task_rows;
	t.w = malloc(t.rows * f->job->n * sizeof(*t.w));
	float *error = calloc(t.rows * BLOCK_COLUMNS, sizeof(*error));
	t.scratch = calloc(1, f->scratch_nbytes + 1);
	r->task[i].status = t.w && error && t.scratch ? solve_task(&t, error) : PITH_E_MEMORY;
	r->task[i].row = t.row;
	r->task[i].column = t.column;
	free(t.w);
	free(error);
	free(t.scratch);
}

pith_status feedback_run(const struct feedback *f, struct pith_error *err)
{
	size_t all = (f->job->m + f->task_rows - 1) / f->task_rows;
	size_t count = (all + f->every - 1) / f->every;
	struct feedback_run r = {.solve = f, .task = calloc(count, sizeof(*r.task))};
	if (!r.task)
		return quant_no_memory(f->job, err);
	quant_rows(f->job->threads, count, run_task, &r);
	pith_status status = PITH_OK;
	for (size_t i = 0; i < count && status == PITH_OK; i++) {
		if (r.task[i].status == PITH_E_LIMIT)
			status = quant_grid_overflow(f->job, r.task[i].row, r.task[i].column, err);
		else if (r.task[i].status != PITH_OK)
			status = quant_no_memory(f->job, err);
	}
	free(r.task);
	return status;
}
