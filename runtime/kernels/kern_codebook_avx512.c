/*
 * The kind codebook for AVX-512: kern_codebook*_tmpl.h on the lanes of lanes_codes_avx512.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx512.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include "lanes_codes_avx512.h"

#include "kern_codebook_real_tmpl.h"

#include "kern_codebook_tmpl.h"
#endif
