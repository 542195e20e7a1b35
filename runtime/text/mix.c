/*
 * The mixer: a decision's inputs, their weighted sum and what is learned from the outcome. Meaning and
 * order of all updates: spec/text_archive.md, sections 12 to 14.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_state.h"

#include "map_pages.h"

#include <stdlib.h>

#define SLOT_LEAST_NBITS 16u
#define SLOT_MOST_NBITS 24u
#define SLOTS_OF_BYTE 64u
#define MATCH_TABLE_COUNT ((size_t)1 << 18)
#define MAP_COUNT_MAX 1023u
#define FINAL_SHIFT 19
#define REFINED_SHIFT 5
#define FINAL_MAP_SHIFT 6
#define BIAS_MAX (4 * MIX_LOGIT_MAX)
#define BIAS_SHIFT 15

/* ---- memory ---- */

static unsigned slot_nbits(size_t raw_nbytes)
{
	unsigned nbits = SLOT_LEAST_NBITS;
	while (nbits < SLOT_MOST_NBITS && (size_t)1 << nbits < SLOTS_OF_BYTE * raw_nbytes)
		nbits++;
	return nbits;
}

static size_t slots_nbytes(unsigned line_nbits) { return 16 * sizeof(struct mix_slot) << line_nbits; }

size_t mix_nbytes(size_t raw_nbytes)
{
	const struct mix *m = NULL;
	return sizeof(*m) + 2 * (raw_nbytes + MIX_SLACK) + MIX_MATCHES * MATCH_TABLE_COUNT * sizeof(uint32_t) +
	       slots_nbytes(slot_nbits(raw_nbytes) - 4) + MIX_CONTEXTS * sizeof(*m->state_map) +
	       MIX_MATCHES * sizeof(*m->match_map) + 4 * MIX_NODE_ROWS * sizeof(*m->node_map) +
	       MIX_SETS * (sizeof(*m->weights) + sizeof(*m->ages)) + MIX_FINAL_ROWS * sizeof(*m->final_weights);
}

static void start_map(const struct mix_plan *plan, uint16_t (*map)[MIX_BUCKETS], size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		for (int32_t j = 0; j < (int32_t)MIX_BUCKETS; j++) {
			uint32_t p = plan->squash[MIX_DOT_MAX + (j - 16) * 256] >> 6;
			map[r][j] = (uint16_t)mix_least(p, 65535);
		}
}

static int32_t first_weight(size_t input)
{
	if (input == 0)
		return 60000;
	if (input < 33)
		return input % 2 == 1 ? 3000 : 5000;
	return input < 37 ? 5000 : 4000;
}

static void start_values(struct mix *m)
{
	for (uint32_t s = 0; s < 256; s++) {
		uint32_t zeros = s >> 4, ones = s & 15u;
		uint32_t p = (uint32_t)(((uint64_t)(5 * ones + 2) << 22) / (5 * (zeros + ones) + 4));
		for (size_t i = 0; i < MIX_CONTEXTS; i++)
			m->state_map[i][s] = p << 10;
	}
	for (uint32_t i = 0; i < 1024; i++)
		for (size_t k = 0; k < MIX_MATCHES; k++)
			m->match_map[k][i] = ((1u << 22) - (1u << 22) / ((i & 15u) + 3)) << 10;
	start_map(m->plan, m->node_map, MIX_NODE_ROWS);
	start_map(m->plan, m->byte_map, MIX_BYTE_ROWS);
	for (size_t k = 0; k < MIX_FINALS; k++)
		start_map(m->plan, m->final_map[k], MIX_BYTE_ROWS);
	for (size_t s = 0; s < MIX_SETS; s++)
		for (size_t r = 0; r < MIX_SET_ROWS; r++)
			for (size_t i = 0; i < MIX_INPUTS; i++)
				m->weights[s][r][i] = first_weight(i);
	for (size_t r = 0; r < MIX_FINAL_ROWS; r++)
		for (size_t s = 0; s < MIX_SETS; s++)
			m->final_weights[r][s] = MIX_WEIGHT_ONE / (int32_t)MIX_SETS;
}

static bool allocate(struct mix *m, size_t stream_count)
{
	m->streams = calloc(stream_count, sizeof(*m->streams));
	m->history = calloc(m->raw_nbytes + MIX_SLACK, 1);
	m->starts = calloc(m->raw_nbytes + MIX_SLACK, 1);
	for (size_t k = 0; k < MIX_MATCHES; k++)
		m->match_table[k] = calloc(MATCH_TABLE_COUNT, sizeof(uint32_t));
	m->slots = pith_pages_new(slots_nbytes(m->line_nbits), true);
	m->state_map = malloc(MIX_CONTEXTS * sizeof(*m->state_map));
	m->match_map = malloc(MIX_MATCHES * sizeof(*m->match_map));
	m->node_map = malloc(MIX_NODE_ROWS * sizeof(*m->node_map));
	m->byte_map = malloc(MIX_BYTE_ROWS * sizeof(*m->byte_map));
	for (size_t k = 0; k < MIX_FINALS; k++)
		m->final_map[k] = malloc(MIX_BYTE_ROWS * sizeof(*m->final_map[k]));
	m->weights = aligned_alloc(32, MIX_SETS * sizeof(*m->weights));
	m->ages = calloc(MIX_SETS, sizeof(*m->ages));
	m->final_weights = malloc(MIX_FINAL_ROWS * sizeof(*m->final_weights));
	return m->streams != NULL && m->history != NULL && m->starts != NULL && m->match_table[0] != NULL &&
	       m->match_table[1] != NULL && m->slots != NULL && m->state_map != NULL && m->match_map != NULL &&
	       m->node_map != NULL && m->byte_map != NULL && m->final_map[0] != NULL &&
	       m->final_map[1] != NULL && m->weights != NULL && m->ages != NULL && m->final_weights != NULL;
}

pith_status mix_new(const struct mix_plan *plan, const size_t *begins, size_t stream_count,
                    size_t raw_nbytes, uint32_t left_out, struct mix **out, struct pith_error *err)
{
	*out = NULL;
	struct mix *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to mix");
	m->plan = plan;
	m->left_out = left_out;
	m->raw_nbytes = raw_nbytes;
	m->line_nbits = slot_nbits(raw_nbytes) - 4;
	if (!allocate(m, stream_count)) {
		mix_free(m);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to mix");
	}
	start_values(m);
	for (size_t i = 0; i < stream_count; i++)
		m->streams[i] = (struct mix_stream){
			.begin = begins[i], .at = begins[i], .line = begins[i], .line_before = begins[i]};
	*out = m;
	return PITH_OK;
}

void mix_free(struct mix *m)
{
	if (m == NULL)
		return;
	free(m->streams);
	free(m->history);
	free(m->starts);
	for (size_t k = 0; k < MIX_MATCHES; k++)
		free(m->match_table[k]);
	pith_pages_free(m->slots, slots_nbytes(m->line_nbits));
	free(m->state_map);
	free(m->match_map);
	free(m->node_map);
	free(m->byte_map);
	for (size_t k = 0; k < MIX_FINALS; k++)
		free(m->final_map[k]);
	free(m->weights);
	free(m->ages);
	free(m->final_weights);
	free(m);
}

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
	uint32_t row[MIX_SETS] = {
		2 * match_row + end,
		end ? mix_least(depth, 15) : depth == 0 ? 128u + node->key : 16u + node->bit + 8 * mix_least(depth, 7),
		20 * mix_least(sure, 12) + mix_least(seen, 19),
		2 * (m->newest & 255u) + end,
		8 * orders + mix_least(node->bit, 7) + 64 * end + 128 * mix_least(depth, 3),
	};
	for (size_t s = 0; s < MIX_SETS; s++) {
		m->row[s] = m->weights[s][row[s]];
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

/* The probability that the decision at split x is 1, in units of 2^-22, where the model says 1 - z / n. */
static uint32_t predict(struct mix *m, uint32_t x, uint32_t z, uint32_t n)
{
	const struct mix_plan *plan = m->plan;
	const struct text_lm *lm = plan->lm;
	m->node = &plan->nodes[x];
	if (m->depth != m->node->depth) {
		size_t nbytes;
		m->prefix = lm->token_bytes(lm->ctx, plan->tree->order[x], &nbytes);
		mix_contexts(m, m->node->depth);
	}
	int32_t logit = mix_clamp(mix_log2(plan, n - z) - mix_log2(plan, z), MIX_LOGIT_MAX);
	m->logit = logit;
	m->inputs[0] = m->left_out & MIX_PART_LM ? 0 : logit;
	choose_final_maps(m, logit);
	refined_inputs(m, x, logit, m->inputs + 37);
	unsigned seen = counter_inputs(m, m->inputs + 1);
	uint32_t match_row = mix_match_inputs(m, m->inputs + 33);
	m->inputs[39] = 256;
	choose_rows(m, logit, match_row, seen);
	plan->loops->sum(m->row, m->inputs, m->dots);
	int32_t sum = 0;
	for (size_t s = 0; s < MIX_SETS; s++) {
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
	int32_t errors[MIX_SETS];
	for (size_t s = 0; s < MIX_SETS; s++) {
		int32_t change = m->dots[s] * error_of(m->p_mixed, bit) + (1 << (FINAL_SHIFT - 1));
		m->final_row[s] = mix_clamp(m->final_row[s] + (change >> FINAL_SHIFT), MIX_WEIGHT_MAX);
		errors[s] = error_of(m->p_set[s], bit) * m->plan->pace[*m->age[s]] >> 4;
		*m->age[s] = (uint16_t)mix_least(*m->age[s] + 1u, MIX_AGES - 1);
	}
	m->plan->loops->learn(m->row, m->inputs, errors);
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

static void begin_token(struct mix *m, size_t stream)
{
	m->stream = &m->streams[stream];
	m->depth = SIZE_MAX;
	mix_find_matches(m);
}

/* The coder wants the probability of 0. */
static uint32_t zero_of(uint32_t p) { return (1u << MIX_PROBABILITY_NBITS) - p; }

void mix_encode(struct mix *m, size_t stream, uint32_t id, const struct decision *path,
                struct range_encoder *coder)
{
	const struct vocab_tree *tree = m->plan->tree;
	begin_token(m, stream);
	for (uint32_t x = tree->root; x != 0; path++) {
		uint32_t p = predict(m, x, path->z, path->n);
		range_encode(coder, zero_of(p), 1u << MIX_PROBABILITY_NBITS, path->bit);
		learn(m, path->bit);
		x = path->bit ? tree->one[x] : tree->zero[x];
	}
	mix_accept(m, id);
}

uint32_t mix_decode(struct mix *m, size_t stream, const uint32_t *sums, struct range_decoder *coder)
{
	const struct vocab_tree *tree = m->plan->tree;
	size_t lo = 0, hi = tree->count;
	begin_token(m, stream);
	for (uint32_t x = tree->root; x != 0;) {
		uint32_t p = predict(m, x, sums[x] - sums[lo], sums[hi] - sums[lo]);
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
