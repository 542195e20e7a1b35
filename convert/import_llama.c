/*
 * Llama, and Mistral, which differs by its window.
 *
 * Everything in the config that changes the forward pass is either translated or refused by
 * name; what a missing key means is what the transformers library takes it for.
 * Spec: spec/models/llama.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "import.h"

#include "bytes.h"

#include <math.h>
#include <stdio.h>

#define NO_TOKEN 0xffffffffu

struct llama_config {
	uint64_t hidden, ffn, blocks, heads, kv_heads, head_dim, vocab, context, window;
	uint64_t bos, eos;
	double eps, theta;
	bool tied;
	const char *model_type;
};

static pith_status refuse(const char *key, const char *why, struct pith_error *err)
{
	return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
	                 "config.json: \"%s\" %s is not supported", key, why);
}

static pith_status need_u64(const json_t *config, const char *key, uint64_t high, uint64_t *out,
                            struct pith_error *err)
{
	bool present;
	PITH_TRY(jdoc_u64(config, key, 1, high, out, &present, err));
	if (!present)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "config.json has no \"%s\"", key);
	return PITH_OK;
}

/* Llama 3.1 and longer contexts rescale the rotation: the format has one ratio only. */
static pith_status check_scaling(const json_t *config, const char *key, struct pith_error *err)
{
	const json_t *scaling = json_object_get(config, key);
	if (!scaling || json_is_null(scaling))
		return PITH_OK;
	const json_t *type = json_object_get(scaling, "rope_type");
	if (!type)
		type = json_object_get(scaling, "type");
	const char *name = json_string_value(type);
	if (json_is_object(scaling) && (!type || (name && strcmp(name, "default") == 0)))
		return PITH_OK;
	char why[60] = "of this form";
	if (name)
		snprintf(why, sizeof(why), "of type \"%.40s\"", name);
	return refuse(key, why, err);
}

static pith_status check_flags(const json_t *config, struct pith_error *err)
{
	static const char *const biases[] = {"attention_bias", "mlp_bias", "qkv_bias"};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(biases); i++) {
		bool on = false;
		PITH_TRY(jdoc_bool(config, biases[i], &on, NULL, err));
		if (on)
			return refuse(biases[i], "true", err);
	}
	const char *act = "silu";
	PITH_TRY(jdoc_string(config, "hidden_act", &act, NULL, err));
	if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
		return refuse("hidden_act", "other than silu", err);
	double partial = 1;
	PITH_TRY(jdoc_f64(config, "partial_rotary_factor", 0, 1, &partial, NULL, err));
	if (partial < 1)
		return refuse("partial_rotary_factor", "below 1", err);
	if (json_is_object(json_object_get(config, "quantization_config")))
		return refuse("quantization_config", "(a checkpoint that is quantized already)", err);
	PITH_TRY(check_scaling(config, "rope_parameters", err));
	return check_scaling(config, "rope_scaling", err);
}

/* A token id, a list of them (the first counts), or nothing. */
static pith_status read_token(const json_t *config, const char *key, uint64_t *out,
                              struct pith_error *err)
{
	*out = NO_TOKEN;
	const json_t *value = json_object_get(config, key);
	if (json_is_array(value))
		value = json_array_get(value, 0);
	if (!value || json_is_null(value))
		return PITH_OK;
	json_int_t v = json_integer_value(value);
	if (!json_is_integer(value) || v < -1 || v > NO_TOKEN)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "config.json: \"%s\" is not a token id", key);
	*out = v < 0 ? NO_TOKEN : (uint64_t)v;
	return PITH_OK;
}

static pith_status read_shape(const json_t *config, struct llama_config *c, struct pith_error *err)
{
	PITH_TRY(need_u64(config, "hidden_size", 1u << 20, &c->hidden, err));
	PITH_TRY(need_u64(config, "intermediate_size", 1u << 24, &c->ffn, err));
	PITH_TRY(need_u64(config, "num_hidden_layers", IMPORT_MAX_BLOCKS, &c->blocks, err));
	PITH_TRY(need_u64(config, "num_attention_heads", 65536, &c->heads, err));
	PITH_TRY(need_u64(config, "vocab_size", 1u << 24, &c->vocab, err));
	c->kv_heads = c->heads;
	PITH_TRY(jdoc_u64(config, "num_key_value_heads", 1, 65536, &c->kv_heads, NULL, err));
	c->head_dim = c->hidden / c->heads;
	PITH_TRY(jdoc_u64(config, "head_dim", 1, 65536, &c->head_dim, NULL, err));
	if (c->heads % c->kv_heads != 0)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "config.json: num_key_value_heads %llu does not divide "
		                 "num_attention_heads %llu", (unsigned long long)c->kv_heads,
		                 (unsigned long long)c->heads);
	if (c->head_dim == 0 || c->head_dim % 2 != 0)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "config.json: head_dim %llu is odd or 0", (unsigned long long)c->head_dim);
	return PITH_OK;
}

static pith_status read_config(const json_t *config, struct llama_config *c, struct pith_error *err)
{
	*c = (struct llama_config){.eps = 1e-6, .theta = 10000, .context = 2048, .model_type = "llama"};
	PITH_TRY(check_flags(config, err));
	PITH_TRY(read_shape(config, c, err));
	PITH_TRY(jdoc_string(config, "model_type", &c->model_type, NULL, err));
	PITH_TRY(jdoc_f64(config, "rms_norm_eps", 1e-30, 1, &c->eps, NULL, err));
	PITH_TRY(jdoc_f64(json_object_get(config, "rope_parameters"), "rope_theta", 1, 1e30, &c->theta,
	                  NULL, err));
	PITH_TRY(jdoc_f64(config, "rope_theta", 1, 1e30, &c->theta, NULL, err));
	PITH_TRY(jdoc_u64(config, "max_position_embeddings", 1, 1u << 30, &c->context, NULL, err));
	/* Llama's class ignores the key, Mistral's takes 4096 for a missing one */
	if (strcmp(c->model_type, "mistral") == 0) {
		if (!json_object_get(config, "sliding_window"))
			c->window = 4096;
		PITH_TRY(jdoc_u64(config, "sliding_window", 1, 1u << 30, &c->window, NULL, err));
	}
	PITH_TRY(jdoc_bool(config, "tie_word_embeddings", &c->tied, NULL, err));
	PITH_TRY(read_token(config, "bos_token_id", &c->bos, err));
	return read_token(config, "eos_token_id", &c->eos, err);
}

static void plan_keys(const struct source *src, const struct llama_config *c, struct import_plan *p)
{
	import_key_string(p, "arch", "llama", PITH_ARCH_MUST);
	import_key_u64(p, "hidden_size", c->hidden, PITH_ARCH_MUST);
	import_key_u64(p, "vocab_size", c->vocab, PITH_ARCH_MUST);
	import_key_f64(p, "rms_norm_eps", c->eps, PITH_ARCH_MUST);
	import_key_f64(p, "rope.ratio", pow(c->theta, -2.0 / (double)c->head_dim), PITH_ARCH_MUST);
	import_key_u64(p, "head_tied", c->tied, PITH_ARCH_MUST);
	import_key_u64(p, "kv_dtype", PITH_DTYPE_F32, PITH_ARCH_MUST);
	import_key_u64(p, "context_length", c->context, 0);
	import_key_u64(p, "bos_id", c->bos, 0);
	import_key_u64(p, "eos_id", c->eos, 0);
	import_key_f64(p, "rope_theta", c->theta, PITH_ARCH_NO_IDENTITY);
	const char *name = json_string_value(json_object_get(src->config, "_name_or_path"));
	/* a path on somebody's disk is no name */
	if (name && name[0] != '\0' && name[0] != '/' && name[0] != '.' && strlen(name) < 200)
		import_key_string(p, "name", name, PITH_ARCH_NO_IDENTITY);
}

static void plan_block(const struct llama_config *c, size_t i, struct import_plan *p)
{
	uint64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	p->block[i] = (struct pith_block_entry){
	    .flags = PITH_BLOCK_ATTENTION | PITH_BLOCK_FFN, .head_count = (uint32_t)c->heads,
	    .kv_head_count = (uint32_t)c->kv_heads, .head_dim = (uint32_t)c->head_dim,
	    .ffn_count = (uint32_t)c->ffn, .attention_of = (uint32_t)i, .ffn_of = (uint32_t)i,
	    .window = (uint32_t)c->window};
	p->block_count = i + 1;
	import_add(p, "model.layers.{i}.input_layernorm.weight", i, 0, c->hidden);
	import_add(p, "model.layers.{i}.self_attn.q_proj.weight", i, q, c->hidden);
	import_add(p, "model.layers.{i}.self_attn.k_proj.weight", i, kv, c->hidden);
	import_add(p, "model.layers.{i}.self_attn.v_proj.weight", i, kv, c->hidden);
	import_add(p, "model.layers.{i}.self_attn.o_proj.weight", i, c->hidden, q);
	import_add(p, "model.layers.{i}.post_attention_layernorm.weight", i, 0, c->hidden);
	import_add(p, "model.layers.{i}.mlp.gate_proj.weight", i, c->ffn, c->hidden);
	import_add(p, "model.layers.{i}.mlp.up_proj.weight", i, c->ffn, c->hidden);
	import_add(p, "model.layers.{i}.mlp.down_proj.weight", i, c->hidden, c->ffn);
}

static pith_status plan_llama(const struct source *src, struct import_plan *out,
                              struct pith_error *err)
{
	struct llama_config c;
	PITH_TRY(read_config(src->config, &c, err));
	PITH_TRY(import_reserve(out, (size_t)c.blocks, (size_t)c.blocks * 9 + 3, err));
	plan_keys(src, &c, out);
	import_add(out, "model.embed_tokens.weight", 0, c.vocab, c.hidden);
	for (size_t i = 0; i < c.blocks; i++)
		plan_block(&c, i, out);
	import_add(out, "model.norm.weight", 0, 0, c.hidden);
	if (!c.tied)
		import_add(out, "lm_head.weight", 0, c.vocab, c.hidden);
	return PITH_OK;
}

/* Tables that older checkpoints carry; the rotation is computed. */
static bool is_spare_llama(const char *name)
{
	size_t n = strlen(name), k = strlen(".rotary_emb.inv_freq");
	return n > k && strcmp(name + n - k, ".rotary_emb.inv_freq") == 0;
}

static const char *const llama_model_types[] = {"llama", "mistral", NULL};

const struct import_family import_family_llama = {"llama", llama_model_types, plan_llama,
                                                  is_spare_llama};
