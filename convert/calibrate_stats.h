/*
 * Statistics of inputs, gathered batch by batch.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_STATS_H
#define PITH_CONVERT_CALIBRATE_STATS_H

#include "calibrate.h"
#include "pith_status.h"

#define CALIBRATION_MAX_SAMPLE 512u

struct calibration_stats;

/* For inputs of n columns and 'token_count' rows in all.  Free with calibration_stats_free(). */
pith_status calibration_stats_new(size_t n, uint64_t token_count, struct calibration_stats **out,
                                  struct pith_error *err);
void calibration_stats_free(struct calibration_stats *s); /* accepts NULL */

/*
 * Add rows x: [k, n].  Column panels are the tasks, so that sums do not depend on the threads; they do on how
 * the rows are cut into batches.
 */
void calibration_stats_add(struct calibration_stats *s, const float *x, size_t k, unsigned threads);

/* Once, when all rows were added. */
void calibration_stats_finish(struct calibration_stats *s);
/* What was gathered; borrowed until the stats are freed. */
const struct calibration_inputs *calibration_stats_inputs(const struct calibration_stats *s);

/* For a table that is looked up: every column weighs the same, nothing else is known. */
pith_status calibration_stats_identity(size_t n, struct calibration_stats **out,
                                       struct pith_error *err);

/* Bytes of statistics over n columns. */
uint64_t calibration_stats_nbytes(uint64_t n);

#endif
