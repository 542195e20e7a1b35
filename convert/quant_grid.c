/*
 * Grids of affine groups: fitting, and arrays of codes on their way to a term.
 *
 * The scale is rounded to f16 first and the codes are chosen with the rounded one, so the
 * rounding costs precision of the step and never a wrong code.  GRID_LEAST tries narrower ranges,
 * neighbouring zero-points and the least-squares scale of its codes, and keeps what has the least squared
 * error; a constant group stays exact whenever its value is an f16.
 *
 * Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_grid.h"

#include "bytes.h"

#include <stdlib.h>

#define TINY_SCALE 0x1p-24f /* the smallest f16: below it a scale would be 0 */
#define SEARCH_STEPS 20u
#define REFINE_STEPS 2u

/* ---- fitting ---- */

/* What a grid is fitted to. */
struct group {
	const float *w;          /* [count] */
	const float *importance; /* [count], or NULL: all 1 */
	size_t count;
	float top;
	uint32_t zero_mode;
};

static double weighted_error2(const struct group *v, const struct quant_grid *g)
{
	double sum = 0;
	for (size_t j = 0; j < v->count; j++) {
		float e = v->w[j] - quant_grid_value(g, quant_grid_code(g, v->w[j]));
		sum += (double)(e * e) * (double)v->importance[j];
	}
	return sum;
}

/* Squared error of a group, in eight lanes so that it vectorizes without reassociation. */
static double grid_error2(const struct group *v, const struct quant_grid *g)
{
	float lane[8] = {0};
	float inverse = 1.0f / g->scale;
	const float *w = v->w;
	if (v->importance)
		return weighted_error2(v, g);
	if (!isfinite(inverse))
		inverse = 0x1p126f;
	size_t j = 0;
	for (; j + 8 <= v->count; j += 8) {
		for (size_t i = 0; i < 8; i++) {
			float q = grid_round(grid_clamp(w[j + i] * inverse + g->zero, 0.0f, g->top));
			float e = w[j + i] - quant_grid_value(g, q);
			lane[i] += e * e;
		}
	}
	for (; j < v->count; j++) {
		float q = grid_round(grid_clamp(w[j] * inverse + g->zero, 0.0f, g->top));
		float e = w[j] - quant_grid_value(g, q);
		lane[j % 8] += e * e;
	}
	double sum = 0;
	for (size_t i = 0; i < 8; i++)
		sum += (double)lane[i];
	return sum;
}

/* The f16 nearest to a scale, not 0. */
static float half_scale(float s)
{
	float h = f32_of_f16(f16_of_f32(s));
	return h == 0.0f ? (s < 0.0f ? -TINY_SCALE : TINY_SCALE) : h;
}

static float usable_zero(float zero, float top, uint32_t mode)
{
	if (mode == GRID_ZERO_REAL)
		return f32_of_f16(f16_of_f32(zero));
	return grid_round(grid_clamp(zero, 0.0f, top));
}

/* Keep 'candidate' in *best if it is usable and better. */
static void offer(const struct group *v, struct quant_grid candidate, struct quant_grid *best)
{
	if (!isfinite(candidate.scale) || !isfinite(candidate.zero))
		return;
	candidate.error2 = grid_error2(v, &candidate);
	if (candidate.error2 < best->error2)
		*best = candidate;
}

/* The grid whose ends are 'low' and 'high'; fixed: the zero-point is in the middle. */
static struct quant_grid grid_over(float low, float high, float top, uint32_t mode)
{
	struct quant_grid g = {.top = top, .error2 = INFINITY};
	if (mode == GRID_ZERO_SYM) {
		g.zero = (top + 1.0f) / 2.0f;
		/* the end with the larger magnitude takes code 0, which reaches one step further */
		g.scale = half_scale((fabsf(low) >= high ? low : high) / -g.zero);
		return g;
	}
	g.scale = half_scale((high - low) / top);
	g.zero = usable_zero(-low / g.scale, top, mode);
	return g;
}

/* All values are c: one step of size |c|. */
static struct quant_grid grid_constant(float c, float top, uint32_t mode)
{
	if (mode == GRID_ZERO_SYM)
		return grid_over(c < 0.0f ? c : 0.0f, c > 0.0f ? c : 0.0f, top, mode);
	struct quant_grid g = {
	    .scale = half_scale(fabsf(c)), .zero = c < 0.0f ? 1.0f : 0.0f, .top = top};
	return g;
}

/* The least-squares line through (code, w), for the codes that 'g' gives. */
static struct quant_grid refit(const struct group *v, const struct quant_grid *g)
{
	double n = 0, sq = 0, sw = 0, sqq = 0, sqw = 0;
	for (size_t j = 0; j < v->count; j++) {
		double a = v->importance ? (double)v->importance[j] : 1.0;
		double q = (double)quant_grid_code(g, v->w[j]), w = (double)v->w[j];
		if (v->zero_mode != GRID_ZERO_REAL)
			q -= (double)g->zero;
		n += a;
		sq += a * q;
		sw += a * w;
		sqq += a * q * q;
		sqw += a * q * w;
	}
	struct quant_grid r = *g;
	if (v->zero_mode != GRID_ZERO_REAL) {
		if (sqq > 0)
			r.scale = half_scale((float)(sqw / sqq));
		return r;
	}
	double d = n * sqq - sq * sq;
	if (!(d > 0))
		return r;
	double slope = (n * sqw - sq * sw) / d, base = (sw - slope * sq) / n;
	r.scale = half_scale((float)slope);
	r.zero = usable_zero((float)(-base / (double)r.scale), g->top, v->zero_mode);
	return r;
}

static void search_group(const struct group *v, float low, float high, struct quant_grid *best)
{
	float top = v->top;
	float middle = v->zero_mode == GRID_ZERO_REAL ? (low + high) / 2 : 0.0f;
	/* few codes gain from clipping much, many only from clipping a little */
	float step = 0.7f / (float)SEARCH_STEPS / (1.0f + top / 16.0f);
	for (unsigned i = 0; i < SEARCH_STEPS; i++) {
		float keep = 1.0f - step * (float)i;
		struct quant_grid g = grid_over(middle + (low - middle) * keep,
		                                middle + (high - middle) * keep, top, v->zero_mode);
		offer(v, g, best);
		if (v->zero_mode == GRID_ZERO_SYM) {
			g.scale = half_scale(-g.scale * g.zero / (top - g.zero));
			offer(v, g, best);
		} else if (v->zero_mode == GRID_ZERO_INT) {
			struct quant_grid up = g, down = g;
			up.zero += 1.0f;
			down.zero -= 1.0f;
			if (up.zero <= top)
				offer(v, up, best);
			if (down.zero >= 0.0f)
				offer(v, down, best);
		}
	}
	for (unsigned i = 0; i < REFINE_STEPS; i++)
		offer(v, refit(v, best), best);
}

/* ---- |error|^2.4 ---- */

/* About (e^2)^1.2, monotone; the exponent is applied to the bits of the float, 5 % off at most. */
static inline float power_of(float e2)
{
	float fifth = f32_of_bits((uint32_t)(0.2f * (float)(int32_t)bits_of_f32(e2) + 852282573.0f));
	return e2 * fifth;
}

/* Sum over a group, in eight lanes so that it vectorizes. */
static double power_error(const struct group *v, const struct quant_grid *g)
{
	float lane[8] = {0}, inverse = 1.0f / g->scale;
	const float *w = v->w;
	size_t j = 0;
	for (; j + 8 <= v->count; j += 8) {
		for (size_t i = 0; i < 8; i++) {
			float q = grid_round(grid_clamp(w[j + i] * inverse + g->zero, 0.0f, g->top));
			float e = w[j + i] - quant_grid_value(g, q);
			lane[i] += power_of(e * e);
		}
	}
	for (; j < v->count; j++) {
		float e = w[j] - quant_grid_value(g, quant_grid_code(g, w[j]));
		lane[j % 8] += power_of(e * e);
	}
	return (double)(((lane[0] + lane[1]) + (lane[2] + lane[3])) +
	                ((lane[4] + lane[5]) + (lane[6] + lane[7])));
}

/* Offer 'part' of the full scale, with zero-points so that the middle stays covered; true: it is better. */
static bool offer_power(const struct group *v, const struct quant_grid *full, float part,
                        struct quant_grid *best)
{
	bool fixed = v->zero_mode == GRID_ZERO_SYM, better = false;
	struct quant_grid g = {.scale = f32_of_f16(f16_of_f32(full->scale * part)), .top = v->top};
	/* the middle of the codes stays on the middle of the values */
	float zero = fixed ? full->zero : v->top / 2 + (full->zero - v->top / 2) / part;
	if (g.scale == 0.0f)
		return false;
	for (float shift = fixed ? 0.0f : -1.0f; shift <= (fixed ? 0.0f : 1.0f); shift++) {
		g.zero = usable_zero(zero + shift, v->top, v->zero_mode);
		g.error2 = power_error(v, &g);
		if (g.error2 < best->error2) {
			*best = g;
			better = true;
		}
	}
	return better;
}

/* The scale in steps of 4 %, then of 1 % around the best. */
static void search_power(const struct group *v, struct quant_grid *best)
{
	struct quant_grid full = *best;
	float part = 1.0f;
	best->error2 = power_error(v, best);
	for (int i = 24; i <= 100; i += 4)
		if (offer_power(v, &full, (float)i / 100.0f, best))
			part = (float)i / 100.0f;
	for (int i = -3; i <= 3; i++)
		offer_power(v, &full, part + (float)i / 100.0f, best);
}

/* The sum by powf(), which decides between near equals as the authors' code does. */
static double exact_power_error(const struct group *v, const struct quant_grid *g)
{
	double sum = 0;
	for (size_t j = 0; j < v->count; j++) {
		float e = v->w[j] - quant_grid_value(g, quant_grid_code(g, v->w[j]));
		sum += (double)powf(fabsf(e), 2.4f);
	}
	return sum;
}

static void search_full(const struct group *v, int steps, struct quant_grid *best)
{
	struct quant_grid full = *best, g = *best;
	bool fixed = v->zero_mode == GRID_ZERO_SYM;
	best->error2 = exact_power_error(v, best); /* its zero-point may be a real one, which no candidate has */
	for (int i = 1; i <= steps; i++) {
		g.scale = f32_of_f16(f16_of_f32(full.scale * (float)i / (float)steps));
		if (g.scale == 0.0f)
			continue;
		for (float zero = 0; zero <= (fixed ? 0 : v->top); zero++) {
			g.zero = fixed ? full.zero : zero;
			g.error2 = exact_power_error(v, &g);
			if (g.error2 < best->error2)
				*best = g;
		}
	}
}

/* ---- any ---- */

bool quant_grid_fit(const struct quant_grid_rule *rule, const float *w, const float *importance,
                    size_t count, struct quant_grid *out)
{
	float top = (float)((1u << rule->bits) - 1u);
	uint32_t mode = rule->zero_mode;
	struct group v = {w, importance, count, top, mode};
	float low = w[0], high = w[0];
	for (size_t j = 1; j < count; j++) {
		low = w[j] < low ? w[j] : low;
		high = w[j] > high ? w[j] : high;
	}
	if (low == high && low != 0.0f) {
		*out = grid_constant(low, top, mode);
		return isfinite(out->scale);
	}
	float low0 = low < 0.0f ? low : 0.0f, high0 = high > 0.0f ? high : 0.0f;
	*out = grid_over(low0, high0, top, mode);
	if (!isfinite(out->scale) || !isfinite(out->zero))
		return false;
	if (low == 0.0f && high == 0.0f)
		return true;
	out->error2 = grid_error2(&v, out);
	if (mode == GRID_ZERO_REAL) /* a range without 0: finer, if its zero-point is an f16 */
		offer(&v, grid_over(low, high, top, mode), out);
	if (rule->search == GRID_LEAST)
		search_group(&v, mode == GRID_ZERO_REAL ? low : low0, mode == GRID_ZERO_REAL ? high : high0,
		             out);
	if (rule->search == GRID_POWER)
		search_power(&v, out);
	if (rule->search == GRID_FULL || rule->search == GRID_FULL_40)
		search_full(&v, rule->search == GRID_FULL ? 100 : 40, out);
	return true;
}

pith_status quant_grid_overflow(const struct quant_job *job, size_t row, size_t column,
                                struct pith_error *err)
{
	return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
	                 "%.80s: values of row %zu from column %zu are too large for an "
	                 "f16 scale; keep it dense with --rule", job->tensor->name, row, column);
}

bool quant_grid_nbytes(const struct quant_grid_rule *rule, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count)
{
	struct pith_affine_sizes sizes;
	bool sym = rule->zero_mode == GRID_ZERO_SYM;
	if (!pith_affine_sizes(rule->bits, rule->group_size, 0, rule->zero_mode, 0, 0, m, n, &sizes))
		return false;
	*plane_count = sym ? 2 : 3;
	*nbytes = pith_round_up((size_t)sizes.codes, PITH_ALIGN) +
	          pith_round_up((size_t)sizes.scales, PITH_ALIGN) +
	          (sym ? 0 : pith_round_up((size_t)sizes.zeros, PITH_ALIGN));
	return true;
}

/* ---- codes ---- */

pith_status quant_codes_new(const struct quant_grid_rule *rule, const struct quant_job *job,
                            struct quant_codes *out, struct pith_error *err)
{
	size_t count;
	*out = (struct quant_codes){.rule = *rule, .m = job->m, .n = job->n};
	out->group_size = rule->group_size == 0 ? job->n : rule->group_size;
	out->groups = (job->n + out->group_size - 1) / out->group_size;
	if (!pith_mul_size(job->m, job->n, &count) || count > SIZE_MAX / 8)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%.100s is too large",
		                 job->tensor->name);
	bool sym = rule->zero_mode == GRID_ZERO_SYM;
	size_t zero_nbytes = rule->zero_mode == GRID_ZERO_REAL ? 2 : 1;
	out->codes = calloc(count, 1);
	out->scales = calloc(job->m * out->groups, sizeof(*out->scales));
	out->zeros = sym ? NULL : calloc(job->m * out->groups, zero_nbytes);
	if (out->codes && out->scales && (sym || out->zeros))
		return PITH_OK;
	quant_codes_free(out);
	return quant_no_memory(job, err);
}

void quant_codes_free(struct quant_codes *c)
{
	free(c->codes);
	free(c->scales);
	free(c->zeros);
	memset(c, 0, sizeof(*c));
}

void quant_codes_set_grid(const struct quant_codes *c, size_t row, size_t group,
                          const struct quant_grid *g)
{
	size_t at = row * c->groups + group;
	c->scales[at] = f16_of_f32(g->scale);
	if (c->rule.zero_mode == GRID_ZERO_INT) {
		c->zeros[at] = (uint8_t)g->zero;
	} else if (c->rule.zero_mode == GRID_ZERO_REAL) {
		uint16_t half = f16_of_f32(g->zero);
		memcpy(c->zeros + 2 * at, &half, 2);
	}
}

pith_status quant_codes_pack(const struct quant_codes *c, struct quant_result *out,
                             struct pith_error *err)
{
	struct pith_affine_source s = {.bits = c->rule.bits, .zero_mode = c->rule.zero_mode,
	                               .group_size = c->rule.group_size, .codes = c->codes,
	                               .scales = c->scales, .zeros = c->zeros};
	PITH_TRY(pith_affine_pack(&s, c->m, c->n, &out->term[out->term_count], err));
	out->term_count++;
	out->activation = PITH_ACTIVATION_INT8_GROUP32;
	return PITH_OK;
}

/* ---- rows one by one ---- */

struct rows_work {
	struct quant_codes codes;
	quant_row_fn *row;
	const float *piece; /* [rows, n] */
	size_t first_row;
	size_t *overflow; /* [rows] column, SIZE_MAX: none */
};

static void run_row(void *ctx, size_t i)
{
	const struct rows_work *k = ctx;
	k->overflow[i] = k->row(&k->codes, k->first_row + i, k->piece + i * k->codes.n);
}

static pith_status run_pieces(const struct quant_job *job, struct rows_work *k, float *piece,
                              struct pith_error *err)
{
	size_t step = quant_piece_rows(job);
	k->piece = piece;
	for (size_t row = 0; row < job->m; row += step) {
		size_t rows = job->m - row < step ? job->m - row : step;
		k->first_row = row;
		PITH_TRY(quant_job_read(job, (uint64_t)row * job->n, rows * job->n, piece, err));
		quant_rows(job->threads, rows, run_row, k);
		for (size_t i = 0; i < rows; i++)
			if (k->overflow[i] != SIZE_MAX)
				return quant_grid_overflow(job, row + i, k->overflow[i], err);
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, (uint64_t)(row + rows) * job->n, err));
	}
	return PITH_OK;
}

pith_status quant_codes_by_rows(const struct quant_grid_rule *rule, const struct quant_job *job,
                                quant_row_fn *row, struct quant_result *out, struct pith_error *err)
{
	struct rows_work k = {.row = row};
	PITH_TRY(quant_codes_new(rule, job, &k.codes, err));
	size_t rows = quant_piece_rows(job);
	k.overflow = malloc(rows * sizeof(*k.overflow));
	float *piece = malloc(rows * job->n * sizeof(*piece));
	pith_status status = k.overflow && piece ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK)
		status = run_pieces(job, &k, piece, err);
	free(piece);
	free(k.overflow);
	if (status == PITH_OK)
		status = quant_codes_pack(&k.codes, out, err);
	quant_codes_free(&k.codes);
	return status;
}
