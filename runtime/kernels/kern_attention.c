/*
 * Reference kernel of attention: scores, then the recurrence over blocks of 32
 * positions.  Spec: spec/numerics.md 7.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

/* What the recurrence carries from block to block, beside the sum of values. */
struct attention_state {
	float max;
	float lane[PITH_LANES];
};

/* Element 'at' of keys or values as a number; of i8 without its scale. */
static float cache_element(const void *elements, enum pith_kv_type type, size_t at)
{
	if (type == PITH_KV_F32)
		return ((const float *)elements)[at];
	if (type == PITH_KV_F16)
		return f32_of_f16(load_le16((const uint8_t *)elements + 2 * at));
	return (float)((const int8_t *)elements)[at];
}

/* Elements [begin, end) of q times the key of position j, added to 'sum' in order. */
static float score_part(const float *q, size_t begin, size_t end, size_t d, const struct pith_kv *kv,
                        enum pith_kv_type type, size_t j, float sum)
{
	for (size_t i = begin; i < end; i++) {
		size_t at = (j / PITH_KV_BLOCK * d + i) * PITH_KV_BLOCK + j % PITH_KV_BLOCK;
		sum = fmaf(q[i], cache_element(kv->keys, type, at), sum);
	}
	return sum;
}

static float score(const float *q, size_t d, const struct pith_kv *kv, enum pith_kv_type type,
                   size_t j, float scale)
{
	if (type != PITH_KV_I8)
		return score_part(q, 0, d, d, kv, type, j, 0.0f) * scale;
	float sum = 0.0f;
	for (size_t i = 0; i < d; i += PITH_KV_GROUP) {
		// spec numerics.7: "u = fma(q[i], f32(kq_j[i]), u);   s_j = fma(ks_j[g], u, s_j)"
		size_t end = i + PITH_KV_GROUP < d ? i + PITH_KV_GROUP : d;
		float u = score_part(q, i, end, d, kv, type, j, 0.0f);
		sum = fmaf(kv->key_scale[pith_kv_scale_place(d, j, i)], u, sum);
	}
	return sum * scale;
}

/* The positions begin .. end-1, which lie in one block.  o: [d]. */
static void attention_block(struct attention_state *state, size_t d, const float *s,
                            const struct pith_kv *kv, enum pith_kv_type type, size_t begin,
                            size_t end, float *o)
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
		for (size_t i = 0; i < d; i++) {
			// spec numerics.7: "o[i] = fma(fl(p_j * vs_j[g]), f32(vq_j[i]), o[i])"
			float w = p;
			if (type == PITH_KV_I8)
				w = p * kv->value_scale[pith_kv_scale_place(d, j, i)];
			o[i] = fmaf(w, cache_element(kv->values, type, j * d + i), o[i]);
		}
	}
	state->max = max;
}

static void attend(const struct pith_kv *kv, enum pith_kv_type type, size_t d,
                   const struct pith_query *query, float scale)
{
	struct attention_state state = {.max = -INFINITY};
	float *o = query->out;
	for (size_t i = 0; i < d; i++)
		o[i] = 0.0f;
	for (size_t b = query->first / PITH_KV_BLOCK; b <= query->last / PITH_KV_BLOCK; b++) {
		size_t begin = b * PITH_KV_BLOCK, end = begin + PITH_KV_BLOCK;
		begin = begin < query->first ? query->first : begin;
		end = end > query->last + 1 ? query->last + 1 : end;
		float s[PITH_KV_BLOCK];
		for (size_t j = begin; j < end; j++)
			s[j - begin] = score(query->q, d, kv, type, j, scale);
		attention_block(&state, d, s, kv, type, begin, end, o);
	}
	float l = pith_lane_tree(state.lane);
	for (size_t i = 0; i < d; i++)
		o[i] = o[i] / l;
}

void pith_attention_f32_reference(const struct pith_kv *kv, size_t d, const struct pith_query *queries,
                                  size_t count, float scale)
{
	for (size_t i = 0; i < count; i++)
		attend(kv, PITH_KV_F32, d, &queries[i], scale);
}

void pith_attention_f16_reference(const struct pith_kv *kv, size_t d, const struct pith_query *queries,
                                  size_t count, float scale)
{
	for (size_t i = 0; i < count; i++)
		attend(kv, PITH_KV_F16, d, &queries[i], scale);
}

void pith_attention_i8_reference(const struct pith_kv *kv, size_t d, const struct pith_query *queries,
                                 size_t count, float scale)
{
	for (size_t i = 0; i < count; i++)
		attend(kv, PITH_KV_I8, d, &queries[i], scale);
}
