/*
 * Logits to integer frequencies: spec/text_archive.md, section 8.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_FREQUENCIES_H
#define PITH_TEXT_FREQUENCIES_H

#include "bytes.h"

/*
 * Prefix sums of the frequencies in the order of the vocabulary tree.
 * logits: [count] f32; order: [count] ids by position; scratch: [count] u32;
 * sums: [count + 1] u32, sums[0] = 0.  count: 1 .. 2^24.
 * The floating-point mode is the caller's duty (fpmode.h).  False when a logit is not finite.
 */
typedef bool text_frequencies_fn(const float *logits, size_t count, const uint32_t *order,
                                 uint32_t *scratch, uint32_t *sums);
text_frequencies_fn text_frequencies;
/* The same; NULL where the compiler does not know AVX2. */
text_frequencies_fn *text_frequencies_avx2(void);

#endif
