/*
 * The mixer's loops for every processor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_sum_tmpl.h"

const struct mix_loops mix_loops_portable[2] = MIX_LOOPS;
