/*
 * The mixer: a decision's inputs, their weighted sum and what is learned from the outcome. Meaning and
 * order of all updates: spec/text_archive.md, sections 12 to 14.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_state.h"

#define MAP_COUNT_MAX 1023u
#define FINAL_SHIFT 19
#define REFINED_SHIFT 5
#define FINAL_MAP_SHIFT 6
#define BIAS_MAX (4 * MIX_LOGIT_MAX)
#define BIAS_SHIFT 15

/* ---- counters ---- */

static unsigned seen_of(const struct mix_slot *slot) { return (slot->state >> 4) + (slot->state & 15u); }

/* The counter of a key in a line: in one of two places, else the lesser of the two is given up. */
static struct mix_slot *find_slot(struct mix_slot *line, uint32_t hash, uint32_t key)
{
	uint32_t h = (hash + key) * 0x2c1b3c6du;
	h = (h ^ h >> 13) * 0x297a2d39u;
	uint8_t check = (uint8_t)(h >> 24);
	struct mix_slot *a = &line[h >> 20 & 15u], *b = &line[(h >> 20 & 15u) ^ 1u];
	if (a->check == check && a->state != 0)
		return a;
	if (b->check == check && b->state != 0)
		return b;
	if (seen_of(b) < seen_of(a))
		a = b;
	*a = (struct mix_slot){0, 0, check};
	return a;
}

static int32_t error_of(uint32_t p, unsigned bit)
{
	return ((bit ? 1 << MIX_PROBABILITY_NBITS : 0) - (int32_t)p) >> 6;
}

static void learn_slot(const struct mix_plan *plan, struct mix_slot *slot, int32_t logit, unsigned bit)
{
	/* what is left of the other bit's count */
	static const uint8_t kept[16] = {0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6};
	uint32_t zeros = slot->state >> 4, ones = slot->state & 15u;
	uint32_t p = plan->squash[MIX_DOT_MAX + mix_clamp(logit + (slot->bias >> 2), MIX_DOT_MAX)];
	int32_t change = error_of(p, bit) * plan->gain[mix_least(zeros + ones, 28)] >> BIAS_SHIFT;
	slot->bias = (int16_t)mix_clamp(slot->bias + change, BIAS_MAX);
	if (bit) {
		ones = mix_least(ones + 1, 15);
		zeros = kept[zeros];
	} else {
		zeros = mix_least(zeros + 1, 15);
		ones = kept[ones];
	}
	slot->state = (uint8_t)(zeros << 4 | ones);
}

void mix_map_learn(const struct mix_plan *plan, uint32_t *entry, unsigned bit)
{
	uint32_t n = *entry & 1023u;
	int32_t p = (int32_t)(*entry >> 10);
	p += (int32_t)((int64_t)((bit ? 4194303 : 0) - p) * plan->rate[n] >> 16);
	*entry = (uint32_t)p << 10 | (n < MAP_COUNT_MAX ? n + 1 : n);
}

/* ---- interpolated maps ---- */

/* Probability of 16 bits; *at: the entry that will learn. */
static uint32_t look_up(uint16_t row[MIX_BUCKETS], int32_t logit, uint16_t **at)
{
	uint32_t x = (uint32_t)(mix_clamp(logit, MIX_LOGIT_MAX) + 4096);
	uint32_t j = x >> 8, f = x & 255u;
	*at = &row[j + (f >= 128)];
	return (row[j] * (256 - f) + row[j + 1] * f) >> 8;
}

static void learn_entry(uint16_t *entry, unsigned bit, unsigned shift)
{
	*entry = (uint16_t)(*entry + (((bit ? 65535 : 0) - (int32_t)*entry) >> shift));
}

/* ---- a decision ---- */

static unsigned counter_inputs(struct mix *m, int32_t *inputs)
{
	unsigned seen = 0;
	for (size_t i = 0; i < MIX_CONTEXTS; i++) {
		struct mix_slot *slot = find_slot(m->lines[i], m->hashes[i], m->node->key);
		m->slot[i] = slot;
		m->state[i] = slot->state;
		bool known = slot->state != 0 && (m->left_out & MIX_PART_CONTEXT(i)) == 0;
		inputs[2 * i] = known ? m->plan->stretch[m->state_map[i][slot->state] >> 20] : 0;
		inputs[2 * i + 1] = known ? slot->bias >> 2 : 0;
		seen += known ? 1 : 0;
	}
	return seen;
}

static void refined_inputs(struct mix *m, uint32_t x, int32_t logit, int32_t *inputs)
{
	uint32_t h = mix_hash(m->newest & 255u, m->node->key * 4u + mix_least((uint32_t)m->depth, 3));
	uint32_t a = look_up(m->node_map[x % MIX_NODE_ROWS], logit, &m->refined_at[0]);
	uint32_t b = look_up(m->byte_map[h % MIX_BYTE_ROWS], logit, &m->refined_at[1]);
	bool on = (m->left_out & MIX_PART_REFINED) == 0;
	inputs[0] = on ? m->plan->stretch[a >> 4] : 0;
	inputs[1] = on ? m->plan->stretch[b >> 4] : 0;
}

static void choose_rows(struct mix *m, int32_t logit, uint32_t match_row, unsigned seen)
{
	const struct mix_node *node = m->node;
	uint32_t end = node->kind == MIX_NODE_END, depth = (uint32_t)m->depth, orders = 0;
	for (size_t i = 0; i < 5; i++)
		orders += m->state[i] != 0;
	uint32_t sure = (uint32_t)(logit < 0 ? -logit : logit) >> 8;
	uint32_t row[MIX_MAX_SETS] = {
		2 * match_row + end,
		end ? mix_least(depth, 15) : depth == 0 ? 128u + node->key : 16u + node->bit + 8 * mix_least(depth, 7),
		20 * mix_least(sure, 12) + mix_least(seen, 19),
		2 * (m->newest & 255u) + end,
		8 * orders + mix_least(node->bit, 7) + 64 * end + 128 * mix_least(depth, 3),
	};
	if (m->has_recall)
		mix_recall_rows(m, row + 5);
	for (size_t s = 0; s < m->loops->sets; s++) {
		m->row[s] = m->weights + (s * MIX_SET_ROWS + row[s]) * m->loops->inputs;
		m->age[s] = &m->ages[s][row[s]];
	}
	m->final_row = m->final_weights[end ? mix_least(depth, 15) : 16u + node->bit + 8 * mix_least(depth, 3)];
}

/* Rows of the final maps, known long before their logit: read where that will likely be. */
static void choose_final_maps(struct mix *m, int32_t likely)
{
	const struct mix_node *node = m->node;
	m->final_maps[0] = m->final_map[0][node->key + 512u * (m->depth > 0)];
	m->final_maps[1] = m->final_map[1][mix_hash(m->newest, node->key) % MIX_BYTE_ROWS];
	for (size_t k = 0; k < MIX_FINALS; k++)
		m->touched += m->final_maps[k][(likely + 4096) >> 8];
}

/* The mixed probability, corrected by what came of such probabilities. */
static uint32_t final_probability(struct mix *m, int32_t logit)
{
	uint32_t sum = 2 * m->p_mixed;
	for (size_t k = 0; k < MIX_FINALS; k++)
		sum += look_up(m->final_maps[k], logit, &m->final_at[k]) << 6;
	uint32_t p = m->left_out & MIX_PART_FINAL ? m->p_mixed : sum >> 2;
	return mix_least(p > 4 ? p : 4, (1u << MIX_PROBABILITY_NBITS) - 4);
}

/* The probability that the decision at split x is 1, in units of 2^-22.  recalled: with recall only. */
static uint32_t predict(struct mix *m, uint32_t x, const struct decision *model, const struct decision *recalled)
{
	const struct mix_plan *plan = m->plan;
	const struct text_lm *lm = plan->lm;
	m->node = &plan->nodes[x];
	if (m->depth != m->node->depth) {
		size_t nbytes;
		m->prefix = lm->token_bytes(lm->ctx, plan->tree->order[x], &nbytes);
		mix_contexts(m, m->node->depth);
	}
	int32_t logit = mix_clamp(mix_log2(plan, model->n - model->z) - mix_log2(plan, model->z), MIX_LOGIT_MAX);
	m->logit = logit;
	m->inputs[0] = m->left_out & MIX_PART_LM ? 0 : logit;
	choose_final_maps(m, logit);
	refined_inputs(m, x, logit, m->inputs + 37);
	unsigned seen = counter_inputs(m, m->inputs + 1);
	uint32_t match_row = mix_match_inputs(m, m->inputs + 33);
	m->inputs[39] = 256;
	if (m->has_recall)
		mix_recall_inputs(m, model, recalled);
	choose_rows(m, logit, match_row, seen);
	m->loops->sum(m->row, m->inputs, m->dots);
	int32_t sum = 0;
	for (size_t s = 0; s < m->loops->sets; s++) {
		m->p_set[s] = plan->squash[MIX_DOT_MAX + mix_clamp(m->dots[s], MIX_DOT_MAX)];
		m->dots[s] = mix_clamp(m->dots[s], MIX_LOGIT_MAX);
		sum += m->dots[s] * m->final_row[s] >> 8;
	}
	sum = mix_clamp(sum >> 8, MIX_DOT_MAX);
	m->p_mixed = plan->squash[MIX_DOT_MAX + sum];
	return final_probability(m, sum);
}

static void learn(struct mix *m, unsigned bit)
{
	int32_t errors[MIX_MAX_SETS];
	for (size_t s = 0; s < m->loops->sets; s++) {
		int32_t change = m->dots[s] * error_of(m->p_mixed, bit) + (1 << (FINAL_SHIFT - 1));
		m->final_row[s] = mix_clamp(m->final_row[s] + (change >> FINAL_SHIFT), MIX_WEIGHT_MAX);
		errors[s] = error_of(m->p_set[s], bit) * m->plan->pace[*m->age[s]] >> 4;
		*m->age[s] = (uint16_t)mix_least(*m->age[s] + 1u, MIX_AGES - 1);
	}
	m->loops->learn(m->row, m->inputs, errors);
	for (size_t i = 0; i < MIX_CONTEXTS; i++) {
		if (m->state[i] != 0)
			mix_map_learn(m->plan, &m->state_map[i][m->state[i]], bit);
		learn_slot(m->plan, m->slot[i], m->logit, bit);
	}
	mix_match_learn(m, bit);
	for (size_t k = 0; k < MIX_REFINED; k++)
		learn_entry(m->refined_at[k], bit, REFINED_SHIFT);
	for (size_t k = 0; k < MIX_FINALS; k++)
		learn_entry(m->final_at[k], bit, FINAL_MAP_SHIFT);
}

/* ---- a token ---- */

static void begin_token(struct mix *m, size_t stream, uint32_t total, uint32_t recalled_total)
{
	m->total = total;
	m->recalled_total = recalled_total;
	m->stream = &m->streams[stream];
	m->depth = SIZE_MAX;
	mix_find_matches(m);
}

/* The coder wants the probability of 0. */
static uint32_t zero_of(uint32_t p) { return (1u << MIX_PROBABILITY_NBITS) - p; }

void mix_encode(struct mix *m, size_t stream, uint32_t id, const struct decision *path,
                const struct decision *recalled, struct range_encoder *coder)
{
	const struct vocab_tree *tree = m->plan->tree;
	begin_token(m, stream, path->n, m->has_recall ? recalled->n : 0);
	for (uint32_t x = tree->root; x != 0; path++) {
		uint32_t p = predict(m, x, path, recalled);
		range_encode(coder, zero_of(p), 1u << MIX_PROBABILITY_NBITS, path->bit);
		learn(m, path->bit);
		recalled += m->has_recall;
		x = path->bit ? tree->one[x] : tree->zero[x];
	}
	mix_accept(m, id);
}

static struct decision decision_of(const uint32_t *sums, size_t lo, size_t x, size_t hi)
{
	return (struct decision){sums[x] - sums[lo], sums[hi] - sums[lo], false};
}

uint32_t mix_decode(struct mix *m, size_t stream, const uint32_t *sums, const uint32_t *recalled,
                    struct range_decoder *coder)
{
	const struct vocab_tree *tree = m->plan->tree;
	size_t lo = 0, hi = tree->count;
	begin_token(m, stream, sums[hi], m->has_recall ? recalled[hi] : 0);
	for (uint32_t x = tree->root; x != 0;) {
		struct decision model = decision_of(sums, lo, x, hi), like = {0};
		if (m->has_recall)
			like = decision_of(recalled, lo, x, hi);
		uint32_t p = predict(m, x, &model, &like);
		bool bit = range_decode(coder, zero_of(p), 1u << MIX_PROBABILITY_NBITS);
		learn(m, bit);
		if (bit)
			lo = x;
		else
			hi = x;
		x = bit ? tree->one[x] : tree->zero[x];
	}
	return tree->order[lo];
}
