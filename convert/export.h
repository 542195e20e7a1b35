/*
 * From a .pith file back to a checkpoint of another program.
 *
 * Containers are rows of export_containers[] in export.c, one export_<container>.c each.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_EXPORT_H
#define PITH_CONVERT_EXPORT_H

#include "pith.h"

struct export_options {
	bool no_verify; /* trust the planes' checksums */
	/* May be NULL.  Bytes of tensors written of bytes to write, and the tensor at hand. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *tensor);
	/* A file that exists only until the export is complete; gone again: false. */
	void (*temporary)(void *ctx, const char *path, bool exists);
	void *ctx;
};

struct export_result {
	uint64_t weight_count, nbytes; /* bytes of tensors */
	uint64_t exact_count;          /* bit for bit as stored */
	uint64_t decoded_count;        /* quantized, written as floats of the source's dtype */
};

struct export_container {
	const char *name;
	/* NULL: planned.  'target' does not exist; it appears when all is written. */
	pith_status (*run)(const struct pith_file *file, const char *target,
	                   const struct export_options *options, struct export_result *out,
	                   struct pith_error *err);
};

extern const struct export_container export_containers[]; /* ended by name NULL */

/* PITH_E_ARGUMENT for a container that is not in the table, PITH_E_UNSUPPORTED for a planned one. */
pith_status export_model(const struct pith_file *file, const char *container, const char *target,
                         const struct export_options *options, struct export_result *out,
                         struct pith_error *err);

/* A Hugging Face folder: model.safetensors and the texts the file was made from. */
pith_status export_safetensors(const struct pith_file *file, const char *target,
                               const struct export_options *options, struct export_result *out,
                               struct pith_error *err);

#endif
