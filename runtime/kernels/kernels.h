/*
 * Kernel sets: the inner loops of the engine, one table of functions per
 * instruction set.  The reference set is plain C, obvious, and the definition; every
 * other set overrides members of it and agrees with it bit for bit
 * (spec/numerics.md).  Kernels cannot fail, never allocate and know no model.
 *
 * Shapes: k tokens, m rows (outputs), n columns (inputs); tiles of 16 rows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_KERNELS_H
#define PITH_RUNTIME_KERNELS_H

#include "term.h"

/*
 * The input of a weight, prepared once for all its terms: x' (transforms applied) as f32, and,
 * when an integer kind will read it, as int8 with one scale per 32 columns.  A stride ldq that
 * is an odd multiple of 64 keeps the rows of a batch out of each other's cache sets.
 */
struct pith_act {
	size_t k, n;
	const float *x;      /* [k, ldx] f32; columns n .. ldx-1 are +0 */
	size_t ldx;          /* at least pith_act_ldx(n), multiple of 16 */
	const int8_t *q;     /* [k, ldq] in [-127, 127]; columns from n on are 0; NULL if unused */
	size_t ldq;          /* multiple of 64, at least n */
	const float *scale;  /* [k, lds] f32, one per 32 columns */
	size_t lds;          /* at least ceil(n / 32) */
	const int32_t *sum;  /* [k, 2 * lds] sums of q over 16 columns */
	const float *h;      /* [k, ldh] f32: V x' of the lowrank term that is applied; else unused */
	size_t ldh;          /* its rank, a multiple of 16 at least */
};

/*
 * Floats that a row of x must hold: whole sparse blocks, so that an entry's column is in range
 * by construction (spec/terms/sparse.md).
 */
static inline size_t pith_act_ldx(size_t n) { return pith_round_up(n, PITH_SPARSE_BLOCK_COLUMNS); }

/*
 * One term over row tiles tile_begin .. tile_end-1 and all k tokens.
 * y: [k, ldy] f32, ldy a multiple of 16 and at least 16 * tiles: whole tiles are written, and
 * t of rows from m on is +0 whatever the planes hold there.
 * add false: y = t; add true: y = fl(y + t).
 */
typedef void pith_apply_fn(const struct pith_term *term, const struct pith_act *act,
                           size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy);

#define PITH_KERNEL_KINDS 16u /* indexed by kind id */

/* Keys and values of one key head in blocks of 32 positions. */
#define PITH_KV_BLOCK 32u

struct pith_kernels {
	const char *name; /* "reference", "avx2", "avx512" */

	pith_apply_fn *apply[PITH_KERNEL_KINDS]; /* NULL where there is no such kind */

	/*
	 * numerics.md 4: x: [n] f32 (n padded by zeros to a multiple of 32 in memory) ->
	 * q: [round_up(n, 32)], scale: [ceil(n/32)], sum: [2 * ceil(n/32)] over 16 columns each.
	 * Returns false when a value is not finite (q and scale are then unspecified).
	 */
	bool (*quantize)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);

	/* numerics.md 6: y[j] = rmsnorm(x, w); x, y: [n]; w: [n] f32. */
	void (*rmsnorm)(const float *x, const float *w, float eps, size_t n, float *y);
	/* numerics.md 6: h[j] = silu(g[j]) * u[j].  h may be g. */
	void (*silu_mul)(const float *g, const float *u, size_t n, float *h);
	/* x[j] = fl(x[j] + y[j]). */
	void (*add)(float *x, const float *y, size_t n);
	/*
	 * numerics.md 7, rotation: x: [head_count, d] in place; cosine, sine: [d / 2] of this
	 * position.
	 */
	void (*rotate)(float *x, size_t head_count, size_t d, const float *cosine,
	               const float *sine);
	/*
	 * numerics.md 7: queries of one token that share one key head.
	 * q: [g, d] rotated; keys: [blocks][d][32] (position p at block p/32, lane p%32);
	 * values: [positions][d]; visible positions first .. last; out: [g, d].
	 */
	void (*attention)(const float *q, size_t g, size_t d, const float *keys,
	                  const float *values, size_t first, size_t last, float scale,
	                  float *out);
	/* exp of numerics.md 5 on n values; y may be x.  For the text coder and tests. */
	void (*exp_array)(const float *x, size_t n, float *y);
};

/*
 * The best set this machine runs that 'mask' (syntax of PITH_CPU: "-avx512,-avx2"; NULL: the
 * environment variable PITH_CPU, unset: none) leaves.  A set goes when any feature it builds on is
 * masked: -avx2 takes avx512 too.  PITH_E_ARGUMENT for an unknown name.
 */
pith_status pith_kernels_select(const char *mask, const struct pith_kernels **out,
                                struct pith_error *err);
/* All sets this build has and this machine can run, best first; the last is the reference. */
size_t pith_kernels_available(const struct pith_kernels *sets[8]);

/* Sets: fill *out, which holds the set it overrides.  Compiled in where the target allows. */
void pith_set_reference(struct pith_kernels *out);

/* CPU features, as cpu.c finds them. */
enum pith_cpu_feature { PITH_CPU_AVX2 = 1u, PITH_CPU_AVX512 = 2u, PITH_CPU_NEON = 4u };
unsigned pith_cpu_features(void); /* AVX2 means avx2+fma+f16c+bmi2; AVX512 means f+bw+vl+dq+vnni */

#endif
