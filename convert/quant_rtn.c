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

#include <stdlib.h>

enum { RTN_BITS, RTN_GROUP, RTN_ZERO, RTN_SEARCH };

static const struct scheme_key rtn_keys[] = {
    [RTN_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [RTN_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [RTN_ZERO] = {"zero", SCHEME_CHOICE, GRID_ZERO_INT, 0, 0, "sym|int|real"},
    [RTN_SEARCH] = {"search", SCHEME_INTEGER, 1, 0, 1, NULL},
    {0},
};

static void rtn_grid(const struct scheme_link *link, struct quant_grid_rule *rule)
{
	rule->bits = scheme_u32(link, RTN_BITS);
	rule->group_size = scheme_u32(link, RTN_GROUP);
	rule->zero_mode = scheme_u32(link, RTN_ZERO);
	rule->search = scheme_u32(link, RTN_SEARCH) ? GRID_LEAST : GRID_MINMAX;
}

struct rtn_work {
	struct quant_codes codes;
	const float *piece; /* [rows, n] */
	size_t first_row;
	size_t *overflow; /* [rows] column of a group that is too large, or SIZE_MAX */
};

static void quantize_row(void *ctx, size_t i)
{
	const struct rtn_work *k = ctx;
	const struct quant_codes *c = &k->codes;
	const float *w = k->piece + i * c->n;
	size_t row = k->first_row + i;
	k->overflow[i] = SIZE_MAX;
	for (size_t group = 0; group < c->groups; group++) {
		size_t first = group * c->group_size;
		size_t count = c->n - first < c->group_size ? c->n - first : c->group_size;
		struct quant_grid g;
		if (!quant_grid_fit(&c->rule, w + first, NULL, count, &g)) {
			k->overflow[i] = first;
			return;
		}
		quant_codes_set_grid(c, row, group, &g);
		for (size_t j = first; j < first + count; j++)
			c->codes[row * c->n + j] = (uint8_t)quant_grid_code(&g, w[j]);
	}
}

static pith_status quantize_pieces(const struct quant_job *job, struct rtn_work *k, float *piece,
                                   struct pith_error *err)
{
	size_t step = quant_piece_rows(job);
	k->piece = piece;
	for (size_t row = 0; row < job->m; row += step) {
		size_t rows = job->m - row < step ? job->m - row : step;
		k->first_row = row;
		PITH_TRY(quant_job_read(job, (uint64_t)row * job->n, rows * job->n, piece, err));
		quant_rows(job->threads, rows, quantize_row, k);
		for (size_t i = 0; i < rows; i++)
			if (k->overflow[i] != SIZE_MAX)
				return quant_grid_overflow(job, row + i, k->overflow[i], err);
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, (uint64_t)(row + rows) * job->n, err));
	}
	return PITH_OK;
}

static pith_status quantize_rtn(const struct scheme_link *link, const struct quant_job *job,
                                struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule;
	struct rtn_work k = {.first_row = 0};
	rtn_grid(link, &rule);
	PITH_TRY(quant_codes_new(&rule, job, &k.codes, err));
	size_t rows = quant_piece_rows(job);
	k.overflow = malloc(rows * sizeof(*k.overflow));
	float *piece = malloc(rows * job->n * sizeof(*piece));
	pith_status status = k.overflow && piece ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK)
		status = quantize_pieces(job, &k, piece, err);
	free(piece);
	free(k.overflow);
	if (status == PITH_OK)
		status = quant_codes_pack(&k.codes, out, err);
	quant_codes_free(&k.codes);
	return status;
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
            "zero=int|real|sym (int), search=0|1 (1: scales by least squared error)",
    .role = QUANT_QUANTIZE,
    .keys = rtn_keys,
    .nbytes = rtn_nbytes,
    .quantize = quantize_rtn,
    .grid = rtn_grid,
};
