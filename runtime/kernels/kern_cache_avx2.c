/*
 * The KV cache for AVX2: kern_cache_tmpl.h on the lanes of lanes_avx2.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx2.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "lanes_avx2.h"

#include "kern_cache_tmpl.h"
#endif
