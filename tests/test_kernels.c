/*
 * Every kernel set that this machine runs against the reference: the same bits, for all
 * kinds, sizes and parameters, and nothing touched outside the output.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_kernels.h"

#include <math.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const size_t m_list[] = {1, 15, 16, 17, 33, 100};
static const size_t n_list[] = {1, 4, 16, 17, 31, 32, 33, 63, 64, 100, 172, 256, 4100};
static const size_t k_list[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 33};
static const size_t group_list[] = {0, 16, 32, 64, 96, 128};

#define PICK(rng, list) ((list)[rng_below((rng), PITH_ARRAY_LENGTH(list))])

struct sets {
	const struct pith_kernels *set[8];
	size_t count;
	struct pith_kernels reference;
};

static struct sets all_sets(void)
{
	struct sets sets;
	sets.count = pith_kernels_available(sets.set);
	pith_set_reference(&sets.reference);
	return sets;
}

/* ---- apply ---- */

struct output {
	float *y;
	size_t nfloats;
};

static struct output output_new(struct arena *arena, struct rng *rng, size_t nfloats)
{
	struct output out = {arena_alloc(arena, nfloats * sizeof(float)), nfloats};
	for (size_t i = 0; i < nfloats; i++)
		out.y[i] = rng_unit(rng);
	return out;
}

/*
 * Run one term by the reference and by every other set on tiles begin .. end-1 and compare the
 * whole output, rows beyond the range included.
 */
static void compare_apply(const struct sets *sets, struct rng *rng, const struct pith_term *term,
                          uint32_t kind, const struct pith_act *act, const char *what)
{
	struct arena arena = {0};
	size_t begin = 0, end = term->tiles;
	if (rng_below(rng, 3) == 0) {
		begin = rng_below(rng, term->tiles);
		end = begin + 1 + rng_below(rng, term->tiles - begin);
	}
	bool add = rng_below(rng, 2) == 0;
	size_t ldy = 16 * (term->tiles + rng_below(rng, 2));
	struct output start = output_new(&arena, rng, act->k * ldy);
	struct output want = output_new(&arena, rng, act->k * ldy);
	struct output got = output_new(&arena, rng, act->k * ldy);
	memcpy(want.y, start.y, start.nfloats * sizeof(float));
	sets->reference.apply[kind](term, act, begin, end, add, want.y, ldy);
	for (size_t s = 0; s + 1 < sets->count; s++) {
		memcpy(got.y, start.y, start.nfloats * sizeof(float));
		sets->set[s]->apply[kind](term, act, begin, end, add, got.y, ldy);
		for (size_t i = 0; i < start.nfloats; i++)
			if (!same_f32(want.y[i], got.y[i]))
				fail_msg("%s, %s: m %zu n %zu k %zu tiles %zu..%zu add %d: token "
				         "%zu row "
				         "%zu is %a, not %a",
				         sets->set[s]->name, what, term->m, term->n, act->k, begin,
				         end, add, i / ldy, i % ldy, (double)got.y[i],
				         (double)want.y[i]);
	}
	arena_free(&arena);
}

/* Sizes whose reference run stays short. */
static void pick_sizes(struct rng *rng, size_t *m, size_t *n, size_t *k)
{
	do {
		*m = PICK(rng, m_list);
		*n = PICK(rng, n_list);
		*k = PICK(rng, k_list);
	} while (*m * *n * *k > 300000);
}

static void check_affine(const struct sets *sets, struct rng *rng, enum fill fill, size_t m,
                         size_t n, size_t k, uint32_t bits, uint32_t zero_mode, size_t group_size, uint32_t level_bits)
{
	struct arena arena = {0};
	struct pith_term term;
	struct pith_act act;
	char what[80];
	snprintf(what, sizeof(what), "affine %u bits zero_mode %u group %zu fill %d", bits,
	         zero_mode, group_size, (int)fill);
	make_affine(&term, &arena, rng, fill, m, n, bits, zero_mode, group_size, level_bits);
	make_act(&act, &arena, rng, fill, k, n);
	act.x = NULL; /* an integer kind has no business there */
	compare_apply(sets, rng, &term, PITH_KIND_AFFINE, &act, what);
	arena_free(&arena);
}

static void affine_parameters(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {1};
	for (uint32_t bits = 1; bits <= 8; bits++)
		for (uint32_t zero_mode = 0; zero_mode <= 3; zero_mode++)
			for (size_t g = 0; g < PITH_ARRAY_LENGTH(group_list); g++)
				for (int fill = 0; fill < FILL_COUNT; fill++) {
					size_t m, n, k;
					pick_sizes(&rng, &m, &n, &k);
					check_affine(&sets, &rng, (enum fill)fill, m, n, k, bits,
					             zero_mode, group_list[g], 0);
				}
}

static void affine_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {2};
	for (size_t m = 0; m < PITH_ARRAY_LENGTH(m_list); m++)
		for (size_t n = 0; n < PITH_ARRAY_LENGTH(n_list); n++)
			for (size_t k = 0; k < PITH_ARRAY_LENGTH(k_list); k++)
				if (m_list[m] * n_list[n] * k_list[k] < 300000)
					check_affine(&sets, &rng, FILL_RANDOM, m_list[m], n_list[n],
					             k_list[k], 1 + (uint32_t)rng_below(&rng, 8),
					             (uint32_t)rng_below(&rng, 4),
					             PICK(&rng, group_list), 0);
	check_affine(&sets, &rng, FILL_RANDOM, 33, 4100, 33, 3, 3, 16, 0);
	/* spqr's: one token decodes four groups' scales at once */
	for (size_t n = 1; n < 140; n++)
		check_affine(&sets, &rng, (enum fill)(n % FILL_COUNT), 33, n, 1, 3, 3, 16, 3);
	check_affine(&sets, &rng, FILL_RANDOM, 33, 1300, 1, 3, 3, 16, 3);
}

static void codebook_parameters(void **unused)
{
	(void)unused;
	static const uint32_t scale_modes[] = {0, 2, 3};
	struct sets sets = all_sets();
	struct rng rng = {10};
	for (size_t i = 0; i < 7 * 3 * 4 * 6 * FILL_COUNT; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k;
		char what[80];
		uint32_t bits = 2 + (uint32_t)i % 7, mode = scale_modes[i / 7 % 3];
		bool real = mode == 3 || i / 21 % 2, per_row = i / 42 % 2;
		size_t group = mode == 3 ? 0 : group_list[i / 84 % 6];
		enum fill fill = (enum fill)(i / 504);
		pick_sizes(&rng, &m, &n, &k);
		snprintf(what, sizeof(what), "codebook %u bits scale_mode %u group %zu real %d rows %d fill %d",
		         bits, mode, group, real, per_row, (int)fill);
		make_codebook(&term, &arena, &rng, fill, m, n, bits, mode, group, real, per_row);
		make_act(&act, &arena, &rng, fill, k, n);
		if (real)
			act.q = NULL;
		else
			act.x = NULL;
		compare_apply(&sets, &rng, &term, PITH_KIND_CODEBOOK, &act, what);
		arena_free(&arena);
	}
}

static void ternary_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {11};
	for (size_t n = 1; n < 700; n++) { /* every tail of lines and runs */
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t k = n % 3 ? 1 : PICK(&rng, k_list);
		enum fill fill = n % 2 ? FILL_RANDOM : (enum fill)(n / 2 % FILL_COUNT);
		make_ternary(&term, &arena, &rng, fill, n < 300 ? PICK(&rng, m_list) : 17, n);
		make_act(&act, &arena, &rng, fill, n < 300 ? k : k % 4 + 1, n);
		act.x = NULL;
		compare_apply(&sets, &rng, &term, PITH_KIND_TERNARY, &act, "ternary");
		arena_free(&arena);
	}
}

static void dense_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {3};
	for (size_t i = 0; i < 1500; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k;
		enum fill fill = (enum fill)(i % FILL_COUNT);
		uint32_t dtype = PITH_DTYPE_F32 + (uint32_t)rng_below(&rng, 3);
		pick_sizes(&rng, &m, &n, &k);
		if (i % 4 == 0)
			n = 1 + i / 4 % 80; /* every tail */
		make_dense(&term, &arena, &rng, fill, m, n, dtype);
		make_act(&act, &arena, &rng, fill, k, n);
		compare_apply(&sets, &rng, &term, PITH_KIND_DENSE, &act, "dense");
		arena_free(&arena);
	}
}

static void sparse_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {4};
	for (size_t i = 0; i < 400; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k;
		enum fill fill = (enum fill)(i % FILL_COUNT);
		pick_sizes(&rng, &m, &n, &k);
		make_sparse(&term, &arena, &rng, fill, m, n, i % 7 == 0 ? 0 : rng_below(&rng, 300), false);
		make_act(&act, &arena, &rng, fill, k, n);
		compare_apply(&sets, &rng, &term, PITH_KIND_SPARSE, &act, "sparse");
		arena_free(&arena);
	}
}

static const size_t pattern_list[][2] = {{2, 4}, {4, 8}, {1, 4}, {3, 5}, {1, 32}};

static void sparse_masks(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {10};
	for (size_t i = 0; i < 1200; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k, keep = 0, pattern = 1;
		enum fill fill = (enum fill)(i % FILL_COUNT);
		uint32_t bits = (uint32_t)(i % 9);
		size_t group = PICK(&rng, group_list);
		char what[80];
		pick_sizes(&rng, &m, &n, &k);
		if (i % 3 == 0) {
			const size_t *choice = PICK(&rng, pattern_list);
			keep = choice[0];
			pattern = choice[1];
			n = pith_round_up(n, pattern);
		}
		make_sparse_mask(&term, &arena, &rng, fill, m, n, bits, (uint32_t)(i / 9 % 2),
		                 group == 16 ? 32 : group, rng_below(&rng, 257), keep, pattern,
		                 i % 11 == 0);
		make_act(&act, &arena, &rng, fill, k, n);
		if (bits != 0)
			act.x = NULL;
		snprintf(what, sizeof(what), "sparse mask %u bits, %zu of %zu, fill %d", bits, keep,
		         pattern, (int)fill);
		compare_apply(&sets, &rng, &term, PITH_KIND_SPARSE, &act, what);
		arena_free(&arena);
	}
}

static void lowrank_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {11};
	for (size_t i = 0; i < 400; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k, rank = 1 + rng_below(&rng, 40);
		enum fill fill = (enum fill)(i % FILL_COUNT);
		pick_sizes(&rng, &m, &n, &k);
		make_lowrank(&term, &arena, &rng, fill, m, n, rank,
		             i % 2 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16);
		make_act(&act, &arena, &rng, fill, k, n);
		act.ldh = pith_round_up(rank, 16);
		float *h = arena_alloc(&arena, k * act.ldh * sizeof(float));
		for (size_t j = 0; j < k * act.ldh; j++)
			h[j] = fill_f32(&rng, fill);
		act.h = h;
		act.x = NULL;
		compare_apply(&sets, &rng, &term, PITH_KIND_LOWRANK, &act, "lowrank");
		arena_free(&arena);
	}
}

static void columns_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {5};
	for (size_t i = 0; i < 600; i++) {
		struct arena arena = {0};
		struct pith_term term;
		struct pith_act act;
		size_t m, n, k;
		enum fill fill = (enum fill)(i % FILL_COUNT);
		pick_sizes(&rng, &m, &n, &k);
		make_columns(&term, &arena, &rng, fill, m, n, 1 + rng_below(&rng, n < 70 ? n : 70),
		             i % 2 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16);
		make_act(&act, &arena, &rng, fill, k, n);
		compare_apply(&sets, &rng, &term, PITH_KIND_COLUMNS, &act, "columns");
		arena_free(&arena);
	}
}

/* ---- vectors ---- */

/* Random floats of every size and sign, with zeros, infinities and NaNs where 'special'. */
static float any_f32(struct rng *rng, bool special)
{
	static const float list[] = {0.0f, -0.0f, 88.0f,     88.1f,      -87.33654f, -87.33655f,
	                             1.0f, -1.0f, 0x1p-149f, -0x1p-126f, 1e30f,      -1e30f};
	size_t kind = rng_below(rng, 8);
	if (kind == 0)
		return PICK(rng, list);
	if (kind == 1 && special)
		return f32_of_bits((uint32_t)rng_next(rng));
	if (kind == 2 && special)
		return f32_of_bits(0x7f800000u | (uint32_t)rng_below(rng, 2) << 31 |
		                   (uint32_t)rng_below(rng, 2) << 22);
	return rng_unit(rng) * (kind < 5 ? 100.0f : 1.0f);
}

static float *any_vector(struct arena *arena, struct rng *rng, size_t n, bool special)
{
	float *x = arena_alloc(arena, n * sizeof(float));
	for (size_t i = 0; i < n; i++)
		x[i] = any_f32(rng, special);
	return x;
}

static float *copy_vector(struct arena *arena, const float *x, size_t n)
{
	float *y = arena_alloc(arena, n * sizeof(float));
	memcpy(y, x, n * sizeof(float));
	return y;
}

static void assert_same(const struct pith_kernels *set, const char *what, const float *want,
                        const float *got, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!same_f32(want[i], got[i]))
			fail_msg("%s, %s: [%zu] of %zu is %a, not %a", set->name, what, i, n,
			         (double)got[i], (double)want[i]);
}

static void vector_kernels(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {6};
	for (size_t n = 1; n < 420; n += 1 + n / 40) {
		struct arena arena = {0};
		bool special = n % 2 == 0;
		float *x = any_vector(&arena, &rng, n, special),
		      *w = any_vector(&arena, &rng, n, special);
		float *want[4], *got = arena_alloc(&arena, n * sizeof(float));
		for (size_t i = 0; i < 4; i++)
			want[i] = copy_vector(&arena, x, n);
		sets.reference.exp_array(x, n, want[0]);
		sets.reference.silu_mul(x, w, n, want[1]);
		sets.reference.add(want[2], w, n);
		sets.reference.rmsnorm(x, w, 1e-5f, n, want[3]);
		for (size_t s = 0; s + 1 < sets.count; s++) {
			const struct pith_kernels *set = sets.set[s];
			set->exp_array(x, n, got);
			assert_same(set, "exp_array", want[0], got, n);
			memcpy(got, x, n * sizeof(float));
			set->silu_mul(got, w, n, got);
			assert_same(set, "silu_mul", want[1], got, n);
			memcpy(got, x, n * sizeof(float));
			set->add(got, w, n);
			assert_same(set, "add", want[2], got, n);
			set->rmsnorm(x, w, 1e-5f, n, got);
			assert_same(set, "rmsnorm", want[3], got, n);
		}
		arena_free(&arena);
	}
}

/* exp on every 2048th float there is. */
static void exp_everywhere(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	enum { COUNT = 4096 };
	static float x[COUNT], want[COUNT], got[COUNT];
	for (uint32_t high = 0; high < 512; high++) {
		for (uint32_t i = 0; i < COUNT; i++)
			x[i] = f32_of_bits(high << 23 | i << 11 | (i * 37 & 0x7ff));
		sets.reference.exp_array(x, COUNT, want);
		for (size_t s = 0; s + 1 < sets.count; s++) {
			sets.set[s]->exp_array(x, COUNT, got);
			assert_same(sets.set[s], "exp_array", want, got, COUNT);
		}
	}
}

static void quantize_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {7};
	for (size_t i = 0; i < 2000; i++) {
		struct arena arena = {0};
		size_t n = 1 + rng_below(&rng, 200), blocks = (n + 31) / 32;
		float *x = arena_alloc(&arena, 32 * blocks * sizeof(float));
		enum fill fill = (enum fill)(i % FILL_COUNT);
		for (size_t j = 0; j < n; j++)
			x[j] = i % 7 == 0 ? any_f32(&rng, false)
			                  : fill_f32(&rng, fill) * (i % 3 ? 1.0f : 1e-30f);
		for (size_t j = 0; i % 13 == 0 && j < n;
		     j++) /* around the bound below which all is 0 */
			x[j] = rng_unit(&rng) < 0 ? 0x1.fffffep-101f
			       : i % 2            ? 0x1p-100f
			                          : -0x1p-105f;
		if (i % 11 == 0)
			x[rng_below(&rng, n)] = f32_of_bits(i % 2 ? 0x7f800000u : 0xffc00001u);
		int8_t *q[2];
		float *scale[2];
		int32_t *sum[2];
		for (size_t j = 0; j < 2; j++) {
			q[j] = arena_alloc(&arena, 32 * blocks);
			scale[j] = arena_alloc(&arena, blocks * sizeof(float));
			sum[j] = arena_alloc(&arena, 2 * blocks * sizeof(int32_t));
		}
		bool ok = sets.reference.quantize(x, n, q[0], scale[0], sum[0]);
		assert_int_equal(ok, i % 11 != 0);
		for (size_t s = 0; s + 1 < sets.count; s++) {
			assert_int_equal(sets.set[s]->quantize(x, n, q[1], scale[1], sum[1]), ok);
			if (!ok)
				continue;
			assert_memory_equal(q[0], q[1], 32 * blocks);
			assert_memory_equal(scale[0], scale[1], blocks * sizeof(float));
			assert_memory_equal(sum[0], sum[1], 2 * blocks * sizeof(int32_t));
		}
		/* one scale: of the row, and static ones that clip and that do not */
		float fixed = i % 3 == 0 ? 0.0f : rng_unit(&rng) * (i % 3 == 1 ? 0.001f : 0.1f);
		fixed = fabsf(fixed);
		assert_int_equal(sets.reference.quantize_row(x, n, fixed, q[0], scale[0], sum[0]), ok);
		for (size_t s = 0; s + 1 < sets.count; s++) {
			assert_int_equal(sets.set[s]->quantize_row(x, n, fixed, q[1], scale[1], sum[1]),
			                 ok);
			if (!ok)
				continue;
			assert_memory_equal(q[0], q[1], 32 * blocks);
			assert_memory_equal(scale[0], scale[1], blocks * sizeof(float));
			assert_memory_equal(sum[0], sum[1], 2 * blocks * sizeof(int32_t));
		}
		arena_free(&arena);
	}
}

static void rotate_sizes(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {8};
	for (size_t half = 1; half <= 70; half++) {
		struct arena arena = {0};
		size_t heads = 1 + half % 3, count = heads * 2 * half;
		float *x = any_vector(&arena, &rng, count, false);
		float *c = any_vector(&arena, &rng, half, false),
		      *s = any_vector(&arena, &rng, half, false);
		float *want = copy_vector(&arena, x, count), *got = copy_vector(&arena, x, count);
		sets.reference.rotate(want, heads, 2 * half, c, s);
		for (size_t i = 0; i + 1 < sets.count; i++) {
			memcpy(got, x, count * sizeof(float));
			sets.set[i]->rotate(got, heads, 2 * half, c, s);
			assert_same(sets.set[i], "rotate", want, got, count);
		}
		arena_free(&arena);
	}
}

/* ---- attention ---- */

/* Heads for the positions 0 .. count - 1, every byte 0xff: NaN where f32 or f16 is read. */
struct cache {
	struct pith_kv kv;
	size_t nbytes, scales;
};

static struct cache new_cache(struct arena *arena, enum pith_kv_type type, size_t d, size_t count)
{
	struct cache c;
	size_t blocks = (count + 31) / 32, element = type == PITH_KV_F32 ? 4 : type == PITH_KV_F16 ? 2 : 1;
	c.nbytes = blocks * 32 * d * element;
	c.scales = blocks * ((d + 31) / 32) * 32 * sizeof(float);
	c.kv.keys = arena_alloc(arena, c.nbytes);
	c.kv.values = arena_alloc(arena, c.nbytes);
	c.kv.key_scale = arena_alloc(arena, c.scales);
	c.kv.value_scale = arena_alloc(arena, c.scales);
	memset(c.kv.keys, 0xff, c.nbytes);
	memset(c.kv.values, 0xff, c.nbytes);
	memset(c.kv.key_scale, 0xff, c.scales);
	memset(c.kv.value_scale, 0xff, c.scales);
	return c;
}

static bool same_cache(const struct cache *a, const struct cache *b)
{
	return memcmp(a->kv.keys, b->kv.keys, a->nbytes) == 0 &&
	       memcmp(a->kv.values, b->kv.values, a->nbytes) == 0 &&
	       memcmp(a->kv.key_scale, b->kv.key_scale, a->scales) == 0 &&
	       memcmp(a->kv.value_scale, b->kv.value_scale, a->scales) == 0;
}

/* Positions first .. count - 1 appended in pieces; bytes of others stay. */
static void check_append(const struct sets *sets, struct rng *rng, enum pith_kv_type type, size_t d,
                         size_t first, size_t count, float spread)
{
	struct arena arena = {0};
	size_t ld = d + rng_below(rng, 5);
	float *key = arena_alloc(&arena, count * ld * sizeof(float));
	float *value = arena_alloc(&arena, count * ld * sizeof(float));
	for (size_t i = 0; i < count * ld; i++) {
		key[i] = rng_unit(rng) * spread;
		value[i] = rng_unit(rng) * spread * (i % 7 == 0 ? 1e-6f : 1.0f);
	}
	struct cache want = new_cache(&arena, type, d, count);
	assert_true(sets->reference.append[type](&want.kv, d, first, count - first, key + first * ld, ld,
	                                         value + first * ld, ld));
	for (size_t s = 0; s + 1 < sets->count; s++) {
		struct cache got = new_cache(&arena, type, d, count);
		for (size_t p = first, now; p < count; p += now) {
			now = 1 + rng_below(rng, 40);
			now = now < count - p ? now : count - p;
			assert_true(sets->set[s]->append[type](&got.kv, d, p, now, key + p * ld, ld,
			                                       value + p * ld, ld));
		}
		if (!same_cache(&want, &got))
			fail_msg("%s: append %d, d %zu, %zu..%zu", sets->set[s]->name, (int)type, d, first,
			         count);
	}
	arena_free(&arena);
}

static const size_t head_dims[] = {1, 2, 7, 8, 16, 24, 32, 33, 48, 64, 80, 100, 128, 160, 256};

static void append_pieces(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {10};
	for (int round = 0; round < 120; round++) {
		size_t count = 1 + rng_below(&rng, 100);
		static const float spreads[] = {1, 1e-5f, 6e4f, 1e-30f};
		check_append(&sets, &rng, (enum pith_kv_type)(round % 3), PICK(&rng, head_dims),
		             rng_below(&rng, count), count, PICK(&rng, spreads));
	}
}

/* What a type cannot hold is said, wherever it stands. */
static void append_refuses(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	static const struct {
		float value;
		bool f16, i8;
	} cases[] = {{65504, true, true},   {65519.9f, true, true},  {-65520, false, true},
	             {1e9f, false, true},   {INFINITY, false, false}, {-INFINITY, false, false},
	             {NAN, false, false},   {1e-40f, true, true}};
	for (size_t s = 0; s < sets.count; s++)
		for (size_t c = 0; c < PITH_ARRAY_LENGTH(cases); c++)
			for (size_t at = 0; at < 40; at += 13)
				for (int in_key = 0; in_key < 2; in_key++) {
					struct arena arena = {0};
					float rows[2][40] = {{0}};
					rows[in_key][at] = cases[c].value;
					struct cache f16 = new_cache(&arena, PITH_KV_F16, 40, 1);
					struct cache i8 = new_cache(&arena, PITH_KV_I8, 40, 1);
					assert_int_equal(sets.set[s]->append[PITH_KV_F16](
					                     &f16.kv, 40, 0, 1, rows[1], 40, rows[0], 40),
					                 cases[c].f16);
					assert_int_equal(sets.set[s]->append[PITH_KV_I8](
					                     &i8.kv, 40, 0, 1, rows[1], 40, rows[0], 40),
					                 cases[c].i8);
					arena_free(&arena);
				}
}

/* 'count' queries; number i sees first[i] .. last[i].  Nothing else holds numbers. */
static void check_attention(const struct sets *sets, struct rng *rng, enum pith_kv_type type, size_t d,
                            size_t count, const size_t *first, const size_t *last, float spread)
{
	struct arena arena = {0};
	size_t low = first[0], high = last[0];
	for (size_t i = 1; i < count; i++) {
		low = first[i] < low ? first[i] : low;
		high = last[i] > high ? last[i] : high;
	}
	float *q = arena_alloc(&arena, count * d * sizeof(float));
	float *rows = arena_alloc(&arena, 2 * (high + 1) * d * sizeof(float));
	float *want = arena_alloc(&arena, count * d * sizeof(float));
	float *got = arena_alloc(&arena, count * d * sizeof(float));
	struct pith_query *query = arena_alloc(&arena, count * sizeof(*query));
	for (size_t i = 0; i < count * d; i++)
		q[i] = rng_unit(rng) * spread;
	for (size_t i = 0; i < 2 * (high + 1) * d; i++)
		rows[i] = rng_unit(rng);
	struct cache c = new_cache(&arena, type, d, high + 1);
	assert_true(sets->reference.append[type](&c.kv, d, low, high + 1 - low, rows + low * d, d,
	                                         rows + (high + 1 + low) * d, d));
	for (size_t i = 0; i < count; i++)
		query[i] = (struct pith_query){q + i * d, want + i * d, first[i], last[i]};
	sets->reference.attention[type](&c.kv, d, query, count, 0.25f);
	for (size_t i = 0; i < count * d; i++)
		assert_true(want[i] == want[i]);
	for (size_t s = 0; s + 1 < sets->count; s++) {
		char what[80];
		snprintf(what, sizeof(what), "attention %d count %zu d %zu positions %zu..%zu", (int)type,
		         count, d, low, high);
		for (size_t i = 0; i < count; i++)
			query[i].out = got + i * d;
		sets->set[s]->attention[type](&c.kv, d, query, count, 0.25f);
		assert_same(sets->set[s], what, want, got, count * d);
	}
	arena_free(&arena);
}

#define MOST_QUERIES 9

/* 'count' queries that see the same. */
static void check_window(const struct sets *sets, struct rng *rng, enum pith_kv_type type, size_t d,
                         size_t count, size_t first, size_t last, float spread)
{
	size_t firsts[MOST_QUERIES], lasts[MOST_QUERIES];
	for (size_t i = 0; i < count; i++)
		firsts[i] = first, lasts[i] = last;
	check_attention(sets, rng, type, d, count, firsts, lasts, spread);
}

static void attention_windows(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {9};
	for (size_t last = 0; last < 100; last++) {
		enum pith_kv_type type = (enum pith_kv_type)(last % 3);
		check_window(&sets, &rng, type, PICK(&rng, head_dims), 1 + rng_below(&rng, MOST_QUERIES), 0,
		             last, 3.0f);
		check_window(&sets, &rng, type, PICK(&rng, head_dims), 1 + rng_below(&rng, MOST_QUERIES),
		             rng_below(&rng, last + 1), last, 100.0f);
	}
	for (size_t d = 1; d < 100; d++)
		check_window(&sets, &rng, (enum pith_kv_type)(d / 3 % 3), d, 1 + d % 6, 5, 40, 10.0f);
	for (unsigned type = 0; type < PITH_KV_TYPE_COUNT; type++) {
		check_window(&sets, &rng, (enum pith_kv_type)type, 128, 4, 100, 700, 3.0f);
		check_window(&sets, &rng, (enum pith_kv_type)type, 64, 1, 0, 600, 3.0f);
	}
}

/* Successive tokens of a prompt, with and without a window, and ranges that have nothing in common. */
static void attention_tiles(void **unused)
{
	(void)unused;
	struct sets sets = all_sets();
	struct rng rng = {12};
	static const size_t windows[] = {0, 1, 7, 31, 32, 33, 64, 300};
	for (int round = 0; round < 150; round++) {
		size_t first[MOST_QUERIES], last[MOST_QUERIES], count = 2 + rng_below(&rng, 8);
		size_t position = rng_below(&rng, 400), window = PICK(&rng, windows);
		size_t group = 1 + rng_below(&rng, 3);
		for (size_t i = 0; i < count; i++) {
			last[i] = position + i / group;
			first[i] = window == 0 || last[i] < window ? 0 : last[i] + 1 - window;
			if (round % 5 == 0) {
				last[i] = rng_below(&rng, 600);
				first[i] = rng_below(&rng, last[i] + 1);
			}
		}
		check_attention(&sets, &rng, (enum pith_kv_type)(round % 3), PICK(&rng, head_dims), count,
		                first, last, round % 2 == 0 ? 3.0f : 60.0f);
	}
}

/* ---- choice among sets ---- */

static void masks(void **unused)
{
	(void)unused;
	const struct pith_kernels *set = NULL;
	struct sets sets = all_sets();
	assert_true(sets.count >= 1);
	assert_string_equal(sets.set[sets.count - 1]->name, "reference");
	assert_int_equal(pith_kernels_select("", &set, NULL), PITH_OK);
	assert_ptr_equal(set, sets.set[0]);
	assert_int_equal(pith_kernels_select("-avx2,-neon", &set, NULL), PITH_OK);
	assert_string_equal(set->name, "reference");
	assert_int_equal(pith_kernels_select("-avx512", &set, NULL), PITH_OK);
	assert_string_not_equal(set->name, "avx512");
	static const char *const bad[] = {"avx2",   "-avx", "-avx22",     "-avx2,-sse",    ",",
	                                  "-avx2 ", "-",    "-reference", "-avx2,,-avx512"};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(bad); i++) {
		struct pith_error err;
		assert_int_equal(pith_kernels_select(bad[i], &set, &err), PITH_E_ARGUMENT);
		assert_null(set);
		assert_non_null(strstr(err.msg, "PITH_CPU"));
	}
	unsigned features = pith_cpu_features();
	assert_true(!(features & PITH_CPU_AVX512) || (features & PITH_CPU_AVX2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(affine_parameters),
	    cmocka_unit_test(affine_sizes),
	    cmocka_unit_test(codebook_parameters),
	    cmocka_unit_test(ternary_sizes),
	    cmocka_unit_test(dense_sizes),
	    cmocka_unit_test(sparse_sizes),
	    cmocka_unit_test(sparse_masks),
	    cmocka_unit_test(lowrank_sizes),
	    cmocka_unit_test(columns_sizes),
	    cmocka_unit_test(vector_kernels),
	    cmocka_unit_test(exp_everywhere),
	    cmocka_unit_test(quantize_sizes),
	    cmocka_unit_test(rotate_sizes),
	    cmocka_unit_test(append_pieces),
	    cmocka_unit_test(append_refuses),
	    cmocka_unit_test(attention_windows),
	    cmocka_unit_test(attention_tiles),
	    cmocka_unit_test(masks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
