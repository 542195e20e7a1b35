/*
 * Work in lanes that is made side by side and used in one order.
 *
 * Lane l makes rounds 0, 1, ..; 'use' takes round 0 of lane 0, of lane 1, .., round 1 of lane 0 and so on, one at a
 * time.  Threads do whatever is ready: one alone gets through, and what is used in which order does not depend on
 * their number.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_PIPELINE_H
#define PITH_TEXT_PIPELINE_H

#include "pithrun.h"

#define PIPELINE_MAX_LANES 64u

struct pipeline {
	size_t lane_count; /* 1 .. PIPELINE_MAX_LANES */
	/* 1 or more.  Number n = round * lane_count + lane is made only when more than n - ahead numbers have been used. */
	size_t ahead;
	pith_status (*make)(void *ctx, size_t lane, size_t round, struct pith_error *err);
	/* *done: nothing more is wanted. */
	pith_status (*use)(void *ctx, size_t lane, size_t round, bool *done, struct pith_error *err);
	void *ctx;
};

/* Until 'use' is done or something fails.  executor may be NULL. */
pith_status pipeline_run(const struct pipeline *pipeline, const struct pith_executor *executor,
                         struct pith_error *err);

#endif
