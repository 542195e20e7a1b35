/*
 * What a mixer holds and its first values: spec/text_archive.md, sections 12 to 15.
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

static unsigned slot_nbits(size_t raw_nbytes)
{
	unsigned nbits = SLOT_LEAST_NBITS;
	while (nbits < SLOT_MOST_NBITS && (size_t)1 << nbits < SLOTS_OF_BYTE * raw_nbytes)
		nbits++;
	return nbits;
}

static size_t slots_nbytes(unsigned line_nbits) { return 16 * sizeof(struct mix_slot) << line_nbits; }

static size_t weights_nbytes(const struct mix_loops *loops)
{
	return loops->sets * MIX_SET_ROWS * loops->inputs * sizeof(int32_t);
}

size_t mix_nbytes(size_t raw_nbytes, bool has_recall)
{
	const struct mix *m = NULL;
	const struct mix_loops *loops = &mix_loops_portable[has_recall];
	return sizeof(*m) + 2 * (raw_nbytes + MIX_SLACK) + MIX_MATCHES * MATCH_TABLE_COUNT * sizeof(uint32_t) +
	       slots_nbytes(slot_nbits(raw_nbytes) - 4) + MIX_CONTEXTS * sizeof(*m->state_map) +
	       MIX_MATCHES * sizeof(*m->match_map) + 4 * MIX_NODE_ROWS * sizeof(*m->node_map) +
	       weights_nbytes(loops) + loops->sets * sizeof(*m->ages) + MIX_FINAL_ROWS * sizeof(*m->final_weights);
}

static void start_map(const struct mix_plan *plan, uint16_t (*map)[MIX_BUCKETS], size_t rows)
{
	for (size_t r = 0; r < rows; r++)
		for (int32_t j = 0; j < (int32_t)MIX_BUCKETS; j++) {
			uint32_t p = plan->squash[MIX_DOT_MAX + (j - 16) * 256] >> 6;
			map[r][j] = (uint16_t)mix_least(p, 65535);
		}
}

static int32_t first_weight(size_t input, bool has_recall)
{
	if (input == 0)
		return has_recall ? 40000 : 60000;
	if (input >= 40)
		return input < 42 ? 10000 : 0;
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
	size_t inputs = m->loops->inputs, sets = m->loops->sets;
	for (size_t r = 0; r < sets * MIX_SET_ROWS; r++)
		for (size_t i = 0; i < inputs; i++)
			m->weights[r * inputs + i] = first_weight(i, m->has_recall);
	for (size_t r = 0; r < MIX_FINAL_ROWS; r++)
		for (size_t s = 0; s < sets; s++)
			m->final_weights[r][s] = MIX_WEIGHT_ONE / (int32_t)sets;
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
	m->weights = aligned_alloc(32, weights_nbytes(m->loops));
	m->ages = calloc(m->loops->sets, sizeof(*m->ages));
	m->final_weights = malloc(MIX_FINAL_ROWS * sizeof(*m->final_weights));
	return m->streams != NULL && m->history != NULL && m->starts != NULL && m->match_table[0] != NULL &&
	       m->match_table[1] != NULL && m->slots != NULL && m->state_map != NULL && m->match_map != NULL &&
	       m->node_map != NULL && m->byte_map != NULL && m->final_map[0] != NULL &&
	       m->final_map[1] != NULL && m->weights != NULL && m->ages != NULL && m->final_weights != NULL;
}

pith_status mix_new(const struct mix_plan *plan, const size_t *begins, size_t stream_count,
                    size_t raw_nbytes, bool has_recall, uint32_t left_out, struct mix **out, struct pith_error *err)
{
	*out = NULL;
	struct mix *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to mix");
	m->plan = plan;
	m->loops = &plan->loops[has_recall];
	m->has_recall = has_recall;
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
