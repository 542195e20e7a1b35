/*
 * The kind affine for AVX-512: kern_affine_tmpl.h on the lanes of lanes_avx512.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets_avx512.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include "lanes_nibbles_avx512.h"

#include "kern_affine_tmpl.h"
#endif
