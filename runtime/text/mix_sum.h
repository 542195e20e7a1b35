/*
 * The mixer's two inner loops, compiled once for every processor and once for AVX2: integers, so all give the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_MIX_SUM_H
#define PITH_TEXT_MIX_SUM_H

#include "bytes.h"

#define MIX_INPUTS 40u /* a multiple of 8 for vectors */
#define MIX_SETS 5u
#define MIX_WEIGHT_MAX 524287
#define MIX_LEARN_SHIFT 16

struct mix_loops {
	/* dots[s] = the sum of weights times inputs, in units of 2^-8; not limited.  rows: [MIX_SETS] of [MIX_INPUTS] */
	void (*sum)(int32_t *const *rows, const int32_t *inputs, int32_t *dots);
	/* Move each row by its error. */
	void (*learn)(int32_t *const *rows, const int32_t *inputs, const int32_t *errors);
};
extern const struct mix_loops mix_loops_portable;
/* NULL where the compiler does not know AVX2. */
const struct mix_loops *mix_loops_avx2(void);

#endif
