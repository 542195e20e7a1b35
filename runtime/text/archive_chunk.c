/*
 * Coding one chunk: zstd, and the model where that is smaller; what the model made is decoded again.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_writer.h"

#include "frame_run.h"

#include <stdlib.h>

/* What the model must save, to pay for the header and the name that joined frames would not need. */
#define MODEL_MARGIN 160u
#define LEAST_JUDGED_NBYTES 4096u /* little content says too little */

/* Does c->coded ([nbytes]) decode to the content? */
static pith_status verify_model(struct pith_archive_writer *w, struct chunk *c, size_t nbytes)
{
	const struct pith_archive_writer_options *o = &w->options;
	struct segment_progress progress = {archive_tally_advance, &w->tally};
	struct pith_error ignored;
	uint8_t *again = malloc(c->raw_nbytes);
	if (again == NULL)
		return pith_fail(&c->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
	c->verify_failed = segment_model_decode(pith_text_coder_segment(o->coder), w->inner, o->memory_limit,
	                                        &progress, c->coded, nbytes, 0, again, c->raw_nbytes,
	                                        &ignored) != PITH_OK ||
	                   memcmp(again, c->raw, c->raw_nbytes) != 0;
	free(again);
	return PITH_OK;
}

static struct segment_plan plan_of(const struct pith_archive_writer_options *o)
{
	return (struct segment_plan){
		.level = o->level, .window = o->window, .overlap = o->overlap_plus_one - 1,
		.has_overlap = o->overlap_plus_one > 0, .stream_count = o->stream_count, .no_mix = o->no_mix,
	};
}

size_t chunk_memory(const struct pith_archive_writer *w)
{
	const struct pith_archive_writer_options *o = &w->options;
	struct segment_plan plan = plan_of(o);
	return o->coder == NULL ? 0 : segment_model_nbytes(pith_text_coder_segment(o->coder), &plan, o->memory_limit,
	                                                   w->header.segment_nbytes);
}

/*
 * What zstd cannot shorten by a 32nd is compressed or encrypted: no model of text gains there, and to find that out a mixed
 * one reads all of it, as it learns to lose next to nothing.
 */
static bool is_dense(const struct chunk *c)
{
	return c->stored_nbytes > c->raw_nbytes - c->raw_nbytes / 32;
}

/*
 * Control characters that no text has begin at one byte in 32: what the model gains there takes too long for most.  A run
 * of one counts once, as text in a tar archive is padded.
 */
static bool is_binary(const struct chunk *c)
{
	size_t controls = 0;
	for (size_t i = 0; i < c->raw_nbytes; i++)
		controls += archive_is_control(c->raw[i]) && (i == 0 || c->raw[i] != c->raw[i - 1]) ? 1 : 0;
	return controls * ARCHIVE_BINARY_SHARE > c->raw_nbytes;
}

static bool is_for_zstd(const struct chunk *c, enum pith_text_level level)
{
	return c->raw_nbytes >= LEAST_JUDGED_NBYTES && (is_dense(c) || (level != PITH_LEVEL_SMALL && is_binary(c)));
}

static pith_status try_model(struct pith_archive_writer *w, struct chunk *c)
{
	const struct pith_archive_writer_options *o = &w->options;
	size_t margin = c->is_first ? 0 : MODEL_MARGIN, nbytes = 0;
	size_t cap = c->stored_nbytes < c->raw_nbytes ? c->stored_nbytes : c->raw_nbytes;
	struct segment_plan plan = plan_of(o);
	struct segment_progress progress = {archive_tally_advance, &w->tally};
	if (cap <= margin + 1 || is_for_zstd(c, o->level)) {
		archive_tally_advance(&w->tally, 2 * c->raw_nbytes);
		return PITH_OK;
	}
	PITH_TRY(segment_model_encode(pith_text_coder_segment(o->coder), &plan, w->inner, o->memory_limit,
	                              &progress, c->raw, c->raw_nbytes, c->coded, cap - margin - 1,
	                              &nbytes, &c->err));
	if (nbytes == 0 || o->no_verify)
		archive_tally_advance(&w->tally, c->raw_nbytes);
	else
		PITH_TRY(verify_model(w, c, nbytes));
	if (nbytes == 0 || c->verify_failed)
		return PITH_OK;
	uint8_t *swap = c->stored;
	c->stored = c->coded;
	c->coded = swap;
	c->stored_nbytes = nbytes;
	c->method = SEGMENT_MODEL;
	return PITH_OK;
}

static pith_status code_chunk(struct pith_archive_writer *w, struct chunk *c)
{
	c->verify_failed = false;
	PITH_TRY(pith_frame_run_encode(c->raw, c->raw_nbytes, FAST_ZSTD_LEVEL, c->stored, w->stored_cap,
	                               &c->fast_nbytes, &c->err));
	PITH_TRY(pith_frame_run_encode(c->raw, c->raw_nbytes, ARCHIVE_ZSTD_LEVEL, c->stored, w->stored_cap,
	                               &c->stored_nbytes, &c->err));
	c->method = SEGMENT_ZSTD;
	if (w->options.coder != NULL)
		PITH_TRY(try_model(w, c));
	else
		archive_tally_advance(&w->tally, 2 * c->raw_nbytes);
	bool worth_a_header = c->raw_nbytes >= SMALL_FRAME_NBYTES || c->is_first;
	if (c->method == SEGMENT_ZSTD && c->stored_nbytes >= c->raw_nbytes && worth_a_header) {
		c->method = SEGMENT_STORED;
		memcpy(c->stored, c->raw, c->raw_nbytes);
		c->stored_nbytes = c->raw_nbytes;
	}
	return PITH_OK;
}

void chunk_code(struct pith_archive_writer *w, struct chunk *c) { c->status = code_chunk(w, c); }
