/*
 * LLM-QAT (Liu et al. 2023), the part that is left when training is over: weights that were trained
 * to be rounded to s * q, |q| <= 2^(bits-1) - 1, s = max|row| / (2^(bits-1) - 1).
 *
 * Codes are those the training saw, of the scale before it is rounded to f16; nothing is searched.
 * Keys are the paper's: bits, and how inputs are rounded (there: per token).  Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"

enum { LLMQAT_BITS, LLMQAT_ACT };

static const struct scheme_key llmqat_keys[] = {
    [LLMQAT_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [LLMQAT_ACT] = {QUANT_ACT_KEY, SCHEME_CHOICE, 0, 0, 0, QUANT_ACT_NAMES},
    {0},
};

static struct quant_grid_rule llmqat_rule(const struct scheme_link *link)
{
	return (struct quant_grid_rule){.bits = scheme_u32(link, LLMQAT_BITS), .group_size = 0,
	                                .zero_mode = GRID_ZERO_SYM, .search = GRID_MINMAX};
}

static size_t quantize_row(const struct quant_codes *c, size_t row, const float *w)
{
	float most = 0, half = (float)(1u << (c->rule.bits - 1));
	for (size_t j = 0; j < c->n; j++)
		most = fabsf(w[j]) > most ? fabsf(w[j]) : most;
	struct quant_grid grid = {.scale = (most + 1e-6f) / (half - 1.0f), .zero = half,
	                          .top = 2 * half - 1};
	grid.scale = grid.scale > 0x1p-24f ? grid.scale : 0x1p-24f; /* the smallest f16 */
	if (!(grid.scale <= 65504.0f))
		return 0;
	for (size_t j = 0; j < c->n; j++)
		c->codes[row * c->n + j] = (uint8_t)quant_grid_code(&grid, w[j]);
	quant_codes_set_grid(c, row, 0, &grid);
	return SIZE_MAX;
}

static pith_status quantize_llmqat(const struct scheme_link *link, const struct quant_job *job,
                                   struct quant_result *out, struct pith_error *err)
{
	struct quant_grid_rule rule = llmqat_rule(link);
	return quant_codes_by_rows(&rule, job, quantize_row, out, err);
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
            "bits=2..8 (4), act=8|token|static as rtn (8)",
    .role = QUANT_QUANTIZE,
    .keys = llmqat_keys,
    .nbytes = llmqat_nbytes,
    .quantize = quantize_llmqat,
};
