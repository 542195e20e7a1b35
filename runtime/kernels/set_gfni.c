/*
 * The AVX-512 set with GFNI: the kind affine has a kernel of its own.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"
#include "sets_gfni.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__GFNI__)
static const struct pith_kernels kernels_gfni = {
	.name = "gfni",
	SET_AVX512_ROWS(pith_affine_apply_gfni),
};

const struct pith_kernels *pith_set_gfni(void) { return &kernels_gfni; }
#else
const struct pith_kernels *pith_set_gfni(void) { return NULL; }
#endif
