/*
 * Attention on vector lanes; agrees with kern_attention.c bit for bit.  Scores have one
 * lane per position of a block of 32, the sum of values one lane per element.  Up to
 * ATTENTION_HEADS queries are a tile and share what is read of keys and values; a tile goes through
 * CHUNK_BLOCKS blocks at a time: all scores, then all weights (the exponentials of different blocks
 * do not wait for each other), then all values with the sums in registers.
 *
 * Parameters: a lanes_<isa>.h included before.  Arguments called constant are literals at every
 * call, so each combination is compiled by itself.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"
#include "lanes_exp.h"

#include <math.h>

#define KEY_VECTORS (PITH_KV_BLOCK / LANE_WIDTH)
#define GROUP_VECTORS (PITH_KV_GROUP / LANE_WIDTH)
#define VALUE_VECTORS 4u /* elements of o at a time: at most 4 * LANE_WIDTH */
#define PASS_GROUPS (VALUE_VECTORS / GROUP_VECTORS)
#define CHUNK_BLOCKS 8u
#define KEYS_AHEAD 2048u /* bytes of keys fetched before they are read */
#define LANE_CALL __attribute__((noinline))
#define CHUNK_POSITIONS (CHUNK_BLOCKS * PITH_KV_BLOCK)

/* One query of a tile between blocks. */
struct query_state {
	float max;
	vf lane[LANE_PARTS];
};

/* A tile in one chunk: blocks block .. block + count - 1. */
struct tile {
	const struct pith_kv *kv;
	const struct pith_query *query;
	size_t d, block, count;
	size_t begin[ATTENTION_HEADS][CHUNK_BLOCKS]; /* positions seen in a block; none: 0, 0 */
	size_t end[ATTENTION_HEADS][CHUNK_BLOCKS];
	float c[ATTENTION_HEADS][CHUNK_BLOCKS];      /* factors for what was summed before a block */
	float p[ATTENTION_HEADS][CHUNK_POSITIONS];   /* scores, then weights */
};

/* ---- elements of the cache; 'type' is constant ---- */

LANE_INLINE vf load_elements(enum pith_kv_type type, const uint8_t *p)
{
	if (type == PITH_KV_F32)
		return vf_load((const float *)(const void *)p);
	return type == PITH_KV_F16 ? vf_from_f16(p) : vf_from_i8(p);
}

LANE_INLINE vf load_elements_part(enum pith_kv_type type, const uint8_t *p, size_t count)
{
	if (type == PITH_KV_F32)
		return vf_load_part((const float *)(const void *)p, count);
	return type == PITH_KV_F16 ? vf_from_f16_part(p, count) : vf_from_i8_part(p, count);
}

/* ---- scores ---- */

/* A few queries wait for memory; so that they do it once, the same bytes of the values come with the keys. */
LANE_INLINE void fetch_ahead(const uint8_t *keys, const uint8_t *values, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i += 64) {
		prefetch_line(keys + KEYS_AHEAD + i);
		prefetch_line(values + i);
	}
}

/*
 * Scores of all positions of 'blocks' (constant) blocks from number 'b' of the chunk on, for
 * 'heads' (constant) queries.
 */
LANE_INLINE void block_scores(enum pith_kv_type type, struct tile *t, size_t b, float scale,
                              unsigned heads, unsigned blocks)
{
	const size_t d = t->d, row = PITH_KV_BLOCK * pith_kv_nbytes(type);
	const size_t step = type == PITH_KV_I8 ? PITH_KV_GROUP : d;
	const uint8_t *keys = (const uint8_t *)t->kv->keys + (t->block + b) * d * row;
	const size_t scales = pith_kv_groups(d) * PITH_KV_BLOCK;
	const uint8_t *values = (const uint8_t *)t->kv->values + (t->block + b) * d * row;
	const float *key_scale =
	    type == PITH_KV_I8 ? t->kv->key_scale + (t->block + b) * scales : NULL;
	vf sum[ATTENTION_HEADS][2 * KEY_VECTORS], total[ATTENTION_HEADS][2 * KEY_VECTORS];
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < blocks * KEY_VECTORS; v++)
			total[h][v] = vf_zero();
	for (size_t begin = 0; begin < d; begin += step) {
		const size_t end = begin + step < d ? begin + step : d;
		for (unsigned h = 0; h < heads; h++)
			for (unsigned v = 0; v < blocks * KEY_VECTORS; v++)
				sum[h][v] = vf_zero();
		for (size_t i = begin; i < end; i++, keys += row, values += row) {
			for (unsigned k = 0; heads <= 2 && k < blocks; k++)
				fetch_ahead(keys + k * d * row, values + k * d * row, row);
			for (unsigned v = 0; v < blocks * KEY_VECTORS; v++) {
				const size_t lane = v % KEY_VECTORS * LANE_WIDTH * pith_kv_nbytes(type);
				vf key = load_elements(type, keys + v / KEY_VECTORS * d * row + lane);
				for (unsigned h = 0; h < heads; h++)
					sum[h][v] = vf_fma(vf_set1(t->query[h].q[i]), key, sum[h][v]);
			}
		}
		for (unsigned v = 0; v < blocks * KEY_VECTORS; v++) {
			const size_t at = v / KEY_VECTORS * scales + v % KEY_VECTORS * LANE_WIDTH;
			for (unsigned h = 0; h < heads; h++)
				total[h][v] = type == PITH_KV_I8
				    ? vf_fma(vf_load(key_scale + at), sum[h][v], total[h][v]) : sum[h][v];
		}
		if (type == PITH_KV_I8)
			key_scale += PITH_KV_BLOCK;
	}
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < blocks * KEY_VECTORS; v++)
			vf_store(t->p[h] + b * PITH_KV_BLOCK + v * LANE_WIDTH,
			         vf_mul(total[h][v], vf_set1(scale)));
}

/* ---- weights ---- */

/*
 * Scores to weights for one query; positions that it does not see get +0, which leaves a lane as
 * it is, and so does a block of which it sees nothing: its factor is 1.
 */
LANE_INLINE void chunk_weights(struct tile *t, unsigned h, struct query_state *state)
{
	float before[LANE_WIDTH] = {0}, max[LANE_WIDTH] = {0}; /* of CHUNK_BLOCKS blocks */
	float factor[LANE_WIDTH];
	for (size_t b = 0; b < t->count; b++) {
		vf top = vf_set1(-INFINITY);
		for (unsigned v = 0; v < KEY_VECTORS; v++) {
			vf s = vf_load(t->p[h] + b * PITH_KV_BLOCK + v * LANE_WIDTH);
			s = vf_select(vm_range(t->begin[h][b], t->end[h][b], v), s, top);
			top = vf_max(s, top);
		}
		const float largest = vf_largest(top);
		before[b] = state->max;
		state->max = largest > state->max ? largest : state->max;
		max[b] = state->max;
	}
	vf_store(factor, vf_exp(vf_sub(vf_load(before), vf_load(max))));
	for (size_t b = 0; b < t->count; b++) {
		const float c = before[b] == -INFINITY ? 0.0f : factor[b];
		t->c[h][b] = c;
		for (size_t part = 0; part < LANE_PARTS; part++)
			state->lane[part] = vf_mul(state->lane[part], vf_set1(c));
		for (unsigned v = 0; v < KEY_VECTORS; v++) {
			float *p = t->p[h] + b * PITH_KV_BLOCK + v * LANE_WIDTH;
			vf weight = vf_exp(vf_sub(vf_load(p), vf_set1(max[b])));
			weight = vf_select(vm_range(t->begin[h][b], t->end[h][b], v), weight, vf_zero());
			state->lane[v % LANE_PARTS] = vf_add(state->lane[v % LANE_PARTS], weight);
			vf_store(p, weight);
		}
	}
}

/* ---- values ---- */

/* fl(p_j * vs_j[g]) of blocks b .. to-1 for the groups of a pass that starts at element i. */
LANE_INLINE void scale_weights(const struct tile *t, unsigned h, size_t b, size_t to, size_t i,
                               float scaled[PASS_GROUPS][CHUNK_POSITIONS])
{
	const size_t groups = pith_kv_groups(t->d), first = i / PITH_KV_GROUP;
	for (; b < to; b++)
		for (size_t g = 0; g < PASS_GROUPS && first + g < groups; g++) {
			const float *scale = t->kv->value_scale +
			                     ((t->block + b) * groups + first + g) * PITH_KV_BLOCK;
			for (unsigned v = 0; v < KEY_VECTORS; v++) {
				const size_t at = b * PITH_KV_BLOCK + v * LANE_WIDTH;
				vf_store(scaled[g] + at, vf_mul(vf_load(t->p[h] + at),
				                                vf_load(scale + v * LANE_WIDTH)));
			}
		}
}

/*
 * Blocks b .. to-1 added to 'vectors' (constant) vectors of elements from i on of 'heads'
 * (constant) queries from h on, which see the same; 'count' elements of the last vector (only a single one
 * may be partial).
 */
LANE_INLINE void pass_values(enum pith_kv_type type, const struct tile *t, unsigned first,
                             unsigned heads, size_t b, size_t to, size_t i, unsigned vectors,
                             size_t count)
{
	const size_t width = pith_kv_nbytes(type), row = t->d * width;
	float scaled[ATTENTION_HEADS][PASS_GROUPS][CHUNK_POSITIONS];
	vf sum[ATTENTION_HEADS][VALUE_VECTORS];
	for (unsigned h = 0; h < heads; h++) {
		if (type == PITH_KV_I8)
			scale_weights(t, first + h, b, to, i, scaled[h]);
		for (unsigned v = 0; v < vectors; v++) {
			const float *from = t->query[first + h].out + i + v * LANE_WIDTH;
			sum[h][v] = count == LANE_WIDTH ? vf_load(from) : vf_load_part(from, count);
		}
	}
	for (; b < to; b++) {
		const size_t begin = t->begin[first][b], end = t->end[first][b], base = b * PITH_KV_BLOCK;
		const uint8_t *values = (const uint8_t *)t->kv->values +
		                        (t->block * PITH_KV_BLOCK + base + begin) * row + i * width;
		for (unsigned h = 0; h < heads; h++)
			for (unsigned v = 0; v < vectors; v++)
				sum[h][v] = vf_mul(sum[h][v], vf_set1(t->c[first + h][b]));
		for (size_t j = base + begin; j < base + end; j++, values += row)
			for (unsigned v = 0; v < vectors; v++) {
				const uint8_t *from = values + v * LANE_WIDTH * width;
				vf value = count == LANE_WIDTH ? load_elements(type, from)
				                               : load_elements_part(type, from, count);
				for (unsigned h = 0; h < heads; h++) {
					const float *p = type == PITH_KV_I8 ? scaled[h][v / GROUP_VECTORS]
					                                    : t->p[first + h];
					sum[h][v] = vf_fma(vf_set1(p[j]), value, sum[h][v]);
				}
			}
	}
	for (unsigned h = 0; h < heads; h++)
		for (unsigned v = 0; v < vectors; v++) {
			float *out = t->query[first + h].out + i + v * LANE_WIDTH;
			if (count == LANE_WIDTH)
				vf_store(out, sum[h][v]);
			else
				vf_store_part(out, sum[h][v], count);
		}
}

/* Returns the element to go on from: all that fill whole vectors are done. */
LANE_INLINE size_t whole_values(enum pith_kv_type type, const struct tile *t, unsigned first,
                                unsigned heads, size_t b, size_t to)
{
	size_t i = 0;
	for (; i + 4 * LANE_WIDTH <= t->d; i += 4 * LANE_WIDTH)
		pass_values(type, t, first, heads, b, to, i, 4, LANE_WIDTH);
	if (i + 2 * LANE_WIDTH <= t->d) {
		pass_values(type, t, first, heads, b, to, i, 2, LANE_WIDTH);
		i += 2 * LANE_WIDTH;
	}
	if (i + LANE_WIDTH <= t->d) {
		pass_values(type, t, first, heads, b, to, i, 1, LANE_WIDTH);
		i += LANE_WIDTH;
	}
	return i;
}

/* One query from element i on; a call, because it is needed in many places and seldom long. */
static LANE_CALL void single_f32(const struct tile *t, unsigned h, size_t b, size_t to, size_t i)
{
	i = i > 0 ? i : whole_values(PITH_KV_F32, t, h, 1, b, to);
	if (i < t->d)
		pass_values(PITH_KV_F32, t, h, 1, b, to, i, 1, t->d - i);
}

static LANE_CALL void single_f16(const struct tile *t, unsigned h, size_t b, size_t to, size_t i)
{
	i = i > 0 ? i : whole_values(PITH_KV_F16, t, h, 1, b, to);
	if (i < t->d)
		pass_values(PITH_KV_F16, t, h, 1, b, to, i, 1, t->d - i);
}

static LANE_CALL void single_i8(const struct tile *t, unsigned h, size_t b, size_t to, size_t i)
{
	i = i > 0 ? i : whole_values(PITH_KV_I8, t, h, 1, b, to);
	if (i < t->d)
		pass_values(PITH_KV_I8, t, h, 1, b, to, i, 1, t->d - i);
}

LANE_INLINE void single_values(enum pith_kv_type type, const struct tile *t, unsigned h, size_t b,
                               size_t to, size_t i)
{
	if (type == PITH_KV_F32)
		single_f32(t, h, b, to, i);
	else if (type == PITH_KV_F16)
		single_f16(t, h, b, to, i);
	else
		single_i8(t, h, b, to, i);
}

/* 'heads' (constant) queries that see the same of blocks b .. to-1. */
LANE_INLINE void shared_values(enum pith_kv_type type, const struct tile *t, unsigned heads, size_t b,
                               size_t to)
{
	size_t i = heads > 1 ? whole_values(type, t, 0, heads, b, to) : 0;
	if (heads == 1 || i < t->d)
		for (unsigned h = 0; h < heads; h++)
			single_values(type, t, h, b, to, i);
}

/* ---- a tile ---- */

/* Which positions of the chunk's blocks every query sees. */
LANE_INLINE void see_blocks(struct tile *t, unsigned heads)
{
	for (unsigned h = 0; h < heads; h++)
		for (size_t b = 0; b < t->count; b++) {
			const size_t base = (t->block + b) * PITH_KV_BLOCK;
			const size_t first = t->query[h].first, stop = t->query[h].last + 1;
			const bool none = stop <= base || first >= base + PITH_KV_BLOCK;
			t->begin[h][b] = none || first <= base ? 0 : first - base;
			t->end[h][b] = none ? 0 : stop - base < PITH_KV_BLOCK ? stop - base : PITH_KV_BLOCK;
		}
}

LANE_INLINE bool all_see_same(const struct tile *t, unsigned heads, size_t b)
{
	for (unsigned h = 1; h < heads; h++)
		if (t->begin[h][b] != t->begin[0][b] || t->end[h][b] != t->end[0][b])
			return false;
	return true;
}

LANE_INLINE void tile_chunk(enum pith_kv_type type, struct tile *t, unsigned heads, float scale,
                            struct query_state *state)
{
	size_t b = 0;
	see_blocks(t, heads);
	if (heads == 1)
		for (; b + 2 <= t->count; b += 2)
			block_scores(type, t, b, scale, heads, 2);
	for (; b < t->count; b++)
		block_scores(type, t, b, scale, heads, 1);
	for (unsigned h = 0; h < heads; h++)
		chunk_weights(t, h, &state[h]);
	for (b = 0; b < t->count;) {
		size_t to = b;
		while (to < t->count && all_see_same(t, heads, to))
			to++;
		if (to > b) {
			shared_values(type, t, heads, b, to);
			b = to;
			continue;
		}
		for (unsigned h = 0; h < heads; h++)
			if (t->end[h][b] > 0)
				single_values(type, t, h, b, b + 1, 0);
		b++;
	}
}

/* 'heads' (constant, at most ATTENTION_HEADS) queries. */
LANE_INLINE void attend_tile(enum pith_kv_type type, const struct pith_kv *kv, size_t d,
                             const struct pith_query *query, unsigned heads, float scale)
{
	struct query_state state[ATTENTION_HEADS];
	struct tile t; /* filled as it is needed: clearing all would cost more than short contexts do */
	size_t first = query[0].first, last = query[0].last;
	t.kv = kv;
	t.query = query;
	t.d = d;
	for (unsigned h = 0; h < heads; h++) {
		state[h].max = -INFINITY;
		for (size_t part = 0; part < LANE_PARTS; part++)
			state[h].lane[part] = vf_zero();
		memset(query[h].out, 0, d * sizeof(float));
		first = query[h].first < first ? query[h].first : first;
		last = query[h].last > last ? query[h].last : last;
	}
	const size_t stop = last / PITH_KV_BLOCK + 1;
	for (t.block = first / PITH_KV_BLOCK; t.block < stop; t.block += CHUNK_BLOCKS) {
		t.count = stop - t.block < CHUNK_BLOCKS ? stop - t.block : CHUNK_BLOCKS;
		tile_chunk(type, &t, heads, scale, state);
	}
	for (unsigned h = 0; h < heads; h++) {
		const vf l = vf_set1(vf_tree(state[h].lane));
		float *o = query[h].out;
		size_t i = 0;
		for (; i + LANE_WIDTH <= d; i += LANE_WIDTH)
			vf_store(o + i, vf_div(vf_load(o + i), l));
		if (i < d)
			vf_store_part(o + i, vf_div(vf_load_part(o + i, d - i), l), d - i);
	}
}

LANE_INLINE void attend_all(enum pith_kv_type type, const struct pith_kv *kv, size_t d,
                            const struct pith_query *query, size_t count, float scale)
{
	for (; count >= ATTENTION_HEADS; count -= ATTENTION_HEADS, query += ATTENTION_HEADS)
		attend_tile(type, kv, d, query, ATTENTION_HEADS, scale);
	for (; count >= 2; count -= 2, query += 2)
		attend_tile(type, kv, d, query, 2, scale);
	if (count > 0)
		attend_tile(type, kv, d, query, 1, scale);
}

void LANE_NAME(pith_attention_f32)(const struct pith_kv *kv, size_t d,
                                   const struct pith_query *queries, size_t count, float scale)
{
	attend_all(PITH_KV_F32, kv, d, queries, count, scale);
}

void LANE_NAME(pith_attention_f16)(const struct pith_kv *kv, size_t d,
                                   const struct pith_query *queries, size_t count, float scale)
{
	attend_all(PITH_KV_F16, kv, d, queries, count, scale);
}

void LANE_NAME(pith_attention_i8)(const struct pith_kv *kv, size_t d,
                                  const struct pith_query *queries, size_t count, float scale)
{
	attend_all(PITH_KV_I8, kv, d, queries, count, scale);
}
