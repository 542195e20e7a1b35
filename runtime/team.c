/*
 * A team of threads: bounded spin, then sleep.  Work items are claimed from one
 * counter, and a job never waits for a worker that has not entered it.  A worker that lost its core
 * in the middle of an item, to another program, holds the job up until it gets one again; it then
 * rests, so that a busy machine slows a team down to about the caller alone, not below.
 *
 * One word, 'gate', says everything: the job's epoch, whether it may be entered, and how
 * many workers are inside.  The fields of a job change only while the gate is closed and nobody is inside.
 *
 *     31        16  15   14            0
 *     ┌───────────┬────┬───────────────┐
 *     │   epoch   │open│    inside     │
 *     └───────────┴────┴───────────────┘
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getaffinity, syscall, RUSAGE_THREAD */
#endif

#include "bytes.h"
#include "pithrun.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#define GATE_INSIDE 0x7fffu
#define GATE_OPEN 0x8000u
#define GATE_EPOCH 0x10000u

#define MAX_THREADS 64u
/* How long a thread spins before it sleeps.  Short, because cores may be shared. */
#define SPIN_NS 20000u
#define ROUNDS_PER_LOOK 64u /* of spinning between two looks at the clock */
/*
 * A worker is late when the caller has waited for it as long as it worked itself, and this much
 * more: items are a fraction of that.  Resting doubles while it does not help.
 */
#define LATE_NS 100000u
#define LEAST_REST_NS 4000000u
#define MOST_REST_NS 128000000u

struct pith_team {
	struct pith_executor executor;
	size_t worker_count;
	pthread_t *workers;

	_Alignas(64) atomic_uint gate;
	atomic_uint leaving;      /* 1: workers are to end */
	atomic_uint caller_waits; /* 1: the caller sleeps until 'gate' changes */

	_Alignas(64) atomic_uint signal; /* changes when sleeping workers are to look at the gate */
	atomic_uint sleeper_count;
	pthread_mutex_t mutex; /* for sleeping where there is no futex */
	pthread_cond_t changed;

	_Alignas(64) atomic_size_t next; /* item to be claimed */
	void (*task)(void *arg, size_t i);
	void *arg;
	size_t count;
	/* when the caller began, and when it found no more items: set before the gate closes */
	uint64_t opened_ns, drained_ns;
	atomic_flag busy; /* a job is running: a second caller works alone */
};

static void relax(void)
{
#if defined(__SSE2__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of a thread that has nothing to do. */
struct spin {
	unsigned rounds;
	uint64_t end_ns;
};

/* False when it has spun long enough. */
static bool keep_spinning(struct spin *s)
{
	relax();
	if (s->rounds++ % ROUNDS_PER_LOOK != 0)
		return true;
	uint64_t now = now_ns();
	if (s->rounds == 1)
		s->end_ns = now + SPIN_NS;
	return now < s->end_ns;
}

/* Sleep while *word is 'value', at most 'ns' (0: any time); may return early. */
static void sleep_on(struct pith_team *t, atomic_uint *word, unsigned value, uint64_t ns)
{
#if defined(__linux__)
	struct timespec most = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	(void)t;
	syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, value, ns != 0 ? &most : NULL, NULL, 0);
#else
	struct timespec end;
	clock_gettime(CLOCK_REALTIME, &end);
	uint64_t end_ns = (uint64_t)end.tv_nsec + (ns != 0 ? ns : 3600u * 1000000000ull);
	end.tv_sec += (time_t)(end_ns / 1000000000u);
	end.tv_nsec = (long)(end_ns % 1000000000u);
	pthread_mutex_lock(&t->mutex);
	if (atomic_load(word) == value)
		pthread_cond_timedwait(&t->changed, &t->mutex, &end);
	pthread_mutex_unlock(&t->mutex);
#endif
}

static void wake(struct pith_team *t, atomic_uint *word, int count)
{
#if defined(__linux__)
	(void)t;
	syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
#else
	(void)word;
	(void)count;
	pthread_mutex_lock(&t->mutex);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->mutex);
#endif
}

static void work_through(struct pith_team *t)
{
	for (;;) {
		size_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
		if (i >= t->count)
			return;
		t->task(t->arg, i);
	}
}

/* Enter the open job if its epoch is not *epoch.  An entered job's fields are visible and stay. */
static bool try_enter(struct pith_team *t, unsigned *epoch)
{
	unsigned gate = atomic_load(&t->gate);
	while ((gate & GATE_OPEN) != 0 && gate / GATE_EPOCH != *epoch) {
		if (atomic_compare_exchange_weak(&t->gate, &gate, gate + 1)) {
			*epoch = gate / GATE_EPOCH;
			return true;
		}
	}
	return false;
}

static void leave(struct pith_team *t)
{
	unsigned gate = atomic_fetch_sub(&t->gate, 1) - 1;
	if ((gate & (GATE_OPEN | GATE_INSIDE)) == 0 && atomic_load(&t->caller_waits) != 0)
		wake(t, &t->gate, 1);
}

/* Sleep until the caller signals; returns at once if a job has been opened meanwhile. */
static void sleep_for_job(struct pith_team *t, unsigned epoch)
{
	unsigned signal = atomic_load(&t->signal);
	atomic_fetch_add(&t->sleeper_count, 1);
	unsigned gate = atomic_load(&t->gate);
	bool job = (gate & GATE_OPEN) != 0 && gate / GATE_EPOCH != epoch;
	if (!job && atomic_load(&t->leaving) == 0)
		sleep_on(t, &t->signal, signal, 0);
	atomic_fetch_sub(&t->sleeper_count, 1);
}

/* ---- workers that hold jobs up ---- */

struct worker {
	struct pith_team *team;
	long preempted; /* how often, when last looked at */
	uint64_t rest_ns, back_ns; /* the last rest: how long, and its end */
};

/* How often the system took the core away from the calling thread; where it does not say, often. */
static long preempted_count(long before)
{
#if defined(__linux__)
	struct rusage usage;
	(void)before;
	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
#else
	return before + 1;
#endif
}

/* Has the caller waited for this worker, which is still inside, because it lost its core? */
static bool lost_core(struct worker *w)
{
	const struct pith_team *t = w->team;
	if ((atomic_load(&t->gate) & GATE_OPEN) != 0 ||
	    now_ns() - t->drained_ns < t->drained_ns - t->opened_ns + LATE_NS)
		return false;
	long before = w->preempted;
	w->preempted = preempted_count(before);
	return w->preempted != before;
}

/* Leave the team alone for a while, the longer the sooner this was needed again. */
static void rest(struct worker *w)
{
	uint64_t twice = 2 * w->rest_ns < MOST_REST_NS ? 2 * w->rest_ns : MOST_REST_NS;
	w->rest_ns = now_ns() - w->back_ns < MOST_REST_NS && twice > LEAST_REST_NS ? twice : LEAST_REST_NS;
	sleep_on(w->team, &w->team->leaving, 0, w->rest_ns);
	w->back_ns = now_ns();
}

static void *worker_main(void *arg)
{
	struct worker w = {.team = arg};
	struct pith_team *t = arg;
	unsigned epoch = 0;
	struct spin spin = {0};
	while (atomic_load(&t->leaving) == 0) {
		if (try_enter(t, &epoch)) {
			work_through(t);
			bool tired = lost_core(&w);
			leave(t);
			if (tired)
				rest(&w);
			spin = (struct spin){0};
		} else if (!keep_spinning(&spin)) {
			sleep_for_job(t, epoch);
			spin = (struct spin){0};
		}
	}
	return NULL;
}

/* Close the gate and wait until nobody is inside. */
static void close_job(struct pith_team *t)
{
	struct spin spin = {0};
	t->drained_ns = now_ns();
	unsigned gate = atomic_fetch_and(&t->gate, ~GATE_OPEN) & ~GATE_OPEN;
	for (; (gate & GATE_INSIDE) != 0; gate = atomic_load(&t->gate)) {
		if (keep_spinning(&spin))
			continue;
		atomic_store(&t->caller_waits, 1);
		gate = atomic_load(&t->gate);
		if ((gate & GATE_INSIDE) != 0)
			sleep_on(t, &t->gate, gate, 0);
		atomic_store(&t->caller_waits, 0);
	}
}

static void team_run(const struct pith_executor *self, void (*task)(void *arg, size_t i), void *arg,
                     size_t count)
{
	struct pith_team *t = self->ctx;
	/* nested, or from a second thread: the caller does it alone */
	if (count < 2 || t->worker_count == 0 || atomic_flag_test_and_set(&t->busy)) {
		for (size_t i = 0; i < count; i++)
			task(arg, i);
		return;
	}
	t->task = task;
	t->arg = arg;
	t->count = count;
	t->opened_ns = now_ns();
	atomic_store(&t->next, 0);
	unsigned epoch = atomic_load(&t->gate) / GATE_EPOCH + 1;
	atomic_store(&t->gate, epoch % (UINT32_MAX / GATE_EPOCH + 1) * GATE_EPOCH | GATE_OPEN);
	atomic_fetch_add(&t->signal, 1);
	if (atomic_load(&t->sleeper_count) != 0)
		wake(t, &t->signal, count - 1 < t->worker_count ? (int)(count - 1) : (int)t->worker_count);
	work_through(t);
	close_job(t);
	atomic_flag_clear(&t->busy);
}

/* What a container may use of a larger machine, in cores, rounded up; 0: all. */
static size_t core_quota(void)
{
	unsigned long long quota, period;
	size_t cores = 0;
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu %llu", &quota, &period) == 2 && period > 0)
		cores = (size_t)((quota + period - 1) / period);
	fclose(f);
	return cores;
}

static size_t core_count(void)
{
	size_t quota = core_quota(), cores = 0;
#if defined(__linux__)
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = (size_t)CPU_COUNT(&set);
#endif
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	if (cores == 0)
		cores = online > 0 ? (size_t)online : 1;
	return quota != 0 && quota < cores ? quota : cores;
}

pith_status pith_team_new(size_t threads, struct pith_team **out, struct pith_error *err)
{
	*out = NULL;
	threads = threads != 0 ? threads : core_count();
	threads = threads < MAX_THREADS ? threads : MAX_THREADS;
	struct pith_team *t = aligned_alloc(64, pith_round_up(sizeof(*t), 64));
	pthread_t *workers = calloc(threads, sizeof(*workers));
	if (t == NULL || workers == NULL) {
		free(t);
		free(workers);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a team");
	}
	memset(t, 0, sizeof(*t));
	t->workers = workers;
	t->executor = (struct pith_executor){.run = team_run, .ctx = t};
	atomic_flag_clear(&t->busy);
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->changed, NULL);
	/* a system that gives fewer threads than asked gives a smaller team */
	while (t->worker_count + 1 < threads &&
	       pthread_create(&workers[t->worker_count], NULL, worker_main, t) == 0)
		t->worker_count++;
	t->executor.width = t->worker_count + 1;
	*out = t;
	return PITH_OK;
}

void pith_team_free(struct pith_team *t)
{
	if (t == NULL)
		return;
	atomic_store(&t->leaving, 1);
	atomic_fetch_add(&t->signal, 1);
	wake(t, &t->signal, (int)t->worker_count);
	wake(t, &t->leaving, (int)t->worker_count);
	for (size_t i = 0; i < t->worker_count; i++)
		pthread_join(t->workers[i], NULL);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->mutex);
	free(t->workers);
	free(t);
}

const struct pith_executor *pith_team_executor(const struct pith_team *team)
{
	return &team->executor;
}
