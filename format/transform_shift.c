/*
 * The shift transform: x'[j] = fl(x[j] - z[j]), and a bias that the engine adds to the outputs.
 * Spec: spec/transforms/shift.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "transform.h"

#include <math.h>

pith_status pith_shift_check(struct pith_transform *t, struct pith_error *err)
{
	PITH_TRY(pith_transform_expect_plane(t, &t->plane, PITH_ROLE_ZEROS, PITH_DTYPE_F32, t->n,
	                                     err));
	return pith_transform_expect_plane(t, &t->bias, PITH_ROLE_VALUES, PITH_DTYPE_F32, t->m, err);
}

static pith_status expect_finite(const struct pith_transform *t, const struct pith_plane *plane,
                                 struct pith_error *err)
{
	// spec shift.1: "Every number of both planes is finite."
	for (uint64_t b = 0; b < plane->content_nbytes; b += 4)
		if (!isfinite(load_f32(plane->data + b)))
			return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off + b, "shift.1",
			                           "number %llu is not finite",
			                           (unsigned long long)(b / 4));
	return PITH_OK;
}

pith_status pith_shift_verify(const struct pith_transform *t, struct pith_error *err)
{
	PITH_TRY(expect_finite(t, &t->plane, err));
	return expect_finite(t, &t->bias, err);
}

void pith_shift_apply(const struct pith_transform *t, const float *x, float *y)
{
	// spec shift: "x'[j] = fl(x[j] - z[j])"
	for (size_t j = 0; j < t->n; j++)
		y[j] = x[j] - load_f32(t->plane.data + 4 * j);
}

/* The matrix stays as it is. */
void pith_shift_undo(const struct pith_transform *t, float *row, float *scratch)
{
	(void)t;
	(void)row;
	(void)scratch;
}
