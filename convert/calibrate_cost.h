/*
 * Shapes of the blocks to calibrate and what follows from them: memory and time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_COST_H
#define PITH_CONVERT_CALIBRATE_COST_H

#include "calibrate_block.h"
#include "calibrate_model.h"

/* Tokens that are inside a block at a time, or one sample if that is longer. */
#define CALIBRATION_BATCH_TOKENS 4096u

/* Values of the plan's architecture keys; 0 for a key it does not have. */
double import_plan_f64(const struct import_plan *p, const char *key);
uint64_t import_plan_u64(const struct import_plan *p, const char *key);

void calibration_shape_of(const struct import_plan *p, size_t block, struct calibration_shape *s);
/* Every size of the widest block. */
struct calibration_shape calibration_widest(const struct import_plan *p);

/* As asked for, or the defaults. */
size_t calibration_sample_length(const struct calibration_run *run);
size_t calibration_sample_count(const struct calibration_run *run);
uint64_t calibration_stream_limit(const struct calibration_run *run);

/* Floats of scratch for one token inside a block. */
size_t calibration_batch_floats(const struct calibration_shape *s);

#endif
