/*
 * Drawing tokens: ties, cuts, the distribution, and fixed results for a seed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pithrun.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 8u

static const float logits[N] = {1.0f, 3.0f, -2.0f, 3.0f, 0.0f, 2.0f, -1.0f, 2.5f};

static uint32_t sample(struct pith_sampler *s)
{
	uint64_t scratch[2 * N + 1];
	scratch[2 * N] = 4711;
	uint32_t id = pith_sample(s, logits, N, scratch);
	assert_true(id < N);
	assert_true(scratch[2 * N] == 4711);
	return id;
}

static void test_greedy(void **state)
{
	struct pith_sampler s = {.top_p = 1};
	(void)state;
	assert_int_equal(sample(&s), 1); /* not 3, which is as large */
	s = (struct pith_sampler){.temperature = 1, .top_k = 1, .top_p = 1};
	for (int i = 0; i < 20; i++)
		assert_int_equal(sample(&s), 1);
	assert_true(s.state != 0);
}

/* Which ids come in 5000 draws, as bits, and how often. */
static unsigned draws(struct pith_sampler s, double share[N])
{
	unsigned seen = 0;
	for (size_t i = 0; i < N; i++)
		share[i] = 0;
	for (int i = 0; i < 5000; i++) {
		uint32_t id = sample(&s);
		seen |= 1u << id;
		share[id] += 1 / 5000.0;
	}
	return seen;
}

static void test_distribution(void **state)
{
	double share[N], total = 0;
	(void)state;
	for (double t = 0.5; t < 3; t *= 2) {
		assert_int_equal(draws((struct pith_sampler){.temperature = (float)t, .top_p = 1, .state = 9},
		                       share) & 0xab, 0xab);
		total = 0;
		for (size_t i = 0; i < N; i++)
			total += exp((double)logits[i] / t);
		for (size_t i = 0; i < N; i++) {
			double p = exp((double)logits[i] / t) / total;
			/* five standard deviations */
			assert_true(fabs(share[i] - p) < 5 * sqrt(p * (1 - p) / 5000));
		}
	}
}

static void test_cuts(void **state)
{
	double share[N];
	struct pith_sampler s = {.temperature = 1, .top_p = 1, .state = 5};
	(void)state;
	s.top_k = 3;
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3 | 1u << 7);
	s.top_k = 2; /* the lower id of a tie first */
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3);
	s.top_k = 0;
	/* probabilities, descending: .305 .305 .185 .112 ...: 0.5 needs two, 0.65 three */
	s.top_p = 0.5f;
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3);
	s.top_p = 0.65f;
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3 | 1u << 7);
	s.top_p = 0.001f;
	assert_int_equal(draws(s, share), 1u << 1);
	s.top_p = 1;
	s.min_p = 0.3f; /* e^-1 = .37 stays, e^-2 = .14 goes */
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3 | 1u << 5 | 1u << 7);
	s.min_p = 0.999f;
	assert_int_equal(draws(s, share), 1u << 1 | 1u << 3);
}

/* One seed, one text, on every machine: results of an independent computation of the same definition. */
static void test_fixed_draws(void **state)
{
	static const uint32_t expected[] = {7, 1, 3, 3, 1, 5, 1, 5, 3, 7, 1, 3, 3, 3, 7, 1, 1, 3, 1, 7, 0, 1, 7, 7};
	struct pith_sampler s = {.temperature = 1.5f, .top_p = 0.95f, .state = 42};
	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_int_equal(sample(&s), expected[i]);
}

static void test_large_vocabulary(void **state)
{
	enum { LARGE = 70000 };
	float *v = calloc(LARGE, sizeof(*v));
	uint64_t *scratch = calloc(2 * LARGE, sizeof(*scratch));
	struct pith_sampler s = {.temperature = 1, .top_p = 1, .top_k = 2, .state = 1};
	unsigned seen = 0;
	(void)state;
	for (size_t i = 0; i < LARGE; i++)
		v[i] = -(float)(i % 977) - 1;
	v[69999] = -0.0f;
	v[1234] = 0.0f;
	for (int i = 0; i < 40; i++) {
		uint32_t id = pith_sample(&s, v, LARGE, scratch);
		assert_true(id == 1234 || id == 69999);
		seen |= id == 1234 ? 1 : 2;
	}
	assert_int_equal(seen, 3);
	/* -0 and 0 tie: the lower id is first */
	assert_int_equal((uint32_t)scratch[0], 1234);
	free(v);
	free(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greedy),      cmocka_unit_test(test_distribution),
		cmocka_unit_test(test_cuts),        cmocka_unit_test(test_fixed_draws),
		cmocka_unit_test(test_large_vocabulary),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
