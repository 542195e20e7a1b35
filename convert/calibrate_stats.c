/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_stats.h"

#include "quant_hessian.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PANEL_COLUMNS 64u

struct calibration_stats {
	struct calibration_inputs inputs; /* borrows what follows */
	struct hessian_memo memo;
	size_t n;
	uint64_t token_count, seen;
	float *hessian;                        /* [n, n], upper triangle until finished */
	float *absmax, *min, *max, *mean, *mean_abs; /* [n] */
	double *sum, *sum_abs;                 /* [n] */
	float *sample;                         /* [sample_count, n] */
	size_t sample_count, sample_cap;
	const float *x; /* batch at hand: [k, n] */
	size_t k;
};

uint64_t calibration_stats_nbytes(uint64_t n)
{
	return 4 * n * n + (5 * 4 + 2 * 8) * n + 4 * n * CALIBRATION_MAX_SAMPLE;
}

pith_status calibration_stats_new(size_t n, uint64_t token_count, struct calibration_stats **out,
                                  struct pith_error *err)
{
	struct calibration_stats *s = calloc(1, sizeof(*s));
	*out = s;
	if (s) {
		s->n = n;
		s->token_count = token_count;
		s->sample_cap = token_count < CALIBRATION_MAX_SAMPLE ? (size_t)token_count
		                                                     : CALIBRATION_MAX_SAMPLE;
		s->hessian = calloc(n, n * sizeof(*s->hessian));
		s->absmax = calloc(n, 5 * sizeof(*s->absmax));
		s->sum = calloc(n, 2 * sizeof(*s->sum));
		s->sample = calloc(n, (s->sample_cap + 1) * sizeof(*s->sample));
	}
	if (!s || !s->hessian || !s->absmax || !s->sum || !s->sample) {
		calibration_stats_free(s);
		*out = NULL;
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for statistics of %zu columns", n);
	}
	s->min = s->absmax + n;
	s->max = s->min + n;
	s->mean = s->max + n;
	s->mean_abs = s->mean + n;
	s->sum_abs = s->sum + n;
	return PITH_OK;
}

void calibration_stats_free(struct calibration_stats *s)
{
	if (!s)
		return;
	hessian_memo_clear(&s->memo);
	free(s->hessian);
	free(s->absmax);
	free(s->sum);
	free(s->sample);
	free(s);
}

static void add_column(struct calibration_stats *s, size_t j)
{
	float low = s->seen > 0 ? s->min[j] : s->x[j], high = s->seen > 0 ? s->max[j] : s->x[j];
	double sum = 0, sum_abs = 0;
	for (size_t t = 0; t < s->k; t++) {
		float v = s->x[t * s->n + j];
		low = v < low ? v : low;
		high = v > high ? v : high;
		sum += (double)v;
		sum_abs += (double)fabsf(v);
	}
	s->min[j] = low;
	s->max[j] = high;
	s->absmax[j] = high > -low ? high : -low;
	s->sum[j] += sum;
	s->sum_abs[j] += sum_abs;
}

/* Columns of one panel of the upper triangle: H[0 .. end, begin .. end] += X^T X. */
static void add_panel(void *ctx, size_t panel)
{
	struct calibration_stats *s = ctx;
	size_t n = s->n, begin = panel * PANEL_COLUMNS;
	size_t end = n - begin < PANEL_COLUMNS ? n : begin + PANEL_COLUMNS;
	for (size_t j = begin; j < end; j++)
		add_column(s, j);
	cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)end, (int)(end - begin), (int)s->k,
	            1.0f, s->x, (int)n, s->x + begin, (int)n, 1.0f, s->hessian + begin, (int)n);
}

/* Rows spread evenly over all tokens. */
static void add_sample(struct calibration_stats *s)
{
	while (s->sample_count < s->sample_cap) {
		uint64_t at = s->token_count * s->sample_count / s->sample_cap;
		if (at >= s->seen + s->k)
			return;
		memcpy(s->sample + s->sample_count++ * s->n, s->x + (size_t)(at - s->seen) * s->n,
		       s->n * sizeof(*s->sample));
	}
}

void calibration_stats_add(struct calibration_stats *s, const float *x, size_t k, unsigned threads)
{
	s->x = x;
	s->k = k;
	quant_rows(threads, (s->n + PANEL_COLUMNS - 1) / PANEL_COLUMNS, add_panel, s);
	add_sample(s);
	s->seen += k;
}

static void publish(struct calibration_stats *s)
{
	s->inputs = (struct calibration_inputs){
	    .n = s->n, .token_count = s->seen, .hessian = s->hessian, .absmax = s->absmax,
	    .min = s->min, .max = s->max, .mean = s->mean, .mean_abs = s->mean_abs,
	    .sample = s->sample, .sample_count = s->sample_count, .memo = &s->memo};
}

const struct calibration_inputs *calibration_stats_inputs(const struct calibration_stats *s)
{
	return &s->inputs;
}

void calibration_stats_finish(struct calibration_stats *s)
{
	size_t n = s->n;
	double tokens = s->seen > 0 ? (double)s->seen : 1.0;
	for (size_t j = 0; j < n; j++) {
		s->mean[j] = (float)(s->sum[j] / tokens);
		s->mean_abs[j] = (float)(s->sum_abs[j] / tokens);
		for (size_t i = 0; i <= j; i++) {
			float h = (float)(2.0 / tokens * (double)s->hessian[i * n + j]);
			s->hessian[i * n + j] = s->hessian[j * n + i] = h;
		}
	}
	publish(s);
}

pith_status calibration_stats_identity(size_t n, struct calibration_stats **out,
                                       struct pith_error *err)
{
	PITH_TRY(calibration_stats_new(n, 0, out, err));
	struct calibration_stats *s = *out;
	for (size_t j = 0; j < n; j++) {
		s->hessian[j * n + j] = 2.0f;
		s->absmax[j] = s->max[j] = s->mean_abs[j] = 1.0f;
		s->min[j] = -1.0f;
	}
	publish(s);
	return PITH_OK;
}
