/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "segment_lane.h"

#include "parallel.h"

#include <stdlib.h>

#define LEAST_BATCH 64u /* rows of a step */
#define SUM_WORK 1u     /* nanoseconds a token of the vocabulary takes */
#define KEY_WORK 4u     /* nanoseconds a column of the keys of a stream takes */

/* ---- memory ---- */

static size_t batch_count_of(const struct segment_lane *lane)
{
	return lane->stream_count > LEAST_BATCH ? lane->stream_count : LEAST_BATCH;
}

static struct pith_session_options session_options(const struct segment_lane *lane)
{
	return (struct pith_session_options){
		.sequence_count = lane->stream_count,
		.context_length = lane->window,
		.batch_count = batch_count_of(lane),
		.logit_count = batch_count_of(lane),
		.executor = lane->executor,
	};
}

/* Rows that are worked on at once. */
static size_t scratch_count(const struct segment_lane *lane)
{
	return lane->executor != NULL ? batch_count_of(lane) : 1;
}

/* Of a row that is worked on: frequencies, prefix sums and, with recall, what is near. */
static size_t scratch_words(const struct segment_lane *lane)
{
	return (1 + segment_lane_kinds(lane)) * (lane->coder->lm->vocab_count + 1) +
	       (lane->has_recall ? recall_scratch_words(lane->coder->lm->hidden_count) : 0);
}

/* False: more than there can be. */
static bool table_nbytes(const struct segment_lane *lane, bool decodes, size_t *scratch, size_t *sums)
{
	size_t row = (lane->coder->lm->vocab_count + 1) * sizeof(uint32_t);
	return pith_mul_size(scratch_count(lane), scratch_words(lane) * sizeof(uint32_t), scratch) &&
	       pith_mul_size(decodes ? lane->stream_count : 0, row * segment_lane_kinds(lane), sums) && *sums < SIZE_MAX / 4 &&
	       *scratch < SIZE_MAX / 4;
}

size_t segment_lane_nbytes(const struct segment_lane *lane, bool decodes)
{
	const struct text_lm *lm = lane->coder->lm;
	struct pith_session_options options = session_options(lane);
	size_t nbytes = lm->session_nbytes(lm->ctx, &options), scratch, sums, recall = 0;
	if (lane->has_recall) {
		recall = recall_nbytes(lane->stream_count, lm->hidden_count, lane->token_count, batch_count_of(lane));
		if (recall == 0 || recall > SIZE_MAX / 4)
			return 0;
	}
	if (nbytes == 0 || nbytes > SIZE_MAX / 4 || !table_nbytes(lane, decodes, &scratch, &sums))
		return 0;
	return nbytes + scratch + sums + recall;
}

pith_status segment_lane_open(struct segment_lane *lane, bool decodes, struct pith_error *err)
{
	const struct text_lm *lm = lane->coder->lm;
	struct pith_session_options options = session_options(lane);
	size_t scratch, sums;
	bool fits = table_nbytes(lane, decodes, &scratch, &sums);
	lane->batch_count = batch_count_of(lane);
	lane->step = 1;
	lane->rows = calloc(lane->batch_count, sizeof(*lane->rows));
	lane->wanted = calloc(lane->batch_count, sizeof(*lane->wanted));
	lane->good = calloc(lane->batch_count, sizeof(*lane->good));
	lane->scratch = fits ? malloc(scratch) : NULL;
	lane->sums = fits && decodes ? malloc(sums) : NULL;
	if (lane->rows == NULL || lane->wanted == NULL || lane->good == NULL || lane->scratch == NULL ||
	    (decodes && lane->sums == NULL))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	if (lane->has_recall)
		PITH_TRY(recall_open(&lane->recall, lane->coder->recall, lane->stream_count, lm->hidden_count,
		                     lane->token_count, lane->batch_count, err));
	return lm->session_new(lm->ctx, &options, &lane->session, err);
}

void segment_lane_close(struct segment_lane *lane)
{
	if (lane->session != NULL)
		lane->coder->lm->session_free(lane->session);
	free(lane->rows);
	free(lane->wanted);
	free(lane->good);
	free(lane->scratch);
	free(lane->sums);
	recall_close(&lane->recall);
}

/* ---- one step of the model ---- */

/* Keys of the states of this step, stream by stream. */
static void add_keys(void *arg, size_t begin, size_t end)
{
	struct segment_lane *lane = arg;
	size_t stride;
	const float *hidden = lane->coder->lm->session_hidden(lane->session, &stride);
	for (size_t stream = begin; stream < end; stream++)
		for (size_t k = 0; k < lane->wanted_count; k++)
			if (lane->wanted[k].stream == stream)
				recall_add(&lane->recall, stream, lane->wanted[k].t, hidden + k * stride);
}

/* sums: [V + 1]; the decisions go behind the model's. */
static void recall_row(const struct segment_lane *lane, const struct wanted *wanted, uint32_t *scratch,
                       uint32_t *sums)
{
	const struct vocab_tree *tree = &lane->coder->tree;
	recall_sums(&lane->recall, wanted->stream, wanted->t, tree, lane->streams[wanted->stream].ids, scratch, sums);
	if (wanted->path != NULL)
		vocab_tree_path(tree, sums, wanted->id, wanted->path + vocab_tree_depth(tree, wanted->id));
}

static void sum_rows(void *arg, size_t begin, size_t end)
{
	struct segment_lane *lane = arg;
	const struct vocab_tree *tree = &lane->coder->tree;
	size_t stride = lane->coder->lm->logit_stride(lane->session), row = tree->count + 1;
	size_t kinds = segment_lane_kinds(lane);
	uint32_t *scratch = lane->scratch + begin * scratch_words(lane);
	for (size_t k = begin; k < end; k++) {
		const struct wanted *wanted = &lane->wanted[k];
		uint32_t *sums = wanted->path == NULL ? lane->sums + wanted->stream * kinds * row : scratch + row;
		lane->good[k] = lane->coder->frequencies(lane->logits + k * stride, tree->count, tree->order,
		                                         scratch, sums);
		if (!lane->good[k])
			continue;
		if (wanted->path != NULL)
			vocab_tree_path(tree, sums, wanted->id, wanted->path);
		if (lane->has_recall)
			recall_row(lane, wanted, scratch + (1 + kinds) * row, sums + row);
	}
}

pith_status segment_lane_flush(struct segment_lane *lane, struct pith_error *err)
{
	const struct text_lm *lm = lane->coder->lm;
	if (lane->row_count == 0)
		return PITH_OK;
	PITH_TRY(lm->session_step(lane->session, lane->rows, lane->row_count, &lane->logits, err));
	if (lane->has_recall)
		pith_parallel(lane->executor, lane->stream_count, KEY_WORK * lm->hidden_count, add_keys, lane);
	pith_parallel(lane->executor, lane->wanted_count, SUM_WORK * lm->vocab_count, sum_rows, lane);
	for (size_t k = 0; k < lane->wanted_count; k++)
		if (!lane->good[k])
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "numerics",
			                 "the model gave a logit that is not finite");
	lane->row_count = 0;
	lane->wanted_count = 0;
	lane->step++;
	return PITH_OK;
}

static pith_status queue_row(struct segment_lane *lane, size_t stream, uint32_t id,
                             const struct wanted *wanted, struct pith_error *err)
{
	lane->rows[lane->row_count++] = (struct pith_row){(uint32_t)stream, id, wanted != NULL};
	if (wanted != NULL)
		lane->wanted[lane->wanted_count++] = *wanted;
	lane->streams[stream].fed++;
	lane->streams[stream].queued_in = lane->step;
	return lane->row_count == lane->batch_count ? segment_lane_flush(lane, err) : PITH_OK;
}

pith_status segment_lane_queue(struct segment_lane *lane, size_t t, const struct wanted *wanted,
                               struct pith_error *err)
{
	const struct text_lm *lm = lane->coder->lm;
	size_t stream = wanted->stream;
	struct stream *s = &lane->streams[stream];
	if (t > 0 && s->fed < lane->window)
		return queue_row(lane, stream, s->ids[t - 1], wanted, err);
	if (s->fed > 0) {
		if (s->queued_in == lane->step) /* these rows belong to the old window */
			PITH_TRY(segment_lane_flush(lane, err));
		lm->session_truncate(lane->session, stream, 0);
		s->fed = 0;
	}
	size_t again = t < lane->overlap ? t : lane->overlap;
	PITH_TRY(queue_row(lane, stream, lm->start_token, again == 0 ? wanted : NULL, err));
	for (size_t i = t - again; i < t; i++)
		PITH_TRY(queue_row(lane, stream, s->ids[i], i + 1 == t ? wanted : NULL, err));
	return PITH_OK;
}
