/*
 * LLM-QAT (Liu et al. 2023), the part that is left when training is over: weights that were trained
 * to be rounded to s * q, |q| <= 2^(bits-1) - 1, s = max|row| / (2^(bits-1) - 1).
 *
 * Codes are those the training saw, of the scale before it is rounded to f16; nothing is searched.
 * Keys are the paper's: bits only.  Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"

#include <stdlib.h>

enum { LLMQAT_BITS };

static const struct scheme_key llmqat_keys[] = {
    [LLMQAT_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    {0},
};

static struct quant_grid_rule llmqat_rule(const struct scheme_link *link)
{
	return (struct quant_grid_rule){.bits = scheme_u32(link, LLMQAT_BITS), .group_size = 0,
	                                .zero_mode = GRID_ZERO_SYM, .search = GRID_MINMAX};
}

struct llmqat_work {
	struct quant_codes codes;
	const float *piece; /* [rows, n] */
	size_t first_row;
	bool *overflow; /* [rows] */
};

static void quantize_row(void *ctx, size_t i)
{
	const struct llmqat_work *k = ctx;
	size_t n = k->codes.n, row = k->first_row + i;
	const float *w = k->piece + i * n;
	float most = 0, half = (float)(1u << (k->codes.rule.bits - 1));
	for (size_t j = 0; j < n; j++)
		most = fabsf(w[j]) > most ? fabsf(w[j]) : most;
	struct quant_grid grid = {.scale = (most + 1e-6f) / (half - 1.0f), .zero = half,
	                          .top = 2 * half - 1};
	grid.scale = grid.scale > 0x1p-24f ? grid.scale : 0x1p-24f; /* the smallest f16 */
	k->overflow[i] = !(grid.scale <= 65504.0f);
	if (k->overflow[i])
		return;
	for (size_t j = 0; j < n; j++)
		k->codes.codes[row * n + j] = (uint8_t)quant_grid_code(&grid, w[j]);
	quant_codes_set_grid(&k->codes, row, 0, &grid);
}

static pith_status quantize_pieces(const struct quant_job *job, struct llmqat_work *k, float *piece,
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
			if (k->overflow[i])
				return quant_grid_overflow(job, row + i, 0, err);
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, (uint64_t)(row + rows) * job->n, err));
	}
	return PITH_OK;
}

static pith_status quantize_llmqat(const struct scheme_link *link, const struct quant_job *job,
                                   struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule = llmqat_rule(link);
	struct llmqat_work k = {.first_row = 0};
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

static bool llmqat_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                          uint32_t *plane_count, uint32_t *term_count)
{
	struct quant_grid_rule rule = llmqat_rule(link);
	*term_count = 1;
	return quant_grid_nbytes(&rule, m, n, nbytes, plane_count);
}

const struct quant_method quant_method_llmqat = {
    .name = "llm-qat",
    .help = "weights trained for it: one symmetric grid per row, nothing searched;\n"
            "bits=2..8 (4)",
    .role = QUANT_QUANTIZE,
    .keys = llmqat_keys,
    .nbytes = llmqat_nbytes,
    .quantize = quantize_llmqat,
};
