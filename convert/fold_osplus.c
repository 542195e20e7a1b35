/*
 * Outlier Suppression+ (Wei et al. 2023): every column of the inputs is centred, z = (max + min) / 2;
 * columns that then reach beyond a threshold t are scaled back to it, s = max(1, max |x - z| / t), and
 * their weights take the factor.  t is searched, from the largest input down, by the error of the output
 * with weights and inputs quantized.
 *
 * The paper folds z into the norm's bias.  RMSNorm has none, so with shift=1 it is stored with every
 * weight as a transform; the authors' code for Llama does not shift.
 *
 * Grids are fitted to the ends of the range in the search, as in the authors' code: at the 6 to 8
 * bits that this is for, a search of ranges changes little and would be done a hundred times.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fold_search.h"

#include "bytes.h"

#include <stdlib.h>

#define LEAST_THRESHOLD 0.1
#define MAX_STEPS 1000.0

enum { OS_STEPS, OS_SITES, OS_SHIFT };
enum { SITES_NORMS, SITES_FFN, SITES_ALL };

static const struct scheme_key osplus_keys[] = {
    [OS_STEPS] = {"steps", SCHEME_INTEGER, 100, 2, MAX_STEPS, NULL},
    [OS_SITES] = {"sites", SCHEME_CHOICE, SITES_FFN, 0, 0, "norms|ffn|all"},
    [OS_SHIFT] = {"shift", SCHEME_INTEGER, 0, 0, 1, NULL},
    {0},
};

static const struct quant_grid_rule osplus_grid = {
    .bits = 8, .group_size = 0, .zero_mode = GRID_ZERO_SYM, .search = GRID_MINMAX};

static float largest_input(const struct fold_group *g)
{
	float most = 0;
	for (size_t j = 0; j < g->n; j++)
		most = fold_reach(g, j) > most ? fold_reach(g, j) : most;
	return most;
}

static void make_scales(const struct fold_group *g, double t, float *s)
{
	for (size_t j = 0; j < g->n; j++) {
		double v = (double)fold_reach(g, j) / t;
		s[j] = (float)(v > 1 ? v : 1);
	}
}

/* best: [n]; 1 is the start, t = the largest input. */
static pith_status search_threshold(const struct fold_group *g, struct fold_search *search,
                                    double steps, float *s, float *best, struct pith_error *err)
{
	double most = (double)largest_input(g), least = INFINITY;
	steps = most / 0.5 > steps ? floor(most / 0.5) : steps;
	steps = steps < MAX_STEPS ? steps : MAX_STEPS;
	for (double i = 0; i < steps; i++) {
		double loss, t = most - (most - LEAST_THRESHOLD) * i / steps;
		make_scales(g, t, s);
		if (!fold_share(g, s))
			return fold_no_memory(g, err);
		PITH_TRY(fold_search_loss(search, s, &loss, err));
		if (loss < least) {
			least = loss;
			memcpy(best, s, g->n * sizeof(*best));
		}
		if (most <= LEAST_THRESHOLD)
			break;
	}
	return PITH_OK;
}

static pith_status fold_osplus(const struct scheme_link *link, struct fold_group *g,
                               struct pith_error *err)
{
	struct fold_search *search;
	uint32_t sites = scheme_u32(link, OS_SITES);
	if ((g->site == FOLD_FFN_OUT && sites == SITES_NORMS) ||
	    (g->site == FOLD_ATTENTION_OUT && sites != SITES_ALL))
		return PITH_OK;
	for (size_t j = 0; scheme_u32(link, OS_SHIFT) && j < g->n; j++)
		g->shift[j] = (g->inputs->max[j] + g->inputs->min[j]) / 2;
	PITH_TRY(fold_search_new(g, &osplus_grid, true, true, &search, err));
	float *s = malloc(2 * g->n * sizeof(*s));
	pith_status status = s ? PITH_OK : fold_no_memory(g, err);
	for (size_t j = 0; s && j < g->n; j++)
		s[g->n + j] = 1.0f;
	if (s)
		status = search_threshold(g, search, link->value[OS_STEPS], s, s + g->n, err);
	if (status == PITH_OK)
		fold_apply(g, s + g->n);
	free(s);
	fold_search_free(search);
	return status;
}

const struct quant_method quant_method_osplus = {
    .name = "os+",
    .help = "scale back inputs beyond a threshold that is searched (rtn when nothing follows;\n"
            "needs --calib); steps=2..1000 (100; more for large inputs),\n"
            "sites=norms|ffn|all (ffn: norms and the input of down), shift=0|1 (1: centre every\n"
            "column; costs a transform)",
    .role = QUANT_FOLD,
    .needs_inputs = true,
    .keys = osplus_keys,
    .fold = fold_osplus,
};
