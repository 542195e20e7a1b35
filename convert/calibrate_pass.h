/*
 * One pass of a text through a model of Llama's form, block by block and cut at the inputs of linears:
 * what a calibrated conversion and the measurement of sensitivities have in common.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_PASS_H
#define PITH_CONVERT_CALIBRATE_PASS_H

#include "calibrate_block.h"
#include "calibrate_model.h"
#include "calibrate_stats.h"
#include "calibrate_stream.h"

enum pass_role {
	PASS_ATTENTION_NORM,
	PASS_Q,
	PASS_K,
	PASS_V,
	PASS_O,
	PASS_FFN_NORM,
	PASS_GATE,
	PASS_UP,
	PASS_DOWN,
	PASS_ROLE_COUNT
};

/* Linears that share an input, and what makes it; by enum fold_site. */
struct pass_site {
	enum pass_role first, last;
	enum pass_role norm;     /* PASS_ROLE_COUNT: none */
	enum pass_role producer; /* PASS_ROLE_COUNT: none */
};
#define PASS_SITE_COUNT 4u
extern const struct pass_site pass_sites[PASS_SITE_COUNT];

struct calibration_pass {
	const struct calibration_run *run;
	unsigned threads;
	struct calibration_shape shape;
	struct calibration_text text;
	size_t tokens;        /* sample_count * length */
	size_t batch_samples; /* samples at a time */
	struct calibration_stream x; /* [tokens, hidden] */
	/* weights of the block at hand, [m, n] f32, and their steps */
	float *w[PASS_ROLE_COUNT];
	const struct recipe_step *step[PASS_ROLE_COUNT];
	float *shift[PASS_SITE_COUNT];  /* [n] taken away from a site's input, or NULL */
	float *offset[PASS_ROLE_COUNT]; /* [m] added to the outputs of what was stored so, or NULL */
	/* one batch of everything inside a block */
	float *normed, *q, *key, *value, *context, *gate, *up;
};

/* Read the text, make the stream.  Close it also after a failure. */
pith_status pass_open(const struct calibration_run *run, struct calibration_pass *p,
                      struct pith_error *err);
void pass_close(struct calibration_pass *p);

/* The step of the weight of that name, or NULL. */
const struct recipe_step *pass_find_step(const struct calibration_pass *p, const char *name);
struct quant_job pass_job(const struct calibration_pass *p, const struct recipe_step *step);

pith_status pass_load_block(struct calibration_pass *p, size_t block, struct pith_error *err);
void pass_free_block(struct calibration_pass *p);

/* Statistics of a site's input, shifted, over the whole stream, weights as they are now; free *out. */
pith_status pass_gather(struct calibration_pass *p, const struct calibration_stream *stream,
                        enum fold_site site, struct calibration_stats **out,
                        struct pith_error *err);
/* Add what the attention (site FOLD_ATTENTION_OUT) or the ffn (FOLD_FFN_OUT) computes to the stream. */
pith_status pass_advance(struct calibration_pass *p, const struct calibration_stream *stream,
                         enum fold_site site, struct pith_error *err);

/* Rows of the table for the samples' tokens.  table: [vocab, hidden], x: [tokens, hidden]. */
void pass_embed(const struct calibration_pass *p, const float *table, float *x);
/* Inputs of the head: the stream's last states, normed; free *out. */
pith_status pass_gather_head(struct calibration_pass *p, const struct calibration_stream *stream,
                             struct calibration_stats **out, struct pith_error *err);
/* The whole uncompressed model, for the inputs of a tied head; uses stream x. */
pith_status pass_gather_tied_head(struct calibration_pass *p, const float *table,
                                  struct calibration_stats **out, struct pith_error *err);

#endif
