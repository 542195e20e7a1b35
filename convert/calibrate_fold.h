/*
 * Folds of a block, with inputs from the uncompressed model, and what the block makes of a group's
 * outputs, by which folds are judged.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_FOLD_H
#define PITH_CONVERT_CALIBRATE_FOLD_H

#include "calibrate_pass.h"

/*
 * Fold the whole block at hand, and take the reference stream through the block as it was.  Inputs
 * of all sites are gathered before anything is changed.
 */
pith_status calibration_fold_block(struct calibration_pass *p,
                                   const struct calibration_stream *reference,
                                   struct pith_error *err);

/* Most memory of that beside the block and the pass's scratch, in bytes. */
uint64_t calibration_fold_nbytes(const struct calibration_shape *s, uint64_t length, uint64_t count);

#endif
