/*
 * Hidden states of all calibration tokens, in memory or in an unlinked file that is mapped.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_STREAM_H
#define PITH_CONVERT_CALIBRATE_STREAM_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct calibration_stream {
	float *data; /* [rows, n]; NULL: none */
	size_t nbytes;
	bool mapped;
};

/* Above 'limit' bytes the stream is a file beside 'target', which has no name and goes with the process. */
pith_status calibration_stream_new(size_t rows, size_t n, uint64_t limit, const char *target,
                                   struct calibration_stream *out, struct pith_error *err);
void calibration_stream_free(struct calibration_stream *s);

#endif
