/*
 * Reference kernels of the KV cache: keys and values of new positions in the type the model
 * says.  Spec: spec/numerics.md 7, "Cache".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

/* Where element i of the key at 'position' is: [blocks][d][32]. */
static size_t key_place(size_t d, size_t position, size_t i)
{
	return (position / PITH_KV_BLOCK * d + i) * PITH_KV_BLOCK + position % PITH_KV_BLOCK;
}

bool pith_append_f32_reference(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                               const float *key, size_t ldk, const float *value, size_t ldv)
{
	float *keys = kv->keys, *values = kv->values;
	for (size_t p = 0; p < count; p++)
		for (size_t i = 0; i < d; i++) {
			keys[key_place(d, position + p, i)] = key[p * ldk + i];
			values[(position + p) * d + i] = value[p * ldv + i];
		}
	return true;
}

bool pith_append_f16_reference(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                               const float *key, size_t ldk, const float *value, size_t ldv)
{
	uint8_t *keys = kv->keys, *values = kv->values;
	bool fits = true;
	for (size_t p = 0; p < count; p++)
		for (size_t i = 0; i < d; i++) {
			uint16_t k = f16_of_f32(key[p * ldk + i]), v = f16_of_f32(value[p * ldv + i]);
			// spec numerics.7: "A value that rounds to more than 65504 is an"
			fits = fits && (k & 0x7fffu) < 0x7c00u && (v & 0x7fffu) < 0x7c00u;
			store_le16(keys + 2 * key_place(d, position + p, i), k);
			store_le16(values + 2 * ((position + p) * d + i), v);
		}
	return fits;
}

/* The group of 32 elements from i on of one vector [d]. */
static bool quantize_group(const float *x, size_t d, size_t i, int8_t q[PITH_KV_GROUP], float *scale)
{
	float padded[PITH_KV_GROUP] = {0};
	int32_t sum[2];
	for (size_t e = 0; e < PITH_KV_GROUP && i + e < d; e++)
		padded[e] = x[i + e];
	return pith_quantize_reference(padded, PITH_KV_GROUP, q, scale, sum);
}

bool pith_append_i8_reference(const struct pith_kv *kv, size_t d, size_t position, size_t count,
                              const float *key, size_t ldk, const float *value, size_t ldv)
{
	int8_t *keys = kv->keys, *values = kv->values, q[PITH_KV_GROUP];
	bool finite = true;
	for (size_t p = 0; p < count; p++)
		for (size_t i = 0; i < d; i += PITH_KV_GROUP) {
			size_t at = position + p;
			size_t s = key_place(pith_kv_groups(d), at, i / PITH_KV_GROUP);
			finite &= quantize_group(key + p * ldk, d, i, q, &kv->key_scale[s]);
			for (size_t e = 0; e < PITH_KV_GROUP && i + e < d; e++)
				keys[key_place(d, at, i + e)] = q[e];
			finite &= quantize_group(value + p * ldv, d, i, q, &kv->value_scale[s]);
			for (size_t e = 0; e < PITH_KV_GROUP && i + e < d; e++)
				values[at * d + i + e] = q[e];
		}
	return finite;
}
