/*
 * The kind codebook for AVX2: kern_codebook*_tmpl.h on the lanes of lanes_codes_avx2.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx2.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "lanes_codes_avx2.h"

#include "kern_codebook_real_tmpl.h"

#include "kern_codebook_tmpl.h"
#endif
