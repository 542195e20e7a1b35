/*
 * AWQ (Lin et al. 2023): columns that see large inputs are scaled up before rounding, what makes
 * the inputs is scaled down.  Then weights far out of a group are clamped, where that
 * helps the output.
 *
 * As the authors do: s = mean|x|^r / (mean|w|^(1-r) + 1e-4), |w| relative to its group's largest
 * (scale=duo, AutoAWQ's: columns of small weights that see large inputs get the whole factor at any
 * r), or mean|x|^r (scale=inputs, the paper's), for r = 0/20 .. 19/20, divided by
 * sqrt(max s * min s), the r with the least error of the output; clamps of 1, 0.95 .. 0.55 of a
 * group's largest weight, but not for q and k.  Inputs are those of the uncompressed model.
 * Otherwise than theirs:
 * - of the attention (q, k and v) four texts are compared, of the other outputs 512 tokens spread
 *   over all, not every token;
 * - heads that share a value head get one factor (the geometric mean) where they skip such models;
 * - columns without inputs keep the factor 1;
 * - clamping is judged by the Hessian's block over all tokens, not by a few hundred of them;
 * - the grid is the one of the quantizer that follows, with its own search of ranges.
 * A clamp is not undone later: errors in the file's lineage are relative to the clamped weights.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fold_search.h"

#include "bytes.h"

#include <cblas.h>
#include <stdlib.h>

#define RATIO_STEPS 20u
#define CLIP_STEPS 10u /* of 1/20 */

enum { AWQ_SCALE, AWQ_CLIP };
enum { SCALE_NONE, SCALE_INPUTS, SCALE_DUO };

static const struct scheme_key awq_keys[] = {
    [AWQ_SCALE] = {"scale", SCHEME_CHOICE, SCALE_DUO, 0, 0, "none|inputs|duo"},
    [AWQ_CLIP] = {"clip", SCHEME_INTEGER, 1, 0, 1, NULL},
    {0},
};

static const struct quant_grid_rule awq_grid = {
    .bits = 4, .group_size = 128, .zero_mode = GRID_ZERO_INT, .search = GRID_MINMAX};

/* ---- scales ---- */

/* Mean over all rows of |w| relative to its group's largest.  out: [n]. */
static void mean_weights(const struct fold_group *g, size_t group, float *out)
{
	double rows = 0;
	memset(out, 0, g->n * sizeof(*out));
	for (size_t i = 0; i < g->linear_count; i++) {
		for (size_t r = 0; r < g->linear[i].m; r++) {
			const float *w = g->linear[i].w + r * g->n;
			for (size_t first = 0; first < g->n; first += group) {
				size_t end = g->n - first < group ? g->n : first + group;
				float most = 1e-6f;
				for (size_t j = first; j < end; j++)
					most = fabsf(w[j]) > most ? fabsf(w[j]) : most;
				for (size_t j = first; j < end; j++)
					out[j] += fabsf(w[j]) / most;
			}
		}
		rows += (double)g->linear[i].m;
	}
	for (size_t j = 0; j < g->n; j++)
		out[j] = (float)((double)out[j] / rows);
}

/* Factors for one ratio; weights: [n], or NULL. */
static void make_scales(const struct fold_group *g, double ratio, const float *weights, float *s)
{
	const float *x = g->inputs->mean_abs;
	double low = INFINITY, high = 0;
	for (size_t j = 0; j < g->n; j++) {
		double v = pow((double)x[j], ratio);
		if (weights)
			v /= pow((double)weights[j], 1 - ratio) + 1e-4;
		v = v > 1e-4 ? v : 1e-4;
		s[j] = (float)v;
		if (x[j] > 0) {
			low = v < low ? v : low;
			high = v > high ? v : high;
		}
	}
	for (size_t j = 0; j < g->n; j++)
		s[j] = x[j] > 0 ? (float)((double)s[j] / sqrt(low * high)) : 1.0f;
}

struct scale_search {
	struct fold_search *search;
	float *s, *best, *weights; /* [n] each; weights: of duo, or NULL */
	double least;
};

static pith_status search_ratios(const struct fold_group *g, struct scale_search *k,
                                 struct pith_error *err)
{
	k->least = INFINITY;
	for (size_t j = 0; j < g->n; j++)
		k->best[j] = 1.0f;
	for (unsigned i = 0; i < RATIO_STEPS; i++) {
		double loss;
		make_scales(g, (double)i / RATIO_STEPS, k->weights, k->s);
		if (!fold_share(g, k->s))
			return fold_no_memory(g, err);
		PITH_TRY(fold_search_loss(k->search, k->s, &loss, err));
		if (loss < k->least) {
			k->least = loss;
			memcpy(k->best, k->s, g->n * sizeof(*k->best));
		}
	}
	return PITH_OK;
}

/* best: [n], the factors with the least loss. */
static pith_status find_scales(const struct fold_group *g, bool duo, float *best,
                               struct pith_error *err)
{
	struct scale_search k = {.best = best};
	PITH_TRY(fold_search_new(g, &awq_grid, false, false, &k.search, err));
	float *memory = malloc(2 * g->n * sizeof(*memory));
	pith_status status = memory ? PITH_OK : fold_no_memory(g, err);
	k.s = memory;
	if (memory && duo) {
		struct fold_target t = fold_target_of(g->linear[0].scheme, &awq_grid);
		k.weights = memory + g->n;
		mean_weights(g, t.rule.group_size == 0 ? g->n : t.rule.group_size, k.weights);
	}
	if (status == PITH_OK)
		status = search_ratios(g, &k, err);
	free(memory);
	fold_search_free(k.search);
	return status;
}

/* ---- clamps ---- */

#define CLIP_GROUP 256u /* the widest group that clamps are searched for */

struct clip_work {
	const struct fold_group *g;
	const struct quant_grid_rule *rule;
	const float *s;       /* [n] what the inputs were divided by after the Hessian was taken */
	float *w;             /* [m, n] */
};

/* e H e^T over one group, e the change of rounding w clamped to 'most'. */
static double clamp_error(const struct clip_work *k, const float *w, size_t first, size_t count,
                          float most, float *e)
{
	struct quant_grid grid;
	float product[CLIP_GROUP];
	for (size_t j = 0; j < count; j++)
		e[j] = grid_clamp(w[j], -most, most);
	if (!quant_grid_fit(k->rule, e, NULL, count, &grid))
		return INFINITY;
	for (size_t j = 0; j < count; j++)
		e[j] = (quant_grid_value(&grid, quant_grid_code(&grid, e[j])) - w[j]) / k->s[first + j];
	cblas_ssymv(CblasRowMajor, CblasUpper, (int)count, 1.0f,
	            k->g->inputs->hessian + first * k->g->n + first, (int)k->g->n, e, 1, 0.0f, product,
	            1);
	double sum = 0;
	for (size_t j = 0; j < count; j++)
		sum += (double)e[j] * (double)product[j];
	return sum;
}

static void clamp_group(const struct clip_work *k, float *w, size_t first, size_t count)
{
	float e[CLIP_GROUP], most = 0, best = 0;
	double least = INFINITY;
	for (size_t j = 0; j < count; j++)
		most = fabsf(w[j]) > most ? fabsf(w[j]) : most;
	for (unsigned i = 0; i < CLIP_STEPS; i++) {
		float limit = most * (1.0f - (float)i / 20.0f);
		double error = clamp_error(k, w, first, count, limit, e);
		if (error < least) {
			least = error;
			best = limit;
		}
	}
	for (size_t j = 0; j < count && least < INFINITY; j++)
		w[j] = grid_clamp(w[j], -best, best);
}

static void clamp_row(void *ctx, size_t row)
{
	const struct clip_work *k = ctx;
	size_t n = k->g->n, size = k->rule->group_size;
	for (size_t first = 0; first < n; first += size)
		clamp_group(k, k->w + row * n + first, first, n - first < size ? n - first : size);
}

/* s: [n] factors that were folded. */
static void clamp_weights(const struct fold_group *g, const float *s)
{
	size_t first = g->site == FOLD_ATTENTION_IN ? 2 : 0; /* not q and k */
	for (size_t i = first; i < g->linear_count; i++) {
		struct fold_target t = fold_target_of(g->linear[i].scheme, &awq_grid);
		struct clip_work k = {g, &t.rule, s, g->linear[i].w};
		bool groups = t.rule.group_size > 0 && t.rule.group_size <= CLIP_GROUP;
		if (t.quantizes && !t.link && groups)
			quant_rows(g->threads, g->linear[i].m, clamp_row, &k);
	}
}

/* ---- the fold ---- */

static pith_status fold_awq(const struct scheme_link *link, struct fold_group *g,
                            struct pith_error *err)
{
	uint32_t scale = scheme_u32(link, AWQ_SCALE);
	float *s = malloc(g->n * sizeof(*s));
	if (!s)
		return fold_no_memory(g, err);
	for (size_t j = 0; j < g->n; j++)
		s[j] = 1.0f;
	pith_status status = PITH_OK;
	if (scale != SCALE_NONE && (g->norm || g->producer))
		status = find_scales(g, scale == SCALE_DUO, s, err);
	bool folded = status == PITH_OK && fold_apply(g, s);
	for (size_t j = 0; j < g->n && !folded; j++)
		s[j] = 1.0f;
	if (status == PITH_OK && scheme_u32(link, AWQ_CLIP))
		clamp_weights(g, s);
	free(s);
	return status;
}

const struct quant_method quant_method_awq = {
    .name = "awq",
    .help = "scale columns by their inputs, clamp weights, for the quantizer behind it\n"
            "(rtn when there is none; needs --calib); scale=none|inputs|duo (duo),\n"
            "clip=0|1 (1)",
    .role = QUANT_FOLD,
    .needs_inputs = true,
    .keys = awq_keys,
    .fold = fold_awq,
};
