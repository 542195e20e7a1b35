/*
 * Weights: find, bind, verify checksums, unpack.  Every index that a table holds is
 * proved against the table it points into before it is followed.
 * Spec: spec/container.md, section 5, and spec/weight.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "file.h"

#include "checksum.h"
#include "transform.h"

/* ---- the entry ---- */

static pith_status check_ranges(const struct pith_file *file, const struct pith_weight_entry *e,
                                uint64_t off, struct pith_error *err)
{
	const struct pith_tables *t = &file->tables;
	// spec container.13: "Name inside NAME, 1..255 bytes of UTF-8 without control characters"
	if (e->name_off > t->name.nbytes || e->name_nbytes > t->name.nbytes - e->name_off)
		return pith_fail(err, PITH_E_CORRUPT, off + 8, "container.13",
		                 "WGHT entry: the name does not lie inside NAME");
	const char *name = (const char *)t->name.data + e->name_off;
	if (!pith_name_is_valid(name, e->name_nbytes) ||
	    pith_xxh3_64(name, e->name_nbytes) != e->name_hash)
		return pith_fail(err, PITH_E_CORRUPT, t->name.off + e->name_off, "container.13",
		                 "NAME, bytes %llu..: the name is damaged",
		                 (unsigned long long)(t->name.off + e->name_off));
	// spec container.14: "terms and transforms inside their tables"
	if (e->first_term > t->term.count || e->term_count > t->term.count - e->first_term ||
	    e->first_transform > t->xfrm.count ||
	    e->transform_count > t->xfrm.count - e->first_transform)
		return pith_fail(err, PITH_E_CORRUPT, off + 64, "container.14",
		                 "WGHT entry: terms or transforms do not lie inside their tables");
	return PITH_OK;
}

pith_status pith_file_weight_at(const struct pith_file *file, size_t i, struct pith_weight *out,
                                struct pith_error *err)
{
	const struct pith_table *t = &file->tables.wght;
	struct pith_weight_entry e;
	*out = (struct pith_weight){ 0 };
	if (i >= t->count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "weight number %zu of %llu",
		                 i, (unsigned long long)t->count);
	uint64_t off = pith_table_off(t, PITH_WGHT_NBYTES, i);
	PITH_TRY(pith_weight_entry_decode(pith_table_at(t, PITH_WGHT_NBYTES, i), off, &e, err));
	PITH_TRY(check_ranges(file, &e, off, err));
	uint64_t m, n;
	pith_weight_entry_shape(&e, &m, &n);
	*out = (struct pith_weight){
		.file = file,
		.index = i,
		.name = (const char *)file->tables.name.data + e.name_off,
		.name_nbytes = e.name_nbytes,
		.rank = e.rank,
		.m = (size_t)m,
		.n = (size_t)n,
		.term_count = e.term_count,
		.transform_count = e.transform_count,
		.activation = e.activation,
		.activation_scale = e.activation_scale,
		.source_dtype = e.source_dtype,
		.flags = e.flags,
		.first_term = e.first_term,
		.first_transform = e.first_transform,
	};
	memcpy(out->dim, e.dim, sizeof(out->dim));
	return PITH_OK;
}

int pith_compare_names(uint64_t hash_a, const char *a, size_t a_nbytes, uint64_t hash_b,
                       const char *b, size_t b_nbytes)
{
	if (hash_a != hash_b)
		return hash_a < hash_b ? -1 : 1;
	int order = memcmp(a, b, a_nbytes < b_nbytes ? a_nbytes : b_nbytes);
	return order != 0 ? order : (a_nbytes > b_nbytes) - (a_nbytes < b_nbytes);
}

/* Where 'name' stands against weight number i; NAME is looked at only when the hashes agree. */
static pith_status compare_probe(const struct pith_file *file, size_t i, uint64_t hash,
                                 const char *name, size_t nbytes, int *order,
                                 struct pith_error *err)
{
	const struct pith_table *t = &file->tables.wght;
	const uint8_t *p = pith_table_at(t, PITH_WGHT_NBYTES, i);
	struct pith_weight weight;
	PITH_TRY(pith_entry_check(p, PITH_WGHT_NBYTES, pith_table_off(t, PITH_WGHT_NBYTES, i),
	                          "WGHT", err));
	uint64_t probe_hash = load_le64(p);
	*order = hash < probe_hash ? -1 : hash > probe_hash;
	if (*order != 0)
		return PITH_OK;
	PITH_TRY(pith_file_weight_at(file, i, &weight, err));
	*order = pith_compare_names(hash, name, nbytes, hash, weight.name, weight.name_nbytes);
	return PITH_OK;
}

pith_status pith_file_find(const struct pith_file *file, const char *name, struct pith_weight *out,
                           struct pith_error *err)
{
	size_t nbytes = strlen(name), low = 0, high = (size_t)file->tables.wght.count;
	uint64_t hash = pith_xxh3_64(name, nbytes);
	*out = (struct pith_weight){ 0 };
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order;
		PITH_TRY(compare_probe(file, middle, hash, name, nbytes, &order, err));
		if (order == 0)
			return pith_file_weight_at(file, middle, out, err);
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	char shown[PITH_SHOWN_NAME_NBYTES];
	pith_show_name(name, nbytes, shown);
	return pith_fail(err, PITH_E_NOT_FOUND, PITH_NO_OFF, NULL, "no weight named %s", shown);
}

/* ---- entries behind it ---- */

static pith_status term_entry(const struct pith_weight *weight, size_t i,
                              struct pith_term_entry *out, uint64_t *off, struct pith_error *err)
{
	const struct pith_tables *t = &weight->file->tables;
	if (i >= weight->term_count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "term number %zu of %u", i,
		                 weight->term_count);
	uint64_t at = weight->first_term + (uint64_t)i;
	*off = pith_table_off(&t->term, PITH_TERM_NBYTES, at);
	PITH_TRY(pith_term_entry_decode(pith_table_at(&t->term, PITH_TERM_NBYTES, at), *off, out,
	                                err));
	if (out->first_plane > t->plan.count || out->plane_count > t->plan.count - out->first_plane)
		return pith_fail(err, PITH_E_CORRUPT, *off + 4, "container.14",
		                 "TERM entry: its planes do not lie inside PLAN");
	return PITH_OK;
}

static pith_status transform_entry(const struct pith_weight *weight, size_t i,
                                   struct pith_transform_entry *out, uint64_t *off,
                                   struct pith_error *err)
{
	const struct pith_tables *t = &weight->file->tables;
	if (i >= weight->transform_count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "transform number %zu of %u",
		                 i, weight->transform_count);
	uint64_t at = weight->first_transform + (uint64_t)i;
	*off = pith_table_off(&t->xfrm, PITH_XFRM_NBYTES, at);
	PITH_TRY(pith_transform_entry_decode(pith_table_at(&t->xfrm, PITH_XFRM_NBYTES, at), *off,
	                                     out, err));
	if (out->first_plane > t->plan.count || out->plane_count > t->plan.count - out->first_plane)
		return pith_fail(err, PITH_E_CORRUPT, *off + 4, "container.14",
		                 "XFRM entry: its planes do not lie inside PLAN");
	return PITH_OK;
}

pith_status pith_file_plane(const struct pith_file *file, uint64_t i, struct pith_plane_entry *out,
                            struct pith_error *err)
{
	const struct pith_table *t = &file->tables.plan;
	return pith_plane_entry_decode(pith_table_at(t, PITH_PLAN_NBYTES, i),
	                               pith_table_off(t, PITH_PLAN_NBYTES, i),
	                               file->header.file_nbytes, file->header.tensor_align, out,
	                               err);
}

static pith_status bind_plane(const struct pith_file *file, uint64_t i, struct pith_plane *out,
                              struct pith_error *err)
{
	struct pith_plane_entry e;
	PITH_TRY(pith_file_plane(file, i, &e, err));
	*out = (struct pith_plane){
		.data = file->data + e.off,
		.off = e.off,
		.nbytes = e.nbytes,
		.role = e.role,
		.layout = e.layout,
		.dtype = e.dtype,
	};
	return PITH_OK;
}

/* ---- rules about the weight as a whole ---- */

static pith_status check_activation(const struct pith_weight *weight, struct pith_error *err)
{
	const struct pith_table *wght = &weight->file->tables.wght;
	uint64_t off = pith_table_off(wght, PITH_WGHT_NBYTES, weight->index) + 76;
	char shown[PITH_SHOWN_NAME_NBYTES];
	bool integer = false;
	pith_show_name(weight->name, weight->name_nbytes, shown);
	// spec weight.1: "kind, role, layout, dtype and activation are known."
	if (weight->activation > PITH_ACTIVATION_INT8_STATIC)
		return pith_fail(err, PITH_E_UNSUPPORTED, off, "weight.1",
		                 "weight %s: activation rule %u: needs a newer reader", shown,
		                 weight->activation);
	for (size_t i = 0; i < weight->term_count; i++) {
		struct pith_term_entry e;
		uint64_t term_off;
		PITH_TRY(term_entry(weight, i, &e, &term_off, err));
		const struct pith_term_kind *kind = pith_term_kind_find(e.kind);
		if (kind == NULL)
			return PITH_OK; /* binding that term says what it is */
		integer = integer || kind->integer(e.param);
	}
	const char *rule = pith_activation_fault(weight->activation, weight->activation_scale,
	                                         integer);
	if (rule != NULL)
		return pith_fail(err, PITH_E_CORRUPT, off, rule,
		                 "weight %s: activation %u, scale %g: does not fit its terms", shown,
		                 weight->activation, (double)weight->activation_scale);
	return PITH_OK;
}

static pith_status check_transform_kinds(const struct pith_weight *weight, struct pith_error *err)
{
	uint32_t kind[PITH_MAX_TRANSFORMS];
	for (size_t i = 0; i < weight->transform_count; i++) {
		struct pith_transform_entry e;
		uint64_t off;
		PITH_TRY(transform_entry(weight, i, &e, &off, err));
		kind[i] = e.kind;
		// spec weight.4: "Each transform kind occurs at most once in a weight."
		for (size_t k = 0; k < i; k++)
			if (kind[k] == e.kind)
				return pith_fail(err, PITH_E_CORRUPT, off, "weight.4",
				                 "a weight has two transforms of kind %u", e.kind);
		// spec weight.6: "Transforms stand in ascending order of their kinds."
		if (i > 0 && kind[i - 1] > e.kind)
			return pith_fail(err, PITH_E_CORRUPT, off, "weight.6",
			                 "a transform of kind %u behind one of kind %u", e.kind,
			                 kind[i - 1]);
	}
	return PITH_OK;
}

pith_status pith_weight_check_rules(const struct pith_weight *weight, struct pith_error *err)
{
	PITH_TRY(check_activation(weight, err));
	return check_transform_kinds(weight, err);
}

/* ---- binding ---- */

pith_status pith_weight_term(const struct pith_weight *weight, size_t i, struct pith_term *term,
                             struct pith_error *err)
{
	struct pith_term_entry e;
	uint64_t off;
	memset(term, 0, sizeof(*term));
	PITH_TRY(term_entry(weight, i, &e, &off, err));
	PITH_TRY(pith_weight_check_rules(weight, err));
	term->m = weight->m;
	term->n = weight->n;
	term->off = off;
	term->index = (uint32_t)i;
	term->weight_name = weight->name;
	term->weight_name_nbytes = weight->name_nbytes;
	term->plane_count = e.plane_count;
	memcpy(term->param, e.param, sizeof(term->param));
	for (uint32_t p = 0; p < e.plane_count; p++)
		PITH_TRY(bind_plane(weight->file, e.first_plane + (uint64_t)p, &term->plane[p],
		                    err));
	return pith_term_bind(term, e.kind, err);
}

pith_status pith_weight_transform(const struct pith_weight *weight, size_t i,
                                  struct pith_transform *transform, struct pith_error *err)
{
	struct pith_transform_entry e;
	memset(transform, 0, sizeof(*transform));
	PITH_TRY(transform_entry(weight, i, &e, &transform->off, err));
	PITH_TRY(pith_weight_check_rules(weight, err));
	transform->kind = e.kind;
	transform->m = weight->m;
	transform->n = weight->n;
	transform->weight_name = weight->name;
	transform->weight_name_nbytes = weight->name_nbytes;
	const struct pith_transform_row *kind = pith_transform_kind_find(e.kind);
	if (kind == NULL)
		return pith_transform_bind(transform, err);
	if (e.plane_count != kind->plane_count)
		return pith_transform_fail(transform, err, PITH_E_CORRUPT, transform->off,
		                           "weight.5", "%u planes instead of %u", e.plane_count,
		                           kind->plane_count);
	for (unsigned k = 0; k < PITH_XFRM_PARAMS; k++)
		if (e.param[k] != 0)
			return pith_transform_fail(transform, err, PITH_E_CORRUPT, transform->off,
			                           "weight.3", "unused parameter %u is %u", k,
			                           e.param[k]);
	PITH_TRY(bind_plane(weight->file, e.first_plane, &transform->plane, err));
	if (kind->plane_count > 1)
		PITH_TRY(bind_plane(weight->file, e.first_plane + (uint64_t)1, &transform->bias,
		                    err));
	return pith_transform_bind(transform, err);
}

pith_status pith_weight_term_info(const struct pith_weight *weight, size_t i,
                                  struct pith_term_info *out, struct pith_error *err)
{
	struct pith_term_entry e;
	uint64_t off;
	*out = (struct pith_term_info){ 0 };
	PITH_TRY(term_entry(weight, i, &e, &off, err));
	for (uint32_t p = 0; p < e.plane_count; p++) {
		struct pith_plane_entry plane;
		PITH_TRY(pith_file_plane(weight->file, e.first_plane + (uint64_t)p, &plane, err));
		out->nbytes += plane.nbytes; /* at most 8 of 2^63: wraps no u64 in a real file */
	}
	out->kind = pith_kind_name(e.kind);
	out->kind_id = e.kind;
	out->plane_count = e.plane_count;
	memcpy(out->param, e.param, sizeof(out->param));
	return PITH_OK;
}

pith_status pith_weight_plane(const struct pith_weight *weight, size_t i, size_t p,
                              struct pith_plane_info *out, struct pith_error *err)
{
	struct pith_term_entry e;
	struct pith_plane_entry plane;
	uint64_t off;
	*out = (struct pith_plane_info){ 0 };
	PITH_TRY(term_entry(weight, i, &e, &off, err));
	if (p >= e.plane_count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "plane number %zu of %u", p,
		                 e.plane_count);
	PITH_TRY(pith_file_plane(weight->file, e.first_plane + (uint64_t)p, &plane, err));
	*out = (struct pith_plane_info){ weight->file->data + plane.off, plane.off,  plane.nbytes,
		                         plane.xxh3,                     plane.role, plane.layout,
		                         plane.dtype };
	return PITH_OK;
}

pith_status pith_weight_dense(const struct pith_weight *weight, const void **data, uint32_t *dtype,
                              struct pith_error *err)
{
	struct pith_term term;
	*data = NULL;
	*dtype = 0;
	PITH_TRY(pith_weight_term(weight, 0, &term, err));
	if (weight->term_count != 1 || weight->transform_count != 0 ||
	    term.kind->id != PITH_KIND_DENSE) {
		char shown[PITH_SHOWN_NAME_NBYTES];
		pith_show_name(weight->name, weight->name_nbytes, shown);
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "weight %s is not one dense term: unpack its rows instead", shown);
	}
	*data = term.u.dense.values;
	*dtype = term.u.dense.dtype;
	return PITH_OK;
}

/* ---- checksums ---- */

pith_status pith_plane_fail(const struct pith_weight *weight, const struct pith_plane_entry *plane,
                            struct pith_error *err)
{
	char shown[PITH_SHOWN_NAME_NBYTES];
	pith_show_name(weight->name, weight->name_nbytes, shown);
	return pith_fail(err, PITH_E_CORRUPT, plane->off, "container.16",
	                 "weight %s: plane %s, bytes %llu..%llu: checksum does not match", shown,
	                 pith_role_name(plane->role), (unsigned long long)plane->off,
	                 (unsigned long long)(plane->off + plane->nbytes - 1));
}

static pith_status verify_planes(const struct pith_weight *weight, uint32_t first, uint32_t count,
                                 struct pith_error *err)
{
	for (uint64_t i = first; i < (uint64_t)first + count; i++) {
		struct pith_plane_entry plane;
		PITH_TRY(pith_file_plane(weight->file, i, &plane, err));
		// spec container.16: "xxh3 matches"
		if (pith_xxh3_64(weight->file->data + plane.off, (size_t)plane.nbytes) != plane.xxh3)
			return pith_plane_fail(weight, &plane, err);
	}
	return PITH_OK;
}

pith_status pith_weight_verify(const struct pith_weight *weight, struct pith_error *err)
{
	uint64_t off;
	for (size_t i = 0; i < weight->transform_count; i++) {
		struct pith_transform_entry e;
		PITH_TRY(transform_entry(weight, i, &e, &off, err));
		PITH_TRY(verify_planes(weight, e.first_plane, e.plane_count, err));
	}
	for (size_t i = 0; i < weight->term_count; i++) {
		struct pith_term_entry e;
		PITH_TRY(term_entry(weight, i, &e, &off, err));
		PITH_TRY(verify_planes(weight, e.first_plane, e.plane_count, err));
	}
	return PITH_OK;
}

/* ---- unpacking ---- */

static pith_status add_term(const struct pith_weight *weight, size_t i, size_t row, size_t count,
                            float *out, float *scratch, struct pith_error *err)
{
	struct pith_term term;
	PITH_TRY(pith_weight_term(weight, i, &term, err));
	if (i == 0) {
		term.kind->unpack_rows(&term, row, count, out);
		return PITH_OK;
	}
	for (size_t r = 0; r < count; r++) {
		term.kind->unpack_rows(&term, row + r, 1, scratch);
		for (size_t j = 0; j < weight->n; j++)
			out[r * weight->n + j] += scratch[j];
	}
	return PITH_OK;
}

pith_status pith_weight_unpack_rows(const struct pith_weight *weight, size_t row, size_t count,
                                    float *out, float *scratch, struct pith_error *err)
{
	bool needs_scratch = weight->transform_count != 0 || weight->term_count > 1;
	if (row > weight->m || count > weight->m - row || (needs_scratch && scratch == NULL))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "rows %zu..%zu of %zu, or no scratch", row, row + count, weight->m);
	for (size_t i = 0; i < weight->term_count; i++)
		PITH_TRY(add_term(weight, i, row, count, out, scratch, err));
	for (size_t i = weight->transform_count; i-- > 0;) {
		struct pith_transform transform;
		PITH_TRY(pith_weight_transform(weight, i, &transform, err));
		for (size_t r = 0; r < count; r++)
			pith_transform_undo(&transform, out + r * weight->n, scratch);
	}
	return PITH_OK;
}
