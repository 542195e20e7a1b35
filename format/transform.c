/*
 * The table of kinds of transform, and what they share: names, messages, the check of
 * their planes.  Nothing outside this file switches on a kind.  Spec: spec/weight.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "transform.h"

#include "container.h"

#include <stdarg.h>
#include <stdio.h>

const struct pith_transform_row pith_transform_kinds[] = {
	{ PITH_TRANSFORM_PERMUTE, "permute", 1, pith_permute_check, pith_permute_verify,
	  pith_permute_apply, pith_permute_undo },
	{ PITH_TRANSFORM_SCALE, "scale", 1, pith_scale_check, pith_scale_verify, pith_scale_apply,
	  pith_scale_undo },
	{ PITH_TRANSFORM_SHIFT, "shift", 2, pith_shift_check, pith_shift_verify, pith_shift_apply,
	  pith_shift_undo },
	{ 0, NULL, 0, NULL, NULL, NULL, NULL },
};

const struct pith_transform_row *pith_transform_kind_find(uint32_t id)
{
	for (const struct pith_transform_row *kind = pith_transform_kinds; kind->name != NULL; kind++)
		if (kind->id == id)
			return kind;
	return NULL;
}

const char *pith_transform_name(uint32_t id)
{
	const struct pith_transform_row *kind = pith_transform_kind_find(id);
	if (kind != NULL)
		return kind->name;
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

pith_status pith_transform_expect_plane(const struct pith_transform *t, struct pith_plane *plane,
                                        uint32_t role, uint32_t dtype, size_t count,
                                        struct pith_error *err)
{
	size_t nbytes;
	const char *what;
	uint32_t id;
	pith_status listed = pith_plane_expect_listed(plane, &what, &id);
	if (listed != PITH_OK)
		return pith_transform_fail(t, err, listed, plane->off, "weight.1",
		                           "a plane has %s %u: needs a newer reader", what,
		                           id);
	if (plane->role != role || plane->layout != PITH_LAYOUT_LIST || plane->dtype != dtype)
		return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                           "a plane has role %u, layout %u, dtype %u", plane->role,
		                           plane->layout, plane->dtype);
	if (!pith_mul_size(count, pith_dtype_nbytes(dtype), &nbytes) ||
	    nbytes > SIZE_MAX - PITH_ALIGN || plane->nbytes != pith_round_up(nbytes, PITH_ALIGN))
		return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                           "a plane has %llu bytes for %zu numbers",
		                           (unsigned long long)plane->nbytes, count);
	plane->content_nbytes = nbytes;
	return PITH_OK;
}

pith_status pith_transform_bind(struct pith_transform *t, struct pith_error *err)
{
	const struct pith_transform_row *kind = pith_transform_kind_find(t->kind);
	if (kind == NULL)
		return pith_transform_fail(t, err, t->kind == 0 ? PITH_E_CORRUPT : PITH_E_UNSUPPORTED,
		                           t->off, "weight.1", "kind %u: needs a newer reader",
		                           t->kind);
	return kind->check(t, err);
}

static pith_status verify_padding(const struct pith_transform *t, const struct pith_plane *plane,
                                  struct pith_error *err)
{
	// spec container.15: "Bytes behind the content are 0."
	for (uint64_t b = plane->content_nbytes; b < plane->nbytes; b++)
		if (plane->data[b] != 0)
			return pith_transform_fail(t, err, PITH_E_CORRUPT, plane->off + b,
			                           "container.15", "padding is not 0");
	return PITH_OK;
}

pith_status pith_transform_verify(const struct pith_transform *t, struct pith_error *err)
{
	PITH_TRY(verify_padding(t, &t->plane, err));
	PITH_TRY(verify_padding(t, &t->bias, err));
	return pith_transform_kind_find(t->kind)->verify(t, err);
}

void pith_transform_apply(const struct pith_transform *t, const float *x, float *y)
{
	pith_transform_kind_find(t->kind)->apply(t, x, y);
}

void pith_transform_undo(const struct pith_transform *t, float *row, float *scratch)
{
	pith_transform_kind_find(t->kind)->undo(t, row, scratch);
}
