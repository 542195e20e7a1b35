/*
 * The mixer's two inner loops, compiled once for every processor and once for AVX2: integers, so all give the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_MIX_SUM_H
#define PITH_TEXT_MIX_SUM_H

#include "bytes.h"

#define MIX_MAX_INPUTS 48u
#define MIX_MAX_SETS 7u
#define MIX_WEIGHT_MAX 524287
#define MIX_LEARN_SHIFT 16

/* Two sizes; inputs are a multiple of 8 for vectors. */
struct mix_loops {
	size_t inputs, sets;
	/* dots[s] = the sum of weights times inputs, in units of 2^-8; not limited.  rows: [sets] of [inputs] */
	void (*sum)(int32_t *const *rows, const int32_t *inputs, int32_t *dots);
	/* Move each row by its error. */
	void (*learn)(int32_t *const *rows, const int32_t *inputs, const int32_t *errors);
};
extern const struct mix_loops mix_loops_portable[2]; /* the second: with recall */
/* NULL where the compiler does not know AVX2. */
const struct mix_loops *mix_loops_avx2(void); /* [2] */

#endif
