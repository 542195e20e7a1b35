/*
 * A scheme for every weight, so that the model loses least at a given size.
 *
 * The loss is the Kullback-Leibler divergence of the model's predictions on the calibration text.
 * It is taken as a sum over weights, each in proportion to its output error tr(E H E^T), which is
 * measured for every candidate; the factor of proportion is measured too, by running the text
 * through the model with that one weight compressed (allocate_measure.c).  What is left is a
 * choice of one point per weight under a sum of bytes (allocate.c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_ALLOCATE_H
#define PITH_CONVERT_ALLOCATE_H

#include "calibrate_model.h"

#define ALLOCATE_MAX_CANDIDATES 40u
/*
 * Rows of a weight that candidates are measured on, evenly spread; a method's rows are nearly
 * independent.
 */
#define ALLOCATE_MEASURE_ROWS 128u
/* Tokens that each weight's own stream has, or one sample if that is longer. */
#define ALLOCATE_PROBE_TOKENS 2048u

struct allocate_candidates {
	struct scheme scheme[ALLOCATE_MAX_CANDIDATES];
	size_t count;
	size_t probe; /* the one that weights are compressed with to measure their factors */
};

/* What may be chosen where the average is to be 'bits' per weight. */
void allocate_candidates_make(double bits, struct allocate_candidates *out);

struct allocate_choice {
	size_t candidate;
	uint64_t nbytes; /* of planes, and of entries in tables if the goal counts them */
	double error;    /* tr(E H E^T) of the rows that were measured */
	double loss;     /* what it adds to the divergence, nats a token */
};

struct allocate_weight {
	const struct recipe_step *step;
	struct allocate_choice choice[ALLOCATE_MAX_CANDIDATES];
	size_t choice_count;
	double probe_error, probe_loss;
	size_t chosen;
};

/*
 * Measure error and loss of every choice of weight[0 .. count-1], in forward order.  done: work on
 * a step is done; may be NULL.
 */
pith_status allocate_measure(const struct calibration_run *run,
                             const struct allocate_candidates *candidates,
                             struct allocate_weight *weight, size_t count,
                             void (*done)(void *ctx, const struct recipe_step *step),
                             struct pith_error *err);

/*
 * Choose for every weight so that the bytes sum to at most 'budget' and the losses to nearly the
 * least.  false: even the smallest choices need more; *least is what they need.
 */
bool allocate_solve(struct allocate_weight *weight, size_t count, uint64_t budget,
                    uint64_t *least);

/* What all weights together may take: planes alone, or planes and their entries in tables. */
struct allocate_goal {
	uint64_t nbytes;
	bool with_tables;
};

struct allocate_rules {
	char **rule; /* "^NAME$=SCHEME", as struct convert_options takes them */
	size_t count;
};

/*
 * Rules for all matrices that none of the recipe's names; tells options->chosen of each.  A
 * conversion with these rules behind the recipe's is what was asked for.  Free *out also after a
 * failure.
 */
pith_status allocate_make_rules(const struct calibration_run *run, const struct allocate_goal *goal,
                                void (*done)(void *ctx, const struct recipe_step *step),
                                struct allocate_rules *out, struct pith_error *err);
void allocate_rules_free(struct allocate_rules *r);

/*
 * Keep rules beside 'target' (as far as that can be done); take at most 'most' kept under 'key',
 * false: there are none.
 */
void allocate_keep(const char *target, const uint8_t key[32], const struct allocate_rules *rules);
bool allocate_kept(const char *target, const uint8_t key[32], size_t most,
                   struct allocate_rules *out);
void allocate_forget(const char *target);

#endif
