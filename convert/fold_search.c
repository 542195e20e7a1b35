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
	float *x;                      /* [samples, n] inputs over s, rounded */
	float *w;                      /* [m of the largest linear, n] */
	float *y[FOLD_MAX_LINEARS];    /* [samples, m] */
	float *bias[FOLD_MAX_LINEARS]; /* [m] of the shift */
	float *exact, *made;           /* [samples, made_n] */
	double exact2;                 /* sum of squares */
	size_t linear;                 /* at hand */
	bool with_activations;
};

static void multiply(const struct fold_search *f, const float *x, const float *w, size_t i)
{
	calibration_linear(x, w, f->g->sample_count, f->g->linear[i].m, f->g->n, false, f->y[i],
	                   f->g->threads);
}

static pith_status make(const struct fold_search *f, float *out, struct pith_error *err)
{
	const struct fold_group *g = f->g;
	if (g->make)
		return g->make(g->ctx, f->y, g->sample_count, out, err);
	memcpy(out, f->y[0], g->sample_count * g->made_n * sizeof(*out));
	return PITH_OK;
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

static pith_status make_exact(struct fold_search *f, struct pith_error *err)
{
	const struct fold_group *g = f->g;
	for (size_t i = 0; i < g->linear_count; i++) {
		make_bias(f, i);
		multiply(f, g->sample, g->linear[i].w, i);
	}
	PITH_TRY(make(f, f->exact, err));
	for (size_t i = 0; i < g->sample_count * g->made_n; i++)
		f->exact2 += (double)f->exact[i] * (double)f->exact[i];
	return PITH_OK;
}

static bool allocate(struct fold_search *f)
{
	const struct fold_group *g = f->g;
	size_t samples = g->sample_count, widest = 0;
	bool ok = true;
	for (size_t i = 0; i < g->linear_count; i++) {
		size_t m = g->linear[i].m;
		widest = m > widest ? m : widest;
		f->y[i] = malloc(samples * m * sizeof(float) + 1);
		f->bias[i] = malloc(m * sizeof(float));
		ok = ok && f->y[i] && f->bias[i];
	}
	f->x = malloc(samples * g->n * sizeof(*f->x) + 1);
	f->w = malloc(widest * g->n * sizeof(*f->w));
	f->exact = malloc(samples * g->made_n * sizeof(*f->exact) + 1);
	f->made = malloc(samples * g->made_n * sizeof(*f->made) + 1);
	return ok && f->x && f->w && f->exact && f->made;
}

pith_status fold_search_new(const struct fold_group *g, const struct quant_grid_rule *usual,
                            bool with_activations, bool fast, struct fold_search **out,
                            struct pith_error *err)
{
	struct fold_search *f = calloc(1, sizeof(*f));
	*out = NULL;
	if (!f)
		return fold_no_memory(g, err);
	f->g = g;
	f->with_activations = with_activations;
	for (size_t i = 0; i < g->linear_count; i++) {
		f->target[i] = fold_target_of(g->linear[i].scheme, usual);
		if (fast)
			f->target[i].rule.search = GRID_MINMAX;
	}
	pith_status status = allocate(f) ? make_exact(f, err) : fold_no_memory(g, err);
	if (status == PITH_OK)
		*out = f;
	else
		fold_search_free(f);
	return status;
}

void fold_search_free(struct fold_search *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < FOLD_MAX_LINEARS; i++) {
		free(f->y[i]);
		free(f->bias[i]);
	}
	free(f->x);
	free(f->w);
	free(f->exact);
	free(f->made);
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
	for (size_t i = 0; i < f->g->sample_count; i++) {
		float *x = f->x + i * n;
		for (size_t j = 0; j < n; j++)
			x[j] = (f->g->sample[i * n + j] - f->g->shift[j]) / f->s[j];
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

pith_status fold_search_loss(struct fold_search *f, const float *s, double *loss,
                             struct pith_error *err)
{
	const struct fold_group *g = f->g;
	double sum = 0;
	f->s = s;
	make_inputs(f);
	for (f->linear = 0; f->linear < g->linear_count; f->linear++) {
		size_t m = g->linear[f->linear].m;
		PITH_TRY(make_weights(f, err));
		multiply(f, f->x, f->w, f->linear);
		for (size_t i = 0; i < g->sample_count * m; i++)
			f->y[f->linear][i] += f->bias[f->linear][i % m];
	}
	PITH_TRY(make(f, f->made, err));
	for (size_t i = 0; i < g->sample_count * g->made_n; i++) {
		double d = (double)f->made[i] - (double)f->exact[i];
		sum += d * d;
	}
	*loss = f->exact2 > 0 ? sum / f->exact2 : sum;
	return PITH_OK;
}
