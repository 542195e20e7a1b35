/*
 * The matrix of equality (check_matrix.h).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_matrix.h"

#include "check_kernels.h"
#include "checksum.h"
#include "fpmode.h"
#include "pithrun.h"

#define MOST_TOKENS 33u
#define MOST_THREADS 4u
#define LARGE 20000u /* outputs times inputs from which not every batch is tried */

/* ---- what there is ---- */

static const struct {
	size_t m, n;
} shapes[] = {{1, 1},   {1, 33},   {15, 31}, {16, 16}, {17, 32},  {16, 64},  {33, 63},
              {48, 17}, {31, 100}, {5, 256}, {65, 96}, {33, 172}, {17, 4100}};
static const size_t groups[] = {0, 32, 64, 96, 128, 16};
static const size_t amounts[] = {0, 1, 7, 40, 300};
static const size_t patterns[][2] = {{0, 1}, {2, 4}, {3, 5}}; /* keep of; 0: any number */

/* A term of a kind with its parameters. */
struct cell {
	const struct row *row;
	size_t at[5]; /* which value of each parameter */
	size_t m, n;
	enum fill fill;
	struct pith_term term;
	struct pith_act act; /* of MOST_TOKENS tokens */
};
typedef void make_fn(struct cell *c, struct arena *arena, struct rng *rng);

static void affine_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_affine(&c->term, arena, rng, c->fill, c->m, c->n, 1 + (uint32_t)c->at[0],
	            (uint32_t)c->at[1], groups[c->at[2]], 0);
}

static void codebook_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_codebook(&c->term, arena, rng, c->fill, c->m, c->n, 2 + (uint32_t)c->at[0],
	              c->at[1] == 0 ? 0 : 2, groups[c->at[4]], c->at[2] != 0, c->at[3] != 0);
}

static void unscaled_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_codebook(&c->term, arena, rng, c->fill, c->m, c->n, 2 + (uint32_t)c->at[0], 3, 0, true,
	              c->at[1] != 0);
}

static void ternary_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_ternary(&c->term, arena, rng, c->fill, c->m, c->n);
}

static void dense_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_dense(&c->term, arena, rng, c->fill, c->m, c->n, PITH_DTYPE_F32 + (uint32_t)c->at[0]);
}

static void lists_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_sparse(&c->term, arena, rng, c->fill, c->m, c->n, amounts[c->at[0]], false);
}

/* bits 0: f16 values. */
static void mask_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	const size_t *pattern = patterns[c->at[3]];
	c->n = pith_round_up(c->n, pattern[1]);
	make_sparse_mask(&c->term, arena, rng, c->fill, c->m, c->n, (uint32_t)c->at[0],
	                 (uint32_t)c->at[1], groups[c->at[2]], rng_below(rng, 257), pattern[0],
	                 pattern[1], c->at[4] != 0);
}

static void columns_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	const size_t count = amounts[1 + c->at[1]];
	make_columns(&c->term, arena, rng, c->fill, c->m, c->n, count < c->n ? count : c->n,
	             c->at[0] == 0 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16);
}

static void lowrank_cell(struct cell *c, struct arena *arena, struct rng *rng)
{
	make_lowrank(&c->term, arena, rng, c->fill, c->m, c->n, amounts[1 + c->at[1]],
	             c->at[0] == 0 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16);
}

static const struct row {
	uint32_t kind;
	make_fn *make;
	size_t count[5]; /* values of each parameter */
} rows[] = {
    {PITH_KIND_AFFINE, affine_cell, {8, 4, 6, 1, 1}},     /* bits, zero_mode, group */
    {PITH_KIND_CODEBOOK, codebook_cell, {7, 2, 2, 2, 6}}, /* bits, mode, f32, table per row, group */
    {PITH_KIND_CODEBOOK, unscaled_cell, {7, 2, 1, 1, 1}}, /* bits, table per row */
    {PITH_KIND_TERNARY, ternary_cell, {4, 1, 1, 1, 1}},
    {PITH_KIND_DENSE, dense_cell, {3, 4, 1, 1, 1}},       /* type */
    {PITH_KIND_SPARSE, lists_cell, {5, 1, 1, 1, 1}},      /* entries a list */
    {PITH_KIND_SPARSE, mask_cell, {9, 2, 5, 3, 2}},       /* bits, zero_mode, group, pattern, lying masks */
    {PITH_KIND_COLUMNS, columns_cell, {2, 3, 1, 1, 1}},   /* type, columns */
    {PITH_KIND_LOWRANK, lowrank_cell, {2, 4, 1, 1, 1}},   /* type, rank */
};

static size_t row_cells(const struct row *row)
{
	size_t count = PITH_ARRAY_LENGTH(shapes);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(row->count); i++)
		count *= row->count[i];
	return count;
}

/* Cell number 'number' of a row. */
static void cell_new(struct cell *c, const struct row *row, size_t number, struct arena *arena,
                     struct rng *rng)
{
	*c = (struct cell){.row = row};
	c->m = shapes[number % PITH_ARRAY_LENGTH(shapes)].m;
	c->n = shapes[number % PITH_ARRAY_LENGTH(shapes)].n;
	number /= PITH_ARRAY_LENGTH(shapes);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(c->at); i++) {
		c->at[i] = number % row->count[i];
		number /= row->count[i];
	}
	c->fill = rng_below(rng, 2) == 0 ? FILL_RANDOM : (enum fill)rng_below(rng, FILL_COUNT);
	row->make(c, arena, rng);
	make_act(&c->act, arena, rng, c->fill, MOST_TOKENS, c->n);
	if (row->kind != PITH_KIND_LOWRANK)
		return;
	c->act.ldh = pith_round_up(c->term.u.lowrank.rank, 16);
	float *h = arena_alloc(arena, MOST_TOKENS * c->act.ldh * sizeof(float));
	for (size_t i = 0; i < MOST_TOKENS * c->act.ldh; i++)
		h[i] = fill_f32(rng, c->fill);
	c->act.h = h;
}

/* ---- one cell ---- */

struct checker {
	enum matrix_extent extent;
	const struct pith_kernels *set[8]; /* the last one is the reference */
	size_t set_count;
	struct pith_team *team[MOST_THREADS];
	struct matrix_result *result;
};

/* What is computed, how, and where to. */
struct application {
	const struct cell *cell;
	const struct pith_kernels *set;
	size_t tokens, threads;
	bool add;
	float *y;
};

/* Thread i's part of the row tiles. */
static void apply_part(void *arg, size_t i)
{
	const struct application *a = arg;
	const struct pith_term *term = &a->cell->term;
	const size_t begin = term->tiles * i / a->threads, end = term->tiles * (i + 1) / a->threads;
	const uint64_t mode = pith_fpmode_enter();
	struct pith_act act = a->cell->act;
	act.k = a->tokens;
	if (begin < end)
		a->set->apply[a->cell->row->kind](term, &act, begin, end, a->add, a->y,
		                                  PITH_TILE_ROWS * term->tiles);
	pith_fpmode_restore(mode);
}

static void say_failure(const struct application *a, size_t i, float want, struct matrix_result *out)
{
	const struct cell *c = a->cell;
	const size_t ldy = PITH_TILE_ROWS * c->term.tiles;
	snprintf(out->failure, sizeof(out->failure),
	         "%s: %s, row %zu of the table, parameters %zu %zu %zu %zu %zu, fill %d, m %zu n %zu, %zu tokens, "
	         "%zu threads, add %d: token %zu output %zu is %a, not %a",
	         a->set->name, pith_kind_name(c->row->kind), (size_t)(c->row - rows), c->at[0], c->at[1],
	         c->at[2], c->at[3], c->at[4], (int)c->fill, c->m, c->n, a->tokens, a->threads, a->add,
	         i / ldy, i % ldy, (double)a->y[i], (double)want);
}

/* start: what y holds before. */
static bool apply_same(struct checker *ch, const struct application *a, const float *start,
                       const float *want)
{
	const struct pith_executor *executor = pith_team_executor(ch->team[a->threads - 1]);
	const size_t count = a->tokens * PITH_TILE_ROWS * a->cell->term.tiles;
	struct application run = *a;
	memcpy(a->y, start, count * sizeof(float));
	executor->run(executor, apply_part, &run, a->threads);
	ch->result->applications++;
	for (size_t i = 0; i < count; i++)
		if (!same_f32(want[i], a->y[i])) {
			say_failure(a, i, want[i], ch->result);
			return false;
		}
	return true;
}

/* Is a batch of k tried?  The edges of blocks of tokens always are. */
static bool takes_batch(const struct checker *ch, const struct cell *c, size_t k, struct rng *rng)
{
	if (ch->extent == MATRIX_SAMPLE)
		return k == 1 || rng_below(rng, 10) == 0;
	return c->m * c->n < LARGE || (k & (k - 1)) == 0 || ((k - 1) & (k - 2)) == 0;
}

static bool cell_same(struct checker *ch, struct application *a, struct rng *rng, const float *start,
                      const float *want)
{
	for (size_t s = 0; s + 1 < ch->set_count; s++)
		for (a->tokens = 1; a->tokens <= MOST_TOKENS; a->tokens++) {
			const size_t only = 1 + rng_below(rng, MOST_THREADS);
			if (!takes_batch(ch, a->cell, a->tokens, rng))
				continue;
			a->set = ch->set[s];
			for (a->threads = 1; a->threads <= MOST_THREADS; a->threads++)
				if ((ch->extent == MATRIX_WHOLE || a->threads == only) &&
				    !apply_same(ch, a, start, want))
					return false;
		}
	return true;
}

static uint64_t hash_floats(uint64_t hash, float *y, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (y[i] != y[i])
			y[i] = f32_of_bits(0x7fc00000u); /* nothing promises a NaN's payload */
	const uint64_t both[2] = {hash, pith_xxh3_64(y, count * sizeof(float))};
	return pith_xxh3_64(both, sizeof(both));
}

static bool check_cell(struct checker *ch, const struct row *row, size_t number, uint64_t seed)
{
	struct arena arena = {0};
	struct cell c;
	struct rng rng = {((seed << 32 | (uint64_t)(row - rows) << 24 | number) + 1) * 0x9e3779b97f4a7c15u};
	cell_new(&c, row, number, &arena, &rng);
	const size_t count = MOST_TOKENS * PITH_TILE_ROWS * c.term.tiles;
	float *start = arena_alloc(&arena, count * sizeof(float));
	float *want = arena_alloc(&arena, count * sizeof(float));
	float *got = arena_alloc(&arena, count * sizeof(float));
	for (size_t i = 0; i < count; i++)
		want[i] = start[i] = rng_unit(&rng);
	struct application a = {.cell = &c, .set = ch->set[ch->set_count - 1], .tokens = MOST_TOKENS,
	                        .threads = 1, .add = rng_below(&rng, 2) != 0, .y = want};
	apply_part(&a, 0);
	a.y = got;
	const bool same = cell_same(ch, &a, &rng, start, want);
	ch->result->hash = hash_floats(ch->result->hash, want, count);
	ch->result->cells++;
	arena_free(&arena);
	return same;
}

void matrix_check(enum matrix_extent extent, uint64_t seed, size_t count, struct matrix_result *out)
{
	struct checker ch = {.extent = extent, .result = out};
	struct rng rng = {seed * 0x9e3779b97f4a7c15u + 1};
	bool same = true;
	*out = (struct matrix_result){0};
	ch.set_count = pith_kernels_available(ch.set);
	for (size_t t = 0; t < MOST_THREADS; t++)
		if (pith_team_new(t + 1, &ch.team[t], NULL) != PITH_OK)
			abort();
	for (size_t r = 0; same && r < PITH_ARRAY_LENGTH(rows); r++) {
		const size_t cells = row_cells(&rows[r]);
		const size_t tries = extent == MATRIX_SAMPLE ? count / PITH_ARRAY_LENGTH(rows) : cells;
		for (size_t i = 0; same && i < tries; i++)
			same = check_cell(&ch, &rows[r],
			                  extent == MATRIX_SAMPLE ? rng_below(&rng, cells) : i, seed);
	}
	for (size_t t = 0; t < MOST_THREADS; t++)
		pith_team_free(ch.team[t]);
}
