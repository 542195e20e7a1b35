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
	bool one_scale;      /* of the row: runs of affine are not cut at 32 columns (numerics.md 4) */
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

/* ---- the KV cache ---- */

#define PITH_KV_BLOCK 32u /* positions of a block */
#define PITH_KV_GROUP 32u /* elements that share a scale in i8 */

/* What a cache holds: the model's kv_dtype. */
enum pith_kv_type { PITH_KV_F32, PITH_KV_F16, PITH_KV_I8, PITH_KV_TYPE_COUNT };

/* Of one element. */
static inline size_t pith_kv_nbytes(enum pith_kv_type type)
{
	return type == PITH_KV_F32 ? 4 : type == PITH_KV_F16 ? 2 : 1;
}

/* Keys and values of one key head of one sequence. */
struct pith_kv {
	void *keys;         /* [blocks][d][32]: position p is lane p % 32 of block p / 32 */
	void *values;       /* [positions][d] */
	float *key_scale;   /* i8: [blocks][groups][32] */
	float *value_scale; /* i8: the same */
};

/* Groups of 32 elements of a head. */
static inline size_t pith_kv_groups(size_t d) { return (d + PITH_KV_GROUP - 1) / PITH_KV_GROUP; }

/* Where the scale of element i at 'position' is. */
static inline size_t pith_kv_scale_place(size_t d, size_t position, size_t i)
{
	return (position / PITH_KV_BLOCK * pith_kv_groups(d) + i / PITH_KV_GROUP) * PITH_KV_BLOCK +
	       position % PITH_KV_BLOCK;
}

/*
 * Put 'count' positions from 'position' on into the cache.  key (rotated), value: row p is
 * position + p, [count, ldk] and [count, ldv] f32, d columns each.  False when the type cannot hold a value.
 */
typedef bool pith_append_fn(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                            const float *key, size_t ldk, const float *value, size_t ldv);

/* One query of one head; it sees the positions first .. last. */
struct pith_query {
	const float *q; /* [d] rotated */
	float *out;     /* [d] */
	size_t first, last;
};

/*
 * numerics.md 7 for queries of one key head, of any tokens of its sequence.  Neighbours
 * share what is read, so those that see nearly the same should be neighbours.
 */
typedef void pith_attention_fn(const struct pith_kv *kv, size_t d, const struct pith_query *queries,
                               size_t count, float scale);

struct pith_kernels {
	const char *name; /* "reference", "avx2", "avx512", "gfni", "neon" */

	pith_apply_fn *apply[PITH_KERNEL_KINDS]; /* NULL where there is no such kind */

	/*
	 * numerics.md 4: x: [n] f32 (n padded by zeros to a multiple of 32 in memory) ->
	 * q: [round_up(n, 32)], scale: [ceil(n/32)], sum: [2 * ceil(n/32)] over 16 columns each.
	 * Returns false when a value is not finite (q and scale are then unspecified).
	 */
	bool (*quantize)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);
	/*
	 * The same with one scale, repeated in all of 'scale': static_scale, or 0: that of the row
	 * (int8_static, int8_token).
	 */
	bool (*quantize_row)(const float *x, size_t n, float static_scale, int8_t *q, float *scale,
	                     int32_t *sum);

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
	/* numerics.md 7, by type of the cache. */
	pith_append_fn *append[PITH_KV_TYPE_COUNT];
	pith_attention_fn *attention[PITH_KV_TYPE_COUNT];
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
enum pith_cpu_feature {
	PITH_CPU_AVX2 = 1u, PITH_CPU_AVX512 = 2u, PITH_CPU_NEON = 4u, PITH_CPU_GFNI = 8u
};
/* AVX2 means avx2+fma+f16c+bmi2; AVX512 means f+bw+vl+dq+vnni; NEON means dot products (ARMv8.2) */
unsigned pith_cpu_features(void);
/* Those of them that a set needs. */
unsigned pith_kernels_features(const struct pith_kernels *kernels);

#endif
