/*
 * Tables of the mixer and the meaning of each decision: spec/text_archive.md, sections 10 and 11.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_state.h"

#include "avx2_loops.h"

#include <stdlib.h>

static void make_tables(struct mix_plan *plan)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t f = 256 * i;
		uint32_t a = 14653u + (5125u * f >> 16);
		a = 45754u + (a * f >> 16);
		plan->exp2[i] = 65536u + (a * f >> 16);
	}
	for (int32_t i = 0; i < 29; i++)
		plan->gain[i] = 8000 / (2 * i + 3);
	for (uint32_t i = 0; i < MIX_AGES; i++)
		plan->pace[i] = (uint8_t)(4 + 6400 / (i + 400));
	for (uint32_t i = 0; i < 1024; i++) {
		uint32_t f = 0;
		plan->rate[i] = 131072u / (2 * i + 3);
		while (f < 255 && plan->exp2[f + 1] <= 65536u + 64 * i + 32)
			f++;
		plan->log2[i] = (uint8_t)f;
	}
	for (uint32_t x = 0; x <= MIX_DOT_MAX; x++) {
		uint64_t odds = (uint64_t)plan->exp2[x & 255u] << (x >> 8);
		uint32_t p = (uint32_t)((odds << MIX_PROBABILITY_NBITS) / (odds + 65536));
		plan->squash[MIX_DOT_MAX + x] = p;
		plan->squash[MIX_DOT_MAX - x] = (1u << MIX_PROBABILITY_NBITS) - p;
	}
	for (uint32_t i = 0; i < 4096; i++)
		plan->stretch[i] = (int16_t)(mix_log2(plan, 2 * i + 1) - mix_log2(plan, 8191 - 2 * i));
}

/* What the split between two neighbours of the order is about follows from these two alone. */
static struct mix_node node_between(const uint8_t *a, size_t a_nbytes, const uint8_t *b, size_t b_nbytes)
{
	size_t c = 0;
	while (c < a_nbytes && c < b_nbytes && a[c] == b[c])
		c++;
	if (c == a_nbytes)
		return (struct mix_node){(uint32_t)c, (uint16_t)(256 + (c < 31 ? c : 31)), MIX_NODE_END, 8};
	unsigned top = mix_top_bit((uint32_t)(a[c] ^ b[c]));
	uint32_t key = (128u >> top) | (uint32_t)b[c] >> (top + 1);
	return (struct mix_node){(uint32_t)c, (uint16_t)key, MIX_NODE_BIT, (uint8_t)(7 - top)};
}

pith_status mix_plan_new(const struct text_lm *lm, const struct vocab_tree *tree,
                         struct mix_plan **out, struct pith_error *err)
{
	*out = NULL;
	bool is_wide;
	PITH_TRY(text_allows_avx2(&is_wide, err));
	struct mix_plan *plan = calloc(1, sizeof(*plan));
	struct mix_node *nodes = calloc(tree->count, sizeof(*nodes));
	if (plan == NULL || nodes == NULL) {
		free(plan);
		free(nodes);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the mixer's tables");
	}
	plan->lm = lm;
	plan->tree = tree;
	plan->nodes = nodes;
	plan->loops = is_wide && mix_loops_avx2() != NULL ? mix_loops_avx2() : mix_loops_portable;
	make_tables(plan);
	for (size_t x = 1; x < tree->count; x++) {
		size_t a_nbytes, b_nbytes;
		const uint8_t *a = lm->token_bytes(lm->ctx, tree->order[x - 1], &a_nbytes);
		const uint8_t *b = lm->token_bytes(lm->ctx, tree->order[x], &b_nbytes);
		nodes[x] = node_between(a, a != NULL ? a_nbytes : 0, b, b != NULL ? b_nbytes : 0);
	}
	*out = plan;
	return PITH_OK;
}

void mix_plan_free(struct mix_plan *plan)
{
	if (plan == NULL)
		return;
	free(plan->nodes);
	free(plan);
}
