/*
 * Attention on vector lanes; agrees with kern_attention.c bit for bit.  Scores have one
 * lane per position of a block of 32, the sum of values one lane per element; up to
 * ATTENTION_HEADS query heads share what is read of keys and values.
 *
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"
#include "lanes_exp.h"

#include <math.h>

#define KEY_VECTORS (PITH_KV_BLOCK / LANE_WIDTH)
#define VALUE_VECTORS 4u /* elements of o at a time: 4 * LANE_WIDTH */

/* State of one query head between blocks. */
struct head_state {
	float max;
	vf lane[LANE_PARTS];
};

/* Scores of all 32 positions of a block for 'heads' (a constant) heads: s[h][32]. */
LANE_INLINE void block_scores(const float *q, size_t d, const float *keys, float scale,
                              unsigned heads, float s[][PITH_KV_BLOCK])
{
	vf sum[ATTENTION_HEADS][KEY_VECTORS];
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < KEY_VECTORS; v++)
			sum[h][v] = vf_zero();
	for (size_t i = 0; i < d; i++, keys += PITH_KV_BLOCK)
		for (unsigned v = 0; v < KEY_VECTORS; v++) {
			vf key = vf_load(keys + v * LANE_WIDTH);
			for (unsigned h = 0; h < heads; h++)
				sum[h][v] = vf_fma(vf_set1(q[h * d + i]), key, sum[h][v]);
		}
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < KEY_VECTORS; v++)
			vf_store(s[h] + v * LANE_WIDTH, vf_mul(sum[h][v], vf_set1(scale)));
}

/*
 * Scores to weights p for the positions begin .. end-1 of the block; the others get +0, which
 * leaves a lane as it is.  Returns the factor c for what was summed before.
 */
LANE_INLINE float block_weights(struct head_state *state, float p[PITH_KV_BLOCK], size_t begin,
                                size_t end)
{
	vf s[KEY_VECTORS], top = vf_set1(state->max);
	for (unsigned v = 0; v < KEY_VECTORS; v++) {
		s[v] = vf_load(p + v * LANE_WIDTH);
		top = vf_max(vf_select(vm_range(begin, end, v), s[v], top), top);
	}
	const float max = vf_largest(top);
	const float c =
	    state->max == -INFINITY ? 0.0f : vf_first(vf_exp(vf_set1(state->max - max)));
	for (size_t part = 0; part < LANE_PARTS; part++)
		state->lane[part] = vf_mul(state->lane[part], vf_set1(c));
	for (unsigned v = 0; v < KEY_VECTORS; v++) {
		vf weight = vf_exp(vf_sub(s[v], vf_set1(max)));
		weight = vf_select(vm_range(begin, end, v), weight, vf_zero());
		state->lane[v % LANE_PARTS] = vf_add(state->lane[v % LANE_PARTS], weight);
		vf_store(p + v * LANE_WIDTH, weight);
	}
	state->max = max;
	return c;
}

/*
 * o = o * c, then + p_j * v_j for j ascending, for 'vectors' (a constant) vectors of elements and
 * 'heads' heads; 'count' elements of the last vector (only a single one may be partial).
 * values: from the element on, of position 'begin' of the block; o: [heads][d] from the element on.
 */
LANE_INLINE void block_values(const float *values, size_t d, size_t begin, size_t end,
                              float p[][PITH_KV_BLOCK], const float *c, unsigned heads,
                              unsigned vectors, size_t count, float *o)
{
	vf sum[ATTENTION_HEADS][VALUE_VECTORS];
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < vectors; v++) {
			const float *from = o + h * d + v * LANE_WIDTH;
			vf old = count == LANE_WIDTH ? vf_load(from) : vf_load_part(from, count);
			sum[h][v] = vf_mul(old, vf_set1(c[h]));
		}
	for (size_t j = begin; j < end; j++, values += d)
		for (unsigned v = 0; v < vectors; v++) {
			const float *from = values + v * LANE_WIDTH;
			vf value = count == LANE_WIDTH ? vf_load(from) : vf_load_part(from, count);
			for (unsigned h = 0; h < heads; h++)
				sum[h][v] = vf_fma(vf_set1(p[h][j]), value, sum[h][v]);
		}
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < vectors; v++) {
			float *to = o + h * d + v * LANE_WIDTH;
			if (count == LANE_WIDTH)
				vf_store(to, sum[h][v]);
			else
				vf_store_part(to, sum[h][v], count);
		}
}

/* 'heads' (a constant, at most ATTENTION_HEADS) query heads from q on; out: [heads, d]. */
LANE_INLINE void attention_heads(const float *q, unsigned heads, size_t d, const float *keys,
                                 const float *values, size_t first, size_t last, float scale,
                                 float *out)
{
	struct head_state state[ATTENTION_HEADS];
	float p[ATTENTION_HEADS][PITH_KV_BLOCK], c[ATTENTION_HEADS];
	for (unsigned h = 0; h < heads; h++) {
		state[h].max = -INFINITY;
		for (size_t part = 0; part < LANE_PARTS; part++)
			state[h].lane[part] = vf_zero();
	}
	memset(out, 0, heads * d * sizeof(float));
	for (size_t b = first / PITH_KV_BLOCK; b <= last / PITH_KV_BLOCK; b++) {
		const size_t base = b * PITH_KV_BLOCK;
		const size_t begin = first > base ? first - base : 0;
		const size_t end = last - base < PITH_KV_BLOCK ? last - base + 1 : PITH_KV_BLOCK;
		block_scores(q, d, keys + base * d, scale, heads, p);
		for (unsigned h = 0; h < heads; h++)
			c[h] = block_weights(&state[h], p[h], begin, end);
		const float *from = values + (base + begin) * d;
		size_t i = 0;
		for (; i + VALUE_VECTORS * LANE_WIDTH <= d; i += VALUE_VECTORS * LANE_WIDTH)
			block_values(from + i, d, begin, end, p, c, heads, VALUE_VECTORS,
			             LANE_WIDTH, out + i);
		for (; i + LANE_WIDTH <= d; i += LANE_WIDTH)
			block_values(from + i, d, begin, end, p, c, heads, 1, LANE_WIDTH, out + i);
		if (i < d)
			block_values(from + i, d, begin, end, p, c, heads, 1, d - i, out + i);
	}
	for (unsigned h = 0; h < heads; h++) {
		const vf l = vf_set1(vf_tree(state[h].lane));
		float *o = out + h * d;
		size_t i = 0;
		for (; i + LANE_WIDTH <= d; i += LANE_WIDTH)
			vf_store(o + i, vf_div(vf_load(o + i), l));
		if (i < d)
			vf_store_part(o + i, vf_div(vf_load_part(o + i, d - i), l), d - i);
	}
}

void LANE_NAME(pith_attention)(const float *q, size_t g, size_t d, const float *keys,
                               const float *values, size_t first, size_t last, float scale,
                               float *out)
{
	size_t h = 0;
	for (; h + ATTENTION_HEADS <= g; h += ATTENTION_HEADS)
		attention_heads(q + h * d, ATTENTION_HEADS, d, keys, values, first, last, scale,
		                out + h * d);
	for (; h + 2 <= g; h += 2)
		attention_heads(q + h * d, 2, d, keys, values, first, last, scale, out + h * d);
	if (h < g)
		attention_heads(q + h * d, 1, d, keys, values, first, last, scale, out + h * d);
}
