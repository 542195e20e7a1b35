/*
 * The KV cache for AVX-512: kern_cache_tmpl.h on the lanes of lanes_avx512.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx512.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include "lanes_avx512.h"

#include "kern_cache_tmpl.h"
#endif
