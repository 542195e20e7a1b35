/*
 * Some loops of the coder are compiled twice, for every processor and for AVX2; this says which to take.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_AVX2_LOOPS_H
#define PITH_TEXT_AVX2_LOOPS_H

#include "kernels.h"

/* The kernel sets know the processor and honour PITH_CPU, whose errors are returned. */
static inline pith_status text_allows_avx2(bool *out, struct pith_error *err)
{
	const struct pith_kernels *kernels;
	*out = false;
	PITH_TRY(pith_kernels_select(NULL, &kernels, err));
	*out = (pith_kernels_features(kernels) & PITH_CPU_AVX2) != 0;
	return PITH_OK;
}

#endif
