/*
 * A Hugging Face folder, written under a temporary name beside the target and renamed
 * when complete: model.safetensors and the texts that convert kept.
 *
 * A dense weight stored in its source's dtype is copied bit for bit; anything else is decoded to f32
 * and rounded to that dtype.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "export.h"

#include "format.h"
#include "read_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_ELEMENTS ((size_t)1 << 20)
#define TEXT_MAX_NBYTES ((size_t)64 << 20)

static const struct {
	uint32_t section;
	const char *name;
} text_files[] = {
    {PITH_SECTION_CONFIG, "config.json"},
    {PITH_SECTION_TOKENIZER_JSON, "tokenizer.json"},
    {PITH_SECTION_TOKENIZER_CONFIG, "tokenizer_config.json"},
    {PITH_SECTION_GENERATION_CONFIG, "generation_config.json"},
    {PITH_SECTION_LICENCE, "LICENSE"},
    {PITH_SECTION_CARD, "README.md"},
};
static const char weights_name[] = "model.safetensors";

struct export_tensor {
	char name[PITH_MAX_NAME_NBYTES + 1];
	struct pith_weight weight;
	uint32_t dtype; /* to write */
	uint64_t nbytes;
};

struct exporter {
	const struct pith_file *file;
	const struct export_options *options;
	struct export_result *result;
	char *folder; /* temporary, ends with '/' */
	size_t folder_nbytes;
	struct export_tensor *tensor; /* in the order written */
	size_t tensor_count;
	uint64_t total;
	FILE *out;
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to export");
}

static pith_status io_failed(const char *what, struct pith_error *err)
{
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%.120s: %s", what, strerror(errno));
}

/* ---- what to write ---- */

static pith_status list_tensor(struct exporter *x, size_t i, struct pith_error *err)
{
	struct export_tensor *t = &x->tensor[i];
	PITH_TRY(pith_file_weight_at(x->file, i, &t->weight, err));
	size_t name_nbytes = t->weight.name_nbytes;
	if (name_nbytes > PITH_MAX_NAME_NBYTES)
		name_nbytes = PITH_MAX_NAME_NBYTES;
	memcpy(t->name, t->weight.name, name_nbytes);
	t->name[name_nbytes] = '\0';
	t->dtype = t->weight.source_dtype;
	if (!safetensors_dtype_name(t->dtype))
		t->dtype = PITH_DTYPE_F32;
	size_t nbytes;
	if (!pith_mul_size(t->weight.m, t->weight.n, &nbytes) ||
	    !pith_mul_size(nbytes, pith_dtype_nbytes(t->dtype), &nbytes) ||
	    nbytes > INT64_MAX - x->total)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%.100s is too large", t->name);
	t->nbytes = nbytes;
	x->total += nbytes;
	return PITH_OK;
}

/* Wide dtypes first, so that all tensors stay aligned; then by name. */
static int compare_tensors(const void *a, const void *b)
{
	const struct export_tensor *x = a, *y = b;
	size_t i = pith_dtype_nbytes(x->dtype), k = pith_dtype_nbytes(y->dtype);
	return i != k ? (i > k ? -1 : 1) : strcmp(x->name, y->name);
}

static pith_status list_tensors(struct exporter *x, struct pith_error *err)
{
	struct pith_file_info info;
	pith_file_info(x->file, &info);
	size_t nbytes;
	if (!pith_mul_size((size_t)info.weight_count + 1, sizeof(*x->tensor), &nbytes))
		return no_memory(err);
	x->tensor = malloc(nbytes);
	if (!x->tensor)
		return no_memory(err);
	x->tensor_count = (size_t)info.weight_count;
	for (size_t i = 0; i < x->tensor_count; i++)
		PITH_TRY(list_tensor(x, i, err));
	qsort(x->tensor, x->tensor_count, sizeof(*x->tensor), compare_tensors);
	return PITH_OK;
}

static json_t *describe_tensor(const struct export_tensor *t, uint64_t off)
{
	json_t *shape = json_array();
	for (uint32_t i = 0; i < t->weight.rank; i++)
		json_array_append_new(shape, json_integer((json_int_t)t->weight.dim[i]));
	return json_pack("{s:s, s:o, s:[I,I]}", "dtype", safetensors_dtype_name(t->dtype), "shape",
	                 shape, "data_offsets", (json_int_t)off, (json_int_t)(off + t->nbytes));
}

/* The header as text, padded so that the tensors start at a multiple of 8. */
static pith_status make_header(const struct exporter *x, char **text, struct pith_error *err)
{
	json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	uint64_t off = 0;
	bool failed = !header;
	for (size_t i = 0; i < x->tensor_count && !failed; i++) {
		failed = json_object_set_new(header, x->tensor[i].name,
		                             describe_tensor(&x->tensor[i], off)) != 0;
		off += x->tensor[i].nbytes;
	}
	char *dump = failed ? NULL : json_dumps(header, JSON_COMPACT);
	json_decref(header);
	if (!dump)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "the safetensors header cannot be made");
	size_t nbytes = strlen(dump), padded = pith_round_up(nbytes, 8);
	*text = malloc(padded + 1);
	if (*text) {
		memcpy(*text, dump, nbytes);
		memset(*text + nbytes, ' ', padded - nbytes);
		(*text)[padded] = '\0';
	}
	free(dump);
	return *text ? PITH_OK : no_memory(err);
}

/* ---- files of the temporary folder ---- */

static const char *path_in_folder(struct exporter *x, const char *name)
{
	memcpy(x->folder + x->folder_nbytes, name, strlen(name) + 1);
	return x->folder;
}

static pith_status open_output(struct exporter *x, const char *name, struct pith_error *err)
{
	const char *path = path_in_folder(x, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	x->out = fd >= 0 ? fdopen(fd, "wb") : NULL;
	if (x->out) {
		if (x->options->temporary)
			x->options->temporary(x->options->ctx, path, true);
		return PITH_OK;
	}
	pith_status status = io_failed(path, err);
	if (fd >= 0)
		close(fd);
	return status;
}

static pith_status write_output(struct exporter *x, const void *data, size_t nbytes,
                                struct pith_error *err)
{
	if (nbytes > 0 && fwrite(data, 1, nbytes, x->out) != nbytes)
		return io_failed("cannot write", err);
	return PITH_OK;
}

/* Flush, sync and close; 'status' is what went before. */
static pith_status close_output(struct exporter *x, pith_status status, struct pith_error *err)
{
	if (status == PITH_OK && (fflush(x->out) != 0 || fsync(fileno(x->out)) != 0))
		status = io_failed("cannot write", err);
	if (fclose(x->out) != 0 && status == PITH_OK)
		status = io_failed("cannot write", err);
	x->out = NULL;
	return status;
}

static pith_status write_text(struct exporter *x, size_t i, struct pith_error *err)
{
	char *data;
	size_t nbytes;
	struct pith_error why;
	pith_status status =
	    pith_file_section_read(x->file, text_files[i].section, TEXT_MAX_NBYTES, &data, &nbytes,
	                           &why);
	if (status == PITH_E_NOT_FOUND && text_files[i].section != PITH_SECTION_CONFIG)
		return PITH_OK;
	if (status == PITH_E_NOT_FOUND)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "the file holds no config.json: it was not made from a checkpoint");
	if (status != PITH_OK) {
		if (err)
			*err = why;
		return status;
	}
	status = open_output(x, text_files[i].name, err);
	if (status == PITH_OK)
		status = close_output(x, write_output(x, data, nbytes, err), err);
	free(data);
	return status;
}

/* ---- tensors ---- */

static void report(const struct exporter *x, const struct export_tensor *t)
{
	if (x->options->progress)
		x->options->progress(x->options->ctx, x->result->nbytes, x->total, t->name);
}

static pith_status write_piece(struct exporter *x, const struct export_tensor *t, const void *data,
                               size_t nbytes, struct pith_error *err)
{
	PITH_TRY(write_output(x, data, nbytes, err));
	x->result->nbytes += nbytes;
	report(x, t);
	return PITH_OK;
}

static pith_status write_exact(struct exporter *x, const struct export_tensor *t,
                               const uint8_t *data, struct pith_error *err)
{
	x->result->exact_count++;
	for (uint64_t off = 0; off < t->nbytes;) {
		uint64_t left = t->nbytes - off;
		size_t take = left < PIECE_ELEMENTS ? (size_t)left : PIECE_ELEMENTS;
		PITH_TRY(write_piece(x, t, data + off, take, err));
		off += take;
	}
	return PITH_OK;
}

/* Values in place as 'dtype'; what does not fit f16 becomes its largest value. */
static void narrow_in_place(float *values, size_t count, uint32_t dtype)
{
	uint8_t *out = (uint8_t *)values;
	for (size_t i = 0; i < count; i++) {
		float v = values[i];
		if (dtype == PITH_DTYPE_F32) {
			store_f32(out + 4 * i, v);
		} else if (dtype == PITH_DTYPE_BF16) {
			store_le16(out + 2 * i, bf16_of_f32(v));
		} else {
			v = v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
			store_le16(out + 2 * i, f16_of_f32(v));
		}
	}
}

static pith_status write_rows(struct exporter *x, const struct export_tensor *t, size_t step,
                              float *rows, float *scratch, struct pith_error *err)
{
	const struct pith_weight *w = &t->weight;
	for (size_t row = 0; row < w->m; row += step) {
		size_t count = w->m - row < step ? w->m - row : step;
		PITH_TRY(pith_weight_unpack_rows(w, row, count, rows, scratch, err));
		narrow_in_place(rows, count * w->n, t->dtype);
		PITH_TRY(write_piece(x, t, rows, count * w->n * pith_dtype_nbytes(t->dtype), err));
	}
	return PITH_OK;
}

static pith_status write_decoded(struct exporter *x, const struct export_tensor *t,
                                 struct pith_error *err)
{
	size_t step = PIECE_ELEMENTS / t->weight.n + 1, nbytes;
	step = step < t->weight.m ? step : t->weight.m;
	if (!pith_mul_size(step, t->weight.n, &nbytes) || !pith_mul_size(nbytes, 4, &nbytes))
		return no_memory(err);
	float *rows = malloc(nbytes), *scratch = malloc(t->weight.n * sizeof(*scratch));
	pith_status status =
	    rows && scratch ? write_rows(x, t, step, rows, scratch, err) : no_memory(err);
	free(rows);
	free(scratch);
	return status;
}

static pith_status write_tensor(struct exporter *x, const struct export_tensor *t,
                                struct pith_error *err)
{
	report(x, t);
	if (!x->options->no_verify)
		PITH_TRY(pith_weight_verify(&t->weight, err));
	const void *data;
	uint32_t dtype;
	struct pith_error ignored;
	pith_status status = pith_weight_dense(&t->weight, &data, &dtype, &ignored);
	if (status == PITH_OK && dtype == t->dtype)
		return write_exact(x, t, data, err);
	if (status != PITH_OK)
		x->result->decoded_count++;
	return write_decoded(x, t, err);
}

static pith_status write_weights(struct exporter *x, struct pith_error *err)
{
	char *header = NULL;
	PITH_TRY(make_header(x, &header, err));
	uint8_t length[8];
	store_le64(length, strlen(header));
	pith_status status = write_output(x, length, sizeof(length), err);
	if (status == PITH_OK)
		status = write_output(x, header, strlen(header), err);
	free(header);
	PITH_TRY(status);
	for (size_t i = 0; i < x->tensor_count; i++)
		PITH_TRY(write_tensor(x, &x->tensor[i], err));
	x->result->weight_count = x->tensor_count;
	return PITH_OK;
}

/* ---- the folder ---- */

static pith_status write_folder(struct exporter *x, struct pith_error *err)
{
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(text_files); i++)
		PITH_TRY(write_text(x, i, err));
	PITH_TRY(list_tensors(x, err));
	PITH_TRY(open_output(x, weights_name, err));
	return close_output(x, write_weights(x, err), err);
}

/* The files are no longer temporary; 'remove_them': nor shall they stay. */
static void settle_files(struct exporter *x, bool remove_them)
{
	for (size_t i = 0; i <= PITH_ARRAY_LENGTH(text_files); i++) {
		const char *path = path_in_folder(
		    x, i < PITH_ARRAY_LENGTH(text_files) ? text_files[i].name : weights_name);
		if (remove_them)
			unlink(path);
		if (x->options->temporary)
			x->options->temporary(x->options->ctx, path, false);
	}
	x->folder[x->folder_nbytes] = '\0';
	if (remove_them)
		rmdir(x->folder);
}

static pith_status sync_folder(const char *path, struct pith_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return io_failed(path, err);
	pith_status status = PITH_OK;
	/* some file systems cannot sync a folder: EINVAL is not a failure */
	if (fsync(fd) != 0 && errno != EINVAL)
		status = io_failed(path, err);
	close(fd);
	return status;
}

static pith_status fill_and_rename(struct exporter *x, const char *target, struct pith_error *err)
{
	pith_status status = write_folder(x, err);
	x->folder[x->folder_nbytes] = '\0';
	if (status == PITH_OK)
		status = sync_folder(x->folder, err);
	/* onto an empty folder at most: rename() refuses anything else */
	if (status == PITH_OK && rename(x->folder, target) != 0)
		status = io_failed(target, err);
	settle_files(x, status != PITH_OK);
	return status;
}

pith_status export_safetensors(const struct pith_file *file, const char *target,
                               const struct export_options *options, struct export_result *out,
                               struct pith_error *err)
{
	struct exporter x = {.file = file, .options = options, .result = out};
	size_t target_nbytes = strlen(target);
	while (target_nbytes > 1 && target[target_nbytes - 1] == '/')
		target_nbytes--;
	x.folder = malloc(target_nbytes + 64);
	if (!x.folder)
		return no_memory(err);
	x.folder_nbytes = (size_t)snprintf(x.folder, target_nbytes + 32, "%.*s.tmp.%ld/",
	                                   (int)target_nbytes, target, (long)getpid());
	pith_status status = PITH_OK;
	struct stat st;
	if (lstat(target, &st) == 0)
		status = pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL,
		                   "%.120s exists; name a folder that does not", target);
	else if (mkdir(x.folder, 0777) != 0)
		status = io_failed(x.folder, err);
	else
		status = fill_and_rename(&x, target, err);
	free(x.tensor);
	free(x.folder);
	return status;
}
