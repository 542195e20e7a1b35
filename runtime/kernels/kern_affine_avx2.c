/*
 * The kind affine for AVX2: kern_affine_tmpl.h on the lanes of lanes_avx2.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx2.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "lanes_avx2.h"
#include "lanes_slice16.h"

#define slice16_dot slice16_decoded_dot
#define slice16_two_level slice16_two_level_masks
#define level_3 level_3_masks
#define level_3_decode level_3_masks_decode
#define level_3_pair level_3_masks_pair

#include "kern_affine_tmpl.h"
#endif
