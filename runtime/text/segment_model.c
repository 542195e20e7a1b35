/*
 * Coding a segment with the model.
 *
 * The streams are shared out over lanes, one a thread where every thread gets enough of them; the lanes' model steps run
 * side by side while what they predict is coded in the one order of spec text_archive.md 6.  The decoder
 * predicts one token of each stream a round; the encoder knows the tokens, so it predicts BLOCK of them, which reads the
 * keys of a sequence once for all.  Both see the same bits (segment_lane.h).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "segment_lane.h"

#include "avx2_loops.h"
#include "line_ends.h"
#include "pipeline.h"
#include "segment_head.h"

#include <stdlib.h>

#define BLOCK 32u /* tokens of a stream that the encoder feeds at once */
#define LEAST_WINDOW 2u /* spec text.18 */
/* Bytes a stream should have at least: its start costs as much as one restart. */
#define LEAST_STREAM_NBYTES 4096u
/* Streams that a lane should have: with fewer, threads share the work inside a step of all. */
#define LEAST_LANE_STREAMS 8u
/* Before this many bytes the mixer has not learned enough to tell how it will end. */
#define LEAST_MIXED_SAMPLE 98304u

struct work {
	const struct text_coder *coder;
	const struct pith_executor *executor;
	const struct segment_progress *progress;
	uint32_t window, overlap;
	bool has_recall;
	size_t text_nbytes;         /* no stream has more tokens */
	size_t stream_count, lane_count;
	struct stream *streams;     /* [stream_count] */
	struct segment_lane *lanes; /* [lane_count] */
	struct mix *mix;            /* NULL: the model's probabilities alone */
};

pith_status text_coder_new(const struct text_lm *lm, struct text_coder *coder,
                           struct pith_error *err)
{
	bool is_wide;
	*coder = (struct text_coder){.lm = lm, .frequencies = text_frequencies, .recall = &recall_loops_portable};
	PITH_TRY(text_allows_avx2(&is_wide, err));
	if (is_wide && text_frequencies_avx2() != NULL)
		coder->frequencies = text_frequencies_avx2();
	if (is_wide && recall_loops_avx2() != NULL)
		coder->recall = recall_loops_avx2();
	PITH_TRY(vocab_tree_new(lm, &coder->tree, err));
	pith_status status = mix_plan_new(lm, &coder->tree, &coder->mix, err);
	if (status != PITH_OK)
		vocab_tree_free(&coder->tree);
	return status;
}

void text_coder_free(struct text_coder *coder)
{
	if (coder == NULL)
		return;
	mix_plan_free(coder->mix);
	coder->mix = NULL;
	vocab_tree_free(&coder->tree);
	coder->lm = NULL;
}

static void tell(const struct work *w, size_t nbytes)
{
	if (w->progress != NULL && nbytes > 0)
		w->progress->advance(w->progress->ctx, nbytes);
}

/* ---- memory ---- */

static void close_work(struct work *w)
{
	for (size_t l = 0; w->lanes != NULL && l < w->lane_count; l++)
		segment_lane_close(&w->lanes[l]);
	mix_free(w->mix);
	free(w->lanes);
	free(w->streams);
}

/* Lane number l of lane_count; its size is asked for before there are streams. */
static struct segment_lane lane_of(const struct work *w, size_t l, size_t lane_count)
{
	size_t first = l * w->stream_count / lane_count, end = (l + 1) * w->stream_count / lane_count;
	return (struct segment_lane){
		.coder = w->coder, .executor = lane_count == 1 ? w->executor : NULL,
		.window = w->window, .overlap = w->overlap, .has_recall = w->has_recall, .token_count = w->text_nbytes,
		.streams = w->streams != NULL ? w->streams + first : NULL, .first = first, .stream_count = end - first,
	};
}

/* 0: more than there can be. */
static size_t lanes_nbytes(const struct work *w, size_t lane_count, bool decodes)
{
	size_t sum = 0;
	for (size_t l = 0; l < lane_count; l++) {
		struct segment_lane lane = lane_of(w, l, lane_count);
		size_t nbytes = segment_lane_nbytes(&lane, decodes);
		if (nbytes == 0 || nbytes > SIZE_MAX - sum)
			return 0;
		sum += nbytes;
	}
	return sum;
}

/* stream_count, window, overlap, coder and executor are set.  mix_nbytes: what the mixer will take of the limit. */
static pith_status open_work(struct work *w, bool decodes, size_t mix_nbytes, size_t memory_limit,
                             struct pith_error *err)
{
	size_t width = w->executor != NULL ? w->executor->width : 1;
	bool enough = width <= PIPELINE_MAX_LANES && w->stream_count >= LEAST_LANE_STREAMS * width;
	size_t left = memory_limit - (mix_nbytes < memory_limit ? mix_nbytes : memory_limit);
	w->lane_count = enough ? width : 1;
	size_t nbytes = lanes_nbytes(w, w->lane_count, decodes);
	for (; w->lane_count > 1 && (nbytes == 0 || nbytes > left); nbytes = lanes_nbytes(w, w->lane_count, decodes))
		w->lane_count /= 2;
	if (nbytes == 0 || nbytes > left)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "%zu streams of %u tokens need %zu MiB, more than the limit of %zu MiB",
		                 w->stream_count, w->window, (nbytes + mix_nbytes) >> 20, memory_limit >> 20);
	w->streams = calloc(w->stream_count, sizeof(*w->streams));
	w->lanes = calloc(w->lane_count, sizeof(*w->lanes));
	if (w->streams == NULL || w->lanes == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	for (size_t l = 0; l < w->lane_count; l++) {
		w->lanes[l] = lane_of(w, l, w->lane_count);
		PITH_TRY(segment_lane_open(&w->lanes[l], decodes, err));
	}
	return PITH_OK;
}

/* The streams' bounds are set. */
static pith_status open_mix(struct work *w, size_t text_nbytes, uint32_t left_out, struct pith_error *err)
{
	size_t begins[SEGMENT_MAX_STREAMS];
	for (size_t i = 0; i < w->stream_count; i++)
		begins[i] = w->streams[i].begin;
	return mix_new(w->coder->mix, begins, w->stream_count, text_nbytes, w->has_recall, left_out, &w->mix, err);
}

/* ---- encoding ---- */

/* Decisions of a block of one lane, in the order in which they are made. */
struct lane_block {
	struct decision *decisions;
	size_t cap;
	size_t *off; /* [BLOCK, the lane's streams] where those of a token are */
};

struct encoding {
	struct work work;
	uint32_t *ids;
	size_t id_count;
	struct lane_block *blocks; /* [lanes, 2]: one is made while the other is coded */
	struct range_encoder coder;
	size_t text_nbytes, head_nbytes, out_cap;
	bool is_crlf;              /* the text lacks the CR of each CRLF */
	bool is_hopeless;
	size_t coded_nbytes;       /* bytes of the text coded so far */
	size_t cold_nbytes, cold_code_nbytes; /* of it, what had next to no context, and its code */
};

static size_t token_nbytes(const struct text_lm *lm, uint32_t id)
{
	size_t nbytes = 0;
	lm->token_bytes(lm->ctx, id, &nbytes);
	return nbytes;
}

/* Streams of equal numbers of tokens, so that all end together. */
static void cut_streams(struct encoding *e)
{
	struct work *w = &e->work;
	size_t size = e->id_count / w->stream_count, rest = e->id_count % w->stream_count;
	size_t first = 0, at = 0;
	for (size_t i = 0; i < w->stream_count; i++) {
		struct stream *s = &w->streams[i];
		s->ids = e->ids + first;
		s->count = size + (i < rest ? 1 : 0);
		s->begin = at;
		for (size_t t = 0; t < s->count; t++)
			at += token_nbytes(w->coder->lm, s->ids[t]);
		s->end = at;
		first += s->count;
	}
}

static struct lane_block *block_of(const struct encoding *e, size_t lane, size_t round)
{
	return &e->blocks[2 * lane + round % 2];
}

/* Where the decisions of each token go. */
static pith_status lay_out_block(const struct encoding *e, const struct segment_lane *lane, size_t begin,
                                 struct lane_block *block, struct pith_error *err)
{
	size_t total = 0;
	for (size_t i = 0; i < lane->stream_count; i++) {
		const struct stream *s = &lane->streams[i];
		for (size_t t = begin; t < begin + BLOCK && t < s->count; t++) {
			block->off[(t - begin) * lane->stream_count + i] = total;
			total += vocab_tree_depth(&e->work.coder->tree, s->ids[t]) * segment_lane_kinds(lane);
		}
	}
	if (total <= block->cap)
		return PITH_OK;
	size_t nbytes;
	free(block->decisions);
	block->cap = total + total / 2;
	block->decisions = pith_mul_size(block->cap, sizeof(*block->decisions), &nbytes) ? malloc(nbytes) : NULL;
	if (block->decisions == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	return PITH_OK;
}

/* Decisions of the next BLOCK tokens of a lane's streams. */
static pith_status make_block(void *arg, size_t l, size_t round, struct pith_error *err)
{
	const struct encoding *e = arg;
	struct segment_lane *lane = &e->work.lanes[l];
	struct lane_block *block = block_of(e, l, round);
	size_t begin = round * BLOCK;
	PITH_TRY(lay_out_block(e, lane, begin, block, err));
	for (size_t i = 0; i < lane->stream_count; i++) {
		const struct stream *s = &lane->streams[i];
		for (size_t t = begin; t < begin + BLOCK && t < s->count; t++) {
			size_t off = block->off[(t - begin) * lane->stream_count + i];
			struct wanted wanted = {(uint32_t)i, s->ids[t], (uint32_t)t, block->decisions + off};
			PITH_TRY(segment_lane_queue(lane, t, &wanted, err));
		}
	}
	return segment_lane_flush(lane, err);
}

static void code_token(struct encoding *e, size_t stream, uint32_t id, const struct decision *path)
{
	const struct work *w = &e->work;
	size_t depth = w->mix == NULL || w->has_recall ? vocab_tree_depth(&w->coder->tree, id) : 0;
	if (w->mix != NULL) {
		mix_encode(w->mix, stream, id, path, w->has_recall ? path + depth : NULL, &e->coder);
	} else {
		for (size_t d = 0; d < depth; d++)
			range_encode(&e->coder, path[d].z, path[d].n, path[d].bit);
	}
	e->coded_nbytes += token_nbytes(w->coder->lm, id);
}

/*
 * Is there no hope to end within out_cap?  Streams are spread over the segment, so what is coded is a fair sample; the first
 * tokens of the streams, which have no context, are left out of it, and the slack is for the short contexts behind them.
 */
static bool is_hopeless(struct encoding *e, size_t tokens_of_stream)
{
	size_t now = e->head_nbytes + e->coder.out_nbytes;
	if (now > e->out_cap)
		return true;
	if (tokens_of_stream <= 2 * BLOCK || (e->work.mix != NULL && e->coded_nbytes < LEAST_MIXED_SAMPLE)) {
		e->cold_nbytes = e->coded_nbytes;
		e->cold_code_nbytes = now;
		return false;
	}
	size_t sample = e->coded_nbytes - e->cold_nbytes, left = e->text_nbytes - e->coded_nbytes;
	if (sample < 2048)
		return false;
	double projected = (double)now + (double)(now - e->cold_code_nbytes) * (double)left / (double)sample;
	return projected > (e->coded_nbytes < e->text_nbytes / 4 ? 1.15 : 1.05) * (double)e->out_cap;
}

/* Code a block of all lanes, which is there when its last lane is. */
static pith_status code_block(void *arg, size_t last, size_t round, bool *done, struct pith_error *err)
{
	struct encoding *e = arg;
	const struct work *w = &e->work;
	size_t begin = round * BLOCK, before = e->coded_nbytes;
	(void)err;
	if (last + 1 < w->lane_count)
		return PITH_OK;
	for (size_t t = begin; t < begin + BLOCK; t++) {
		for (size_t l = 0; l < w->lane_count; l++) {
			const struct segment_lane *lane = &w->lanes[l];
			const struct lane_block *block = block_of(e, l, round);
			const size_t *off = block->off + (t - begin) * lane->stream_count;
			for (size_t i = 0; i < lane->stream_count; i++)
				if (t < lane->streams[i].count)
					code_token(e, lane->first + i, lane->streams[i].ids[t], block->decisions + off[i]);
		}
	}
	tell(w, e->coded_nbytes - before);
	e->is_hopeless = is_hopeless(e, begin + BLOCK);
	*done = e->is_hopeless || begin + BLOCK >= w->streams[0].count;
	return PITH_OK;
}

static pith_status encode_streams(struct encoding *e, uint8_t *out, size_t *out_nbytes, struct pith_error *err)
{
	struct work *w = &e->work;
	struct segment_head head = {
		.is_crlf = e->is_crlf, .is_mixed = w->mix != NULL, .has_recall = w->has_recall,
		.text_nbytes = (uint32_t)e->text_nbytes, .window = w->window, .overlap = w->overlap, .stream_count = (uint32_t)w->stream_count,
	};
	for (size_t i = 0; i < w->stream_count; i++)
		head.stream_nbytes[i] = (uint32_t)(w->streams[i].end - w->streams[i].begin);
	e->head_nbytes = segment_head_store(&head, out);
	range_encoder_start(&e->coder, out + e->head_nbytes, e->out_cap - e->head_nbytes);
	/* a block is coded when its last lane is made: the next one may be made meanwhile, the one after may not */
	struct pipeline pipeline = {w->lane_count, w->lane_count + 1, make_block, code_block, e};
	PITH_TRY(pipeline_run(&pipeline, w->lane_count > 1 ? w->executor : NULL, err));
	tell(w, e->text_nbytes - e->coded_nbytes);
	range_encoder_finish(&e->coder);
	if (!e->is_hopeless && e->head_nbytes + e->coder.out_nbytes <= e->out_cap)
		*out_nbytes = e->head_nbytes + e->coder.out_nbytes;
	return PITH_OK;
}

static pith_status open_blocks(struct encoding *e, struct pith_error *err)
{
	const struct work *w = &e->work;
	e->blocks = calloc(2 * w->lane_count, sizeof(*e->blocks));
	bool good = e->blocks != NULL;
	for (size_t i = 0; good && i < 2 * w->lane_count; i++) {
		e->blocks[i].off = calloc(BLOCK * w->lanes[i / 2].stream_count, sizeof(size_t));
		good = e->blocks[i].off != NULL;
	}
	return good ? PITH_OK : pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
}

static void close_blocks(struct encoding *e)
{
	for (size_t i = 0; e->blocks != NULL && i < 2 * e->work.lane_count; i++) {
		free(e->blocks[i].decisions);
		free(e->blocks[i].off);
	}
	free(e->blocks);
}

/* spec text_archive.md 16 has the figures. */
static const struct level {
	size_t window_eighths;  /* of the model's context */
	uint32_t overlap_share; /* the window by this */
	size_t streams;         /* of a segment that is large enough */
	bool has_recall;
} levels[] = {
	[PITH_LEVEL_DEFAULT] = {3, 6, 16, false}, [PITH_LEVEL_FAST] = {2, 8, 32, false}, [PITH_LEVEL_SMALL] = {8, 8, 16, true},
};

static uint32_t level_window(const struct level *level, size_t context_length)
{
	size_t window = context_length - context_length / 8 * (8 - level->window_eighths);
	return (uint32_t)(window > LEAST_WINDOW ? window : LEAST_WINDOW);
}

static void choose_plan(struct work *w, const struct segment_plan *plan, size_t text_nbytes,
                        size_t id_count, size_t memory_limit)
{
	const struct text_lm *lm = w->coder->lm;
	const struct level *level = &levels[plan->level];
	w->has_recall = !plan->no_mix && recall_fits(lm) &&
	                (plan->recall == SEGMENT_RECALL_OF_LEVEL ? level->has_recall : plan->recall == SEGMENT_RECALL);
	w->text_nbytes = text_nbytes;
	w->window = plan->window != 0 ? plan->window : level_window(level, lm->context_length);
	w->overlap = plan->has_overlap ? plan->overlap : w->window / level->overlap_share;
	w->overlap = w->overlap > w->window / 2 ? w->window / 2 : w->overlap;
	size_t count = plan->stream_count;
	if (count == 0) {
		count = text_nbytes / LEAST_STREAM_NBYTES;
		count = count > level->streams ? level->streams : count;
	}
	count = count > SEGMENT_MAX_STREAMS ? SEGMENT_MAX_STREAMS : count;
	count = count > id_count ? id_count : count;
	w->stream_count = count > 0 ? count : 1;
	/* a large model: fewer streams, as long as that is what the memory goes into */
	for (; w->stream_count > 1; w->stream_count /= 2) {
		size_t nbytes = lanes_nbytes(w, 1, true);
		if (nbytes != 0 && nbytes <= memory_limit / 2)
			break;
	}
}

size_t segment_model_nbytes(const struct text_coder *coder, const struct segment_plan *plan,
                            size_t memory_limit, size_t text_nbytes)
{
	struct work w = {.coder = coder};
	choose_plan(&w, plan, text_nbytes, text_nbytes, memory_limit);
	return lanes_nbytes(&w, 1, true) + (plan->no_mix ? 0 : mix_nbytes(text_nbytes, w.has_recall));
}

/* Encode 'text', which is the segment or, with is_crlf, the segment without CRs. */
static pith_status encode_text(struct encoding *e, const struct segment_plan *plan, size_t memory_limit,
                               const uint8_t *text, uint8_t *out, size_t *out_nbytes,
                               struct pith_error *err)
{
	struct work *w = &e->work;
	const struct text_lm *lm = w->coder->lm;
	PITH_TRY(lm->encode(lm->ctx, text, e->text_nbytes, e->ids, e->text_nbytes, &e->id_count, err));
	choose_plan(w, plan, e->text_nbytes, e->id_count, memory_limit);
	if (e->out_cap < segment_head_bound(w->stream_count)) {
		tell(w, e->text_nbytes);
		return PITH_OK; /* nothing so small is worth a model */
	}
	size_t nbytes = plan->no_mix ? 0 : mix_nbytes(e->text_nbytes, w->has_recall);
	PITH_TRY(open_work(w, false, nbytes, memory_limit, err));
	PITH_TRY(open_blocks(e, err));
	cut_streams(e);
	if (!plan->no_mix)
		PITH_TRY(open_mix(w, e->text_nbytes, plan->mix_left_out, err));
	return encode_streams(e, out, out_nbytes, err);
}

pith_status segment_model_encode(const struct text_coder *coder, const struct segment_plan *plan,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *raw,
                                 size_t raw_nbytes, uint8_t *out, size_t out_cap,
                                 size_t *out_nbytes, struct pith_error *err)
{
	struct encoding e = {.work = {.coder = coder, .executor = executor, .progress = progress},
	                     .out_cap = out_cap};
	uint8_t *text = malloc(raw_nbytes);
	size_t cr_count = 0;
	pith_status status;
	*out_nbytes = 0;
	e.ids = malloc(raw_nbytes * sizeof(*e.ids));
	if (e.ids == NULL || text == NULL) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	} else {
		e.is_crlf = line_ends_are_crlf(raw, raw_nbytes, &cr_count);
		e.text_nbytes = raw_nbytes - cr_count;
		if (e.is_crlf)
			line_ends_remove_cr(raw, raw_nbytes, text);
		status = encode_text(&e, plan, memory_limit, e.is_crlf ? text : raw, out, out_nbytes, err);
		tell(&e.work, cr_count);
	}
	close_blocks(&e);
	close_work(&e.work);
	free(text);
	free(e.ids);
	return status;
}

/* ---- decoding ---- */

struct decoding {
	struct work work;
	struct range_decoder coder;
	uint8_t *text;
	size_t left_nbytes; /* of the text */
	size_t told_nbytes;
	uint64_t off;       /* of the payload */
};

static void set_streams(struct decoding *d, const struct segment_head *head, uint32_t *ids)
{
	size_t at = 0;
	for (size_t i = 0; i < head->stream_count; i++) {
		/* a token has a byte or more, so a stream's tokens fit where its bytes are counted */
		d->work.streams[i] = (struct stream){.ids = ids + at, .begin = at};
		at += head->stream_nbytes[i];
		d->work.streams[i].end = at;
	}
}

/* Predictions of the next token of a lane's streams. */
static pith_status make_sums(void *arg, size_t l, size_t round, struct pith_error *err)
{
	struct decoding *d = arg;
	struct segment_lane *lane = &d->work.lanes[l];
	for (size_t i = 0; i < lane->stream_count; i++) {
		struct wanted wanted = {.stream = (uint32_t)i, .t = (uint32_t)round};
		if (lane->streams[i].begin < lane->streams[i].end)
			PITH_TRY(segment_lane_queue(lane, round, &wanted, err));
	}
	return segment_lane_flush(lane, err);
}

/* Read the next token of a stream and put its bytes down. */
static pith_status read_token(struct decoding *d, struct segment_lane *lane, size_t i, struct pith_error *err)
{
	const struct work *w = &d->work;
	const struct text_lm *lm = w->coder->lm;
	struct stream *s = &lane->streams[i];
	const uint32_t *sums = segment_lane_sums(lane, i);
	const uint32_t *recalled = w->has_recall ? sums + w->coder->tree.count + 1 : NULL;
	uint32_t id = w->mix != NULL ? mix_decode(w->mix, lane->first + i, sums, recalled, &d->coder) :
	                               vocab_tree_decode(&w->coder->tree, sums, &d->coder);
	size_t nbytes = 0;
	const uint8_t *bytes = lm->token_bytes(lm->ctx, id, &nbytes);
	// spec text.19: "Every decoded token has at least one byte and ends inside its stream."
	if (bytes == NULL || nbytes == 0 || nbytes > s->end - s->begin)
		return pith_fail(err, PITH_E_CORRUPT, d->off, "text.19",
		                 "token %u does not fit its stream", id);
	if (w->mix != NULL)
		mix_accept(w->mix, id);
	memcpy(d->text + s->begin, bytes, nbytes);
	s->begin += nbytes;
	s->ids[s->count++] = id;
	d->left_nbytes -= nbytes;
	return PITH_OK;
}

static pith_status read_tokens(void *arg, size_t l, size_t round, bool *done, struct pith_error *err)
{
	struct decoding *d = arg;
	struct segment_lane *lane = &d->work.lanes[l];
	for (size_t i = 0; i < lane->stream_count; i++)
		if (lane->streams[i].begin < lane->streams[i].end)
			PITH_TRY(read_token(d, lane, i, err));
	*done = d->left_nbytes == 0;
	if (*done || round % BLOCK == BLOCK - 1) {
		size_t now = d->work.streams[d->work.stream_count - 1].end - d->left_nbytes;
		tell(&d->work, now - d->told_nbytes);
		d->told_nbytes = now;
	}
	return PITH_OK;
}

static pith_status decode_text(struct decoding *d, const struct segment_head *head, size_t memory_limit,
                               uint32_t *ids, struct pith_error *err)
{
	struct work *w = &d->work;
	size_t nbytes = head->is_mixed ? mix_nbytes(head->text_nbytes, head->has_recall) : 0;
	PITH_TRY(open_work(w, true, nbytes, memory_limit, err));
	set_streams(d, head, ids);
	if (head->is_mixed)
		PITH_TRY(open_mix(w, head->text_nbytes, 0, err));
	struct pipeline pipeline = {w->lane_count, w->lane_count, make_sums, read_tokens, d};
	return pipeline_run(&pipeline, w->lane_count > 1 ? w->executor : NULL, err);
}

pith_status segment_model_decode(const struct text_coder *coder,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *payload,
                                 size_t nbytes, uint64_t off, uint8_t *raw, size_t raw_nbytes,
                                 struct pith_error *err)
{
	struct segment_head head;
	const uint8_t *code;
	PITH_TRY(segment_head_load(coder->lm, payload, nbytes, raw_nbytes, off, &head, &code, err));
	uint8_t *text = head.is_crlf ? malloc(head.text_nbytes) : raw;
	uint32_t *ids = malloc(head.text_nbytes * sizeof(*ids));
	struct decoding d = {
		.work = {.coder = coder, .executor = executor, .progress = progress, .window = head.window,
		         .overlap = head.overlap, .stream_count = head.stream_count, .has_recall = head.has_recall,
		         .text_nbytes = head.text_nbytes},
		.text = text, .left_nbytes = head.text_nbytes, .off = off,
	};
	range_decoder_start(&d.coder, code, (size_t)(payload + nbytes - code));
	pith_status status = ids != NULL && text != NULL ?
	                             decode_text(&d, &head, memory_limit, ids, err) :
	                             pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
	                                       "no memory to decode a segment");
	if (status == PITH_OK && head.is_crlf) {
		tell(&d.work, raw_nbytes - head.text_nbytes);
		// spec text.20: "With CRLF, text_nbytes plus the number of LF bytes in the text is raw_nbytes."
		if (!line_ends_insert_cr(text, head.text_nbytes, raw, raw_nbytes))
			status = pith_fail(err, PITH_E_CORRUPT, off, "text.20", "the line ends do not add up");
	}
	close_work(&d.work);
	if (text != raw)
		free(text);
	free(ids);
	return status;
}
