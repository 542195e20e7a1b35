/*
 * The safetensors container: 8 bytes of header length, a JSON header, tensors.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_READ_SAFETENSORS_H
#define PITH_CONVERT_READ_SAFETENSORS_H

#include "source.h"

/* One file: all its tensors. */
pith_status read_safetensors_file(struct source *src, const char *name, struct pith_error *err);
/* Shards named by the weight_map of an index file: the tensors it names. */
pith_status read_safetensors_index(struct source *src, const char *name, struct pith_error *err);

/* A dtype as safetensors spells it, or NULL. */
const char *safetensors_dtype_name(uint32_t dtype);

#endif
