/*
 * Segments of a text archive that zstd codes: frames without content size and checksum, which the segment header
 * holds already, one after the other.  Spec: spec/text_archive.md, rule text.7.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_FRAME_RUN_H
#define PITH_FORMAT_FRAME_RUN_H

#include "bytes.h"

/* Room for one frame of nbytes bytes. */
size_t pith_frame_run_bound(size_t nbytes);
/* One frame into out: [out_cap >= bound].  nbytes: 1 .. 2^24. */
pith_status pith_frame_run_encode(const void *data, size_t nbytes, int level, uint8_t *out,
                                  size_t out_cap, size_t *out_nbytes, struct pith_error *err);
/* All frames into out; they must fill its raw_nbytes bytes exactly.  'off' is for messages. */
pith_status pith_frame_run_decode(const uint8_t *stored, size_t nbytes, uint8_t *out,
                                  size_t raw_nbytes, uint64_t off, struct pith_error *err);

#endif
