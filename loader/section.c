/*
 * Sections, and the tables that describe the model as a whole: architecture, blocks,
 * lineage, canaries.  An entry is checked when it is used; strings are trusted after
 * TEXT's checksum was found right once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "file.h"

#include "checksum.h"
#include "frame_zstd.h"

#include <stdlib.h>

/* ---- sections ---- */

size_t pith_file_section_count(const struct pith_file *file)
{
	return file->header.directory_count;
}

pith_status pith_file_section_at(const struct pith_file *file, size_t i, struct pith_section *out,
                                 struct pith_error *err)
{
	*out = (struct pith_section){ 0 };
	if (i >= file->header.directory_count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "section number %zu of %u",
		                 i, file->header.directory_count);
	const struct pith_directory_entry *e = &file->directory[i];
	*out = (struct pith_section){ e->section_id, e->encoding,   e->flags,      e->entry_nbytes,
		                      e->off,        e->nbytes,     e->raw_nbytes, e->xxh3 };
	return PITH_OK;
}

pith_status pith_section_verify(const uint8_t *data, const struct pith_directory_entry *e,
                                struct pith_error *err)
{
	char name[5];
	size_t padded = pith_round_up((size_t)e->nbytes, PITH_ALIGN);
	pith_section_id_name(e->section_id, name);
	// spec container.11: "The padding behind a section up to a multiple of 64 is 0, and xxh3 matches"
	if (pith_xxh3_64(data + e->off, padded) != e->xxh3)
		return pith_fail(err, PITH_E_CORRUPT, e->off, "container.11",
		                 "section \"%s\", bytes %llu..%llu: checksum does not match", name,
		                 (unsigned long long)e->off,
		                 (unsigned long long)(e->off + padded - (padded != 0)));
	for (size_t i = (size_t)e->nbytes; i < padded; i++)
		if (data[e->off + i] != 0)
			return pith_fail(err, PITH_E_CORRUPT, e->off + i, "container.11",
			                 "section \"%s\": padding is not 0", name);
	return PITH_OK;
}

pith_status pith_file_section_check(const struct pith_file *file, uint32_t id,
                                    struct pith_error *err)
{
	size_t i = pith_file_section_index(file, id);
	if (i == file->header.directory_count || (file->flags & PITH_OPEN_NO_VERIFY) != 0 ||
	    atomic_load_explicit(&file->checked[i], memory_order_relaxed))
		return PITH_OK;
	PITH_TRY(pith_section_verify(file->data, &file->directory[i], err));
	atomic_store_explicit(&file->checked[i], true, memory_order_relaxed);
	return PITH_OK;
}

static pith_status find_section(const struct pith_file *file, uint32_t id, size_t *i,
                                struct pith_error *err)
{
	char name[5];
	*i = pith_file_section_index(file, id);
	if (*i < file->header.directory_count)
		return PITH_OK;
	pith_section_id_name(id, name);
	return pith_fail(err, PITH_E_NOT_FOUND, PITH_NO_OFF, NULL, "no section \"%s\"", name);
}

pith_status pith_file_section(const struct pith_file *file, uint32_t id, const void **data,
                              size_t *nbytes, struct pith_error *err)
{
	size_t i;
	*data = NULL;
	*nbytes = 0;
	PITH_TRY(find_section(file, id, &i, err));
	PITH_TRY(pith_file_section_check(file, id, err));
	*data = file->data + file->directory[i].off;
	*nbytes = (size_t)file->directory[i].nbytes;
	return PITH_OK;
}

pith_status pith_file_section_read(const struct pith_file *file, uint32_t id, size_t limit,
                                   char **data, size_t *nbytes, struct pith_error *err)
{
	size_t i;
	*data = NULL;
	*nbytes = 0;
	PITH_TRY(find_section(file, id, &i, err));
	PITH_TRY(pith_file_section_check(file, id, err));
	const struct pith_directory_entry *e = &file->directory[i];
	const uint8_t *stored = file->data + e->off;
	bool zstd = e->encoding == PITH_ENCODING_ZSTD;
	if (e->raw_nbytes > limit || e->raw_nbytes >= SIZE_MAX)
		return pith_fail(err, PITH_E_LIMIT, e->off, NULL,
		                 "a section of %llu bytes exceeds the limit of %zu",
		                 (unsigned long long)e->raw_nbytes, limit);
	size_t raw_nbytes = (size_t)e->raw_nbytes;
	if (zstd)
		PITH_TRY(pith_frame_check(stored, (size_t)e->nbytes, raw_nbytes, e->off, err));
	char *out = malloc(raw_nbytes + 1);
	if (out == NULL)
		return pith_fail(err, PITH_E_MEMORY, e->off, NULL, "no memory for %zu bytes",
		                 raw_nbytes);
	pith_status status = PITH_OK;
	if (zstd)
		status = pith_frame_decode(stored, (size_t)e->nbytes, (uint8_t *)out, raw_nbytes,
		                           e->off, err);
	else
		memcpy(out, stored, raw_nbytes);
	if (status != PITH_OK) {
		free(out);
		return status;
	}
	out[raw_nbytes] = '\0';
	*data = out;
	*nbytes = raw_nbytes;
	return PITH_OK;
}

/* ---- architecture ---- */

size_t pith_file_arch_count(const struct pith_file *file)
{
	return (size_t)file->tables.arch.count;
}

pith_status pith_file_arch_entry(const struct pith_file *file, uint64_t i,
                                 struct pith_arch_entry *out, struct pith_error *err)
{
	const struct pith_table *t = &file->tables.arch;
	return pith_arch_entry_decode(pith_table_at(t, PITH_ARCH_NBYTES, i),
	                              pith_table_off(t, PITH_ARCH_NBYTES, i),
	                              file->tables.text.nbytes, out, err);
}

static pith_status arch_value(const struct pith_file *file, const struct pith_arch_entry *e,
                              struct pith_arch_value *out, struct pith_error *err)
{
	*out = (struct pith_arch_value){ .type = e->type, .flags = e->flags };
	memcpy(out->key, e->key, sizeof(out->key));
	if (e->type == PITH_ARCH_STRING) {
		PITH_TRY(pith_file_section_check(file, PITH_SECTION_TEXT, err));
		out->string = e->value_nbytes != 0 ?
		                  (const char *)file->tables.text.data + e->value : "";
		out->string_nbytes = e->value_nbytes;
	} else {
		out->u64 = e->value;
		memcpy(&out->f64, &e->value, sizeof(out->f64));
	}
	return PITH_OK;
}

pith_status pith_file_arch_at(const struct pith_file *file, size_t i, struct pith_arch_value *out,
                              struct pith_error *err)
{
	struct pith_arch_entry e;
	*out = (struct pith_arch_value){ 0 };
	if (i >= file->tables.arch.count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "architecture key number %zu of %llu", i,
		                 (unsigned long long)file->tables.arch.count);
	PITH_TRY(pith_file_arch_entry(file, i, &e, err));
	return arch_value(file, &e, out, err);
}

/* Binary search; every entry looked at is checked, so "not found" can be trusted. */
static pith_status find_arch(const struct pith_file *file, const char *key, uint32_t type,
                             struct pith_arch_value *out, struct pith_error *err)
{
	uint64_t low = 0, high = file->tables.arch.count;
	while (low < high) {
		struct pith_arch_entry e;
		uint64_t middle = low + (high - low) / 2;
		PITH_TRY(pith_file_arch_entry(file, middle, &e, err));
		int order = strcmp(key, e.key); /* the key ends in a zero: container.17 */
		if (order == 0 && e.type != type)
			return pith_fail(err, PITH_E_CORRUPT,
			                 pith_table_off(&file->tables.arch, PITH_ARCH_NBYTES, middle),
			                 "container.17", "architecture key %s has type %u, not %u",
			                 key, e.type, type);
		if (order == 0)
			return arch_value(file, &e, out, err);
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return pith_fail(err, PITH_E_NOT_FOUND, PITH_NO_OFF, NULL, "no architecture key %.60s", key);
}

pith_status pith_file_arch_u64(const struct pith_file *file, const char *key, uint64_t *out,
                               struct pith_error *err)
{
	struct pith_arch_value value;
	*out = 0;
	PITH_TRY(find_arch(file, key, PITH_ARCH_U64, &value, err));
	*out = value.u64;
	return PITH_OK;
}

pith_status pith_file_arch_f64(const struct pith_file *file, const char *key, double *out,
                               struct pith_error *err)
{
	struct pith_arch_value value;
	*out = 0;
	PITH_TRY(find_arch(file, key, PITH_ARCH_F64, &value, err));
	*out = value.f64;
	return PITH_OK;
}

pith_status pith_file_arch_string(const struct pith_file *file, const char *key, const char **out,
                                  size_t *nbytes, struct pith_error *err)
{
	struct pith_arch_value value;
	*out = NULL;
	*nbytes = 0;
	PITH_TRY(find_arch(file, key, PITH_ARCH_STRING, &value, err));
	*out = value.string;
	*nbytes = (size_t)value.string_nbytes;
	return PITH_OK;
}

/* ---- blocks ---- */

static pith_status block_entry(const struct pith_file *file, uint64_t i,
                               struct pith_block_entry *out, struct pith_error *err)
{
	const struct pith_table *t = &file->tables.blck;
	return pith_block_entry_decode(pith_table_at(t, PITH_BLCK_NBYTES, i),
	                               pith_table_off(t, PITH_BLCK_NBYTES, i), i,
	                               file->tables.wght.count, out, err);
}

pith_status pith_file_block(const struct pith_file *file, size_t i, struct pith_block *out,
                            struct pith_error *err)
{
	struct pith_block_entry e, attention_of, ffn_of;
	*out = (struct pith_block){ 0 };
	if (i >= file->tables.blck.count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "block number %zu of %llu",
		                 i, (unsigned long long)file->tables.blck.count);
	PITH_TRY(block_entry(file, i, &e, err));
	PITH_TRY(block_entry(file, e.attention_of, &attention_of, err));
	PITH_TRY(block_entry(file, e.ffn_of, &ffn_of, err));
	PITH_TRY(pith_block_check_shared(&e, &attention_of, &ffn_of, i,
	                                 pith_table_off(&file->tables.blck, PITH_BLCK_NBYTES, i),
	                                 err));
	*out = (struct pith_block){
		.head_count = e.head_count,
		.kv_head_count = e.kv_head_count,
		.head_dim = e.head_dim,
		.ffn_count = e.ffn_count,
		.attention_of = e.attention_of,
		.ffn_of = e.ffn_of,
		.window = e.window,
		.attention_const = e.attention_const,
		.ffn_const = e.ffn_const,
		.has_attention = (e.flags & PITH_BLOCK_ATTENTION) != 0,
		.has_ffn = (e.flags & PITH_BLOCK_FFN) != 0,
	};
	return PITH_OK;
}

/* ---- lineage and canaries ---- */

size_t pith_file_lineage_count(const struct pith_file *file)
{
	return (size_t)file->tables.line.count;
}

pith_status pith_file_lineage_at(const struct pith_file *file, size_t i, struct pith_lineage *out,
                                 struct pith_error *err)
{
	const struct pith_table *t = &file->tables.line;
	struct pith_lineage_entry e;
	*out = (struct pith_lineage){ 0 };
	if (i >= t->count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "lineage entry number %zu of %llu", i,
		                 (unsigned long long)t->count);
	PITH_TRY(pith_lineage_entry_decode(pith_table_at(t, PITH_LINE_NBYTES, i),
	                                   pith_table_off(t, PITH_LINE_NBYTES, i),
	                                   file->tables.wght.count, file->tables.text.nbytes, &e,
	                                   err));
	PITH_TRY(pith_file_section_check(file, PITH_SECTION_TEXT, err));
	const char *text = (const char *)file->tables.text.data;
	out->kind = e.kind;
	out->weight = e.weight;
	out->key = e.key_nbytes != 0 ? text + e.key_off : "";
	out->value = e.value_nbytes != 0 ? text + e.value_off : "";
	out->key_nbytes = e.key_nbytes;
	out->value_nbytes = e.value_nbytes;
	memcpy(out->number, e.number, sizeof(out->number));
	memcpy(out->digest, e.digest, sizeof(out->digest));
	return PITH_OK;
}

pith_status pith_file_canary(const struct pith_file *file, size_t weight, struct pith_canary *out,
                             struct pith_error *err)
{
	const struct pith_table *t = &file->tables.cnry;
	uint64_t low = 0, high = t->count;
	*out = (struct pith_canary){ 0 };
	while (low < high) {
		struct pith_canary_entry e;
		uint64_t middle = low + (high - low) / 2;
		PITH_TRY(pith_canary_entry_decode(pith_table_at(t, PITH_CNRY_NBYTES, middle),
		                                  pith_table_off(t, PITH_CNRY_NBYTES, middle),
		                                  file->tables.wght.count, &e, err));
		if (e.weight == weight) {
			out->weight = e.weight;
			out->seed = e.seed;
			memcpy(out->first, e.first, sizeof(out->first));
			memcpy(out->last, e.last, sizeof(out->last));
			return PITH_OK;
		}
		if (e.weight < weight)
			low = middle + 1;
		else
			high = middle;
	}
	return pith_fail(err, PITH_E_NOT_FOUND, PITH_NO_OFF, NULL, "weight number %zu has no canary",
	                 weight);
}
