/*
 * The writer, first half: planes and blobs stream to the output, entries are kept.
 * writer_finish.c turns them into tables.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "writer_state.h"

#include "checksum.h"
#include "container.h"
#include "frame_zstd.h"

#include <limits.h>
#include <stdlib.h>

enum { DEFAULT_ZSTD_LEVEL = 19, FIRST_SLOT_COUNT = 64 };

/* ---- growing memory ---- */

pith_status pith_buffer_grow(struct pith_buffer *b, size_t nbytes, uint8_t **at,
                             struct pith_error *err)
{
	*at = b->data; /* may be NULL when nothing is asked for */
	if (nbytes == 0)
		return PITH_OK;
	if (nbytes > b->cap - b->nbytes) {
		size_t cap = b->cap < SIZE_MAX / 4 ? 2 * b->cap + 4096 : 0;
		if (cap < b->nbytes || cap - b->nbytes < nbytes)
			cap = nbytes < SIZE_MAX - b->nbytes ? b->nbytes + nbytes : 0;
		uint8_t *data = cap != 0 ? realloc(b->data, cap) : NULL;
		if (data == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
			                 "no memory for the tables");
		b->data = data;
		b->cap = cap;
	}
	*at = b->data + b->nbytes;
	memset(*at, 0, nbytes);
	b->nbytes += nbytes;
	return PITH_OK;
}

/* Append bytes and say where they went. */
static pith_status append(struct pith_buffer *b, const void *data, size_t nbytes, uint64_t *off,
                          struct pith_error *err)
{
	uint8_t *at;
	*off = b->nbytes;
	PITH_TRY(pith_buffer_grow(b, nbytes, &at, err));
	if (nbytes != 0)
		memcpy(at, data, nbytes);
	return PITH_OK;
}

static pith_status keep_ref(struct pith_writer *w, const char *name, struct pith_name_ref *ref,
                            struct pith_error *err)
{
	uint64_t off = 0;
	ref->nbytes = name != NULL ? strlen(name) : 0;
	PITH_TRY(append(&w->refs, name, ref->nbytes, &off, err));
	ref->off = (size_t)off;
	return PITH_OK;
}

/* ---- names ---- */

static bool slot_holds(const struct pith_writer *w, uint32_t index, uint64_t hash,
                       const char *name, size_t nbytes)
{
	const struct pith_weight_entry *e = (const struct pith_weight_entry *)w->weights.data + index;
	return e->name_hash == hash && e->name_nbytes == nbytes &&
	       memcmp(w->name.data + e->name_off, name, nbytes) == 0;
}

uint32_t pith_writer_lookup(const struct pith_writer *w, const char *name, size_t nbytes)
{
	uint64_t hash = pith_xxh3_64(name, nbytes);
	if (w->slot_count == 0)
		return 0;
	for (size_t s = (size_t)hash & (w->slot_count - 1); w->slots[s] != 0;
	     s = (s + 1) & (w->slot_count - 1))
		if (slot_holds(w, w->slots[s] - 1, hash, name, nbytes))
			return w->slots[s];
	return 0;
}

static void insert_slot(uint32_t *slots, size_t slot_count, uint64_t hash, uint32_t index_plus_1)
{
	size_t s = (size_t)hash & (slot_count - 1);
	while (slots[s] != 0)
		s = (s + 1) & (slot_count - 1);
	slots[s] = index_plus_1;
}

/* Room for one more weight; the entries themselves hold the hashes. */
static pith_status reserve_slot(struct pith_writer *w, struct pith_error *err)
{
	size_t count = pith_writer_weight_count(w);
	const struct pith_weight_entry *entries = (const struct pith_weight_entry *)w->weights.data;
	if (2 * (count + 1) <= w->slot_count)
		return PITH_OK;
	size_t slot_count = w->slot_count != 0 ? 2 * w->slot_count : FIRST_SLOT_COUNT;
	uint32_t *slots = calloc(slot_count, sizeof(*slots));
	if (slots == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the names");
	for (size_t i = 0; i < count; i++)
		insert_slot(slots, slot_count, entries[i].name_hash, (uint32_t)i + 1);
	free(w->slots);
	w->slots = slots;
	w->slot_count = slot_count;
	return PITH_OK;
}

/* ---- new, abort ---- */

static pith_status start_file(struct pith_writer *w, struct pith_error *err)
{
	uint8_t head[PITH_DATA_OFF] = { 0 }; /* both slots stay empty until finish */
	pith_preamble_encode(head);
	return pith_output_write(w->output, head, sizeof(head), err);
}

pith_status pith_writer_new(const char *path, const struct pith_writer_options *options,
                            struct pith_writer **out, struct pith_error *err)
{
	uint32_t align = options != NULL && options->tensor_align != 0 ? options->tensor_align :
	                                                                 PITH_DEFAULT_TENSOR_ALIGN;
	*out = NULL;
	if (align < 64 || align > 65536 || (align & (align - 1)) != 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.7",
		                 "tensor_align %u is not a power of two from 64 to 65536", align);
	struct pith_writer *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a writer");
	w->tensor_align = align;
	w->zstd_level = options != NULL && options->zstd_level != 0 ? options->zstd_level :
	                                                              DEFAULT_ZSTD_LEVEL;
	pith_status status = pith_output_new(path, &w->output, err);
	if (status == PITH_OK)
		status = start_file(w, err);
	if (status != PITH_OK) {
		pith_writer_abort(w);
		return status;
	}
	*out = w;
	return PITH_OK;
}

void pith_writer_abort(struct pith_writer *w)
{
	if (w == NULL)
		return;
	pith_output_abort(w->output);
	struct pith_buffer *buffers[] = { &w->weights, &w->arch, &w->blocks, &w->canaries,
		                          &w->lineage, &w->term, &w->xfrm, &w->plan,
		                          &w->name,    &w->text, &w->refs };
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(buffers); i++)
		free(buffers[i]->data);
	free(w->slots);
	free(w);
}

uint64_t pith_writer_nbytes(const struct pith_writer *w)
{
	return pith_output_off(w->output);
}

const char *pith_writer_temporary(const struct pith_writer *w)
{
	return pith_output_temporary(w->output);
}

/* ---- architecture and blocks ---- */

static pith_status add_arch(struct pith_writer *w, const char *key, struct pith_arch_entry entry,
                            struct pith_error *err)
{
	size_t length = strlen(key), count = w->arch.nbytes / sizeof(entry);
	const struct pith_arch_entry *known = (const struct pith_arch_entry *)w->arch.data;
	bool printable = length >= 1 && length <= 31;
	for (size_t i = 0; i < length; i++)
		printable = printable && key[i] > 0x20 && key[i] < 0x7f;
	if (!printable || entry.flags > (PITH_ARCH_MUST | PITH_ARCH_NO_IDENTITY))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.17",
		                 "architecture key of %zu bytes, flags %u", length, entry.flags);
	memcpy(entry.key, key, length);
	for (size_t i = 0; i < count; i++)
		if (memcmp(known[i].key, entry.key, sizeof(entry.key)) == 0)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.17",
			                 "architecture key %s is given twice", key);
	uint64_t off;
	return append(&w->arch, &entry, sizeof(entry), &off, err);
}

pith_status pith_writer_arch_u64(struct pith_writer *w, const char *key, uint64_t value,
                                 uint32_t flags, struct pith_error *err)
{
	struct pith_arch_entry e = { .type = PITH_ARCH_U64, .flags = flags, .value = value };
	return add_arch(w, key, e, err);
}

pith_status pith_writer_arch_f64(struct pith_writer *w, const char *key, double value,
                                 uint32_t flags, struct pith_error *err)
{
	struct pith_arch_entry e = { .type = PITH_ARCH_F64, .flags = flags };
	memcpy(&e.value, &value, sizeof(value));
	return add_arch(w, key, e, err);
}

pith_status pith_writer_arch_string(struct pith_writer *w, const char *key, const char *value,
                                    uint32_t flags, struct pith_error *err)
{
	struct pith_arch_entry e = { .type = PITH_ARCH_STRING, .flags = flags };
	e.value_nbytes = strlen(value);
	PITH_TRY(append(&w->text, value, (size_t)e.value_nbytes, &e.value, err));
	return add_arch(w, key, e, err);
}

pith_status pith_writer_block(struct pith_writer *w, const struct pith_block_entry *block,
                              const char *attention_const, const char *ffn_const,
                              struct pith_error *err)
{
	struct pith_pending_block pending = { .entry = *block };
	uint64_t off;
	pending.entry.attention_const = 0;
	pending.entry.ffn_const = 0;
	PITH_TRY(keep_ref(w, attention_const, &pending.attention_const, err));
	PITH_TRY(keep_ref(w, ffn_const, &pending.ffn_const, err));
	return append(&w->blocks, &pending, sizeof(pending), &off, err);
}

/* ---- sections ---- */

static bool section_must_be_understood(uint32_t id)
{
	static const uint32_t must[] = { PITH_SECTION_WGHT, PITH_SECTION_TERM, PITH_SECTION_XFRM,
		                         PITH_SECTION_PLAN, PITH_SECTION_NAME, PITH_SECTION_ARCH,
		                         PITH_SECTION_BLCK, PITH_SECTION_TOKN };
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(must); i++)
		if (must[i] == id)
			return true;
	return false;
}

pith_status pith_writer_put_section(struct pith_writer *w, uint32_t id, uint32_t encoding,
                                    const void *data, size_t nbytes, uint64_t raw_nbytes,
                                    struct pith_error *err)
{
	char name[5];
	pith_section_id_name(id, name);
	for (size_t i = 0; i < w->directory_count; i++)
		if (w->directory[i].section_id == id)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.9",
			                 "section \"%s\" is given twice", name);
	if (w->directory_count == PITH_MAX_DIRECTORY_COUNT)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.7",
		                 "too many sections");
	PITH_TRY(pith_output_align(w->output, PITH_ALIGN, err));
	struct pith_directory_entry e = {
		.section_id = id,
		.encoding = encoding,
		.off = pith_output_off(w->output),
		.nbytes = nbytes,
		.raw_nbytes = raw_nbytes,
		.flags = section_must_be_understood(id) ? PITH_SECTION_MUST : 0,
		.entry_nbytes = pith_section_entry_nbytes(id),
	};
	static const uint8_t zeros[PITH_ALIGN];
	struct pith_xxh3 *hash = pith_xxh3_new();
	if (hash == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a checksum");
	pith_xxh3_reset_64(hash);
	if (nbytes != 0)
		pith_xxh3_update_64(hash, data, nbytes);
	pith_xxh3_update_64(hash, zeros, pith_round_up(nbytes, PITH_ALIGN) - nbytes);
	e.xxh3 = pith_xxh3_digest_64(hash);
	pith_xxh3_free(hash);
	PITH_TRY(pith_output_write(w->output, data, nbytes, err));
	PITH_TRY(pith_output_align(w->output, PITH_ALIGN, err));
	w->directory[w->directory_count++] = e;
	return PITH_OK;
}

pith_status pith_writer_section(struct pith_writer *w, uint32_t id, enum pith_encoding encoding,
                                const void *data, size_t nbytes, struct pith_error *err)
{
	char name[5];
	pith_section_id_name(id, name);
	bool is_blob = (id & 0xff) == 'x' ||
	               (pith_section_is_known(id) && pith_section_entry_nbytes(id) == 0);
	bool is_own = id == PITH_SECTION_NAME || id == PITH_SECTION_TEXT;
	bool is_raw = encoding == PITH_ENCODING_RAW;
	if (!is_blob || is_own || (id == PITH_SECTION_TOKN && !is_raw) ||
	    (!is_raw && (encoding != PITH_ENCODING_ZSTD || nbytes > 1u << 30)))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.10",
		                 "section \"%s\" cannot be written with encoding %d", name,
		                 (int)encoding);
	if (is_raw)
		return pith_writer_put_section(w, id, encoding, data, nbytes, nbytes, err);
	uint8_t *frame;
	size_t frame_nbytes;
	PITH_TRY(pith_frame_encode(data, nbytes, w->zstd_level, &frame, &frame_nbytes, err));
	pith_status status = pith_writer_put_section(w, id, encoding, frame, frame_nbytes, nbytes,
	                                             err);
	free(frame);
	return status;
}

/* ---- weights ---- */

/* What the writer would refuse to read back is the caller's mistake, not a damaged file. */
static pith_status as_argument(pith_status status, struct pith_error *err)
{
	if (status != PITH_E_CORRUPT && status != PITH_E_UNSUPPORTED)
		return status;
	if (err != NULL)
		err->status = PITH_E_ARGUMENT;
	return PITH_E_ARGUMENT;
}

static pith_status check_terms(const struct pith_writer_weight *weight, uint64_t m, uint64_t n,
                               struct pith_error *err)
{
	bool integer = false;
	for (size_t i = 0; i < weight->term_count; i++) {
		struct pith_term term;
		const struct pith_packed_term *packed = &weight->terms[i];
		PITH_TRY(as_argument(pith_packed_bind(packed, (size_t)m, (size_t)n, &term, err),
		                     err));
		integer = integer || term.kind->integer(term.param);
	}
	const char *rule =
	    pith_activation_fault(weight->activation, weight->activation_scale, integer);
	if (rule != NULL)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, rule,
		                 "weight %.90s: activation %u, scale %g: does not fit its terms",
		                 weight->name, weight->activation,
		                 (double)weight->activation_scale);
	return PITH_OK;
}

/* Name, shape and terms; fills the entry except for its indices. */
static pith_status check_weight(const struct pith_writer *w,
                                const struct pith_writer_weight *weight,
                                struct pith_weight_entry *e, struct pith_error *err)
{
	size_t name_nbytes = strlen(weight->name);
	uint8_t encoded[PITH_WGHT_NBYTES];
	if (!pith_name_is_valid(weight->name, name_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.13",
		                 "a weight's name is not 1..255 bytes of UTF-8 without control "
		                 "characters");
	if (pith_writer_lookup(w, weight->name, name_nbytes) != 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.13",
		                 "weight %.90s is given twice", weight->name);
	if (pith_writer_weight_count(w) >= UINT32_MAX - 1 || weight->term_count > PITH_MAX_TERMS ||
	    weight->rank > PITH_MAX_RANK)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.14",
		                 "weight %.90s: too many weights, terms or dims", weight->name);
	*e = (struct pith_weight_entry){
		.name_hash = pith_xxh3_64(weight->name, name_nbytes),
		.name_nbytes = (uint32_t)name_nbytes,
		.flags = weight->flags,
		.rank = weight->rank,
		.term_count = (uint32_t)weight->term_count,
		.dim = { 1, 1, 1, 1 },
		.transform_count = (uint32_t)(weight->permute != NULL) + (weight->scale != NULL) +
		                   (weight->shift != NULL),
		.activation = weight->activation,
		.activation_scale = weight->activation_scale,
		.source_dtype = weight->source_dtype,
	};
	memcpy(e->dim, weight->dim, weight->rank * sizeof(e->dim[0]));
	/* the reader's own rules about rank, counts and dims */
	pith_weight_entry_encode(e, encoded);
	PITH_TRY(as_argument(pith_weight_entry_decode(encoded, PITH_NO_OFF, e, err), err));
	uint64_t m, n;
	pith_weight_entry_shape(e, &m, &n);
	return check_terms(weight, m, n, err);
}

static pith_status write_plane(struct pith_writer *w, const struct pith_packed_plane *plane,
                               struct pith_error *err)
{
	uint8_t *at;
	size_t align = plane->nbytes >= PITH_BIG_PLANE_NBYTES ? w->tensor_align : PITH_ALIGN;
	PITH_TRY(pith_output_align(w->output, align, err));
	struct pith_plane_entry e = {
		.off = pith_output_off(w->output),
		.nbytes = plane->nbytes,
		.xxh3 = pith_xxh3_64(plane->data, plane->nbytes),
		.role = plane->role,
		.layout = plane->layout,
		.dtype = plane->dtype,
		.encoding = PITH_ENCODING_RAW,
	};
	PITH_TRY(pith_output_write(w->output, plane->data, plane->nbytes, err));
	PITH_TRY(pith_buffer_grow(&w->plan, PITH_PLAN_NBYTES, &at, err));
	pith_plane_entry_encode(&e, at);
	return PITH_OK;
}

static pith_status write_term(struct pith_writer *w, const struct pith_packed_term *packed,
                              struct pith_error *err)
{
	uint8_t *at;
	struct pith_term_entry e = {
		.kind = packed->kind,
		.first_plane = (uint32_t)(w->plan.nbytes / PITH_PLAN_NBYTES),
		.plane_count = packed->plane_count,
	};
	memcpy(e.param, packed->param, sizeof(e.param));
	for (uint32_t i = 0; i < packed->plane_count; i++)
		PITH_TRY(write_plane(w, &packed->plane[i], err));
	PITH_TRY(pith_buffer_grow(&w->term, PITH_TERM_NBYTES, &at, err));
	pith_term_entry_encode(&e, at);
	return PITH_OK;
}

/* A transform: numbers of 4 bytes. */
struct written_transform {
	uint32_t kind, role, dtype;
	const void *numbers; /* [n] u32 or f32 */
	const float *bias;   /* [m] or NULL */
};

static struct pith_plane plane_of(const struct pith_packed_plane *p)
{
	return (struct pith_plane){ .data = p->data, .nbytes = p->nbytes, .role = p->role,
		                    .layout = p->layout, .dtype = p->dtype };
}

static pith_status check_transform(const struct pith_writer_weight *weight,
                                   const struct pith_packed_term *packed, uint64_t m, uint64_t n,
                                   struct pith_error *err)
{
	struct pith_transform t = {
		.kind = packed->kind,
		.m = (size_t)m,
		.n = (size_t)n,
		.plane = plane_of(&packed->plane[0]),
		.bias = plane_of(&packed->plane[1]),
		.off = PITH_NO_OFF,
		.weight_name = weight->name,
		.weight_name_nbytes = strlen(weight->name),
	};
	pith_status status = pith_transform_bind(&t, err);
	if (status == PITH_OK)
		status = pith_transform_verify(&t, err);
	return as_argument(status, err);
}

/* Append a plane of 'count' numbers of 4 bytes. */
static pith_status add_numbers(struct pith_packed_term *packed, uint32_t role, uint32_t dtype,
                               const void *numbers, uint64_t count, struct pith_error *err)
{
	PITH_TRY(pith_packed_add(packed, role, PITH_LAYOUT_LIST, dtype, 4 * count, err));
	uint8_t *to = packed->plane[packed->plane_count - 1].data;
	for (size_t j = 0; j < count; j++) {
		uint32_t number;
		memcpy(&number, (const uint8_t *)numbers + 4 * j, sizeof(number));
		store_le32(to + 4 * j, number);
	}
	return PITH_OK;
}

static pith_status write_transform(struct pith_writer *w, const struct pith_writer_weight *weight,
                                   const struct written_transform *t, uint64_t m, uint64_t n,
                                   struct pith_error *err)
{
	struct pith_packed_term packed = { .kind = t->kind };
	struct pith_transform_entry e = {
		.kind = t->kind,
		.first_plane = (uint32_t)(w->plan.nbytes / PITH_PLAN_NBYTES),
	};
	uint8_t *at;
	pith_status status = add_numbers(&packed, t->role, t->dtype, t->numbers, n, err);
	if (status == PITH_OK && t->bias != NULL)
		status = add_numbers(&packed, PITH_ROLE_VALUES, PITH_DTYPE_F32, t->bias, m, err);
	if (status == PITH_OK)
		status = check_transform(weight, &packed, m, n, err);
	e.plane_count = packed.plane_count;
	for (uint32_t i = 0; i < packed.plane_count && status == PITH_OK; i++)
		status = write_plane(w, &packed.plane[i], err);
	pith_packed_free(&packed);
	PITH_TRY(status);
	PITH_TRY(pith_buffer_grow(&w->xfrm, PITH_XFRM_NBYTES, &at, err));
	pith_transform_entry_encode(&e, at);
	return PITH_OK;
}

/* In ascending order of kinds (weight.6). */
static pith_status write_transforms(struct pith_writer *w, const struct pith_writer_weight *weight,
                                    const struct pith_weight_entry *e, struct pith_error *err)
{
	const struct written_transform permute = { PITH_TRANSFORM_PERMUTE, PITH_ROLE_INDEX,
		                                   PITH_DTYPE_U32, weight->permute, NULL };
	const struct written_transform scale = { PITH_TRANSFORM_SCALE, PITH_ROLE_SCALES,
		                                 PITH_DTYPE_F32, weight->scale, NULL };
	const struct written_transform shift = { PITH_TRANSFORM_SHIFT, PITH_ROLE_ZEROS,
		                                 PITH_DTYPE_F32, weight->shift, weight->bias };
	uint64_t m, n;
	pith_weight_entry_shape(e, &m, &n);
	if (weight->permute != NULL)
		PITH_TRY(write_transform(w, weight, &permute, m, n, err));
	if (weight->scale != NULL)
		PITH_TRY(write_transform(w, weight, &scale, m, n, err));
	if (weight->shift != NULL)
		PITH_TRY(write_transform(w, weight, &shift, m, n, err));
	return PITH_OK;
}

pith_status pith_writer_weight(struct pith_writer *w, const struct pith_writer_weight *weight,
                               struct pith_error *err)
{
	struct pith_weight_entry e;
	PITH_TRY(check_weight(w, weight, &e, err));
	if (w->plan.nbytes / PITH_PLAN_NBYTES > UINT32_MAX - PITH_MAX_TERMS * PITH_MAX_PLANES)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.10",
		                 "too many planes");
	PITH_TRY(reserve_slot(w, err));
	e.first_term = (uint32_t)(w->term.nbytes / PITH_TERM_NBYTES);
	e.first_transform = (uint32_t)(w->xfrm.nbytes / PITH_XFRM_NBYTES);
	PITH_TRY(write_transforms(w, weight, &e, err));
	for (size_t i = 0; i < weight->term_count; i++)
		PITH_TRY(write_term(w, &weight->terms[i], err));
	uint64_t off;
	PITH_TRY(append(&w->name, weight->name, e.name_nbytes, &e.name_off, err));
	PITH_TRY(append(&w->weights, &e, sizeof(e), &off, err));
	insert_slot(w->slots, w->slot_count, e.name_hash, (uint32_t)pith_writer_weight_count(w));
	return PITH_OK;
}

/* ---- canaries and lineage ---- */

pith_status pith_writer_canary(struct pith_writer *w, const char *weight, uint32_t seed,
                               const float first[16], const float last[16], struct pith_error *err)
{
	struct pith_pending_canary pending = { .entry = { .seed = seed } };
	uint64_t off;
	memcpy(pending.entry.first, first, sizeof(pending.entry.first));
	memcpy(pending.entry.last, last, sizeof(pending.entry.last));
	PITH_TRY(keep_ref(w, weight, &pending.weight, err));
	return append(&w->canaries, &pending, sizeof(pending), &off, err);
}

pith_status pith_writer_lineage(struct pith_writer *w, uint32_t kind, const char *weight,
                                const char *key, const char *value, const double number[2],
                                const uint8_t digest[32], struct pith_error *err)
{
	struct pith_pending_lineage pending = { .entry = { .kind = kind } };
	struct pith_lineage_entry *e = &pending.entry;
	size_t key_nbytes = key != NULL ? strlen(key) : 0;
	size_t value_nbytes = value != NULL ? strlen(value) : 0;
	uint64_t off;
	if (kind < PITH_LINEAGE_SOURCE || kind > PITH_LINEAGE_NOTE || key_nbytes > UINT32_MAX ||
	    value_nbytes > UINT32_MAX)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.19",
		                 "lineage of kind %u", kind);
	e->key_nbytes = (uint32_t)key_nbytes;
	e->value_nbytes = (uint32_t)value_nbytes;
	if (number != NULL)
		memcpy(e->number, number, sizeof(e->number));
	if (digest != NULL)
		memcpy(e->digest, digest, sizeof(e->digest));
	PITH_TRY(append(&w->text, key, key_nbytes, &e->key_off, err));
	PITH_TRY(append(&w->text, value, value_nbytes, &e->value_off, err));
	PITH_TRY(keep_ref(w, weight, &pending.weight, err));
	return append(&w->lineage, &pending, sizeof(pending), &off, err);
}
