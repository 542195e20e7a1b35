/*
 * Make every checksum of a mutated .pith file right again, as far as its offsets lie
 * inside the memory, so that fuzzing gets past them to the rules behind.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_RESEAL_H
#define PITH_TESTS_RESEAL_H

#include "bytes.h"

/* data: [nbytes]; offsets and counts may be anything. */
void reseal(uint8_t *data, size_t nbytes);

#endif
