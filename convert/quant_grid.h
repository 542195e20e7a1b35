/*
 * The grid of an affine group: s * (q - z), q = 0 .. 2^bits - 1, s and z as the file holds them.
 * Shared by rtn, gptq, spqr, owq and by pruners that quantize what they keep.
 *
 * Spec: spec/terms/affine.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_GRID_H
#define PITH_CONVERT_QUANT_GRID_H

#include "quant.h"

#include <math.h>

enum { GRID_ZERO_SYM = 0, GRID_ZERO_INT = 1, GRID_ZERO_REAL = 2 }; /* affine.md, param 3 */

enum grid_search {
	GRID_MINMAX, /* the ends of the range, which holds 0 */
	GRID_LEAST,  /* narrower ranges, neighbouring zero-points, least-squares scale: least squared error */
	GRID_POWER,  /* narrower ranges, neighbouring zero-points: least sum of |error|^2.4, the authors' of GPTQ */
	GRID_FULL,   /* the same over every zero-point and scales of 1 .. 100 %, the authors' of OWQ; slow */
	GRID_FULL_40 /* 40 scales: theirs for groups and for sensitivities */
};

/* The option grid= of a method, by the order of its names.  FIT_HESSIAN: FIT_MSE with importances. */
#define QUANT_FIT_NAMES "minmax|mse|hessian|power|full"
enum { FIT_MINMAX, FIT_MSE, FIT_HESSIAN, FIT_POWER, FIT_FULL };
static inline enum grid_search grid_search_of(uint32_t fit)
{
	static const enum grid_search search[] = {GRID_MINMAX, GRID_LEAST, GRID_LEAST, GRID_POWER,
	                                          GRID_FULL};
	return search[fit];
}

struct quant_grid_rule {
	uint32_t bits;
	uint32_t group_size; /* 0: row */
	uint32_t zero_mode;
	enum grid_search search;
};

struct quant_grid {
	float scale, zero; /* exactly what is stored: f16; zero u8 or f16 */
	float top;         /* 2^bits - 1 */
	double error2;     /* of the values it was fitted to; internal */
};

/*
 * Fit a grid to w: [count].  importance: [count] >= 0, weights of the squared errors (a Hessian's diagonal), or NULL
 * for all 1; used by GRID_LEAST.  false: the values are too large for an f16 scale.  count > 0.
 */
bool quant_grid_fit(const struct quant_grid_rule *rule, const float *w, const float *importance,
                    size_t count, struct quant_grid *out);

/* Nearest integer, ties to even, of |v| < 2^22; vectorizes, unlike rintf(). */
static inline float grid_round(float v) { return (v + 12582912.0f) - 12582912.0f; }

static inline float grid_clamp(float v, float low, float high)
{
	v = v > low ? v : low;
	return v < high ? v : high;
}

/* The code (a whole number) nearest to w. */
static inline float quant_grid_code(const struct quant_grid *g, float w)
{
	return grid_round(grid_clamp(w / g->scale + g->zero, 0.0f, g->top));
}

/* spec affine: "W[i][j] = fl( s * fl( q - z ) )" */
static inline float quant_grid_value(const struct quant_grid *g, float code)
{
	return g->scale * (code - g->zero);
}

/* Codes and grids of a weight on their way to an affine term, in plain arrays. */
struct quant_codes {
	struct quant_grid_rule rule;
	size_t m, n, group_size, groups;
	uint8_t *codes;   /* [m, n] */
	uint16_t *scales; /* [m, groups] f16 bits */
	uint8_t *zeros;   /* [m, groups] u8 or f16 bits; NULL for GRID_ZERO_SYM */
};
pith_status quant_codes_new(const struct quant_grid_rule *rule, const struct quant_job *job,
                            struct quant_codes *out, struct pith_error *err);
void quant_codes_free(struct quant_codes *c);
/* Group 'group' of row 'row' gets the grid. */
void quant_codes_set_grid(const struct quant_codes *c, size_t row, size_t group,
                          const struct quant_grid *g);
/* Append the affine term to *out (activation int8 per 32 columns). */
pith_status quant_codes_pack(const struct quant_codes *c, struct quant_result *out,
                             struct pith_error *err);

/*
 * For methods that take the rows of a weight one by one: read them piece by piece, let 'row' set
 * codes and grids of each (on job->threads; w: [n]), and pack.  It returns the column of a group that is too large for
 * an f16 scale, SIZE_MAX: none.
 */
typedef size_t quant_row_fn(const struct quant_codes *c, size_t row, const float *w);
pith_status quant_codes_by_rows(const struct quant_grid_rule *rule, const struct quant_job *job,
                                quant_row_fn *row, struct quant_result *out,
                                struct pith_error *err);

/* PITH_E_LIMIT: values of a row's group are too large for an f16 scale. */
pith_status quant_grid_overflow(const struct quant_job *job, size_t row, size_t column,
                                struct pith_error *err);

/* scheme nbytes of an affine term of this rule. */
bool quant_grid_nbytes(const struct quant_grid_rule *rule, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count);

#endif
