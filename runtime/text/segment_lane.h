/*
 * Some streams of a segment in a session of their own: spec/text_archive.md, sections 7, 8 and 15.
 *
 * Predictions are queued as rows; a full queue is one step of the session, and its logits become prefix sums at once.
 * A row's logits depend on its own sequence only (spec/numerics.md), so how rows are put together, and
 * streams into lanes, changes nothing.  A lane belongs to one thread at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_SEGMENT_LANE_H
#define PITH_TEXT_SEGMENT_LANE_H

#include "recall.h"
#include "segment_model.h"

struct stream {
	uint32_t *ids;      /* tokens so far (decoder) or all of them (encoder) */
	size_t count;       /* tokens known */
	size_t fed;         /* positions of the session's sequence in use */
	uint64_t queued_in; /* step that its last queued row belongs to */
	size_t begin, end;  /* bytes of the text; the decoder moves begin */
};

/* A row of logits that is awaited. */
struct wanted {
	uint32_t stream;       /* of the lane */
	uint32_t id;           /* with a path: the token */
	uint32_t t;            /* number of the token in the stream */
	/*
	 * NULL: the stream's prefix sums are wanted; else the token's decisions go here and, with recall, as many behind them:
	 * those of the weights recalled.
	 */
	struct decision *path;
};

struct segment_lane {
	const struct text_coder *coder;
	const struct pith_executor *executor; /* inside a step; NULL: the thread that calls */
	void *session;
	uint32_t window, overlap;
	bool has_recall;
	size_t token_count;     /* of a stream, at most: what can be recalled */
	struct stream *streams; /* [stream_count], borrowed: a part of the segment's */
	size_t first;           /* number of its first stream in the segment */
	size_t stream_count, batch_count;
	struct pith_row *rows;  /* [batch_count] */
	struct wanted *wanted;  /* [batch_count] */
	size_t row_count, wanted_count;
	uint64_t step;          /* number of the step whose rows are being queued, from 1 */
	const float *logits;    /* of the step under way */
	uint32_t *scratch;      /* [scratch_count, scratch_words()] */
	uint32_t *sums;         /* decoder: [stream_count, segment_lane_kinds(), V + 1] */
	struct recall recall;
	bool *good;             /* [batch_count] */
};

/* Bytes of a lane for stream_count streams, with its session; 0: more than there can be. */
size_t segment_lane_nbytes(const struct segment_lane *lane, bool decodes);
/* coder, executor, window, overlap, has_recall, token_count, streams, first and stream_count are set; nothing else. */
pith_status segment_lane_open(struct segment_lane *lane, bool decodes, struct pith_error *err);
void segment_lane_close(struct segment_lane *lane);

/* Queue what predicts token number t of a stream of the lane. */
pith_status segment_lane_queue(struct segment_lane *lane, size_t t, const struct wanted *wanted,
                               struct pith_error *err);
/* Compute what is queued. */
pith_status segment_lane_flush(struct segment_lane *lane, struct pith_error *err);
/* Of prefix sums of one prediction: the model's and, with recall, those of what is recalled. */
static inline size_t segment_lane_kinds(const struct segment_lane *lane) { return lane->has_recall ? 2 : 1; }
/* [segment_lane_kinds(), V + 1]: of the last prediction of a stream. */
static inline const uint32_t *segment_lane_sums(const struct segment_lane *lane, size_t stream)
{
	return lane->sums + stream * segment_lane_kinds(lane) * (lane->coder->tree.count + 1);
}

#endif
