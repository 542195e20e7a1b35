/*
 * The recipe of a conversion: which weight is stored by which scheme, and what that
 * will cost.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_RECIPE_H
#define PITH_CONVERT_RECIPE_H

#include "convert.h"

#include <regex.h>

struct recipe_rule {
	regex_t pattern;
	struct scheme scheme;
	const char *text; /* as given */
	bool used;
	const char *vector; /* that matches but cannot be stored by the scheme, or NULL */
};

struct recipe_step { /* one weight to write */
	const struct import_tensor *want;
	const struct source_tensor *have;
	const struct scheme *scheme; /* NULL: as is, in the dtype of the source */
	struct scheme table;         /* what 'scheme' is for an embedding or a head */
	bool by_rule;                /* a rule chose the scheme */
	size_t m, n;
	size_t group; /* of the result */
};

struct recipe {
	struct scheme scheme; /* the default */
	struct scheme norm;   /* of norms when something is folded into them */
	struct recipe_rule *rule;
	size_t rule_count;
	struct recipe_step *step;
	size_t step_count;
};

/*
 * Parse scheme and rules, choose for every tensor of the plan, and fill the groups' names and the counts of
 * *result.  Vectors (norms) keep their dtype unless a rule gives them a dense scheme.
 * *out is freed with recipe_free(), also on failure.
 */
pith_status recipe_make(const struct convert_options *options, const struct import_plan *plan,
                        const struct source *src, struct recipe *out,
                        struct convert_result *result, struct pith_error *err);
void recipe_free(struct recipe *r);

/* Bytes of the step's planes, each rounded up, their number and that of its terms. */
pith_status recipe_step_nbytes(const struct recipe_step *step, uint64_t *nbytes,
                               uint32_t *plane_count, uint32_t *term_count,
                               struct pith_error *err);

/*
 * Where planes of 64 KiB and more start: at multiples of the largest power of two, up to 4 KiB,
 * whose gaps take less than 0.1 % of all planes on average.
 */
uint32_t recipe_tensor_align(const struct recipe *r);

/* Bytes of a weight in names and tables. */
uint64_t recipe_entry_nbytes(const struct recipe_step *step, uint32_t term_count,
                             uint32_t plane_count);

/* Does a step need calibration?  Is something folded? */
bool recipe_needs_inputs(const struct recipe *r);
bool recipe_folds(const struct recipe *r);

/* Run the step's method. */
pith_status recipe_step_run(const struct recipe_step *step, const struct quant_job *job,
                            struct quant_result *out, struct pith_error *err);

/*
 * Estimate file size, memory and seconds: sizes from shapes, speed from a sample of the largest weight of
 * every group and of hashing.
 */
pith_status recipe_estimate(const struct recipe *r, const struct source *src, unsigned threads,
                            struct convert_result *result, struct pith_error *err);

#endif
