/*
 * The order of a calibrated conversion.  See calibrate_model.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_model.h"

#include "bytes.h"
#include "calibrate_cost.h"
#include "calibrate_journal.h"
#include "calibrate_stats.h"
#include "calibrate_stream.h"
#include "sha256.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>


/* ---- the model's tensors by what they do ---- */

enum role { ATTENTION_NORM, Q, K, V, O, FFN_NORM, GATE, UP, DOWN, ROLE_COUNT };

static const char *const role_names[ROLE_COUNT] = {
    [ATTENTION_NORM] = "input_layernorm", [Q] = "self_attn.q_proj",
    [K] = "self_attn.k_proj", [V] = "self_attn.v_proj",
    [O] = "self_attn.o_proj", [FFN_NORM] = "post_attention_layernorm",
    [GATE] = "mlp.gate_proj", [UP] = "mlp.up_proj",
    [DOWN] = "mlp.down_proj"};

/* Linears that share an input, and what makes it. */
static const struct {
	enum role first, last;
	enum role norm;     /* ROLE_COUNT: none */
	enum role producer; /* ROLE_COUNT: none */
} sites[] = {
    [FOLD_ATTENTION_IN] = {Q, V, ATTENTION_NORM, ROLE_COUNT},
    [FOLD_ATTENTION_OUT] = {O, O, ROLE_COUNT, V},
    [FOLD_FFN_IN] = {GATE, UP, FFN_NORM, ROLE_COUNT},
    [FOLD_FFN_OUT] = {DOWN, DOWN, ROLE_COUNT, UP},
};
#define SITE_COUNT 4u

struct calibration {
	const struct calibration_run *run;
	unsigned threads;
	struct calibration_shape shape;
	struct calibration_text text;
	size_t tokens;        /* sample_count * length */
	size_t batch_samples; /* samples at a time */
	/* [tokens, hidden]: through the compressed model; through the original (NULL when not needed) */
	struct calibration_stream x, reference;
	/* weights of the block at hand, [m, n] f32, and their steps */
	float *w[ROLE_COUNT];
	const struct recipe_step *step[ROLE_COUNT];
	struct calibration_journal *journal;
	/* one batch of everything inside a block */
	float *normed, *q, *key, *value, *context, *gate, *up;
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to calibrate");
}

static const struct recipe_step *find_step(const struct calibration *c, const char *name)
{
	const struct recipe *r = c->run->recipe;
	for (size_t i = 0; i < r->step_count; i++)
		if (strcmp(r->step[i].want->name, name) == 0)
			return &r->step[i];
	return NULL;
}

/* ---- setup ---- */

static pith_status read_text(struct calibration *c, struct pith_error *err)
{
	const struct calibration_run *r = c->run;
	if (!r->tokenizer)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "calibration needs a tokenizer.json beside the model");
	size_t asked = calibration_sample_count(r);
	PITH_TRY(calibration_text_read(r->options->calib, r->tokenizer, r->tokenizer_nbytes, asked,
	                               calibration_sample_length(r), r->options->calib_seed,
	                               import_plan_u64(r->plan, "vocab_size"), &c->text, err));
	if (c->text.sample_count < asked && r->note) {
		char note[160];
		snprintf(note, sizeof(note),
		         "the calibration text gives %zu samples of %zu tokens instead of %zu",
		         c->text.sample_count, c->text.length, asked);
		r->note(r->ctx, note);
	}
	c->tokens = c->text.sample_count * c->text.length;
	c->batch_samples = CALIBRATION_BATCH_TOKENS / c->text.length;
	if (c->batch_samples == 0)
		c->batch_samples = 1;
	if (c->batch_samples > c->text.sample_count)
		c->batch_samples = c->text.sample_count;
	return PITH_OK;
}

static pith_status make_scratch(struct calibration *c, struct pith_error *err)
{
	struct calibration_shape s = calibration_widest(c->run->plan);
	size_t rows = c->batch_samples * c->text.length, q = s.head_count * s.head_dim;
	size_t kv = s.kv_head_count * s.head_dim;
	float *p = malloc(rows * calibration_batch_floats(&s) * sizeof(*p));
	if (!p)
		return no_memory(err);
	c->normed = p;
	c->q = c->normed + rows * s.hidden;
	c->context = c->q + rows * q;
	c->key = c->context + rows * q;
	c->value = c->key + rows * kv;
	c->gate = c->value + rows * kv;
	c->up = c->gate + rows * s.ffn;
	return PITH_OK;
}

/* ---- the forward pass, cut at inputs ---- */

struct batch {
	float *x; /* [rows, hidden] of the stream */
	size_t samples, rows;
};

static size_t batch_count(const struct calibration *c)
{
	return (c->text.sample_count + c->batch_samples - 1) / c->batch_samples;
}

static struct batch get_batch(const struct calibration *c, const struct calibration_stream *stream,
                              size_t i)
{
	size_t first = i * c->batch_samples, left = c->text.sample_count - first;
	size_t samples = left < c->batch_samples ? left : c->batch_samples;
	return (struct batch){stream->data + first * c->text.length * c->shape.hidden, samples,
	                      samples * c->text.length};
}

static void product(const struct calibration *c, const struct batch *b, const float *x,
                    enum role role, float *y)
{
	calibration_linear(x, c->w[role], b->rows, c->step[role]->m, c->step[role]->n, false, y,
	                   c->threads);
}

/* The input of a site for one batch, with the block's weights as they are now. */
static pith_status site_input(struct calibration *c, const struct batch *b, enum fold_site site,
                              const float **input, struct pith_error *err)
{
	bool attention = site == FOLD_ATTENTION_IN || site == FOLD_ATTENTION_OUT;
	const float *norm = c->w[attention ? ATTENTION_NORM : FFN_NORM];
	*input = c->normed;
	calibration_norm(b->x, norm, c->shape.eps, b->rows, c->shape.hidden, c->normed, c->threads);
	if (site == FOLD_ATTENTION_OUT) {
		product(c, b, c->normed, Q, c->q);
		product(c, b, c->normed, K, c->key);
		product(c, b, c->normed, V, c->value);
		*input = c->context;
		return calibration_attention(&c->shape, b->samples, c->text.length, c->q, c->key, c->value,
		                             c->context, c->threads, err);
	}
	if (site == FOLD_FFN_OUT) {
		product(c, b, c->normed, GATE, c->gate);
		product(c, b, c->normed, UP, c->up);
		calibration_gate(c->gate, c->up, b->rows * c->shape.ffn, c->threads);
		*input = c->gate;
	}
	return PITH_OK;
}

/* Statistics of a site's input over the whole stream; free *out. */
static pith_status gather(struct calibration *c, const struct calibration_stream *stream,
                          enum fold_site site, struct calibration_stats **out,
                          struct pith_error *err)
{
	PITH_TRY(calibration_stats_new(c->step[sites[site].first]->n, c->tokens, out, err));
	for (size_t i = 0; i < batch_count(c); i++) {
		struct batch b = get_batch(c, stream, i);
		const float *input;
		pith_status status = site_input(c, &b, site, &input, err);
		if (status != PITH_OK) {
			calibration_stats_free(*out);
			*out = NULL;
			return status;
		}
		calibration_stats_add(*out, input, b.rows, c->threads);
	}
	calibration_stats_finish(*out);
	return PITH_OK;
}

/* Add what the attention or the ffn of the block computes to the stream. */
static pith_status advance(struct calibration *c, const struct calibration_stream *stream,
                           enum fold_site site, struct pith_error *err)
{
	enum role role = sites[site].first;
	for (size_t i = 0; i < batch_count(c); i++) {
		struct batch b = get_batch(c, stream, i);
		const float *input;
		PITH_TRY(site_input(c, &b, site, &input, err));
		calibration_linear(input, c->w[role], b.rows, c->step[role]->m, c->step[role]->n, true, b.x,
		                   c->threads);
	}
	return PITH_OK;
}

/* ---- the weights of a block ---- */

static void free_block(struct calibration *c)
{
	for (size_t r = 0; r < ROLE_COUNT; r++) {
		free(c->w[r]);
		c->w[r] = NULL;
	}
}

static struct quant_job make_job(const struct calibration *c, const struct recipe_step *step)
{
	return (struct quant_job){.src = c->run->src, .tensor = step->have, .m = step->m,
	                          .n = step->n, .threads = c->threads};
}

static pith_status load_block(struct calibration *c, size_t block, struct pith_error *err)
{
	calibration_shape_of(c->run->plan, block, &c->shape);
	for (size_t r = 0; r < ROLE_COUNT; r++) {
		char name[96];
		snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", block, role_names[r]);
		c->step[r] = find_step(c, name);
		if (!c->step[r])
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
			                 "calibration knows blocks of Llama's form only; there is no %s", name);
		struct quant_job job = make_job(c, c->step[r]);
		PITH_TRY(quant_job_load(&job, &c->w[r], err));
	}
	return PITH_OK;
}

/* ---- compressing ---- */

/* Run a step with a weight in memory (NULL: from the source), hand the result on, and put what was stored into w. */
static pith_status compress(struct calibration *c, const struct recipe_step *step, float *w,
                            const struct calibration_inputs *inputs, struct pith_error *err)
{
	if (c->run->begin)
		c->run->begin(c->run->ctx, step);
	struct quant_job job = make_job(c, step);
	struct quant_result q;
	job.weights = w;
	job.inputs = inputs;
	PITH_TRY(recipe_step_run(step, &job, &q, err));
	pith_status status = c->run->emit(c->run->ctx, step, &q, err);
	if (status == PITH_OK)
		status = calibration_journal_add(c->journal, (uint64_t)(step - c->run->recipe->step),
		                                 step->n, &q, err);
	if (status == PITH_OK && w)
		status = quant_result_unpack(&q, step->m, step->n, w, err);
	quant_result_free(&q);
	return status;
}

static pith_status compress_site(struct calibration *c, enum fold_site site, struct pith_error *err)
{
	struct calibration_stats *stats;
	if (sites[site].norm != ROLE_COUNT)
		PITH_TRY(compress(c, c->step[sites[site].norm], c->w[sites[site].norm], NULL, err));
	PITH_TRY(gather(c, &c->x, site, &stats, err));
	pith_status status = PITH_OK;
	for (enum role r = sites[site].first; r <= sites[site].last && status == PITH_OK; r++)
		status = compress(c, c->step[r], c->w[r], calibration_stats_inputs(stats), err);
	calibration_stats_free(stats);
	return status;
}

/* ---- folds ---- */

/* Which row of the producer makes column c: heads that share a value head share rows. */
static void producer_rows(const struct calibration *c, enum fold_site site, size_t n, uint32_t *row)
{
	size_t d = c->shape.head_dim, share = c->shape.head_count / c->shape.kv_head_count;
	for (size_t j = 0; j < n; j++)
		row[j] = (uint32_t)(site == FOLD_ATTENTION_OUT ? j / d / share * d + j % d : j);
}

static pith_status fold_site(struct calibration *c, enum fold_site site,
                             const struct calibration_inputs *inputs, struct pith_error *err)
{
	size_t n = inputs->n;
	uint32_t *row = malloc(n * sizeof(*row));
	if (!row)
		return no_memory(err);
	producer_rows(c, site, n, row);
	enum role norm = sites[site].norm, producer = sites[site].producer;
	struct fold_group g = {.site = site, .n = n, .producer_row = row, .inputs = inputs,
	                       .threads = c->threads};
	if (norm != ROLE_COUNT)
		g.norm = c->w[norm];
	if (producer != ROLE_COUNT) {
		g.producer = c->w[producer];
		g.producer_m = c->step[producer]->m;
		g.producer_n = c->step[producer]->n;
	}
	const struct scheme *scheme = c->step[sites[site].first]->scheme;
	for (enum role r = sites[site].first; r <= sites[site].last; r++) {
		g.linear[g.linear_count].name = c->step[r]->want->name;
		g.linear[g.linear_count].w = c->w[r];
		g.linear[g.linear_count].m = c->step[r]->m;
		g.linear[g.linear_count++].scheme = c->step[r]->scheme;
	}
	pith_status status = PITH_OK;
	for (const struct scheme_link *link = scheme->link;
	     link->method && link->method->role == QUANT_FOLD && status == PITH_OK; link++)
		status = link->method->fold(link, &g, err);
	free(row);
	return status;
}

/*
 * Fold the whole block, and take the reference stream through the block as it was.  Inputs
 * of all sites are gathered before anything is changed.
 */
static pith_status fold_block(struct calibration *c, struct pith_error *err)
{
	struct calibration_stats *stats[SITE_COUNT] = {NULL};
	pith_status status = PITH_OK;
	for (unsigned site = 0; site < SITE_COUNT && status == PITH_OK; site++) {
		const struct scheme *s = c->step[sites[site].first]->scheme;
		if (s && scheme_folds(s))
			status = gather(c, &c->reference, (enum fold_site)site, &stats[site], err);
		if (status == PITH_OK && (site == FOLD_ATTENTION_OUT || site == FOLD_FFN_OUT))
			status = advance(c, &c->reference, (enum fold_site)site, err);
	}
	for (unsigned site = 0; site < SITE_COUNT && status == PITH_OK; site++)
		if (stats[site])
			status = fold_site(c, (enum fold_site)site, calibration_stats_inputs(stats[site]),
			                   err);
	for (unsigned site = 0; site < SITE_COUNT; site++)
		calibration_stats_free(stats[site]);
	return status;
}

/* ---- blocks ---- */

static pith_status run_block(struct calibration *c, struct pith_error *err)
{
	if (c->reference.data)
		PITH_TRY(fold_block(c, err));
	for (unsigned site = 0; site < SITE_COUNT; site++) {
		PITH_TRY(compress_site(c, (enum fold_site)site, err));
		if (site == FOLD_ATTENTION_OUT || site == FOLD_FFN_OUT)
			PITH_TRY(advance(c, &c->x, (enum fold_site)site, err));
	}
	return PITH_OK;
}

static pith_status run_blocks(struct calibration *c, size_t first, struct pith_error *err)
{
	for (size_t i = first; i < c->run->plan->block_count; i++) {
		pith_status status = load_block(c, i, err);
		if (status == PITH_OK)
			status = run_block(c, err);
		free_block(c);
		PITH_TRY(status);
		PITH_TRY(calibration_journal_commit(c->journal, &c->x, &c->reference, err));
	}
	return PITH_OK;
}

/* ---- embedding and head ---- */

/* Rows of the table for the samples' tokens. */
static void embed(const struct calibration *c, const float *table, float *x)
{
	size_t d = c->shape.hidden;
	for (size_t t = 0; t < c->tokens; t++)
		memcpy(x + t * d, table + (size_t)c->text.id[t] * d, d * sizeof(*x));
}

/* Inputs of the head: the stream's last states, normed. */
static pith_status gather_head(struct calibration *c, const struct calibration_stream *stream,
                               struct calibration_stats **out, struct pith_error *err)
{
	const struct recipe_step *norm = find_step(c, "model.norm.weight");
	struct quant_job job;
	float *w;
	if (!norm)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no model.norm");
	job = make_job(c, norm);
	PITH_TRY(quant_job_load(&job, &w, err));
	pith_status status = calibration_stats_new(c->shape.hidden, c->tokens, out, err);
	for (size_t i = 0; i < batch_count(c) && status == PITH_OK; i++) {
		struct batch b = get_batch(c, stream, i);
		calibration_norm(b.x, w, c->shape.eps, b.rows, c->shape.hidden, c->normed, c->threads);
		calibration_stats_add(*out, c->normed, b.rows, c->threads);
	}
	if (status == PITH_OK)
		calibration_stats_finish(*out);
	free(w);
	return status;
}

/* The whole uncompressed model, for the inputs of a tied head; uses stream x. */
static pith_status gather_tied_head(struct calibration *c, const float *table,
                                    struct calibration_stats **out, struct pith_error *err)
{
	embed(c, table, c->x.data);
	for (size_t i = 0; i < c->run->plan->block_count; i++) {
		pith_status status = load_block(c, i, err);
		if (status == PITH_OK)
			status = advance(c, &c->x, FOLD_ATTENTION_OUT, err);
		if (status == PITH_OK)
			status = advance(c, &c->x, FOLD_FFN_OUT, err);
		free_block(c);
		PITH_TRY(status);
	}
	return gather_head(c, &c->x, out, err);
}

static pith_status compress_embedding(struct calibration *c, const struct recipe_step *step,
                                      float *table, struct pith_error *err)
{
	bool tied = import_plan_u64(c->run->plan, "head_tied") != 0;
	struct calibration_stats *stats;
	if (c->run->begin)
		c->run->begin(c->run->ctx, step);
	if (tied && step->scheme && scheme_needs_inputs(step->scheme))
		PITH_TRY(gather_tied_head(c, table, &stats, err));
	else
		PITH_TRY(calibration_stats_identity(step->n, &stats, err));
	if (c->reference.data)
		embed(c, table, c->reference.data);
	pith_status status = compress(c, step, table, calibration_stats_inputs(stats), err);
	calibration_stats_free(stats);
	if (status == PITH_OK)
		embed(c, table, c->x.data);
	return status;
}

static pith_status run_embedding(struct calibration *c, struct pith_error *err)
{
	const struct recipe_step *step = find_step(c, "model.embed_tokens.weight");
	float *table;
	if (!step)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no embedding");
	struct quant_job job = make_job(c, step);
	PITH_TRY(quant_job_load(&job, &table, err));
	pith_status status = compress_embedding(c, step, table, err);
	free(table);
	return status;
}

static pith_status run_head(struct calibration *c, struct pith_error *err)
{
	const struct recipe_step *norm = find_step(c, "model.norm.weight");
	const struct recipe_step *head = find_step(c, "lm_head.weight");
	struct calibration_stats *stats = NULL;
	if (norm)
		PITH_TRY(compress(c, norm, NULL, NULL, err));
	if (!head)
		return PITH_OK;
	pith_status status = gather_head(c, &c->x, &stats, err);
	if (status == PITH_OK)
		status = compress(c, head, NULL, calibration_stats_inputs(stats), err);
	calibration_stats_free(stats);
	return status;
}

/* ---- what an interrupted run left ---- */

/* Everything the bytes depend on: sources, recipe, libraries; text and samples. */
static void journal_key(const struct calibration *c, uint8_t key[32])
{
	struct sha256 h;
	const uint64_t number[3] = {c->text.sample_count, c->text.length,
	                            c->run->options->calib_seed};
	sha256_begin(&h);
	sha256_add(&h, c->run->fingerprint, sizeof(c->run->fingerprint));
	sha256_add(&h, c->text.digest, sizeof(c->text.digest));
	sha256_add(&h, number, sizeof(number));
	sha256_add(&h, openblas_get_config(), strlen(openblas_get_config()));
	sha256_add(&h, openblas_get_corename(), strlen(openblas_get_corename()));
	sha256_end(&h, key);
}

/* Hand on the weights that are done already. */
static pith_status replay(struct calibration *c, struct pith_error *err)
{
	for (;;) {
		uint64_t step;
		struct quant_result q;
		PITH_TRY(calibration_journal_next(c->journal, &step, &q, err));
		if (step == UINT64_MAX)
			return PITH_OK;
		pith_status status =
		    step < c->run->recipe->step_count
		        ? c->run->emit(c->run->ctx, &c->run->recipe->step[step], &q, err)
		        : pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "the journal names step %llu",
		                    (unsigned long long)step);
		quant_result_free(&q);
		PITH_TRY(status);
	}
}

/* *stages: the embedding, then blocks, that are done. */
static pith_status open_journal(struct calibration *c, uint64_t *stages, struct pith_error *err)
{
	uint8_t key[32];
	journal_key(c, key);
	PITH_TRY(calibration_journal_open(c->run->target, key, c->run->options->resume, &c->journal,
	                                  stages, err));
	PITH_TRY(replay(c, err));
	return *stages > 0 ? calibration_journal_load(c->journal, &c->x, &c->reference, err) : PITH_OK;
}

/* ---- the whole ---- */

static pith_status calibrate(struct calibration *c, struct pith_error *err)
{
	PITH_TRY(read_text(c, err));
	calibration_shape_of(c->run->plan, 0, &c->shape);
	uint64_t limit = calibration_stream_limit(c->run);
	PITH_TRY(calibration_stream_new(c->tokens, c->shape.hidden, limit, c->run->target, &c->x, err));
	if (recipe_folds(c->run->recipe))
		PITH_TRY(calibration_stream_new(c->tokens, c->shape.hidden, limit, c->run->target,
		                                &c->reference, err));
	PITH_TRY(make_scratch(c, err));
	uint64_t stages;
	PITH_TRY(open_journal(c, &stages, err));
	if (stages == 0) {
		PITH_TRY(run_embedding(c, err));
		PITH_TRY(calibration_journal_commit(c->journal, &c->x, &c->reference, err));
	}
	PITH_TRY(run_blocks(c, stages > 0 ? (size_t)stages - 1 : 0, err));
	return run_head(c, err);
}

pith_status calibrate_model(const struct calibration_run *run, struct calibration_facts *facts,
                            struct pith_error *err)
{
	struct calibration c = {.run = run};
	c.threads = run->options->threads > 0 ? run->options->threads : 1;
	/* work is cut into tasks of ours: sums must not depend on how a library cuts it */
	openblas_set_num_threads(1);
	pith_status status = calibrate(&c, err);
	memcpy(facts->digest, c.text.digest, sizeof(facts->digest));
	facts->sample_count = c.text.sample_count;
	facts->length = c.text.length;
	facts->token_count = c.text.token_count;
	facts->seed = run->options->calib_seed;
	if (status == PITH_OK)
		calibration_journal_finish(c.journal);
	else
		calibration_journal_close(c.journal);
	free(c.normed);
	free_block(&c);
	calibration_stream_free(&c.x);
	calibration_stream_free(&c.reference);
	calibration_text_free(&c.text);
	return status;
}
