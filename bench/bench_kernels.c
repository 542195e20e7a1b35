/*
 * Speed of the kernels: per set and kind, bytes of codes read per second with one token (decode)
 * and operations per second with 32 (prefill), beside the machine's own limits measured in the same
 * run. One thread.  Usage: bench_kernels [seconds per measurement [only names that contain this]]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_kernels.h"

#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of the fastest of several runs. */
static double best_seconds(const struct pith_kernels *set, uint32_t kind,
                           const struct pith_term *term, const struct pith_act *act, float *y,
                           size_t ldy, double budget)
{
	double best = 1e9, start = now();
	for (size_t runs = 0; runs < 3 || now() - start < budget; runs++) {
		double begin = now();
		set->apply[kind](term, act, 0, term->tiles, false, y, ldy);
		double taken = now() - begin;
		best = taken < best ? taken : best;
		if (runs >= 1 && now() - start > 4 * budget)
			break;
	}
	return best;
}

/* GB/s of reading 'nbytes' once; memchr looks for what is not there as fast as memory gives. */
static double read_bandwidth(const uint8_t *p, size_t nbytes, double budget)
{
	double best = 1e9, start = now();
	size_t found = 0;
	while (now() - start < budget) {
		double begin = now();
		found += memchr(p, 2, nbytes) != NULL;
		double taken = now() - begin;
		best = taken < best ? taken : best;
	}
	return found == 0 ? (double)nbytes / best * 1e-9 : 0;
}

#if defined(__x86_64__)
/* Gop/s of vpdpbusd alone: eight independent sums in registers. */
__attribute__((target("avx512f,avx512vnni"))) static double peak_avx512(void)
{
	__m512i sum[8], a = _mm512_set1_epi32(0x01020304), b = _mm512_set1_epi32(0x04030201);
	for (size_t i = 0; i < 8; i++)
		sum[i] = _mm512_setzero_si512();
	const size_t rounds = 20000000;
	double begin = now();
	for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++)
			sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
		__asm__ volatile("" : "+v"(a));
	}
	double taken = now() - begin;
	for (size_t i = 1; i < 8; i++)
		sum[0] = _mm512_add_epi32(sum[0], sum[i]);
	volatile int32_t sink = _mm512_reduce_add_epi32(sum[0]);
	(void)sink;
	return 8.0 * 128.0 * (double)rounds / taken * 1e-9;
}

/* Gop/s of vpmaddubsw and the addition of its pairs. */
__attribute__((target("avx2"))) static double peak_avx2(void)
{
	__m256i sum[8], a = _mm256_set1_epi32(0x01020304), b = _mm256_set1_epi32(0x04030201);
	for (size_t i = 0; i < 8; i++)
		sum[i] = _mm256_setzero_si256();
	const size_t rounds = 20000000;
	double begin = now();
	for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++) {
			__asm__ volatile("" : "+x"(a));
			sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(a, b));
		}
	}
	double taken = now() - begin;
	for (size_t i = 1; i < 8; i++)
		sum[0] = _mm256_add_epi16(sum[0], sum[i]);
	volatile int sink = _mm256_extract_epi16(sum[0], 0);
	(void)sink;
	return 8.0 * 64.0 * (double)rounds / taken * 1e-9;
}

static void print_peaks(void)
{
	unsigned features = pith_cpu_features();
	if (features & PITH_CPU_AVX512)
		printf("int8 peak, one core, avx512: %.0f Gop/s\n", peak_avx512());
	if (features & PITH_CPU_AVX2)
		printf("int8 peak, one core, avx2: %.0f Gop/s\n", peak_avx2());
}
#else
static void print_peaks(void) {}
#endif

static const struct bench_row {
	const char *name;
	/* zero_mode of sparse: 0x100 for a bitmask, 0x200 for n:m; bits of lowrank: the rank */
	/* zero_mode of codebook: scale_mode, 0x100 for f32 entries, 0x200 for a table per row */
	uint32_t kind, bits, zero_mode;
	size_t group;
} rows[] = {
    {"affine 2 bits g32", PITH_KIND_AFFINE, 2, 0, 32},
    {"affine 2 bits g128", PITH_KIND_AFFINE, 2, 0, 128},
    {"affine 3 bits g32", PITH_KIND_AFFINE, 3, 0, 32},
    {"affine 3 bits g128", PITH_KIND_AFFINE, 3, 0, 128},
    {"affine 3 bits g16 two-level", PITH_KIND_AFFINE, 3, 3, 16},
    {"affine 4 bits g32", PITH_KIND_AFFINE, 4, 0, 32},
    {"affine 4 bits g128", PITH_KIND_AFFINE, 4, 0, 128},
    {"affine 4 bits g128 u8 zero", PITH_KIND_AFFINE, 4, 1, 128},
    {"affine 4 bits g128 f16 zero", PITH_KIND_AFFINE, 4, 2, 128},
    {"affine 6 bits g32", PITH_KIND_AFFINE, 6, 0, 32},
    {"affine 6 bits g128", PITH_KIND_AFFINE, 6, 0, 128},
    {"affine 8 bits g32", PITH_KIND_AFFINE, 8, 0, 32},
    {"affine 8 bits g128", PITH_KIND_AFFINE, 8, 0, 128},
	{"codebook 4 bits g64", PITH_KIND_CODEBOOK, 4, 0, 64},
    {"codebook 4 bits g64 two-level", PITH_KIND_CODEBOOK, 4, 2, 64},
    {"codebook 4 bits g64 f32 entries", PITH_KIND_CODEBOOK, 4, 0x100, 64},
    {"codebook 3 bits row f32 tables", PITH_KIND_CODEBOOK, 3, 0x303, 0},
    {"codebook 4 bits row f32 tables", PITH_KIND_CODEBOOK, 4, 0x303, 0},
    {"codebook 6 bits g64", PITH_KIND_CODEBOOK, 6, 0, 64},
    {"codebook 8 bits g64", PITH_KIND_CODEBOOK, 8, 0, 64},
    {"codebook 8 bits f32 entries", PITH_KIND_CODEBOOK, 8, 0x100, 0},
    {"ternary", PITH_KIND_TERNARY, 0, 0, 0},
    {"dense bf16", PITH_KIND_DENSE, PITH_DTYPE_BF16, 0, 0},
    {"dense f32", PITH_KIND_DENSE, PITH_DTYPE_F32, 0, 0},
    {"sparse 1 %", PITH_KIND_SPARSE, 0, 0, 0},
    {"sparse 1:2 mask f16", PITH_KIND_SPARSE, 0, 0x100, 0},
    {"sparse 2:4 f16", PITH_KIND_SPARSE, 0, 0x200, 0},
    {"sparse 1:2 mask 4 bits g128", PITH_KIND_SPARSE, 4, 0x101, 128},
    {"sparse 2:4 4 bits g128", PITH_KIND_SPARSE, 4, 0x201, 128},
    {"columns 1 %", PITH_KIND_COLUMNS, 0, 0, 0},
    {"lowrank 32", PITH_KIND_LOWRANK, 32, 0, 0},
};

/* Bytes that one pass reads. */
static size_t term_nbytes(const struct pith_term *term, const struct bench_row *row)
{
	const struct pith_affine *a = &term->u.affine;
	if (row->kind == PITH_KIND_DENSE)
		return term->m * term->n * term->u.dense.value_nbytes;
	if (row->kind == PITH_KIND_CODEBOOK)
		return term->tiles * term->u.codebook.blocks * 64 * row->bits;
	if (row->kind == PITH_KIND_TERNARY)
		return term->tiles * term->u.ternary.lines * 64;
	if (row->kind == PITH_KIND_SPARSE && term->u.sparse.masks != NULL)
		return term->tiles * term->u.sparse.blocks * 64 +
		       term->u.sparse.value_count * (row->bits != 0 ? row->bits : 16) / 8;
	if (row->kind == PITH_KIND_SPARSE)
		return term->u.sparse.value_count * 4;
	if (row->kind == PITH_KIND_LOWRANK)
		return term->tiles * term->u.lowrank.rank * 32;
	if (row->kind == PITH_KIND_COLUMNS)
		return term->tiles * term->u.columns.column_count * 32;
	return term->tiles * a->blocks * 64 * a->bits;
}

/* Bytes of a matrix row of n columns, about; entries of sparse and columns: 16 bits each. */
static size_t row_nbytes(const struct bench_row *row, size_t n)
{
	if (row->kind == PITH_KIND_AFFINE || row->kind == PITH_KIND_CODEBOOK)
		return n * row->bits / 8;
	if (row->kind == PITH_KIND_TERNARY)
		return n / 5;
	if (row->kind == PITH_KIND_DENSE)
		return row->bits == PITH_DTYPE_F32 ? 4 * n : 2 * n;
	return n;
}

/* Multiplications and additions per token. */
static double term_operations(const struct pith_term *term, const struct bench_row *row)
{
	if (row->kind == PITH_KIND_LOWRANK)
		return 2.0 * (double)(term->m * term->u.lowrank.rank);
	if (row->kind == PITH_KIND_SPARSE)
		return 2.0 * (double)term->u.sparse.value_count;
	if (row->kind == PITH_KIND_COLUMNS)
		return 2.0 * (double)(term->m * term->u.columns.column_count);
	return 2.0 * (double)(term->m * term->n);
}

static void make_term(struct pith_term *term, struct arena *arena, struct rng *rng,
                      const struct bench_row *row, size_t m, size_t n)
{
	if (row->kind == PITH_KIND_AFFINE)
		make_affine(term, arena, rng, FILL_RANDOM, m, n, row->bits, row->zero_mode,
		            row->group, 3);
	else if (row->kind == PITH_KIND_CODEBOOK)
		make_codebook(term, arena, rng, FILL_RANDOM, m, n, row->bits, row->zero_mode & 0xff,
		              row->group, row->zero_mode & 0x100, row->zero_mode & 0x200);
	else if (row->kind == PITH_KIND_TERNARY)
		make_ternary(term, arena, rng, FILL_RANDOM, m, n);
	else if (row->kind == PITH_KIND_DENSE)
		make_dense(term, arena, rng, FILL_RANDOM, m, n, row->bits);
	else if (row->kind == PITH_KIND_LOWRANK)
		make_lowrank(term, arena, rng, FILL_RANDOM, m, n, row->bits, PITH_DTYPE_F16);
	else if (row->kind == PITH_KIND_SPARSE && row->zero_mode != 0)
		make_sparse_mask(term, arena, rng, FILL_RANDOM, m, n, row->bits, row->zero_mode & 1,
		                 row->group, 128, row->zero_mode & 0x200 ? 2 : 0, 4, false);
	else if (row->kind == PITH_KIND_SPARSE)
		make_sparse(term, arena, rng, FILL_RANDOM, m, n, 655);
	else
		make_columns(term, arena, rng, FILL_RANDOM, m, n, n / 100, PITH_DTYPE_F16);
}

/* One token's queries of a key head over a long sequence, or a tile of a prompt. */
static void bench_attention(const struct pith_kernels *set, struct rng *rng, double budget,
                            enum pith_kv_type type, size_t g, size_t d)
{
	static const char *const names[] = {"f32", "f16", "i8"};
	enum { POSITIONS = 512 };
	struct arena arena = {0};
	float *q = arena_alloc(&arena, g * d * 4), *out = arena_alloc(&arena, g * d * 4);
	float *row = arena_alloc(&arena, d * 4);
	size_t scales = POSITIONS * pith_kv_groups(d) * 4;
	struct pith_kv kv = {arena_alloc(&arena, POSITIONS * d * 4), arena_alloc(&arena, POSITIONS * d * 4),
	                     arena_alloc(&arena, scales), arena_alloc(&arena, scales)};
	struct pith_query *query = arena_alloc(&arena, g * sizeof(*query));
	for (size_t i = 0; i < g * d; i++)
		q[i] = rng_unit(rng);
	for (size_t p = 0; p < POSITIONS; p++) {
		for (size_t i = 0; i < d; i++)
			row[i] = rng_unit(rng);
		set->append[type](&kv, d, p, 1, row, d, row, d);
	}
	for (size_t i = 0; i < g; i++)
		query[i] = (struct pith_query){q + i * d, out + i * d, 0, POSITIONS - 1};
	double best = 1e9, start = now();
	while (now() - start < budget) {
		double begin = now();
		for (int i = 0; i < 16; i++)
			set->attention[type](&kv, d, query, g, 0.1f);
		double taken = (now() - begin) / 16;
		best = taken < best ? taken : best;
	}
	printf("%-10s attention %-4s %zu queries, d %3zu, 512 positions %8.1f GB/s %8.1f Gop/s\n",
	       set->name, names[type], g, d, 2.0 * POSITIONS * (double)(d * pith_kv_nbytes(type)) / best * 1e-9,
	       4.0 * (double)g * POSITIONS * (double)d / best * 1e-9);
	arena_free(&arena);
}

int main(int argc, char **argv)
{
	double budget = argc > 1 ? strtod(argv[1], NULL) : 0.2;
	/* several times the last-level cache for decode; small for prefill, which lives in it */
	const size_t n = 4096, decode_nbytes = (size_t)96 << 20, m_prefill = 1024, k = 32;
	struct rng rng = {42};
	struct arena arena = {0};
	const size_t stream = (size_t)256 << 20;
	uint8_t *memory = arena_alloc(&arena, stream);
	memset(memory, 1, stream);
	printf("read bandwidth, one core: %.1f GB/s\n", read_bandwidth(memory, stream, 4 * budget));
	arena_free(&arena);
	print_peaks();

	const struct pith_kernels *sets[8];
	size_t count = pith_kernels_available(sets);
	for (size_t s = 0; s + 1 < count; s++) {
		for (size_t r = 0; r < PITH_ARRAY_LENGTH(rows); r++) {
			if (argc > 2 && strstr(rows[r].name, argv[2]) == NULL)
				continue;
			struct pith_term big, small;
			struct pith_act one, many;
			size_t m_decode = decode_nbytes / row_nbytes(&rows[r], n);
			make_term(&big, &arena, &rng, &rows[r], m_decode, n);
			make_term(&small, &arena, &rng, &rows[r], m_prefill, n);
			make_act(&one, &arena, &rng, FILL_RANDOM, 1, n);
			make_act(&many, &arena, &rng, FILL_RANDOM, k, n);
			one.h = one.x; /* of a lowrank term: any numbers will do */
			many.h = many.x;
			one.ldh = many.ldh = one.ldx;
			float *y = arena_alloc(&arena, k * m_decode * sizeof(float));
			double decode =
			    best_seconds(sets[s], rows[r].kind, &big, &one, y, m_decode, budget);
			double prefill =
			    best_seconds(sets[s], rows[r].kind, &small, &many, y, m_decode, budget);
			printf("%-10s %-28s %8.1f GB/s %8.1f Gop/s\n", sets[s]->name, rows[r].name,
			       (double)term_nbytes(&big, &rows[r]) / decode * 1e-9,
			       (double)k * term_operations(&small, &rows[r]) / prefill * 1e-9);
			fflush(stdout);
			arena_free(&arena);
		}
		if (argc <= 2 || strstr("attention", argv[2]) != NULL)
			for (unsigned type = 0; type < PITH_KV_TYPE_COUNT; type++)
				for (size_t d = 32; d <= 128; d *= 2)
					for (size_t g = 1; g <= 8; g *= 2)
						bench_attention(sets[s], &rng, budget / 4,
						                (enum pith_kv_type)type, g, d);
	}
	return 0;
}
