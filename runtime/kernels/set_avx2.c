/*
 * The AVX2 set (avx2, fma, f16c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"

const struct pith_kernels *pith_set_avx2(void) { return NULL; }
