/*
 * OWQ (Lee et al. 2023): the input columns that suffer most from rounding - Hessian diagonal
 * times squared rounding error - stay as they are, in a columns term; the others are rounded with
 * error feedback first, so that the kept ones take over what is still wrong.
 *
 * bits=B.F gives codes of B bits and, by the authors' rule for Llama, n * 12 F / (16 - B) / 7
 * kept columns to linears of attention, 0.375 times that to those of feed-forward blocks, an even
 * number; other matrices get n * F / (16 - B).  Codes of kept columns are the zero-point, which
 * is an exact 0.
 *
 * Groups are those of the weight's own columns, less the kept ones, so nothing is permuted:
 * order=natural (the paper's) fits them as it goes, order=act rounds the most sensitive columns
 * first, with grids fitted before. (The authors close the gaps that kept columns leave, which
 * moves groups.)  Dead columns (0 in all inputs) are rounded as they are.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_feedback.h"
#include "quant_grid.h"

#include "bytes.h"

#include <stdlib.h>

#define TASK_ROWS 32u
#define SUM_COLUMNS 64u

enum {
	OWQ_BITS, OWQ_COLUMNS, OWQ_GROUP, OWQ_ZERO, OWQ_ORDER, OWQ_GRID, OWQ_DTYPE, OWQ_DAMP
};
enum { ORDER_NATURAL, ORDER_ACT };
enum { KEEP_F16, KEEP_BF16 };

static const struct scheme_key owq_keys[] = {
    [OWQ_BITS] = {"bits", SCHEME_NUMBER, 4.01, 2, 8, NULL},
    [OWQ_COLUMNS] = {"columns", SCHEME_INTEGER, 0, 0, 65536, NULL},
    [OWQ_GROUP] = {"group", SCHEME_GROUP, 0, 0, 0, NULL},
    [OWQ_ZERO] = {"zero", SCHEME_CHOICE, GRID_ZERO_INT, 0, 0, "sym|int"},
    [OWQ_ORDER] = {"order", SCHEME_CHOICE, ORDER_ACT, 0, 0, "natural|act"},
    [OWQ_GRID] = {"grid", SCHEME_CHOICE, FIT_POWER, 0, 0, QUANT_FIT_NAMES},
    [OWQ_DTYPE] = {"dtype", SCHEME_CHOICE, KEEP_F16, 0, 0, "f16|bf16"},
    [OWQ_DAMP] = {"damp", SCHEME_NUMBER, 0.01, 0, 10, NULL},
    {0},
};

static void owq_rule(const struct scheme_link *link, struct quant_grid_rule *rule)
{
	rule->bits = scheme_u32(link, OWQ_BITS);
	rule->group_size = scheme_u32(link, OWQ_GROUP);
	rule->zero_mode = scheme_u32(link, OWQ_ZERO);
	rule->search = grid_search_of(scheme_u32(link, OWQ_GRID));
	if (rule->search == GRID_FULL && rule->group_size > 0)
		rule->search = GRID_FULL_40;
}

/* Columns to keep of n.  name: of the weight, or NULL. */
static size_t kept_count(const struct scheme_link *link, const char *name, uint64_t n)
{
	double bits = link->value[OWQ_BITS], whole = floor(bits);
	/* for models of Llama's shapes these two come to the same number of bits as 7 / 12 for all */
	double ratio = name && strstr(name, "attn") ? 1 : name && strstr(name, "mlp") ? 0.375 : 7.0 / 12;
	double share = 12.0 / 7 * (bits - whole) / (16 - whole) * ratio;
	double count = nearbyint((double)n * share);
	count += fmod(count, 2);
	if (link->value[OWQ_COLUMNS] > 0)
		count = link->value[OWQ_COLUMNS];
	return count < (double)n ? (size_t)count : (size_t)n;
}

struct owq_work {
	const struct quant_job *job;
	uint32_t fit; /* FIT_ */
	struct quant_codes codes;
	struct hessian_factor factor;
	bool act;
	float *w;           /* [m, n] */
	float *importance;  /* [n] by column, or NULL */
	double *sensitivity; /* [n] by column */
	uint32_t *order;    /* [n] kept columns last, these ascending */
	bool *keep;         /* [n] by column */
	size_t kept, rounded; /* kept + rounded = n */
	struct quant_grid *plain; /* [m, groups] fitted to all columns; only for the sensitivity */
	bool *too_large;    /* [m] plain could not be fitted */
	uint32_t dtype;
	float *values;      /* [m, kept] */
};

/* ---- which columns to keep ---- */

static size_t group_count(const struct quant_codes *c, size_t group)
{
	size_t left = c->n - group * c->group_size;
	return left < c->group_size ? left : c->group_size;
}

static void fit_plain(void *ctx, size_t row)
{
	const struct owq_work *k = ctx;
	const struct quant_codes *c = &k->codes;
	struct quant_grid_rule rule = c->rule;
	if (rule.search == GRID_FULL)
		rule.search = GRID_FULL_40;
	for (size_t g = 0; g < c->groups; g++)
		if (!quant_grid_fit(&rule, k->w + row * c->n + g * c->group_size, NULL,
		                    group_count(c, g), &k->plain[row * c->groups + g]))
			k->too_large[row] = true;
}

/* Squared rounding errors of a piece of columns, summed over rows in their order. */
static void sum_errors(void *ctx, size_t piece)
{
	const struct owq_work *k = ctx;
	const struct quant_codes *c = &k->codes;
	size_t first = piece * SUM_COLUMNS;
	size_t end = c->n - first < SUM_COLUMNS ? c->n : first + SUM_COLUMNS;
	for (size_t row = 0; row < c->m; row++) {
		for (size_t j = first; j < end; j++) {
			const struct quant_grid *g = &k->plain[row * c->groups + j / c->group_size];
			float w = k->w[row * c->n + j];
			double e = (double)w - (double)quant_grid_value(g, quant_grid_code(g, w));
			k->sensitivity[j] += e * e;
		}
	}
}

static pith_status measure_sensitivity(struct owq_work *k, struct pith_error *err)
{
	const struct quant_codes *c = &k->codes;
	k->plain = malloc(c->m * c->groups * sizeof(*k->plain));
	k->too_large = calloc(c->m, sizeof(*k->too_large));
	if (!k->plain || !k->too_large)
		return quant_no_memory(k->job, err);
	quant_rows(k->job->threads, c->m, fit_plain, k);
	for (size_t i = 0; i < c->m; i++)
		if (k->too_large[i])
			return quant_grid_overflow(k->job, i, 0, err);
	quant_rows(k->job->threads, (c->n + SUM_COLUMNS - 1) / SUM_COLUMNS, sum_errors, k);
	for (size_t j = 0; j < c->n; j++)
		k->sensitivity[j] *= (double)k->job->inputs->hessian[j * c->n + j];
	free(k->plain);
	k->plain = NULL;
	return PITH_OK;
}

struct ranked {
	double sensitivity;
	uint32_t column;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->sensitivity != y->sensitivity)
		return x->sensitivity < y->sensitivity ? 1 : -1;
	return x->column < y->column ? -1 : x->column > y->column;
}

/* Most sensitive columns are kept; order: what is rounded first comes first. */
static pith_status choose_columns(struct owq_work *k, struct pith_error *err)
{
	size_t n = k->codes.n, at = 0;
	struct ranked *ranked = malloc(n * sizeof(*ranked));
	if (!ranked)
		return quant_no_memory(k->job, err);
	for (size_t j = 0; j < n; j++)
		ranked[j] = (struct ranked){k->sensitivity[j], (uint32_t)j};
	qsort(ranked, n, sizeof(*ranked), compare_ranked);
	for (size_t i = 0; i < k->kept; i++)
		k->keep[ranked[i].column] = true;
	for (size_t i = 0; i < n; i++) {
		uint32_t column = k->act ? ranked[i].column : (uint32_t)i;
		if (!k->keep[column])
			k->order[at++] = column;
	}
	for (size_t j = 0; j < n; j++)
		if (k->keep[j])
			k->order[at++] = (uint32_t)j;
	free(ranked);
	return PITH_OK;
}

/* ---- rounding ---- */

/* Scratch of a task: grids of all its rows, and a group on its way to be fitted. */
struct owq_task {
	struct quant_grid *grid;    /* [TASK_ROWS, groups] */
	float *values, *importance; /* [group_size] */
};

static size_t scratch_nbytes(const struct quant_codes *c)
{
	return TASK_ROWS * c->groups * sizeof(struct quant_grid) + 2 * c->group_size * sizeof(float);
}

static struct owq_task scratch_of(const struct feedback_task *t, const struct quant_codes *c)
{
	struct owq_task s = {.grid = t->scratch};
	s.values = (float *)(s.grid + TASK_ROWS * c->groups);
	s.importance = s.values + c->group_size;
	return s;
}

/* Fit a group's grid to its columns that are not kept.  place: of its first; SIZE_MAX: as given. */
static pith_status fit_group(struct feedback_task *t, size_t i, size_t group, size_t place)
{
	const struct owq_work *k = t->solve->method;
	const struct quant_codes *c = &k->codes;
	struct owq_task s = scratch_of(t, c);
	size_t first = group * c->group_size, count = 0, row = t->first + i;
	for (size_t j = first; j < first + group_count(c, group); j++) {
		if (k->keep[j])
			continue;
		s.values[count] = place == SIZE_MAX ? k->w[row * c->n + j] : t->w[i * c->n + place + count];
		s.importance[count++] = k->importance ? k->importance[j] : 1.0f;
	}
	struct quant_grid *g = &s.grid[i * c->groups + group];
	if (count == 0)
		return PITH_OK;
	if (!quant_grid_fit(&k->codes.rule, s.values, k->importance ? s.importance : NULL, count, g)) {
		t->row = row;
		t->column = first;
		return PITH_E_LIMIT;
	}
	quant_codes_set_grid(c, row, group, g);
	return PITH_OK;
}

static pith_status start_rows(struct feedback_task *t)
{
	const struct owq_work *k = t->solve->method;
	for (size_t i = 0; k->act && i < t->rows; i++)
		for (size_t g = 0; g < k->codes.groups; g++)
			PITH_TRY(fit_group(t, i, g, SIZE_MAX));
	return PITH_OK;
}

static pith_status round_column(struct feedback_task *t, size_t j, float *value)
{
	const struct owq_work *k = t->solve->method;
	const struct quant_codes *c = &k->codes;
	const struct quant_grid *grid = scratch_of(t, c).grid;
	size_t column = k->order[j], group = column / c->group_size;
	bool begins = j == 0 || k->order[j - 1] / c->group_size != group;
	for (size_t i = 0; i < t->rows; i++) {
		const struct quant_grid *g = &grid[i * c->groups + group];
		if (!k->act && begins)
			PITH_TRY(fit_group(t, i, group, j));
		float q = quant_grid_code(g, t->w[i * c->n + j]);
		value[i] = quant_grid_value(g, q);
		c->codes[(t->first + i) * c->n + column] = (uint8_t)q;
	}
	return PITH_OK;
}

static float stored(uint32_t dtype, float v)
{
	return dtype == PITH_DTYPE_F16 ? f32_of_f16(f16_of_f32(v)) : f32_of_bf16(bf16_of_f32(v));
}

/* What the kept columns have become, and codes that stand for 0 in their place. */
static pith_status finish_rows(struct feedback_task *t)
{
	const struct owq_work *k = t->solve->method;
	const struct quant_codes *c = &k->codes;
	const struct quant_grid *grid = scratch_of(t, c).grid;
	for (size_t i = 0; i < t->rows; i++) {
		size_t row = t->first + i;
		for (size_t j = k->rounded; j < c->n; j++) {
			size_t column = k->order[j];
			float v = t->w[i * c->n + j];
			if (!isfinite(stored(k->dtype, v))) {
				t->row = row;
				t->column = column;
				return PITH_E_LIMIT;
			}
			k->values[row * k->kept + j - k->rounded] = v;
			uint32_t zero = c->rule.zero_mode == GRID_ZERO_SYM
			    ? 1u << (c->rule.bits - 1)
			    : (uint32_t)grid[i * c->groups + column / c->group_size].zero;
			c->codes[row * c->n + column] = (uint8_t)zero;
		}
	}
	return PITH_OK;
}

/* ---- the method ---- */

static pith_status allocate(struct owq_work *k, struct pith_error *err)
{
	size_t m = k->codes.m, n = k->codes.n;
	PITH_TRY(quant_job_load(k->job, &k->w, err));
	k->sensitivity = calloc(n, sizeof(*k->sensitivity));
	k->order = malloc(n * sizeof(*k->order));
	k->keep = calloc(n, sizeof(*k->keep));
	k->values = malloc((m * k->kept + 1) * sizeof(*k->values));
	return k->sensitivity && k->order && k->keep && k->values ? PITH_OK
	                                                          : quant_no_memory(k->job, err);
}

static void release(struct owq_work *k)
{
	hessian_factor_free(&k->factor);
	quant_codes_free(&k->codes);
	free(k->w);
	free(k->importance);
	free(k->sensitivity);
	free(k->order);
	free(k->keep);
	free(k->plain);
	free(k->too_large);
	free(k->values);
}

/* The Hessian's diagonal, as weights of the squared errors when a grid is fitted. */
static pith_status set_importance(struct owq_work *k, struct pith_error *err)
{
	size_t n = k->codes.n;
	k->importance = malloc(n * sizeof(*k->importance));
	if (!k->importance)
		return quant_no_memory(k->job, err);
	for (size_t j = 0; j < n; j++)
		k->importance[j] = k->job->inputs->hessian[j * n + j] + (float)k->factor.damping;
	return PITH_OK;
}

static pith_status solve(const struct scheme_link *link, struct owq_work *k,
                         struct quant_result *out, struct pith_error *err)
{
	PITH_TRY(allocate(k, err));
	PITH_TRY(measure_sensitivity(k, err));
	PITH_TRY(choose_columns(k, err));
	PITH_TRY(hessian_factor_make_in(k->job, k->order, link->value[OWQ_DAMP], &k->factor, err));
	if (k->fit == FIT_HESSIAN)
		PITH_TRY(set_importance(k, err));
	struct feedback f = {.job = k->job, .factor = &k->factor, .w = k->w, .rounded = k->rounded,
	                     .task_rows = TASK_ROWS, .every = 1, .method = k, .start = start_rows,
	                     .scratch_nbytes = scratch_nbytes(&k->codes), .round = round_column,
	                     .finish = finish_rows};
	PITH_TRY(feedback_run(&f, err));
	PITH_TRY(quant_codes_pack(&k->codes, out, err));
	if (k->kept > 0) {
		PITH_TRY(pith_columns_pack(k->order + k->rounded, k->values, k->kept, k->codes.m,
		                           k->codes.n, k->dtype, &out->term[out->term_count], err));
		out->term_count++;
	}
	return PITH_OK;
}

static pith_status quantize_owq(const struct scheme_link *link, const struct quant_job *job,
                                struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule;
	struct owq_work k = {.job = job, .act = scheme_u32(link, OWQ_ORDER) == ORDER_ACT};
	owq_rule(link, &rule);
	k.kept = kept_count(link, job->tensor->name, job->n);
	k.rounded = job->n - k.kept;
	k.fit = scheme_u32(link, OWQ_GRID);
	k.dtype = scheme_u32(link, OWQ_DTYPE) == KEEP_F16 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16;
	pith_status status = quant_codes_new(&rule, job, &k.codes, err);
	if (status == PITH_OK)
		status = solve(link, &k, out, err);
	release(&k);
	return status;
}

static bool owq_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count, uint32_t *term_count)
{
	struct quant_grid_rule rule;
	size_t kept = kept_count(link, NULL, n), index, values;
	owq_rule(link, &rule);
	*term_count = kept > 0 ? 2 : 1;
	if (!quant_grid_nbytes(&rule, m, n, nbytes, plane_count))
		return false;
	if (kept == 0)
		return true;
	*plane_count += 2;
	if (!pith_mul_size(kept, 4, &index) ||
	    !pith_mul_size(2 * kept, pith_round_up((size_t)m, PITH_TILE_ROWS), &values))
		return false;
	*nbytes += pith_round_up(index, PITH_ALIGN) + pith_round_up(values, PITH_ALIGN);
	return true;
}

const struct quant_method quant_method_owq = {
    .name = "owq",
    .help = "rounding with error feedback, sensitive columns kept (needs --calib);\n"
            "bits=B.F (4.01: B bits, F for columns), columns=N (0: from bits),\n"
            "group=16|32|64|128|256|row (row), zero=int|sym (int), order=natural|act\n"
            "(act), grid=minmax|mse|hessian|power|full (power: least |error|^2.4, full: that\n"
            "over every scale and zero-point, slow), dtype=f16|bf16 (f16), damp=SHARE (1%)",
    .role = QUANT_QUANTIZE,
    .needs_inputs = true,
    .keys = owq_keys,
    .nbytes = owq_nbytes,
    .quantize = quantize_owq,
};
