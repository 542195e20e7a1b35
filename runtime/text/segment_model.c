/*
 * Coding a segment with the model.
 *
 * Both directions advance the same windows (spec text_archive.md 7) by queueing rows; a full queue is one step
 * of the session and its logits become prefix sums at once.  The decoder queues one prediction of every stream, then
 * reads their tokens.  The encoder knows the tokens, so it queues BLOCK predictions of one
 * stream after the other, which reads the keys of a sequence once for all of them; it keeps the
 * decisions and codes them in the decoder's order.  Both give the same bits because a
 * row's logits depend on its own sequence only (spec/numerics.md).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "segment_model.h"

#include "frequencies.h"
#include "parallel.h"

#include <stdlib.h>

#define BLOCK 32u      /* tokens of a stream that the encoder feeds at once */
#define LEAST_BATCH 64u /* rows of a step */
#define DEFAULT_OVERLAP_SHARE 8u
/* Bytes a stream should have at least: its start costs as much as one restart. */
#define LEAST_STREAM_NBYTES 4096u
#define DEFAULT_STREAMS 32u
#define FLAG_CRLF 1u
#define FLAG_MIXED 2u
/* Before this many bytes the mixer has not learned enough to tell how it will end. */
#define LEAST_MIXED_SAMPLE 98304u

struct stream {
	uint32_t *ids;       /* tokens so far (decoder) or all of them (encoder) */
	size_t count;        /* tokens known */
	size_t fed;          /* positions of the session's sequence in use */
	uint64_t queued_in;  /* step that its last queued row belongs to */
	size_t begin, end;   /* bytes of the segment; the decoder moves begin */
};

struct wanted { /* a row of logits that is awaited */
	uint32_t stream;
	uint32_t id;            /* encoder: the token */
	struct decision *path;  /* encoder: where its decisions go */
};

struct work {
	const struct text_coder *coder;
	const struct pith_executor *executor;
	void *session;
	uint32_t window, overlap;
	size_t stream_count, batch_count;
	struct stream *streams;  /* [stream_count] */
	struct pith_row *rows;   /* [batch_count] */
	struct wanted *wanted;   /* [batch_count] */
	size_t row_count, wanted_count;
	uint64_t step;           /* number of the step whose rows are being queued, from 1 */
	uint32_t *scratch;       /* [batch_count, V] */
	uint32_t *sums;          /* [batch_count, V + 1] */
	bool *good;              /* [batch_count] */
	const float *logits;     /* of the step under way */
	struct range_decoder *decoder; /* NULL: encoding */
	struct mix *mix;         /* NULL: the model's probabilities alone */
	uint8_t *raw;            /* decoder: the segment */
	uint64_t off;            /* decoder: of the payload */
};

pith_status text_coder_new(const struct text_lm *lm, struct text_coder *coder,
                           struct pith_error *err)
{
	coder->lm = lm;
	coder->mix = NULL;
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

/* ---- one step of the model ---- */

static void sum_rows(void *arg, size_t begin, size_t end)
{
	struct work *w = arg;
	const struct vocab_tree *tree = &w->coder->tree;
	size_t stride = w->coder->lm->logit_stride(w->session);
	for (size_t k = begin; k < end; k++) {
		uint32_t *sums = w->sums + k * (tree->count + 1);
		w->good[k] = text_frequencies(w->logits + k * stride, tree->count, tree->order,
		                              w->scratch + begin * tree->count, sums);
		if (w->good[k] && w->decoder == NULL)
			vocab_tree_path(tree, sums, w->wanted[k].id, w->wanted[k].path);
	}
}

/* Read the token of wanted row k and put its bytes down. */
static pith_status read_token(struct work *w, size_t k, struct pith_error *err)
{
	const struct vocab_tree *tree = &w->coder->tree;
	const struct text_lm *lm = w->coder->lm;
	struct stream *s = &w->streams[w->wanted[k].stream];
	const uint32_t *sums = w->sums + k * (tree->count + 1);
	uint32_t id = w->mix != NULL ? mix_decode(w->mix, w->wanted[k].stream, sums, w->decoder) :
	                               vocab_tree_decode(tree, sums, w->decoder);
	size_t nbytes = 0;
	const uint8_t *bytes = lm->token_bytes(lm->ctx, id, &nbytes);
	// spec text.19: "Every decoded token has at least one byte and ends inside its stream."
	if (bytes == NULL || nbytes == 0 || nbytes > s->end - s->begin)
		return pith_fail(err, PITH_E_CORRUPT, w->off, "text.19",
		                 "token %u does not fit its stream", id);
	if (w->mix != NULL)
		mix_accept(w->mix, id);
	memcpy(w->raw + s->begin, bytes, nbytes);
	s->begin += nbytes;
	s->ids[s->count++] = id;
	return PITH_OK;
}

static pith_status flush_rows(struct work *w, struct pith_error *err)
{
	const struct text_lm *lm = w->coder->lm;
	if (w->row_count == 0)
		return PITH_OK;
	PITH_TRY(lm->session_step(w->session, w->rows, w->row_count, &w->logits, err));
	pith_parallel(w->executor, w->wanted_count, 2 * lm->vocab_count, sum_rows, w);
	for (size_t k = 0; k < w->wanted_count; k++) {
		if (!w->good[k])
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "numerics",
			                 "the model gave a logit that is not finite");
		if (w->decoder != NULL)
			PITH_TRY(read_token(w, k, err));
	}
	w->row_count = 0;
	w->wanted_count = 0;
	w->step++;
	return PITH_OK;
}

static pith_status queue_row(struct work *w, size_t stream, uint32_t id, const struct wanted *wanted,
                             struct pith_error *err)
{
	w->rows[w->row_count++] = (struct pith_row){(uint32_t)stream, id, wanted != NULL};
	if (wanted != NULL)
		w->wanted[w->wanted_count++] = *wanted;
	w->streams[stream].fed++;
	w->streams[stream].queued_in = w->step;
	return w->row_count == w->batch_count ? flush_rows(w, err) : PITH_OK;
}

/* Queue what predicts token number t of a stream: the token before it, or the start of a window. */
static pith_status queue_prediction(struct work *w, size_t stream, size_t t,
                                    const struct wanted *wanted, struct pith_error *err)
{
	const struct text_lm *lm = w->coder->lm;
	struct stream *s = &w->streams[stream];
	if (t > 0 && s->fed < w->window)
		return queue_row(w, stream, s->ids[t - 1], wanted, err);
	if (s->fed > 0) {
		if (s->queued_in == w->step) /* these rows belong to the old window */
			PITH_TRY(flush_rows(w, err));
		lm->session_truncate(w->session, stream, 0);
		s->fed = 0;
	}
	size_t again = t < w->overlap ? t : w->overlap;
	PITH_TRY(queue_row(w, stream, lm->start_token, again == 0 ? wanted : NULL, err));
	for (size_t i = t - again; i < t; i++)
		PITH_TRY(queue_row(w, stream, s->ids[i], i + 1 == t ? wanted : NULL, err));
	return PITH_OK;
}

/* ---- memory ---- */

static struct pith_session_options session_options(const struct work *w)
{
	return (struct pith_session_options){
		.sequence_count = w->stream_count,
		.context_length = w->window,
		.batch_count = w->batch_count,
		.logit_count = w->batch_count,
		.executor = w->executor,
	};
}

static void close_work(struct work *w)
{
	if (w->session != NULL)
		w->coder->lm->session_free(w->session);
	mix_free(w->mix);
	free(w->streams);
	free(w->rows);
	free(w->wanted);
	free(w->scratch);
	free(w->sums);
	free(w->good);
}

/* stream_count, window, overlap, coder and executor are set. */
static pith_status open_work(struct work *w, size_t memory_limit, struct pith_error *err)
{
	const struct text_lm *lm = w->coder->lm;
	w->batch_count = w->stream_count > LEAST_BATCH ? w->stream_count : LEAST_BATCH;
	w->step = 1;
	struct pith_session_options options = session_options(w);
	size_t nbytes = lm->session_nbytes(lm->ctx, &options), table_nbytes;
	if (!pith_mul_size(w->batch_count, (lm->vocab_count + 1) * 2 * sizeof(uint32_t), &table_nbytes) ||
	    nbytes == 0 || nbytes > memory_limit || table_nbytes > memory_limit - nbytes)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "%zu streams of %u tokens need %zu MiB, more than the limit of %zu MiB",
		                 w->stream_count, w->window, nbytes >> 20, memory_limit >> 20);
	w->streams = calloc(w->stream_count, sizeof(*w->streams));
	w->rows = calloc(w->batch_count, sizeof(*w->rows));
	w->wanted = calloc(w->batch_count, sizeof(*w->wanted));
	w->scratch = malloc(table_nbytes / 2);
	w->sums = malloc(table_nbytes / 2);
	w->good = calloc(w->batch_count, sizeof(*w->good));
	if (w->streams == NULL || w->rows == NULL || w->wanted == NULL || w->scratch == NULL ||
	    w->sums == NULL || w->good == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	return lm->session_new(lm->ctx, &options, &w->session, err);
}

/* The streams' bounds are set. */
static pith_status open_mix(struct work *w, size_t text_nbytes, uint32_t left_out, size_t memory_limit,
                            struct pith_error *err)
{
	size_t nbytes = mix_nbytes(text_nbytes);
	if (nbytes > memory_limit)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "the mixer needs %zu MiB, more than the limit of %zu MiB", nbytes >> 20,
		                 memory_limit >> 20);
	size_t begins[TEXT_MAX_STREAMS];
	for (size_t i = 0; i < w->stream_count; i++)
		begins[i] = w->streams[i].begin;
	return mix_new(w->coder->mix, begins, w->stream_count, text_nbytes, left_out, &w->mix, err);
}

static void tell(const struct segment_progress *progress, size_t nbytes)
{
	if (progress != NULL && nbytes > 0)
		progress->advance(progress->ctx, nbytes);
}

/* ---- varints ---- */

static size_t put_varint(uint8_t *out, uint32_t v)
{
	size_t n = 0;
	for (; v >= 128; v >>= 7)
		out[n++] = (uint8_t)(v | 128u);
	out[n++] = (uint8_t)v;
	return n;
}

/* False when it is cut off, too long or not in shortest form. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint32_t *v)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 35 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;
		value |= (uint64_t)(byte & 127u) << shift;
		if (byte < 128) {
			*v = (uint32_t)value;
			return value <= UINT32_MAX && (byte != 0 || shift == 0);
		}
	}
	return false;
}

/* ---- line ends ---- */

/* Are there LFs, and a CR before each?  Counts them. */
static bool has_crlf_only(const uint8_t *raw, size_t nbytes, size_t *count)
{
	size_t crlf = 0, lf = 0;
	for (size_t i = 0; i < nbytes; i++) {
		lf += raw[i] == '\n' ? 1 : 0;
		crlf += raw[i] == '\n' && i > 0 && raw[i - 1] == '\r' ? 1 : 0;
	}
	bool only = crlf > 0 && crlf == lf;
	*count = only ? crlf : 0;
	return only;
}

static void remove_cr(const uint8_t *raw, size_t nbytes, uint8_t *text)
{
	for (size_t i = 0; i < nbytes; i++)
		if (raw[i] != '\r' || i + 1 == nbytes || raw[i + 1] != '\n')
			*text++ = raw[i];
}

/* Put a CR before each LF; false when that does not give raw_nbytes bytes. */
static bool insert_cr(const uint8_t *text, size_t nbytes, uint8_t *raw, size_t raw_nbytes)
{
	size_t to = 0;
	for (size_t i = 0; i < nbytes; i++) {
		size_t need = text[i] == '\n' ? 2 : 1;
		if (need > raw_nbytes - to)
			return false;
		if (need == 2)
			raw[to++] = '\r';
		raw[to++] = text[i];
	}
	return to == raw_nbytes;
}

/* ---- encoding ---- */

struct encoding {
	struct work work;
	uint32_t *ids;
	size_t id_count;
	struct decision *decisions; /* of one block */
	size_t decision_cap;
	size_t *path_off;           /* [BLOCK * stream_count] */
	size_t coded_nbytes;        /* bytes of the text coded so far */
	bool is_crlf;               /* what is coded is the text without the CR of each CRLF */
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

/* Lay out where the decisions of the block go: the order in which the decoder reads them. */
static pith_status lay_out_block(struct encoding *e, size_t begin, size_t *decision_count,
                                 struct pith_error *err)
{
	struct work *w = &e->work;
	size_t total = 0;
	for (size_t t = begin; t < begin + BLOCK; t++) {
		for (size_t i = 0; i < w->stream_count; i++) {
			const struct stream *s = &w->streams[i];
			e->path_off[(t - begin) * w->stream_count + i] = total;
			if (t < s->count)
				total += vocab_tree_depth(&w->coder->tree, s->ids[t]);
		}
	}
	*decision_count = total;
	if (total <= e->decision_cap)
		return PITH_OK;
	size_t nbytes;
	free(e->decisions);
	e->decision_cap = total + total / 2;
	e->decisions = pith_mul_size(e->decision_cap, sizeof(*e->decisions), &nbytes) ? malloc(nbytes) : NULL;
	if (e->decisions == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	return PITH_OK;
}

static void mix_block(const struct encoding *e, size_t begin, struct range_encoder *coder)
{
	const struct work *w = &e->work;
	const size_t *path_off = e->path_off;
	for (size_t t = begin; t < begin + BLOCK; t++)
		for (size_t i = 0; i < w->stream_count; i++, path_off++)
			if (t < w->streams[i].count)
				mix_encode(w->mix, i, w->streams[i].ids[t], e->decisions + *path_off, coder);
}

/* Queue tokens begin .. begin + BLOCK - 1 of every stream and code them. */
static pith_status encode_block(struct encoding *e, size_t begin, struct range_encoder *coder,
                                struct pith_error *err)
{
	struct work *w = &e->work;
	size_t decision_count;
	PITH_TRY(lay_out_block(e, begin, &decision_count, err));
	for (size_t i = 0; i < w->stream_count; i++) {
		const struct stream *s = &w->streams[i];
		for (size_t t = begin; t < begin + BLOCK && t < s->count; t++) {
			size_t slot = (t - begin) * w->stream_count + i;
			struct wanted wanted = {(uint32_t)i, s->ids[t], e->decisions + e->path_off[slot]};
			PITH_TRY(queue_prediction(w, i, t, &wanted, err));
			e->coded_nbytes += token_nbytes(w->coder->lm, s->ids[t]);
		}
	}
	PITH_TRY(flush_rows(w, err));
	if (w->mix != NULL)
		mix_block(e, begin, coder);
	else
		for (size_t d = 0; d < decision_count; d++)
			range_encode(coder, e->decisions[d].z, e->decisions[d].n, e->decisions[d].bit);
	return PITH_OK;
}

/*
 * Is there no hope to end within cap?  Streams are spread over the segment, so what is coded is a fair sample; the first
 * tokens of the streams, which have no context, are left out of it, and the slack is for the short contexts behind them.
 */
static bool is_hopeless(struct encoding *e, size_t text_nbytes, size_t tokens_of_stream, size_t now, size_t cap)
{
	if (now > cap)
		return true;
	if (tokens_of_stream <= 2 * BLOCK || (e->work.mix != NULL && e->coded_nbytes < LEAST_MIXED_SAMPLE)) {
		e->cold_nbytes = e->coded_nbytes;
		e->cold_code_nbytes = now;
		return false;
	}
	size_t sample = e->coded_nbytes - e->cold_nbytes, left = text_nbytes - e->coded_nbytes;
	if (sample < 2048)
		return false;
	double projected = (double)now + (double)(now - e->cold_code_nbytes) * (double)left / (double)sample;
	return projected > (e->coded_nbytes < text_nbytes / 4 ? 1.15 : 1.05) * (double)cap;
}

static pith_status encode_streams(struct encoding *e, const struct segment_progress *progress,
                                  size_t text_nbytes, uint8_t *out, size_t out_cap,
                                  size_t *out_nbytes, struct pith_error *err)
{
	struct work *w = &e->work;
	size_t head = 0;
	out[head++] = (uint8_t)((e->is_crlf ? FLAG_CRLF : 0) | (w->mix != NULL ? FLAG_MIXED : 0));
	if (e->is_crlf)
		head += put_varint(out + head, (uint32_t)text_nbytes);
	head += put_varint(out + head, w->window);
	head += put_varint(out + head, w->overlap);
	head += put_varint(out + head, (uint32_t)w->stream_count);
	for (size_t i = 0; i + 1 < w->stream_count; i++)
		head += put_varint(out + head, (uint32_t)(w->streams[i].end - w->streams[i].begin));
	struct range_encoder coder;
	range_encoder_start(&coder, out + head, out_cap - head);
	size_t told = 0;
	for (size_t t = 0; t < w->streams[0].count; t += BLOCK) {
		PITH_TRY(encode_block(e, t, &coder, err));
		tell(progress, e->coded_nbytes - told);
		told = e->coded_nbytes;
		if (is_hopeless(e, text_nbytes, t + BLOCK, head + coder.out_nbytes, out_cap)) {
			tell(progress, text_nbytes - told);
			return PITH_OK;
		}
	}
	range_encoder_finish(&coder);
	if (head + coder.out_nbytes <= out_cap)
		*out_nbytes = head + coder.out_nbytes;
	return PITH_OK;
}

/* Bytes of the payload before the code, at most. */
static size_t head_bound(size_t stream_count) { return 1 + 5 * (stream_count + 3); }

static void choose_plan(struct work *w, const struct segment_plan *plan, size_t raw_nbytes,
                        size_t id_count, size_t memory_limit)
{
	const struct text_lm *lm = w->coder->lm;
	w->window = plan->window != 0 ? plan->window : (uint32_t)lm->context_length;
	w->overlap = plan->has_overlap ? plan->overlap : w->window / DEFAULT_OVERLAP_SHARE;
	size_t count = plan->stream_count;
	if (count == 0) {
		count = raw_nbytes / LEAST_STREAM_NBYTES;
		count = count > DEFAULT_STREAMS ? DEFAULT_STREAMS : count;
	}
	count = count > TEXT_MAX_STREAMS ? TEXT_MAX_STREAMS : count;
	count = count > id_count ? id_count : count;
	w->stream_count = count > 0 ? count : 1;
	w->batch_count = LEAST_BATCH;
	/* a large model: fewer streams, as long as that is what the memory goes into */
	for (; w->stream_count > 1; w->stream_count /= 2) {
		struct pith_session_options options = session_options(w);
		size_t nbytes = lm->session_nbytes(lm->ctx, &options);
		if (nbytes != 0 && nbytes <= memory_limit / 2)
			break;
	}
}

/* Encode 'text', which is the segment or, with is_crlf, the segment without CRs. */
static pith_status encode_text(struct encoding *e, const struct segment_plan *plan, size_t memory_limit,
                               const struct segment_progress *progress, const uint8_t *text,
                               size_t nbytes, uint8_t *out, size_t out_cap, size_t *out_nbytes,
                               struct pith_error *err)
{
	const struct text_lm *lm = e->work.coder->lm;
	PITH_TRY(lm->encode(lm->ctx, text, nbytes, e->ids, nbytes, &e->id_count, err));
	choose_plan(&e->work, plan, nbytes, e->id_count, memory_limit);
	if (out_cap < head_bound(e->work.stream_count)) {
		tell(progress, nbytes);
		return PITH_OK; /* nothing so small is worth a model */
	}
	PITH_TRY(open_work(&e->work, memory_limit, err));
	e->path_off = calloc(BLOCK * e->work.stream_count, sizeof(*e->path_off));
	if (e->path_off == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	cut_streams(e);
	if (!plan->no_mix)
		PITH_TRY(open_mix(&e->work, nbytes, plan->mix_left_out, memory_limit, err));
	return encode_streams(e, progress, nbytes, out, out_cap, out_nbytes, err);
}

pith_status segment_model_encode(const struct text_coder *coder, const struct segment_plan *plan,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *raw,
                                 size_t raw_nbytes, uint8_t *out, size_t out_cap,
                                 size_t *out_nbytes, struct pith_error *err)
{
	struct encoding e = {.work = {.coder = coder, .executor = executor}};
	uint8_t *text = malloc(raw_nbytes);
	size_t cr_count = 0;
	pith_status status;
	*out_nbytes = 0;
	e.ids = malloc(raw_nbytes * sizeof(*e.ids));
	if (e.ids == NULL || text == NULL) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to code a segment");
	} else {
		e.is_crlf = has_crlf_only(raw, raw_nbytes, &cr_count);
		if (e.is_crlf)
			remove_cr(raw, raw_nbytes, text);
		status = encode_text(&e, plan, memory_limit, progress, e.is_crlf ? text : raw,
		                     raw_nbytes - cr_count, out, out_cap, out_nbytes, err);
		tell(progress, cr_count);
	}
	close_work(&e.work);
	free(text);
	free(e.path_off);
	free(e.decisions);
	free(e.ids);
	return status;
}

/* ---- decoding ---- */

struct head {
	uint32_t window, overlap, stream_count;
	uint32_t text_nbytes; /* what the streams hold together */
	bool is_crlf, is_mixed;
	const uint8_t *lengths; /* varints, checked */
	const uint8_t *code;
};

static pith_status take_head(const struct text_lm *lm, const uint8_t *payload, const uint8_t *end,
                             size_t raw_nbytes, uint64_t off, struct head *h, struct pith_error *err)
{
	const uint8_t *p = payload + 1;
	bool good = payload < end && payload[0] <= (FLAG_CRLF | FLAG_MIXED);
	h->is_crlf = good && (payload[0] & FLAG_CRLF) != 0;
	h->is_mixed = good && (payload[0] & FLAG_MIXED) != 0;
	h->text_nbytes = (uint32_t)raw_nbytes;
	if (h->is_crlf)
		good = take_varint(&p, end, &h->text_nbytes) && h->text_nbytes < raw_nbytes;
	good = good && take_varint(&p, end, &h->window) && take_varint(&p, end, &h->overlap) && take_varint(&p, end, &h->stream_count) &&
	            h->window >= 2 && h->window <= lm->context_length &&
	            h->overlap <= h->window / 2 && h->stream_count >= 1 &&
	            h->stream_count <= TEXT_MAX_STREAMS;
	h->lengths = p;
	uint64_t sum = 0;
	for (uint32_t i = 0; good && i + 1 < h->stream_count; i++) {
		uint32_t nbytes = 0;
		good = take_varint(&p, end, &nbytes) && nbytes > 0;
		sum += nbytes;
	}
	h->code = p;
	// spec text.18: "flags is 0 to 3, the varints are in range and in shortest form, and every stream has at least one byte"
	if (!good || sum >= h->text_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.18", "the streams of the segment are damaged");
	return PITH_OK;
}

static void set_streams(struct work *w, const struct head *h, uint32_t *ids, size_t raw_nbytes)
{
	const uint8_t *p = h->lengths;
	size_t at = 0;
	for (size_t i = 0; i < w->stream_count; i++) {
		uint32_t nbytes = 0;
		bool is_last = i + 1 == w->stream_count;
		if (!is_last)
			take_varint(&p, h->code, &nbytes);
		w->streams[i] = (struct stream){.ids = ids + at, .begin = at};
		at = is_last ? raw_nbytes : at + nbytes;
		w->streams[i].end = at;
	}
}

static pith_status decode_streams(struct work *w, const struct segment_progress *progress,
                                  struct pith_error *err)
{
	size_t told = 0;
	for (size_t t = 0;; t++) {
		bool busy = false;
		for (size_t i = 0; i < w->stream_count; i++) {
			struct wanted wanted = {.stream = (uint32_t)i};
			if (w->streams[i].begin == w->streams[i].end)
				continue;
			busy = true;
			PITH_TRY(queue_prediction(w, i, t, &wanted, err));
		}
		PITH_TRY(flush_rows(w, err));
		if (busy && t % BLOCK != BLOCK - 1)
			continue;
		size_t left = 0, all = w->streams[w->stream_count - 1].end;
		for (size_t i = 0; i < w->stream_count; i++)
			left += w->streams[i].end - w->streams[i].begin;
		tell(progress, all - left - told);
		told = all - left;
		if (!busy)
			return PITH_OK;
	}
}

pith_status segment_model_decode(const struct text_coder *coder,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *payload,
                                 size_t nbytes, uint64_t off, uint8_t *raw, size_t raw_nbytes,
                                 struct pith_error *err)
{
	struct head h = {0};
	PITH_TRY(take_head(coder->lm, payload, payload + nbytes, raw_nbytes, off, &h, err));
	struct range_decoder decoder;
	range_decoder_start(&decoder, h.code, (size_t)(payload + nbytes - h.code));
	uint8_t *text = h.is_crlf ? malloc(h.text_nbytes) : raw;
	struct work w = {
		.coder = coder, .executor = executor, .window = h.window, .overlap = h.overlap,
		.stream_count = h.stream_count, .decoder = &decoder, .raw = text, .off = off,
	};
	/* a token has a byte or more, so a stream's tokens fit where its bytes are counted */
	uint32_t *ids = malloc(h.text_nbytes * sizeof(*ids));
	pith_status status = ids != NULL && text != NULL ?
	                             open_work(&w, memory_limit, err) :
	                             pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
	                                       "no memory to decode a segment");
	if (status == PITH_OK) {
		set_streams(&w, &h, ids, h.text_nbytes);
		if (h.is_mixed)
			status = open_mix(&w, h.text_nbytes, 0, memory_limit, err);
	}
	if (status == PITH_OK) {
		status = decode_streams(&w, progress, err);
	}
	if (status == PITH_OK && h.is_crlf) {
		tell(progress, raw_nbytes - h.text_nbytes);
		// spec text.20: "With CRLF, text_nbytes plus the number of LF bytes in the text is raw_nbytes."
		if (!insert_cr(text, h.text_nbytes, raw, raw_nbytes))
			status = pith_fail(err, PITH_E_CORRUPT, off, "text.20", "the line ends do not add up");
	}
	close_work(&w);
	if (text != raw)
		free(text);
	free(ids);
	return status;
}
