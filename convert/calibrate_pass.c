/*
 * The forward pass that calibration is made of.  See calibrate_pass.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_pass.h"

#include "bytes.h"
#include "calibrate_cost.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the model's tensors by what they do ---- */

static const char *const role_names[PASS_ROLE_COUNT] = {
    [PASS_ATTENTION_NORM] = "input_layernorm", [PASS_Q] = "self_attn.q_proj",
    [PASS_K] = "self_attn.k_proj", [PASS_V] = "self_attn.v_proj",
    [PASS_O] = "self_attn.o_proj", [PASS_FFN_NORM] = "post_attention_layernorm",
    [PASS_GATE] = "mlp.gate_proj", [PASS_UP] = "mlp.up_proj",
    [PASS_DOWN] = "mlp.down_proj"};

const struct pass_site pass_sites[PASS_SITE_COUNT] = {
    [FOLD_ATTENTION_IN] = {PASS_Q, PASS_V, PASS_ATTENTION_NORM, PASS_ROLE_COUNT},
    [FOLD_ATTENTION_OUT] = {PASS_O, PASS_O, PASS_ROLE_COUNT, PASS_V},
    [FOLD_FFN_IN] = {PASS_GATE, PASS_UP, PASS_FFN_NORM, PASS_ROLE_COUNT},
    [FOLD_FFN_OUT] = {PASS_DOWN, PASS_DOWN, PASS_ROLE_COUNT, PASS_UP},
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to calibrate");
}

const struct recipe_step *pass_find_step(const struct calibration_pass *p, const char *name)
{
	const struct recipe *r = p->run->recipe;
	for (size_t i = 0; i < r->step_count; i++)
		if (strcmp(r->step[i].want->name, name) == 0)
			return &r->step[i];
	return NULL;
}

/* ---- setup ---- */

static pith_status read_text(struct calibration_pass *p, struct pith_error *err)
{
	const struct calibration_run *r = p->run;
	if (!r->tokenizer)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "calibration needs a tokenizer.json beside the model");
	size_t asked = calibration_sample_count(r);
	PITH_TRY(calibration_text_read(r->options->calib, r->tokenizer, r->tokenizer_nbytes, asked,
	                               calibration_sample_length(r), r->options->calib_seed,
	                               import_plan_u64(r->plan, "vocab_size"), &p->text, err));
	if (p->text.sample_count < asked && r->note) {
		char note[160];
		snprintf(note, sizeof(note),
		         "the calibration text gives %zu samples of %zu tokens instead of %zu",
		         p->text.sample_count, p->text.length, asked);
		r->note(r->ctx, note);
	}
	p->tokens = p->text.sample_count * p->text.length;
	p->batch_samples = CALIBRATION_BATCH_TOKENS / p->text.length;
	if (p->batch_samples == 0)
		p->batch_samples = 1;
	if (p->batch_samples > p->text.sample_count)
		p->batch_samples = p->text.sample_count;
	return PITH_OK;
}

static pith_status make_scratch(struct calibration_pass *p, struct pith_error *err)
{
	struct calibration_shape s = calibration_widest(p->run->plan);
	size_t rows = p->batch_samples * p->text.length, q = s.head_count * s.head_dim;
	size_t kv = s.kv_head_count * s.head_dim;
	p->normed = malloc(rows * calibration_batch_floats(&s) * sizeof(*p->normed));
	if (!p->normed)
		return no_memory(err);
	p->q = p->normed + rows * s.hidden;
	p->context = p->q + rows * q;
	p->key = p->context + rows * q;
	p->value = p->key + rows * kv;
	p->gate = p->value + rows * kv;
	p->up = p->gate + rows * s.ffn;
	return PITH_OK;
}

pith_status pass_open(const struct calibration_run *run, struct calibration_pass *p,
                      struct pith_error *err)
{
	memset(p, 0, sizeof(*p));
	p->run = run;
	p->threads = run->options->threads > 0 ? run->options->threads : 1;
	/* work is cut into tasks of ours: sums must not depend on how a library cuts it */
	openblas_set_num_threads(1);
	PITH_TRY(read_text(p, err));
	calibration_shape_of(run->plan, 0, &p->shape);
	PITH_TRY(calibration_stream_new(p->tokens, p->shape.hidden, calibration_stream_limit(run),
	                                run->target, &p->x, err));
	return make_scratch(p, err);
}

void pass_close(struct calibration_pass *p)
{
	free(p->normed);
	pass_free_block(p);
	calibration_stream_free(&p->x);
	calibration_text_free(&p->text);
}

/* ---- the forward pass, cut at inputs ---- */

struct pass_batch {
	float *x; /* [rows, hidden] of the stream */
	size_t samples, rows;
};

static size_t batch_count(const struct calibration_pass *p)
{
	return (p->text.sample_count + p->batch_samples - 1) / p->batch_samples;
}

static struct pass_batch batch_of(const struct calibration_pass *p,
                                  const struct calibration_stream *stream, size_t i)
{
	size_t first = i * p->batch_samples, left = p->text.sample_count - first;
	size_t samples = left < p->batch_samples ? left : p->batch_samples;
	return (struct pass_batch){stream->data + first * p->text.length * p->shape.hidden, samples,
	                      samples * p->text.length};
}

/* x: [rows, n] += v: [n]; v may be NULL. */
static void add_to_rows(float *x, const float *v, size_t rows, size_t n, float factor)
{
	for (size_t i = 0; v && i < rows; i++)
		for (size_t j = 0; j < n; j++)
			x[i * n + j] += factor * v[j];
}

static void product(const struct calibration_pass *p, const struct pass_batch *b, const float *x,
                    enum pass_role role, bool add, float *y)
{
	size_t m = p->step[role]->m;
	calibration_linear(x, p->w[role], b->rows, m, p->step[role]->n, add, y, p->threads);
	add_to_rows(y, p->offset[role], b->rows, m, 1);
}

/* The input of a site for one batch, with the block's weights as they are now. */
static pith_status site_input(struct calibration_pass *p, const struct pass_batch *b,
                              enum fold_site site, float **input, struct pith_error *err)
{
	bool attention = site == FOLD_ATTENTION_IN || site == FOLD_ATTENTION_OUT;
	const float *norm = p->w[attention ? PASS_ATTENTION_NORM : PASS_FFN_NORM];
	*input = p->normed;
	calibration_norm(b->x, norm, p->shape.eps, b->rows, p->shape.hidden, p->normed, p->threads);
	if (site == FOLD_ATTENTION_OUT) {
		product(p, b, p->normed, PASS_Q, false, p->q);
		product(p, b, p->normed, PASS_K, false, p->key);
		product(p, b, p->normed, PASS_V, false, p->value);
		*input = p->context;
		return calibration_attention(&p->shape, b->samples, p->text.length, p->q, p->key, p->value,
		                             p->context, p->threads, err);
	}
	if (site == FOLD_FFN_OUT) {
		product(p, b, p->normed, PASS_GATE, false, p->gate);
		product(p, b, p->normed, PASS_UP, false, p->up);
		calibration_gate(p->gate, p->up, b->rows * p->shape.ffn, p->threads);
		*input = p->gate;
	}
	return PITH_OK;
}

/* Statistics of a site's input over the whole stream; free *out. */
pith_status pass_gather(struct calibration_pass *p, const struct calibration_stream *stream,
                          enum fold_site site, struct calibration_stats **out,
                          struct pith_error *err)
{
	size_t n = p->step[pass_sites[site].first]->n;
	PITH_TRY(calibration_stats_new(n, p->tokens, out, err));
	for (size_t i = 0; i < batch_count(p); i++) {
		struct pass_batch b = batch_of(p, stream, i);
		float *input;
		pith_status status = site_input(p, &b, site, &input, err);
		if (status != PITH_OK) {
			calibration_stats_free(*out);
			*out = NULL;
			return status;
		}
		add_to_rows(input, p->shift[site], b.rows, n, -1);
		calibration_stats_add(*out, input, b.rows, p->threads);
	}
	calibration_stats_finish(*out);
	return PITH_OK;
}

/* Add what the attention or the ffn of the block computes to the stream. */
pith_status pass_advance(struct calibration_pass *p, const struct calibration_stream *stream,
                           enum fold_site site, struct pith_error *err)
{
	enum pass_role role = pass_sites[site].first;
	for (size_t i = 0; i < batch_count(p); i++) {
		struct pass_batch b = batch_of(p, stream, i);
		float *input;
		PITH_TRY(site_input(p, &b, site, &input, err));
		product(p, &b, input, role, true, b.x);
	}
	return PITH_OK;
}

/* ---- the weights of a block ---- */

void pass_free_block(struct calibration_pass *p)
{
	for (size_t r = 0; r < PASS_ROLE_COUNT; r++) {
		free(p->w[r]);
		free(p->offset[r]);
		p->w[r] = p->offset[r] = NULL;
	}
	for (size_t site = 0; site < PASS_SITE_COUNT; site++) {
		free(p->shift[site]);
		p->shift[site] = NULL;
	}
}

struct quant_job pass_job(const struct calibration_pass *p, const struct recipe_step *step)
{
	return (struct quant_job){.src = p->run->src, .tensor = step->have, .m = step->m,
	                          .n = step->n, .threads = p->threads};
}

pith_status pass_load_block(struct calibration_pass *p, size_t block, struct pith_error *err)
{
	calibration_shape_of(p->run->plan, block, &p->shape);
	for (size_t r = 0; r < PASS_ROLE_COUNT; r++) {
		char name[96];
		snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", block, role_names[r]);
		p->step[r] = pass_find_step(p, name);
		if (!p->step[r])
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
			                 "calibration knows blocks of Llama's form only; there is no %s", name);
		struct quant_job job = pass_job(p, p->step[r]);
		PITH_TRY(quant_job_load(&job, &p->w[r], err));
	}
	return PITH_OK;
}

/* ---- embedding and head ---- */

/* Rows of the table for the samples' tokens. */
void pass_embed(const struct calibration_pass *p, const float *table, float *x)
{
	size_t d = p->shape.hidden;
	for (size_t t = 0; t < p->tokens; t++)
		memcpy(x + t * d, table + (size_t)p->text.id[t] * d, d * sizeof(*x));
}

/* Inputs of the head: the stream's last states, normed. */
pith_status pass_gather_head(struct calibration_pass *p, const struct calibration_stream *stream,
                               struct calibration_stats **out, struct pith_error *err)
{
	const struct recipe_step *norm = pass_find_step(p, "model.norm.weight");
	struct quant_job job;
	float *w;
	if (!norm)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no model.norm");
	job = pass_job(p, norm);
	PITH_TRY(quant_job_load(&job, &w, err));
	pith_status status = calibration_stats_new(p->shape.hidden, p->tokens, out, err);
	for (size_t i = 0; i < batch_count(p) && status == PITH_OK; i++) {
		struct pass_batch b = batch_of(p, stream, i);
		calibration_norm(b.x, w, p->shape.eps, b.rows, p->shape.hidden, p->normed, p->threads);
		calibration_stats_add(*out, p->normed, b.rows, p->threads);
	}
	if (status == PITH_OK)
		calibration_stats_finish(*out);
	free(w);
	return status;
}

/* The whole uncompressed model, for the inputs of a tied head; uses stream x. */
pith_status pass_gather_tied_head(struct calibration_pass *p, const float *table,
                                    struct calibration_stats **out, struct pith_error *err)
{
	pass_embed(p, table, p->x.data);
	for (size_t i = 0; i < p->run->plan->block_count; i++) {
		pith_status status = pass_load_block(p, i, err);
		if (status == PITH_OK)
			status = pass_advance(p, &p->x, FOLD_ATTENTION_OUT, err);
		if (status == PITH_OK)
			status = pass_advance(p, &p->x, FOLD_FFN_OUT, err);
		pass_free_block(p);
		PITH_TRY(status);
	}
	return pass_gather_head(p, &p->x, out, err);
}
