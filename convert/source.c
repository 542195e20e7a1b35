/*
 * Opening checkpoints: which container is it, which texts lie beside it, and reading
 * pieces of tensors.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "source.h"

#include "bytes.h"
#include "format.h"
#include "read_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX_NBYTES ((size_t)64 << 20)
#define HEAD_NBYTES 16u

/* ---- the table of containers: first match wins ---- */

struct source_container {
	const char *name;
	const char *file; /* its presence in a folder is the mark; NULL: only as a single file */
	/* Is a single file of this container, by its first bytes (zero beyond its end)? */
	bool (*is_file)(const char *path, const uint8_t head[HEAD_NBYTES]);
	/* NULL: recognized, not supported. */
	pith_status (*read)(struct source *src, const char *name, struct pith_error *err);
};

static bool has_suffix(const char *path, const char *suffix)
{
	size_t n = strlen(path), k = strlen(suffix);
	return n >= k && strcmp(path + n - k, suffix) == 0;
}

static bool is_safetensors(const char *path, const uint8_t head[HEAD_NBYTES])
{
	return has_suffix(path, ".safetensors") || (load_le64(head) < JDOC_MAX_NBYTES && head[8] == '{');
}

static bool is_index(const char *path, const uint8_t head[HEAD_NBYTES])
{
	(void)head;
	return has_suffix(path, ".safetensors.index.json");
}

static bool is_gguf(const char *path, const uint8_t head[HEAD_NBYTES])
{
	(void)path;
	return memcmp(head, "GGUF", 4) == 0;
}

static bool is_torch(const char *path, const uint8_t head[HEAD_NBYTES])
{
	return memcmp(head, "PK\3\4", 4) == 0 || has_suffix(path, ".bin") || has_suffix(path, ".pt") ||
	       has_suffix(path, ".pth");
}

static bool is_pith(const char *path, const uint8_t head[HEAD_NBYTES])
{
	(void)path;
	return memcmp(head, pith_magic, 8) == 0;
}

static const struct source_container source_containers[] = {
    {"Pith file (already converted)", NULL, is_pith, NULL},
    {"GGUF file", NULL, is_gguf, NULL},
    {"sharded safetensors", "model.safetensors.index.json", is_index, read_safetensors_index},
    {"safetensors", "model.safetensors", is_safetensors, read_safetensors_file},
    {"PyTorch checkpoint", "pytorch_model.bin", is_torch, NULL},
    {"sharded PyTorch checkpoint", "pytorch_model.bin.index.json", NULL, NULL},
};

static const char supported_text[] =
    "supported: a folder with config.json and model.safetensors (or its index of shards), or one "
    ".safetensors file beside its config.json";

static const char *const text_names[SOURCE_TEXT_COUNT][3] = {
    [SOURCE_CONFIG] = {"config.json"},
    [SOURCE_TOKENIZER] = {"tokenizer.json"},
    [SOURCE_TOKENIZER_CONFIG] = {"tokenizer_config.json"},
    [SOURCE_GENERATION_CONFIG] = {"generation_config.json"},
    [SOURCE_LICENCE] = {"LICENSE", "LICENSE.txt", "LICENSE.md"},
    [SOURCE_CARD] = {"README.md"},
};

/* ---- paths and texts ---- */

static char *join_path(const char *folder, const char *name)
{
	size_t n = strlen(folder), k = strlen(name);
	char *path = malloc(n + k + 1);
	if (path) {
		memcpy(path, folder, n);
		memcpy(path + n, name, k + 1);
	}
	return path;
}

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to open the source");
}

static pith_status read_text(struct source *src, enum source_text_id id, struct pith_error *err)
{
	struct source_text *text = &src->text[id];
	for (size_t i = 0; i < 3 && text_names[id][i] && !text->data; i++) {
		char *path = join_path(src->folder, text_names[id][i]);
		if (!path)
			return no_memory(err);
		struct pith_error ignored;
		pith_status status = text_file_read(path, TEXT_MAX_NBYTES, &text->data, &text->nbytes,
		                                    &ignored);
		free(path);
		if (status != PITH_OK && status != PITH_E_NOT_FOUND) {
			if (err)
				*err = ignored;
			return status;
		}
	}
	return PITH_OK;
}

static pith_status read_texts(struct source *src, struct pith_error *err)
{
	for (unsigned id = 0; id < SOURCE_TEXT_COUNT; id++)
		PITH_TRY(read_text(src, (enum source_text_id)id, err));
	const struct source_text *config = &src->text[SOURCE_CONFIG];
	if (!config->data)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "there is no config.json; %s", supported_text);
	return jdoc_parse(config->data, config->nbytes, "config.json", &src->config, err);
}

/* ---- files and tensors ---- */

pith_status source_add_file(struct source *src, const char *name, size_t *index,
                            struct pith_error *err)
{
	struct source_file *files = realloc(src->file, (src->file_count + 1) * sizeof(*files));
	if (!files)
		return no_memory(err);
	src->file = files;
	struct source_file *f = &files[src->file_count];
	memset(f, 0, sizeof(*f));
	f->name = join_path("", name);
	char *path = join_path(src->folder, name);
	if (!f->name || !path) {
		free(f->name);
		free(path);
		return no_memory(err);
	}
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int why = errno;
	free(path);
	if (f->fd < 0) {
		free(f->name);
		return pith_fail(err, why == ENOENT ? PITH_E_NOT_FOUND : PITH_E_IO, PITH_NO_OFF, NULL,
		                 "%.100s: %s", name, strerror(why));
	}
	*index = src->file_count++;
	struct stat st;
	if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%.100s is not a regular file", name);
	f->nbytes = (uint64_t)st.st_size;
	return PITH_OK;
}

pith_status source_reserve(struct source *src, size_t more, struct pith_error *err)
{
	/* headers bound 'more' by JDOC_MAX_VALUES and the files by SOURCE_MAX_FILES */
	size_t count = src->tensor_count + more + 1;
	struct source_tensor *tensors = realloc(src->tensor, count * sizeof(*tensors));
	if (!tensors)
		return no_memory(err);
	src->tensor = tensors;
	return PITH_OK;
}

static int compare_names(const void *a, const void *b)
{
	const struct source_tensor *x = a, *y = b;
	return strcmp(x->name, y->name);
}

const struct source_tensor *source_find(const struct source *src, const char *name)
{
	size_t low = 0, high = src->tensor_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(src->tensor[mid].name, name);
		if (order == 0)
			return &src->tensor[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* ---- opening ---- */

static pith_status use_container(struct source *src, const struct source_container *c,
                                 const char *name, struct pith_error *err)
{
	if (!c->read)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "this is a %s; %s", c->name,
		                 supported_text);
	src->container = c->name;
	return c->read(src, name, err);
}

static pith_status open_folder(struct source *src, struct pith_error *err)
{
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(source_containers); i++) {
		const struct source_container *c = &source_containers[i];
		if (!c->file)
			continue;
		char *path = join_path(src->folder, c->file);
		if (!path)
			return no_memory(err);
		bool exists = access(path, F_OK) == 0;
		free(path);
		if (exists)
			return use_container(src, c, c->file, err);
	}
	return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
	                 "the folder holds no checkpoint; %s", supported_text);
}

static pith_status open_single(struct source *src, const char *path, const char *name,
                               struct pith_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	uint8_t head[HEAD_NBYTES] = {0};
	ssize_t got = pread(fd, head, sizeof(head), 0);
	close(fd);
	if (got < 0)
		return pith_fail(err, PITH_E_IO, 0, NULL, "%s", strerror(errno));
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(source_containers); i++) {
		const struct source_container *c = &source_containers[i];
		if (c->is_file && c->is_file(path, head))
			return use_container(src, c, name, err);
	}
	return pith_fail(err, PITH_E_UNSUPPORTED, 0, NULL,
	                 "not a checkpoint: the first bytes are %02x %02x %02x %02x; %s", head[0],
	                 head[1], head[2], head[3], supported_text);
}

static pith_status open_source(struct source *src, const char *path, struct pith_error *err)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	size_t nbytes = strlen(path);
	src->folder = malloc(nbytes + 2);
	if (!src->folder)
		return no_memory(err);
	memcpy(src->folder, path, nbytes + 1);
	if (S_ISDIR(st.st_mode)) {
		if (nbytes > 0 && path[nbytes - 1] != '/')
			memcpy(src->folder + nbytes, "/", 2);
		PITH_TRY(open_folder(src, err));
	} else {
		const char *slash = strrchr(path, '/');
		const char *name = slash ? slash + 1 : path;
		src->folder[name - path] = '\0';
		PITH_TRY(open_single(src, path, name, err));
	}
	PITH_TRY(read_texts(src, err));
	qsort(src->tensor, src->tensor_count, sizeof(*src->tensor), compare_names);
	return PITH_OK;
}

pith_status source_open(const char *path, struct source **out, struct pith_error *err)
{
	*out = NULL;
	struct source *src = calloc(1, sizeof(*src));
	if (!src)
		return no_memory(err);
	pith_status status = open_source(src, path, err);
	if (status != PITH_OK) {
		source_close(src);
		return status;
	}
	*out = src;
	return PITH_OK;
}

void source_close(struct source *src)
{
	if (!src)
		return;
	for (size_t i = 0; i < src->file_count; i++) {
		close(src->file[i].fd);
		free(src->file[i].name);
	}
	for (size_t i = 0; i < src->tensor_count; i++)
		free(src->tensor[i].name);
	for (size_t i = 0; i < SOURCE_TEXT_COUNT; i++)
		free(src->text[i].data);
	json_decref(src->config);
	free(src->file);
	free(src->tensor);
	free(src->folder);
	free(src);
}

/* ---- reading ---- */

pith_status source_read(const struct source *src, const struct source_tensor *t, uint64_t off,
                        void *out, size_t nbytes, struct pith_error *err)
{
	const struct source_file *f = &src->file[t->file];
	uint8_t *p = out;
	for (size_t done = 0; done < nbytes;) {
		ssize_t got = pread(f->fd, p + done, nbytes - done, (off_t)(t->off + off + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return pith_fail(err, PITH_E_IO, t->off + off + done, NULL, "%.100s: %s", f->name,
			                 got < 0 ? strerror(errno) : "the file got shorter");
		done += (size_t)got;
	}
	return PITH_OK;
}

/*
 * Raw values lie in the upper part of out and are widened from the front: value i is stored at
 * 4 i, at or below where value i + 1 still waits.
 */
static void widen_in_place(float *out, size_t count, uint32_t dtype)
{
	const uint8_t *raw = (const uint8_t *)out + (size_t)4 * count - pith_dtype_nbytes(dtype) * count;
	for (size_t i = 0; i < count; i++) {
		if (dtype == PITH_DTYPE_BF16)
			out[i] = f32_of_bf16(load_le16(raw + 2 * i));
		else if (dtype == PITH_DTYPE_F16)
			out[i] = f32_of_f16(load_le16(raw + 2 * i));
		else
			out[i] = load_f32(raw + 4 * i);
	}
}

pith_status source_read_f32(const struct source *src, const struct source_tensor *t, uint64_t first,
                            size_t count, float *out, struct pith_error *err)
{
	size_t value_nbytes = pith_dtype_nbytes(t->dtype);
	if (value_nbytes != 2 && value_nbytes != 4)
		return pith_fail(err, PITH_E_UNSUPPORTED, t->off, NULL,
		                 "tensor %.100s has dtype %s; supported: BF16, F16, F32", t->name,
		                 t->dtype_name);
	uint8_t *raw = (uint8_t *)out + (4 - value_nbytes) * count;
	PITH_TRY(source_read(src, t, first * value_nbytes, raw, value_nbytes * count, err));
	widen_in_place(out, count, t->dtype);
	for (size_t i = 0; i < count; i++)
		if (!isfinite(out[i]))
			return pith_fail(err, PITH_E_CORRUPT, t->off + (first + i) * value_nbytes, NULL,
			                 "tensor %.100s: value %llu is %s", t->name,
			                 (unsigned long long)(first + i), isnan(out[i]) ? "NaN" : "infinite");
	return PITH_OK;
}
