/*
 * The order of a calibrated conversion.  See calibrate_model.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_model.h"

#include "bytes.h"
#include "calibrate_cost.h"
#include "calibrate_fold.h"
#include "calibrate_journal.h"
#include "calibrate_pass.h"
#include "sha256.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

struct calibration {
	struct calibration_pass pass; /* its stream: through the compressed model */
	struct calibration_stream reference; /* the same through the original; empty when not needed */
	struct calibration_journal *journal;
};

/* ---- compressing ---- */

/* What a shifted weight adds to w x: bias - w shift, w being what was stored.  The bias is q's no more. */
static void take_offset(const struct recipe_step *step, const float *w, const float *shift,
                        struct quant_result *q, float **offset)
{
	for (size_t i = 0; i < step->m; i++) {
		double sum = (double)q->bias[i];
		for (size_t j = 0; j < step->n; j++)
			sum -= (double)w[i * step->n + j] * (double)shift[j];
		q->bias[i] = (float)sum;
	}
	*offset = q->bias;
	q->bias = NULL;
}

/*
 * Run a step with a weight in memory (NULL: from the source), hand the result on, and put what was
 * stored into w.  shift: [n] of its inputs, then *offset becomes [m]; or NULL.
 */
static pith_status compress_shifted(struct calibration *c, const struct recipe_step *step, float *w,
                                    const struct calibration_inputs *inputs, const float *shift,
                                    float **offset, struct pith_error *err)
{
	if (c->pass.run->begin)
		c->pass.run->begin(c->pass.run->ctx, step);
	struct quant_job job = pass_job(&c->pass, step);
	struct quant_result q;
	job.weights = w;
	job.inputs = inputs;
	job.shift = shift;
	PITH_TRY(recipe_step_run(step, &job, &q, err));
	pith_status status = c->pass.run->emit(c->pass.run->ctx, step, &q, err);
	if (status == PITH_OK)
		status = calibration_journal_add(c->journal, (uint64_t)(step - c->pass.run->recipe->step),
		                                 step->m, step->n, &q, err);
	if (status == PITH_OK && w)
		status = quant_result_unpack(&q, step->m, step->n, w, err);
	if (status == PITH_OK && shift)
		take_offset(step, w, shift, &q, offset);
	quant_result_free(&q);
	return status;
}

static pith_status compress(struct calibration *c, const struct recipe_step *step, float *w,
                            const struct calibration_inputs *inputs, struct pith_error *err)
{
	return compress_shifted(c, step, w, inputs, NULL, NULL, err);
}

static pith_status compress_site(struct calibration *c, enum fold_site site, struct pith_error *err)
{
	struct calibration_stats *stats;
	enum pass_role norm = pass_sites[site].norm;
	if (norm != PASS_ROLE_COUNT)
		PITH_TRY(compress(c, c->pass.step[norm], c->pass.w[norm], NULL, err));
	PITH_TRY(pass_gather(&c->pass, &c->pass.x, site, &stats, err));
	pith_status status = PITH_OK;
	for (enum pass_role r = pass_sites[site].first; r <= pass_sites[site].last && status == PITH_OK; r++)
		status = compress_shifted(c, c->pass.step[r], c->pass.w[r],
		                          calibration_stats_inputs(stats), c->pass.shift[site],
		                          &c->pass.offset[r], err);
	calibration_stats_free(stats);
	return status;
}

/* ---- blocks ---- */

static pith_status run_block(struct calibration *c, struct pith_error *err)
{
	if (c->reference.data)
		PITH_TRY(calibration_fold_block(&c->pass, &c->reference, err));
	for (unsigned site = 0; site < PASS_SITE_COUNT; site++) {
		PITH_TRY(compress_site(c, (enum fold_site)site, err));
		if (site == FOLD_ATTENTION_OUT || site == FOLD_FFN_OUT)
			PITH_TRY(pass_advance(&c->pass, &c->pass.x, (enum fold_site)site, err));
	}
	return PITH_OK;
}

static pith_status run_blocks(struct calibration *c, size_t first, struct pith_error *err)
{
	for (size_t i = first; i < c->pass.run->plan->block_count; i++) {
		pith_status status = pass_load_block(&c->pass, i, err);
		if (status == PITH_OK)
			status = run_block(c, err);
		pass_free_block(&c->pass);
		PITH_TRY(status);
		PITH_TRY(calibration_journal_commit(c->journal, &c->pass.x, &c->reference, err));
	}
	return PITH_OK;
}

/* ---- embedding and head ---- */

static pith_status compress_embedding(struct calibration *c, const struct recipe_step *step,
                                      float *table, struct pith_error *err)
{
	bool tied = import_plan_u64(c->pass.run->plan, "head_tied") != 0;
	struct calibration_stats *stats;
	if (c->pass.run->begin)
		c->pass.run->begin(c->pass.run->ctx, step);
	if (tied && step->scheme && scheme_needs_inputs(step->scheme))
		PITH_TRY(pass_gather_tied_head(&c->pass, table, &stats, err));
	else
		PITH_TRY(calibration_stats_identity(step->n, &stats, err));
	if (c->reference.data)
		pass_embed(&c->pass, table, c->reference.data);
	pith_status status = compress(c, step, table, calibration_stats_inputs(stats), err);
	calibration_stats_free(stats);
	if (status == PITH_OK)
		pass_embed(&c->pass, table, c->pass.x.data);
	return status;
}

static pith_status run_embedding(struct calibration *c, struct pith_error *err)
{
	const struct recipe_step *step = pass_find_step(&c->pass, "model.embed_tokens.weight");
	float *table;
	if (!step)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no embedding");
	struct quant_job job = pass_job(&c->pass, step);
	PITH_TRY(quant_job_load(&job, &table, err));
	pith_status status = compress_embedding(c, step, table, err);
	free(table);
	return status;
}

static pith_status run_head(struct calibration *c, struct pith_error *err)
{
	const struct recipe_step *norm = pass_find_step(&c->pass, "model.norm.weight");
	const struct recipe_step *head = pass_find_step(&c->pass, "lm_head.weight");
	struct calibration_stats *stats = NULL;
	if (norm)
		PITH_TRY(compress(c, norm, NULL, NULL, err));
	if (!head)
		return PITH_OK;
	pith_status status = pass_gather_head(&c->pass, &c->pass.x, &stats, err);
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
	const uint64_t number[3] = {c->pass.text.sample_count, c->pass.text.length,
	                            c->pass.run->options->calib_seed};
	sha256_begin(&h);
	sha256_add(&h, c->pass.run->fingerprint, sizeof(c->pass.run->fingerprint));
	sha256_add(&h, c->pass.text.digest, sizeof(c->pass.text.digest));
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
		    step < c->pass.run->recipe->step_count
		        ? c->pass.run->emit(c->pass.run->ctx, &c->pass.run->recipe->step[step], &q, err)
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
	PITH_TRY(calibration_journal_open(c->pass.run->target, key, c->pass.run->options->resume,
	                                  &c->journal, stages, err));
	PITH_TRY(replay(c, err));
	return *stages > 0 ? calibration_journal_load(c->journal, &c->pass.x, &c->reference, err)
	                   : PITH_OK;
}

/* ---- the whole ---- */

static pith_status calibrate(struct calibration *c, struct pith_error *err)
{
	const struct calibration_run *run = c->pass.run;
	if (recipe_folds(run->recipe))
		PITH_TRY(calibration_stream_new(c->pass.tokens, c->pass.shape.hidden,
		                                calibration_stream_limit(run), run->target, &c->reference,
		                                err));
	uint64_t stages;
	PITH_TRY(open_journal(c, &stages, err));
	if (stages == 0) {
		PITH_TRY(run_embedding(c, err));
		PITH_TRY(calibration_journal_commit(c->journal, &c->pass.x, &c->reference, err));
	}
	PITH_TRY(run_blocks(c, stages > 0 ? (size_t)stages - 1 : 0, err));
	return run_head(c, err);
}

pith_status calibrate_model(const struct calibration_run *run, struct calibration_facts *facts,
                            struct pith_error *err)
{
	struct calibration c = {.journal = NULL};
	pith_status status = pass_open(run, &c.pass, err);
	if (status == PITH_OK)
		status = calibrate(&c, err);
	memcpy(facts->digest, c.pass.text.digest, sizeof(facts->digest));
	facts->sample_count = c.pass.text.sample_count;
	facts->length = c.pass.text.length;
	facts->token_count = c.pass.text.token_count;
	facts->seed = run->options->calib_seed;
	if (status == PITH_OK)
		calibration_journal_finish(c.journal);
	else
		calibration_journal_close(c.journal);
	pass_close(&c.pass);
	calibration_stream_free(&c.reference);
	return status;
}
