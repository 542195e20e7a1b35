/*
 * The mixer's loops for AVX2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_sum.h"

#if defined(__AVX2__)
#include "mix_sum_tmpl.h"

static const struct mix_loops loops_avx2[2] = MIX_LOOPS;

const struct mix_loops *mix_loops_avx2(void) { return loops_avx2; }
#else
const struct mix_loops *mix_loops_avx2(void) { return NULL; }
#endif
