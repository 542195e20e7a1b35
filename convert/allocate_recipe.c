/*
 * From a size to rules of a recipe: what is left to choose, the measurement, the choice as text.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "allocate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
	const struct calibration_run *run;
	const struct allocate_goal *goal;
	struct allocate_weight *weight; /* those without a rule, in forward order */
	size_t count;
	uint64_t elements, fixed; /* of all weights; bytes of those that are not to be chosen */
};

static uint64_t entry_nbytes(const struct search *s, const struct recipe_step *step, uint32_t terms,
                             uint32_t planes)
{
	return s->goal->with_tables ? recipe_entry_nbytes(step, terms, planes) : 0;
}

/* Matrices that no rule names are to be chosen. */
static pith_status collect(struct search *s, struct pith_error *err)
{
	const struct recipe *r = s->run->recipe;
	s->weight = calloc(r->step_count + 1, sizeof(*s->weight));
	if (!s->weight)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to choose schemes");
	for (size_t i = 0; i < r->step_count; i++) {
		const struct recipe_step *step = &r->step[i];
		uint64_t nbytes;
		uint32_t planes, terms;
		s->elements += (uint64_t)step->m * step->n;
		if (step->want->rank == 2 && !step->by_rule) {
			s->weight[s->count++].step = step;
			continue;
		}
		PITH_TRY(recipe_step_nbytes(step, &nbytes, &planes, &terms, err));
		s->fixed += nbytes + entry_nbytes(s, step, terms, planes);
	}
	if (s->count == 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "there is nothing to choose: rules name every matrix");
	return PITH_OK;
}

/* Every candidate that can store the weight, with its bytes. */
static void list_choices(const struct search *s, const struct allocate_candidates *candidates,
                         struct allocate_weight *w)
{
	const struct recipe_step *step = w->step;
	for (size_t i = 0; i < candidates->count; i++) {
		struct allocate_choice *c = &w->choice[w->choice_count];
		uint32_t planes, terms;
		if (!scheme_nbytes(&candidates->scheme[i], step->m, step->n, &c->nbytes, &planes, &terms))
			continue;
		c->candidate = i;
		c->nbytes += entry_nbytes(s, step, terms, planes);
		w->choice_count++;
	}
}

static pith_status choose(struct search *s, struct pith_error *err)
{
	uint64_t least, budget = s->goal->nbytes > s->fixed ? s->goal->nbytes - s->fixed : 0;
	if (allocate_solve(s->weight, s->count, budget, &least))
		return PITH_OK;
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
	                 "too small: the weights need at least %.3f bits each",
	                 convert_bits(least + s->fixed, s->elements));
}

static pith_status add_rule(const struct search *s, const struct allocate_candidates *candidates,
                            const struct allocate_weight *w, struct allocate_rules *out,
                            struct pith_error *err)
{
	const struct allocate_choice *c = &w->choice[w->chosen];
	const struct scheme *scheme = &candidates->scheme[c->candidate];
	char text[SCHEME_TEXT_CAP];
	scheme_print(scheme, text, sizeof(text));
	size_t cap = strlen(w->step->want->name) + strlen(text) + 4;
	char *rule = malloc(cap);
	if (!rule)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for rules");
	snprintf(rule, cap, "^%s$=%s", w->step->want->name, text);
	out->rule[out->count++] = rule;
	if (s->run->options->chosen)
		s->run->options->chosen(s->run->options->ctx, w->step->want->name, text,
		                        convert_bits(c->nbytes, (uint64_t)w->step->m * w->step->n),
		                        c->loss);
	return PITH_OK;
}

static pith_status search(struct search *s, void (*done)(void *ctx, const struct recipe_step *step),
                          struct allocate_rules *out, struct pith_error *err)
{
	struct allocate_candidates candidates;
	PITH_TRY(collect(s, err));
	allocate_candidates_make(convert_bits(s->goal->nbytes, s->elements), &candidates);
	for (size_t i = 0; i < s->count; i++) {
		list_choices(s, &candidates, &s->weight[i]);
		if (s->weight[i].choice_count == 0)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%s is too large",
			                 s->weight[i].step->want->name);
	}
	PITH_TRY(choose(s, err)); /* too small a goal is told before the long work */
	PITH_TRY(allocate_measure(s->run, &candidates, s->weight, s->count, done, err));
	PITH_TRY(choose(s, err));
	out->rule = calloc(s->count, sizeof(*out->rule));
	if (!out->rule)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for rules");
	for (size_t i = 0; i < s->count; i++)
		PITH_TRY(add_rule(s, &candidates, &s->weight[i], out, err));
	return PITH_OK;
}

pith_status allocate_make_rules(const struct calibration_run *run, const struct allocate_goal *goal,
                                void (*done)(void *ctx, const struct recipe_step *step),
                                struct allocate_rules *out, struct pith_error *err)
{
	struct search s = {.run = run, .goal = goal};
	memset(out, 0, sizeof(*out));
	pith_status status = search(&s, done, out, err);
	free(s.weight);
	return status;
}

void allocate_rules_free(struct allocate_rules *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->rule[i]);
	free(r->rule);
	memset(r, 0, sizeof(*r));
}
