/*
 * Counting of progress, shared by writer and reader.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text_archive.h"

void archive_tally_start(struct archive_tally *t, pith_archive_progress *progress, void *ctx,
                         unsigned phases)
{
	t->progress = progress;
	t->ctx = ctx;
	t->phases = phases;
	atomic_init(&t->content, 0);
	atomic_init(&t->stored, 0);
	atomic_flag_clear(&t->busy);
}

/* A thread that finds another one reporting leaves it at that: the next report counts for both. */
static void report_tally(struct archive_tally *t)
{
	if (t->progress == NULL || atomic_flag_test_and_set_explicit(&t->busy, memory_order_acquire))
		return;
	t->progress(t->ctx, atomic_load(&t->content) / t->phases, atomic_load(&t->stored));
	atomic_flag_clear_explicit(&t->busy, memory_order_release);
}

void archive_tally_advance(void *arg, size_t nbytes)
{
	struct archive_tally *t = arg;
	atomic_fetch_add(&t->content, nbytes);
	report_tally(t);
}

void archive_tally_stored(struct archive_tally *t, uint64_t stored_nbytes)
{
	atomic_store(&t->stored, stored_nbytes);
	report_tally(t);
}
