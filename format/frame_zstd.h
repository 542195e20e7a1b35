/*
 * Cold sections: one zstd frame whose content size is known and bounded.
 * Spec: spec/container.md, section 4, encoding 1.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_FRAME_ZSTD_H
#define PITH_FORMAT_FRAME_ZSTD_H

#include "bytes.h"

/*
 * container.21: the stored bytes are one frame that gives its content size, and it is
 * raw_nbytes.  Reads the frame's header only.  'off' is for messages.
 */
pith_status pith_frame_check(const uint8_t *stored, size_t nbytes, uint64_t raw_nbytes,
                             uint64_t off, struct pith_error *err);
/* The content size that a frame gives; UINT64_MAX: none, or no frame. */
uint64_t pith_frame_content_nbytes(const uint8_t *stored, size_t nbytes);
/* Decode into out, which has raw_nbytes bytes; the frame must fill it exactly. */
pith_status pith_frame_decode(const uint8_t *stored, size_t nbytes, uint8_t *out,
                              size_t raw_nbytes, uint64_t off, struct pith_error *err);
/* Decode in pieces and drop the result: does the frame decode to raw_nbytes bytes? */
pith_status pith_frame_verify(const uint8_t *stored, size_t nbytes, uint64_t raw_nbytes,
                              uint64_t off, struct pith_error *err);

/* *out is malloc'ed and the caller's to free. */
pith_status pith_frame_encode(const void *data, size_t nbytes, int level, uint8_t **out,
                              size_t *out_nbytes, struct pith_error *err);

#endif
