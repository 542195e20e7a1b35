/*
 * k-means on a line against plain dynamic programming that tries every cut, with equal values, weights of 0
 * and fewer values than clusters; and the cost that the centres themselves give.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kmeans_line.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { COUNT_CAP = 200, CLUSTER_CAP = 9 };

static uint32_t next_random(uint32_t *state, uint32_t limit)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) % limit;
}

static int compare_pairs(const void *a, const void *b)
{
	const float *x = a, *y = b;
	return (x[0] > y[0]) - (x[0] < y[0]);
}

/* The least cost of k clusters; pairs: value, weight, sorted here. */
static double least_cost(float pairs[][2], size_t count, size_t k)
{
	static double cost[CLUSTER_CAP + 1][COUNT_CAP + 1];
	qsort(pairs, count, sizeof(pairs[0]), compare_pairs);
	for (size_t c = 0; c <= k; c++)
		for (size_t j = 0; j <= count; j++)
			cost[c][j] = j == 0 ? 0 : INFINITY;
	for (size_t c = 1; c <= k; c++)
		for (size_t j = 1; j <= count; j++) {
			double s0 = 0, s1 = 0, s2 = 0;
			for (size_t i = j; i-- > 0;) {
				double v = (double)pairs[i][0], a = (double)pairs[i][1];
				s0 += a;
				s1 += a * v;
				s2 += a * v * v;
				double within = s0 > 0 ? s2 - s1 * s1 / s0 : 0;
				if (cost[c - 1][i] + within < cost[c][j])
					cost[c][j] = cost[c - 1][i] + within;
			}
		}
	return cost[k][count];
}

static double cost_of_centres(float pairs[][2], size_t count, const float *centres, size_t k)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++) {
		double least = INFINITY;
		for (size_t c = 0; c < k; c++) {
			double d = (double)pairs[i][0] - (double)centres[c];
			least = d * d < least ? d * d : least;
		}
		sum += least * (double)pairs[i][1];
	}
	return sum;
}

static void reaches_the_optimum(void **unused)
{
	(void)unused;
	uint32_t state = 7;
	for (size_t round = 0; round < 300; round++) {
		size_t count = 1 + next_random(&state, COUNT_CAP), k = 1 + next_random(&state, CLUSTER_CAP);
		float values[COUNT_CAP], weights[COUNT_CAP], pairs[COUNT_CAP][2], centres[CLUSTER_CAP];
		bool any = false;
		for (size_t i = 0; i < count; i++) {
			values[i] = ((float)next_random(&state, round % 2 ? 50 : 100000) - 20) / 33;
			weights[i] = round % 3 == 0 ? 0 : (float)next_random(&state, 10);
			any = any || weights[i] > 0;
		}
		for (size_t i = 0; i < count; i++) {
			pairs[i][0] = values[i];
			pairs[i][1] = any ? weights[i] : 1;
		}
		struct kmeans_line line;
		assert_true(kmeans_line_new(&line, COUNT_CAP, k));
		double got = kmeans_line_run(&line, values, weights, count, centres);
		kmeans_line_free(&line);
		double want = least_cost(pairs, count, k);
		assert_true(fabs(got - want) <= 1e-7 * (want + 1));
		assert_true(fabs(cost_of_centres(pairs, count, centres, k) - want) <= 1e-4 * want + 1e-7);
		for (size_t c = 1; c < k; c++)
			assert_true(centres[c - 1] <= centres[c]);
	}
}

static void refuses_absurd_sizes(void **unused)
{
	(void)unused;
	struct kmeans_line line;
	assert_false(kmeans_line_new(&line, SIZE_MAX - 1, 8));
	assert_false(kmeans_line_new(&line, 10, KMEANS_MAX_CLUSTERS + 1));
	assert_false(kmeans_line_new(&line, 10, 0));
	assert_true(kmeans_line_new(&line, 1, 2));
	float centres[2] = {1, 1};
	assert_true(kmeans_line_run(&line, centres, centres, 0, centres) == 0);
	assert_true(centres[0] == 0 && centres[1] == 0);
	kmeans_line_free(&line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reaches_the_optimum),
	    cmocka_unit_test(refuses_absurd_sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
