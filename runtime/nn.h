/*
 * The steps a forward pass is written in.  A 'struct pith_step' is what one step of a
 * session works on: rows (tokens) of any sequences, their working arrays, the caches.  Each function below is
 * one line of a model's page in spec/models/ and runs on all rows of the step at once, shared out over the executor.
 * Arithmetic: spec/numerics.md.
 *
 * Shapes: k rows in the step, d = hidden size.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_NN_H
#define PITH_RUNTIME_NN_H

#include "linear.h"

/* [rows, ld] f32; ld is a multiple of 16. */
struct pith_rows {
	float *v;
	size_t ld;
};

/* Where a row stands. */
struct pith_place {
	size_t sequence, position;
};

/* Keys and values of one block for all sequences, in the layout of kernels.h. */
struct pith_cache {
	enum pith_kv_type type;
	uint8_t *keys, *values;          /* [sequences, kv_head_count] heads of head_nbytes */
	float *key_scale, *value_scale;  /* i8: [sequences, kv_head_count] heads of head_scales */
	size_t head_nbytes, head_scales;
	size_t head_count, kv_head_count, head_dim;
	size_t positions; /* a multiple of 32 */
	size_t window;    /* newest positions seen; 0: all */
	float scale;      /* of scores */
};

struct pith_step {
	struct pith_linear_runner run;
	size_t k;                 /* rows; from pith_nn_keep_logit_rows() on, those with logits */
	uint32_t *token;          /* [k] */
	struct pith_place *place; /* [k] */
	size_t d;
	struct pith_rows x;       /* [k, d] the residual stream */
	struct pith_rows q, key, value, gate, up, y; /* outputs of linears */
	struct pith_input n;      /* normalized x */
	struct pith_input a;      /* what attention gives */
	struct pith_input h;      /* what the gate gives */
	struct pith_cache *cache; /* one per block */
	float *cosine, *sine;     /* [positions, rotary_half] */
	size_t rotary_half;
	size_t logit_count;
	size_t *logit_row;        /* [logit_count] rows that want logits */
	struct pith_rows logits;  /* [logit_count, vocabulary] */
};

/* numerics.md 7: cosine, sine: [positions, half]; f[i] = ratio^i. */
void pith_nn_rotary_table(double ratio, size_t positions, size_t half, float *cosine, float *sine);
/* numerics.md 7: scale = f32(1 / sqrt(d)). */
float pith_nn_score_scale(size_t d);

/* x = rows of the embedding. */
void pith_nn_embed(struct pith_step *s, const struct pith_linear *embedding);
/* n = rmsnorm(x, w). */
void pith_nn_norm(struct pith_step *s, const float *w, float eps);
/* The same for the rows that want logits only. */
void pith_nn_norm_last(struct pith_step *s, const float *w, float eps);
/* out = w in, for up to 3 weights that share their input. */
struct pith_nn_product {
	const struct pith_linear *w;
	struct pith_rows *out;
};
void pith_nn_linear(struct pith_step *s, struct pith_input *in, const struct pith_nn_product *products,
                    size_t count);
/* Rotate q and key, append key and value to the cache. */
void pith_nn_rotate_append(struct pith_step *s, const struct pith_cache *cache);
/*
 * From here on only the rows that want logits matter: x, q and place move together and k becomes
 * their number, which is returned.  What the others have appended stays; that it is finite is seen now or never.
 */
size_t pith_nn_keep_logit_rows(struct pith_step *s);
/* No value is infinite or NaN. */
bool pith_nn_finite(const float *v, size_t count);
/* a = attention of q over the cache; every row sees what rows before it have appended. */
void pith_nn_attention(struct pith_step *s, const struct pith_cache *cache);
/* h = silu(gate) * up, f columns. */
void pith_nn_silu_gate(struct pith_step *s, size_t f);
/* x = x + y. */
void pith_nn_add(struct pith_step *s);
/* x = x + c in every row; c: [d]. */
void pith_nn_add_const(struct pith_step *s, const float *c);

#endif
