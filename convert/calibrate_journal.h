/*
 * What a calibrated conversion has done so far, beside the target, so that a killed one can be
 * continued.
 *
 * TARGET.resume holds the packed weights in the order in which they were made, TARGET.resume-0 and
 * -1 in turn the hidden states after a stage.  A stage counts once its record is in the
 * file, and that is written only when everything before it is on disk.  The files belong to one machine and one
 * build: they are no format.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_JOURNAL_H
#define PITH_CONVERT_CALIBRATE_JOURNAL_H

#include "calibrate_stream.h"
#include "quant.h"

struct calibration_journal;

/*
 * Start a journal, or with 'resume' continue one that is there.  key: hash of everything the
 * result depends on.  *stages is the number of stages that are done.  PITH_E_ARGUMENT for a journal of another
 * conversion.  Close keeps the files, finish removes them.
 */
pith_status calibration_journal_open(const char *target, const uint8_t key[32], bool resume,
                                     struct calibration_journal **out, uint64_t *stages,
                                     struct pith_error *err);
void calibration_journal_close(struct calibration_journal *j); /* accepts NULL */
void calibration_journal_finish(struct calibration_journal *j); /* removes and closes */

/* The next weight of the stages that are done: free *out.  *step: UINT64_MAX behind the last. */
pith_status calibration_journal_next(struct calibration_journal *j, uint64_t *step,
                                     struct quant_result *out, struct pith_error *err);
/* The hidden states after the last stage that is done.  b may have no data. */
pith_status calibration_journal_load(struct calibration_journal *j, struct calibration_stream *a,
                                     struct calibration_stream *b, struct pith_error *err);

pith_status calibration_journal_add(struct calibration_journal *j, uint64_t step, size_t m, size_t n,
                                    const struct quant_result *q, struct pith_error *err);
/* A stage is done: everything is on disk when this returns. */
pith_status calibration_journal_commit(struct calibration_journal *j,
                                       const struct calibration_stream *a,
                                       const struct calibration_stream *b, struct pith_error *err);

#endif
