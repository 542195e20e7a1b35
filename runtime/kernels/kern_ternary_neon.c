/*
 * The kind ternary for NEON: kern_ternary_tmpl.h on the lanes of lanes_codes_neon.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_neon.h"

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#include "lanes_codes_neon.h"

#include "kern_ternary_tmpl.h"
#endif
