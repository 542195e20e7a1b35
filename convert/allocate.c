/*
 * Candidates and the choice among them.  See allocate.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "allocate.h"

#include "bytes.h"

#include <stdio.h>

/* ---- candidates ---- */

/*
 * Methods at codes of some bits, near one another in size.  Codebooks of squeezellm were measured and lay
 * above the convex hull from 3 bits up; rtn and low rank are left out untried.
 */
static const char *const forms[] = {
    "gptq:bits=%u,group=128",
    "spqr:bits=%u,group=64,outliers=0",
    "spqr:bits=%u,group=32,outliers=0",
    "spqr:bits=%u,group=16,outliers=0",
    "spqr:bits=%u,group=16,outliers=1%%",
    "owq:bits=%u.1,group=128",
    "owq:bits=%u.2,group=128",
};
#define WIDTHS 4u     /* of codes, around the average */
#define PROBE_FORM 2u /* at the bits just below the average */
_Static_assert(PITH_ARRAY_LENGTH(forms) * WIDTHS <= ALLOCATE_MAX_CANDIDATES, "room for all");

void allocate_candidates_make(double bits, struct allocate_candidates *out)
{
	memset(out, 0, sizeof(*out));
	unsigned at = bits < 2 ? 2 : bits > 8 ? 8 : (unsigned)bits;
	unsigned low = at > 2 ? at - 1 : 2, high = low + WIDTHS - 1 < 8 ? low + WIDTHS - 1 : 8;
	/* those that share a factor of the Hessian one after the other */
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(forms); i++) {
		for (unsigned b = low; b <= high; b++) {
			char text[SCHEME_TEXT_CAP];
			snprintf(text, sizeof(text), forms[i], b);
			if (scheme_parse(text, &out->scheme[out->count], NULL) != PITH_OK)
				continue; /* not every form has 8 bits */
			if (b == at && i == PROBE_FORM)
				out->probe = out->count;
			out->count++;
		}
	}
}

/* ---- the choice ---- */

/*
 * The next choice up the lower convex hull of (nbytes, loss): most loss saved a byte; SIZE_MAX:
 * none.
 */
static size_t next_on_hull(const struct allocate_weight *w, double *rate)
{
	const struct allocate_choice *at = &w->choice[w->chosen];
	size_t best = SIZE_MAX;
	*rate = 0;
	for (size_t i = 0; i < w->choice_count; i++) {
		const struct allocate_choice *c = &w->choice[i];
		if (c->nbytes <= at->nbytes || c->loss >= at->loss)
			continue;
		double r = (at->loss - c->loss) / (double)(c->nbytes - at->nbytes);
		if (best == SIZE_MAX || r > *rate ||
		    (r >= *rate && c->nbytes > w->choice[best].nbytes)) {
			*rate = r;
			best = i;
		}
	}
	return best;
}

static size_t smallest(const struct allocate_weight *w)
{
	size_t best = 0;
	for (size_t i = 1; i < w->choice_count; i++) {
		const struct allocate_choice *c = &w->choice[i], *b = &w->choice[best];
		if (c->nbytes < b->nbytes || (c->nbytes == b->nbytes && c->loss < b->loss))
			best = i;
	}
	return best;
}

/*
 * The steps along all hulls, steepest first, as a Lagrange multiplier that falls would take them:
 * each state passed is the best of its size.  A step that does not fit ends its weight's hull.
 */
static void climb(struct allocate_weight *weight, size_t count, uint64_t *left)
{
	for (;;) {
		size_t best = SIZE_MAX, to = 0;
		double best_rate = 0;
		for (size_t i = 0; i < count; i++) {
			double rate;
			size_t next = next_on_hull(&weight[i], &rate);
			if (next == SIZE_MAX || rate <= best_rate ||
			    weight[i].choice[next].nbytes - weight[i].choice[weight[i].chosen].nbytes > *left)
				continue;
			best = i;
			to = next;
			best_rate = rate;
		}
		if (best == SIZE_MAX)
			return;
		struct allocate_weight *w = &weight[best];
		*left -= w->choice[to].nbytes - w->choice[w->chosen].nbytes;
		w->chosen = to;
	}
}

/* What the hulls left over, for single choices beside them: most loss saved first. */
static void fill(struct allocate_weight *weight, size_t count, uint64_t *left)
{
	for (;;) {
		size_t best = SIZE_MAX, to = 0;
		double most = 0;
		for (size_t i = 0; i < count; i++) {
			const struct allocate_weight *w = &weight[i];
			const struct allocate_choice *at = &w->choice[w->chosen];
			for (size_t k = 0; k < w->choice_count; k++) {
				const struct allocate_choice *c = &w->choice[k];
				if (at->loss - c->loss <= most || c->nbytes > at->nbytes + *left)
					continue;
				most = at->loss - c->loss;
				best = i;
				to = k;
			}
		}
		if (best == SIZE_MAX)
			return;
		struct allocate_weight *w = &weight[best];
		*left = *left + w->choice[w->chosen].nbytes - w->choice[to].nbytes;
		w->chosen = to;
	}
}

bool allocate_solve(struct allocate_weight *weight, size_t count, uint64_t budget, uint64_t *least)
{
	*least = 0;
	for (size_t i = 0; i < count; i++) {
		weight[i].chosen = smallest(&weight[i]);
		*least += weight[i].choice[weight[i].chosen].nbytes;
	}
	if (*least > budget)
		return false;
	uint64_t left = budget - *least;
	climb(weight, count, &left);
	fill(weight, count, &left);
	return true;
}
