/*
 * The container's tables, entry by entry: decode with the rules that one entry can
 * prove, and encode.  Spec: spec/container.md, section 5; the numbers in the code are
 * the offsets of its tables.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "container.h"

#include "checksum.h"

static bool all_zero(const uint8_t *p, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* [off, off + nbytes) inside [0, limit) */
static bool is_inside(uint64_t off, uint64_t nbytes, uint64_t limit)
{
	return off <= limit && nbytes <= limit - off;
}

static void seal(uint8_t *p, size_t nbytes)
{
	store_le64(p + nbytes - 8, pith_xxh3_64(p, nbytes - 8));
}

pith_status pith_entry_check(const uint8_t *p, size_t nbytes, uint64_t off, const char *what,
                             struct pith_error *err)
{
	// spec container.12: "entry_xxh3 of an entry matches"
	if (load_le64(p + nbytes - 8) != pith_xxh3_64(p, nbytes - 8))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.12",
		                 "%s entry, bytes %llu..%llu: checksum does not match", what,
		                 (unsigned long long)off, (unsigned long long)(off + nbytes - 1));
	return PITH_OK;
}

static pith_status expect_reserved(bool is_zero, uint64_t off, const char *what,
                                   struct pith_error *err)
{
	// spec container.12: "its reserved bytes and flag bits are 0"
	if (!is_zero)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.12",
		                 "%s entry: reserved bytes or flag bits are not 0", what);
	return PITH_OK;
}

/* ---- WGHT ---- */

static pith_status check_weight_shape(const struct pith_weight_entry *e, uint64_t off,
                                      struct pith_error *err)
{
	// spec container.14: "rank, counts, dims in range: every dim is 1..2^40, unused ones 1, the product of the dims at most 2^48"
	if (e->rank == 0 || e->rank > PITH_MAX_RANK || e->term_count == 0 ||
	    e->term_count > PITH_MAX_TERMS || e->transform_count > PITH_MAX_TRANSFORMS)
		return pith_fail(err, PITH_E_CORRUPT, off + 24, "container.14",
		                 "WGHT entry: rank %u, %u terms, %u transforms", e->rank,
		                 e->term_count, e->transform_count);
	uint64_t product = 1;
	for (unsigned i = 0; i < PITH_MAX_RANK; i++) {
		uint64_t limit = i < e->rank ? PITH_MAX_DIM : 1;
		if (e->dim[i] == 0 || e->dim[i] > limit || e->dim[i] > PITH_MAX_ELEMENTS / product)
			return pith_fail(err, PITH_E_CORRUPT, off + 32 + 8 * i, "container.14",
			                 "WGHT entry: dim %u is %llu", i,
			                 (unsigned long long)e->dim[i]);
		product *= e->dim[i];
	}
	return PITH_OK;
}

pith_status pith_weight_entry_decode(const uint8_t *p, uint64_t off, struct pith_weight_entry *out,
                                     struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_WGHT_NBYTES, off, "WGHT", err));
	struct pith_weight_entry e = {
		.name_hash = load_le64(p),
		.name_off = load_le64(p + 8),
		.name_nbytes = load_le32(p + 16),
		.flags = load_le32(p + 20),
		.rank = load_le32(p + 24),
		.term_count = load_le32(p + 28),
		.first_term = load_le32(p + 64),
		.first_transform = load_le32(p + 68),
		.transform_count = load_le32(p + 72),
		.activation = load_le32(p + 76),
		.source_dtype = load_le32(p + 80),
		.activation_scale = load_f32(p + 84),
	};
	for (unsigned i = 0; i < PITH_MAX_RANK; i++)
		e.dim[i] = load_le64(p + 32 + 8 * i);
	PITH_TRY(expect_reserved(e.flags <= 1 && all_zero(p + 88, 32), off, "WGHT", err));
	if (e.name_nbytes == 0 || e.name_nbytes > PITH_MAX_NAME_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, off + 16, "container.13",
		                 "WGHT entry: name of %u bytes", e.name_nbytes);
	PITH_TRY(check_weight_shape(&e, off, err));
	*out = e;
	return PITH_OK;
}

void pith_weight_entry_encode(const struct pith_weight_entry *e, uint8_t p[PITH_WGHT_NBYTES])
{
	memset(p, 0, PITH_WGHT_NBYTES);
	store_le64(p, e->name_hash);
	store_le64(p + 8, e->name_off);
	store_le32(p + 16, e->name_nbytes);
	store_le32(p + 20, e->flags);
	store_le32(p + 24, e->rank);
	store_le32(p + 28, e->term_count);
	for (unsigned i = 0; i < PITH_MAX_RANK; i++)
		store_le64(p + 32 + 8 * i, e->dim[i]);
	store_le32(p + 64, e->first_term);
	store_le32(p + 68, e->first_transform);
	store_le32(p + 72, e->transform_count);
	store_le32(p + 76, e->activation);
	store_le32(p + 80, e->source_dtype);
	store_f32(p + 84, e->activation_scale);
	seal(p, PITH_WGHT_NBYTES);
}

void pith_weight_entry_shape(const struct pith_weight_entry *e, uint64_t *m, uint64_t *n)
{
	*m = e->rank == 1 ? 1 : e->dim[0];
	*n = e->rank == 1 ? e->dim[0] : e->dim[1] * e->dim[2] * e->dim[3];
}

/* ---- TERM and XFRM ---- */

static pith_status check_plane_count(uint32_t count, uint32_t least, uint32_t most, uint64_t off,
                                     const char *what, struct pith_error *err)
{
	// spec container.14: "plane counts in range and planes inside PLAN"
	if (count < least || count > most)
		return pith_fail(err, PITH_E_CORRUPT, off + 8, "container.14",
		                 "%s entry: %u planes", what, count);
	return PITH_OK;
}

pith_status pith_term_entry_decode(const uint8_t *p, uint64_t off, struct pith_term_entry *out,
                                   struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_TERM_NBYTES, off, "TERM", err));
	struct pith_term_entry e = {
		.kind = load_le32(p),
		.first_plane = load_le32(p + 4),
		.plane_count = load_le32(p + 8),
		.flags = load_le32(p + 12),
	};
	for (unsigned i = 0; i < PITH_TERM_PARAMS; i++)
		e.param[i] = load_le32(p + 16 + 4 * i);
	PITH_TRY(expect_reserved(e.flags == 0 && all_zero(p + 112, 8), off, "TERM", err));
	PITH_TRY(check_plane_count(e.plane_count, 1, PITH_MAX_PLANES, off, "TERM", err));
	*out = e;
	return PITH_OK;
}

void pith_term_entry_encode(const struct pith_term_entry *e, uint8_t p[PITH_TERM_NBYTES])
{
	memset(p, 0, PITH_TERM_NBYTES);
	store_le32(p, e->kind);
	store_le32(p + 4, e->first_plane);
	store_le32(p + 8, e->plane_count);
	store_le32(p + 12, e->flags);
	for (unsigned i = 0; i < PITH_TERM_PARAMS; i++)
		store_le32(p + 16 + 4 * i, e->param[i]);
	seal(p, PITH_TERM_NBYTES);
}

pith_status pith_transform_entry_decode(const uint8_t *p, uint64_t off,
                                        struct pith_transform_entry *out, struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_XFRM_NBYTES, off, "XFRM", err));
	struct pith_transform_entry e = {
		.kind = load_le32(p),
		.first_plane = load_le32(p + 4),
		.plane_count = load_le32(p + 8),
		.flags = load_le32(p + 12),
	};
	for (unsigned i = 0; i < PITH_XFRM_PARAMS; i++)
		e.param[i] = load_le32(p + 16 + 4 * i);
	PITH_TRY(expect_reserved(e.flags == 0, off, "XFRM", err));
	PITH_TRY(check_plane_count(e.plane_count, 0, PITH_MAX_TRANSFORM_PLANES, off, "XFRM", err));
	*out = e;
	return PITH_OK;
}

void pith_transform_entry_encode(const struct pith_transform_entry *e,
                                 uint8_t p[PITH_XFRM_NBYTES])
{
	memset(p, 0, PITH_XFRM_NBYTES);
	store_le32(p, e->kind);
	store_le32(p + 4, e->first_plane);
	store_le32(p + 8, e->plane_count);
	store_le32(p + 12, e->flags);
	for (unsigned i = 0; i < PITH_XFRM_PARAMS; i++)
		store_le32(p + 16 + 4 * i, e->param[i]);
	seal(p, PITH_XFRM_NBYTES);
}

/* ---- PLAN ---- */

pith_status pith_plane_entry_decode(const uint8_t *p, uint64_t off, uint64_t file_nbytes,
                                    uint32_t tensor_align, struct pith_plane_entry *out,
                                    struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_PLAN_NBYTES, off, "PLAN", err));
	struct pith_plane_entry e = {
		.off = load_le64(p),
		.nbytes = load_le64(p + 8),
		.xxh3 = load_le64(p + 16),
		.role = load_le32(p + 24),
		.layout = load_le32(p + 28),
		.dtype = load_le32(p + 32),
		.encoding = load_le32(p + 36),
	};
	PITH_TRY(expect_reserved(all_zero(p + 40, 16), off, "PLAN", err));
	if (e.encoding != PITH_ENCODING_RAW)
		return pith_fail(err, PITH_E_UNSUPPORTED, off + 36, "container.15",
		                 "PLAN entry: encoding %u: needs a newer reader", e.encoding);
	uint32_t align = e.nbytes >= PITH_BIG_PLANE_NBYTES ? tensor_align : PITH_ALIGN;
	// spec container.15: "A plane lies inside [1536, file_nbytes), aligned as said, nbytes not 0"
	if (e.nbytes == 0 || e.nbytes % PITH_ALIGN != 0 || e.off % align != 0 ||
	    e.off < PITH_DATA_OFF || !is_inside(e.off, e.nbytes, file_nbytes))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.15",
		                 "PLAN entry: %llu bytes at %llu are empty, not aligned or not "
		                 "inside the file", (unsigned long long)e.nbytes,
		                 (unsigned long long)e.off);
	*out = e;
	return PITH_OK;
}

void pith_plane_entry_encode(const struct pith_plane_entry *e, uint8_t p[PITH_PLAN_NBYTES])
{
	memset(p, 0, PITH_PLAN_NBYTES);
	store_le64(p, e->off);
	store_le64(p + 8, e->nbytes);
	store_le64(p + 16, e->xxh3);
	store_le32(p + 24, e->role);
	store_le32(p + 28, e->layout);
	store_le32(p + 32, e->dtype);
	store_le32(p + 36, e->encoding);
	seal(p, PITH_PLAN_NBYTES);
}

/* ---- ARCH ---- */

static bool arch_key_is_valid(const char key[32])
{
	size_t length = 0;
	while (length < 32 && key[length] > 0x20 && key[length] < 0x7f)
		length++;
	return length >= 1 && length <= 31 && all_zero((const uint8_t *)key + length, 32 - length);
}

pith_status pith_arch_entry_decode(const uint8_t *p, uint64_t off, uint64_t text_nbytes,
                                   struct pith_arch_entry *out, struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_ARCH_NBYTES, off, "ARCH", err));
	struct pith_arch_entry e = {
		.type = load_le32(p + 32),
		.flags = load_le32(p + 36),
		.value = load_le64(p + 40),
		.value_nbytes = load_le64(p + 48),
	};
	memcpy(e.key, p, sizeof(e.key));
	PITH_TRY(expect_reserved(e.flags <= 3, off, "ARCH", err));
	// spec container.17: "key is 1..31 characters 0x21..0x7e, sorted, unique, zero-padded; type known; strings inside TEXT"
	if (!arch_key_is_valid(e.key))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.17",
		                 "ARCH entry: the key is not 1..31 printable characters");
	if (e.type < PITH_ARCH_U64 || e.type > PITH_ARCH_STRING)
		return pith_fail(err, PITH_E_CORRUPT, off + 32, "container.17",
		                 "ARCH key %s: type %u", e.key, e.type);
	bool fits = e.type == PITH_ARCH_STRING ? is_inside(e.value, e.value_nbytes, text_nbytes) :
	                                         e.value_nbytes == 0;
	if (!fits)
		return pith_fail(err, PITH_E_CORRUPT, off + 40, "container.17",
		                 "ARCH key %s: value does not lie inside TEXT", e.key);
	*out = e;
	return PITH_OK;
}

void pith_arch_entry_encode(const struct pith_arch_entry *e, uint8_t p[PITH_ARCH_NBYTES])
{
	memset(p, 0, PITH_ARCH_NBYTES);
	memcpy(p, e->key, sizeof(e->key));
	store_le32(p + 32, e->type);
	store_le32(p + 36, e->flags);
	store_le64(p + 40, e->value);
	store_le64(p + 48, e->value_nbytes);
	seal(p, PITH_ARCH_NBYTES);
}

/* ---- BLCK ---- */

static bool attention_is_valid(const struct pith_block_entry *e)
{
	if ((e->flags & PITH_BLOCK_ATTENTION) == 0)
		return e->head_count == 0 && e->kv_head_count == 0 && e->head_dim == 0;
	return e->head_count >= 1 && e->head_count <= 65536 && e->kv_head_count >= 1 &&
	       e->kv_head_count <= e->head_count && e->head_count % e->kv_head_count == 0 &&
	       e->head_dim >= 1 && e->head_dim <= 65536 && e->attention_const == 0;
}

static bool ffn_is_valid(const struct pith_block_entry *e)
{
	if ((e->flags & PITH_BLOCK_FFN) == 0)
		return e->ffn_count == 0;
	return e->ffn_count >= 1 && e->ffn_count <= 1u << 24 && e->ffn_const == 0;
}

pith_status pith_block_entry_decode(const uint8_t *p, uint64_t off, uint64_t index,
                                    uint64_t weight_count, struct pith_block_entry *out,
                                    struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_BLCK_NBYTES, off, "BLCK", err));
	struct pith_block_entry e = {
		.flags = load_le32(p),
		.head_count = load_le32(p + 4),
		.kv_head_count = load_le32(p + 8),
		.head_dim = load_le32(p + 12),
		.ffn_count = load_le32(p + 16),
		.attention_of = load_le32(p + 20),
		.ffn_of = load_le32(p + 24),
		.window = load_le32(p + 28),
		.attention_const = load_le32(p + 32),
		.ffn_const = load_le32(p + 36),
	};
	PITH_TRY(expect_reserved(e.flags <= 3 && all_zero(p + 40, 16), off, "BLCK", err));
	// spec container.18: "absent branches have 0 counts and only they may have a const"
	if (!attention_is_valid(&e) || !ffn_is_valid(&e))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.18",
		                 "block %llu: head or feed-forward counts do not fit its flags",
		                 (unsigned long long)index);
	// spec container.18: "`*_of` names a block at or before this one"
	if (e.attention_of > index || e.ffn_of > index)
		return pith_fail(err, PITH_E_CORRUPT, off + 20, "container.18",
		                 "block %llu uses weights of a later block",
		                 (unsigned long long)index);
	if (e.attention_const > weight_count || e.ffn_const > weight_count)
		return pith_fail(err, PITH_E_CORRUPT, off + 32, "container.18",
		                 "block %llu: its constant is no weight",
		                 (unsigned long long)index);
	*out = e;
	return PITH_OK;
}

pith_status pith_block_check_shared(const struct pith_block_entry *e,
                                    const struct pith_block_entry *attention_of,
                                    const struct pith_block_entry *ffn_of, uint64_t index,
                                    uint64_t off, struct pith_error *err)
{
	// spec container.18: "with the branch, that block has it too, with the same shape and weights of its own"
	bool attention_fits = (e->flags & PITH_BLOCK_ATTENTION) == 0 ||
	                      ((attention_of->flags & PITH_BLOCK_ATTENTION) != 0 &&
	                       attention_of->attention_of == e->attention_of &&
	                       attention_of->head_count == e->head_count &&
	                       attention_of->kv_head_count == e->kv_head_count &&
	                       attention_of->head_dim == e->head_dim);
	bool ffn_fits = (e->flags & PITH_BLOCK_FFN) == 0 ||
	                ((ffn_of->flags & PITH_BLOCK_FFN) != 0 && ffn_of->ffn_of == e->ffn_of &&
	                 ffn_of->ffn_count == e->ffn_count);
	if (!attention_fits || !ffn_fits)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.18",
		                 "block %llu: the block whose weights it uses has no such %s",
		                 (unsigned long long)index,
		                 attention_fits ? "feed-forward" : "attention");
	return PITH_OK;
}

void pith_block_entry_encode(const struct pith_block_entry *e, uint8_t p[PITH_BLCK_NBYTES])
{
	memset(p, 0, PITH_BLCK_NBYTES);
	store_le32(p, e->flags);
	store_le32(p + 4, e->head_count);
	store_le32(p + 8, e->kv_head_count);
	store_le32(p + 12, e->head_dim);
	store_le32(p + 16, e->ffn_count);
	store_le32(p + 20, e->attention_of);
	store_le32(p + 24, e->ffn_of);
	store_le32(p + 28, e->window);
	store_le32(p + 32, e->attention_const);
	store_le32(p + 36, e->ffn_const);
	seal(p, PITH_BLCK_NBYTES);
}

/* ---- CNRY ---- */

pith_status pith_canary_entry_decode(const uint8_t *p, uint64_t off, uint64_t weight_count,
                                     struct pith_canary_entry *out, struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_CNRY_NBYTES, off, "CNRY", err));
	struct pith_canary_entry e = { .weight = load_le32(p), .seed = load_le32(p + 4) };
	for (unsigned i = 0; i < PITH_TILE_ROWS; i++) {
		e.first[i] = load_f32(p + 8 + 4 * i);
		e.last[i] = load_f32(p + 72 + 4 * i);
	}
	PITH_TRY(expect_reserved(all_zero(p + 136, 16), off, "CNRY", err));
	// spec container.19: "Canary and lineage entries: weight in range"
	if (e.weight >= weight_count)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.19",
		                 "CNRY entry: weight %u of %llu", e.weight,
		                 (unsigned long long)weight_count);
	*out = e;
	return PITH_OK;
}

void pith_canary_entry_encode(const struct pith_canary_entry *e, uint8_t p[PITH_CNRY_NBYTES])
{
	memset(p, 0, PITH_CNRY_NBYTES);
	store_le32(p, e->weight);
	store_le32(p + 4, e->seed);
	for (unsigned i = 0; i < PITH_TILE_ROWS; i++) {
		store_f32(p + 8 + 4 * i, e->first[i]);
		store_f32(p + 72 + 4 * i, e->last[i]);
	}
	seal(p, PITH_CNRY_NBYTES);
}

/* ---- LINE ---- */

pith_status pith_lineage_entry_decode(const uint8_t *p, uint64_t off, uint64_t weight_count,
                                      uint64_t text_nbytes, struct pith_lineage_entry *out,
                                      struct pith_error *err)
{
	PITH_TRY(pith_entry_check(p, PITH_LINE_NBYTES, off, "LINE", err));
	struct pith_lineage_entry e = {
		.kind = load_le32(p),
		.weight = load_le32(p + 4),
		.key_off = load_le64(p + 8),
		.key_nbytes = load_le32(p + 16),
		.value_nbytes = load_le32(p + 20),
		.value_off = load_le64(p + 24),
		.number = { load_f64(p + 32), load_f64(p + 40) },
	};
	memcpy(e.digest, p + 48, sizeof(e.digest));
	PITH_TRY(expect_reserved(all_zero(p + 80, 40), off, "LINE", err));
	if (e.weight > weight_count || !is_inside(e.key_off, e.key_nbytes, text_nbytes) ||
	    !is_inside(e.value_off, e.value_nbytes, text_nbytes))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.19",
		                 "LINE entry: its weight or its strings are out of range");
	*out = e;
	return PITH_OK;
}

void pith_lineage_entry_encode(const struct pith_lineage_entry *e, uint8_t p[PITH_LINE_NBYTES])
{
	memset(p, 0, PITH_LINE_NBYTES);
	store_le32(p, e->kind);
	store_le32(p + 4, e->weight);
	store_le64(p + 8, e->key_off);
	store_le32(p + 16, e->key_nbytes);
	store_le32(p + 20, e->value_nbytes);
	store_le64(p + 24, e->value_off);
	store_f64(p + 32, e->number[0]);
	store_f64(p + 40, e->number[1]);
	memcpy(p + 48, e->digest, sizeof(e->digest));
	seal(p, PITH_LINE_NBYTES);
}
