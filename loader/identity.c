/*
 * The model identity: what the forward pass and the tokenizer read, and nothing else.
 * Used by the writer to store it and by verification to compare it.
 * Spec: spec/container.md, section 9.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tables.h"

#include "checksum.h"
#include "container.h"

static void put_u32(struct pith_xxh3 *hash, uint32_t v)
{
	uint8_t p[4];
	store_le32(p, v);
	pith_xxh3_update_128(hash, p, sizeof(p));
}

static void put_u64(struct pith_xxh3 *hash, uint64_t v)
{
	uint8_t p[8];
	store_le64(p, v);
	pith_xxh3_update_128(hash, p, sizeof(p));
}

static pith_status put_arch(const struct pith_tables *t, struct pith_xxh3 *hash,
                            struct pith_error *err)
{
	for (uint64_t i = 0; i < t->arch.count; i++) {
		struct pith_arch_entry e;
		PITH_TRY(pith_arch_entry_decode(pith_table_at(&t->arch, PITH_ARCH_NBYTES, i),
		                                pith_table_off(&t->arch, PITH_ARCH_NBYTES, i),
		                                t->text.nbytes, &e, err));
		if ((e.flags & PITH_ARCH_NO_IDENTITY) != 0)
			continue;
		pith_xxh3_update_128(hash, e.key, sizeof(e.key));
		put_u32(hash, e.type);
		if (e.type == PITH_ARCH_STRING) {
			put_u64(hash, e.value_nbytes);
			if (e.value_nbytes != 0)
				pith_xxh3_update_128(hash, t->text.data + e.value, e.value_nbytes);
		} else {
			put_u64(hash, e.value);
		}
	}
	return PITH_OK;
}

/* A constant is named by its weight's hash, so that the order of the table does not matter. */
static pith_status put_const(const struct pith_tables *t, uint32_t index_plus_1,
                             struct pith_xxh3 *hash, struct pith_error *err)
{
	struct pith_weight_entry weight = { 0 };
	if (index_plus_1 != 0) {
		uint32_t i = index_plus_1 - 1; /* in range: checked with the block's entry */
		PITH_TRY(pith_weight_entry_decode(pith_table_at(&t->wght, PITH_WGHT_NBYTES, i),
		                                  pith_table_off(&t->wght, PITH_WGHT_NBYTES, i),
		                                  &weight, err));
	}
	put_u64(hash, weight.name_hash);
	return PITH_OK;
}

static pith_status put_blocks(const struct pith_tables *t, struct pith_xxh3 *hash,
                              struct pith_error *err)
{
	for (uint64_t i = 0; i < t->blck.count; i++) {
		const uint8_t *p = pith_table_at(&t->blck, PITH_BLCK_NBYTES, i);
		struct pith_block_entry e;
		PITH_TRY(pith_block_entry_decode(p, pith_table_off(&t->blck, PITH_BLCK_NBYTES, i),
		                                 i, t->wght.count, &e, err));
		pith_xxh3_update_128(hash, p, 32);
		PITH_TRY(put_const(t, e.attention_const, hash, err));
		PITH_TRY(put_const(t, e.ffn_const, hash, err));
	}
	return PITH_OK;
}

static pith_status put_planes(const struct pith_tables *t, uint32_t first, uint32_t count,
                              uint64_t off, struct pith_xxh3 *hash, struct pith_error *err)
{
	if (first > t->plan.count || count > t->plan.count - first)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.14",
		                 "planes %u.. do not lie inside PLAN", first);
	for (uint32_t i = first; i < first + count; i++) {
		struct pith_plane_entry e;
		/* the extent does not enter the identity: any file size will do here */
		PITH_TRY(pith_plane_entry_decode(pith_table_at(&t->plan, PITH_PLAN_NBYTES, i),
		                                 pith_table_off(&t->plan, PITH_PLAN_NBYTES, i),
		                                 UINT64_MAX, PITH_ALIGN, &e, err));
		put_u64(hash, e.nbytes);
		put_u64(hash, e.xxh3);
		put_u32(hash, e.role);
		put_u32(hash, e.layout);
		put_u32(hash, e.dtype);
	}
	return PITH_OK;
}

static pith_status put_transform(const struct pith_tables *t, uint64_t i, struct pith_xxh3 *hash,
                                 struct pith_error *err)
{
	uint64_t off = pith_table_off(&t->xfrm, PITH_XFRM_NBYTES, i);
	struct pith_transform_entry e;
	PITH_TRY(pith_transform_entry_decode(pith_table_at(&t->xfrm, PITH_XFRM_NBYTES, i), off, &e,
	                                     err));
	put_u32(hash, e.kind);
	put_u32(hash, e.plane_count);
	for (unsigned k = 0; k < PITH_XFRM_PARAMS; k++)
		put_u32(hash, e.param[k]);
	return put_planes(t, e.first_plane, e.plane_count, off, hash, err);
}

static pith_status put_term(const struct pith_tables *t, uint64_t i, struct pith_xxh3 *hash,
                            struct pith_error *err)
{
	uint64_t off = pith_table_off(&t->term, PITH_TERM_NBYTES, i);
	struct pith_term_entry e;
	PITH_TRY(pith_term_entry_decode(pith_table_at(&t->term, PITH_TERM_NBYTES, i), off, &e,
	                                err));
	put_u32(hash, e.kind);
	put_u32(hash, e.plane_count);
	for (unsigned k = 0; k < PITH_TERM_PARAMS; k++)
		put_u32(hash, e.param[k]);
	return put_planes(t, e.first_plane, e.plane_count, off, hash, err);
}

static pith_status put_weight(const struct pith_tables *t, uint64_t i, struct pith_xxh3 *hash,
                              struct pith_error *err)
{
	uint64_t off = pith_table_off(&t->wght, PITH_WGHT_NBYTES, i);
	struct pith_weight_entry e;
	PITH_TRY(pith_weight_entry_decode(pith_table_at(&t->wght, PITH_WGHT_NBYTES, i), off, &e,
	                                  err));
	if ((e.flags & PITH_WEIGHT_FORWARD) == 0)
		return PITH_OK;
	if (e.first_term > t->term.count || e.term_count > t->term.count - e.first_term ||
	    e.first_transform > t->xfrm.count ||
	    e.transform_count > t->xfrm.count - e.first_transform)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.14",
		                 "terms or transforms do not lie inside their tables");
	put_u64(hash, e.name_hash);
	put_u32(hash, e.rank);
	for (unsigned k = 0; k < PITH_MAX_RANK; k++)
		put_u64(hash, e.dim[k]);
	put_u32(hash, e.activation);
	if (e.activation == PITH_ACTIVATION_INT8_STATIC)
		put_u32(hash, bits_of_f32(e.activation_scale));
	for (uint64_t k = 0; k < e.transform_count; k++)
		PITH_TRY(put_transform(t, e.first_transform + k, hash, err));
	for (uint64_t k = 0; k < e.term_count; k++)
		PITH_TRY(put_term(t, e.first_term + k, hash, err));
	return PITH_OK;
}

static pith_status put_all(const struct pith_tables *t, uint32_t numerics_version,
                           struct pith_xxh3 *hash, struct pith_error *err)
{
	pith_xxh3_reset_128(hash);
	// spec container.md: "the 16 bytes `pith identity 0\n`, then numerics_version as u32"
	pith_xxh3_update_128(hash, "pith identity 0\n", 16);
	put_u32(hash, numerics_version);
	PITH_TRY(put_arch(t, hash, err));
	PITH_TRY(put_blocks(t, hash, err));
	put_u64(hash, t->tokn_xxh3);
	for (uint64_t i = 0; i < t->wght.count; i++)
		PITH_TRY(put_weight(t, i, hash, err));
	return PITH_OK;
}

pith_status pith_identity_compute(const struct pith_tables *tables, uint32_t numerics_version,
                                  uint8_t out[16], struct pith_error *err)
{
	memset(out, 0, 16);
	struct pith_xxh3 *hash = pith_xxh3_new();
	if (hash == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for the model identity");
	pith_status status = put_all(tables, numerics_version, hash, err);
	if (status == PITH_OK)
		pith_xxh3_digest_128(hash, out);
	pith_xxh3_free(hash);
	return status;
}
