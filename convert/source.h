/*
 * A checkpoint to convert: its tensors by name, its config and the texts beside it.
 *
 * Nouns: a *source* is an opened checkpoint; a *source file* one file of it; a
 * *source tensor* a named run of bytes in one of the files.  Tensors are read with pread, a
 * piece at a time: nothing is mapped, so a file that shrinks meanwhile is an error and not a signal,
 * and memory is what the caller gives.
 *
 * Containers are rows of source_containers[] in source.c; read_<container>.c fills a source.
 * Everything borrowed lives until source_close().  A source may be read by several threads at once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_SOURCE_H
#define PITH_CONVERT_SOURCE_H

#include "json.h"

#define SOURCE_MAX_RANK 8u
#define SOURCE_MAX_FILES 512u /* open at once */

struct source_file {
	char *name; /* inside the folder */
	int fd;
	uint64_t nbytes;
};

struct source_tensor {
	char *name;
	uint32_t dtype;      /* enum pith_dtype; 0: one that is not supported, named below */
	char dtype_name[16]; /* as the source spells it */
	uint32_t rank;
	uint64_t dim[SOURCE_MAX_RANK];
	uint64_t off, nbytes; /* in its file */
	size_t file;
};

/* A text beside the tensors; data NULL when there is none. */
struct source_text {
	char *data; /* NUL behind the last byte */
	size_t nbytes;
};

enum source_text_id {
	SOURCE_CONFIG,
	SOURCE_TOKENIZER,
	SOURCE_TOKENIZER_CONFIG,
	SOURCE_GENERATION_CONFIG,
	SOURCE_LICENCE,
	SOURCE_CARD,
	SOURCE_TEXT_COUNT
};

struct source {
	const char *container; /* "safetensors" */
	char *folder;          /* with the slash at its end, or "" */
	struct source_file *file;
	size_t file_count;
	struct source_tensor *tensor; /* sorted by name, unique */
	size_t tensor_count;
	struct source_text text[SOURCE_TEXT_COUNT];
	json_t *config; /* parsed config.json */
};

/*
 * Open a checkpoint: a folder in the form of Hugging Face, or one file of tensors whose
 * config.json lies beside it.  PITH_E_UNSUPPORTED (what was found and what is supported are
 * named), PITH_E_CORRUPT, PITH_E_LIMIT, PITH_E_IO, PITH_E_MEMORY.
 */
pith_status source_open(const char *path, struct source **out, struct pith_error *err);
void source_close(struct source *src); /* accepts NULL */

/* NULL when there is none. */
const struct source_tensor *source_find(const struct source *src, const char *name);

/* Read bytes [off, off + nbytes) of a tensor; the caller keeps inside it. */
pith_status source_read(const struct source *src, const struct source_tensor *t, uint64_t off,
                        void *out, size_t nbytes, struct pith_error *err);

/* Elements first .. first+count-1 as f32, exactly; all finite, else PITH_E_CORRUPT.  out: [count]. */
pith_status source_read_f32(const struct source *src, const struct source_tensor *t, uint64_t first,
                            size_t count, float *out, struct pith_error *err);

/* ---- for readers of containers ---- */

/* A file of the source's folder, opened; its index goes to *index. */
pith_status source_add_file(struct source *src, const char *name, size_t *index,
                            struct pith_error *err);
/* Room for 'more' tensors behind tensor[tensor_count]. */
pith_status source_reserve(struct source *src, size_t more, struct pith_error *err);

#endif
