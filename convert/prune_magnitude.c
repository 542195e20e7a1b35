/*
 * Magnitude pruning, the baseline: the smallest values of a weight go (of the whole weight, or of
 * every group of columns of a row).  No data, no repair.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "prune.h"

#include "bytes.h"

#include <stdlib.h>

enum { MAGNITUDE_SPARSITY };

static const struct scheme_key magnitude_keys[] = {
    [MAGNITUDE_SPARSITY] = {"sparsity", SCHEME_SPARSITY, 0.5, 0, 1, NULL},
    {0},
};

/* All values below one threshold, and of those at it as many as the share asks for. */
static void drop_below(struct prune_store *s, float *score, size_t count)
{
	for (size_t i = 0; i < count; i++)
		score[i] = fabsf(s->w[i]);
	float threshold = prune_threshold(score, count, s->wish.share);
	size_t left = (size_t)((double)count * s->wish.share);
	for (size_t i = 0; i < count; i++)
		left -= fabsf(s->w[i]) < threshold;
	for (size_t i = 0; i < count; i++) {
		float v = fabsf(s->w[i]);
		s->present[i] = v > threshold || (v == threshold && left == 0);
		left -= v == threshold && left > 0;
	}
}

static void drop_in_rows(struct prune_store *s, float *score, uint32_t *ranked)
{
	size_t n = s->job->n;
	for (size_t row = 0; row < s->job->m; row++) {
		for (size_t j = 0; j < n; j++)
			score[j] = fabsf(s->w[row * n + j]);
		prune_row(&s->wish, score, n, s->present + row * n, ranked);
	}
}

static pith_status quantize_magnitude(const struct scheme_link *link, const struct quant_job *job,
                                      struct quant_result *out, struct pith_error *err)
{
	struct prune_store s;
	PITH_TRY(prune_store_new(link, MAGNITUDE_SPARSITY, job, &s, err));
	size_t count = s.wish.columns != 0 ? job->n : job->m * job->n;
	float *score = malloc(count * sizeof(*score));
	uint32_t *ranked = malloc(job->n * sizeof(*ranked));
	pith_status status = score && ranked ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK && s.wish.columns != 0)
		drop_in_rows(&s, score, ranked);
	else if (status == PITH_OK)
		drop_below(&s, score, count);
	free(score);
	free(ranked);
	if (status == PITH_OK)
		status = prune_store_round(&s, NULL, err);
	if (status == PITH_OK)
		status = prune_store_pack(&s, out, err);
	prune_store_free(&s);
	return status;
}

static bool magnitude_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n,
                             uint64_t *nbytes, uint32_t *plane_count, uint32_t *term_count)
{
	return prune_nbytes(link, MAGNITUDE_SPARSITY, m, n, nbytes, plane_count, term_count);
}

const struct quant_method quant_method_magnitude = {
    .name = "magnitude",
    .help = "drop the smallest values; sparsity=50%|2:4 (50%), of a weight or of every 4 columns",
    .role = QUANT_PRUNE,
    .keys = magnitude_keys,
    .plain_key = "sparsity",
    .nbytes = magnitude_nbytes,
    .quantize = quantize_magnitude,
};
