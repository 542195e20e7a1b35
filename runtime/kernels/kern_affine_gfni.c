/*
 * The kind affine for AVX-512 with GFNI, where the 1-bit part of codes of 3 bits takes fewer
 * instructions: kern_affine_tmpl.h on the lanes of lanes_avx512.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_gfni.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__GFNI__)
#include "lanes_nibbles_avx512.h"

#undef LANE_NAME
#define LANE_NAME(stem) stem##_gfni

#include "kern_affine_tmpl.h"
#endif
