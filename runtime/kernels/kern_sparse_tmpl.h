/*
 * The kind sparse where fma and the widening of halves are instructions; agrees with
 * kern_sparse.c bit for bit.  Entries are few (about 1 %), so lanes would be empty: what pays is to
 * decode a piece of a list once and use it for several tokens, whose sums do not wait for each
 * other.
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

/* A tile's lists for 'count' tokens (at most SPARSE_BATCH): t: [count, 16]. */
static void sparse_tile(const struct pith_sparse *s, size_t tile, const float *x, size_t ldx,
                        size_t count, float *t)
{
	for (size_t b = 0; b < s->blocks; b++, x += PITH_SPARSE_BLOCK_COLUMNS) {
		const uint8_t *list = s->offsets + 4 * (tile * s->blocks + b);
		const size_t end = load_le32(list + 4);
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
