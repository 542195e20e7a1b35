/*
 * Rounding with error feedback: columns are rounded one after the other in the order of a
 * Hessian's factor, and what a column's rounding breaks is repaired in those still to come (GPTQ,
 * sections 2 and 3).  What a column is rounded to is the method's; gptq, spqr and owq differ in that.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_FEEDBACK_H
#define PITH_CONVERT_QUANT_FEEDBACK_H

#include "quant_hessian.h"

#define FEEDBACK_MAX_ROWS 32u

struct feedback_task;

struct feedback {
	const struct quant_job *job;
	const struct hessian_factor *factor;
	const float *w;       /* [m, n] in the weight's own order of columns */
	size_t rounded;       /* the first columns in the factor's order; the others only take repairs */
	size_t task_rows;     /* rows that are rounded together, at most FEEDBACK_MAX_ROWS */
	size_t every;         /* of these tasks each every-th is run, from the first; 1: all */
	size_t scratch_nbytes; /* of a task, zeroed */
	const void *method;
	/*
	 * start and finish (NULL: nothing to do) come before the first and behind the last column.
	 * round: value[i] = what will be stored for row i at place j, given t->w as repaired so far.
	 * PITH_E_LIMIT: a value is too large to be stored, t->row and t->column say where; PITH_E_MEMORY.
	 */
	pith_status (*start)(struct feedback_task *t);
	pith_status (*round)(struct feedback_task *t, size_t j, float *value);
	pith_status (*finish)(struct feedback_task *t);
};

struct feedback_task {
	const struct feedback *solve;
	size_t number, first, rows; /* rows first .. first + rows - 1 */
	float *w;                   /* [rows, n] in the order of rounding */
	void *scratch;
	size_t row, column;         /* of a value that is too large */
};

/* PITH_E_LIMIT for a value that is too large for f16.  The result does not depend on the threads. */
pith_status feedback_run(const struct feedback *f, struct pith_error *err);

#endif
