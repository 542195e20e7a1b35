/*
 * Round to nearest: every group of a row gets a scale and a zero-point from its own
 * values, every value the nearest code.  No data, no compensation: the baseline, and the base of
 * other methods.
 *
 * The scale is rounded to f16 first and the codes are chosen with the rounded one, so the
 * rounding costs precision of the step and never a wrong code.  With search=1 a group tries
 * narrower ranges, neighbouring zero-points and the least-squares scale of its codes, and keeps what has
 * the least squared error; a constant group stays exact whenever its value is an f16.
 *
 * Rows are independent: results do not depend on the number of threads.
 * Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ZERO_SYM = 0, ZERO_INT = 1, ZERO_REAL = 2 }; /* affine.md, param 3 */

#define TINY_SCALE 0x1p-24f /* the smallest f16: below it a scale would be 0 */
#define SEARCH_STEPS 20u
#define REFINE_STEPS 2u

/* ---- one group ---- */

/* A grid: values s * (q - z), q = 0 .. top.  s and z are what the file will hold. */
struct grid {
	float scale, zero;
	float top;
	double error2;
};

/* Nearest integer, ties to even, of |v| < 2^22; vectorizes, unlike rintf(). */
static inline float round_small(float v) { return (v + 12582912.0f) - 12582912.0f; }

static inline float clamp(float v, float low, float high)
{
	v = v > low ? v : low;
	return v < high ? v : high;
}

static inline float nearest_code(float w, const struct grid *g)
{
	return round_small(clamp(w / g->scale + g->zero, 0.0f, g->top));
}

/* spec affine: "W[i][j] = fl( s * fl( q - z ) )" */
static inline float grid_value(float code, const struct grid *g)
{
	return g->scale * (code - g->zero);
}

/* Squared error of a group, in eight lanes so that it vectorizes without reassociation. */
static double grid_error2(const float *w, size_t count, const struct grid *g)
{
	float lane[8] = {0};
	float inverse = 1.0f / g->scale;
	if (!isfinite(inverse))
		inverse = 0x1p126f;
	size_t j = 0;
	for (; j + 8 <= count; j += 8) {
		for (size_t i = 0; i < 8; i++) {
			float q = round_small(clamp(w[j + i] * inverse + g->zero, 0.0f, g->top));
			float e = w[j + i] - grid_value(q, g);
			lane[i] += e * e;
		}
	}
	for (; j < count; j++) {
		float q = round_small(clamp(w[j] * inverse + g->zero, 0.0f, g->top));
		float e = w[j] - grid_value(q, g);
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
	if (mode == ZERO_REAL)
		return f32_of_f16(f16_of_f32(zero));
	return round_small(clamp(zero, 0.0f, top));
}

/* Keep 'candidate' in *best if it is usable and better. */
static void offer(const float *w, size_t count, struct grid candidate, struct grid *best)
{
	if (!isfinite(candidate.scale) || !isfinite(candidate.zero))
		return;
	candidate.error2 = grid_error2(w, count, &candidate);
	if (candidate.error2 < best->error2)
		*best = candidate;
}

/* The grid whose ends are 'low' and 'high'; fixed: the zero-point is in the middle. */
static struct grid grid_over(float low, float high, float top, uint32_t mode)
{
	struct grid g = {.top = top, .error2 = INFINITY};
	if (mode == ZERO_SYM) {
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
static struct grid grid_constant(float c, float top, uint32_t mode)
{
	if (mode == ZERO_SYM)
		return grid_over(c < 0.0f ? c : 0.0f, c > 0.0f ? c : 0.0f, top, mode);
	struct grid g = {.scale = half_scale(fabsf(c)), .zero = c < 0.0f ? 1.0f : 0.0f, .top = top};
	return g;
}

/* The least-squares line through (code, w), for the codes that 'g' gives. */
static struct grid refit(const float *w, size_t count, const struct grid *g, uint32_t mode)
{
	double n = (double)count, sq = 0, sw = 0, sqq = 0, sqw = 0;
	for (size_t j = 0; j < count; j++) {
		double q = (double)nearest_code(w[j], g);
		if (mode != ZERO_REAL)
			q -= (double)g->zero;
		sq += q;
		sw += (double)w[j];
		sqq += q * q;
		sqw += q * (double)w[j];
	}
	struct grid r = *g;
	if (mode != ZERO_REAL) {
		if (sqq > 0)
			r.scale = half_scale((float)(sqw / sqq));
		return r;
	}
	double d = n * sqq - sq * sq;
	if (!(d > 0))
		return r;
	double slope = (n * sqw - sq * sw) / d, base = (sw - slope * sq) / n;
	r.scale = half_scale((float)slope);
	r.zero = usable_zero((float)(-base / (double)r.scale), g->top, mode);
	return r;
}

static void search_group(const float *w, size_t count, float low, float high, uint32_t mode,
                         struct grid *best)
{
	float top = best->top;
	float middle = mode == ZERO_REAL ? (low + high) / 2 : 0.0f;
	/* few codes gain from clipping much, many only from clipping a little */
	float step = 0.7f / (float)SEARCH_STEPS / (1.0f + top / 16.0f);
	for (unsigned i = 0; i < SEARCH_STEPS; i++) {
		float keep = 1.0f - step * (float)i;
		struct grid g = grid_over(middle + (low - middle) * keep, middle + (high - middle) * keep,
		                          top, mode);
		offer(w, count, g, best);
		if (mode == ZERO_SYM) {
			g.scale = half_scale(-g.scale * g.zero / (top - g.zero));
			offer(w, count, g, best);
		} else if (mode == ZERO_INT) {
			struct grid up = g, down = g;
			up.zero += 1.0f;
			down.zero -= 1.0f;
			if (up.zero <= top)
				offer(w, count, up, best);
			if (down.zero >= 0.0f)
				offer(w, count, down, best);
		}
	}
	for (unsigned i = 0; i < REFINE_STEPS; i++)
		offer(w, count, refit(w, count, best, mode), best);
}

/* The grid of a group; false when its values are too large for an f16 scale. */
static bool fit_group(const float *w, size_t count, const struct quant_rtn_options *o,
                      struct grid *best)
{
	float top = (float)((1u << o->bits) - 1u);
	float low = w[0], high = w[0];
	for (size_t j = 1; j < count; j++) {
		low = w[j] < low ? w[j] : low;
		high = w[j] > high ? w[j] : high;
	}
	if (low == high && low != 0.0f) {
		*best = grid_constant(low, top, o->zero_mode);
		return isfinite(best->scale);
	}
	float low0 = low < 0.0f ? low : 0.0f, high0 = high > 0.0f ? high : 0.0f;
	*best = grid_over(low0, high0, top, o->zero_mode);
	if (!isfinite(best->scale) || !isfinite(best->zero))
		return false;
	if (low == 0.0f && high == 0.0f)
		return true;
	best->error2 = grid_error2(w, count, best);
	if (o->zero_mode == ZERO_REAL) /* a range without 0: finer, if its zero-point is an f16 */
		offer(w, count, grid_over(low, high, top, o->zero_mode), best);
	if (o->search)
		search_group(w, count, o->zero_mode == ZERO_REAL ? low : low0,
		             o->zero_mode == ZERO_REAL ? high : high0, o->zero_mode, best);
	return true;
}

/* ---- one weight ---- */

struct rtn_work {
	const struct quant_rtn_options *options;
	size_t n, group_size, groups;
	const float *piece; /* [rows, n] */
	size_t first_row;
	uint8_t *codes;     /* [m, n] */
	uint16_t *scales;   /* [m, groups] */
	uint8_t *zeros;     /* [m, groups] of zero_nbytes, or NULL */
	size_t zero_nbytes;
	double *error2, *norm2; /* [rows] of this piece */
	size_t *overflow;       /* [rows] column of a group that is too large, or SIZE_MAX */
};

static void store_group(const struct rtn_work *k, size_t row, size_t group, const float *w,
                        size_t count, const struct grid *g)
{
	size_t at = row * k->groups + group;
	k->scales[at] = f16_of_f32(g->scale);
	if (k->options->zero_mode == ZERO_INT) {
		k->zeros[at] = (uint8_t)g->zero;
	} else if (k->options->zero_mode == ZERO_REAL) {
		uint16_t half = f16_of_f32(g->zero);
		memcpy(k->zeros + 2 * at, &half, 2);
	}
	uint8_t *codes = k->codes + row * k->n + group * k->group_size;
	double error2 = 0, norm2 = 0;
	for (size_t j = 0; j < count; j++) {
		float q = nearest_code(w[j], g);
		double e = (double)w[j] - (double)grid_value(q, g);
		codes[j] = (uint8_t)q;
		error2 += e * e;
		norm2 += (double)w[j] * (double)w[j];
	}
	k->error2[row - k->first_row] += error2;
	k->norm2[row - k->first_row] += norm2;
}

static void quantize_row(void *ctx, size_t i)
{
	const struct rtn_work *k = ctx;
	const float *w = k->piece + i * k->n;
	k->error2[i] = 0;
	k->norm2[i] = 0;
	k->overflow[i] = SIZE_MAX;
	for (size_t group = 0; group < k->groups; group++) {
		size_t first = group * k->group_size;
		size_t count = k->n - first < k->group_size ? k->n - first : k->group_size;
		struct grid g;
		if (!fit_group(w + first, count, k->options, &g)) {
			k->overflow[i] = first;
			return;
		}
		store_group(k, k->first_row + i, group, w + first, count, &g);
	}
}

static pith_status quantize_pieces(const struct quant_job *job, struct rtn_work *k, float *piece,
                                   struct quant_result *out, struct pith_error *err)
{
	size_t step = quant_piece_rows(job);
	k->piece = piece;
	for (size_t row = 0; row < job->m; row += step) {
		size_t rows = job->m - row < step ? job->m - row : step;
		k->first_row = row;
		PITH_TRY(source_read_f32(job->src, job->tensor, (uint64_t)row * job->n, rows * job->n,
		                         piece, err));
		quant_rows(job->threads, rows, quantize_row, k);
		for (size_t i = 0; i < rows; i++) {
			if (k->overflow[i] != SIZE_MAX)
				return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
				                 "%.80s: values of row %zu from column %zu are too large for an "
				                 "f16 scale; keep it dense with --rule", job->tensor->name,
				                 row + i, k->overflow[i]);
			out->error2 += k->error2[i];
			out->norm2 += k->norm2[i];
		}
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, (uint64_t)(row + rows) * job->n, err));
	}
	return PITH_OK;
}

static pith_status pack_codes(const struct quant_job *job, const struct rtn_work *k,
                              struct quant_result *out, struct pith_error *err)
{
	struct pith_affine_source s = {
	    .bits = k->options->bits, .zero_mode = k->options->zero_mode,
	    .group_size = k->options->group_size, .codes = k->codes, .scales = k->scales,
	    .zeros = k->zeros};
	PITH_TRY(pith_affine_pack(&s, job->m, job->n, &out->term[0], err));
	out->term_count = 1;
	out->activation = PITH_ACTIVATION_INT8_GROUP32;
	return PITH_OK;
}

static pith_status quantize_rtn(const struct scheme *s, const struct quant_job *job,
                                struct quant_result *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	const struct quant_rtn_options *o = &s->u.rtn;
	struct rtn_work k = {.options = o, .n = job->n};
	k.group_size = o->group_size == 0 ? job->n : o->group_size;
	k.groups = (job->n + k.group_size - 1) / k.group_size;
	k.zero_nbytes = o->zero_mode == ZERO_REAL ? 2 : o->zero_mode == ZERO_INT ? 1 : 0;
	size_t count, rows = quant_piece_rows(job);
	if (!pith_mul_size(job->m, job->n, &count) || count > SIZE_MAX / 8)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%.100s is too large",
		                 job->tensor->name);
	k.codes = malloc(count);
	k.scales = malloc(job->m * k.groups * sizeof(*k.scales));
	k.zeros = k.zero_nbytes > 0 ? malloc(job->m * k.groups * k.zero_nbytes) : NULL;
	k.error2 = malloc(rows * sizeof(*k.error2));
	k.norm2 = malloc(rows * sizeof(*k.norm2));
	k.overflow = malloc(rows * sizeof(*k.overflow));
	float *piece = malloc(rows * job->n * sizeof(*piece));
	pith_status status = PITH_OK;
	if (!k.codes || !k.scales || (k.zero_nbytes > 0 && !k.zeros) || !k.error2 || !k.norm2 ||
	    !k.overflow || !piece)
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to quantize %.100s",
		                   job->tensor->name);
	if (status == PITH_OK)
		status = quantize_pieces(job, &k, piece, out, err);
	free(piece);
	if (status == PITH_OK)
		status = pack_codes(job, &k, out, err);
	free(k.codes);
	free(k.scales);
	free(k.zeros);
	free(k.error2);
	free(k.norm2);
	free(k.overflow);
	if (status != PITH_OK)
		quant_result_free(out);
	return status;
}

/* ---- the method ---- */

static void rtn_defaults(struct scheme *s)
{
	s->u.rtn = (struct quant_rtn_options){.bits = 4, .group_size = 64, .zero_mode = ZERO_INT,
	                                      .search = true};
}

static pith_status bad_value(const struct scheme_option *o, const char *expected,
                             struct pith_error *err)
{
	return pith_fail(err, PITH_E_ARGUMENT, o->value_off, NULL,
	                 "rtn: %.*s is \"%.*s\" at character %zu; expected %s",
	                 (int)(o->key_nbytes < 20 ? o->key_nbytes : 20), o->key,
	                 (int)(o->value_nbytes < 20 ? o->value_nbytes : 20), o->value,
	                 o->value_off + 1, expected);
}

static pith_status option_bits(struct quant_rtn_options *r, const struct scheme_option *o,
                               struct pith_error *err)
{
	if (!scheme_option_u32(o, &r->bits) || r->bits < 2 || r->bits > 8)
		return bad_value(o, "2..8", err);
	return PITH_OK;
}

static pith_status option_group(struct quant_rtn_options *r, const struct scheme_option *o,
                                struct pith_error *err)
{
	static const uint32_t sizes[] = {16, 32, 64, 128, 256};
	uint32_t size = 0;
	r->group_size = 0;
	if (scheme_option_reads(o, "row"))
		return PITH_OK;
	if (scheme_option_u32(o, &size))
		for (size_t i = 0; i < PITH_ARRAY_LENGTH(sizes); i++)
			if (sizes[i] == size)
				r->group_size = size;
	return r->group_size != 0 ? PITH_OK : bad_value(o, "16, 32, 64, 128, 256 or row", err);
}

static const char *const zero_names[] = {"sym", "int", "real"};

static pith_status option_zero(struct quant_rtn_options *r, const struct scheme_option *o,
                               struct pith_error *err)
{
	for (uint32_t mode = 0; mode < PITH_ARRAY_LENGTH(zero_names); mode++) {
		if (scheme_option_reads(o, zero_names[mode])) {
			r->zero_mode = mode;
			return PITH_OK;
		}
	}
	return bad_value(o, "int, real or sym", err);
}

static pith_status option_search(struct quant_rtn_options *r, const struct scheme_option *o,
                                 struct pith_error *err)
{
	uint32_t v;
	if (!scheme_option_u32(o, &v) || v > 1)
		return bad_value(o, "0 or 1", err);
	r->search = v == 1;
	return PITH_OK;
}

static pith_status rtn_option(struct scheme *s, const struct scheme_option *o,
                              struct pith_error *err)
{
	static const struct {
		const char *key;
		pith_status (*set)(struct quant_rtn_options *r, const struct scheme_option *o,
		                   struct pith_error *err);
	} keys[] = {{"bits", option_bits}, {"group", option_group}, {"zero", option_zero},
	            {"search", option_search}};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(keys); i++)
		if (scheme_option_is(o, keys[i].key))
			return keys[i].set(&s->u.rtn, o, err);
	return pith_fail(err, PITH_E_ARGUMENT, o->key_off, NULL,
	                 "rtn: no option \"%.*s\" (character %zu); options: bits, group, zero, search",
	                 (int)(o->key_nbytes < 40 ? o->key_nbytes : 40), o->key, o->key_off + 1);
}

static void print_rtn(const struct scheme *s, char *text, size_t cap)
{
	const struct quant_rtn_options *r = &s->u.rtn;
	char group[12] = "row";
	if (r->group_size != 0)
		snprintf(group, sizeof(group), "%u", r->group_size);
	snprintf(text, cap, "rtn:bits=%u,group=%s,zero=%s,search=%d", r->bits, group,
	         zero_names[r->zero_mode], r->search);
}

static bool rtn_nbytes(const struct scheme *s, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count)
{
	const struct quant_rtn_options *r = &s->u.rtn;
	struct pith_affine_sizes sizes;
	if (!pith_affine_sizes(r->bits, r->group_size, 0, r->zero_mode, 0, 0, m, n, &sizes))
		return false;
	*plane_count = r->zero_mode == ZERO_SYM ? 2 : 3;
	*nbytes = pith_round_up((size_t)sizes.codes, PITH_ALIGN) +
	          pith_round_up((size_t)sizes.scales, PITH_ALIGN) +
	          (r->zero_mode == ZERO_SYM ? 0 : pith_round_up((size_t)sizes.zeros, PITH_ALIGN));
	return true;
}

const struct quant_method quant_method_rtn = {
    "rtn",
    "round to nearest; bits=2..8 (4), group=16|32|64|128|256|row (64),\n"
    "zero=int|real|sym (int), search=0|1 (1: scales by least squared error)",
    true, rtn_defaults, rtn_option, print_rtn, rtn_nbytes, quantize_rtn};
