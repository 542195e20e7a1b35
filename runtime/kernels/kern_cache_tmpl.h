/*
 * The KV cache on vector lanes; agrees with kern_cache.c bit for bit.  Keys are turned in pieces of
 * 32 positions x 32 elements: a key's elements are far apart, and of many positions each cache line is met once.
 *
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

/* Largest magnitude that binary16 takes, as bits: above it values round to infinity. */
#define F16_OVERFLOW_BITS 0x477ff000

#define GROUP_VECTORS (PITH_KV_GROUP / LANE_WIDTH)
_Static_assert(PITH_KV_GROUP == PITH_ACT_GROUP, "i8 caches are quantized as activations");

/* 32 values to elements of a (constant) type. */
LANE_INLINE bool convert_group(enum pith_kv_type type, const float *x, uint8_t *to, float *scale)
{
	if (type == PITH_KV_I8) {
		int32_t sum[2];
		return LANE_NAME(pith_quantize)(x, PITH_KV_GROUP, (int8_t *)to, scale, sum);
	}
	vi largest = vi_zero();
	for (unsigned v = 0; v < GROUP_VECTORS; v++) {
		vf value = vf_load(x + v * LANE_WIDTH);
		largest = vi_max(largest, vi_magnitude(value));
		vf_store_f16(to + 2 * (size_t)v * LANE_WIDTH, value);
	}
	return vi_largest(largest) < F16_OVERFLOW_BITS;
}

/* 'count' (at most 32) elements x of a vector, converted to 'to', which has room for 32. */
LANE_INLINE bool convert_part(enum pith_kv_type type, const float *x, size_t count, uint8_t *to,
                              float *scale)
{
	float padded[PITH_KV_GROUP] = {0};
	if (type == PITH_KV_F32) {
		memcpy(to, x, count * sizeof(float));
		return true;
	}
	if (count == PITH_KV_GROUP)
		return convert_group(type, x, to, scale);
	memcpy(padded, x, count * sizeof(float));
	return convert_group(type, padded, to, scale);
}

/*
 * 'count' positions of one block and 'elements' elements from i on.  key, value: of the first
 * of them, from the element on.
 */
LANE_INLINE bool append_piece(enum pith_kv_type type, const struct pith_kv *kv, size_t d,
                              size_t position, size_t count, size_t i, size_t elements,
                              const float *key, size_t ldk, const float *value, size_t ldv)
{
	const size_t width = pith_kv_nbytes(type), lane = position % PITH_KV_BLOCK;
	uint8_t piece[PITH_KV_BLOCK][PITH_KV_GROUP * sizeof(float)];
	bool fits = true;
	for (size_t p = 0; p < count; p++) {
		float key_scale, value_scale;
		uint8_t *to = (uint8_t *)kv->values + ((position + p) * d + i) * width;
		fits &= convert_part(type, value + p * ldv, elements, piece[p], &value_scale);
		memcpy(to, piece[p], elements * width);
		fits &= convert_part(type, key + p * ldk, elements, piece[p], &key_scale);
		if (type == PITH_KV_I8) {
			const size_t at = pith_kv_scale_place(d, position + p, i);
			kv->key_scale[at] = key_scale;
			kv->value_scale[at] = value_scale;
		}
	}
	uint8_t *keys = (uint8_t *)kv->keys +
	                ((position / PITH_KV_BLOCK * d + i) * PITH_KV_BLOCK + lane) * width;
	for (size_t e = 0; e < elements; e++, keys += PITH_KV_BLOCK * width)
		for (size_t p = 0; p < count; p++)
			memcpy(keys + p * width, piece[p] + e * width, width);
	return fits;
}

LANE_INLINE bool append_all(enum pith_kv_type type, const struct pith_kv *kv, size_t d,
                            size_t position, size_t count, const float *key, size_t ldk,
                            const float *value, size_t ldv)
{
	bool fits = true;
	while (count > 0) {
		const size_t left = PITH_KV_BLOCK - position % PITH_KV_BLOCK;
		const size_t now = count < left ? count : left;
		for (size_t i = 0; i < d; i += PITH_KV_GROUP) {
			const size_t elements = d - i < PITH_KV_GROUP ? d - i : PITH_KV_GROUP;
			fits &= append_piece(type, kv, d, position, now, i, elements, key + i, ldk,
			                     value + i, ldv);
		}
		position += now, count -= now, key += now * ldk, value += now * ldv;
	}
	return fits;
}

bool LANE_NAME(pith_append_f32)(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                                const float *key, size_t ldk, const float *value, size_t ldv)
{
	return append_all(PITH_KV_F32, kv, d, position, count, key, ldk, value, ldv);
}

bool LANE_NAME(pith_append_f16)(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                                const float *key, size_t ldk, const float *value, size_t ldv)
{
	return append_all(PITH_KV_F16, kv, d, position, count, key, ldk, value, ldv);
}

bool LANE_NAME(pith_append_i8)(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                               const float *key, size_t ldk, const float *value, size_t ldv)
{
	return append_all(PITH_KV_I8, kv, d, position, count, key, ldk, value, ldv);
}
