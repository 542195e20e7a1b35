/*
 * Masks by scores and sparse terms of what is kept.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "prune.h"

#include "bytes.h"

#include <stdlib.h>

struct prune_wish prune_wish_of(double sparsity)
{
	struct prune_wish wish;
	scheme_sparsity(sparsity, &wish.zeros, &wish.columns, &wish.share);
	return wish;
}

/* ---- masks ---- */

/* Is place a dropped before place b? */
static bool comes_first(const float *score, uint32_t a, uint32_t b)
{
	return score[a] < score[b] || (score[a] == score[b] && a < b);
}

/* Reorder ranked: [count] so that its first 'drop' are those to be dropped (Hoare's selection). */
static void select_lowest(const float *score, uint32_t *ranked, size_t count, size_t drop)
{
	size_t low = 0, high = count - 1;
	while (drop > 0 && low < high) {
		uint32_t pivot = ranked[low + (high - low) / 2];
		size_t i = low, j = high;
		for (;;) {
			while (comes_first(score, ranked[i], pivot))
				i++;
			while (comes_first(score, pivot, ranked[j]))
				j--;
			if (i >= j)
				break;
			uint32_t swap = ranked[i];
			ranked[i++] = ranked[j];
			ranked[j--] = swap;
		}
		if (drop - 1 <= j)
			high = j;
		else
			low = j + 1;
	}
}

static void drop_lowest(const float *score, size_t first, size_t count, size_t drop,
                        uint8_t *present, uint32_t *ranked)
{
	for (size_t i = 0; i < count; i++) {
		ranked[i] = (uint32_t)(first + i);
		present[first + i] = 1;
	}
	select_lowest(score, ranked, count, drop);
	for (size_t i = 0; i < drop; i++)
		present[ranked[i]] = 0;
}

void prune_row(const struct prune_wish *wish, const float *score, size_t count, uint8_t *present,
               uint32_t *ranked)
{
	size_t step = wish->columns != 0 ? wish->columns : count;
	for (size_t first = 0; first < count; first += step) {
		size_t width = count - first < step ? count - first : step;
		size_t drop = wish->columns != 0 ? width * wish->zeros / wish->columns :
		                                   (size_t)((double)width * wish->share);
		drop_lowest(score, first, width, drop, present, ranked);
	}
}

float prune_threshold(float *score, size_t count, double share)
{
	size_t wanted = (size_t)((double)count * share), low = 0, high = count - 1;
	while (low < high) {
		float pivot = score[low + (high - low) / 2];
		size_t i = low, j = high;
		for (;;) {
			while (score[i] < pivot)
				i++;
			while (score[j] > pivot)
				j--;
			if (i >= j)
				break;
			float swap = score[i];
			score[i++] = score[j];
			score[j--] = swap;
		}
		if (wanted <= j)
			high = j;
		else
			low = j + 1;
	}
	return score[wanted];
}

/* ---- storing ---- */

/* The quantizer behind the pruner, or NULL. */
static const struct scheme_link *quantizer_of(const struct scheme_link *link)
{
	const struct scheme_link *next = scheme_next(link);
	return next != NULL && next->method->grid != NULL ? next : NULL;
}

static bool grid_is_storable(const struct quant_grid_rule *rule)
{
	return rule->zero_mode <= GRID_ZERO_INT && rule->group_size % 32 == 0;
}

pith_status prune_store_new(const struct scheme_link *link, size_t key, const struct quant_job *job,
                            struct prune_store *out, struct pith_error *err)
{
	const struct scheme_link *next = quantizer_of(link);
	struct quant_grid_rule rule;
	*out = (struct prune_store){.job = job, .coded = next != NULL};
	out->wish = prune_wish_of(link->value[key]);
	if (next != NULL) {
		next->method->grid(next, &rule);
		if (!grid_is_storable(&rule))
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "%s+%s: what a pruner keeps is stored in groups of 32 or more "
			                 "with zero=int or zero=sym", link->method->name,
			                 next->method->name);
		PITH_TRY(quant_codes_new(&rule, job, &out->codes, err));
	}
	pith_status status = quant_job_load(job, &out->w, err);
	if (status == PITH_OK) {
		out->present = malloc(job->m * job->n);
		if (!out->present)
			status = quant_no_memory(job, err);
	}
	if (status != PITH_OK)
		prune_store_free(out);
	return status;
}

void prune_store_free(struct prune_store *s)
{
	if (s->coded)
		quant_codes_free(&s->codes);
	free(s->present);
	free(s->w);
	memset(s, 0, sizeof(*s));
}

bool prune_grid_fit(const struct quant_grid_rule *rule, const float *w, const uint8_t *present,
                    const float *importance, size_t count, float *scratch, struct quant_grid *out)
{
	float *kept = scratch, *weight = scratch + count;
	size_t k = 0;
	for (size_t j = 0; j < count; j++) {
		if (!present[j])
			continue;
		kept[k] = w[j];
		weight[k++] = importance ? importance[j] : 1;
	}
	if (k == 0)
		return quant_grid_fit(rule, w, importance, count, out);
	return quant_grid_fit(rule, kept, importance ? weight : NULL, k, out);
}

struct round_work {
	struct prune_store *store;
	const float *importance;
	size_t *overflow; /* [m] column, SIZE_MAX: none, SIZE_MAX - 1: no memory */
};

static void round_row(void *ctx, size_t row)
{
	const struct round_work *k = ctx;
	const struct quant_codes *c = &k->store->codes;
	const float *w = k->store->w + row * c->n;
	const uint8_t *present = k->store->present + row * c->n;
	float *scratch = malloc(2 * c->group_size * sizeof(*scratch));
	k->overflow[row] = scratch ? SIZE_MAX : SIZE_MAX - 1;
	for (size_t group = 0; scratch && group < c->groups; group++) {
		size_t first = group * c->group_size;
		size_t count = c->n - first < c->group_size ? c->n - first : c->group_size;
		struct quant_grid g;
		if (!prune_grid_fit(&c->rule, w + first, present + first,
		                    k->importance ? k->importance + first : NULL, count, scratch, &g)) {
			k->overflow[row] = first;
			break;
		}
		quant_codes_set_grid(c, row, group, &g);
		for (size_t j = first; j < first + count; j++)
			c->codes[row * c->n + j] = (uint8_t)quant_grid_code(&g, w[j]);
	}
	free(scratch);
}

pith_status prune_store_round(struct prune_store *s, const float *importance,
                              struct pith_error *err)
{
	if (!s->coded)
		return PITH_OK;
	size_t m = s->job->m;
	size_t *overflow = malloc(m * sizeof(*overflow));
	if (!overflow)
		return quant_no_memory(s->job, err);
	struct round_work work = {s, importance, overflow};
	quant_rows(s->job->threads, m, round_row, &work);
	pith_status status = PITH_OK;
	for (size_t row = 0; row < m && status == PITH_OK; row++)
		if (overflow[row] != SIZE_MAX)
			status = overflow[row] == SIZE_MAX - 1 ?
			             quant_no_memory(s->job, err) :
			             quant_grid_overflow(s->job, row, overflow[row], err);
	free(overflow);
	return status;
}

pith_status prune_store_pack(const struct prune_store *s, struct quant_result *out,
                             struct pith_error *err)
{
	size_t m = s->job->m, n = s->job->n, kept = 0;
	struct pith_sparse_mask_source source = {.present = s->present, .values = s->w};
	if (s->wish.columns != 0 && n % s->wish.columns == 0) {
		source.pattern_columns = s->wish.columns;
		source.pattern_count = s->wish.columns - s->wish.zeros;
	}
	if (s->coded) {
		source.bits = s->codes.rule.bits;
		source.group_size = s->codes.rule.group_size;
		source.zero_mode = s->codes.rule.zero_mode;
		source.codes = s->codes.codes;
		source.scales = s->codes.scales;
		source.zeros = s->codes.zeros;
	}
	for (size_t i = 0; i < m * n; i++)
		kept += s->present[i];
	if (kept == 0) /* a term has a value at least */
		s->present[0] = 1;
	PITH_TRY(pith_sparse_mask_pack(&source, m, n, &out->term[out->term_count], err));
	out->term_count++;
	out->activation = s->coded ? PITH_ACTIVATION_INT8_GROUP32 : PITH_ACTIVATION_FLOAT;
	return PITH_OK;
}

bool prune_nbytes(const struct scheme_link *link, size_t key, uint64_t m, uint64_t n,
                  uint64_t *nbytes, uint32_t *plane_count, uint32_t *term_count)
{
	struct prune_wish wish = prune_wish_of(link->value[key]);
	const struct scheme_link *next = quantizer_of(link);
	struct quant_grid_rule rule = {.bits = 0};
	struct pith_sparse_mask_sizes size;
	bool fixed = wish.columns != 0 && n % wish.columns == 0;
	if (next != NULL)
		next->method->grid(next, &rule);
	if (!grid_is_storable(&rule) || m == 0 || n == 0 || m > PITH_MAX_ELEMENTS / n)
		return false;
	/* without a pattern the masks decide in the end: ties, and blocks that are a little apart */
	double kept = (1 - wish.share) * (double)m * (double)n;
	uint64_t value_count = kept < 1 ? 1 : (uint64_t)(kept + 0.5);
	if (!pith_sparse_mask_sizes(fixed ? 3 : 2, value_count, rule.bits, rule.group_size,
	                            rule.zero_mode, m, n, &size))
		return false;
	const uint64_t planes[] = {size.masks, size.offsets, size.values, size.scales, size.zeros};
	*nbytes = 0;
	*plane_count = 0;
	*term_count = 1;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(planes); i++) {
		*nbytes += pith_round_up((size_t)planes[i], PITH_ALIGN);
		*plane_count += planes[i] != 0;
	}
	return true;
}
