/*
 * What a payload of method 2 says before its code: spec/text_archive.md, section 6.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_SEGMENT_HEAD_H
#define PITH_TEXT_SEGMENT_HEAD_H

#include "text_lm.h"

#define SEGMENT_MAX_STREAMS 256u

struct segment_head {
	bool is_crlf, is_mixed, has_recall;
	uint32_t text_nbytes; /* what the streams hold together */
	uint32_t window, overlap;
	uint32_t stream_count;
	uint32_t stream_nbytes[SEGMENT_MAX_STREAMS];
};

/* Bytes that it takes, at most. */
size_t segment_head_bound(size_t stream_count);
/* Returns its bytes. */
size_t segment_head_store(const struct segment_head *head, uint8_t *out);
/* Read and check; *code: where the code begins.  PITH_E_CORRUPT text.18; 'off': of the payload, for messages. */
pith_status segment_head_load(const struct text_lm *lm, const uint8_t *payload, size_t nbytes,
                              size_t raw_nbytes, uint64_t off, struct segment_head *head,
                              const uint8_t **code, struct pith_error *err);

#endif
