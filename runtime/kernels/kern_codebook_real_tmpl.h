/*
 * The kind codebook with f32 entries on vector lanes; agrees with kern_codebook.c bit for bit.
 * Lanes are rows; a block of 32 columns is turned into weights once and used for the tokens of a batch,
 * whose sums stay in registers over the whole row.
 *
 * Parameters: a lanes_codes_<isa>.h included before; COLUMNS_BATCH_TOKENS accumulators must fit the
 * registers.  One body, inlined for every number of bits, both forms of table, one token and a batch;
 * another for one token and one table, where a single tile would wait for its own sums.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_codebook_scale.h"
#include "kern_reference.h"
#include "lanes_slice16.h"

/* Weights of block 'b', rows of vector 'part': w[column]. */
LANE_INLINE void real_weights(const struct pith_codebook *c, size_t tile, size_t b, size_t part,
                              unsigned bits, bool rows, vf w[PITH_ACT_GROUP])
{
	const uint8_t *entries = c->entries;
	if (rows)
		entries += ((tile << bits) * PITH_TILE_ROWS + part * LANE_WIDTH) * 4;
	const float *table = (const float *)(const void *)entries;
	vi code[SLICE16_VECTORS];
	slice16_decode(c->codes + (tile * c->blocks + b) * 64 * bits, bits, part, code);
	for (unsigned i = 0; i < SLICE16_VECTORS; i++)
#pragma GCC unroll 4
		for (unsigned k = 0; k < 4; k++)
			w[4 * i + k] = rows ? vf_lookup_rows(table, bits, code[i], k) :
			                      vf_lookup(table, bits, code[i], k);
}

/* W = fl(s * e), by groups of 16 columns or of whole blocks. */
LANE_INLINE void real_scale(const struct pith_codebook *c, size_t tile, size_t b, size_t part,
                            size_t n, vf w[PITH_ACT_GROUP])
{
	if (c->scale_mode == 3)
		return;
	const size_t first = b * PITH_ACT_GROUP / c->group_size;
	const bool half = c->group_size < PITH_ACT_GROUP && b * PITH_ACT_GROUP + 16 < n;
	const vf s0 = codebook_scales(c, tile, first, part);
	const vf s1 = half ? codebook_scales(c, tile, first + 1, part) : s0;
	for (unsigned j = 0; j < PITH_ACT_GROUP; j++)
		w[j] = vf_mul(j < 16 ? s0 : s1, w[j]);
}

/* Rows of vector 'part' of a tile for 'tokens' tokens (a constant): out[token * 16 + row]. */
LANE_INLINE void real_part(const struct pith_term *term, size_t tile, size_t part,
                           const float *const *x, unsigned tokens, unsigned bits, bool rows,
                           float *out)
{
	const struct pith_codebook *c = &term->u.codebook;
	vf t[COLUMNS_BATCH_TOKENS];
	for (unsigned i = 0; i < tokens; i++)
		t[i] = vf_zero();
	for (size_t b = 0; b < c->blocks; b++) {
		vf w[PITH_ACT_GROUP];
		const size_t first = b * PITH_ACT_GROUP, left = term->n - first;
		const size_t count = left < PITH_ACT_GROUP ? left : PITH_ACT_GROUP;
		real_weights(c, tile, b, part, bits, rows, w);
		real_scale(c, tile, b, part, term->n, w);
		for (size_t j = 0; j < count; j++)
			for (unsigned i = 0; i < tokens; i++)
				t[i] = vf_fma(w[j], vf_set1(x[i][first + j]), t[i]);
	}
	for (unsigned i = 0; i < tokens; i++)
		vf_store(out + i * PITH_TILE_ROWS + part * LANE_WIDTH, t[i]);
}

/* ---- one token and one table ---- */

#define REAL_TILES 4u /* at once: every row is one chain of fma's, and four chains do not wait */

/* Columns b * 32 .. b * 32 + count - 1 of the tiles from 'tile' on: t: [REAL_TILES]. */
LANE_INLINE void real_token_block(const struct pith_codebook *c, size_t tile, size_t b, size_t part,
                                  size_t n, const float *x, size_t count, unsigned bits,
                                  vf t[REAL_TILES])
{
	const float *table = (const float *)(const void *)c->entries;
	const bool scaled = c->scale_mode != 3;
	const size_t group = scaled ? b * PITH_ACT_GROUP / c->group_size : 0;
	const bool half = scaled && c->group_size < PITH_ACT_GROUP && b * PITH_ACT_GROUP + 16 < n;
	vi code[REAL_TILES][SLICE16_VECTORS];
	vf s[2][REAL_TILES];
	for (size_t i = 0; i < REAL_TILES; i++) {
		slice16_decode(c->codes + ((tile + i) * c->blocks + b) * 64 * bits, bits, part,
		               code[i]);
		/* without a scale: fl(1 * e) is e */
		s[0][i] = scaled ? codebook_scales(c, tile + i, group, part) : vf_set1(1);
		s[1][i] = half ? codebook_scales(c, tile + i, group + 1, part) : s[0][i];
	}
#pragma GCC unroll 32
	for (unsigned j = 0; j < count; j++) {
		const vf xj = vf_set1(x[b * PITH_ACT_GROUP + j]);
		for (size_t i = 0; i < REAL_TILES; i++) {
			vf w = vf_lookup(table, bits, code[i][j / 4], j % 4);
			t[i] = vf_fma(vf_mul(s[j / 16][i], w), xj, t[i]);
		}
	}
}

/* out: [REAL_TILES, 16] */
LANE_INLINE void real_token(const struct pith_term *term, size_t tile, const float *x,
                            unsigned bits, float *out)
{
	const struct pith_codebook *c = &term->u.codebook;
	const size_t n = term->n, rest = n % PITH_ACT_GROUP;
	for (size_t part = 0; part < LANE_PARTS; part++) {
		vf t[REAL_TILES];
		for (size_t i = 0; i < REAL_TILES; i++)
			t[i] = vf_zero();
		for (size_t b = 0; b < n / PITH_ACT_GROUP; b++)
			real_token_block(c, tile, b, part, n, x, PITH_ACT_GROUP, bits, t);
		if (rest > 0)
			real_token_block(c, tile, c->blocks - 1, part, n, x, rest, bits, t);
		for (size_t i = 0; i < REAL_TILES; i++)
			vf_store(out + i * PITH_TILE_ROWS + part * LANE_WIDTH, t[i]);
	}
}

typedef void real_token_fn(const struct pith_term *term, size_t tile, const float *x, float *out);

/* Functions, not code in a macro: each line below is one instance of real_token. */
#define REAL_TOKEN(bits)                                                                           \
	static void real_token_##bits(const struct pith_term *term, size_t tile, const float *x,   \
	                              float *out)                                                  \
	{                                                                                          \
		real_token(term, tile, x, bits, out);                                              \
	}
REAL_TOKEN(2)
REAL_TOKEN(3)
REAL_TOKEN(4)
REAL_TOKEN(5)
REAL_TOKEN(6)
REAL_TOKEN(7)
REAL_TOKEN(8)

/* [bits - 2] */
static real_token_fn *const real_tokens[7] = {
    real_token_2, real_token_3, real_token_4, real_token_5,
    real_token_6, real_token_7, real_token_8,
};

/* ---- batches, and a table per row ---- */

typedef void real_tile_fn(const struct pith_term *term, size_t tile, const float *const *x,
                          size_t count, float *out);

/* Functions, not code in a macro: each line below is one instance of real_part. */
#define REAL_INSTANCE(bits, rows)                                                                  \
	static void real_tile_##bits##_##rows(const struct pith_term *term, size_t tile,           \
	                                      const float *const *x, size_t count, float *out)     \
	{                                                                                          \
		for (size_t part = 0; part < LANE_PARTS; part++)                                   \
			if (count == 1)                                                            \
				real_part(term, tile, part, x, 1, bits, rows, out);                \
			else                                                                       \
				real_part(term, tile, part, x, COLUMNS_BATCH_TOKENS, bits, rows,   \
				          out);                                                    \
	}
#define REAL_INSTANCES(bits)                                                                       \
	REAL_INSTANCE(bits, 0)                                                                     \
	REAL_INSTANCE(bits, 1)
REAL_INSTANCES(2)
REAL_INSTANCES(3)
REAL_INSTANCES(4)
REAL_INSTANCES(5)
REAL_INSTANCES(6)
REAL_INSTANCES(7)
REAL_INSTANCES(8)

#define REAL_ROW(bits)                                                                             \
	{                                                                                          \
		real_tile_##bits##_0, real_tile_##bits##_1                                         \
	}
/* [bits - 2][a table per row] */
static real_tile_fn *const real_tiles[7][2] = {
    REAL_ROW(2), REAL_ROW(3), REAL_ROW(4), REAL_ROW(5), REAL_ROW(6), REAL_ROW(7), REAL_ROW(8),
};

static void codebook_real_apply(const struct pith_term *term, const struct pith_act *act,
                                size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	const struct pith_codebook *c = &term->u.codebook;
	real_tile_fn *fn = real_tiles[c->bits - 2][c->per_row];
	for (; act->k == 1 && !c->per_row && tile_begin + REAL_TILES <= tile_end;
	     tile_begin += REAL_TILES) {
		float t[REAL_TILES * PITH_TILE_ROWS];
		real_tokens[c->bits - 2](term, tile_begin, act->x, t);
		for (size_t i = 0; i < REAL_TILES; i++)
			pith_tile_store(term, tile_begin + i, t + i * PITH_TILE_ROWS, add,
			                y + (tile_begin + i) * PITH_TILE_ROWS);
	}
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += COLUMNS_BATCH_TOKENS) {
			size_t left = act->k - token;
			size_t count = left < COLUMNS_BATCH_TOKENS ? left : COLUMNS_BATCH_TOKENS;
			const float *x[COLUMNS_BATCH_TOKENS];
			for (size_t i = 0; i < COLUMNS_BATCH_TOKENS; i++)
				x[i] = act->x + (token + (i < count ? i : count - 1)) * act->ldx;
			float t[COLUMNS_BATCH_TOKENS * PITH_TILE_ROWS];
			fn(term, tile, x, count, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
