/*
 * The choice of schemes under a size against all choices there are; the candidates.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "allocate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define WEIGHTS 5u
#define CHOICES 6u
#define TRIALS 300u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/*
 * Losses that fall about fourfold a step of size, with scatter: not convex, some choices are
 * useless.
 */
static void random_weights(struct allocate_weight *w, uint64_t *state)
{
	for (size_t i = 0; i < WEIGHTS; i++) {
		uint64_t unit = 64 * (1 + next_random(state) % 9);
		double scale = exp((double)(next_random(state) % 600) / 100);
		w[i].choice_count = CHOICES;
		for (size_t k = 0; k < CHOICES; k++) {
			w[i].choice[k].nbytes = unit * (k + 2) + 64 * (next_random(state) % 3);
			w[i].choice[k].loss = scale * exp(-1.4 * (double)k) *
			                      (1 + (double)(next_random(state) % 100) / 50);
		}
	}
}

/* The least loss of all choices that fit, or INFINITY. */
static double best_of_all(const struct allocate_weight *w, size_t i, uint64_t left)
{
	double best = INFINITY;
	if (i == WEIGHTS)
		return 0;
	for (size_t k = 0; k < CHOICES; k++)
		if (w[i].choice[k].nbytes <= left)
			best = fmin(best, w[i].choice[k].loss +
			                      best_of_all(w, i + 1, left - w[i].choice[k].nbytes));
	return best;
}

static void sums(const struct allocate_weight *w, uint64_t *nbytes, double *loss)
{
	*nbytes = 0;
	*loss = 0;
	for (size_t i = 0; i < WEIGHTS; i++) {
		*nbytes += w[i].choice[w[i].chosen].nbytes;
		*loss += w[i].choice[w[i].chosen].loss;
	}
}

static void test_against_all_choices(void **state)
{
	(void)state;
	struct allocate_weight w[WEIGHTS] = {0};
	uint64_t seed = 1, least, nbytes;
	double loss, excess = 0;
	size_t exact = 0;
	for (unsigned t = 0; t < TRIALS; t++) {
		random_weights(w, &seed);
		assert_false(allocate_solve(w, WEIGHTS, 0, &least));
		uint64_t budget = least + next_random(&seed) % (2 * least);
		assert_true(allocate_solve(w, WEIGHTS, budget, &least));
		sums(w, &nbytes, &loss);
		assert_true(nbytes <= budget);
		double best = best_of_all(w, 0, budget);
		assert_true(loss >= best * (1 - 1e-12));
		exact += loss <= best * (1 + 1e-12);
		excess += loss / best - 1;
	}
	/* five weights: the worst case for steps along hulls, whose error is one step of one weight */
	assert_true(exact > TRIALS / 2);
	assert_true(excess / TRIALS < 0.05);
}

static void test_least(void **state)
{
	(void)state;
	struct allocate_weight w[WEIGHTS] = {0};
	uint64_t seed = 7, least, again, nbytes;
	double loss;
	random_weights(w, &seed);
	assert_false(allocate_solve(w, WEIGHTS, 0, &least));
	assert_false(allocate_solve(w, WEIGHTS, least - 1, &again));
	assert_int_equal(again, least);
	assert_true(allocate_solve(w, WEIGHTS, least, &again));
	sums(w, &nbytes, &loss);
	assert_int_equal(nbytes, least);
	assert_true(allocate_solve(w, WEIGHTS, UINT64_MAX, &again));
	for (size_t i = 0; i < WEIGHTS; i++)
		for (size_t k = 0; k < CHOICES; k++)
			assert_true(w[i].choice[w[i].chosen].loss <= w[i].choice[k].loss);
}

static void test_candidates(void **state)
{
	(void)state;
	static const double bits[] = {0.5, 2, 3.49, 4, 7.9, 16};
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		struct allocate_candidates c;
		uint64_t low = UINT64_MAX, high = 0;
		allocate_candidates_make(bits[i], &c);
		assert_true(c.probe < c.count);
		for (size_t k = 0; k < c.count; k++) {
			uint64_t nbytes;
			uint32_t planes, terms;
			assert_true(scheme_nbytes(&c.scheme[k], 1024, 1024, &nbytes, &planes, &terms));
			low = nbytes < low ? nbytes : low;
			high = nbytes > high ? nbytes : high;
		}
		/* sizes on both sides of what is asked for, where the format has them */
		assert_true(bits[i] < 2.5 || convert_bits(low, 1024 * 1024) < bits[i]);
		assert_true(bits[i] > 8 || convert_bits(high, 1024 * 1024) > bits[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_against_all_choices),
	    cmocka_unit_test(test_least),
	    cmocka_unit_test(test_candidates),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
