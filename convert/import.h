/*
 * Families of models: from a checkpoint's config to Pith's architecture keys, blocks
 * and the tensors it must hold.
 *
 * Families are rows of import_families[] in import.c, one import_<family>.c each.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_IMPORT_H
#define PITH_CONVERT_IMPORT_H

#include "source.h"
#include "format.h"

#define IMPORT_MAX_KEYS 32u
#define IMPORT_MAX_BLOCKS 4096u

struct import_key { /* an entry of ARCH */
	const char *key;
	uint32_t type, flags;
	uint64_t u64;
	double f64;
	const char *string; /* borrowed from the config or static */
};

struct import_tensor { /* a weight the model is made of, in forward order */
	char name[96];
	uint32_t rank;
	uint64_t dim[PITH_MAX_RANK];
};

struct import_plan {
	struct import_key key[IMPORT_MAX_KEYS];
	size_t key_count;
	struct pith_block_entry *block;
	size_t block_count;
	struct import_tensor *tensor;
	size_t tensor_count, tensor_cap;
};

struct import_family {
	const char *name;
	/* values of "model_type" it takes, ended by NULL */
	const char *const *model_types;
	/* Fill the plan from config.json.  PITH_E_UNSUPPORTED names the setting. */
	pith_status (*plan)(const struct source *src, struct import_plan *out, struct pith_error *err);
	/* A tensor that stands in checkpoints and is not needed: not worth a warning. */
	bool (*is_spare)(const char *name);
};

extern const struct import_family *const import_families[]; /* ended by NULL */

/* The family by "model_type", else by "architectures".  PITH_E_UNSUPPORTED names what was found. */
pith_status import_find(const struct source *src, const struct import_family **out,
                        struct pith_error *err);

/* *out is empty on failure; free with import_plan_free(). */
pith_status import_plan_make(const struct import_family *family, const struct source *src,
                             struct import_plan *out, struct pith_error *err);
void import_plan_free(struct import_plan *plan);

/* Every tensor of the plan is in the source with its shape and a dtype that can be read. */
pith_status import_check(const struct import_plan *plan, const struct source *src,
                         struct pith_error *err);

/* ---- for families ---- */

/* Architecture keys; the plan has room for IMPORT_MAX_KEYS. */
void import_key_u64(struct import_plan *p, const char *key, uint64_t value, uint32_t flags);
void import_key_f64(struct import_plan *p, const char *key, double value, uint32_t flags);
void import_key_string(struct import_plan *p, const char *key, const char *value, uint32_t flags);
/* Another value for a number that the plan has already. */
void import_set_u64(struct import_plan *p, const char *key, uint64_t value);

pith_status import_reserve(struct import_plan *p, size_t blocks, size_t tensors,
                           struct pith_error *err);
/* A tensor [m, n], or [n] with m == 0; "{i}" in the name stands for the block's number. */
void import_add(struct import_plan *p, const char *name_fmt, size_t block, uint64_t m, uint64_t n);

extern const struct import_family import_family_llama;

#endif
