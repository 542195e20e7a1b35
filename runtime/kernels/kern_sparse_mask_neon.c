/*
 * Bitmasks of the kind sparse for NEON: kern_sparse_mask_tmpl.h on the lanes of lanes_neon.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_neon.h"

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#include "lanes_neon.h"

#define mask_planes mask_planes_scalar

#include "kern_sparse_mask_tmpl.h"
#endif
