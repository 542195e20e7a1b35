/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fold_search.h"

#include "bytes.h"
#include "calibrate_block.h"

#include <stdlib.h>

pith_status fold_no_memory(const struct fold_group *g, struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to fold into %.100s",
	                 g->linear[0].name);
}

/* ---- what comes after ---- */

struct fold_target fold_target_of(const struct scheme *s, const struct quant_grid_rule *usual)
{
	struct fold_target t = {.rule = *usual, .activation = PITH_ACTIVATION_INT8_TOKEN};
	for (const struct scheme_link *link = s->link; link->method; link++) {
		if (link->method->role == QUANT_DENSE)
			return t;
		if (link->method->role != QUANT_QUANTIZE)
			continue;
		t.quantizes = true;
		t.activation = scheme_activation(link);
		if (link->method->grid)
			link->method->grid(link, &t.rule);
		else if (!link->method->needs_inputs)
			t.link = link;
		return t;
	}
	return t;
}

/* ---- the search ---- */

struct fold_search {
	const struct fold_group *g;
	struct fold_target target[FOLD_MAX_LINEARS];
	const float *s;
	size_t widest;   /* rows of the largest linear */
	size_t output;   /* linear whose output is compared first; those before it only enter */
	float *x;        /* [samples, n] inputs over s, rounded */
	float *w;        /* [widest, n] */
	float *y, *gate; /* [samples, widest] */
	float *exact[FOLD_MAX_LINEARS]; /* [samples, m] */
	float *bias[FOLD_MAX_LINEARS];  /* [m] of the shift */
	size_t linear;   /* at hand */
	bool with_activations, failed;
};

static bool is_gated(const struct fold_search *f)
{
	return f->g->site == FOLD_FFN_IN && f->g->linear_count == 2;
}

static void multiply(const struct fold_search *f, const float *x, const float *w, size_t m,
                     float *y)
{
	calibration_linear(x, w, f->g->inputs->sample_count, m, f->g->n, false, y, f->g->threads);
}

/* What the shift takes away from the outputs. */
static void make_bias(struct fold_search *f, size_t i)
{
	const struct fold_group *g = f->g;
	for (size_t r = 0; r < g->linear[i].m; r++) {
		double sum = 0;
		for (size_t c = 0; c < g->n; c++)
			sum += (double)g->linear[i].w[r * g->n + c] * (double)g->shift[c];
		f->bias[i][r] = (float)sum;
	}
}

static void make_exact(struct fold_search *f)
{
	const struct fold_group *g = f->g;
	for (size_t i = 0; i < g->linear_count; i++)
		make_bias(f, i);
	for (size_t i = 0; i < g->linear_count; i++)
		multiply(f, g->inputs->sample, g->linear[i].w, g->linear[i].m, f->exact[i]);
	if (is_gated(f)) {
		size_t count = g->inputs->sample_count * g->linear[0].m;
		calibration_gate(f->exact[0], f->exact[1], count, g->threads);
		memcpy(f->exact[1], f->exact[0], count * sizeof(*f->exact[1]));
	}
}

pith_status fold_search_new(const struct fold_group *g, const struct quant_grid_rule *usual,
                            bool with_activations, bool fast, struct fold_search **out,
                            struct pith_error *err)
{
	struct fold_search *f = *out = calloc(1, sizeof(*f));
	size_t samples = g->inputs->sample_count;
	if (!f)
		return fold_no_memory(g, err);
	f->g = g;
	f->with_activations = with_activations;
	for (size_t i = 0; i < g->linear_count; i++) {
		f->target[i] = fold_target_of(g->linear[i].scheme, usual);
		if (fast)
			f->target[i].rule.search = GRID_MINMAX;
		f->widest = g->linear[i].m > f->widest ? g->linear[i].m : f->widest;
		f->exact[i] = malloc(samples * g->linear[i].m * sizeof(float) + 1);
		f->bias[i] = malloc(g->linear[i].m * sizeof(float));
		f->failed = f->failed || !f->exact[i] || !f->bias[i];
	}
	f->output = is_gated(f) ? 1 : 0;
	f->x = malloc(samples * g->n * sizeof(*f->x) + 1);
	f->w = malloc(f->widest * g->n * sizeof(*f->w));
	f->y = malloc(samples * f->widest * sizeof(*f->y) + 1);
	f->gate = malloc(samples * f->widest * sizeof(*f->gate) + 1);
	if (f->failed || !f->x || !f->w || !f->y || !f->gate) {
		fold_search_free(f);
		*out = NULL;
		return fold_no_memory(g, err);
	}
	make_exact(f);
	return PITH_OK;
}

void fold_search_free(struct fold_search *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < FOLD_MAX_LINEARS; i++) {
		free(f->exact[i]);
		free(f->bias[i]);
	}
	free(f->x);
	free(f->w);
	free(f->y);
	free(f->gate);
	free(f);
}

/* ---- inputs ---- */

static void round_inputs(float *x, size_t count, float absmax)
{
	float scale = absmax / 127.0f;
	for (size_t j = 0; j < count && scale > 0; j++)
		x[j] = grid_round(grid_clamp(x[j] / scale, -127.0f, 127.0f)) * scale;
}

static float largest(const float *x, size_t count)
{
	float most = 0;
	for (size_t j = 0; j < count; j++)
		most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
	return most;
}

float fold_reach(const struct fold_group *g, size_t c)
{
	float above = g->inputs->max[c] - g->shift[c], below = g->shift[c] - g->inputs->min[c];
	return above > below ? above : below;
}

/* Largest input of any column over the whole text. */
static float largest_input(const struct fold_search *f)
{
	float most = 0;
	for (size_t c = 0; c < f->g->n; c++) {
		float v = fold_reach(f->g, c) / f->s[c];
		most = v > most ? v : most;
	}
	return most;
}

static void make_inputs(struct fold_search *f)
{
	size_t n = f->g->n;
	uint32_t rule = f->with_activations ? f->target[0].activation : PITH_ACTIVATION_FLOAT;
	float all = rule == PITH_ACTIVATION_INT8_STATIC ? largest_input(f) : 0;
	for (size_t i = 0; i < f->g->inputs->sample_count; i++) {
		float *x = f->x + i * n;
		for (size_t j = 0; j < n; j++)
			x[j] = (f->g->inputs->sample[i * n + j] - f->g->shift[j]) / f->s[j];
		if (rule == PITH_ACTIVATION_INT8_STATIC)
			round_inputs(x, n, all);
		if (rule == PITH_ACTIVATION_INT8_TOKEN)
			round_inputs(x, n, largest(x, n));
		for (size_t j = 0; j < n && rule == PITH_ACTIVATION_INT8_GROUP32; j += 32) {
			size_t count = n - j < 32 ? n - j : 32;
			round_inputs(x + j, count, largest(x + j, count));
		}
	}
}

/* ---- weights ---- */

static void round_row(void *ctx, size_t row)
{
	const struct fold_search *f = ctx;
	const struct quant_grid_rule *rule = &f->target[f->linear].rule;
	size_t n = f->g->n, size = rule->group_size == 0 ? n : rule->group_size;
	float *w = f->w + row * n;
	for (size_t first = 0; first < n; first += size) {
		size_t count = n - first < size ? n - first : size;
		struct quant_grid grid;
		if (!quant_grid_fit(rule, w + first, NULL, count, &grid))
			continue; /* too large for the grid: the quantizer will say so */
		for (size_t j = first; j < first + count; j++)
			w[j] = quant_grid_value(&grid, quant_grid_code(&grid, w[j]));
	}
}

/* By the method itself, which has no grid. */
static pith_status round_by_method(struct fold_search *f, const struct scheme_link *link,
                                   struct pith_error *err)
{
	struct source_tensor tensor = {.name = (char *)(uintptr_t)f->g->linear[f->linear].name,
	                               .dtype = PITH_DTYPE_F32};
	struct quant_job job = {.tensor = &tensor, .m = f->g->linear[f->linear].m, .n = f->g->n,
	                        .weights = f->w, .threads = f->g->threads};
	struct quant_result q = {.term_count = 0};
	pith_status status = link->method->quantize(link, &job, &q, err);
	if (status == PITH_OK)
		status = quant_result_unpack(&q, job.m, job.n, f->w, err);
	quant_result_free(&q);
	return status;
}

/* The linear at hand with its columns times s, rounded. */
static pith_status make_weights(struct fold_search *f, struct pith_error *err)
{
	size_t m = f->g->linear[f->linear].m, n = f->g->n;
	const float *w = f->g->linear[f->linear].w;
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++)
			f->w[i * n + j] = w[i * n + j] * f->s[j];
	if (f->target[f->linear].link)
		return round_by_method(f, f->target[f->linear].link, err);
	quant_rows(f->g->threads, m, round_row, f);
	return PITH_OK;
}

static double squared_distance(const float *a, const float *b, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++) {
		double d = (double)a[i] - (double)b[i];
		sum += d * d;
	}
	return sum;
}

static double squared_size(const float *a, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += (double)a[i] * (double)a[i];
	return sum;
}

pith_status fold_search_loss(struct fold_search *f, const float *s, double *loss,
                             struct pith_error *err)
{
	const struct fold_group *g = f->g;
	size_t samples = g->inputs->sample_count;
	*loss = 0;
	f->s = s;
	make_inputs(f);
	for (f->linear = 0; f->linear < g->linear_count; f->linear++) {
		size_t m = g->linear[f->linear].m;
		PITH_TRY(make_weights(f, err));
		float *y = f->linear < f->output ? f->gate : f->y;
		multiply(f, f->x, f->w, m, y);
		for (size_t i = 0; i < samples * m; i++)
			y[i] += f->bias[f->linear][i % m];
		if (f->linear < f->output)
			continue;
		if (f->output > 0)
			calibration_gate(f->gate, f->y, samples * m, g->threads);
		const float *exact = f->exact[f->linear];
		double size = squared_size(exact, samples * m);
		*loss += squared_distance(f->output > 0 ? f->gate : f->y, exact, samples * m) /
		         (size > 0 ? size : 1);
	}
	return PITH_OK;
}
