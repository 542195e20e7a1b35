/*
 * What a fold would cost: the error of what the block makes of a group's outputs (the attention of q,
 * k and v, the ffn of gate and up, as in the authors' code of AWQ and OS+) on sampled
 * inputs, with the weights quantized as the chain will and the activations as the file will.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_FOLD_SEARCH_H
#define PITH_CONVERT_FOLD_SEARCH_H

#include "quant_grid.h"

/* What stands behind the folds in a linear's chain. */
struct fold_target {
	const struct scheme_link *link; /* quantizer without a grid, or NULL */
	struct quant_grid_rule rule;    /* else its grid, or 'usual' when the chain quantizes nothing */
	bool quantizes;
	uint32_t activation; /* enum pith_activation: how inputs are rounded */
};
struct fold_target fold_target_of(const struct scheme *s, const struct quant_grid_rule *usual);

struct fold_search;

/*
 * The inputs are the group's samples less g->shift.  with_activations: round inputs too, as the target does.
 * fast: fit grids to the ends of the range whatever the rule says; for wide codes it makes no
 * difference.  Free with fold_search_free(); the group must outlive it and not change.
 */
pith_status fold_search_new(const struct fold_group *g, const struct quant_grid_rule *usual,
                            bool with_activations, bool fast, struct fold_search **out,
                            struct pith_error *err);
void fold_search_free(struct fold_search *f); /* accepts NULL */

/* Squared error relative to the exact output's square, with factors s: [n]. */
pith_status fold_search_loss(struct fold_search *f, const float *s, double *loss,
                             struct pith_error *err);

/* Largest magnitude of column c's inputs, shifted, over the whole text. */
float fold_reach(const struct fold_group *g, size_t c);

/* PITH_E_MEMORY */
pith_status fold_no_memory(const struct fold_group *g, struct pith_error *err);

#endif
