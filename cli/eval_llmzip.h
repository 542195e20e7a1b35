/*
 * The three codes of LLMZip (Valmeekam et al., arXiv 2306.04050), counted for any model and text.
 *
 * Every token is predicted from the 'window' tokens before it, which are fed anew from position 0 for each token; the
 * first 'window' tokens from the start token and what precedes them.  This is a measurement for comparison
 * with published figures; archives are coded by runtime/text/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_EVAL_LLMZIP_H
#define PITH_CLI_EVAL_LLMZIP_H

#include "cli_model.h"

struct eval_llmzip {
	uint64_t tokens, bytes, characters; /* characters: UTF-8 sequences begun in the text */
	double entropy_bits;                /* sum of -log2 p */
	uint64_t rank_bits;                 /* ranks as decimals and spaces, deflated as gzip -9 */
	uint64_t token_bits;                /* sum of ceil(-log2 p), at least 1 each */
	uint64_t arithmetic_bits;           /* of a 32-bit arithmetic coder, total frequency about 10^7 */
	double seconds;
};

/* window: 1 .. the model's context.  Says what is wrong and returns an exit code, or CLI_OK. */
int eval_llmzip_run(struct cli *cli, const struct cli_model *m, const uint32_t *ids, size_t count,
                    size_t window, const struct pith_executor *executor, struct eval_llmzip *out);

int eval_llmzip_print(const struct eval_llmzip *r, bool json);

#endif
