/*
 * SpQR (Dettmers et al. 2023): rounding with error feedback on small groups whose scales and
 * zero-points are codes themselves, and the few weights that cost most kept as f16 in a sparse
 * term.
 *
 * Weights whose absence from their group would gain more than the threshold do not count when the
 * group's grid is made (leave one out); which weights become outliers is decided when their
 * column is rounded, by the same threshold.  An outlier is stored as what the dense code of 0
 * lacks, so that the sum of both terms is the weight up to an f16's precision; that rest is fed
 * back too.
 *
 * Columns stand in the order in which they are rounded, and the permutation is stored.  Dead
 * columns (0 in all inputs) are rounded as they are.  The threshold counts, as in the paper, in
 * units of the mean over columns of the weights' variance over U_jj^2.  Tiles of 16 rows are
 * independent: results do not depend on the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_feedback.h"
#include "quant_two_level.h"

#include "bytes.h"

#include <stdlib.h>

#define SAMPLE_TILES 32u /* whose outliers are counted while the threshold is looked for */
#define SAMPLE_RUNS 16u

enum {
	SPQR_BITS, SPQR_GROUP, SPQR_OUTLIERS, SPQR_THRESHOLD, SPQR_SCALE_BITS, SPQR_ZERO_BITS,
	SPQR_ORDER, SPQR_DETECT, SPQR_GRID, SPQR_DAMP
};
enum { DETECT_PLAIN, DETECT_LEAVE_OUT };

static const struct scheme_key spqr_keys[] = {
    [SPQR_BITS] = {"bits", SCHEME_INTEGER, 3, 2, 8, NULL},
    [SPQR_GROUP] = {"group", SCHEME_GROUP, 16, 0, 0, NULL},
    [SPQR_OUTLIERS] = {"outliers", SCHEME_NUMBER, 0.01, 0, 0.5, NULL},
    [SPQR_THRESHOLD] = {"threshold", SCHEME_NUMBER, 0, 0, 1e6, NULL},
    [SPQR_SCALE_BITS] = {"scale_bits", SCHEME_INTEGER, 3, 1, 8, NULL},
    [SPQR_ZERO_BITS] = {"zero_bits", SCHEME_INTEGER, 3, 1, 8, NULL},
    [SPQR_ORDER] = {"order", SCHEME_CHOICE, HESSIAN_ACTIVATION, 0, 0, "identity|act"},
    [SPQR_DETECT] = {"detect", SCHEME_CHOICE, DETECT_LEAVE_OUT, 0, 0, "plain|leave1out"},
    [SPQR_GRID] = {"grid", SCHEME_CHOICE, 1, 0, 0, "minmax|search"},
    [SPQR_DAMP] = {"damp", SCHEME_NUMBER, 0.01, 0, 10, NULL},
    {0},
};

/* Outliers of a tile; capacity grows by doubling. */
struct outlier_list {
	struct pith_sparse_source_entry *entry;
	size_t count, cap;
};

struct spqr_work {
	const struct quant_job *job;
	struct two_level_rule rule;
	bool leave_out;
	size_t group_size, groups, tiles;
	struct hessian_factor factor;
	float *w;          /* [m, n] */
	float *importance; /* [n] 1 / U_jj^2 by place */
	double unit;       /* of the threshold */
	float threshold;   /* on (e / U_jj)^2; INFINITY: no outliers */
	uint8_t *codes;    /* [m, n] */
	uint8_t *scale_codes, *zero_codes; /* [m, groups] */
	uint16_t *second_level;            /* [tiles, groups, 4] */
	struct outlier_list *outliers;     /* [tiles] */
};

/* Scratch of a task. */
struct spqr_tile {
	struct two_level_tile now; /* of the group at hand */
	float importance[];        /* [16, group_size] 0 for what will be an outlier */
};

/* ---- a tile's group ---- */

static double plain_error2(const float *w, const float *importance, size_t count, size_t left_out,
                           const struct quant_grid *g)
{
	double sum = 0;
	for (size_t j = 0; j < count; j++) {
		double e = (double)w[j] - (double)quant_grid_value(g, quant_grid_code(g, w[j]));
		sum += j == left_out ? 0 : e * e * (double)importance[j];
	}
	return sum;
}

/* Range of count >= 2 values without one of them. */
static struct quant_grid range_without(const float *w, size_t count, size_t left_out, float top)
{
	float low = INFINITY, high = -INFINITY;
	for (size_t j = 0; j < count; j++) {
		low = j != left_out && w[j] < low ? w[j] : low;
		high = j != left_out && w[j] > high ? w[j] : high;
	}
	return two_level_range(low, high, top);
}

/*
 * Set the importance of weights to 0 that gain more than the threshold by not being there.  Only
 * the largest and the smallest change the grid; what others gain is their own error.
 */
static void leave_out(const struct spqr_work *k, const float *w, const float *importance,
                      size_t count, float *out)
{
	float top = (float)((1u << k->rule.bits) - 1u);
	struct quant_grid all = range_without(w, count, SIZE_MAX, top);
	double base = plain_error2(w, importance, count, SIZE_MAX, &all);
	for (size_t j = 0; j < count; j++) {
		struct quant_grid rest = range_without(w, count, j, top);
		double error = plain_error2(w, importance, count, j, &rest);
		out[j] = base - error > (double)k->threshold ? 0.0f : importance[j];
	}
}

static pith_status fit_group(struct feedback_task *t, const struct spqr_work *k, size_t j)
{
	struct spqr_tile *tile = t->scratch;
	size_t n = k->job->n, group = j / k->group_size;
	size_t count = n - j < k->group_size ? n - j : k->group_size;
	for (size_t i = 0; i < t->rows; i++) {
		float *importance = tile->importance + i * count;
		memcpy(importance, k->importance + j, count * sizeof(*importance));
		if (k->leave_out && isfinite(k->threshold) && count > 1)
			leave_out(k, t->w + i * n + j, k->importance + j, count, importance);
	}
	if (!two_level_fit(&k->rule, t->w + j, n, tile->importance, t->rows, count, &tile->now,
	                   &t->row)) {
		t->row += t->first;
		t->column = k->factor.order[j];
		return PITH_E_LIMIT;
	}
	for (size_t i = 0; i < t->rows; i++) {
		k->scale_codes[(t->first + i) * k->groups + group] = tile->now.scale_code[i];
		k->zero_codes[(t->first + i) * k->groups + group] = tile->now.zero_code[i];
	}
	memcpy(k->second_level + (t->number * k->groups + group) * 4, tile->now.second_level,
	       sizeof(tile->now.second_level));
	return PITH_OK;
}

/* ---- outliers ---- */

static pith_status add_outlier(struct outlier_list *list, size_t row, size_t column, uint16_t value)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 64;
		void *grown = realloc(list->entry, cap * sizeof(*list->entry));
		if (!grown)
			return PITH_E_MEMORY;
		list->entry = grown;
		list->cap = cap;
	}
	list->entry[list->count++] =
	    (struct pith_sparse_source_entry){(uint32_t)row, (uint32_t)column, value};
	return PITH_OK;
}

static pith_status round_column(struct feedback_task *t, size_t j, float *value)
{
	const struct spqr_work *k = t->solve->method;
	const struct spqr_tile *tile = t->scratch;
	size_t n = k->job->n;
	if (j % k->group_size == 0)
		PITH_TRY(fit_group(t, k, j));
	for (size_t i = 0; i < t->rows; i++) {
		const struct quant_grid *g = &tile->now.grid[i];
		float w = t->w[i * n + j], q = quant_grid_code(g, w);
		value[i] = quant_grid_value(g, q);
		float e = w - value[i];
		if (e * e * k->importance[j] > k->threshold) {
			q = quant_grid_code(g, 0.0f);
			uint16_t rest = f16_of_f32(w - quant_grid_value(g, q));
			value[i] = quant_grid_value(g, q) + f32_of_f16(rest);
			if (!isfinite(value[i])) {
				t->row = t->first + i;
				t->column = k->factor.order[j];
				return PITH_E_LIMIT;
			}
			if (rest & 0x7fffu)
				PITH_TRY(add_outlier(&k->outliers[t->number], t->first + i, j, rest));
		}
		k->codes[(t->first + i) * n + j] = (uint8_t)q;
	}
	return PITH_OK;
}

/* ---- the threshold ---- */

static pith_status run_tiles(const struct spqr_work *k, size_t every, struct pith_error *err)
{
	struct feedback f = {.job = k->job, .factor = &k->factor, .w = k->w, .rounded = k->job->n,
	                     .task_rows = TWO_LEVEL_ROWS, .every = every, .method = k,
	                     .round = round_column};
	f.scratch_nbytes = sizeof(struct spqr_tile) + TWO_LEVEL_ROWS * k->group_size * sizeof(float);
	for (size_t i = 0; i < k->tiles; i++)
		k->outliers[i].count = 0;
	return feedback_run(&f, err);
}

static size_t count_outliers(const struct spqr_work *k)
{
	size_t count = 0;
	for (size_t i = 0; i < k->tiles; i++)
		count += k->outliers[i].count;
	return count;
}

/* Logarithm of a threshold and of how many outliers it makes. */
struct share_point {
	double threshold, count;
};

/* Between two thresholds, where a line through both has the count, but well inside. */
static double between(const struct share_point *low, const struct share_point *high, double count)
{
	double part = (low->count - count) / (low->count - high->count);
	part = part < 0.1 ? 0.1 : part > 0.9 ? 0.9 : part;
	return low->threshold + part * (high->threshold - low->threshold);
}

/*
 * The threshold that makes a share of the weights outliers, within 1 % of that share or as near as
 * there is one, on tiles spread over the weight.
 */
static pith_status find_threshold(struct spqr_work *k, double share, struct pith_error *err)
{
	struct share_point low = {-INFINITY, 0}, high = {INFINITY, 0};
	size_t every = (k->tiles + SAMPLE_TILES - 1) / SAMPLE_TILES, rows = 0;
	for (size_t i = 0; i < k->tiles; i += every)
		rows += i + 1 < k->tiles ? TWO_LEVEL_ROWS : k->job->m - i * TWO_LEVEL_ROWS;
	double aim = share * (double)rows * (double)k->job->n;
	struct share_point at = {.threshold = log(0.2)};
	for (unsigned i = 0; i < SAMPLE_RUNS; i++) {
		k->threshold = (float)(exp(at.threshold) * k->unit);
		PITH_TRY(run_tiles(k, every, err));
		double count = (double)count_outliers(k);
		if (fabs(count - aim) <= 0.01 * aim)
			return PITH_OK;
		at.count = log(count + 0.5);
		if (count > aim)
			low = at;
		else
			high = at;
		if (isfinite(low.threshold) && isfinite(high.threshold))
			at.threshold = between(&low, &high, log(aim + 0.5));
		else
			at.threshold += count > aim ? 1.5 : -1.5;
	}
	return PITH_OK;
}

/* Mean over columns of the weights' variance over U_jj^2 (mean square, if they do not differ). */
static double threshold_unit(const struct spqr_work *k)
{
	size_t m = k->job->m, n = k->job->n;
	double variance = 0, square = 0;
	for (size_t j = 0; j < n; j++) {
		const float *w = k->w + k->factor.order[j];
		double sum = 0, sum2 = 0;
		for (size_t i = 0; i < m; i++) {
			sum += (double)w[i * n];
			sum2 += (double)w[i * n] * (double)w[i * n];
		}
		double rest = (sum2 - sum * sum / (double)m) / (double)(m > 1 ? m - 1 : 1);
		variance += rest > 0 ? rest * (double)k->importance[j] / (double)n : 0;
		square += sum2 / (double)m * (double)k->importance[j] / (double)n;
	}
	return m > 1 && variance > 1e-12 * square ? variance : square;
}

static pith_status set_threshold(const struct scheme_link *link, struct spqr_work *k,
                                 struct pith_error *err)
{
	double threshold = link->value[SPQR_THRESHOLD], share = link->value[SPQR_OUTLIERS];
	k->unit = threshold_unit(k);
	k->threshold = INFINITY;
	if (k->unit > 0 && threshold > 0)
		k->threshold = (float)(threshold * k->unit);
	else if (k->unit > 0 && share > 0)
		return find_threshold(k, share, err);
	return PITH_OK;
}

/* ---- terms ---- */

static pith_status pack_outliers(const struct spqr_work *k, struct quant_result *out,
                                 struct pith_error *err)
{
	size_t count = count_outliers(k), at = 0;
	if (count == 0)
		return PITH_OK;
	struct pith_sparse_source_entry *all = malloc(count * sizeof(*all));
	if (!all)
		return quant_no_memory(k->job, err);
	for (size_t i = 0; i < k->tiles; i++) {
		if (k->outliers[i].count > 0)
			memcpy(all + at, k->outliers[i].entry, k->outliers[i].count * sizeof(*all));
		at += k->outliers[i].count;
	}
	pith_status status = pith_sparse_pack(all, count, k->job->m, k->job->n,
	                                      &out->term[out->term_count], err);
	free(all);
	out->term_count += status == PITH_OK;
	return status;
}

static pith_status pack(const struct scheme_link *link, struct spqr_work *k,
                        struct quant_result *out, struct pith_error *err)
{
	struct pith_affine_source s = {.bits = k->rule.bits, .scale_mode = 1, .zero_mode = 3,
	                               .scale_bits = k->rule.scale_bits,
	                               .zero_bits = k->rule.zero_bits,
	                               .group_size = scheme_u32(link, SPQR_GROUP), .codes = k->codes,
	                               .scale_codes = k->scale_codes, .zero_codes = k->zero_codes,
	                               .second_level = k->second_level};
	PITH_TRY(pith_affine_pack(&s, k->job->m, k->job->n, &out->term[0], err));
	out->term_count = 1;
	out->activation = PITH_ACTIVATION_INT8_GROUP32;
	PITH_TRY(pack_outliers(k, out, err));
	bool moved = false;
	for (size_t j = 0; j < k->job->n; j++)
		moved = moved || k->factor.order[j] != j;
	if (moved) {
		out->permute = k->factor.order;
		k->factor.order = NULL;
	}
	return PITH_OK;
}

static pith_status allocate(struct spqr_work *k, struct pith_error *err)
{
	size_t m = k->job->m, n = k->job->n;
	PITH_TRY(quant_job_load(k->job, &k->w, err));
	k->importance = malloc(n * sizeof(*k->importance));
	k->codes = calloc(m * n, 1);
	k->scale_codes = calloc(m * k->groups, 1);
	k->zero_codes = calloc(m * k->groups, 1);
	k->second_level = calloc(k->tiles * k->groups * 4, sizeof(*k->second_level));
	k->outliers = calloc(k->tiles, sizeof(*k->outliers));
	if (!k->importance || !k->codes || !k->scale_codes || !k->zero_codes || !k->second_level ||
	    !k->outliers)
		return quant_no_memory(k->job, err);
	return PITH_OK;
}

static void release(struct spqr_work *k)
{
	hessian_factor_free(&k->factor);
	for (size_t i = 0; k->outliers && i < k->tiles; i++)
		free(k->outliers[i].entry);
	free(k->outliers);
	free(k->second_level);
	free(k->zero_codes);
	free(k->scale_codes);
	free(k->codes);
	free(k->importance);
	free(k->w);
}

static pith_status solve(const struct scheme_link *link, struct spqr_work *k,
                         struct quant_result *out, struct pith_error *err)
{
	size_t n = k->job->n;
	PITH_TRY(allocate(k, err));
	PITH_TRY(hessian_factor_make(k->job, (enum hessian_order)scheme_u32(link, SPQR_ORDER),
	                             link->value[SPQR_DAMP], &k->factor, err));
	for (size_t j = 0; j < n; j++)
		k->importance[j] = 1.0f / (k->factor.upper[j * n + j] * k->factor.upper[j * n + j]);
	PITH_TRY(set_threshold(link, k, err));
	PITH_TRY(run_tiles(k, 1, err));
	return pack(link, k, out, err);
}

static pith_status quantize_spqr(const struct scheme_link *link, const struct quant_job *job,
                                 struct quant_result *out, struct pith_error *err)
{
	struct spqr_work k = {.job = job};
	k.rule = (struct two_level_rule){.bits = scheme_u32(link, SPQR_BITS),
	                                 .scale_bits = scheme_u32(link, SPQR_SCALE_BITS),
	                                 .zero_bits = scheme_u32(link, SPQR_ZERO_BITS),
	                                 .search = scheme_u32(link, SPQR_GRID) != 0};
	k.leave_out = scheme_u32(link, SPQR_DETECT) == DETECT_LEAVE_OUT;
	k.group_size = scheme_u32(link, SPQR_GROUP) ? scheme_u32(link, SPQR_GROUP) : job->n;
	k.groups = (job->n + k.group_size - 1) / k.group_size;
	k.tiles = (job->m + TWO_LEVEL_ROWS - 1) / TWO_LEVEL_ROWS;
	pith_status status = solve(link, &k, out, err);
	release(&k);
	return status;
}

static bool spqr_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                        uint32_t *plane_count, uint32_t *term_count)
{
	struct pith_affine_sizes a;
	/* how many a threshold makes depends on the weights; the paper's make about 1 %.  A share is met within
	 * 1 %, or within 2 % where it was looked for in a part of the rows. */
	double share = link->value[SPQR_THRESHOLD] > 0 ? 0.01 : 1.02 * link->value[SPQR_OUTLIERS];
	uint64_t lists = (m + PITH_TILE_ROWS - 1) / PITH_TILE_ROWS *
	                 ((n + PITH_SPARSE_BLOCK_COLUMNS - 1) / PITH_SPARSE_BLOCK_COLUMNS);
	if (!pith_affine_sizes(scheme_u32(link, SPQR_BITS), scheme_u32(link, SPQR_GROUP), 1, 3,
	                       scheme_u32(link, SPQR_SCALE_BITS), scheme_u32(link, SPQR_ZERO_BITS), m, n,
	                       &a))
		return false;
	*plane_count = share > 0 ? 7 : 4;
	*term_count = share > 0 ? 2 : 1;
	*nbytes = pith_round_up((size_t)a.codes, PITH_ALIGN) +
	          pith_round_up((size_t)a.scale_codes, PITH_ALIGN) +
	          pith_round_up((size_t)a.zero_codes, PITH_ALIGN) +
	          pith_round_up((size_t)a.second_level, PITH_ALIGN);
	if (share > 0)
		*nbytes += pith_round_up((size_t)(4 * (lists + 1)), PITH_ALIGN) +
		           2 * pith_round_up((size_t)(2 * share * (double)m * (double)n), PITH_ALIGN);
	if (scheme_u32(link, SPQR_ORDER) == HESSIAN_ACTIVATION)
		*nbytes += pith_round_up(4 * (size_t)n, PITH_ALIGN);
	return true;
}

const struct quant_method quant_method_spqr = {
    .name = "spqr",
    .help = "small groups with two-level scales, outliers apart (needs --calib);\n"
            "bits=2..8 (3), group=16|32|64|128|256|row (16), outliers=SHARE (1%),\n"
            "threshold=T (0: from outliers), scale_bits, zero_bits=1..8 (3),\n"
            "order=identity|act (act), detect=plain|leave1out (leave1out),\n"
            "grid=minmax|search (search: best pair of scale and zero-point),\n"
            "damp=SHARE (1%)",
    .role = QUANT_QUANTIZE,
    .needs_inputs = true,
    .keys = spqr_keys,
    .nbytes = spqr_nbytes,
    .quantize = quantize_spqr,
};
