/*
 * Ranges for an executor.  Assumes nothing about the executor but its contract in pithrun.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "parallel.h"

#include "fpmode.h"

/* A hand-over between two cores and back costs one to two microseconds. */
#define MIN_CHUNK_WORK 2000u
/*
 * Rounds of ranges, one range per thread and round.  A round takes half of what is left, the last one
 * all of it: long ranges first, because memory is read in long streams, and short ones at the end,
 * so that threads end together though one of them was held up.
 */
#define MAX_ROUNDS 5u

struct split {
	pith_range_fn *fn;
	void *arg;
	size_t count, width, rounds;
};

/* Where range i begins, and range i - 1 ends. */
static size_t range_begin(const struct split *s, size_t i)
{
	size_t round = i / s->width, left = s->count >> round;
	if (round == s->rounds)
		return s->count;
	size_t size = round + 1 < s->rounds ? left - left / 2 : left;
	return s->count - left + size * (i % s->width) / s->width;
}

static void run_chunk(void *arg, size_t i)
{
	const struct split *s = arg;
	uint64_t mode = pith_fpmode_enter();
	s->fn(s->arg, range_begin(s, i), range_begin(s, i + 1));
	pith_fpmode_restore(mode);
}

void pith_parallel(const struct pith_executor *executor, size_t count, size_t work,
                   pith_range_fn *fn, void *arg)
{
	struct split s = {.fn = fn, .arg = arg, .count = count, .width = 1, .rounds = 1};
	if (count == 0)
		return;
	if (executor != NULL && executor->width > 1) {
		size_t least = work >= MIN_CHUNK_WORK ? 1 : MIN_CHUNK_WORK / (work + 1);
		size_t chunks = count / (least > 0 ? least : 1);
		s.width = chunks < 2 ? 1 : chunks < executor->width ? chunks : executor->width;
		while (s.rounds < MAX_ROUNDS && s.width << s.rounds <= chunks)
			s.rounds++;
	}
	if (s.width > 1) {
		executor->run(executor, run_chunk, &s, s.width * s.rounds);
		return;
	}
	s.rounds = 1;
	run_chunk(&s, 0);
}
