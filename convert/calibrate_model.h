/*
 * The calibrated conversion: a text runs block by block through the model as compressed so far,
 * and every weight is compressed with what its inputs were.
 *
 * Within a block the groups of linears that share an input are taken in the order of the
 * forward pass (q k v; o; gate up; down), each after the ones before it were replaced by what was packed.  Folds
 * are applied to the whole block first, with inputs from the uncompressed model.  A tied head takes
 * its inputs from the uncompressed model as well, since the first block needs it
 * as the embedding.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_MODEL_H
#define PITH_CONVERT_CALIBRATE_MODEL_H

#include "calibrate_text.h"
#include "recipe.h"

struct calibration_run {
	const struct convert_options *options;
	const struct source *src;
	const struct import_plan *plan;
	const struct recipe *recipe;
	const void *tokenizer; /* blob */
	size_t tokenizer_nbytes;
	const char *target;    /* the journal and a file of activations lie beside it */
	uint8_t fingerprint[32]; /* of sources, recipe and libraries; the journal's key adds the text */
	/* Called for every step of the recipe, in an order of its own; may fail. */
	pith_status (*emit)(void *ctx, const struct recipe_step *step, const struct quant_result *q,
	                    struct pith_error *err);
	/* Work on 'step' begins.  May be NULL. */
	void (*begin)(void *ctx, const struct recipe_step *step);
	void (*note)(void *ctx, const char *text);
	void *ctx;
};

struct calibration_facts {
	uint8_t digest[32]; /* SHA-256 of the text */
	size_t sample_count, length, token_count;
	uint64_t seed;
};

pith_status calibrate_model(const struct calibration_run *run, struct calibration_facts *facts,
                            struct pith_error *err);

/* Most memory needed, in bytes; *spilled: of that on disk. */
uint64_t calibrate_memory(const struct calibration_run *run, uint64_t *spilled);

/* Seconds of forward passes, statistics and factorizations, from the speed of a sample product. */
double calibrate_seconds(const struct calibration_run *run);

#endif
