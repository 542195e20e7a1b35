/*
 * The kind codebook for NEON: kern_codebook*_tmpl.h on the lanes of lanes_codes_neon.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_neon.h"

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#include "lanes_codes_neon.h"

#include "kern_codebook_real_tmpl.h"

#include "kern_codebook_tmpl.h"
#endif
