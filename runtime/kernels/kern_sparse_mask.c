/*
 * Reference kernel of bitmasks of the kind sparse: the bits of a tile's lines in order.
 * Spec: spec/terms/sparse.md, forms 2 and 3; spec/numerics.md 3 and 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#include <math.h>

#define BLOCK_LINES 8u
#define LINE_COLUMNS 4u

/* Where a tile's bits stand. */
struct mask_walk {
	const struct pith_sparse *s;
	const uint8_t *mask; /* of the block */
	size_t tile, block;
	size_t at; /* number of the next value */
};

/* A masks that lies may lead 512 values behind the last, no block further: there are zeros. */
static void mask_walk_clamp(struct mask_walk *w)
{
	if (w->at > w->s->value_count)
		w->at = w->s->value_count;
}

/* f16: t[row] = fma(value, x[column], t[row]); x: the 32 columns of the block. */
static void block_of_values(struct mask_walk *w, const float *x, float t[PITH_TILE_ROWS])
{
	for (size_t l = 0; l < BLOCK_LINES; l++) {
		uint64_t mask = load_le64(w->mask + 8 * l);
		// spec sparse: "f16 values: p = 16 k + row"
		for (size_t p = 0; p < 64; p++) {
			if ((mask >> p & 1) == 0)
				continue;
			size_t row = p % 16, column = LINE_COLUMNS * l + p / 16;
			float value = f32_of_f16(load_le16(w->s->values + 2 * w->at++));
			t[row] = fmaf(value, x[column], t[row]);
		}
	}
}

static int code_at(const struct pith_sparse *s, size_t at)
{
	unsigned code = 0;
	// spec sparse: "bit i of word b is bit b of the section's code i"
	for (unsigned b = 0; b < s->bits; b++) {
		uint64_t word = load_le64(s->values + 8 * (at / 64 * s->bits + b));
		code |= (unsigned)(word >> at % 64 & 1u) << b;
	}
	return (int)code;
}

/* Codes: one run of 32 columns; q: its activations, as: their scale. */
static void block_of_codes(struct mask_walk *w, const int8_t *q, float as, float t[PITH_TILE_ROWS])
{
	const struct pith_sparse *s = w->s;
	size_t group = w->block * PITH_ACT_GROUP / s->group_size;
	size_t cell = (w->tile * s->groups + group) * PITH_TILE_ROWS;
	int isum[PITH_TILE_ROWS] = {0};
	for (size_t l = 0; l < BLOCK_LINES; l++) {
		uint64_t mask = load_le64(w->mask + 8 * l);
		// spec sparse: "codes:       p = 4 row + k"
		for (size_t p = 0; p < 64; p++) {
			if ((mask >> p & 1) == 0)
				continue;
			size_t row = p / 4, column = LINE_COLUMNS * l + p % 4;
			int zero = s->zero_mode == 1 ? s->zeros[cell + row] : 1 << (s->bits - 1);
			// spec numerics.4: "isum = Σ (c[j] - z) * q[j]"
			isum[row] += (code_at(s, w->at++) - zero) * q[column];
		}
	}
	for (size_t row = 0; row < PITH_TILE_ROWS; row++) {
		float u = f32_of_f16(load_le16(s->scales + 2 * (cell + row))) * as;
		t[row] = fmaf(u, (float)isum[row], t[row]);
	}
}

void pith_sparse_mask_apply_reference(const struct pith_term *term, const struct pith_act *act,
                                      size_t tile_begin, size_t tile_end, bool add, float *y,
                                      size_t ldy)
{
	const struct pith_sparse *s = &term->u.sparse;
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token++) {
			float t[PITH_TILE_ROWS] = {0};
			struct mask_walk w = {s, NULL, tile, 0, pith_sparse_first(s, tile)};
			for (; w.block < s->blocks; w.block++) {
				w.mask = s->masks + 64 * (tile * s->blocks + w.block);
				mask_walk_clamp(&w);
				if (s->bits == 0)
					block_of_values(&w, act->x + token * act->ldx +
					                PITH_ACT_GROUP * w.block, t);
				else
					block_of_codes(&w, act->q + token * act->ldq +
					               PITH_ACT_GROUP * w.block,
					               act->scale[token * act->lds + w.block], t);
			}
			pith_tile_store(term, tile, t, add,
			                y + token * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
