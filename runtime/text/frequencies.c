/*
 * Frequencies for every processor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "frequencies_tmpl.h"

bool text_frequencies(const float *logits, size_t count, const uint32_t *order, uint32_t *scratch,
                      uint32_t *sums)
{
	return frequencies(logits, count, order, scratch, sums);
}
