/*
 * Reference kernel of attention: scores, then the recurrence over blocks of 32
 * positions.  Spec: spec/numerics.md 7.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/* What the recurrence carries from block to block, beside o. */
struct attention_state {
	float max;
	float lane[PITH_LANES];
};

/* s[j - begin] for the positions begin .. end-1 of one block.  keys: [d][32], this block's. */
static void attention_scores(const float *q, size_t d, const float *keys, size_t begin, size_t end,
                             float scale, float *s)
{
	for (size_t j = begin; j < end; j++) {
		float sum = 0.0f;
		for (size_t i = 0; i < d; i++)
			sum = fmaf(q[i], keys[i * PITH_KV_BLOCK + j % PITH_KV_BLOCK], sum);
		s[j - begin] = sum * scale;
	}
}

/* The positions begin .. end-1, which lie in one block.  values: [positions][d]; o: [d]. */
static void attention_block(struct attention_state *state, size_t d, const float *s,
                            const float *values, size_t begin, size_t end, float *o)
{
	// spec numerics.7: "M' = max(M, max s_j)"
	float max = state->max;
	for (size_t j = begin; j < end; j++)
		if (s[j - begin] > max)
			max = s[j - begin];
	float c = state->max == -INFINITY ? 0.0f : pith_exp_reference(state->max - max);
	for (size_t i = 0; i < PITH_LANES; i++)
		state->lane[i] = state->lane[i] * c;
	for (size_t i = 0; i < d; i++)
		o[i] = o[i] * c;
	for (size_t j = begin; j < end; j++) {
		float p = pith_exp_reference(s[j - begin] - max);
		state->lane[j % PITH_LANES] = state->lane[j % PITH_LANES] + p;
		for (size_t i = 0; i < d; i++)
			o[i] = fmaf(p, values[j * d + i], o[i]);
	}
	state->max = max;
}

void pith_attention_reference(const float *q, size_t g, size_t d, const float *keys,
                              const float *values, size_t first, size_t last, float scale,
                              float *out)
{
	for (size_t h = 0; h < g; h++) {
		struct attention_state state = {.max = -INFINITY};
		float *o = out + h * d;
		for (size_t i = 0; i < d; i++)
			o[i] = 0.0f;
		for (size_t b = first / PITH_KV_BLOCK; b <= last / PITH_KV_BLOCK; b++) {
			size_t begin = b * PITH_KV_BLOCK, end = begin + PITH_KV_BLOCK;
			begin = begin < first ? first : begin;
			end = end > last + 1 ? last + 1 : end;
			float s[PITH_KV_BLOCK];
			attention_scores(q + h * d, d, keys + b * d * PITH_KV_BLOCK, begin, end,
			                 scale, s);
			attention_block(&state, d, s, values, begin, end, o);
		}
		float l = pith_lane_tree(state.lane);
		for (size_t i = 0; i < d; i++)
			o[i] = o[i] / l;
	}
}
