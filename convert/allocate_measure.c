/*
 * One pass of the calibration text through the uncompressed model that measures, for every weight,
 * the output error of every candidate and what compressing that weight alone does to the
 * predictions.
 *
 * For the second, each weight has a stream of its own: the hidden states of some samples, which
 * leave the model's own where that weight is used.  All streams advance with the pass, so that
 * every block is read once.  Both measurements are on the model as it is: how errors of earlier
 * weights act on later ones is not known before the choice.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "allocate.h"
#include "calibrate_cost.h"
#include "calibrate_pass.h"

#include "bytes.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#define TASK_TOKENS 64u

struct measure {
	struct calibration_pass pass;
	const struct allocate_candidates *candidates;
	struct allocate_weight *weight;
	size_t count;
	void (*done)(void *ctx, const struct recipe_step *step);
	size_t probe_samples;
	struct calibration_stream probes; /* [count, probe_samples * length, hidden] */
	size_t started;                   /* streams in use, in the order of 'weight' */
	/*
	 * [vocab, hidden]: the head, and what the probe made of it; NULL for a probe that did not
	 * touch it
	 */
	float *head, *probe_head;
	size_t vocab, head_weight; /* whose probe that is */
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to measure");
}

/* The pass over the samples that probes have; its stream is a prefix of the pass's. */
static struct calibration_pass probe_pass(const struct measure *m)
{
	struct calibration_pass p = m->pass;
	p.text.sample_count = m->probe_samples;
	p.tokens = m->probe_samples * p.text.length;
	if (p.batch_samples > m->probe_samples)
		p.batch_samples = m->probe_samples;
	return p;
}

static struct calibration_stream probe_stream(const struct measure *m, size_t weight)
{
	size_t floats = m->probe_samples * m->pass.text.length * m->pass.shape.hidden;
	return (struct calibration_stream){.data = m->probes.data + weight * floats,
	                                   .nbytes = floats * sizeof(float)};
}

/* ---- candidates ---- */

/* Some rows of w, evenly spread.  out: [rows, n]. */
static void take_rows(const float *w, size_t m, size_t n, size_t rows, float *out)
{
	for (size_t i = 0; i < rows; i++)
		memcpy(out + i * n, w + i * m / rows * n, n * sizeof(*w));
}

static pith_status measure_choice(const struct measure *m, const struct quant_job *job,
                                  struct allocate_weight *w, struct allocate_choice *c,
                                  struct pith_error *err)
{
	struct quant_result q;
	PITH_TRY(scheme_run(&m->candidates->scheme[c->candidate], job, &q, err));
	c->error = q.proxy2;
	if (c->candidate == m->candidates->probe)
		w->probe_error = c->error;
	quant_result_free(&q);
	return PITH_OK;
}

static pith_status measure_choices(const struct measure *m, const struct quant_job *whole,
                                   struct allocate_weight *w, struct pith_error *err)
{
	struct quant_job job = *whole;
	float *rows = NULL;
	if (job.m > ALLOCATE_MEASURE_ROWS) {
		job.m = ALLOCATE_MEASURE_ROWS;
		rows = malloc(job.m * job.n * sizeof(*rows));
		if (!rows)
			return no_memory(err);
		take_rows(whole->weights, whole->m, job.n, job.m, rows);
		job.weights = rows;
	}
	pith_status status = PITH_OK;
	for (size_t i = 0; i < w->choice_count && status == PITH_OK; i++)
		status = measure_choice(m, &job, w, &w->choice[i], err);
	free(rows);
	return status;
}

/* ---- one weight ---- */

/* All candidates, then the weight as the probe stores it, in *compressed: free it. */
static pith_status measure_weight(struct measure *m, struct allocate_weight *w, const float *values,
                                  const struct calibration_inputs *inputs, float **compressed,
                                  struct pith_error *err)
{
	struct quant_result q;
	struct quant_job job = pass_job(&m->pass, w->step);
	job.weights = values;
	job.inputs = inputs;
	*compressed = NULL;
	if (m->pass.run->begin)
		m->pass.run->begin(m->pass.run->ctx, w->step);
	PITH_TRY(measure_choices(m, &job, w, err));
	PITH_TRY(scheme_run(&m->candidates->scheme[m->candidates->probe], &job, &q, err));
	float *out = malloc(job.m * job.n * sizeof(*out));
	pith_status status = out ? quant_result_unpack(&q, job.m, job.n, out, err) : no_memory(err);
	quant_result_free(&q);
	if (status != PITH_OK) {
		free(out);
		return status;
	}
	*compressed = out;
	if (m->done)
		m->done(m->pass.run->ctx, w->step);
	return PITH_OK;
}

static struct allocate_weight *find_weight(const struct measure *m, const struct recipe_step *step)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->weight[i].step == step)
			return &m->weight[i];
	return NULL;
}

/* ---- blocks ---- */

/* Start the stream of the weight of 'role': the model's up to here, then this weight's own. */
static pith_status start_probe(struct measure *m, size_t weight, enum pass_role role,
                               enum fold_site half, float *compressed, struct pith_error *err)
{
	struct calibration_stream s = probe_stream(m, weight);
	struct calibration_pass p = probe_pass(m);
	memcpy(s.data, m->pass.x.data, s.nbytes);
	p.w[role] = compressed;
	PITH_TRY(pass_advance(&p, &s, half, err));
	if (half == FOLD_FFN_OUT)
		return PITH_OK;
	return pass_advance(&p, &s, FOLD_FFN_OUT, err);
}

/* The linears of a site.  half: the part of the block that it is in, by the site that ends it. */
static pith_status measure_site(struct measure *m, enum fold_site site, enum fold_site half,
                                struct pith_error *err)
{
	struct calibration_stats *stats;
	PITH_TRY(pass_gather(&m->pass, &m->pass.x, site, &stats, err));
	pith_status status = PITH_OK;
	for (enum pass_role r = pass_sites[site].first; r <= pass_sites[site].last && status == PITH_OK;
	     r++) {
		struct allocate_weight *w = find_weight(m, m->pass.step[r]);
		float *compressed;
		if (!w)
			continue;
		status = measure_weight(m, w, m->pass.w[r], calibration_stats_inputs(stats), &compressed,
		                        err);
		if (status == PITH_OK)
			status = start_probe(m, (size_t)(w - m->weight), r, half, compressed, err);
		free(compressed);
	}
	calibration_stats_free(stats);
	return status;
}

/* Streams of earlier blocks go through this one. */
static pith_status advance_probes(struct measure *m, size_t count, struct pith_error *err)
{
	struct calibration_pass p = probe_pass(m);
	for (size_t i = 0; i < count; i++) {
		struct calibration_stream s = probe_stream(m, i);
		PITH_TRY(pass_advance(&p, &s, FOLD_ATTENTION_OUT, err));
		PITH_TRY(pass_advance(&p, &s, FOLD_FFN_OUT, err));
	}
	return PITH_OK;
}

static pith_status measure_block(struct measure *m, struct pith_error *err)
{
	PITH_TRY(advance_probes(m, m->started, err));
	for (unsigned site = 0; site < PASS_SITE_COUNT; site++) {
		enum fold_site half = site <= FOLD_ATTENTION_OUT ? FOLD_ATTENTION_OUT : FOLD_FFN_OUT;
		PITH_TRY(measure_site(m, (enum fold_site)site, half, err));
		if (site == (unsigned)half)
			PITH_TRY(pass_advance(&m->pass, &m->pass.x, half, err));
	}
	return PITH_OK;
}

/* The weights are in forward order: those of blocks up to this one have streams afterwards. */
static pith_status measure_blocks(struct measure *m, struct pith_error *err)
{
	for (size_t i = 0; i < m->pass.run->plan->block_count; i++) {
		pith_status status = pass_load_block(&m->pass, i, err);
		if (status == PITH_OK)
			status = measure_block(m, err);
		for (size_t r = 0; r < PASS_ROLE_COUNT && status == PITH_OK; r++) {
			struct allocate_weight *w = find_weight(m, m->pass.step[r]);
			size_t behind = w ? (size_t)(w - m->weight) + 1 : 0;
			m->started = behind > m->started ? behind : m->started;
		}
		pass_free_block(&m->pass);
		PITH_TRY(status);
	}
	return PITH_OK;
}

/* ---- embedding and head ---- */

static pith_status load_table(const struct measure *m, const struct recipe_step *step, float **w,
                              struct pith_error *err)
{
	struct quant_job job = pass_job(&m->pass, step);
	return quant_job_load(&job, w, err);
}

static pith_status probe_embedding(struct measure *m, struct allocate_weight *w,
                                   const float *table, bool tied, struct pith_error *err)
{
	struct calibration_stats *stats;
	float *compressed;
	if (tied)
		PITH_TRY(pass_gather_tied_head(&m->pass, table, &stats, err));
	else
		PITH_TRY(calibration_stats_identity(w->step->n, &stats, err));
	pith_status status =
	    measure_weight(m, w, table, calibration_stats_inputs(stats), &compressed, err);
	calibration_stats_free(stats);
	PITH_TRY(status);
	struct calibration_pass p = probe_pass(m);
	pass_embed(&p, compressed, probe_stream(m, 0).data);
	m->started = 1;
	if (tied) {
		m->probe_head = compressed;
		m->head_weight = 0;
	} else {
		free(compressed);
	}
	return PITH_OK;
}

static pith_status measure_embedding(struct measure *m, struct pith_error *err)
{
	bool tied = pass_find_step(&m->pass, "lm_head.weight") == NULL;
	const struct recipe_step *step = pass_find_step(&m->pass, "model.embed_tokens.weight");
	float *table;
	if (!step)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no embedding");
	struct allocate_weight *w = find_weight(m, step);
	PITH_TRY(load_table(m, step, &table, err));
	pith_status status = w ? probe_embedding(m, w, table, tied, err) : PITH_OK;
	if (status == PITH_OK)
		pass_embed(&m->pass, table, m->pass.x.data);
	m->vocab = step->m;
	if (tied)
		m->head = table;
	else
		free(table);
	return status;
}

static pith_status measure_head(struct measure *m, struct pith_error *err)
{
	const struct recipe_step *step = pass_find_step(&m->pass, "lm_head.weight");
	struct calibration_stats *stats;
	if (!step)
		return PITH_OK;
	PITH_TRY(load_table(m, step, &m->head, err));
	m->vocab = step->m;
	struct allocate_weight *w = find_weight(m, step);
	if (!w)
		return PITH_OK;
	PITH_TRY(pass_gather_head(&m->pass, &m->pass.x, &stats, err));
	pith_status status =
	    measure_weight(m, w, m->head, calibration_stats_inputs(stats), &m->probe_head, err);
	calibration_stats_free(stats);
	m->head_weight = (size_t)(w - m->weight);
	struct calibration_stream s = probe_stream(m, m->head_weight);
	memcpy(s.data, m->pass.x.data, s.nbytes);
	m->started = m->head_weight + 1;
	return status;
}

/* ---- divergence ---- */

struct divergence_work {
	const struct measure *m;
	const float *norm; /* [hidden] */
	size_t tokens;
	double *sum;       /* [tasks, count] */
	bool *no_memory;   /* [tasks] */
};

/* logits: [rows, vocab], turned into logarithms of probabilities. */
static void log_probabilities(const struct divergence_work *v, const float *x, const float *head,
                              size_t rows, float *normed, float *logits)
{
	const struct measure *m = v->m;
	size_t n = m->pass.shape.hidden;
	calibration_norm(x, v->norm, m->pass.shape.eps, rows, n, normed, 1);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)m->vocab, (int)n, 1.0f,
	            normed, (int)n, head, (int)n, 0.0f, logits, (int)m->vocab);
	for (size_t i = 0; i < rows; i++) {
		float *row = logits + i * m->vocab, most = row[0];
		double sum = 0;
		for (size_t j = 1; j < m->vocab; j++)
			most = row[j] > most ? row[j] : most;
		for (size_t j = 0; j < m->vocab; j++)
			sum += (double)expf(row[j] - most);
		float shift = most + (float)log(sum);
		for (size_t j = 0; j < m->vocab; j++)
			row[j] -= shift;
	}
}

/* Sum over rows of KL(p || q) of logarithms of probabilities. */
static double divergence(const float *p, const float *q, size_t count)
{
	double sum = 0;
	for (size_t j = 0; j < count; j++)
		sum += (double)(expf(p[j]) * (p[j] - q[j]));
	return sum;
}

static void divergence_task(void *ctx, size_t task)
{
	struct divergence_work *v = ctx;
	const struct measure *m = v->m;
	size_t n = m->pass.shape.hidden, first = task * TASK_TOKENS;
	size_t rows = v->tokens - first < TASK_TOKENS ? v->tokens - first : TASK_TOKENS;
	float *normed = malloc(rows * (n + 2 * m->vocab) * sizeof(*normed));
	v->no_memory[task] = !normed;
	if (!normed)
		return;
	float *p = normed + rows * n, *q = p + rows * m->vocab;
	log_probabilities(v, m->pass.x.data + first * n, m->head, rows, normed, p);
	for (size_t i = 0; i < m->count; i++) {
		bool own = m->probe_head != NULL && i == m->head_weight;
		log_probabilities(v, probe_stream(m, i).data + first * n, own ? m->probe_head : m->head,
		                  rows, normed, q);
		v->sum[task * m->count + i] = divergence(p, q, rows * m->vocab);
	}
	free(normed);
}

static pith_status sum_divergence(const struct divergence_work *v, size_t tasks,
                                  struct pith_error *err)
{
	const struct measure *m = v->m;
	for (size_t t = 0; t < tasks; t++) {
		if (v->no_memory[t])
			return no_memory(err);
		for (size_t i = 0; i < m->count; i++)
			m->weight[i].probe_loss += v->sum[t * m->count + i] / (double)v->tokens;
	}
	return PITH_OK;
}

static pith_status measure_divergence(struct measure *m, struct pith_error *err)
{
	const struct recipe_step *step = pass_find_step(&m->pass, "model.norm.weight");
	struct divergence_work v = {.m = m, .tokens = m->probe_samples * m->pass.text.length};
	size_t tasks = (v.tokens + TASK_TOKENS - 1) / TASK_TOKENS;
	float *norm;
	if (!step)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "there is no model.norm");
	PITH_TRY(load_table(m, step, &norm, err));
	v.norm = norm;
	v.sum = calloc(tasks * m->count + 1, sizeof(*v.sum));
	v.no_memory = calloc(tasks, sizeof(*v.no_memory));
	pith_status status = v.sum && v.no_memory ? PITH_OK : no_memory(err);
	if (status == PITH_OK) {
		quant_rows(m->pass.threads, tasks, divergence_task, &v);
		status = sum_divergence(&v, tasks, err);
	}
	free(norm);
	free(v.sum);
	free(v.no_memory);
	return status;
}

/* ---- the whole ---- */

static pith_status measure_all(struct measure *m, struct pith_error *err)
{
	const struct calibration_run *run = m->pass.run;
	m->probe_samples = ALLOCATE_PROBE_TOKENS / m->pass.text.length;
	if (m->probe_samples == 0)
		m->probe_samples = 1;
	if (m->probe_samples > m->pass.text.sample_count)
		m->probe_samples = m->pass.text.sample_count;
	PITH_TRY(calibration_stream_new(m->count * m->probe_samples * m->pass.text.length,
	                                m->pass.shape.hidden, calibration_stream_limit(run),
	                                run->target, &m->probes, err));
	PITH_TRY(measure_embedding(m, err));
	PITH_TRY(measure_blocks(m, err));
	PITH_TRY(measure_head(m, err));
	return measure_divergence(m, err);
}

/* The measured loss of the probe, in proportion to the error. */
static void set_losses(struct allocate_weight *w)
{
	double factor = w->probe_error > 0 ? w->probe_loss / w->probe_error : 0;
	for (size_t i = 0; i < w->choice_count; i++)
		w->choice[i].loss = factor > 0 ? factor * w->choice[i].error : 0;
}

pith_status allocate_measure(const struct calibration_run *run,
                             const struct allocate_candidates *candidates,
                             struct allocate_weight *weight, size_t count,
                             void (*done)(void *ctx, const struct recipe_step *step),
                             struct pith_error *err)
{
	struct measure m = {.candidates = candidates, .weight = weight, .count = count, .done = done};
	pith_status status = pass_open(run, &m.pass, err);
	if (status == PITH_OK)
		status = measure_all(&m, err);
	for (size_t i = 0; i < count && status == PITH_OK; i++)
		set_losses(&weight[i]);
	calibration_stream_free(&m.probes);
	free(m.head);
	free(m.probe_head);
	pass_close(&m.pass);
	return status;
}
