/*
 * Ranges for an executor.  Assumes nothing about the executor but its contract in pithrun.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "parallel.h"

#include "fpmode.h"

/* A hand-over between two cores and back costs one to two microseconds. */
#define MIN_CHUNK_WORK 2000u
/* Ranges per thread: enough that a thread that was held up does not hold up the step. */
#define CHUNKS_PER_THREAD 4u

struct split {
	pith_range_fn *fn;
	void *arg;
	size_t count, chunks;
};

static void run_chunk(void *arg, size_t i)
{
	const struct split *s = arg;
	size_t size = s->count / s->chunks, rest = s->count % s->chunks;
	/* the first 'rest' chunks hold one item more */
	size_t begin = i * size + (i < rest ? i : rest);
	uint64_t mode = pith_fpmode_enter();
	s->fn(s->arg, begin, begin + size + (i < rest ? 1 : 0));
	pith_fpmode_restore(mode);
}

void pith_parallel(const struct pith_executor *executor, size_t count, size_t work,
                   pith_range_fn *fn, void *arg)
{
	struct split s = {.fn = fn, .arg = arg, .count = count, .chunks = 1};
	if (count == 0)
		return;
	if (executor != NULL && executor->width > 1) {
		size_t most = executor->width * CHUNKS_PER_THREAD;
		size_t items_per_chunk = work >= MIN_CHUNK_WORK ? 1 : MIN_CHUNK_WORK / (work + 1);
		s.chunks = count / (items_per_chunk > 0 ? items_per_chunk : 1);
		s.chunks = s.chunks < most ? s.chunks : most;
	}
	if (s.chunks > 1) {
		executor->run(executor, run_chunk, &s, s.chunks);
		return;
	}
	s.chunks = 1;
	run_chunk(&s, 0);
}
