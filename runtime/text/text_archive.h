/*
 * What writer and reader of archives share: the coder behind pith_text_coder and the
 * counting of progress.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_TEXT_ARCHIVE_H
#define PITH_TEXT_TEXT_ARCHIVE_H

#include "segment_model.h"
#include "text.h"

#include <stdatomic.h>

#define ARCHIVE_DEFAULT_MEMORY ((size_t)1 << 30)

/* The part of a text coder that codes segments. */
const struct text_coder *pith_text_coder_segment(const struct pith_text_coder *coder);
/* A text coder over any lm, which must outlive it: for tests. */
pith_status pith_text_coder_of_lm(const struct text_lm *lm, struct pith_text_coder **out,
                                  struct pith_error *err);

/* Counts from any thread; passes them on one at a time. */
struct archive_tally {
	pith_archive_progress *progress; /* may be NULL */
	void *ctx;
	unsigned phases;                 /* how often each byte is counted */
	_Atomic uint64_t content, stored;
	atomic_flag busy;
};
void archive_tally_start(struct archive_tally *t, pith_archive_progress *progress, void *ctx,
                         unsigned phases);
/* arg: struct archive_tally */
void archive_tally_advance(void *arg, size_t nbytes);
void archive_tally_stored(struct archive_tally *t, uint64_t stored_nbytes);

#endif
