/*
 * The kind sparse where fma and the widening of halves are instructions; agrees with
 * kern_sparse.c bit for bit.  A layer of a list is one step of the tile's sixteen sums: what its rows
 * multiply with is fetched by scalar loads, in the order of the entries, and both
 * are spread to the lanes that have an entry.
 *
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#define SPARSE_LAYERS 4u /* worked on at a time */
#define SPARSE_BATCH 4u  /* tokens that share what is decoded */
#define SPARSE_AHEAD 1024u /* bytes of index and values: they are read in short stretches */

/* Where a list is worked on. */
struct sparse_place {
	const uint8_t *counts;   /* [16] u16 */
	size_t layer, entry, end; /* the next ones, and the end of its entries */
};

LANE_INLINE struct sparse_place sparse_begin(const struct pith_sparse *s, size_t list)
{
	return (struct sparse_place){s->counts + 2 * PITH_TILE_ROWS * list, 0,
	                             load_le32(s->offsets + 4 * list),
	                             load_le32(s->offsets + 4 * (list + 1))};
}

/* out[i] = x[index i]; up to three more are read and written. */
LANE_INLINE void sparse_fetch(const uint8_t *index, size_t count, const float *x, float *out)
{
	_Static_assert(PITH_SPARSE_BLOCK_COLUMNS == 0x1000, "the mask below");
	for (size_t i = 0; i < count; i += 4) {
		const uint64_t four = load_le64(index + 2 * i) & 0x0fff0fff0fff0fffu;
#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++)
			out[i + j] = x[four >> 16 * j & 0xffffu];
	}
}

/*
 * The next SPARSE_LAYERS layers of a list, or what is left of it, for 'tokens' (a constant) tokens.
 * x: [tokens, ldx] of the block of columns; t: [tokens, 16].
 */
LANE_INLINE void sparse_layers(const struct pith_sparse *s, struct sparse_place *at, const float *x,
                               size_t ldx, unsigned tokens, float *t)
{
	const uint8_t *index = s->index + 2 * at->entry, *values = s->values + 2 * at->entry;
	float own[SPARSE_BATCH][SPARSE_LAYERS * PITH_TILE_ROWS + LANE_WIDTH];
	unsigned rows[SPARSE_LAYERS];
	size_t count = 0, e = 0;
	for (unsigned line = 0; line < 2; line++) {
		prefetch_line(index + SPARSE_AHEAD + (size_t)64 * line);
		prefetch_line(values + SPARSE_AHEAD + (size_t)64 * line);
	}
	for (unsigned i = 0; i < SPARSE_LAYERS; i++) {
		rows[i] = bits_above(at->counts, (unsigned)at->layer + i);
		count += (unsigned)__builtin_popcount(rows[i]);
	}
	for (unsigned k = 0; k < tokens; k++)
		sparse_fetch(index, count, x + k * ldx, own[k]);
	vf sum[SPARSE_BATCH][LANE_PARTS];
	for (unsigned k = 0; k < tokens; k++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			sum[k][part] = vf_load(t + k * PITH_TILE_ROWS + part * LANE_WIDTH);
	for (unsigned i = 0; i < SPARSE_LAYERS; i++) {
		for (size_t part = 0; part < LANE_PARTS; part++) {
			const unsigned lanes = rows[i] >> part * LANE_WIDTH & ((1u << LANE_WIDTH) - 1u);
			const vf value = vf_expand_f16(values + 2 * e, lanes);
			for (unsigned k = 0; k < tokens; k++)
				sum[k][part] = vf_fma_where(lanes, value, vf_expand(own[k] + e, lanes),
				                            sum[k][part]);
			e += (unsigned)__builtin_popcount(lanes);
		}
	}
	for (unsigned k = 0; k < tokens; k++)
		for (size_t part = 0; part < LANE_PARTS; part++)
			vf_store(t + k * PITH_TILE_ROWS + part * LANE_WIDTH, sum[k][part]);
	at->layer += SPARSE_LAYERS;
	at->entry += count;
}

static void sparse_list(const struct pith_sparse *s, struct sparse_place at, const float *x, float *t)
{
	while (at.entry < at.end)
		sparse_layers(s, &at, x, 0, 1, t);
}

static void sparse_list_batch(const struct pith_sparse *s, struct sparse_place at, const float *x,
                              size_t ldx, float *t)
{
	while (at.entry < at.end)
		sparse_layers(s, &at, x, ldx, SPARSE_BATCH, t);
}

/* ---- tiles ---- */

/* A tile's lists for 'count' tokens (at most SPARSE_BATCH): t: [count, 16]. */
static void sparse_tile(const struct pith_sparse *s, size_t tile, const float *x, size_t ldx,
                        size_t count, float *t)
{
	for (size_t b = 0; b < s->blocks; b++, x += PITH_SPARSE_BLOCK_COLUMNS) {
		const struct sparse_place at = sparse_begin(s, tile * s->blocks + b);
		if (count == SPARSE_BATCH) {
			sparse_list_batch(s, at, x, ldx, t);
			continue;
		}
		for (size_t k = 0; k < count; k++)
			sparse_list(s, at, x + k * ldx, t + k * PITH_TILE_ROWS);
	}
}

void LANE_NAME(pith_sparse_apply)(const struct pith_term *term, const struct pith_act *act,
                                  size_t tile_begin, size_t tile_end, bool add, float *y,
                                  size_t ldy)
{
	if (term->u.sparse.masks != NULL) {
		LANE_NAME(pith_sparse_mask_apply)(term, act, tile_begin, tile_end, add, y, ldy);
		return;
	}
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += SPARSE_BATCH) {
			size_t left = act->k - token;
			size_t count = left < SPARSE_BATCH ? left : SPARSE_BATCH;
			float t[SPARSE_BATCH * PITH_TILE_ROWS] = {0};
			sparse_tile(&term->u.sparse, tile, act->x + token * act->ldx, act->ldx,
			            count, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
