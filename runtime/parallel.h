/*
 * Splitting one step of work into ranges for an executor.  Every task sets the floating-point mode
 * of the thread it runs on, so any host's threads compute the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_PARALLEL_H
#define PITH_RUNTIME_PARALLEL_H

#include "pithrun.h"

typedef void pith_range_fn(void *arg, size_t begin, size_t end);

/*
 * Call fn(arg, begin, end) for disjoint ranges that make up 0 .. count-1, and return when
 * all are done.  'work': rough cost of one item in nanoseconds; what is too
 * small to be worth waking another thread for runs on the calling thread.  executor may be NULL.
 */
void pith_parallel(const struct pith_executor *executor, size_t count, size_t work,
                   pith_range_fn *fn, void *arg);

#endif
