/*
 * Speed of the kernels: per set and kind, bytes of planes read per second with one token (decode) on one
 * thread and on all, from a mapped file, with the share of what the probe of 'pith bench' reads, in turn
 * with them; the same with planes that lie in the cache, which is what computing costs; and operations per
 * second with 32 tokens (prefill).  Usage: bench_kernels [seconds per measurement [only names that
 * contain this [only sets that contain this]]]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_kernels.h"
#include "cli.h"
#include "cli_probe.h"

#include "parallel.h"
#include "pithrun.h"

#include <math.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* As in the command, for the probe that is shared with it. */
double cli_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define ROUNDS 7u /* of reading and computing in turn; medians count */

/*
 * Let the memory of an arena be that of files, which a model's planes are in: small pages of the page
 * cache, whose streams the processor follows less far than those of anonymous memory.
 */
static void move_to_files(struct arena *arena)
{
	for (size_t i = 0; i < arena->count; i++) {
		const size_t nbytes = arena->nbytes[i] - 4096; /* a page is not ours */
		FILE *f = tmpfile();
		if (f == NULL || fwrite(arena->map[i], 1, nbytes, f) != nbytes || fflush(f) != 0 ||
		    mmap(arena->map[i], nbytes, PROT_READ, MAP_SHARED | MAP_FIXED, fileno(f), 0) ==
		        MAP_FAILED) {
			fprintf(stderr, "bench_kernels: no room for planes in a temporary file\n");
			exit(1);
		}
		fclose(f);
	}
}

/* ---- kernels ---- */

struct product {
	pith_apply_fn *apply;
	const struct pith_term *term;
	const struct pith_act *act;
	float *y;
	size_t ldy;
};

static void product_tiles(void *arg, size_t begin, size_t end)
{
	const struct product *p = arg;
	p->apply(p->term, p->act, begin, end, false, p->y, p->ldy);
}

static double product_seconds(const struct product *p, const struct pith_executor *executor)
{
	double begin = cli_seconds();
	pith_parallel(executor, p->term->tiles, 1 << 16, product_tiles, (void *)p);
	return cli_seconds() - begin;
}

/* Seconds of the fastest of several runs on this thread. */
static double best_seconds(const struct product *p, double budget)
{
	double best = 1e9, start = cli_seconds();
	for (size_t runs = 0; runs < 3 || cli_seconds() - start < budget; runs++) {
		double taken = product_seconds(p, NULL);
		best = taken < best ? taken : best;
		if (runs >= 1 && cli_seconds() - start > 4 * budget)
			break;
	}
	return best;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double v[ROUNDS])
{
	qsort(v, ROUNDS, sizeof(*v), ascending);
	return v[ROUNDS / 2];
}

/*
 * GB/s of a product whose planes are 'nbytes', and its share of what the probe of 'pith bench' reads, the
 * fastest of its ways.
 */
static void measure_decode(const struct product *p, size_t nbytes, const struct cli_probe *probe,
                           const struct pith_executor *executor)
{
	double gb_s[ROUNDS], read[CLI_PROBE_WAYS][ROUNDS], limit = 0;
	for (size_t r = 0; r < ROUNDS; r++) {
		gb_s[r] = (double)nbytes / product_seconds(p, executor) * 1e-9;
		for (unsigned way = 0; way < CLI_PROBE_WAYS; way++)
			read[way][r] = cli_probe_read(probe, executor, way);
	}
	for (unsigned way = 0; way < CLI_PROBE_WAYS; way++)
		limit = fmax(limit, median(read[way]));
	printf(" %6.1f GB/s %3.0f %%", median(gb_s), 100 * median(gb_s) / limit);
}

/* ---- the machine's limits ---- */

#if defined(__x86_64__)
/* Gop/s of vpdpbusd alone: eight independent sums in registers. */
__attribute__((target("avx512f,avx512vnni"))) static double peak_avx512(void)
{
	__m512i sum[8], a = _mm512_set1_epi32(0x01020304), b = _mm512_set1_epi32(0x04030201);
	for (size_t i = 0; i < 8; i++)
		sum[i] = _mm512_setzero_si512();
	const size_t rounds = 20000000;
	double begin = cli_seconds();
	for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++)
			sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
		__asm__ volatile("" : "+v"(a));
	}
	double taken = cli_seconds() - begin;
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
	double begin = cli_seconds();
	for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
		for (size_t i = 0; i < 8; i++) {
			__asm__ volatile("" : "+x"(a));
			sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(a, b));
		}
	}
	double taken = cli_seconds() - begin;
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
    {"affine 3 bits g32 two-level", PITH_KIND_AFFINE, 3, 3, 32},
    {"affine 3 bits g64 two-level", PITH_KIND_AFFINE, 3, 3, 64},
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

/* Bytes of scales and zero-points of 'tg' groups. */
static size_t affine_scale_nbytes(const struct pith_affine *a, size_t tg)
{
	if (a->scale_mode == 1)
		return tg * (2 * a->scale_bits + 2 * a->zero_bits + 8);
	return tg * PITH_TILE_ROWS * (a->zero_mode == 0 ? 2u : a->zero_mode == 1 ? 3u : 4u);
}

static size_t codebook_nbytes(const struct pith_term *term)
{
	const struct pith_codebook *c = &term->u.codebook;
	const size_t table = c->per_row ? term->tiles * 16 << c->bits : (size_t)1 << c->bits;
	const size_t scale = c->scale_mode == 0 ? 2 : c->scale_mode == 2 ? 1 : 0;
	return term->tiles * c->blocks * 64 * c->bits + table * (c->real ? 4 : 1) +
	       term->tiles * c->groups * 16 * scale;
}

static size_t sparse_nbytes(const struct pith_term *term)
{
	const struct pith_sparse *s = &term->u.sparse;
	if (s->masks == NULL)
		return s->value_count * 4 + term->tiles * s->blocks * 36;
	const size_t masks = term->tiles * s->blocks * 64;
	if (s->bits == 0)
		return masks + s->value_count * 2;
	return masks + s->value_count * s->bits / 8 +
	       term->tiles * s->groups * PITH_TILE_ROWS * (s->zero_mode == 1 ? 3u : 2u);
}

/* Bytes that one pass reads. */
static size_t term_nbytes(const struct pith_term *term, uint32_t kind)
{
	const struct pith_affine *a = &term->u.affine;
	switch (kind) {
	case PITH_KIND_DENSE: return term->m * term->n * term->u.dense.value_nbytes;
	case PITH_KIND_CODEBOOK: return codebook_nbytes(term);
	case PITH_KIND_TERNARY: return term->tiles * term->u.ternary.lines * 64;
	case PITH_KIND_SPARSE: return sparse_nbytes(term);
	case PITH_KIND_LOWRANK: return term->tiles * term->u.lowrank.rank * 32;
	case PITH_KIND_COLUMNS: return term->tiles * term->u.columns.column_count * 32;
	default:
		return term->tiles * a->blocks * 64 * a->bits +
		       affine_scale_nbytes(a, term->tiles * a->groups);
	}
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
	else if (row->kind == PITH_KIND_SPARSE) /* 1 % */
		make_sparse(term, arena, rng, FILL_RANDOM, m, n, n < 4096 ? n * 16 / 100 : 655, true);
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
	double best = 1e9, start = cli_seconds();
	while (cli_seconds() - start < budget) {
		double begin = cli_seconds();
		for (int i = 0; i < 16; i++)
			set->attention[type](&kv, d, query, g, 0.1f);
		double taken = (cli_seconds() - begin) / 16;
		best = taken < best ? taken : best;
	}
	printf("%-10s attention %-4s %zu queries, d %3zu, 512 positions %8.1f GB/s %8.1f Gop/s\n",
	       set->name, names[type], g, d, 2.0 * POSITIONS * (double)(d * pith_kv_nbytes(type)) / best * 1e-9,
	       4.0 * (double)g * POSITIONS * (double)d / best * 1e-9);
	arena_free(&arena);
}

/* Rows of a matrix of 4096 columns: several times the last-level cache; half of the second level's. */
enum { N = 4096, TOKENS = 32, M_PREFILL = 1024 };
static const size_t decode_nbytes = (size_t)96 << 20, cached_nbytes = (size_t)384 << 10;

struct machine {
	const struct pith_executor *one, *all;
	struct cli_probe probe; /* planes that are only read */
	double budget;
};

static void bench_row(const struct machine *m, const struct pith_kernels *set,
                      const struct bench_row *row)
{
	struct rng rng = {42};
	struct arena planes = {0}, arena = {0};
	struct pith_term big, cached, small;
	struct pith_act one, many;
	const size_t ldy = pith_round_up(decode_nbytes / row_nbytes(row, N), PITH_TILE_ROWS);
	make_term(&big, &planes, &rng, row, ldy, N);
	move_to_files(&planes);
	make_term(&cached, &arena, &rng, row, pith_round_up(cached_nbytes / row_nbytes(row, N), 16), N);
	make_term(&small, &arena, &rng, row, M_PREFILL, N);
	make_act(&one, &arena, &rng, FILL_RANDOM, 1, N);
	make_act(&many, &arena, &rng, FILL_RANDOM, TOKENS, N);
	one.one_scale = many.one_scale = false; /* int8 per 32 columns, as models have it by default */
	one.h = one.x; /* of a lowrank term: any numbers will do */
	many.h = many.x;
	one.ldh = many.ldh = one.ldx;
	float *y = arena_alloc(&arena, TOKENS * ldy * sizeof(float));
	const struct product decode = {set->apply[row->kind], &big, &one, y, ldy};
	const struct product inner = {set->apply[row->kind], &cached, &one, y, ldy};
	const struct product prefill = {set->apply[row->kind], &small, &many, y, ldy};
	printf("%-7s %-30s", set->name, row->name);
	measure_decode(&decode, term_nbytes(&big, row->kind), &m->probe, m->one);
	if (m->all->width > 1)
		measure_decode(&decode, term_nbytes(&big, row->kind), &m->probe, m->all);
	printf(" %6.1f GB/s %6.1f Gop/s\n",
	       (double)term_nbytes(&cached, row->kind) / best_seconds(&inner, m->budget / 8) * 1e-9,
	       TOKENS * term_operations(&small, row) / best_seconds(&prefill, m->budget) * 1e-9);
	fflush(stdout);
	arena_free(&planes);
	arena_free(&arena);
}

static void bench_set(const struct machine *m, const struct pith_kernels *set, const char *only)
{
	struct rng rng = {42};
	for (size_t r = 0; r < PITH_ARRAY_LENGTH(rows); r++)
		if (strstr(rows[r].name, only) != NULL)
			bench_row(m, set, &rows[r]);
	if (strstr("attention", only) == NULL)
		return;
	for (unsigned type = 0; type < PITH_KV_TYPE_COUNT; type++)
		for (size_t d = 32; d <= 128; d *= 2)
			for (size_t g = 1; g <= 8; g *= 2)
				bench_attention(set, &rng, m->budget / 4, (enum pith_kv_type)type, g, d);
}

int main(int argc, char **argv)
{
	struct machine m = {.budget = argc > 1 ? strtod(argv[1], NULL) : 0.2};
	struct arena arena = {0};
	struct pith_team *one, *all;
	if (pith_team_new(1, &one, NULL) != PITH_OK || pith_team_new(0, &all, NULL) != PITH_OK)
		return 1;
	m.one = pith_team_executor(one);
	m.all = pith_team_executor(all);
	m.probe = (struct cli_probe){arena_alloc(&arena, decode_nbytes), decode_nbytes};
	move_to_files(&arena);
	print_peaks();
	printf("%-38s decode, 1 thread   decode, %zu threads    in cache   32 tokens\n", "", m.all->width);

	const struct pith_kernels *sets[8];
	size_t count = pith_kernels_available(sets);
	for (size_t s = 0; s + 1 < count; s++)
		if (argc <= 3 || strstr(sets[s]->name, argv[3]) != NULL)
			bench_set(&m, sets[s], argc > 2 ? argv[2] : "");
	pith_team_free(all);
	pith_team_free(one);
	arena_free(&arena);
	return 0;
}
