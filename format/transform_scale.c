/*
 * The scale transform: x'[j] = fl(x[j] * s[j]).  Spec: spec/transforms/scale.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "transform.h"

#include <math.h>

pith_status pith_scale_check(struct pith_transform *t, struct pith_error *err)
{
	return pith_transform_expect_plane(t, &t->plane, PITH_ROLE_SCALES, PITH_DTYPE_F32, t->n,
	                                   err);
}

pith_status pith_scale_verify(const struct pith_transform *t, struct pith_error *err)
{
	// spec scale.1: "Every number is finite and not 0."
	for (size_t j = 0; j < t->n; j++) {
		float s = load_f32(t->plane.data + 4 * j);
		if (!isfinite(s) || s == 0)
			return pith_transform_fail(t, err, PITH_E_CORRUPT, t->plane.off + 4 * j,
			                           "scale.1", "factor %g of column %zu", (double)s, j);
	}
	return PITH_OK;
}

void pith_scale_apply(const struct pith_transform *t, const float *x, float *y)
{
	// spec scale: "x'[j] = fl(x[j] * s[j])"
	for (size_t j = 0; j < t->n; j++)
		y[j] = x[j] * load_f32(t->plane.data + 4 * j);
}

void pith_scale_undo(const struct pith_transform *t, float *row, float *scratch)
{
	(void)scratch;
	// spec scale: "W[i][j] = fl(W'[i][j] * s[j])"
	for (size_t j = 0; j < t->n; j++)
		row[j] *= load_f32(t->plane.data + 4 * j);
}
