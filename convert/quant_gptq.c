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
#include "quant_feedback.h"
#include "quant_grid.h"

#include <stdlib.h>

enum { GPTQ_BITS, GPTQ_GROUP, GPTQ_ZERO, GPTQ_ORDER, GPTQ_GRID, GPTQ_DAMP, GPTQ_ACT };
enum { ORDER_NATURAL, ORDER_ACT, ORDER_STATIC };

static const struct scheme_key gptq_keys[] = {
    [GPTQ_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [GPTQ_GROUP] = {"group", SCHEME_GROUP, 128, 0, 0, NULL},
    [GPTQ_ZERO] = {"zero", SCHEME_CHOICE, GRID_ZERO_INT, 0, 0, "sym|int|real"},
    [GPTQ_ORDER] = {"order", SCHEME_CHOICE, ORDER_STATIC, 0, 0, "natural|act|static"},
    [GPTQ_GRID] = {"grid", SCHEME_CHOICE, FIT_MSE, 0, 0, QUANT_FIT_NAMES},
    [GPTQ_DAMP] = {"damp", SCHEME_NUMBER, 0.01, 0, 10, NULL},
    [GPTQ_ACT] = {QUANT_ACT_KEY, SCHEME_CHOICE, 0, 0, 0, QUANT_ACT_NAMES},
    {0},
};

static void gptq_grid(const struct scheme_link *link, struct quant_grid_rule *rule)
{
	rule->bits = scheme_u32(link, GPTQ_BITS);
	rule->group_size = scheme_u32(link, GPTQ_GROUP);
	rule->zero_mode = scheme_u32(link, GPTQ_ZERO);
	rule->search = grid_search_of(scheme_u32(link, GPTQ_GRID));
}

struct gptq_work {
	struct quant_codes codes;
	struct hessian_factor factor;
	uint32_t order;    /* ORDER_ */
	float *w;          /* [m, n] in the weight's order of columns */
	float *importance; /* [n] by place in the codes, or NULL */
	const struct quant_job *job;
};

/* Grids of row i of a task: [groups], in its scratch. */
static struct quant_grid *grids_of(const struct feedback_task *t, size_t i)
{
	const struct gptq_work *k = t->solve->method;
	return (struct quant_grid *)t->scratch + i * k->codes.groups;
}

/* Fit a group of row i to w: [n], by place in the codes. */
static pith_status fit(struct feedback_task *t, size_t i, const float *w, size_t group)
{
	const struct gptq_work *k = t->solve->method;
	size_t first = group * k->codes.group_size;
	size_t count = k->codes.n - first;
	count = count < k->codes.group_size ? count : k->codes.group_size;
	struct quant_grid *grid = &grids_of(t, i)[group];
	if (!quant_grid_fit(&k->codes.rule, w + first, k->importance ? k->importance + first : NULL,
	                    count, grid)) {
		t->row = t->first + i;
		t->column = first;
		return PITH_E_LIMIT;
	}
	quant_codes_set_grid(&k->codes, t->first + i, group, grid);
	return PITH_OK;
}

static pith_status start_rows(struct feedback_task *t)
{
	const struct gptq_work *k = t->solve->method;
	for (size_t i = 0; k->order == ORDER_STATIC && i < t->rows; i++)
		for (size_t g = 0; g < k->codes.groups; g++)
			PITH_TRY(fit(t, i, k->w + (t->first + i) * k->codes.n, g));
	return PITH_OK;
}

static pith_status round_column(struct feedback_task *t, size_t j, float *value)
{
	const struct gptq_work *k = t->solve->method;
	const struct quant_codes *c = &k->codes;
	size_t place = k->order == ORDER_STATIC ? k->factor.order[j] : j;
	size_t group = place / c->group_size;
	bool begins = k->order != ORDER_STATIC && place % c->group_size == 0;
	for (size_t i = 0; i < t->rows; i++) {
		const float *w = t->w + i * c->n;
		if (begins)
			PITH_TRY(fit(t, i, w, group));
		const struct quant_grid *grid = &grids_of(t, i)[group];
		float q = quant_grid_code(grid, w[j]);
		c->codes[(t->first + i) * c->n + place] = (uint8_t)q;
		value[i] = quant_grid_value(grid, q);
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
	struct feedback f = {
	    .job = job, .factor = &k->factor, .w = k->w, .rounded = job->n,
	    .task_rows = FEEDBACK_MAX_ROWS, .every = 1, .method = k,
	    .scratch_nbytes = FEEDBACK_MAX_ROWS * k->codes.groups * sizeof(struct quant_grid),
	    .start = start_rows, .round = round_column};
	PITH_TRY(feedback_run(&f, err));
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
            "stored), grid=minmax|mse|hessian|power|full (mse: scales by least squared\n"
            "error, hessian: weighted by the Hessian, power: by |error|^2.4, full: that over\n"
            "every scale and zero-point), damp=SHARE (1%), act=8|token|static as rtn (8)",
    .role = QUANT_QUANTIZE,
    .needs_inputs = true,
    .keys = gptq_keys,
    .nbytes = gptq_nbytes,
    .quantize = quantize_gptq,
    .grid = gptq_grid,
};
