/*
 * Reading safetensors headers: every size and offset is proved here, against the
 * real size of the file, so that source_read() can trust a tensor.
 *
 * Assumes nothing of the header but its length field; the tensors must tile the rest of the file
 * without holes and overlaps, as the format asks.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "read_safetensors.h"

#include "bytes.h"
#include "format.h"

#include <stdio.h>
#include <stdlib.h>

/* Sizes also of what Pith cannot convert, so that any file can be proved sound. */
static const struct {
	const char *name;
	uint32_t dtype, nbytes;
} safetensors_dtypes[] = {
    {"BF16", PITH_DTYPE_BF16, 2}, {"F16", PITH_DTYPE_F16, 2}, {"F32", PITH_DTYPE_F32, 4},
    {"F64", 0, 8},     {"I64", 0, 8}, {"U64", 0, 8}, {"I32", 0, 4},     {"U32", 0, 4},
    {"I16", 0, 2},     {"U16", 0, 2}, {"I8", 0, 1},  {"U8", 0, 1},      {"BOOL", 0, 1},
    {"F8_E4M3", 0, 1}, {"F8_E5M2", 0, 1}, {"C64", 0, 8},
};

const char *safetensors_dtype_name(uint32_t dtype)
{
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(safetensors_dtypes); i++)
		if (dtype != 0 && safetensors_dtypes[i].dtype == dtype)
			return safetensors_dtypes[i].name;
	return NULL;
}

/* Dtype and shape; *nbytes is their product, or UINT64_MAX for a dtype of unknown size. */
static pith_status read_type(const json_t *entry, struct source_tensor *t, uint64_t *nbytes,
                             struct pith_error *err)
{
	const char *dtype = json_string_value(json_object_get(entry, "dtype"));
	const json_t *shape = json_object_get(entry, "shape");
	if (!dtype || !json_is_array(shape))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "tensor %.100s has no dtype or no shape", t->name);
	snprintf(t->dtype_name, sizeof(t->dtype_name), "%.15s", dtype);
	if (json_array_size(shape) > SOURCE_MAX_RANK)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "tensor %.100s has %zu dimensions, more than %u", t->name,
		                 json_array_size(shape), SOURCE_MAX_RANK);
	t->rank = (uint32_t)json_array_size(shape);
	size_t count = 1;
	for (uint32_t i = 0; i < t->rank; i++) {
		const json_t *dim = json_array_get(shape, i);
		if (!json_is_integer(dim) || json_integer_value(dim) < 0 ||
		    !pith_mul_size(count, (size_t)json_integer_value(dim), &count))
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
			                 "tensor %.100s has an absurd shape", t->name);
		t->dim[i] = (uint64_t)json_integer_value(dim);
	}
	*nbytes = UINT64_MAX;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(safetensors_dtypes); i++) {
		if (strcmp(dtype, safetensors_dtypes[i].name) != 0)
			continue;
		size_t product;
		if (!pith_mul_size(count, safetensors_dtypes[i].nbytes, &product))
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
			                 "tensor %.100s has an absurd shape", t->name);
		t->dtype = safetensors_dtypes[i].dtype;
		*nbytes = product;
	}
	return PITH_OK;
}

static pith_status read_extent(const json_t *entry, uint64_t data_nbytes, struct source_tensor *t,
                               struct pith_error *err)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
	if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "tensor %.100s has no pair of data_offsets", t->name);
	json_int_t b = json_integer_value(begin), e = json_integer_value(end);
	if (b < 0 || e < b || (uint64_t)e > data_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "tensor %.80s lies at %lld..%lld of %llu bytes: the file is damaged or "
		                 "cut short", t->name, (long long)b, (long long)e,
		                 (unsigned long long)data_nbytes);
	t->off = (uint64_t)b;
	t->nbytes = (uint64_t)(e - b);
	return PITH_OK;
}

static pith_status read_entry(const char *name, const json_t *entry, uint64_t data_nbytes,
                              struct source_tensor *t, struct pith_error *err)
{
	memset(t, 0, sizeof(*t));
	t->name = malloc(strlen(name) + 1);
	if (!t->name)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for names");
	memcpy(t->name, name, strlen(name) + 1);
	uint64_t nbytes = 0;
	PITH_TRY(read_type(entry, t, &nbytes, err));
	PITH_TRY(read_extent(entry, data_nbytes, t, err));
	if (nbytes != UINT64_MAX && nbytes != t->nbytes)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "tensor %.80s has %llu bytes, its shape and dtype ask for %llu", t->name,
		                 (unsigned long long)t->nbytes, (unsigned long long)nbytes);
	return PITH_OK;
}

static int compare_offsets(const void *a, const void *b)
{
	const struct source_tensor *const *x = a, *const *y = b;
	if ((*x)->off != (*y)->off)
		return (*x)->off < (*y)->off ? -1 : 1;
	return (*x)->nbytes < (*y)->nbytes ? -1 : (*x)->nbytes > (*y)->nbytes;
}

/* The tensors tile [0, data_nbytes). */
static pith_status check_tiling(const struct source_tensor *tensors, size_t count,
                                uint64_t data_nbytes, struct pith_error *err)
{
	const struct source_tensor **order = malloc((count + 1) * sizeof(*order));
	if (!order)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for tensors");
	for (size_t i = 0; i < count; i++)
		order[i] = &tensors[i];
	qsort(order, count, sizeof(*order), compare_offsets);
	uint64_t end = 0;
	pith_status status = PITH_OK;
	for (size_t i = 0; i < count && status == PITH_OK; i++) {
		if (order[i]->off != end)
			status = pith_fail(err, PITH_E_CORRUPT, order[i]->off, NULL,
			                   "tensor %.100s %s", order[i]->name,
			                   order[i]->off < end ? "overlaps the one before it"
			                                       : "leaves a hole before it");
		end = order[i]->off + order[i]->nbytes;
	}
	if (status == PITH_OK && end != data_nbytes)
		status = pith_fail(err, PITH_E_CORRUPT, end, NULL,
		                   "%llu bytes behind the last tensor belong to none",
		                   (unsigned long long)(data_nbytes - end));
	free(order);
	return status;
}

/* All tensors of a parsed header, appended to the source. */
static pith_status take_tensors(struct source *src, size_t file, json_t *header, uint64_t data_off,
                                struct pith_error *err)
{
	uint64_t data_nbytes = src->file[file].nbytes - data_off;
	PITH_TRY(source_reserve(src, json_object_size(header), err));
	struct source_tensor *first = src->tensor + src->tensor_count;
	size_t count = 0;
	const char *name;
	json_t *entry;
	json_object_foreach(header, name, entry) {
		if (strcmp(name, "__metadata__") == 0)
			continue;
		src->tensor_count++; /* before the check, so that source_close() frees the name */
		PITH_TRY(read_entry(name, entry, data_nbytes, &first[count], err));
		first[count].file = file;
		count++;
	}
	PITH_TRY(check_tiling(first, count, data_nbytes, err));
	for (size_t i = 0; i < count; i++)
		first[i].off += data_off;
	return PITH_OK;
}

static pith_status read_header(struct source *src, size_t file, json_t **header, uint64_t *data_off,
                               struct pith_error *err)
{
	const struct source_file *f = &src->file[file];
	struct source_tensor at = {.name = f->name, .nbytes = f->nbytes, .file = file};
	uint8_t length[8];
	if (f->nbytes < 10)
		return pith_fail(err, PITH_E_CORRUPT, 0, NULL,
		                 "%.100s is too short for a safetensors file", f->name);
	PITH_TRY(source_read(src, &at, 0, length, 8, err));
	uint64_t nbytes = load_le64(length);
	if (nbytes > f->nbytes - 8)
		return pith_fail(err, PITH_E_CORRUPT, 0, NULL,
		                 "%.80s: the header's length %llu does not fit the file: not "
		                 "safetensors, damaged, or cut short", f->name, (unsigned long long)nbytes);
	if (nbytes > JDOC_MAX_NBYTES)
		return pith_fail(err, PITH_E_LIMIT, 0, NULL, "%.80s: a header of %llu bytes", f->name,
		                 (unsigned long long)nbytes);
	char *text = malloc((size_t)nbytes + 1);
	if (!text)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a header");
	pith_status status = source_read(src, &at, 8, text, (size_t)nbytes, err);
	if (status == PITH_OK)
		status = jdoc_parse(text, (size_t)nbytes, "the safetensors header", header, err);
	free(text);
	*data_off = 8 + nbytes;
	return status;
}

pith_status read_safetensors_file(struct source *src, const char *name, struct pith_error *err)
{
	size_t file;
	json_t *header = NULL;
	uint64_t data_off = 0;
	PITH_TRY(source_add_file(src, name, &file, err));
	PITH_TRY(read_header(src, file, &header, &data_off, err));
	pith_status status = take_tensors(src, file, header, data_off, err);
	json_decref(header);
	return status;
}

/* A shard is a plain name: nothing that could leave the folder. */
static bool is_plain_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && strlen(name) < 256 && !strchr(name, '/') &&
	       !strchr(name, '\\');
}

/* The shards' names, each once, in order of first mention; borrowed from the map. */
static pith_status list_shards(json_t *map, json_t *seen, struct pith_error *err)
{
	const char *tensor;
	json_t *value;
	json_object_foreach(map, tensor, value) {
		const char *shard = json_string_value(value);
		if (!shard || !is_plain_name(shard))
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
			                 "weight_map: the file of %.80s is not a name inside the folder",
			                 tensor);
		if (!json_object_get(seen, shard) && json_object_set_new(seen, shard, json_true()) != 0)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for shards");
	}
	if (json_object_size(seen) > SOURCE_MAX_FILES)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%zu shards, more than %u",
		                 json_object_size(seen), SOURCE_MAX_FILES);
	return PITH_OK;
}

/* Drop tensors whose shard is not the one the map names for them; then none may be missing. */
static pith_status apply_map(struct source *src, const json_t *map, struct pith_error *err)
{
	size_t kept = 0;
	for (size_t i = 0; i < src->tensor_count; i++) {
		struct source_tensor t = src->tensor[i];
		const char *shard = json_string_value(json_object_get(map, t.name));
		if (shard && strcmp(shard, src->file[t.file].name) == 0)
			src->tensor[kept++] = t;
		else
			free(t.name);
	}
	src->tensor_count = kept;
	if (kept == json_object_size(map))
		return PITH_OK;
	return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
	                 "weight_map names %zu tensors, the shards have %zu of them",
	                 json_object_size(map), kept);
}

static pith_status read_shards(struct source *src, json_t *index, json_t *seen,
                               struct pith_error *err)
{
	json_t *map = json_object_get(index, "weight_map");
	if (!json_is_object(map) || !seen)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "the index has no weight_map");
	PITH_TRY(list_shards(map, seen, err));
	const char *shard;
	json_t *ignored;
	json_object_foreach(seen, shard, ignored) {
		pith_status status = read_safetensors_file(src, shard, err);
		if (status == PITH_E_NOT_FOUND)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
			                 "the shard %.100s is missing", shard);
		PITH_TRY(status);
	}
	return apply_map(src, map, err);
}

pith_status read_safetensors_index(struct source *src, const char *name, struct pith_error *err)
{
	size_t folder_nbytes = strlen(src->folder), name_nbytes = strlen(name), nbytes;
	char *path = malloc(folder_nbytes + name_nbytes + 1), *text;
	if (!path)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a path");
	memcpy(path, src->folder, folder_nbytes);
	memcpy(path + folder_nbytes, name, name_nbytes + 1);
	pith_status status = text_file_read(path, JDOC_MAX_NBYTES, &text, &nbytes, err);
	free(path);
	PITH_TRY(status);
	json_t *index = NULL, *seen = json_object();
	status = jdoc_parse(text, nbytes, name, &index, err);
	free(text);
	if (status == PITH_OK)
		status = read_shards(src, index, seen, err);
	json_decref(index);
	json_decref(seen);
	return status;
}
