/*
 * A team of threads: bounded spin, then sleep.  Work items are claimed from one
 * counter, and a job never waits for a worker that has not entered it, so a busy machine slows a
 * team down to about the caller alone, never below.
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
#define _GNU_SOURCE /* sched_getaffinity, syscall */
#endif

#include "bytes.h"
#include "pithrun.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif

#define GATE_INSIDE 0x7fffu
#define GATE_OPEN 0x8000u
#define GATE_EPOCH 0x10000u

#define MAX_THREADS 64u
/* Rounds of spinning before a thread sleeps: 10 to 50 microseconds.  Short, because cores may be shared. */
#define SPIN_ROUNDS 1000u

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

/* Sleep while *word is 'value'; may return early. */
static void sleep_on(struct pith_team *t, atomic_uint *word, unsigned value)
{
#if defined(__linux__)
	(void)t;
	syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
	pthread_mutex_lock(&t->mutex);
	while (atomic_load(word) == value)
		pthread_cond_wait(&t->changed, &t->mutex);
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
		sleep_on(t, &t->signal, signal);
	atomic_fetch_sub(&t->sleeper_count, 1);
}

static void *worker_main(void *arg)
{
	struct pith_team *t = arg;
	unsigned epoch = 0;
	unsigned round = 0;
	while (atomic_load(&t->leaving) == 0) {
		if (try_enter(t, &epoch)) {
			work_through(t);
			leave(t);
			round = 0;
		} else if (++round < SPIN_ROUNDS) {
			relax();
		} else {
			sleep_for_job(t, epoch);
			round = 0;
		}
	}
	return NULL;
}

/* Close the gate and wait until nobody is inside. */
static void close_job(struct pith_team *t)
{
	unsigned gate = atomic_fetch_and(&t->gate, ~GATE_OPEN) & ~GATE_OPEN;
	for (unsigned round = 0; (gate & GATE_INSIDE) != 0; gate = atomic_load(&t->gate)) {
		if (++round < SPIN_ROUNDS) {
			relax();
			continue;
		}
		atomic_store(&t->caller_waits, 1);
		gate = atomic_load(&t->gate);
		if ((gate & GATE_INSIDE) != 0)
			sleep_on(t, &t->gate, gate);
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

static size_t core_count(void)
{
#if defined(__linux__)
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (size_t)CPU_COUNT(&set);
#endif
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (size_t)online : 1;
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
