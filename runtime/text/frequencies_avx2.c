/*
 * Frequencies for AVX2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "frequencies.h"

#if defined(__AVX2__)
#include "frequencies_tmpl.h"

text_frequencies_fn *text_frequencies_avx2(void) { return frequencies; }
#else
text_frequencies_fn *text_frequencies_avx2(void) { return NULL; }
#endif
