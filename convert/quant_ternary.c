/*
 * Ternary weights as BitNet b1.58 makes them (arXiv 2402.17764): T = clamp(rne(W / g), -1, 1) with g the mean
 * magnitude of the tensor, or of each row.  Meant for models that were trained so; for others it is a demonstration.
 *
 * Spec: spec/terms/ternary.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"

#include <stdlib.h>

enum { TERNARY_SCALE };
enum { SCALE_TENSOR, SCALE_ROW };

static const struct scheme_key ternary_keys[] = {
    [TERNARY_SCALE] = {"scale", SCHEME_CHOICE, SCALE_TENSOR, 0, 0, "tensor|row"},
    {0},
};

#define LEAST_SCALE 1e-5 /* as BitNet clamps it */

struct ternary_work {
	size_t n;
	const float *w;
	float *scales; /* [m] */
	int8_t *trits; /* [m, n] */
};

static void find_scales(const struct quant_job *job, bool per_row, const struct ternary_work *k)
{
	double total = 0;
	for (size_t i = 0; i < job->m; i++) {
		double sum = 0;
		for (size_t j = 0; j < job->n; j++)
			sum += fabs((double)k->w[i * job->n + j]);
		total += sum;
		double mean = sum / (double)job->n;
		k->scales[i] = (float)(mean > LEAST_SCALE ? mean : LEAST_SCALE);
	}
	double mean = total / ((double)job->m * (double)job->n);
	for (size_t i = 0; !per_row && i < job->m; i++)
		k->scales[i] = (float)(mean > LEAST_SCALE ? mean : LEAST_SCALE);
}

static void quantize_row(void *ctx, size_t i)
{
	const struct ternary_work *k = ctx;
	for (size_t j = 0; j < k->n; j++) {
		float v = k->w[i * k->n + j] / k->scales[i];
		k->trits[i * k->n + j] = (int8_t)grid_round(grid_clamp(v, -1.0f, 1.0f));
	}
}

static pith_status quantize_ternary(const struct scheme_link *link, const struct quant_job *job,
                                    struct quant_result *out, struct pith_error *err)
{
	float *w;
	PITH_TRY(quant_job_load(job, &w, err));
	struct ternary_work k = {.n = job->n, .w = w};
	k.scales = malloc(job->m * sizeof(*k.scales));
	k.trits = malloc(job->m * job->n);
	pith_status status = k.scales && k.trits ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK) {
		find_scales(job, scheme_u32(link, TERNARY_SCALE) == SCALE_ROW, &k);
		quant_rows(job->threads, job->m, quantize_row, &k);
		status = pith_ternary_pack(k.trits, k.scales, job->m, job->n,
		                           &out->term[out->term_count], err);
	}
	if (status == PITH_OK) {
		out->term_count++;
		out->activation = PITH_ACTIVATION_INT8_GROUP32;
	}
	free(w);
	free(k.scales);
	free(k.trits);
	return status;
}

static bool ternary_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                           uint32_t *plane_count, uint32_t *term_count)
{
	uint64_t codes, scales;
	(void)link;
	*plane_count = 2;
	*term_count = 1;
	if (!pith_ternary_sizes(m, n, &codes, &scales))
		return false;
	*nbytes = pith_round_up((size_t)codes, PITH_ALIGN) + pith_round_up((size_t)scales, PITH_ALIGN);
	return true;
}

const struct quant_method quant_method_ternary = {
    .name = "ternary",
    .help = "-1, 0, +1 times the mean magnitude (BitNet b1.58), for models trained so;\n"
            "scale=tensor|row (tensor)",
    .role = QUANT_QUANTIZE,
    .keys = ternary_keys,
    .nbytes = ternary_nbytes,
    .quantize = quantize_ternary,
};
