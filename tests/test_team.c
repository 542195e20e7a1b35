/*
 * The thread team: every item once, nested and concurrent callers, more threads than cores,
 * sleeping workers, cores shared with other programs, and the floating-point mode of tasks.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fpmode.h"
#include "parallel.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define MAX_COUNT 1000u

struct tally {
	const struct pith_executor *executor;
	atomic_uint hits[MAX_COUNT];
	unsigned plain[MAX_COUNT]; /* not atomic: TSan sees an item that runs twice at once */
};

static void hit(void *arg, size_t i)
{
	struct tally *t = arg;
	atomic_fetch_add(&t->hits[i], 1);
	t->plain[i]++;
}

static void run_and_check(const struct pith_executor *e, size_t count, unsigned rounds)
{
	static struct tally t;
	for (size_t i = 0; i < count; i++)
		t.plain[i] = 0, atomic_store(&t.hits[i], 0);
	for (unsigned r = 0; r < rounds; r++)
		e->run(e, hit, &t, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(atomic_load(&t.hits[i]), rounds);
		assert_int_equal(t.plain[i], rounds);
	}
}

static void test_every_item_once(void **state)
{
	static const size_t threads[] = {1, 2, 3, 7, 64};
	static const size_t counts[] = {0, 1, 2, 3, 17, 999};
	(void)state;
	for (size_t t = 0; t < sizeof(threads) / sizeof(threads[0]); t++) {
		struct pith_team *team;
		assert_int_equal(pith_team_new(threads[t], &team, NULL), PITH_OK);
		const struct pith_executor *e = pith_team_executor(team);
		assert_true(e->width >= 1 && e->width <= threads[t]);
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
			run_and_check(e, counts[c], 50);
		pith_team_free(team);
	}
	pith_team_free(NULL);
}

static void pause_ms(long ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};
	nanosleep(&t, NULL);
}

/* Workers that have gone to sleep wake up for the next job, and idle teams end. */
static void test_sleep_and_wake(void **state)
{
	struct pith_team *team;
	(void)state;
	assert_int_equal(pith_team_new(4, &team, NULL), PITH_OK);
	for (int i = 0; i < 20; i++) {
		pause_ms(5);
		run_and_check(pith_team_executor(team), 8, 1);
	}
	pause_ms(5);
	pith_team_free(team);
}

struct rendezvous {
	atomic_uint arrived;
};

/* Ends only when two threads are inside at once. */
static void meet(void *arg, size_t i)
{
	struct rendezvous *r = arg;
	(void)i;
	atomic_fetch_add(&r->arrived, 1);
	for (int tries = 0; atomic_load(&r->arrived) < 2 && tries < 5000; tries++)
		pause_ms(1);
}

static void test_runs_in_parallel(void **state)
{
	struct pith_team *team;
	struct rendezvous r = {0};
	(void)state;
	assert_int_equal(pith_team_new(2, &team, NULL), PITH_OK);
	const struct pith_executor *e = pith_team_executor(team);
	pause_ms(20); /* the worker sleeps: it has to be woken */
	struct timespec start, end;
	clock_gettime(CLOCK_MONOTONIC, &start);
	e->run(e, meet, &r, 2);
	clock_gettime(CLOCK_MONOTONIC, &end);
	/* alone, the caller would wait 5 s for company that never comes */
	assert_true(end.tv_sec - start.tv_sec < 4);
	assert_int_equal(atomic_load(&r.arrived), 2);
	pith_team_free(team);
}

static void nested(void *arg, size_t i)
{
	struct tally *t = arg;
	struct tally *inner = calloc(1, sizeof(*inner));
	t->executor->run(t->executor, hit, inner, 5);
	for (size_t k = 0; k < 5; k++)
		if (atomic_load(&inner->hits[k]) == 1)
			atomic_fetch_add(&t->hits[i], 1);
	free(inner);
}

static void test_nested(void **state)
{
	struct pith_team *team;
	static struct tally t;
	(void)state;
	assert_int_equal(pith_team_new(3, &team, NULL), PITH_OK);
	t.executor = pith_team_executor(team);
	t.executor->run(t.executor, nested, &t, 40);
	for (size_t i = 0; i < 40; i++)
		assert_int_equal(atomic_load(&t.hits[i]), 5);
	pith_team_free(team);
}

static void *second_caller(void *arg)
{
	const struct pith_executor *e = arg;
	struct tally *t = calloc(1, sizeof(*t));
	size_t wrong = 0;
	for (unsigned r = 1; r <= 300; r++) {
		e->run(e, hit, t, 9);
		for (size_t i = 0; i < 9; i++)
			wrong += atomic_load(&t->hits[i]) != r;
	}
	free(t);
	return wrong == 0 ? arg : NULL;
}

static void test_two_callers(void **state)
{
	struct pith_team *team;
	pthread_t other;
	void *result;
	(void)state;
	assert_int_equal(pith_team_new(2, &team, NULL), PITH_OK);
	void *executor = (void *)(uintptr_t)pith_team_executor(team);
	assert_int_equal(pthread_create(&other, NULL, second_caller, executor), 0);
	assert_non_null(second_caller(executor));
	pthread_join(other, &result);
	assert_non_null(result);
	pith_team_free(team);
}

static void cover(void *arg, size_t begin, size_t end)
{
	struct tally *t = arg;
	for (size_t i = begin; i < end; i++)
		hit(t, i);
}

static void test_ranges(void **state)
{
	struct pith_team *team;
	static struct tally t;
	unsigned rounds = 0;
	(void)state;
	assert_int_equal(pith_team_new(3, &team, NULL), PITH_OK);
	for (size_t count = 0; count < 40; count++) {
		for (size_t work = 1; work < 1000000; work *= 30) {
			pith_parallel(pith_team_executor(team), count, work, cover, &t);
			pith_parallel(NULL, count, work, cover, &t);
			rounds += 2;
		}
		assert_int_equal(atomic_load(&t.hits[count]), 0);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(atomic_load(&t.hits[i]), t.plain[i]);
	}
	/* item 0 was in every range set but that of count 0 */
	assert_int_equal(t.plain[0], rounds - rounds / 40);
	pith_team_free(team);
}

static void *busy_loop(void *arg)
{
	while (!atomic_load((atomic_bool *)arg))
		;
	return NULL;
}

static void long_item(void *arg, size_t i)
{
	for (volatile unsigned n = 0; n < 20000; n++)
		;
	hit(arg, i);
}

/*
 * Loops that never sleep hold the cores: workers lose theirs inside items, rest and come back, and
 * every job still ends with every item done once.
 */
static void test_busy_cores(void **state)
{
	enum { LOOPS = 4, ROUNDS = 300, COUNT = 16 };
	pthread_t loop[LOOPS];
	atomic_bool stop = false;
	static struct tally t;
	struct pith_team *team;
	(void)state;
	assert_int_equal(pith_team_new(3, &team, NULL), PITH_OK);
	for (size_t i = 0; i < LOOPS; i++)
		assert_int_equal(pthread_create(&loop[i], NULL, busy_loop, &stop), 0);
	const struct pith_executor *e = pith_team_executor(team);
	for (unsigned r = 0; r < ROUNDS; r++)
		e->run(e, long_item, &t, COUNT);
	pith_team_free(team); /* also ends workers that rest */
	atomic_store(&stop, true);
	for (size_t i = 0; i < LOOPS; i++)
		pthread_join(loop[i], NULL);
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(atomic_load(&t.hits[i]), ROUNDS);
		assert_int_equal(t.plain[i], ROUNDS);
	}
}

#if defined(__SSE2__)

#include <xmmintrin.h>

#define FLUSH_AND_DAZ_AND_UP (0x8040u | 0x4000u)

static void check_mode(void *arg, size_t begin, size_t end)
{
	atomic_uint *wrong = arg;
	(void)begin;
	(void)end;
	volatile float tiny = 0x1p-126f, half = 0.5f, one = 1.0f, ulp = 0x1p-24f;
	/* a subnormal result survives; a tie rounds to even, not up */
	if (tiny * half == 0.0f || one + ulp != 1.0f)
		atomic_fetch_add(wrong, 1);
}

/* A host that flushes subnormals and rounds up gets the standard's bits, and its mode back. */
static void test_float_mode(void **state)
{
	struct pith_team *team;
	atomic_uint wrong = 0;
	unsigned old = _mm_getcsr();
	(void)state;
	_mm_setcsr(old | FLUSH_AND_DAZ_AND_UP);
	pith_status status = pith_team_new(3, &team, NULL); /* workers inherit the mode */
	const struct pith_executor *e = status == PITH_OK ? pith_team_executor(team) : NULL;
	pith_parallel(e, 100, 100000, check_mode, &wrong);
	unsigned after = _mm_getcsr();
	_mm_setcsr(old);
	assert_int_equal(status, PITH_OK);
	assert_int_equal(after & 0xffc0u, (old | FLUSH_AND_DAZ_AND_UP) & 0xffc0u);
	assert_int_equal(atomic_load(&wrong), 0);
	/* the check itself sees the difference */
	_mm_setcsr(old | FLUSH_AND_DAZ_AND_UP);
	check_mode(&wrong, 0, 1);
	_mm_setcsr(old);
	assert_int_equal(atomic_load(&wrong), 1);
	pith_team_free(team);
}

#else

static void test_float_mode(void **state)
{
	(void)state;
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_item_once), cmocka_unit_test(test_sleep_and_wake),
		cmocka_unit_test(test_runs_in_parallel), cmocka_unit_test(test_nested),
		cmocka_unit_test(test_two_callers),     cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_busy_cores),      cmocka_unit_test(test_float_mode),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
