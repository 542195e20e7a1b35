/*
 * Weights of several terms: the same bits from every set as from the reference, for one token and for
 * two, on 1 and 3 threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "check_kernels.h"
#include "engine_support.h"
#include "linear.h"

#include <stdlib.h>

#define ROUNDS 40u
#define MAX_TERMS 4u

struct shape {
	size_t m, n, per_list, group;
	uint32_t bits, zero_mode;
};

static struct shape random_shape(struct rng *rng)
{
	static const size_t columns[] = {1, 31, 100, 257, 700, 2048, 4096 + 300};
	static const size_t amounts[] = {0, 1, 15, 60, 700, 3000}; /* of entries in a list */
	static const size_t groups[] = {16, 32, 96, 128, 320, 0};
	return (struct shape){.m = 1 + rng_below(rng, rng_below(rng, 2) ? 40 : 700),
	                      .n = columns[rng_below(rng, PITH_ARRAY_LENGTH(columns))],
	                      .per_list = amounts[rng_below(rng, PITH_ARRAY_LENGTH(amounts))],
	                      .group = groups[rng_below(rng, PITH_ARRAY_LENGTH(groups))],
	                      .bits = 1 + (uint32_t)rng_below(rng, 8),
	                      .zero_mode = (uint32_t)rng_below(rng, 4)};
}

/* affine, then columns or nothing, then lists, then affine or nothing. */
static struct pith_linear *make_linear(struct arena *arena, struct rng *rng, const struct shape *s)
{
	struct pith_linear *w = calloc(1, sizeof(*w) + MAX_TERMS * sizeof(w->terms[0]));
	const uint32_t level_bits = rng_below(rng, 2) ? 3 : 0;
	assert_non_null(w);
	w->m = s->m;
	w->n = s->n;
	w->tiles = pith_round_up(s->m, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	w->integer = true;
	w->tile_work = 100000;
	w->weight.activation = PITH_ACTIVATION_INT8_GROUP32;
	make_affine(&w->terms[0], arena, rng, FILL_RANDOM, s->m, s->n, s->bits, s->zero_mode,
	            s->group, level_bits);
	w->terms[w->term_count++].kind = pith_term_kind_find(PITH_KIND_AFFINE);
	if (rng_below(rng, 2)) {
		make_columns(&w->terms[w->term_count], arena, rng, FILL_RANDOM, s->m, s->n, 1,
		             PITH_DTYPE_F16);
		w->terms[w->term_count++].kind = pith_term_kind_find(PITH_KIND_COLUMNS);
	}
	make_sparse(&w->terms[w->term_count], arena, rng, FILL_RANDOM, s->m, s->n, s->per_list, false);
	w->terms[w->term_count++].kind = pith_term_kind_find(PITH_KIND_SPARSE);
	if (rng_below(rng, 2)) {
		make_affine(&w->terms[w->term_count], arena, rng, FILL_RANDOM, s->m, s->n, 2, 0, 32, 0);
		w->terms[w->term_count++].kind = pith_term_kind_find(PITH_KIND_AFFINE);
	}
	return w;
}

/* y: [2, 16 * tiles] of the first k rows of x. */
static void run(struct pith_linear *w, const struct pith_kernels *kernels,
                const struct pith_executor *executor, const float *x, size_t k, float *y)
{
	struct pith_workspace ws;
	const size_t ldy = w->tiles * PITH_TILE_ROWS;
	w->kernels = kernels;
	assert_int_equal(pith_workspace_new(&ws, w, k, executor, NULL), PITH_OK);
	pith_input_begin(&ws.input, k, w->n);
	for (size_t r = 0; r < k; r++)
		memcpy(ws.input.x + r * ws.input.ldx, x + r * w->n, w->n * sizeof(*x));
	pith_linear_run(&ws.runner, &ws.input, &(struct pith_linear_job){w, y, ldy}, 1);
	free(ws.memory);
}

static void check_shape(struct rng *rng, const struct pith_executor *executor)
{
	struct arena arena = {0};
	const struct shape s = random_shape(rng);
	struct pith_linear *w = make_linear(&arena, rng, &s);
	const size_t outputs = 2 * w->tiles * PITH_TILE_ROWS;
	float *x = arena_alloc(&arena, 2 * s.n * sizeof(*x));
	float *expected = arena_alloc(&arena, outputs * sizeof(*x));
	float *found = arena_alloc(&arena, outputs * sizeof(*x));
	const struct pith_kernels *sets[8];
	const size_t count = pith_kernels_available(sets);
	for (size_t i = 0; i < 2 * s.n; i++)
		x[i] = rng_unit(rng);
	run(w, sets[count - 1], NULL, x, 2, expected);
	for (size_t set = 0; set < count; set++)
		for (size_t k = 1; k <= 2; k++)
			for (unsigned team = 0; team < 2; team++) {
				memset(found, 0xff, outputs * sizeof(*found));
				run(w, sets[set], team ? executor : NULL, x, k, found);
				for (size_t i = 0; i < k * outputs / 2; i++)
					if (!same_f32(expected[i], found[i]))
						fail_msg("%s, [%zu, %zu], %u bits, zero %u, groups of %zu, "
						         "%zu a list, %zu tokens: row %zu is %a, not %a",
						         sets[set]->name, s.m, s.n, s.bits, s.zero_mode,
						         s.group, s.per_list, k, i, (double)found[i],
						         (double)expected[i]);
			}
	free(w);
	arena_free(&arena);
}

static void test_same_bits(void **unused)
{
	(void)unused;
	struct rng rng = {7};
	struct pith_team *team;
	assert_int_equal(pith_team_new(3, &team, NULL), PITH_OK);
	for (size_t i = 0; i < ROUNDS; i++)
		check_shape(&rng, pith_team_executor(team));
	pith_team_free(team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
