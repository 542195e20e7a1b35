/*
 * The AVX-512 set (f, bw, vl, dq, vnni).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"
#include "sets_avx512.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
static const struct pith_kernels kernels_avx512 = {
	.name = "avx512",
	SET_AVX512_ROWS(pith_affine_apply_avx512),
};

const struct pith_kernels *pith_set_avx512(void) { return &kernels_avx512; }
#else
const struct pith_kernels *pith_set_avx512(void) { return NULL; }
#endif
