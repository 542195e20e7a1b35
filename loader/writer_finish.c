/*
 * The writer, second half: tables, directory, header, rename.  Sorting happens here, so
 * the bytes depend on the calls only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "writer_state.h"

#include "checksum.h"
#include "container.h"
#include "file.h"

#include <stdlib.h>

/* ---- WGHT: sorted by (name_hash, name) ---- */

struct sort_key {
	uint64_t hash;
	const char *name;
	uint32_t name_nbytes, index;
};

static int compare_names(const void *a, const void *b)
{
	const struct sort_key *x = a, *y = b;
	return pith_compare_names(x->hash, x->name, x->name_nbytes, y->hash, y->name,
	                          y->name_nbytes);
}

/* Encoded WGHT, and where each weight of the calls ended up. */
struct sorted_weights {
	struct pith_buffer wght;
	uint32_t *place; /* [weights] */
};

static pith_status sort_weights(const struct pith_writer *w, struct sorted_weights *out,
                                struct pith_error *err)
{
	const struct pith_weight_entry *entries = (const struct pith_weight_entry *)w->weights.data;
	size_t count = pith_writer_weight_count(w);
	struct sort_key *keys = calloc(count + 1, sizeof(*keys));
	out->place = calloc(count + 1, sizeof(*out->place));
	uint8_t *at = NULL;
	pith_status status = PITH_OK;
	if (keys == NULL || out->place == NULL)
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to sort names");
	if (status == PITH_OK)
		status = pith_buffer_grow(&out->wght, count * PITH_WGHT_NBYTES, &at, err);
	if (status == PITH_OK) {
		for (size_t i = 0; i < count; i++)
			keys[i] = (struct sort_key){ entries[i].name_hash,
				                     (const char *)w->name.data +
				                         entries[i].name_off,
				                     entries[i].name_nbytes, (uint32_t)i };
		qsort(keys, count, sizeof(*keys), compare_names);
		for (size_t i = 0; i < count; i++) {
			out->place[keys[i].index] = (uint32_t)i;
			pith_weight_entry_encode(&entries[keys[i].index], at + i * PITH_WGHT_NBYTES);
		}
	}
	free(keys);
	return status;
}

/* Index in the sorted table + 1; 0 for no reference. */
static pith_status resolve(const struct pith_writer *w, const struct sorted_weights *sorted,
                           struct pith_name_ref ref, uint32_t *index_plus_1,
                           struct pith_error *err)
{
	*index_plus_1 = 0;
	if (ref.nbytes == 0)
		return PITH_OK;
	const char *name = (const char *)w->refs.data + ref.off;
	uint32_t found = pith_writer_lookup(w, name, ref.nbytes);
	if (found == 0) {
		char shown[PITH_SHOWN_NAME_NBYTES];
		pith_show_name(name, ref.nbytes, shown);
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.19",
		                 "a block, canary or lineage entry names weight %s, which was not "
		                 "written", shown);
	}
	*index_plus_1 = sorted->place[found - 1] + 1;
	return PITH_OK;
}

/* ---- the other tables ---- */

static int compare_keys(const void *a, const void *b)
{
	return memcmp(((const struct pith_arch_entry *)a)->key,
	              ((const struct pith_arch_entry *)b)->key, 32);
}

static pith_status encode_arch(struct pith_writer *w, struct pith_buffer *out,
                               struct pith_error *err)
{
	struct pith_arch_entry *entries = (struct pith_arch_entry *)w->arch.data;
	size_t count = w->arch.nbytes / sizeof(*entries);
	uint8_t *at;
	PITH_TRY(pith_buffer_grow(out, count * PITH_ARCH_NBYTES, &at, err));
	if (count != 0)
		qsort(entries, count, sizeof(*entries), compare_keys);
	for (size_t i = 0; i < count; i++)
		pith_arch_entry_encode(&entries[i], at + i * PITH_ARCH_NBYTES);
	return PITH_OK;
}

static pith_status encode_blocks(struct pith_writer *w, const struct sorted_weights *sorted,
                                 struct pith_buffer *out, struct pith_error *err)
{
	struct pith_pending_block *blocks = (struct pith_pending_block *)w->blocks.data;
	size_t count = w->blocks.nbytes / sizeof(*blocks);
	uint8_t *at;
	if (count > PITH_MAX_BLOCKS)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.18", "%zu blocks",
		                 count);
	PITH_TRY(pith_buffer_grow(out, count * PITH_BLCK_NBYTES, &at, err));
	for (size_t i = 0; i < count; i++, at += PITH_BLCK_NBYTES) {
		struct pith_block_entry *e = &blocks[i].entry, checked;
		PITH_TRY(resolve(w, sorted, blocks[i].attention_const, &e->attention_const, err));
		PITH_TRY(resolve(w, sorted, blocks[i].ffn_const, &e->ffn_const, err));
		pith_block_entry_encode(e, at);
		/* the reader's own rules */
		pith_status status = pith_block_entry_decode(at, PITH_NO_OFF, i,
		                                             pith_writer_weight_count(w), &checked,
		                                             err);
		if (status == PITH_OK)
			status = pith_block_check_shared(e, &blocks[e->attention_of].entry,
			                                 &blocks[e->ffn_of].entry, i, PITH_NO_OFF,
			                                 err);
		if (status != PITH_OK) {
			if (err != NULL)
				err->status = PITH_E_ARGUMENT;
			return PITH_E_ARGUMENT;
		}
	}
	return PITH_OK;
}

static int compare_canaries(const void *a, const void *b)
{
	uint32_t x = ((const struct pith_pending_canary *)a)->entry.weight;
	uint32_t y = ((const struct pith_pending_canary *)b)->entry.weight;
	return (x > y) - (x < y);
}

static pith_status encode_canaries(struct pith_writer *w, const struct sorted_weights *sorted,
                                   struct pith_buffer *out, struct pith_error *err)
{
	struct pith_pending_canary *canaries = (struct pith_pending_canary *)w->canaries.data;
	size_t count = w->canaries.nbytes / sizeof(*canaries);
	uint8_t *at;
	for (size_t i = 0; i < count; i++) {
		uint32_t index_plus_1;
		PITH_TRY(resolve(w, sorted, canaries[i].weight, &index_plus_1, err));
		if (index_plus_1 == 0)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.19",
			                 "a canary without a weight");
		canaries[i].entry.weight = index_plus_1 - 1;
	}
	if (count != 0)
		qsort(canaries, count, sizeof(*canaries), compare_canaries);
	PITH_TRY(pith_buffer_grow(out, count * PITH_CNRY_NBYTES, &at, err));
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && canaries[i].entry.weight == canaries[i - 1].entry.weight)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.19",
			                 "two canaries for one weight");
		pith_canary_entry_encode(&canaries[i].entry, at + i * PITH_CNRY_NBYTES);
	}
	return PITH_OK;
}

static pith_status encode_lineage(struct pith_writer *w, const struct sorted_weights *sorted,
                                  struct pith_buffer *out, struct pith_error *err)
{
	struct pith_pending_lineage *lines = (struct pith_pending_lineage *)w->lineage.data;
	size_t count = w->lineage.nbytes / sizeof(*lines);
	uint8_t *at;
	PITH_TRY(pith_buffer_grow(out, count * PITH_LINE_NBYTES, &at, err));
	for (size_t i = 0; i < count; i++) {
		PITH_TRY(resolve(w, sorted, lines[i].weight, &lines[i].entry.weight, err));
		pith_lineage_entry_encode(&lines[i].entry, at + i * PITH_LINE_NBYTES);
	}
	return PITH_OK;
}

/* ---- sections, directory, header ---- */

static struct pith_table table_of(const struct pith_buffer *b, uint32_t entry_nbytes)
{
	struct pith_table t = { .data = b->data, .nbytes = b->nbytes };
	t.count = entry_nbytes != 0 ? b->nbytes / entry_nbytes : 0;
	return t;
}

struct encoded_tables {
	struct sorted_weights sorted;
	struct pith_buffer arch, blck, cnry, line;
};

static pith_status encode_tables(struct pith_writer *w, struct encoded_tables *t,
                                 struct pith_error *err)
{
	PITH_TRY(sort_weights(w, &t->sorted, err));
	PITH_TRY(encode_arch(w, &t->arch, err));
	PITH_TRY(encode_blocks(w, &t->sorted, &t->blck, err));
	PITH_TRY(encode_canaries(w, &t->sorted, &t->cnry, err));
	return encode_lineage(w, &t->sorted, &t->line, err);
}

static void free_tables(struct encoded_tables *t)
{
	free(t->sorted.wght.data);
	free(t->sorted.place);
	free(t->arch.data);
	free(t->blck.data);
	free(t->cnry.data);
	free(t->line.data);
}

static pith_status put_tables(struct pith_writer *w, const struct encoded_tables *t,
                              struct pith_error *err)
{
	const struct {
		uint32_t id;
		const struct pith_buffer *bytes;
		bool always;
	} order[] = {
		{ PITH_SECTION_WGHT, &t->sorted.wght, true }, { PITH_SECTION_TERM, &w->term, true },
		{ PITH_SECTION_XFRM, &w->xfrm, false },       { PITH_SECTION_PLAN, &w->plan, true },
		{ PITH_SECTION_NAME, &w->name, true },        { PITH_SECTION_ARCH, &t->arch, false },
		{ PITH_SECTION_BLCK, &t->blck, false },       { PITH_SECTION_CNRY, &t->cnry, false },
		{ PITH_SECTION_LINE, &t->line, false },       { PITH_SECTION_TEXT, &w->text, false },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(order); i++)
		if (order[i].always || order[i].bytes->nbytes != 0)
			PITH_TRY(pith_writer_put_section(w, order[i].id, PITH_ENCODING_RAW,
			                                 order[i].bytes->data,
			                                 order[i].bytes->nbytes,
			                                 order[i].bytes->nbytes, err));
	return PITH_OK;
}

static pith_status compute_identity(const struct pith_writer *w, const struct encoded_tables *t,
                                    uint8_t identity[16], struct pith_error *err)
{
	struct pith_tables tables = {
		.wght = table_of(&t->sorted.wght, PITH_WGHT_NBYTES),
		.term = table_of(&w->term, PITH_TERM_NBYTES),
		.xfrm = table_of(&w->xfrm, PITH_XFRM_NBYTES),
		.plan = table_of(&w->plan, PITH_PLAN_NBYTES),
		.arch = table_of(&t->arch, PITH_ARCH_NBYTES),
		.blck = table_of(&t->blck, PITH_BLCK_NBYTES),
		.text = table_of(&w->text, 0),
	};
	for (size_t i = 0; i < w->directory_count; i++)
		if (w->directory[i].section_id == PITH_SECTION_TOKN)
			tables.tokn_xxh3 = w->directory[i].xxh3;
	return pith_identity_compute(&tables, PITH_NUMERICS_VERSION, identity, err);
}

static int compare_sections(const void *a, const void *b)
{
	uint32_t x = ((const struct pith_directory_entry *)a)->section_id;
	uint32_t y = ((const struct pith_directory_entry *)b)->section_id;
	return (x > y) - (x < y);
}

static pith_status put_directory(struct pith_writer *w, struct pith_header *h,
                                 struct pith_error *err)
{
	uint8_t bytes[PITH_MAX_DIRECTORY_COUNT * PITH_DIRECTORY_NBYTES];
	size_t nbytes = w->directory_count * PITH_DIRECTORY_NBYTES;
	qsort(w->directory, w->directory_count, sizeof(w->directory[0]), compare_sections);
	for (size_t i = 0; i < w->directory_count; i++)
		pith_directory_entry_encode(&w->directory[i], bytes + i * PITH_DIRECTORY_NBYTES);
	h->directory_off = pith_output_off(w->output);
	h->directory_count = (uint32_t)w->directory_count;
	pith_xxh3_128(bytes, nbytes, h->file_root);
	return pith_output_write(w->output, bytes, nbytes, err);
}

static pith_status complete(struct pith_writer *w, struct encoded_tables *t,
                            struct pith_error *err)
{
	struct pith_header h = {
		.generation = 1,
		.container_version = PITH_CONTAINER_VERSION,
		.numerics_version = PITH_NUMERICS_VERSION,
		.tensor_align = w->tensor_align,
	};
	uint8_t slot[PITH_SLOT_NBYTES];
	PITH_TRY(encode_tables(w, t, err));
	PITH_TRY(put_tables(w, t, err));
	PITH_TRY(compute_identity(w, t, h.model_identity, err));
	PITH_TRY(put_directory(w, &h, err));
	h.file_nbytes = pith_output_off(w->output);
	/* the header becomes valid only when everything it names is on the device */
	PITH_TRY(pith_output_sync(w->output, err));
	pith_header_encode(&h, slot);
	PITH_TRY(pith_output_rewrite(w->output, PITH_SLOT_OFF(0), slot, sizeof(slot), err));
	return pith_output_sync(w->output, err);
}

pith_status pith_writer_finish(struct pith_writer *w, struct pith_error *err)
{
	struct encoded_tables tables = { 0 };
	pith_status status = complete(w, &tables, err);
	free_tables(&tables);
	if (status == PITH_OK) {
		struct pith_output *output = w->output;
		w->output = NULL; /* commit frees it, also when it fails */
		status = pith_output_commit(output, err);
	}
	pith_writer_abort(w);
	return status;
}
