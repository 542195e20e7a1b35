/*
 * The AVX-512 set (f, bw, vl, dq, vnni).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"

const struct pith_kernels *pith_set_avx512(void) { return NULL; }
