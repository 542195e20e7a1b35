/*
 * Round to nearest: every group of a row gets a scale and a zero-point from its own
 * values, every value the nearest code.  No data, no compensation: the baseline.
 *
 * Rows are independent: results do not depend on the number of threads.
 * Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"

enum { RTN_BITS, RTN_GROUP, RTN_ZERO, RTN_SEARCH, RTN_ACT };

static const struct scheme_key rtn_keys[] = {
    [RTN_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [RTN_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [RTN_ZERO] = {"zero", SCHEME_CHOICE, GRID_ZERO_INT, 0, 0, "sym|int|real"},
    [RTN_SEARCH] = {"search", SCHEME_INTEGER, 1, 0, 1, NULL},
    [RTN_ACT] = {QUANT_ACT_KEY, SCHEME_CHOICE, 0, 0, 0, QUANT_ACT_NAMES},
    {0},
};

static void rtn_grid(const struct scheme_link *link, struct quant_grid_rule *rule)
{
	rule->bits = scheme_u32(link, RTN_BITS);
	rule->group_size = scheme_u32(link, RTN_GROUP);
	rule->zero_mode = scheme_u32(link, RTN_ZERO);
	rule->search = scheme_u32(link, RTN_SEARCH) ? GRID_LEAST : GRID_MINMAX;
}

static size_t quantize_row(const struct quant_codes *c, size_t row, const float *w)
{
	for (size_t group = 0; group < c->groups; group++) {
		size_t first = group * c->group_size;
		size_t count = c->n - first < c->group_size ? c->n - first : c->group_size;
		struct quant_grid g;
		if (!quant_grid_fit(&c->rule, w + first, NULL, count, &g))
			return first;
		quant_codes_set_grid(c, row, group, &g);
		for (size_t j = first; j < first + count; j++)
			c->codes[row * c->n + j] = (uint8_t)quant_grid_code(&g, w[j]);
	}
	return SIZE_MAX;
}

static pith_status quantize_rtn(const struct scheme_link *link, const struct quant_job *job,
                                struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule;
	rtn_grid(link, &rule);
	return quant_codes_by_rows(&rule, job, quantize_row, out, err);
}

static bool rtn_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count, uint32_t *term_count)
{
	struct quant_grid_rule rule;
	rtn_grid(link, &rule);
	*term_count = 1;
	return quant_grid_nbytes(&rule, m, n, nbytes, plane_count);
}

const struct quant_method quant_method_rtn = {
    .name = "rtn",
    .help = "round to nearest; bits=2..8 (4), group=16|32|64|128|256|row (64),\n"
            "zero=int|real|sym (int), search=0|1 (1: scales by least squared error),\n"
            "act=8|token|static (8: inputs as int8 with a scale per 32 columns; token: one per\n"
            "token; static: one for all, needs --calib)",
    .role = QUANT_QUANTIZE,
    .keys = rtn_keys,
    .nbytes = rtn_nbytes,
    .quantize = quantize_rtn,
    .grid = rtn_grid,
};
