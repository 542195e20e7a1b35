/*
 * The canary of a weight that is about to be written.  Spec: spec/numerics.md 8
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_CANARY_H
#define PITH_CONVERT_CALIBRATE_CANARY_H

#include "quant.h"

/*
 * Outputs of the first and the last row tile for the input of 'seed', by the reference kernels.
 * q: as it will be written, of a weight [m, n].
 */
pith_status canary_of_result(const struct quant_result *q, size_t m, size_t n, uint32_t seed,
                             float first[16], float last[16], struct pith_error *err);

#endif
