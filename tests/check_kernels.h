/*
 * Random and adversarial inputs for kernels, in memory that faults one byte behind
 * its end; shared by test_kernels*.c and bench_kernels.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_CHECK_KERNELS_H
#define PITH_TESTS_CHECK_KERNELS_H

#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* ---- random numbers ---- */

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state ^= rng->state << 13;
	rng->state ^= rng->state >> 7;
	rng->state ^= rng->state << 17;
	return rng->state * 0x2545f4914f6cdd1du;
}

static inline size_t rng_below(struct rng *rng, size_t n) { return (rng_next(rng) >> 11) % n; }

/* Uniform in [-1, 1). */
static inline float rng_unit(struct rng *rng)
{
	return (float)((double)(int64_t)(rng_next(rng) >> 40) * 0x1p-23 - 1.0);
}

/* ---- memory with a page behind it that may not be touched ---- */

#define ARENA_MAX 32

struct arena {
	size_t count;
	void *map[ARENA_MAX];
	size_t nbytes[ARENA_MAX];
};

/* nbytes of zeros that end where a forbidden page begins; alignment is that of nbytes. */
static inline void *arena_alloc(struct arena *arena, size_t nbytes)
{
	const size_t page = 4096;
	size_t body = pith_round_up(nbytes, page);
	char *map =
	    mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || arena->count == ARENA_MAX ||
	    mprotect(map + body, page, PROT_NONE) != 0) {
		fprintf(stderr, "check_kernels: out of memory\n");
		abort();
	}
	arena->map[arena->count] = map;
	arena->nbytes[arena->count++] = body + page;
	return map + body - nbytes;
}

static inline void arena_free(struct arena *arena)
{
	while (arena->count > 0) {
		arena->count--;
		munmap(arena->map[arena->count], arena->nbytes[arena->count]);
	}
}

/* ---- values ---- */

enum fill {
	FILL_RANDOM,
	FILL_LARGEST, /* codes all ones, activations +-127 */
	FILL_ZERO,    /* zero weights */
	FILL_SUBNORMAL,
	FILL_HUGE, /* products overflow */
	FILL_COUNT
};

static inline float fill_f32(struct rng *rng, enum fill fill)
{
	float v = rng_unit(rng);
	switch (fill) {
	case FILL_LARGEST: return v < 0 ? -1.0f : 1.0f;
	case FILL_ZERO: return v < 0 ? -0.0f : 0.0f;
	case FILL_SUBNORMAL: return v * 0x1p-130f;
	case FILL_HUGE: return v * 0x1p+126f;
	default: return v;
	}
}

static inline uint16_t fill_f16(struct rng *rng, enum fill fill)
{
	float v = rng_unit(rng);
	switch (fill) {
	case FILL_LARGEST: return v < 0 ? 0xbc00 : 0x3c00;
	case FILL_ZERO: return v < 0 ? 0x8000 : 0;
	case FILL_SUBNORMAL: return (uint16_t)(rng_next(rng) & 0x83ff);
	case FILL_HUGE: return v < 0 ? 0xfbff : 0x7bff;
	default: return f16_of_f32(v * 0.25f);
	}
}

/* A plane: rounded up to 64 bytes as in a file. */
static inline uint8_t *plane_alloc(struct arena *arena, size_t nbytes)
{
	return arena_alloc(arena, pith_round_up(nbytes, 64));
}

static inline uint8_t *plane_random(struct arena *arena, struct rng *rng, enum fill fill,
                                    size_t nbytes)
{
	uint8_t *p = plane_alloc(arena, nbytes);
	for (size_t i = 0; i < nbytes; i++)
		p[i] = fill == FILL_LARGEST ? 0xff : fill == FILL_ZERO ? 0 : (uint8_t)rng_next(rng);
	return p;
}

static inline uint8_t *plane_f16(struct arena *arena, struct rng *rng, enum fill fill, size_t count)
{
	uint8_t *p = plane_alloc(arena, 2 * count);
	for (size_t i = 0; i < count; i++)
		store_le16(p + 2 * i, fill_f16(rng, fill));
	return p;
}

/* ---- terms, filled by hand as their check() would leave them ---- */

static inline void make_shape(struct pith_term *term, size_t m, size_t n)
{
	memset(term, 0, sizeof(*term));
	term->m = m;
	term->n = n;
	term->tiles = (m + 15) / 16;
}

static inline void make_dense(struct pith_term *term, struct arena *arena, struct rng *rng,
                              enum fill fill, size_t m, size_t n, uint32_t dtype)
{
	make_shape(term, m, n);
	size_t width = dtype == PITH_DTYPE_F32 ? 4 : 2;
	uint8_t *p = plane_alloc(arena, m * n * width);
	/* no row may be read beyond its end: the file's rounding to 64 bytes is not granted here */
	p += pith_round_up(m * n * width, 64) - m * n * width;
	for (size_t i = 0; i < m * n; i++) {
		float v = fill_f32(rng, fill);
		if (dtype == PITH_DTYPE_F32)
			store_f32(p + 4 * i, v);
		else if (dtype == PITH_DTYPE_BF16)
			store_le16(p + 2 * i, bf16_of_f32(v));
		else
			store_le16(p + 2 * i, fill_f16(rng, fill));
	}
	term->u.dense = (struct pith_dense){p, dtype, (uint32_t)width};
}

/* zero_mode 3 is the two-level one, with codes of 'level_bits' (0: any); group_size 0: the row. */
static inline void make_affine(struct pith_term *term, struct arena *arena, struct rng *rng,
                               enum fill fill, size_t m, size_t n, uint32_t bits,
                               uint32_t zero_mode, size_t group_size, uint32_t level_bits)
{
	make_shape(term, m, n);
	struct pith_affine *a = &term->u.affine;
	a->bits = bits;
	a->zero_mode = zero_mode;
	a->scale_mode = zero_mode == 3;
	a->blocks = (n + 31) / 32;
	a->group_size = group_size == 0 ? 32 * a->blocks : group_size;
	a->groups = group_size == 0 ? 1 : (n + group_size - 1) / group_size;
	size_t tg = term->tiles * a->groups;
	a->codes = plane_random(arena, rng, fill, term->tiles * a->blocks * 64 * bits);
	if (zero_mode == 3) {
		a->scale_bits = level_bits ? level_bits : 1 + (uint32_t)rng_below(rng, 8);
		a->zero_bits = level_bits ? level_bits : 1 + (uint32_t)rng_below(rng, 8);
		a->scale_codes = plane_random(arena, rng, fill, tg * a->scale_bits * 2);
		a->zero_codes = plane_random(arena, rng, fill, tg * a->zero_bits * 2);
		a->second_level = plane_f16(arena, rng, fill, tg * 4);
		return;
	}
	a->scales = plane_f16(arena, rng, fill, tg * 16);
	if (zero_mode == 2)
		a->zeros = plane_f16(arena, rng, fill, tg * 16);
	else if (zero_mode == 1) {
		uint8_t *z = plane_random(arena, rng, fill, tg * 16);
		for (size_t i = 0; i < tg * 16; i++)
			z[i] &= (uint8_t)((1u << bits) - 1);
		a->zeros = z;
	}
}

/* i8 entries, or f32 ones with 'real'; group_size 0: the row. */
static inline void make_codebook(struct pith_term *term, struct arena *arena, struct rng *rng,
                                 enum fill fill, size_t m, size_t n, uint32_t bits,
                                 uint32_t scale_mode, size_t group_size, bool real, bool per_row)
{
	make_shape(term, m, n);
	struct pith_codebook *c = &term->u.codebook;
	c->bits = bits;
	c->scale_mode = scale_mode;
	c->real = real;
	c->per_row = per_row;
	c->blocks = (n + 31) / 32;
	c->group_size = group_size == 0 ? 32 * c->blocks : group_size;
	c->groups = group_size == 0 ? 1 : (n + group_size - 1) / group_size;
	size_t tg = term->tiles * c->groups, entries = (size_t)1 << bits;
	entries *= per_row ? 16 * term->tiles : 1;
	c->codes = plane_random(arena, rng, fill == FILL_ZERO ? FILL_RANDOM : fill,
	                        term->tiles * c->blocks * 64 * bits);
	uint8_t *p = plane_alloc(arena, entries * (real ? 4 : 1));
	for (size_t e = 0; e < entries; e++)
		if (real)
			store_f32(p + 4 * e, fill_f32(rng, fill));
		else
			p[e] = fill == FILL_LARGEST ? 0x80 : fill == FILL_ZERO ? 0 : (uint8_t)rng_next(rng);
	c->entries = p;
	if (scale_mode == 0)
		c->scales = plane_f16(arena, rng, fill, tg * 16);
	if (scale_mode == 2) {
		c->scale_codes = plane_random(arena, rng, fill, tg * 16);
		c->second_level = plane_f16(arena, rng, fill, 2 * term->tiles);
	}
}

/* Any bytes: those that code no trits must decode alike everywhere too. */
static inline void make_ternary(struct pith_term *term, struct arena *arena, struct rng *rng,
                                enum fill fill, size_t m, size_t n)
{
	make_shape(term, m, n);
	struct pith_ternary *t = &term->u.ternary;
	t->lines = (n + 19) / 20;
	t->codes = plane_random(arena, rng, fill, term->tiles * t->lines * 64);
	uint8_t *scales = plane_alloc(arena, term->tiles * 64);
	for (size_t i = 0; i < term->tiles * 16; i++)
		store_f32(scales + 4 * i, fill_f32(rng, fill));
	t->scales = scales;
}

/* Ascending lists, with 'per_list' entries on average; out of the matrix on purpose: kernels stay
 * in range. */
static inline void make_sparse(struct pith_term *term, struct arena *arena, struct rng *rng,
                               enum fill fill, size_t m, size_t n, size_t per_list, bool even)
{
	make_shape(term, m, n);
	struct pith_sparse *s = &term->u.sparse;
	s->blocks = (n + 4095) / 4096;
	size_t lists = term->tiles * s->blocks, count = 0;
	uint8_t *offsets = plane_alloc(arena, 4 * (lists + 1));
	uint8_t *counts = plane_alloc(arena, 32 * lists);
	for (size_t l = 0; l < lists; l++) {
		size_t left = even ? per_list : rng_below(rng, 2 * per_list + 1);
		count += left;
		store_le32(offsets + 4 * (l + 1), (uint32_t)count);
		for (; left > 0; left--) { /* rows at random; they differ as those of outliers do */
			uint8_t *row = counts + 32 * l + 2 * rng_below(rng, 16);
			store_le16(row, (uint16_t)(load_le16(row) + 1));
		}
	}
	/* kernels need no order of columns, only their bound */
	uint8_t *index = plane_alloc(arena, 2 * (count + 32));
	for (size_t e = 0; e < count; e++)
		store_le16(index + 2 * e, (uint16_t)(rng_below(rng, 16) << 12 |
		                                     rng_below(rng, n < 4096 ? n : 4096)));
	s->offsets = offsets;
	s->counts = counts;
	s->index = index;
	s->values = plane_f16(arena, rng, fill, count + 32);
	s->value_count = count;
}

/*
 * A bitmask of about 'share' of 256 of the positions; keep > 0: n:m with 'keep' of 'pattern' columns,
 * which divides n.  lie: masks say more than there are values; kernels stay in range.
 */
static inline void make_sparse_mask(struct pith_term *term, struct arena *arena, struct rng *rng,
                                    enum fill fill, size_t m, size_t n, uint32_t bits,
                                    uint32_t zero_mode, size_t group_size, size_t share,
                                    size_t keep, size_t pattern, bool lie)
{
	make_shape(term, m, n);
	struct pith_sparse *s = &term->u.sparse;
	s->bits = bits;
	s->zero_mode = zero_mode;
	s->blocks = (n + 31) / 32;
	s->group_size = group_size == 0 ? 32 * s->blocks : group_size;
	s->groups = group_size == 0 ? 1 : (n + group_size - 1) / group_size;
	s->tile_values = keep != 0 ? 16 * (n / pattern) * keep : 0;
	size_t lines = term->tiles * s->blocks * 8, count = 0;
	uint8_t *masks = plane_alloc(arena, 8 * lines);
	uint8_t *offsets = plane_alloc(arena, 4 * (term->tiles + 1));
	for (size_t i = 0; i < term->tiles * 16; i++)
		for (size_t j = 0, left = 0; j < n && i < m; j++) {
			size_t to_go = keep != 0 ? pattern - j % pattern : 1;
			left = keep != 0 && j % pattern == 0 ? keep : left;
			bool set = keep != 0 ? rng_below(rng, to_go) < left :
			                       rng_below(rng, 256) < share;
			left -= keep != 0 && set;
			unsigned bit = (unsigned)(bits != 0 ? 4 * (i % 16) + j % 4 :
			                                      16 * (j % 4) + i % 16);
			uint8_t *line = masks + 8 * ((i / 16 * s->blocks + j / 32) * 8 + j % 32 / 4);
			store_le64(line, load_le64(line) | (uint64_t)set << bit);
			count += set;
			store_le32(offsets + 4 * (i / 16 + 1), (uint32_t)count);
		}
	for (size_t l = 0; lie && l < lines; l++)
		store_le64(masks + 8 * l, rng_next(rng) | rng_next(rng));
	s->masks = masks;
	s->offsets = keep != 0 ? NULL : offsets;
	s->value_count = count;
	if (bits == 0) {
		uint8_t *values = plane_alloc(arena, 2 * (count + 640));
		for (size_t i = 0; i < count; i++)
			store_le16(values + 2 * i, fill_f16(rng, fill));
		s->values = values;
		return;
	}
	size_t tg = term->tiles * s->groups;
	s->values = plane_random(arena, rng, fill, (count / 64 + 10) * 8 * bits);
	s->scales = plane_f16(arena, rng, fill, tg * 16);
	uint8_t *z = plane_random(arena, rng, fill, tg * 16);
	for (size_t i = 0; i < tg * 16; i++)
		z[i] &= (uint8_t)((1u << bits) - 1);
	s->zeros = zero_mode == 1 ? z : NULL;
}

static inline void make_lowrank(struct pith_term *term, struct arena *arena, struct rng *rng,
                                enum fill fill, size_t m, size_t n, size_t rank, uint32_t dtype)
{
	make_shape(term, m, n);
	struct pith_lowrank *l = &term->u.lowrank;
	l->v = plane_f16(arena, rng, fill, rank * n);
	l->u = plane_f16(arena, rng, fill, term->tiles * rank * 16);
	l->rank = rank;
	l->dtype = dtype;
}

static inline void make_columns(struct pith_term *term, struct arena *arena, struct rng *rng,
                                enum fill fill, size_t m, size_t n, size_t c, uint32_t dtype)
{
	make_shape(term, m, n);
	struct pith_columns *columns = &term->u.columns;
	uint8_t *index = plane_alloc(arena, 4 * c);
	for (size_t i = 0; i < c; i++)
		store_le32(index + 4 * i, (uint32_t)(i * n / c));
	columns->index = index;
	columns->values = plane_f16(arena, rng, fill, term->tiles * c * 16);
	columns->column_count = c;
	columns->dtype = dtype;
}

/* ---- activations ---- */

/*
 * x: [k, n] as 'fill' says, quantized by the reference, per 32 columns or per token; the strides are
 * larger than needed.
 */
static inline void make_act(struct pith_act *act, struct arena *arena, struct rng *rng,
                            enum fill fill, size_t k, size_t n)
{
	size_t blocks = (n + 31) / 32;
	size_t ldx = pith_act_ldx(n), ldq = pith_round_up(n, 64) + 64,
	       lds = blocks + rng_below(rng, 3);
	float *x = arena_alloc(arena, k * ldx * sizeof(float));
	int8_t *q = arena_alloc(arena, k * ldq);
	float *scale = arena_alloc(arena, k * lds * sizeof(float));
	int32_t *sum = arena_alloc(arena, 2 * k * lds * sizeof(int32_t));
	struct pith_kernels reference;
	bool one_scale = rng_below(rng, 2) != 0;
	pith_set_reference(&reference);
	for (size_t t = 0; t < k; t++) {
		for (size_t j = 0; j < n; j++)
			x[t * ldx + j] = fill_f32(rng, fill == FILL_ZERO ? FILL_RANDOM : fill);
		if (one_scale)
			reference.quantize_row(x + t * ldx, n, 0, q + t * ldq, scale + t * lds,
			                       sum + 2 * t * lds);
		else
			reference.quantize(x + t * ldx, n, q + t * ldq, scale + t * lds,
			                   sum + 2 * t * lds);
	}
	*act = (struct pith_act){.k = k, .n = n, .x = x, .ldx = ldx, .q = q, .ldq = ldq,
	                         .scale = scale, .lds = lds, .sum = sum, .one_scale = one_scale};
}

/* Same bits, or both NaN (whose payload nothing promises). */
static inline bool same_f32(float a, float b)
{
	return bits_of_f32(a) == bits_of_f32(b) || (a != a && b != b);
}

#endif
