/*
 * One segment through the language model: spec/text_archive.md, sections 6 to 9.
 * Bytes in, bytes out; knows nothing of archives.  The payload does not depend on the
 * executor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_SEGMENT_MODEL_H
#define PITH_TEXT_SEGMENT_MODEL_H

#include "frequencies.h"
#include "mix.h"
#include "recall_search.h"
#include "text.h"

/* A model made ready for coding; immutable, shareable. */
struct text_coder {
	const struct text_lm *lm; /* borrowed */
	struct vocab_tree tree;
	struct mix_plan *mix;
	text_frequencies_fn *frequencies;
	const struct recall_loops *recall;
};
pith_status text_coder_new(const struct text_lm *lm, struct text_coder *coder,
                           struct pith_error *err);
void text_coder_free(struct text_coder *coder);

/* How the writer cuts and restarts; all zero: what was measured to be best. */
struct segment_plan {
	enum pith_text_level level;    /* chooses what is 0 below */
	uint32_t window, overlap;      /* spec text_archive.md 7 */
	bool has_overlap;              /* else overlap is chosen too */
	size_t stream_count;
	bool no_mix;                   /* the model's probabilities alone */
	/* spec text_archive.md 15; needs the mixer and a model that shows its states */
	enum { SEGMENT_RECALL_OF_LEVEL = 0, SEGMENT_RECALL, SEGMENT_NO_RECALL } recall;
	uint32_t mix_left_out;         /* MIX_PART_..., for measurements: what it writes cannot be decoded */
};

/* Memory that coding or decoding a segment of text_nbytes bytes takes, besides the bytes themselves. */
size_t segment_model_nbytes(const struct text_coder *coder, const struct segment_plan *plan,
                            size_t memory_limit, size_t text_nbytes);

/* Where work is counted, in content bytes.  Called from any thread, one call after the other may overlap. */
struct segment_progress {
	void (*advance)(void *ctx, size_t nbytes);
	void *ctx;
};

/*
 * Code raw_nbytes bytes (1 .. 2^24) into out: [out_cap].  *out_nbytes is 0 when the result would be
 * larger than out_cap: found out early where the text is plainly not the model's.
 * PITH_E_LIMIT when a session needs more than memory_limit bytes.
 */
pith_status segment_model_encode(const struct text_coder *coder, const struct segment_plan *plan,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *raw,
                                 size_t raw_nbytes, uint8_t *out, size_t out_cap,
                                 size_t *out_nbytes, struct pith_error *err);

/* Decode into raw: [raw_nbytes].  'off': of the payload in the archive, for messages. */
pith_status segment_model_decode(const struct text_coder *coder,
                                 const struct pith_executor *executor, size_t memory_limit,
                                 const struct segment_progress *progress, const uint8_t *payload,
                                 size_t nbytes, uint64_t off, uint8_t *raw, size_t raw_nbytes,
                                 struct pith_error *err);

#endif
