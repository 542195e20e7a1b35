/*
 * SmoothQuant (Xiao et al. 2022): part of the range of the inputs is moved into the weights, so
 * that neither has outlier columns: s = max|x|^alpha / max|w|^(1 - alpha), inputs over s, columns
 * times s.
 *
 * The authors fold into norms only (sites=norms); ffn adds the input of the down projection, by
 * way of the up projection's rows, all adds that of the output projection, by way of the values'.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fold_search.h"

#include <stdlib.h>

enum { SMOOTH_ALPHA, SMOOTH_SITES };
enum { SITES_NORMS, SITES_FFN, SITES_ALL };

static const struct scheme_key smoothquant_keys[] = {
    [SMOOTH_ALPHA] = {"alpha", SCHEME_NUMBER, 0.5, 0, 1, NULL},
    [SMOOTH_SITES] = {"sites", SCHEME_CHOICE, SITES_NORMS, 0, 0, "norms|ffn|all"},
    {0},
};

/* Largest weight of a column in all linears. */
static float column_absmax(const struct fold_group *g, size_t column)
{
	float most = 0;
	for (size_t i = 0; i < g->linear_count; i++) {
		for (size_t r = 0; r < g->linear[i].m; r++) {
			float w = fabsf(g->linear[i].w[r * g->n + column]);
			most = w > most ? w : most;
		}
	}
	return most;
}

static pith_status fold_smoothquant(const struct scheme_link *link, struct fold_group *g,
                                    struct pith_error *err)
{
	double alpha = link->value[SMOOTH_ALPHA];
	uint32_t sites = scheme_u32(link, SMOOTH_SITES);
	if ((g->site == FOLD_FFN_OUT && sites == SITES_NORMS) ||
	    (g->site == FOLD_ATTENTION_OUT && sites != SITES_ALL))
		return PITH_OK;
	float *s = malloc(g->n * sizeof(*s));
	if (!s)
		return fold_no_memory(g, err);
	for (size_t j = 0; j < g->n; j++) {
		double a = (double)g->inputs->absmax[j], w = (double)column_absmax(g, j);
		w = w > 1e-5 ? w : 1e-5;
		double v = pow(a, alpha) / pow(w, 1 - alpha);
		s[j] = a > 0 ? (float)(v > 1e-5 ? v : 1e-5) : 1.0f; /* nothing is known of a dead column */
	}
	fold_apply(g, s);
	free(s);
	return PITH_OK;
}

const struct quant_method quant_method_smoothquant = {
    .name = "smoothquant",
    .help = "move outliers of the inputs into the weights (rtn when nothing follows; needs\n"
            "--calib); alpha=0..1 (0.5), sites=norms|ffn|all (norms; ffn: the input of down\n"
            "too, all: that of o too)",
    .role = QUANT_FOLD,
    .needs_inputs = true,
    .keys = smoothquant_keys,
    .fold = fold_smoothquant,
};
