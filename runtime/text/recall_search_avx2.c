/*
 * The loops of recall for AVX2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "recall_search.h"

#if defined(__AVX2__)
#include "recall_search_tmpl.h"

static const struct recall_loops loops_avx2 = {near, dot};

const struct recall_loops *recall_loops_avx2(void) { return &loops_avx2; }
#else
const struct recall_loops *recall_loops_avx2(void) { return NULL; }
#endif
