/*
 * The permute transform: x'[j] = x[index[j]].  Spec: spec/transforms/permute.md.
 * Also the names of transforms and the messages of their checks.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term.h"

#include "container.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *pith_transform_name(uint32_t id)
{
	switch (id) {
	case PITH_TRANSFORM_PERMUTE: return "permute";
	case 2: return "scale (reserved)";
	case 3: return "shift (reserved)";
	}
	return id >= PITH_KIND_EXPERIMENTAL ? "experimental" : "unknown";
}

pith_status pith_transform_fail(const struct pith_transform *t, struct pith_error *err,
                                pith_status status, uint64_t off, const char *rule,
                                const char *fmt, ...)
{
	char shown[PITH_SHOWN_NAME_NBYTES], text[120];
	if (err == NULL)
		return status;
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	pith_show_name(t->weight_name, t->weight_name_nbytes, shown);
	return pith_fail(err, status, off, rule, "weight %s: transform %s: %s", shown,
	                 pith_transform_name(t->kind), text);
}

pith_status pith_permute_check(struct pith_transform *t, struct pith_error *err)
{
	struct pith_plane *plane = &t->plane;
	size_t nbytes;
	const char *what;
	uint32_t id;
	pith_status listed = pith_plane_expect_listed(plane, &what, &id);
	if (listed != PITH_OK)
		return pith_transform_fail(t, err, listed, plane->off, "weight.1",
		                           "its plane has %s %u: needs a newer reader", what,
		                           id);
	if (plane->role != PITH_ROLE_INDEX || plane->layout != PITH_LAYOUT_LIST ||
	    plane->dtype != PITH_DTYPE_U32)
		return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                           "plane has role %u, layout %u, dtype %u", plane->role,
		                           plane->layout, plane->dtype);
	if (!pith_mul_size(t->n, 4, &nbytes) || nbytes > SIZE_MAX - PITH_ALIGN ||
	    plane->nbytes != pith_round_up(nbytes, PITH_ALIGN))
		return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                           "plane has %llu bytes for %zu columns",
		                           (unsigned long long)plane->nbytes, t->n);
	plane->content_nbytes = nbytes;
	// spec permute.1: "Every index is below n."
	for (size_t j = 0; j < t->n; j++)
		if (load_le32(plane->data + 4 * j) >= t->n)
			return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off + 4 * j,
			                           "permute.1", "index %u of %zu columns",
			                           load_le32(plane->data + 4 * j), t->n);
	t->index = plane->data;
	return PITH_OK;
}

pith_status pith_permute_verify(const struct pith_transform *t, struct pith_error *err)
{
	const struct pith_plane *plane = &t->plane;
	for (uint64_t b = plane->content_nbytes; b < plane->nbytes; b++)
		if (plane->data[b] != 0)
			return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off + b,
			                           "container.15", "padding is not 0");
	uint8_t *seen = calloc(t->n / 8 + 1, 1);
	if (seen == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to check %zu indices", t->n);
	pith_status status = PITH_OK;
	// spec permute.2: "Every number occurs once."
	for (size_t j = 0; j < t->n && status == PITH_OK; j++) {
		uint32_t i = load_le32(t->index + 4 * j);
		if ((seen[i / 8] >> i % 8 & 1) != 0)
			status = pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off + 4 * j,
			                             "permute.2", "index %u occurs twice", i);
		seen[i / 8] = (uint8_t)(seen[i / 8] | 1u << i % 8);
	}
	free(seen);
	return status;
}
