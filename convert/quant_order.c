/*
 * A weight with its columns in another order: what a method of role order hands to the
 * links behind it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <stdlib.h>

/* Weight and statistics of the inputs, columns in the order of the links behind. */
struct ordered {
	struct quant_job job;
	struct calibration_inputs inputs;
	uint32_t *order; /* [n] column of the weight at place j */
	float *memory;
};

static float *take_vector(const float *x, const uint32_t *order, size_t n, float *out)
{
	for (size_t j = 0; j < n; j++)
		out[j] = x[order[j]];
	return out;
}

static void take_rows(float *x, const uint32_t *order, size_t m, size_t n, float *row)
{
	for (size_t i = 0; i < m; i++) {
		take_vector(x + i * n, order, n, row);
		memcpy(x + i * n, row, n * sizeof(*x));
	}
}

static pith_status order_inputs(struct ordered *o, struct pith_error *err)
{
	const struct calibration_inputs *in = o->job.inputs;
	size_t n = in->n, samples = in->sample_count;
	o->memory = malloc((n * n + samples * n + 5 * n) * sizeof(*o->memory));
	if (!o->memory)
		return quant_no_memory(&o->job, err);
	float *hessian = o->memory, *sample = hessian + n * n, *p = sample + samples * n;
	for (size_t i = 0; i < n; i++)
		take_vector(in->hessian + o->order[i] * n, o->order, n, hessian + i * n);
	for (size_t i = 0; i < samples; i++)
		take_vector(in->sample + i * n, o->order, n, sample + i * n);
	o->inputs = *in;
	o->inputs.memo = NULL; /* of another order */
	o->inputs.hessian = hessian;
	o->inputs.sample = sample;
	o->inputs.absmax = take_vector(in->absmax, o->order, n, p);
	o->inputs.min = take_vector(in->min, o->order, n, p + n);
	o->inputs.max = take_vector(in->max, o->order, n, p + 2 * n);
	o->inputs.mean = take_vector(in->mean, o->order, n, p + 3 * n);
	o->inputs.mean_abs = take_vector(in->mean_abs, o->order, n, p + 4 * n);
	o->job.inputs = &o->inputs;
	return PITH_OK;
}

/* 'order' first, then 'next': the one permutation that is both. */
static void compose(const uint32_t *order, size_t n, uint32_t *next)
{
	for (size_t j = 0; j < n; j++)
		next[j] = order[next[j]];
}

static pith_status run(const struct scheme_link *link, struct ordered *o, float *w,
                       pith_status (*rest)(const struct scheme_link *, const struct quant_job *,
                                           struct quant_result *, struct pith_error *),
                       struct quant_result *out, struct pith_error *err)
{
	size_t n = o->job.n;
	float *row = malloc(n * sizeof(*row));
	o->order = malloc(n * sizeof(*o->order));
	pith_status status = row && o->order ? PITH_OK : quant_no_memory(&o->job, err);
	if (status == PITH_OK)
		status = link->method->order(link, &o->job, o->order, err);
	if (status == PITH_OK)
		take_rows(w, o->order, o->job.m, n, row);
	free(row);
	if (status == PITH_OK && o->job.inputs)
		status = order_inputs(o, err);
	o->job.weights = w;
	if (status == PITH_OK)
		status = rest(link + 1, &o->job, out, err);
	if (status == PITH_OK && out->permute) {
		compose(o->order, n, out->permute);
	} else if (status == PITH_OK) {
		out->permute = o->order;
		o->order = NULL;
	}
	return status;
}

pith_status quant_ordered(const struct scheme_link *link, const struct quant_job *job,
                          pith_status (*rest)(const struct scheme_link *link,
                                              const struct quant_job *job,
                                              struct quant_result *out, struct pith_error *err),
                          struct quant_result *out, struct pith_error *err)
{
	struct ordered o = {.job = *job};
	float *w;
	PITH_TRY(quant_job_load(job, &w, err));
	pith_status status = run(link, &o, w, rest, out, err);
	free(w);
	free(o.order);
	free(o.memory);
	return status;
}
