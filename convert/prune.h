/*
 * What pruners share: the wanted sparsity, masks by scores, and storing what is kept, as f16
 * values or on the grid of the quantizer behind the pruner.
 *
 * Spec: spec/terms/sparse.md, forms 2 and 3
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_PRUNE_H
#define PITH_CONVERT_PRUNE_H

#include "quant_grid.h"

/* How much goes: 'zeros' of every 'columns' columns of a row, or with columns 0 a share. */
struct prune_wish {
	uint32_t zeros, columns;
	double share;
};
struct prune_wish prune_wish_of(double sparsity);

/*
 * Drop the lowest scores of 'count' values: 'zeros' of each 'columns' of them (a short last group
 * proportionally), or int(count * share); of equal ones the first.  present: [count] 0 or 1.
 * ranked: [count] scratch.
 */
void prune_row(const struct prune_wish *wish, const float *score, size_t count, uint8_t *present,
               uint32_t *ranked);

/* The score that int(count * share) others come before: ascending; reorders 'score'. */
float prune_threshold(float *score, size_t count, double share);

/* A weight on its way to a sparse term. */
struct prune_store {
	const struct quant_job *job;
	struct prune_wish wish;
	bool coded;               /* a grid is wanted */
	struct quant_codes codes; /* with coded */
	uint8_t *present;         /* [m, n] */
	float *w;                 /* [m, n]: what becomes of the weight; loaded */
};
/*
 * 'link' is the pruner's, whose key 'key' is its sparsity.  PITH_E_ARGUMENT where the quantizer's
 * grid cannot be stored with a bitmask (groups of 16, real zero-points).
 */
pith_status prune_store_new(const struct scheme_link *link, size_t key, const struct quant_job *job,
                            struct prune_store *out, struct pith_error *err);
void prune_store_free(struct prune_store *s);

/*
 * Fit a grid to those of w: [count] that present says (all when none is).  importance: [count] or
 * NULL.  false: too large for f16; PITH_E_LIMIT is the caller's to say.  scratch: [2 * count].
 */
bool prune_grid_fit(const struct quant_grid_rule *rule, const float *w, const uint8_t *present,
                    const float *importance, size_t count, float *scratch, struct quant_grid *out);

/* Round what is kept of every row to grids fitted to it; no feedback.  importance: [n] or NULL. */
pith_status prune_store_round(struct prune_store *s, const float *importance,
                              struct pith_error *err);

/* The sparse term; w is read where there is no grid. */
pith_status prune_store_pack(const struct prune_store *s, struct quant_result *out,
                             struct pith_error *err);

/* quant_method.nbytes of a pruner. */
bool prune_nbytes(const struct scheme_link *link, size_t key, uint64_t m, uint64_t n,
                  uint64_t *nbytes, uint32_t *plane_count, uint32_t *term_count);

#endif
