/*
 * Wanda (Sun et al. 2023): in every row the values with the smallest |w| * ||x_j|| go, or those of
 * every group of columns.  What stays is not changed.
 *
 * Rows are independent: results do not depend on the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "prune.h"

#include "bytes.h"

#include <stdlib.h>

enum { WANDA_SPARSITY };

static const struct scheme_key wanda_keys[] = {
    [WANDA_SPARSITY] = {"sparsity", SCHEME_SPARSITY, 0.5, 0, 1, NULL},
    {0},
};

struct wanda_work {
	struct prune_store store;
	float *norm;       /* [n]: of the column's inputs, up to a common factor */
	float *importance; /* [n] its square */
	bool *failed;      /* [m] no memory */
};

static void mask_row(void *ctx, size_t row)
{
	const struct wanda_work *k = ctx;
	size_t n = k->store.job->n;
	const float *w = k->store.w + row * n;
	float *score = malloc(n * sizeof(*score));
	uint32_t *ranked = malloc(n * sizeof(*ranked));
	k->failed[row] = !score || !ranked;
	for (size_t j = 0; !k->failed[row] && j < n; j++)
		score[j] = fabsf(w[j]) * k->norm[j];
	if (!k->failed[row])
		prune_row(&k->store.wish, score, n, k->store.present + row * n, ranked);
	free(score);
	free(ranked);
}

static pith_status run_wanda(struct wanda_work *k, struct quant_result *out, struct pith_error *err)
{
	const struct quant_job *job = k->store.job;
	k->norm = malloc(2 * job->n * sizeof(*k->norm));
	k->failed = calloc(job->m, sizeof(*k->failed));
	if (!k->norm || !k->failed)
		return quant_no_memory(job, err);
	k->importance = k->norm + job->n;
	for (size_t j = 0; j < job->n; j++) {
		k->importance[j] = job->inputs->hessian[j * job->n + j];
		k->norm[j] = sqrtf(k->importance[j]);
	}
	quant_rows(job->threads, job->m, mask_row, k);
	for (size_t row = 0; row < job->m; row++)
		if (k->failed[row])
			return quant_no_memory(job, err);
	PITH_TRY(prune_store_round(&k->store, k->importance, err));
	return prune_store_pack(&k->store, out, err);
}

static pith_status quantize_wanda(const struct scheme_link *link, const struct quant_job *job,
                                  struct quant_result *out, struct pith_error *err)
{
	struct wanda_work k = {.norm = NULL};
	PITH_TRY(prune_store_new(link, WANDA_SPARSITY, job, &k.store, err));
	pith_status status = run_wanda(&k, out, err);
	free(k.norm);
	free(k.failed);
	prune_store_free(&k.store);
	return status;
}

static bool wanda_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                         uint32_t *plane_count, uint32_t *term_count)
{
	return prune_nbytes(link, WANDA_SPARSITY, m, n, nbytes, plane_count, term_count);
}

const struct quant_method quant_method_wanda = {
    .name = "wanda",
    .help = "drop what has the smallest |weight| times norm of its inputs in every row (needs\n"
            "--calib); sparsity=50%|2:4 (50%)",
    .role = QUANT_PRUNE,
    .needs_inputs = true,
    .keys = wanda_keys,
    .plain_key = "sparsity",
    .nbytes = wanda_nbytes,
    .quantize = quantize_wanda,
};
