/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_fold.h"

#include "bytes.h"
#include "calibrate_cost.h"

#include <stdlib.h>

/*
 * Attention is judged on whole texts, cut to a length that keeps memory small: the first tokens
 * do not depend on later ones.  The length is AutoAWQ's.
 */
#define FOLD_TEXT_COUNT 4u
#define FOLD_TEXT_LENGTH 512u
/* They go through the buffers of a batch, which is cut to whole samples: more than half of it. */
_Static_assert(2 * FOLD_TEXT_COUNT * FOLD_TEXT_LENGTH <= CALIBRATION_BATCH_TOKENS, "a batch has room for the texts");

struct block_fold {
	struct calibration_pass *pass;
	struct calibration_stats *stats[PASS_SITE_COUNT]; /* NULL: nothing to fold */
	float *text; /* [text_count * text_length, hidden] inputs of the attention, or NULL */
	size_t text_count, text_length;
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to fold");
}

/* ---- what the block makes of outputs ---- */

/* y: q, k, v; out: what the attention adds to the stream. */
static pith_status make_attention(void *ctx, float *const *y, size_t rows, float *out,
                                  struct pith_error *err)
{
	const struct block_fold *f = ctx;
	struct calibration_pass *p = f->pass;
	PITH_TRY(calibration_attention(&p->shape, f->text_count, f->text_length, y[0], y[1], y[2],
	                               p->context, p->threads, err));
	calibration_linear(p->context, p->w[PASS_O], rows, p->step[PASS_O]->m, p->step[PASS_O]->n,
	                   false, out, p->threads);
	return PITH_OK;
}

/* y: gate, up; out: what the ffn adds to the stream. */
static pith_status make_ffn(void *ctx, float *const *y, size_t rows, float *out,
                            struct pith_error *err)
{
	const struct calibration_pass *p = ((const struct block_fold *)ctx)->pass;
	(void)err;
	calibration_gate(y[0], y[1], rows * p->step[PASS_DOWN]->n, p->threads);
	calibration_linear(y[0], p->w[PASS_DOWN], rows, p->step[PASS_DOWN]->m, p->step[PASS_DOWN]->n,
	                   false, out, p->threads);
	return PITH_OK;
}

/* ---- one site ---- */

/* Which row of the producer makes column c: heads that share a value head share rows. */
static void producer_rows(const struct calibration_pass *p, enum fold_site site, size_t n,
                          uint32_t *row)
{
	size_t d = p->shape.head_dim, share = p->shape.head_count / p->shape.kv_head_count;
	for (size_t j = 0; j < n; j++)
		row[j] = (uint32_t)(site == FOLD_ATTENTION_OUT ? j / d / share * d + j % d : j);
}

static struct fold_group group_of(struct block_fold *f, enum fold_site site)
{
	struct calibration_pass *p = f->pass;
	const struct calibration_inputs *inputs = calibration_stats_inputs(f->stats[site]);
	enum pass_role norm = pass_sites[site].norm, producer = pass_sites[site].producer;
	struct fold_group g = {.site = site, .n = inputs->n, .inputs = inputs, .ctx = f,
	                       .sample = inputs->sample, .sample_count = inputs->sample_count,
	                       .made_n = p->step[pass_sites[site].last]->m, .threads = p->threads};
	if (norm != PASS_ROLE_COUNT) {
		g.norm = p->w[norm];
		g.made_n = p->shape.hidden;
		g.make = site == FOLD_ATTENTION_IN ? make_attention : make_ffn;
	}
	if (site == FOLD_ATTENTION_IN) {
		g.sample = f->text;
		g.sample_count = f->text_count * f->text_length;
	}
	if (producer != PASS_ROLE_COUNT) {
		g.producer = p->w[producer];
		g.producer_m = p->step[producer]->m;
		g.producer_n = p->step[producer]->n;
	}
	for (enum pass_role r = pass_sites[site].first; r <= pass_sites[site].last; r++) {
		g.linear[g.linear_count].name = p->step[r]->want->name;
		g.linear[g.linear_count].w = p->w[r];
		g.linear[g.linear_count].m = p->step[r]->m;
		g.linear[g.linear_count++].scheme = p->step[r]->scheme;
	}
	return g;
}

static pith_status fold_site(struct block_fold *f, enum fold_site site, struct pith_error *err)
{
	struct fold_group g = group_of(f, site);
	uint32_t *row = malloc(g.n * sizeof(*row));
	float *shift = f->pass->shift[site] = calloc(g.n, sizeof(*shift));
	pith_status status = row && shift ? PITH_OK : no_memory(err);
	if (status == PITH_OK)
		producer_rows(f->pass, site, g.n, row);
	g.producer_row = row;
	g.shift = shift;
	for (const struct scheme_link *link = g.linear[0].scheme->link;
	     status == PITH_OK && link->method && link->method->role == QUANT_FOLD; link++)
		status = link->method->fold(link, &g, err);
	bool shifted = false;
	for (size_t j = 0; j < g.n && shift; j++)
		shifted = shifted || shift[j] != 0;
	if (!shifted) {
		free(shift);
		f->pass->shift[site] = NULL;
	}
	free(row);
	return status;
}

/* ---- the block ---- */

static pith_status gather_texts(struct block_fold *f, const struct calibration_stream *reference,
                                struct pith_error *err)
{
	const struct calibration_pass *p = f->pass;
	size_t length = p->text.length, count = p->text.sample_count, hidden = p->shape.hidden;
	f->text_length = length < FOLD_TEXT_LENGTH ? length : FOLD_TEXT_LENGTH;
	f->text_count = count < FOLD_TEXT_COUNT ? count : FOLD_TEXT_COUNT;
	f->text = malloc(f->text_count * f->text_length * hidden * sizeof(*f->text));
	if (!f->text)
		return no_memory(err);
	for (size_t i = 0; i < f->text_count; i++)
		calibration_norm(reference->data + count * i / f->text_count * length * hidden,
		                 p->w[PASS_ATTENTION_NORM], p->shape.eps, f->text_length, hidden,
		                 f->text + i * f->text_length * hidden, p->threads);
	return PITH_OK;
}

static pith_status gather(struct block_fold *f, const struct calibration_stream *reference,
                          enum fold_site site, struct pith_error *err)
{
	const struct scheme *s = f->pass->step[pass_sites[site].first]->scheme;
	if (!s || !scheme_folds(s))
		return PITH_OK;
	if (site == FOLD_ATTENTION_IN)
		PITH_TRY(gather_texts(f, reference, err));
	return pass_gather(f->pass, reference, site, &f->stats[site], err);
}

pith_status calibration_fold_block(struct calibration_pass *p,
                                   const struct calibration_stream *reference,
                                   struct pith_error *err)
{
	struct block_fold f = {.pass = p};
	pith_status status = PITH_OK;
	for (unsigned site = 0; site < PASS_SITE_COUNT && status == PITH_OK; site++) {
		status = gather(&f, reference, (enum fold_site)site, err);
		if (status == PITH_OK && (site == FOLD_ATTENTION_OUT || site == FOLD_FFN_OUT))
			status = pass_advance(p, reference, (enum fold_site)site, err);
	}
	for (unsigned site = 0; site < PASS_SITE_COUNT && status == PITH_OK; site++)
		if (f.stats[site])
			status = fold_site(&f, (enum fold_site)site, err);
	for (unsigned site = 0; site < PASS_SITE_COUNT; site++)
		calibration_stats_free(f.stats[site]);
	free(f.text);
	return status;
}

/* The statistics of all sites, the texts, and the wider of the searches. */
uint64_t calibration_fold_nbytes(const struct calibration_shape *s, uint64_t length, uint64_t count)
{
	uint64_t d = s->hidden, q = s->head_count * s->head_dim, kv = s->kv_head_count * s->head_dim;
	uint64_t texts = (length < FOLD_TEXT_LENGTH ? length : FOLD_TEXT_LENGTH) *
	                 (count < FOLD_TEXT_COUNT ? count : FOLD_TEXT_COUNT);
	uint64_t samples = length * count < CALIBRATION_MAX_SAMPLE ? length * count
	                                                           : CALIBRATION_MAX_SAMPLE;
	/* inputs, outputs, what is made of them twice; a weight */
	uint64_t attention = texts * (d + q + 2 * kv + 2 * d) + (q > kv ? q : kv) * d;
	uint64_t ffn = samples * (d + 2 * s->ffn + 2 * d) + s->ffn * d;
	uint64_t stats = 2 * calibration_stats_nbytes(d) + calibration_stats_nbytes(q) +
	                 calibration_stats_nbytes(s->ffn);
	return stats + 4 * (texts * d + (attention > ffn ? attention : ffn));
}
