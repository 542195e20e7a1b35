/*
 * Verification of everything but payloads: slots, table entries, extents, gaps, identity.
 * Runs on one thread; its work grows with the tables, not with the planes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "verify.h"

#include "term.h"

#include <stdlib.h>

pith_status pith_verify_note(struct pith_verify *v, pith_status status,
                             const struct pith_error *fault)
{
	if (status != PITH_E_CORRUPT && status != PITH_E_UNSUPPORTED)
		return status;
	pith_fault_add(&v->faults, fault);
	return PITH_OK;
}

/* ---- slots ---- */

pith_status pith_verify_slots(struct pith_verify *v, struct pith_error *err)
{
	const struct pith_file *file = v->file;
	uint64_t off = PITH_SLOT_OFF(1 - file->slot), end = file->header.file_nbytes;
	enum pith_slot_state state = pith_slot_state(file->data + off);
	struct pith_error fault;
	if (state == PITH_SLOT_DAMAGED) {
		pith_fail(&fault, PITH_E_CORRUPT, off, "container.3",
		          "header slot %u, bytes %llu..%llu: damaged by an interrupted edit; "
		          "generation %llu is in use", 1 - file->slot, (unsigned long long)off,
		          (unsigned long long)off + PITH_SLOT_NBYTES - 1,
		          (unsigned long long)file->header.generation);
		pith_fault_add(&v->faults, &fault);
	}
	// spec container.6: "Bytes behind file_nbytes are left by an interrupted edit; readers ignore them, full verification reports them."
	if (file->nbytes > end) {
		pith_fail(&fault, PITH_E_CORRUPT, end, "container.6",
		          "%llu bytes behind the end of the file are left by an interrupted edit",
		          (unsigned long long)(file->nbytes - end));
		pith_fault_add(&v->faults, &fault);
	}
	if (state != PITH_SLOT_VALID)
		return PITH_OK;
	pith_status status = pith_header_decode(file->data + off, off, &v->older, err);
	if (status == PITH_OK && v->older.file_nbytes > file->nbytes)
		status = pith_fail(err, PITH_E_CORRUPT, off + 48, "container.6",
		                   "the older generation's file_nbytes exceeds the file");
	if (status == PITH_OK)
		status = pith_directory_decode(file->data + v->older.directory_off, &v->older,
		                               v->older_directory, err);
	v->has_older = status == PITH_OK;
	return pith_verify_note(v, status, err);
}

/* ---- weights ---- */

static void claim_planes(struct pith_verify *v, uint32_t first, uint32_t count, size_t weight)
{
	uint64_t plane_count = v->file->tables.plan.count;
	for (uint64_t p = first; p < (uint64_t)first + count && p < plane_count; p++)
		if (v->owner[p] == PITH_NO_OWNER)
			v->owner[p] = (uint32_t)weight;
}

/* Faults of the entries themselves are found by the pass over their tables. */
static void claim_weight(struct pith_verify *v, const struct pith_weight *weight)
{
	const struct pith_tables *t = &v->file->tables;
	for (uint64_t i = 0; i < weight->term_count; i++) {
		struct pith_term_entry e;
		const uint8_t *p = pith_table_at(&t->term, PITH_TERM_NBYTES,
		                                 weight->first_term + i);
		if (pith_term_entry_decode(p, 0, &e, NULL) == PITH_OK)
			claim_planes(v, e.first_plane, e.plane_count, weight->index);
	}
	for (uint64_t i = 0; i < weight->transform_count; i++) {
		struct pith_transform_entry e;
		const uint8_t *p = pith_table_at(&t->xfrm, PITH_XFRM_NBYTES,
		                                 weight->first_transform + i);
		if (pith_transform_entry_decode(p, 0, &e, NULL) == PITH_OK)
			claim_planes(v, e.first_plane, e.plane_count, weight->index);
	}
}

static pith_status check_order(const struct pith_file *file, const struct pith_weight *before,
                               const struct pith_weight *weight, struct pith_error *err)
{
	const struct pith_table *t = &file->tables.wght;
	uint64_t off = pith_table_off(t, PITH_WGHT_NBYTES, weight->index);
	uint64_t hash = load_le64(pith_table_at(t, PITH_WGHT_NBYTES, weight->index));
	uint64_t hash_before = load_le64(pith_table_at(t, PITH_WGHT_NBYTES, before->index));
	// spec container.13: "the table is sorted, no two weights have one name."
	if (pith_compare_names(hash_before, before->name, before->name_nbytes, hash, weight->name,
	                       weight->name_nbytes) >= 0)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.13",
		                 "WGHT entry %zu: not sorted, or a name occurs twice",
		                 weight->index);
	return PITH_OK;
}

static pith_status verify_weight_entries(struct pith_verify *v, struct pith_error *err)
{
	struct pith_weight before = { 0 };
	for (size_t i = 0; i < v->file->tables.wght.count; i++) {
		struct pith_weight weight;
		pith_status status = pith_file_weight_at(v->file, i, &weight, err);
		if (status == PITH_OK) {
			claim_weight(v, &weight);
			if (before.name != NULL)
				status = check_order(v->file, &before, &weight, err);
			before = weight;
		}
		if (status == PITH_OK)
			status = pith_weight_check_rules(&weight, err);
		PITH_TRY(pith_verify_note(v, status, err));
	}
	return PITH_OK;
}

/* ---- the other tables ---- */

static pith_status verify_term_entries(struct pith_verify *v, struct pith_error *err)
{
	const struct pith_table *term = &v->file->tables.term, *xfrm = &v->file->tables.xfrm;
	for (uint64_t i = 0; i < term->count; i++) {
		struct pith_term_entry e;
		pith_status status = pith_term_entry_decode(
		    pith_table_at(term, PITH_TERM_NBYTES, i),
		    pith_table_off(term, PITH_TERM_NBYTES, i), &e, err);
		PITH_TRY(pith_verify_note(v, status, err));
	}
	for (uint64_t i = 0; i < xfrm->count; i++) {
		struct pith_transform_entry e;
		pith_status status = pith_transform_entry_decode(
		    pith_table_at(xfrm, PITH_XFRM_NBYTES, i),
		    pith_table_off(xfrm, PITH_XFRM_NBYTES, i), &e, err);
		PITH_TRY(pith_verify_note(v, status, err));
	}
	return PITH_OK;
}

static pith_status verify_arch_entries(struct pith_verify *v, struct pith_error *err)
{
	char before[32] = { 0 };
	for (uint64_t i = 0; i < v->file->tables.arch.count; i++) {
		struct pith_arch_entry e;
		pith_status status = pith_file_arch_entry(v->file, i, &e, err);
		if (status == PITH_OK) {
			// spec container.17: "sorted, unique"
			if (memcmp(before, e.key, sizeof(before)) >= 0)
				status = pith_fail(err, PITH_E_CORRUPT,
				                   pith_table_off(&v->file->tables.arch,
				                                  PITH_ARCH_NBYTES, i),
				                   "container.17", "ARCH key %s is out of order",
				                   e.key);
			memcpy(before, e.key, sizeof(before));
		}
		PITH_TRY(pith_verify_note(v, status, err));
	}
	return PITH_OK;
}

static pith_status verify_canary_entries(struct pith_verify *v, struct pith_error *err)
{
	const struct pith_table *t = &v->file->tables.cnry;
	uint64_t next = 0; /* the least weight that may follow */
	for (uint64_t i = 0; i < t->count; i++) {
		struct pith_canary_entry e;
		uint64_t off = pith_table_off(t, PITH_CNRY_NBYTES, i);
		pith_status status = pith_canary_entry_decode(
		    pith_table_at(t, PITH_CNRY_NBYTES, i), off, v->file->tables.wght.count, &e,
		    err);
		if (status == PITH_OK) {
			// spec container.19: "canaries sorted and unique"
			if (e.weight < next)
				status = pith_fail(err, PITH_E_CORRUPT, off, "container.19",
				                   "CNRY entry of weight %u is out of order",
				                   e.weight);
			next = (uint64_t)e.weight + 1;
		}
		PITH_TRY(pith_verify_note(v, status, err));
	}
	return PITH_OK;
}

static pith_status verify_lineage_entries(struct pith_verify *v, struct pith_error *err)
{
	const struct pith_table *t = &v->file->tables.line;
	for (uint64_t i = 0; i < t->count; i++) {
		struct pith_lineage_entry e;
		pith_status status = pith_lineage_entry_decode(
		    pith_table_at(t, PITH_LINE_NBYTES, i), pith_table_off(t, PITH_LINE_NBYTES, i),
		    v->file->tables.wght.count, v->file->tables.text.nbytes, &e, err);
		PITH_TRY(pith_verify_note(v, status, err));
	}
	return PITH_OK;
}

pith_status pith_verify_tables(struct pith_verify *v, struct pith_error *err)
{
	PITH_TRY(verify_weight_entries(v, err));
	PITH_TRY(verify_term_entries(v, err));
	PITH_TRY(verify_arch_entries(v, err));
	for (size_t i = 0; i < v->file->tables.blck.count; i++) {
		struct pith_block block;
		PITH_TRY(pith_verify_note(v, pith_file_block(v->file, i, &block, err), err));
	}
	PITH_TRY(verify_canary_entries(v, err));
	return verify_lineage_entries(v, err);
}

/* ---- extents ---- */

#define NOT_A_PLANE UINT32_MAX

struct extent {
	uint64_t off, end;
	uint32_t plane; /* PLAN entry, or NOT_A_PLANE */
};

static int compare_extents(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return (x->plane > y->plane) - (x->plane < y->plane);
}

/*
 * Directory, sections and the planes whose entries are right, sorted; *complete is false when
 * the entry of a plane is wrong, so that its bytes look as if they belonged to nobody.
 */
static pith_status collect_extents(struct pith_verify *v, struct extent *extents, size_t *count,
                                   bool *complete, struct pith_error *err)
{
	const struct pith_file *file = v->file;
	const struct pith_header *h = &file->header;
	size_t n = 0;
	uint64_t directory_nbytes = (uint64_t)h->directory_count * PITH_DIRECTORY_NBYTES;
	extents[n++] = (struct extent){ h->directory_off, h->directory_off + directory_nbytes,
		                        NOT_A_PLANE };
	for (uint32_t i = 0; i < h->directory_count; i++) {
		const struct pith_directory_entry *e = &file->directory[i];
		if (e->nbytes != 0)
			extents[n++] = (struct extent){
				e->off, e->off + pith_round_up((size_t)e->nbytes, PITH_ALIGN),
				NOT_A_PLANE
			};
	}
	for (uint64_t i = 0; i < file->tables.plan.count; i++) {
		struct pith_plane_entry e;
		pith_status status = pith_file_plane(file, i, &e, err);
		if (status == PITH_OK)
			extents[n++] = (struct extent){ e.off, e.off + e.nbytes, (uint32_t)i };
		else
			*complete = false;
		PITH_TRY(pith_verify_note(v, status, err));
	}
	qsort(extents, n, sizeof(*extents), compare_extents);
	*count = n;
	return PITH_OK;
}

/* Two PLAN entries with one extent: allowed, but their checksums must agree. */
static pith_status check_same_plane(const struct pith_verify *v, const struct extent *a,
                                    const struct extent *b, struct pith_error *err)
{
	struct pith_plane_entry x, y;
	PITH_TRY(pith_file_plane(v->file, a->plane, &x, err));
	PITH_TRY(pith_file_plane(v->file, b->plane, &y, err));
	if (x.xxh3 != y.xxh3)
		return pith_fail(err, PITH_E_CORRUPT,
		                 pith_table_off(&v->file->tables.plan, PITH_PLAN_NBYTES, b->plane),
		                 "container.16", "PLAN entries %u and %u give one plane two checksums",
		                 a->plane, b->plane);
	return PITH_OK;
}

static pith_status check_gap(const struct pith_verify *v, uint64_t begin, uint64_t end,
                             struct pith_error *err)
{
	for (uint64_t i = begin; i < end; i++)
		if (v->file->data[i] != 0)
			return pith_fail(err, PITH_E_CORRUPT, i, "container.20",
			                 "byte %llu between the planes and sections is not 0",
			                 (unsigned long long)i);
	return PITH_OK;
}

static pith_status check_extents(struct pith_verify *v, const struct extent *extents, size_t count,
                                 bool complete, struct pith_error *err)
{
	uint64_t other = PITH_SLOT_OFF(1 - v->file->slot), end = PITH_DATA_OFF;
	bool gaps_are_zero =
	    complete && pith_slot_state(v->file->data + other) == PITH_SLOT_EMPTY;
	const struct extent *last = NULL; /* the first entry of the extent before */
	for (size_t i = 0; i < count; i++) {
		const struct extent *e = &extents[i];
		pith_status status = PITH_OK;
		bool planes = last != NULL && last->plane != NOT_A_PLANE && e->plane != NOT_A_PLANE;
		bool same = planes && e->off == last->off && e->end == last->end;
		// spec container.20: "Directory, sections and planes do not overlap"
		if (same)
			status = check_same_plane(v, last, e, err);
		else if (e->off < end)
			status = pith_fail(err, PITH_E_CORRUPT, e->off, "container.20",
			                   "bytes %llu..%llu are used twice",
			                   (unsigned long long)e->off,
			                   (unsigned long long)(end < e->end ? end : e->end) - 1);
		else if (gaps_are_zero)
			status = check_gap(v, end, e->off, err);
		PITH_TRY(pith_verify_note(v, status, err));
		if (e->plane != NOT_A_PLANE)
			v->hashed[e->plane] = !same;
		if (!same)
			last = e;
		end = e->end > end ? e->end : end;
	}
	if (!gaps_are_zero)
		return PITH_OK;
	return pith_verify_note(v, check_gap(v, end, v->file->header.file_nbytes, err), err);
}

pith_status pith_verify_extents(struct pith_verify *v, struct pith_error *err)
{
	size_t nbytes, count = 0;
	size_t cap = (size_t)v->file->tables.plan.count + v->file->header.directory_count + 1;
	struct extent *extents = NULL;
	if (pith_mul_size(cap, sizeof(*extents), &nbytes))
		extents = malloc(nbytes);
	if (extents == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to verify %zu extents", cap);
	bool complete = true;
	pith_status status = collect_extents(v, extents, &count, &complete, err);
	if (status == PITH_OK)
		status = check_extents(v, extents, count, complete, err);
	free(extents);
	return status;
}

/* ---- identity ---- */

pith_status pith_verify_identity(struct pith_verify *v, struct pith_error *err)
{
	const struct pith_header *h = &v->file->header;
	uint8_t identity[16];
	pith_status status = pith_identity_compute(&v->file->tables, h->numerics_version, identity,
	                                           err);
	// spec container.22: "model_identity is that of section 9."
	if (status == PITH_OK && memcmp(identity, h->model_identity, sizeof(identity)) != 0)
		status = pith_fail(err, PITH_E_CORRUPT, PITH_SLOT_OFF(v->file->slot) + 96,
		                   "container.22", "the model identity is not that of the model");
	return pith_verify_note(v, status, err);
}
