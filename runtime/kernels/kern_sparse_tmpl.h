/*
 * The kind sparse where fma and the widening of halves are instructions; agrees with
 * kern_sparse.c bit for bit.  Entries are few (about 1 %), so lanes would be empty: what pays is to
 * decode a piece of a list once and use it for several tokens, whose sums do not wait for each
 * other.  The lists of one token can go beside another term: struct pith_beside.
 *
 * Parameters: a lanes_<isa>.h included before (fmaf must be inlined on this target).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

#define SPARSE_PIECE 128u /* entries decoded at a time, a multiple of LANE_WIDTH */
#define SPARSE_BATCH 4u

/* Entries decoded: place of x inside the block of columns, row of the tile, value. */
struct sparse_piece {
	uint16_t column[SPARSE_PIECE], row[SPARSE_PIECE];
	float value[SPARSE_PIECE];
};

/* Entries at .. at + count - 1, count <= SPARSE_PIECE. */
LANE_INLINE void sparse_decode(const struct pith_sparse *s, size_t at, size_t count,
                               struct sparse_piece *piece)
{
	for (size_t i = 0; i < count; i++) {
		const uint16_t index = load_le16(s->index + 2 * (at + i));
		piece->column[i] = index >> 4;
		piece->row[i] = index & 15u;
	}
	size_t i = 0;
	for (; i + LANE_WIDTH <= count; i += LANE_WIDTH)
		vf_store(piece->value + i, vf_from_f16(s->values + 2 * (at + i)));
	if (i < count)
		vf_store(piece->value + i, vf_from_f16_part(s->values + 2 * (at + i), count - i));
}

/* t[row] = fma(value, x[column], t[row]) in order for 'tokens' (a constant) tokens. */
LANE_INLINE void sparse_piece_apply(const struct sparse_piece *piece, size_t count, const float *x,
                                    size_t ldx, unsigned tokens, float *t)
{
	for (size_t i = 0; i < count; i++) {
		const float *column = x + piece->column[i];
		float *row = t + piece->row[i];
		for (unsigned k = 0; k < tokens; k++)
			row[k * PITH_TILE_ROWS] =
			    fmaf(piece->value[i], column[k * ldx], row[k * PITH_TILE_ROWS]);
	}
}

/* ---- one token ---- */

#define SPARSE_ENTRIES PITH_BESIDE_ENTRIES /* worked on at a time, a multiple of LANE_WIDTH */
#define SPARSE_AHEAD 1024u /* bytes of index and values: they are read in short stretches */

/* SPARSE_ENTRIES entries from 'at' on. */
LANE_INLINE void sparse_entries(const struct pith_sparse *s, size_t at, const float *x, float *t)
{
	const uint8_t *index = s->index + 2 * at, *values = s->values + 2 * at;
	float value[SPARSE_ENTRIES];
	prefetch_line(index + SPARSE_AHEAD);
	prefetch_line(values + SPARSE_AHEAD);
	for (size_t i = 0; i < SPARSE_ENTRIES; i += LANE_WIDTH)
		vf_store(value + i, vf_from_f16(values + 2 * i));
	for (size_t i = 0; i < SPARSE_ENTRIES; i += 4) {
		const uint64_t four = load_le64(index + 2 * i);
#pragma GCC unroll 4
		for (unsigned j = 0; j < 4; j++) {
			const size_t entry = four >> 16 * j & 0xffffu;
			float *row = t + entry % 16;
			*row = fmaf(value[i + j], x[entry / 16], *row);
		}
	}
}

/* Entries e .. end - 1 of a list, of one token. */
static void sparse_list(const struct pith_sparse *s, size_t e, size_t end, const float *x, float *t)
{
	struct sparse_piece piece;
	for (; end - e >= SPARSE_ENTRIES; e += SPARSE_ENTRIES)
		sparse_entries(s, e, x, t);
	sparse_decode(s, e, end - e, &piece);
	sparse_piece_apply(&piece, end - e, x, 0, 1, t);
}

/* At most 'count' entries more, of one list; false: there are no more lists. */
static bool beside_list(struct pith_beside *beside, size_t count)
{
	const struct pith_sparse *s = &beside->term->u.sparse;
	while (beside->entry == beside->end) {
		if (beside->list + 1 == beside->tile_end * s->blocks)
			return false;
		beside->list++;
		beside->end = load_le32(s->offsets + 4 * beside->list + 4);
	}
	const size_t tile = beside->list / s->blocks, block = beside->list % s->blocks;
	const size_t left = beside->end - beside->entry;
	const size_t stop = left < count ? beside->end : beside->entry + count;
	sparse_list(s, beside->entry, stop, beside->x + block * PITH_SPARSE_BLOCK_COLUMNS,
	            beside->t + (tile - beside->tile_begin) * PITH_TILE_ROWS);
	beside->entry = stop;
	return true;
}

void LANE_NAME(pith_beside_piece)(struct pith_beside *beside)
{
	(void)beside_list(beside, beside->piece);
}

void LANE_NAME(pith_beside_end)(struct pith_beside *beside, float *y)
{
	while (beside_list(beside, SIZE_MAX))
		;
	for (size_t tile = beside->tile_begin; tile < beside->tile_end; tile++)
		pith_tile_store(beside->term, tile,
		                beside->t + (tile - beside->tile_begin) * PITH_TILE_ROWS, true,
		                y + tile * PITH_TILE_ROWS);
}

/* ---- tiles ---- */

/* A tile's lists for 'count' tokens (at most SPARSE_BATCH): t: [count, 16]. */
static void sparse_tile(const struct pith_sparse *s, size_t tile, const float *x, size_t ldx,
                        size_t count, float *t)
{
	for (size_t b = 0; b < s->blocks; b++, x += PITH_SPARSE_BLOCK_COLUMNS) {
		const uint8_t *list = s->offsets + 4 * (tile * s->blocks + b);
		const size_t end = load_le32(list + 4);
		if (count == 1) {
			sparse_list(s, load_le32(list), end, x, t);
			continue;
		}
		for (size_t e = load_le32(list); e < end; e += SPARSE_PIECE) {
			struct sparse_piece piece;
			size_t entries = end - e < SPARSE_PIECE ? end - e : SPARSE_PIECE;
			sparse_decode(s, e, entries, &piece);
			if (count == SPARSE_BATCH) {
				sparse_piece_apply(&piece, entries, x, ldx, SPARSE_BATCH, t);
				continue;
			}
			for (size_t k = 0; k < count; k++)
				sparse_piece_apply(&piece, entries, x + k * ldx, ldx, 1,
				                   t + k * PITH_TILE_ROWS);
		}
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
