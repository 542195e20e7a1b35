/*
 * The table of kinds, and what all kinds share: binding, the checks of counts and
 * planes, padding, messages, packed planes.  Nothing outside this file switches on a
 * kind.  Spec: spec/weight.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term.h"

#include "container.h"
#include "term_affine.h"
#include "term_codebook.h"
#include "term_columns.h"
#include "term_dense.h"
#include "term_lowrank.h"
#include "term_sparse.h"
#include "term_ternary.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool always_integer(const uint32_t *param)
{
	(void)param;
	return true;
}

static bool never_integer(const uint32_t *param)
{
	(void)param;
	return false;
}

const struct pith_term_kind pith_term_kinds[] = {
	{ PITH_KIND_DENSE, "dense", never_integer, pith_dense_check, pith_dense_verify,
	  pith_dense_unpack_rows },
	{ PITH_KIND_AFFINE, "affine", always_integer, pith_affine_check, pith_affine_verify,
	  pith_affine_unpack_rows },
	{ PITH_KIND_CODEBOOK, "codebook", pith_codebook_is_integer, pith_codebook_check,
	  pith_codebook_verify, pith_codebook_unpack_rows },
	{ PITH_KIND_TERNARY, "ternary", always_integer, pith_ternary_check, pith_ternary_verify,
	  pith_ternary_unpack_rows },
	{ PITH_KIND_SPARSE, "sparse", pith_sparse_is_integer, pith_sparse_check, pith_sparse_verify,
	  pith_sparse_unpack_rows },
	{ PITH_KIND_COLUMNS, "columns", never_integer, pith_columns_check, pith_columns_verify,
	  pith_columns_unpack_rows },
	{ PITH_KIND_LOWRANK, "lowrank", never_integer, pith_lowrank_check, pith_lowrank_verify,
	  pith_lowrank_unpack_rows },
	{ 0, NULL, NULL, NULL, NULL, NULL },
};

const struct pith_term_kind *pith_term_kind_find(uint32_t id)
{
	for (const struct pith_term_kind *kind = pith_term_kinds; kind->name != NULL; kind++)
		if (kind->id == id)
			return kind;
	return NULL;
}

const char *pith_kind_name(uint32_t id)
{
	const struct pith_term_kind *kind = pith_term_kind_find(id);
	if (kind != NULL)
		return kind->name;
	return id >= PITH_KIND_EXPERIMENTAL ? "experimental" : "unknown";
}

const char *pith_activation_fault(uint32_t activation, float scale, bool integer)
{
	// spec weight.2: "has activation int8_group32, int8_token or int8_static; one without has
	// float."
	if (integer != (activation != PITH_ACTIVATION_FLOAT))
		return "weight.2";
	// spec weight.7: "activation_scale is a number from 2^-100 to 2^100; with any other activation its bits are 0."
	if (activation == PITH_ACTIVATION_INT8_STATIC)
		return scale >= 0x1p-100f && scale <= 0x1p100f ? NULL : "weight.7";
	return bits_of_f32(scale) == 0 ? NULL : "weight.7";
}

size_t pith_dtype_nbytes(uint32_t dtype)
{
	static const uint8_t nbytes[] = { 0, 4, 2, 2, 1, 2, 4, 1 };
	return dtype < PITH_ARRAY_LENGTH(nbytes) ? nbytes[dtype] : 0;
}

const char *pith_dtype_name(uint32_t dtype)
{
	static const char *const names[] = { "?", "f32", "f16", "bf16", "u8", "u16", "u32", "i8" };
	return dtype < PITH_ARRAY_LENGTH(names) ? names[dtype] : "?";
}

const char *pith_role_name(uint32_t role)
{
	static const char *const names[] = {
		"?", "values", "codes", "scales", "zeros", "zero_codes",
		"second_level", "index", "offsets", "scale_codes", "counts"
	};
	return role < PITH_ARRAY_LENGTH(names) ? names[role] : "?";
}

pith_status pith_term_fail(const struct pith_term *t, struct pith_error *err, pith_status status,
                           uint64_t off, const char *rule, const char *fmt, ...)
{
	char shown[PITH_SHOWN_NAME_NBYTES], text[160];
	if (err == NULL)
		return status;
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	pith_show_name(t->weight_name, t->weight_name_nbytes, shown);
	const char *kind = t->kind != NULL ? t->kind->name : "?";
	if (t->weight_name == NULL)
		return pith_fail(err, status, off, rule, "%s term: %s", kind, text);
	return pith_fail(err, status, off, rule, "weight %s: term %u (%s): %s", shown, t->index,
	                 kind, text);
}

pith_status pith_term_expect_counts(const struct pith_term *t, uint32_t plane_count,
                                    uint32_t param_count, struct pith_error *err)
{
	// spec weight.5: "The planes of a term stand in the order its page lists them, and no others."
	if (t->plane_count != plane_count)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "weight.5",
		                      "%u planes instead of %u", t->plane_count, plane_count);
	// spec weight.3: "Unused parameters are 0."
	for (uint32_t i = param_count; i < PITH_TERM_PARAMS; i++)
		if (t->param[i] != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "weight.3",
			                      "unused parameter %u is %u", i, t->param[i]);
	return PITH_OK;
}

pith_status pith_plane_expect_listed(const struct pith_plane *plane, const char **what,
                                     uint32_t *id)
{
	const struct {
		const char *what;
		uint32_t id, last;
	} field[] = {
		{ "role", plane->role, PITH_ROLE_COUNTS },
		{ "layout", plane->layout, PITH_LAYOUT_TRIT16 },
		{ "dtype", plane->dtype, PITH_DTYPE_I8 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(field); i++) {
		*what = field[i].what;
		*id = field[i].id;
		// spec weight.1: "is unsupported (a later version may define it) and is named"
		if (*id > field[i].last)
			return PITH_E_UNSUPPORTED;
	}
	return PITH_OK;
}

pith_status pith_term_expect_plane(struct pith_term *t, uint32_t i, uint32_t role, uint32_t layout,
                                   uint32_t dtype, uint64_t content_nbytes, struct pith_error *err)
{
	struct pith_plane *plane = &t->plane[i];
	const char *what;
	uint32_t id;
	pith_status listed = pith_plane_expect_listed(plane, &what, &id);
	if (listed != PITH_OK)
		return pith_term_fail(t, err, listed, plane->off, "weight.1",
		                      "plane %u has %s %u: needs a newer reader", i, what, id);
	// spec container.15: "role, layout and dtype are those its term's page demands"
	if (plane->role != role || plane->layout != layout || plane->dtype != dtype)
		return pith_term_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                      "plane %u has role %u, layout %u, dtype %u instead of "
		                      "%u, %u, %u", i, plane->role, plane->layout, plane->dtype,
		                      role, layout, dtype);
	// spec container.15: "nbytes is exactly the size that page computes from the parameters"
	uint64_t excess = plane->nbytes - content_nbytes;
	if (plane->nbytes < content_nbytes || excess >= PITH_ALIGN ||
	    plane->nbytes % PITH_ALIGN != 0)
		return pith_term_fail(t, err, PITH_E_CORRUPT, plane->off, "container.15",
		                      "plane %s has %llu bytes, its content %llu", pith_role_name(role),
		                      (unsigned long long)plane->nbytes,
		                      (unsigned long long)content_nbytes);
	plane->content_nbytes = content_nbytes;
	return PITH_OK;
}

pith_status pith_term_bind(struct pith_term *t, uint32_t kind, struct pith_error *err)
{
	// spec weight.1: "kind, role, layout, dtype and activation are known."
	t->kind = pith_term_kind_find(kind);
	if (t->kind == NULL && kind == 0)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "weight.1", "kind is 0");
	if (t->kind == NULL)
		return pith_term_fail(t, err, PITH_E_UNSUPPORTED, t->off, "weight.1",
		                      "term kind %u, %s: needs a newer reader", kind,
		                      pith_kind_name(kind));
	t->tiles = t->m / PITH_TILE_ROWS + (t->m % PITH_TILE_ROWS != 0);
	return t->kind->check(t, err);
}

pith_status pith_term_verify(const struct pith_term *t, struct pith_error *err)
{
	for (uint32_t i = 0; i < t->plane_count; i++) {
		const struct pith_plane *plane = &t->plane[i];
		// spec container.15: "Bytes behind the content are 0."
		for (uint64_t b = plane->content_nbytes; b < plane->nbytes; b++)
			if (plane->data[b] != 0)
				return pith_term_fail(t, err, PITH_E_CORRUPT, plane->off + b,
				                      "container.15", "plane %s: padding is not 0",
				                      pith_role_name(plane->role));
	}
	return t->kind->verify(t, err);
}

/* ---- packed terms ---- */

void pith_packed_free(struct pith_packed_term *t)
{
	for (uint32_t i = 0; i < t->plane_count; i++)
		free(t->plane[i].data);
	memset(t, 0, sizeof(*t));
}

pith_status pith_packed_add(struct pith_packed_term *out, uint32_t role, uint32_t layout,
                            uint32_t dtype, uint64_t content_nbytes, struct pith_error *err)
{
	uint8_t *data = NULL;
	if (content_nbytes == 0 || content_nbytes > SIZE_MAX - PITH_ALIGN)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.15",
		                 "a plane of %llu bytes", (unsigned long long)content_nbytes);
	size_t nbytes = pith_round_up((size_t)content_nbytes, PITH_ALIGN);
	data = aligned_alloc(PITH_ALIGN, nbytes);
	if (data == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for a plane of %zu bytes", nbytes);
	memset(data, 0, nbytes);
	struct pith_packed_plane *plane = &out->plane[out->plane_count++];
	plane->data = data;
	plane->nbytes = nbytes;
	plane->role = role;
	plane->layout = layout;
	plane->dtype = dtype;
	return PITH_OK;
}

pith_status pith_packed_bind(const struct pith_packed_term *packed, size_t m, size_t n,
                             struct pith_term *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	if (packed->plane_count > PITH_MAX_PLANES)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "weight.5", "%u planes",
		                 packed->plane_count);
	out->m = m;
	out->n = n;
	out->off = PITH_NO_OFF;
	out->plane_count = packed->plane_count;
	memcpy(out->param, packed->param, sizeof(out->param));
	for (uint32_t i = 0; i < packed->plane_count; i++) {
		out->plane[i].data = packed->plane[i].data;
		out->plane[i].nbytes = packed->plane[i].nbytes;
		out->plane[i].role = packed->plane[i].role;
		out->plane[i].layout = packed->plane[i].layout;
		out->plane[i].dtype = packed->plane[i].dtype;
	}
	return pith_term_bind(out, packed->kind, err);
}
