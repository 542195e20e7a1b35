/*
 * The permute transform: x'[j] = x[index[j]].  Spec: spec/transforms/permute.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "transform.h"

#include <stdlib.h>

static size_t index_at(const struct pith_transform *t, size_t j)
{
	return load_le32(t->plane.data + 4 * j);
}

pith_status pith_permute_check(struct pith_transform *t, struct pith_error *err)
{
	PITH_TRY(pith_transform_expect_plane(t, &t->plane, PITH_ROLE_INDEX, PITH_DTYPE_U32, t->n,
	                                     err));
	// spec permute.1: "Every index is below n."
	for (size_t j = 0; j < t->n; j++)
		if (index_at(t, j) >= t->n)
			return pith_transform_fail(t, err, PITH_E_CORRUPT, t->plane.off + 4 * j,
			                           "permute.1", "index %zu of %zu columns",
			                           index_at(t, j), t->n);
	return PITH_OK;
}

pith_status pith_permute_verify(const struct pith_transform *t, struct pith_error *err)
{
	uint8_t *seen = calloc(t->n / 8 + 1, 1);
	if (seen == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to check %zu indices", t->n);
	pith_status status = PITH_OK;
	// spec permute.2: "Every number occurs once."
	for (size_t j = 0; j < t->n && status == PITH_OK; j++) {
		size_t i = index_at(t, j);
		if ((seen[i / 8] >> i % 8 & 1) != 0)
			status = pith_transform_fail(t, err, PITH_E_CORRUPT, t->plane.off + 4 * j,
			                             "permute.2", "index %zu occurs twice", i);
		seen[i / 8] = (uint8_t)(seen[i / 8] | 1u << i % 8);
	}
	free(seen);
	return status;
}

void pith_permute_apply(const struct pith_transform *t, const float *x, float *y)
{
	for (size_t j = 0; j < t->n; j++)
		y[j] = x[index_at(t, j)];
}

/* A column that no index names stays 0. */
void pith_permute_undo(const struct pith_transform *t, float *row, float *scratch)
{
	memcpy(scratch, row, t->n * sizeof(*row));
	for (size_t j = 0; j < t->n; j++)
		row[j] = 0;
	// spec permute: "W[i][index[j]] = W'[i][j]"
	for (size_t j = 0; j < t->n; j++)
		row[index_at(t, j)] = scratch[j];
}
