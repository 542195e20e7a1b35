/*
 * A bound model: what every architecture shares, and the table of architectures.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_MODEL_H
#define PITH_RUNTIME_MODEL_H

#include "nn.h"

struct pith_model;

/* A row of the table of architectures (models/models.c). */
struct pith_architecture {
	const char *name;        /* value of the key 'arch' */
	const char *const *keys; /* keys it understands, ended by NULL */
	/* Bind the weights and fill 'arch_weights', 'widths', vocab_count, hidden_count. */
	pith_status (*bind)(struct pith_model *model, struct pith_error *err);
	/* Release arch_weights (linears and vectors bound with the functions below excepted); may be NULL there. */
	void (*release)(void *arch_weights);
	/* From s->token and s->place to s->logits. */
	void (*forward)(const struct pith_model *model, struct pith_step *s);
};
extern const struct pith_architecture *const pith_architectures[]; /* ended by NULL */

/* Columns of the working arrays of a step: the widest block's. */
struct pith_widths {
	size_t q, key, attention, ffn;
	size_t rotary_half;
};

struct pith_model {
	const struct pith_file *file;
	const struct pith_kernels *kernels;
	const struct pith_architecture *architecture;
	bool verify;
	struct pith_model_info info;
	enum pith_kv_type kv_type;
	struct pith_block *blocks; /* [info.block_count] */
	double rotary_ratio;
	struct pith_widths widths;
	void *arch_weights;
	/* everything bound, released with the model */
	struct pith_linear **linears;
	size_t linear_count;
	float **vectors;
	size_t vector_count;
};

/*
 * Bind the weight 'name', which must be [m, n] (rule llama.1 and its like: 'rule').
 * Owned by the model.
 */
pith_status pith_model_linear(struct pith_model *model, const char *rule, const char *name, uint64_t m,
                              uint64_t n, const struct pith_linear **out, struct pith_error *err);
/* A vector [n], a single dense term, as f32.  Owned by the model. */
pith_status pith_model_vector(struct pith_model *model, const char *rule, const char *name, uint64_t n,
                              const float **out, struct pith_error *err);
/* The same by number in the weight table + 1; 0 gives NULL. */
pith_status pith_model_const(struct pith_model *model, const char *rule, uint32_t index_plus_1,
                             uint64_t n, const float **out, struct pith_error *err);
/* Set kv_type from the key 'kv_dtype'; PITH_E_UNSUPPORTED for one that is not built in. */
pith_status pith_model_kv_type(struct pith_model *model, const char *rule, uint64_t kv_dtype,
                               struct pith_error *err);

#endif
