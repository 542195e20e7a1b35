/*
 * Weighted k-means of numbers on a line, exactly: sorted values fall into at most k runs, and dynamic
 * programming finds the best ones.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_KMEANS_LINE_H
#define PITH_CONVERT_KMEANS_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KMEANS_MAX_CLUSTERS 256u

/* Work memory for up to 'count' values and k clusters. */
struct kmeans_line {
	size_t count_cap, k;
	double *value, *sum0, *sum1, *sum2; /* [count_cap], sums [count_cap + 1] */
	double *cost, *next_cost;           /* [count_cap + 1] */
	uint32_t *split;                    /* [k, count_cap + 1] where the last cluster begins */
	uint32_t *order;                    /* [count_cap] */
};

/* false: no memory (or sizes that do not fit). */
bool kmeans_line_new(struct kmeans_line *w, size_t count_cap, size_t k);
void kmeans_line_free(struct kmeans_line *w);

/*
 * Centres of k clusters of values[0..count), ascending, that make Σ weight * (value - centre)^2 least.  weights >= 0;
 * all 0: taken as 1.  count 0: all centres are 0.  With fewer distinct values than clusters the last centre repeats.
 * centres: [k].  Returns that sum.
 */
double kmeans_line_run(struct kmeans_line *w, const float *values, const float *weights, size_t count,
                       float *centres);

#endif
