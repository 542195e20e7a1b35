/*
 * RPTQ (Yuan et al. 2023): columns whose inputs have similar ranges are stored side by side.
 *
 * The file's int8 activations have one scale per 32 columns, so that sorted columns do what the
 * authors' clusters with a scale each do, and groups of weights share the order.  It is a permute
 * transform on the weight, for every linear: the residual stream and the rotated pairs of q and k
 * stay as they are.
 *
 * Clusters of (max, min) by k-means, as the authors; theirs starts ten times at random, this
 * once, from the quantiles of the range.  Clusters are stored in the order of their ranges.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <math.h>
#include <stdlib.h>

#define MAX_CLUSTERS 256
#define ROUNDS 100u

enum { RPTQ_CLUSTERS };

static const struct scheme_key rptq_keys[] = {
    [RPTQ_CLUSTERS] = {"clusters", SCHEME_INTEGER, 32, 1, MAX_CLUSTERS, NULL},
    {0},
};

struct column {
	double max, min;
	double range; /* of the column; for sorting of its cluster */
	uint32_t index, cluster;
};

struct cluster {
	double max, min; /* centre */
	double sum_max, sum_min, count;
};

/* By range, then by index: a total order. */
static int compare_columns(const void *a, const void *b)
{
	const struct column *x = a, *y = b;
	if (x->range != y->range)
		return x->range < y->range ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static uint32_t nearest(const struct cluster *k, uint32_t count, const struct column *c)
{
	uint32_t best = 0;
	double least = INFINITY;
	for (uint32_t i = 0; i < count; i++) {
		double a = c->max - k[i].max, b = c->min - k[i].min, d = a * a + b * b;
		if (d < least) {
			least = d;
			best = i;
		}
	}
	return best;
}

/* One round of k-means; false: nothing moved. */
static bool move_columns(struct cluster *k, uint32_t count, struct column *column, size_t n)
{
	bool moved = false;
	for (uint32_t i = 0; i < count; i++)
		k[i].sum_max = k[i].sum_min = k[i].count = 0;
	for (size_t j = 0; j < n; j++) {
		uint32_t to = nearest(k, count, &column[j]);
		moved = moved || to != column[j].cluster;
		column[j].cluster = to;
		k[to].sum_max += column[j].max;
		k[to].sum_min += column[j].min;
		k[to].count++;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (k[i].count > 0) {
			k[i].max = k[i].sum_max / k[i].count;
			k[i].min = k[i].sum_min / k[i].count;
		}
	}
	return moved;
}

static void cluster_columns(struct column *column, size_t n, uint32_t count)
{
	struct cluster k[MAX_CLUSTERS];
	qsort(column, n, sizeof(*column), compare_columns);
	for (uint32_t i = 0; i < count; i++) {
		const struct column *c = &column[(2 * i + 1) * n / (2 * count)];
		k[i] = (struct cluster){.max = c->max, .min = c->min};
	}
	for (size_t j = 0; j < n; j++)
		column[j].cluster = MAX_CLUSTERS;
	for (unsigned i = 0; i < ROUNDS && move_columns(k, count, column, n); i++)
		continue;
	for (size_t j = 0; j < n; j++) { /* the cluster's range is its columns' key now */
		const struct cluster *c = &k[column[j].cluster];
		column[j].range = c->max > -c->min ? c->max : -c->min;
	}
	qsort(column, n, sizeof(*column), compare_columns);
}

static pith_status order_rptq(const struct scheme_link *link, const struct quant_job *job,
                              uint32_t *out, struct pith_error *err)
{
	struct column *column = malloc(job->n * sizeof(*column));
	if (!column)
		return quant_no_memory(job, err);
	for (size_t j = 0; j < job->n; j++)
		column[j] = (struct column){.max = (double)job->inputs->max[j],
		                            .min = (double)job->inputs->min[j],
		                            .range = (double)job->inputs->absmax[j],
		                            .index = (uint32_t)j};
	cluster_columns(column, job->n, scheme_u32(link, RPTQ_CLUSTERS));
	for (size_t j = 0; j < job->n; j++)
		out[j] = column[j].index;
	free(column);
	return PITH_OK;
}

static bool rptq_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                        uint32_t *plane_count, uint32_t *term_count)
{
	(void)link;
	(void)m;
	*nbytes = pith_round_up(4 * (size_t)n, PITH_ALIGN);
	*plane_count = *term_count = 0;
	return true;
}

const struct quant_method quant_method_rptq = {
    .name = "rptq",
    .help = "store columns whose inputs have similar ranges side by side (rtn when nothing\n"
            "follows; needs --calib); clusters=1..256 (32)",
    .role = QUANT_ORDER,
    .needs_inputs = true,
    .keys = rptq_keys,
    .nbytes = rptq_nbytes,
    .order = order_rptq,
};
