/*
 * The Llama family: pre-norm RMSNorm, grouped-query attention with rotary positions, SwiGLU.
 * Spec, to be read beside llama_forward(): spec/models/llama.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "models.h"

#include <stdio.h>
#include <stdlib.h>

#define RULE "llama.1"

struct llama_block {
	const float *attention_norm, *ffn_norm;   /* [d] */
	const float *attention_const, *ffn_const; /* [d] or NULL */
	const struct pith_linear *q, *k, *v, *o;
	const struct pith_linear *gate, *up, *down;
};

struct llama {
	float eps;
	const struct pith_linear *embedding, *head;
	const float *norm; /* [d] */
	struct llama_block blocks[];
};

static void llama_forward(const struct pith_model *model, struct pith_step *s)
{
	const struct llama *w = model->arch_weights;
	pith_nn_embed(s, w->embedding);
	for (size_t i = 0; i < model->info.block_count; i++) {
		const struct pith_block *shape = &model->blocks[i];
		const struct llama_block *b = &w->blocks[i];
		const bool last = i + 1 == model->info.block_count;

		if (shape->has_attention) {
			struct pith_nn_product qkv[] = {{b->q, &s->q}, {b->k, &s->key}, {b->v, &s->value}};
			pith_nn_norm(s, b->attention_norm, w->eps);
			pith_nn_linear(s, &s->n, qkv, 3);
			pith_nn_rotate_append(s, &s->cache[i]);
			if (last && pith_nn_keep_logit_rows(s) == 0)
				return;
			pith_nn_attention(s, &s->cache[i]);
			pith_nn_linear(s, &s->a, &(struct pith_nn_product){b->o, &s->y}, 1);
			pith_nn_add(s);
		} else if (last && pith_nn_keep_logit_rows(s) == 0) {
			return;
		} else if (b->attention_const != NULL) {
			pith_nn_add_const(s, b->attention_const);
		}

		if (shape->has_ffn) {
			struct pith_nn_product gate_up[] = {{b->gate, &s->gate}, {b->up, &s->up}};
			pith_nn_norm(s, b->ffn_norm, w->eps);
			pith_nn_linear(s, &s->n, gate_up, 2);
			pith_nn_silu_gate(s, shape->ffn_count);
			pith_nn_linear(s, &s->h, &(struct pith_nn_product){b->down, &s->y}, 1);
			pith_nn_add(s);
		} else if (b->ffn_const != NULL) {
			pith_nn_add_const(s, b->ffn_const);
		}
	}
	if (s->logit_count == 0)
		return;
	pith_nn_norm_last(s, w->norm, w->eps);
	pith_nn_linear(s, &s->n, &(struct pith_nn_product){w->head, &s->logits}, 1);
}

/* ---- binding ---- */

/* model.layers.{i}.{suffix}.weight */
static pith_status layer_linear(struct pith_model *model, size_t i, const char *suffix, uint64_t m,
                                uint64_t n, const struct pith_linear **out, struct pith_error *err)
{
	char name[96];
	snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", i, suffix);
	return pith_model_linear(model, RULE, name, m, n, out, err);
}

static pith_status layer_norm(struct pith_model *model, size_t i, const char *suffix,
                              const float **out, struct pith_error *err)
{
	char name[96];
	snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", i, suffix);
	return pith_model_vector(model, RULE, name, model->info.hidden_count, out, err);
}

static pith_status bind_attention(struct pith_model *model, struct llama *w, size_t i,
                                  struct pith_error *err)
{
	const struct pith_block *shape = &model->blocks[i];
	struct llama_block *b = &w->blocks[i];
	uint64_t d = model->info.hidden_count;
	uint64_t rows = (uint64_t)shape->head_count * shape->head_dim;
	uint64_t kv_rows = (uint64_t)shape->kv_head_count * shape->head_dim;
	struct pith_widths *widths = &model->widths;
	if (shape->head_dim % 2 != 0)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, RULE,
		                 "block %zu: head_dim %u is odd and cannot be rotated", i, shape->head_dim);
	PITH_TRY(layer_norm(model, i, "input_layernorm", &b->attention_norm, err));
	widths->q = rows > widths->q ? (size_t)rows : widths->q;
	widths->key = kv_rows > widths->key ? (size_t)kv_rows : widths->key;
	widths->rotary_half = shape->head_dim / 2 > widths->rotary_half ? shape->head_dim / 2
	                                                                : widths->rotary_half;
	if (shape->attention_of < i) {
		const struct llama_block *of = &w->blocks[shape->attention_of];
		b->q = of->q, b->k = of->k, b->v = of->v, b->o = of->o;
		return b->q != NULL ? PITH_OK
		                    : pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "container.18",
		                                "block %zu uses an attention that is not there", i);
	}
	PITH_TRY(layer_linear(model, i, "self_attn.q_proj", rows, d, &b->q, err));
	PITH_TRY(layer_linear(model, i, "self_attn.k_proj", kv_rows, d, &b->k, err));
	PITH_TRY(layer_linear(model, i, "self_attn.v_proj", kv_rows, d, &b->v, err));
	return layer_linear(model, i, "self_attn.o_proj", d, rows, &b->o, err);
}

static pith_status bind_ffn(struct pith_model *model, struct llama *w, size_t i,
                            struct pith_error *err)
{
	const struct pith_block *shape = &model->blocks[i];
	struct llama_block *b = &w->blocks[i];
	uint64_t d = model->info.hidden_count, f = shape->ffn_count;
	model->widths.ffn = f > model->widths.ffn ? (size_t)f : model->widths.ffn;
	PITH_TRY(layer_norm(model, i, "post_attention_layernorm", &b->ffn_norm, err));
	if (shape->ffn_of < i) {
		const struct llama_block *of = &w->blocks[shape->ffn_of];
		b->gate = of->gate, b->up = of->up, b->down = of->down;
		return b->gate != NULL ? PITH_OK
		                       : pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "container.18",
		                                   "block %zu uses a feed-forward that is not there", i);
	}
	PITH_TRY(layer_linear(model, i, "mlp.gate_proj", f, d, &b->gate, err));
	PITH_TRY(layer_linear(model, i, "mlp.up_proj", f, d, &b->up, err));
	return layer_linear(model, i, "mlp.down_proj", d, f, &b->down, err);
}

/* Bytes a token reads: every linear as often as it is used, and one row of an embedding that is not the head. */
static uint64_t linear_nbytes(const struct pith_model *model, const struct llama *w)
{
	uint64_t sum = w->head->nbytes;
	for (size_t i = 0; i < model->info.block_count; i++) {
		const struct llama_block *b = &w->blocks[i];
		if (b->q != NULL)
			sum += b->q->nbytes + b->k->nbytes + b->v->nbytes + b->o->nbytes;
		if (b->gate != NULL)
			sum += b->gate->nbytes + b->up->nbytes + b->down->nbytes;
	}
	return sum + (w->head != w->embedding ? w->embedding->nbytes / w->embedding->m : 0);
}

static pith_status bind_weights(struct pith_model *model, struct llama *w, bool tied,
                                struct pith_error *err)
{
	uint64_t d = model->info.hidden_count, vocab = model->info.vocab_count;
	PITH_TRY(pith_model_linear(model, RULE, "model.embed_tokens.weight", vocab, d, &w->embedding, err));
	w->head = w->embedding;
	if (!tied)
		PITH_TRY(pith_model_linear(model, RULE, "lm_head.weight", vocab, d, &w->head, err));
	PITH_TRY(pith_model_vector(model, RULE, "model.norm.weight", d, &w->norm, err));
	for (size_t i = 0; i < model->info.block_count; i++) {
		const struct pith_block *shape = &model->blocks[i];
		struct llama_block *b = &w->blocks[i];
		if (shape->has_attention)
			PITH_TRY(bind_attention(model, w, i, err));
		if (shape->has_ffn)
			PITH_TRY(bind_ffn(model, w, i, err));
		PITH_TRY(pith_model_const(model, RULE, shape->attention_const, d, &b->attention_const, err));
		PITH_TRY(pith_model_const(model, RULE, shape->ffn_const, d, &b->ffn_const, err));
	}
	model->info.weight_nbytes += linear_nbytes(model, w);
	return PITH_OK;
}

static pith_status llama_bind(struct pith_model *model, struct pith_error *err)
{
	uint64_t d, vocab, tied, kv_dtype;
	double eps;
	PITH_TRY(pith_file_arch_u64(model->file, "hidden_size", &d, err));
	PITH_TRY(pith_file_arch_u64(model->file, "vocab_size", &vocab, err));
	PITH_TRY(pith_file_arch_u64(model->file, "head_tied", &tied, err));
	PITH_TRY(pith_file_arch_u64(model->file, "kv_dtype", &kv_dtype, err));
	PITH_TRY(pith_file_arch_f64(model->file, "rms_norm_eps", &eps, err));
	PITH_TRY(pith_file_arch_f64(model->file, "rope.ratio", &model->rotary_ratio, err));
	if (d < 1 || d > 1u << 20 || vocab < 1 || vocab > 1u << 24 || tied > 1 || !(eps > 0) ||
	    !(model->rotary_ratio > 0 && model->rotary_ratio <= 1))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, RULE, "a key is out of its range");
	PITH_TRY(pith_model_kv_type(model, RULE, kv_dtype, err));
	struct llama *w = calloc(1, sizeof(*w) + (size_t)model->info.block_count * sizeof(w->blocks[0]));
	if (w == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a model");
	model->arch_weights = w;
	model->info.hidden_count = d;
	model->info.vocab_count = vocab;
	w->eps = (float)eps;
	return bind_weights(model, w, tied == 1, err);
}

static const char *const llama_keys[] = {"arch",      "hidden_size", "vocab_size", "rms_norm_eps",
                                         "rope.ratio", "head_tied",  "kv_dtype",   "context_length",
                                         "bos_id",    "eos_id",      "rope_theta", "name",
                                         NULL};

const struct pith_architecture pith_architecture_llama = {
	.name = "llama", .keys = llama_keys, .bind = llama_bind, .release = free, .forward = llama_forward,
};
