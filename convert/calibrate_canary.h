/*
 * The canary of a weight that is about to be written.  Spec: spec/numerics.md 8
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_CANARY_H
#define PITH_CONVERT_CALIBRATE_CANARY_H

#include "term.h"

/*
 * Outputs of the first and the last row tile for the input of 'seed', by the reference kernels.
 * terms: as they will be written, of a weight [m, n]; permute: [n] or NULL.
 */
pith_status canary_of_terms(const struct pith_packed_term *terms, size_t term_count,
                            const uint32_t *permute, size_t m, size_t n, uint32_t seed,
                            float first[16], float last[16], struct pith_error *err);

#endif
