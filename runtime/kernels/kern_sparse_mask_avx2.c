/*
 * Bitmasks of the kind sparse for AVX2: kern_sparse_mask_tmpl.h on the lanes of lanes_avx2.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx2.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
#include "lanes_avx2.h"

#define mask_planes mask_planes_scalar

#include "kern_sparse_mask_tmpl.h"
#endif
