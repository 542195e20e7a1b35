/*
 * One lock around the bookkeeping: a piece of work takes a hundred times longer than taking it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pipeline.h"

#include "parallel.h"

#include <pthread.h>

#define LANE_WORK ((size_t)1 << 20) /* nanoseconds, roughly: worth a thread */

struct run {
	const struct pipeline *pipeline;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	size_t used;  /* numbers used */
	bool in_use;  /* the next one is being used */
	size_t made[PIPELINE_MAX_LANES]; /* rounds */
	bool in_make[PIPELINE_MAX_LANES];
	bool done;
	pith_status status;
	struct pith_error *err;
};

/* The lane to make next: of those that may, the one that is used first.  lane_count: none. */
static size_t lane_to_make(const struct run *r)
{
	size_t lanes = r->pipeline->lane_count, best = lanes, least = r->used + r->pipeline->ahead;
	for (size_t lane = 0; lane < lanes; lane++) {
		size_t number = r->made[lane] * lanes + lane;
		if (!r->in_make[lane] && number < least) {
			least = number;
			best = lane;
		}
	}
	return best;
}

static void finish(struct run *r, pith_status status, const struct pith_error *err, bool done)
{
	if (status != PITH_OK && r->status == PITH_OK) {
		r->status = status;
		if (r->err != NULL)
			*r->err = *err;
	}
	r->done = r->done || done || status != PITH_OK;
}

static void use_one(struct run *r)
{
	const struct pipeline *p = r->pipeline;
	struct pith_error err = {0};
	size_t number = r->used;
	bool done = false;
	r->in_use = true;
	pthread_mutex_unlock(&r->mutex);
	pith_status status = p->use(p->ctx, number % p->lane_count, number / p->lane_count, &done, &err);
	pthread_mutex_lock(&r->mutex);
	r->in_use = false;
	r->used++;
	finish(r, status, &err, done);
}

static void make_one(struct run *r, size_t lane)
{
	const struct pipeline *p = r->pipeline;
	struct pith_error err = {0};
	size_t round = r->made[lane];
	r->in_make[lane] = true;
	pthread_mutex_unlock(&r->mutex);
	pith_status status = p->make(p->ctx, lane, round, &err);
	pthread_mutex_lock(&r->mutex);
	r->in_make[lane] = false;
	r->made[lane]++;
	finish(r, status, &err, false);
}

/* One thread: what is to be used first, because all lanes wait for it. */
static void work(void *arg, size_t begin, size_t end)
{
	struct run *r = arg;
	size_t lanes = r->pipeline->lane_count;
	(void)begin;
	(void)end;
	pthread_mutex_lock(&r->mutex);
	while (!r->done) {
		bool can_use = !r->in_use && r->made[r->used % lanes] > r->used / lanes;
		size_t lane = lane_to_make(r);
		if (!can_use && lane == lanes) {
			/* somebody is at work, or something would be ready */
			pthread_cond_wait(&r->changed, &r->mutex);
			continue;
		}
		if (can_use)
			use_one(r);
		else
			make_one(r, lane);
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->mutex);
}

pith_status pipeline_run(const struct pipeline *pipeline, const struct pith_executor *executor,
                         struct pith_error *err)
{
	struct run r = {.pipeline = pipeline, .err = err};
	if (pthread_mutex_init(&r.mutex, NULL) != 0)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a lock");
	if (pthread_cond_init(&r.changed, NULL) != 0) {
		pthread_mutex_destroy(&r.mutex);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a lock");
	}
	pith_parallel(executor, pipeline->lane_count, LANE_WORK, work, &r);
	pthread_cond_destroy(&r.changed);
	pthread_mutex_destroy(&r.mutex);
	return r.status;
}
