/*
 * The kinds of transform: the rows of their table.  One file a kind, transform_<kind>.c.
 * Spec: spec/transforms/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TRANSFORM_H
#define PITH_FORMAT_TRANSFORM_H

#include "term.h"

/* A row of the table of kinds. */
struct pith_transform_row {
	uint32_t id;
	const char *name; /* as in spec/weight.md */
	uint32_t plane_count; /* 2: t->bias too */
	/* Prove the planes; t->m, t->n and they are set.  Cheap, as pith_term_kind's. */
	pith_status (*check)(struct pith_transform *t, struct pith_error *err);
	/* Rules about values; PITH_E_MEMORY. */
	pith_status (*verify)(const struct pith_transform *t, struct pith_error *err);
	/* x: [n] -> x' in y: [n], which is not x. */
	void (*apply)(const struct pith_transform *t, const float *x, float *y);
	/* A row of the terms' sum -> that row of the weight, in place; scratch: [n]. */
	void (*undo)(const struct pith_transform *t, float *row, float *scratch);
};

/* Ended by a row with name NULL. */
extern const struct pith_transform_row pith_transform_kinds[];
const struct pith_transform_row *pith_transform_kind_find(uint32_t id);

/*
 * For check functions: a plane of t is a list of 'count' numbers of this role and dtype
 * (container.15, weight.1); its content_nbytes is set.
 */
pith_status pith_transform_expect_plane(const struct pith_transform *t, struct pith_plane *plane,
                                        uint32_t role, uint32_t dtype, size_t count,
                                        struct pith_error *err);

pith_status pith_permute_check(struct pith_transform *t, struct pith_error *err);
pith_status pith_permute_verify(const struct pith_transform *t, struct pith_error *err);
void pith_permute_apply(const struct pith_transform *t, const float *x, float *y);
void pith_permute_undo(const struct pith_transform *t, float *row, float *scratch);

pith_status pith_scale_check(struct pith_transform *t, struct pith_error *err);
pith_status pith_scale_verify(const struct pith_transform *t, struct pith_error *err);
void pith_scale_apply(const struct pith_transform *t, const float *x, float *y);
void pith_scale_undo(const struct pith_transform *t, float *row, float *scratch);

pith_status pith_shift_check(struct pith_transform *t, struct pith_error *err);
pith_status pith_shift_verify(const struct pith_transform *t, struct pith_error *err);
void pith_shift_apply(const struct pith_transform *t, const float *x, float *y);
void pith_shift_undo(const struct pith_transform *t, float *row, float *scratch);

#endif
