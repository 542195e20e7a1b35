/*
 * Exact weighted k-means on a line.  cost_c(j), the least cost of the first j sorted values in c
 * clusters, is min over i of cost_{c-1}(i) + within(i, j); the best i does not fall as j grows, so
 * divide and conquer finds a row in count * log(count) steps.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kmeans_line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool kmeans_line_new(struct kmeans_line *w, size_t count_cap, size_t k)
{
	size_t n = count_cap + 1;
	*w = (struct kmeans_line){.count_cap = count_cap, .k = k};
	if (k == 0 || k > KMEANS_MAX_CLUSTERS || n > SIZE_MAX / 8 / KMEANS_MAX_CLUSTERS || n > UINT32_MAX)
		return false;
	w->value = malloc(6 * n * sizeof(double));
	w->split = malloc(k * n * sizeof(*w->split));
	w->order = malloc(n * sizeof(*w->order));
	if (!w->value || !w->split || !w->order) {
		kmeans_line_free(w);
		return false;
	}
	w->sum0 = w->value + n;
	w->sum1 = w->value + 2 * n;
	w->sum2 = w->value + 3 * n;
	w->cost = w->value + 4 * n;
	w->next_cost = w->value + 5 * n;
	return true;
}

void kmeans_line_free(struct kmeans_line *w)
{
	free(w->value);
	free(w->split);
	free(w->order);
	memset(w, 0, sizeof(*w));
}

/* ---- sorting ---- */

/* Place of a float's bits in an order of unsigned numbers. */
static uint32_t sort_key(float v)
{
	uint32_t u;
	memcpy(&u, &v, sizeof(u));
	return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Shell sort of indices (Ciura's gaps, then 2.25 times): no memory, no recursion, and never quadratic in practice. */
static void sort_order(uint32_t *order, const float *values, size_t count)
{
	static const size_t gaps[] = {82923, 36855, 16380, 7280, 3236, 1438, 701, 301, 132, 57, 23, 10, 4, 1};
	for (size_t g = 0; g < sizeof(gaps) / sizeof(gaps[0]); g++)
		for (size_t i = gaps[g]; i < count; i++) {
			uint32_t moved = order[i], key = sort_key(values[moved]);
			size_t j = i;
			for (; j >= gaps[g] && sort_key(values[order[j - gaps[g]]]) > key; j -= gaps[g])
				order[j] = order[j - gaps[g]];
			order[j] = moved;
		}
}

/* ---- costs ---- */

/* Values first .. last-1 as one cluster. */
static double within(const struct kmeans_line *w, size_t first, size_t last)
{
	double s0 = w->sum0[last] - w->sum0[first];
	double s1 = w->sum1[last] - w->sum1[first];
	double s2 = w->sum2[last] - w->sum2[first];
	double cost = s0 > 0 ? s2 - s1 * s1 / s0 : 0;
	return cost > 0 ? cost : 0;
}

static void load(struct kmeans_line *w, const float *values, const float *weights, size_t count)
{
	bool any = false;
	for (size_t i = 0; i < count; i++) {
		w->order[i] = (uint32_t)i;
		any = any || weights[i] > 0;
	}
	sort_order(w->order, values, count);
	w->sum0[0] = w->sum1[0] = w->sum2[0] = 0;
	for (size_t i = 0; i < count; i++) {
		double a = any ? (double)weights[w->order[i]] : 1.0, v = (double)values[w->order[i]];
		w->value[i] = v;
		w->sum0[i + 1] = w->sum0[i] + a;
		w->sum1[i + 1] = w->sum1[i] + a * v;
		w->sum2[i + 1] = w->sum2[i] + a * v * v;
	}
}

struct span {
	size_t begin, end;      /* places j to fill */
	size_t low, high;       /* where the best i of each lies */
};

/* next_cost and split of cluster row c for places 1 .. count, by halves; spans wait on a stack. */
static void fill_row(struct kmeans_line *w, size_t c, size_t count)
{
	uint32_t *split = w->split + c * (w->count_cap + 1);
	struct span stack[64];
	size_t depth = 0;
	stack[depth++] = (struct span){1, count + 1, 0, count};
	while (depth > 0) {
		struct span s = stack[--depth];
		if (s.begin >= s.end)
			continue;
		size_t j = s.begin + (s.end - s.begin) / 2, best = s.low;
		double least = INFINITY;
		for (size_t i = s.low; i <= s.high && i <= j; i++) {
			double cost = w->cost[i] + within(w, i, j);
			if (cost < least) {
				least = cost;
				best = i;
			}
		}
		w->next_cost[j] = least;
		split[j] = (uint32_t)best;
		stack[depth++] = (struct span){s.begin, j, s.low, best};
		stack[depth++] = (struct span){j + 1, s.end, best, s.high};
	}
	w->next_cost[0] = 0;
	split[0] = 0;
}

/* The centre of values first .. last-1; without weight the plain mean. */
static double centre(const struct kmeans_line *w, size_t first, size_t last)
{
	double s0 = w->sum0[last] - w->sum0[first];
	if (s0 > 0)
		return (w->sum1[last] - w->sum1[first]) / s0;
	double sum = 0;
	for (size_t i = first; i < last; i++)
		sum += w->value[i];
	return sum / (double)(last - first);
}

double kmeans_line_run(struct kmeans_line *w, const float *values, const float *weights, size_t count,
                       float *centres)
{
	memset(centres, 0, w->k * sizeof(*centres));
	if (count == 0)
		return 0;
	load(w, values, weights, count);
	for (size_t j = 0; j <= count; j++)
		w->cost[j] = j == 0 ? 0 : INFINITY;
	for (size_t c = 0; c < w->k; c++) {
		fill_row(w, c, count);
		double *swap = w->cost;
		w->cost = w->next_cost;
		w->next_cost = swap;
	}
	/* from the last cluster back; empty ones are left out */
	size_t filled = 0;
	double found[KMEANS_MAX_CLUSTERS];
	for (size_t c = w->k, j = count; c-- > 0 && j > 0;) {
		size_t first = w->split[c * (w->count_cap + 1) + j];
		if (first < j)
			found[filled++] = centre(w, first, j);
		j = first;
	}
	for (size_t c = 0; c < w->k; c++)
		centres[c] = (float)found[c < filled ? filled - 1 - c : 0];
	return w->cost[count];
}
