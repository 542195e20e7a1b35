/*
 * The kind codebook with i8 entries on vector lanes; agrees with kern_codebook.c bit for bit.
 * Lanes are rows.  Per (tile, block of 32 columns) the codes are decoded and looked up once, in chunks of 16
 * entries by byte shuffles, and used for all tokens of a batch.
 *
 * Parameters: a lanes_codes_<isa>.h included before.  One body, inlined for every number of bits and
 * for both forms of table.  f32 entries are in kern_codebook_real_tmpl.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_batch.h"
#include "kern_codebook_scale.h"
#include "lanes_slice16.h"

#define CODEBOOK_MAX_CHUNKS 16u

LANE_INLINE unsigned chunks_of(unsigned bits)
{
	return bits <= 4 ? 1 : 1u << (bits - 4);
}

/* The one table, a chunk a vector. */
LANE_INLINE void load_table(const struct pith_codebook *c, unsigned bits,
                            vi table[CODEBOOK_MAX_CHUNKS])
{
	uint8_t entry[16 * CODEBOOK_MAX_CHUNKS] = {0};
	for (size_t e = 0; e < (size_t)1 << bits; e++)
		entry[e] = c->entries[e] ^ LANE_ENTRY_FLIP;
	for (unsigned j = 0; j < chunks_of(bits); j++)
		table[j] = vi_repeat16(entry + 16 * (size_t)j);
}

/* The tables of a tile's rows of vector 'part', as vi_lookup_rows wants them. */
LANE_INLINE void load_row_tables(const struct pith_codebook *c, unsigned bits, size_t tile,
                                 size_t part, vi table[4 * CODEBOOK_MAX_CHUNKS])
{
	uint8_t bytes[4 * CODEBOOK_MAX_CHUNKS * 4 * LANE_WIDTH];
	const uint8_t *from = c->entries + (tile << bits) * PITH_TILE_ROWS + part * LANE_WIDTH;
	const unsigned count = 4 * chunks_of(bits);
	memset(bytes, 0, (size_t)count * 4 * LANE_WIDTH);
	for (size_t e = 0; e < (size_t)1 << bits; e++, from += PITH_TILE_ROWS)
		for (size_t row = 0; row < LANE_WIDTH; row++)
			bytes[(e / 16 * 4 + row % 4) * 4 * LANE_WIDTH + row / 4 * 16 + e % 16] =
			    from[row] ^ LANE_ENTRY_FLIP;
	for (unsigned i = 0; i < count; i++)
		table[i] = vi_load(bytes + (size_t)i * 4 * LANE_WIDTH);
}

/* One run: 'count' vectors of entries. */
LANE_INLINE vf codebook_run(const vi *entry, unsigned count, const int8_t *q, vi asum, float as,
                            vf s, vf t)
{
	vf isum = vf_from_i32(entry_dot(entry, count, q, asum));
	return vf_fma(vf_mul(s, vf_set1(as)), isum, t);
}

/* Rows of vector 'part' of block 'b' for all tokens; half: two runs of 16 columns. */
LANE_INLINE void codebook_tokens(const vi entry[SLICE16_VECTORS], size_t b, size_t part, bool half,
                                 vf s0, vf s1, const struct token_batch *batch)
{
	const size_t ldq = batch->ldq, lds = batch->lds;
	const int8_t *q = batch->q + b * PITH_ACT_GROUP;
	const float *as = batch->as + b;
	const int32_t *sum = batch->sum + 2 * b;
	float *t = batch->t + part * LANE_WIDTH;
	for (float *end = t + batch->count * PITH_TILE_ROWS; t != end; t += PITH_TILE_ROWS) {
		vi first = vi_set1(sum[0]), second = vi_set1(sum[1]);
		vf acc = vf_load(t);
		if (half) {
			acc = codebook_run(entry, 4, q, first, *as, s0, acc);
			acc = codebook_run(entry + 4, 4, q + 16, second, *as, s1, acc);
		} else {
			acc = codebook_run(entry, 8, q, vi_add(first, second), *as, s0, acc);
		}
		vf_store(t, acc);
		q += ldq;
		as += lds;
		sum += 2 * lds;
	}
}

/* The rows of vector 'part' of a tile; rows: a table per row. */
LANE_INLINE void codebook_part(const struct pith_term *term, size_t tile, size_t part,
                               const struct token_batch *batch, unsigned bits, bool rows)
{
	const struct pith_codebook *c = &term->u.codebook;
	const bool half = c->group_size < PITH_ACT_GROUP;
	const size_t per_group = half ? 1 : c->group_size / PITH_ACT_GROUP;
	const uint8_t *block = c->codes + tile * c->blocks * 64 * bits;
	vi table[4 * CODEBOOK_MAX_CHUNKS];
	if (rows)
		load_row_tables(c, bits, tile, part, table);
	else
		load_table(c, bits, table);
	size_t group = 0;
	for (size_t b = 0; b < c->blocks;) {
		vf s0 = codebook_scales(c, tile, group++, part), s1 = vf_zero();
		if (half && b * PITH_ACT_GROUP + 16 < term->n) /* else there is no second run: it adds +0 */
			s1 = codebook_scales(c, tile, group++, part);
		size_t end = b + per_group < c->blocks ? b + per_group : c->blocks;
		for (; b < end; b++, block += (size_t)64 * bits) {
			vi code[SLICE16_VECTORS];
			slice16_decode(block, bits, part, code);
			for (unsigned i = 0; i < SLICE16_VECTORS; i++)
				code[i] = rows ? vi_lookup_rows(table, chunks_of(bits), code[i]) :
				                 vi_lookup(table, chunks_of(bits), code[i]);
			codebook_tokens(code, b, part, half, s0, s1, batch);
		}
	}
}

/* Functions, not code in a macro: each line below is one instance of codebook_part. */
#define CODEBOOK_INSTANCE(bits, rows)                                                              \
	static void codebook_tile_##bits##_##rows(const struct pith_term *term, size_t tile,       \
	                                          const struct token_batch *batch)                 \
	{                                                                                          \
		for (size_t part = 0; part < LANE_PARTS; part++)                                   \
			codebook_part(term, tile, part, batch, bits, rows);                        \
	}
#define CODEBOOK_INSTANCES(bits)                                                                   \
	CODEBOOK_INSTANCE(bits, 0)                                                                 \
	CODEBOOK_INSTANCE(bits, 1)
CODEBOOK_INSTANCES(2)
CODEBOOK_INSTANCES(3)
CODEBOOK_INSTANCES(4)
CODEBOOK_INSTANCES(5)
CODEBOOK_INSTANCES(6)
CODEBOOK_INSTANCES(7)
CODEBOOK_INSTANCES(8)

#define CODEBOOK_ROW(bits)                                                                         \
	{                                                                                          \
		codebook_tile_##bits##_0, codebook_tile_##bits##_1                                 \
	}
/* [bits - 2][a table per row] */
static token_tile_fn *const codebook_tiles[7][2] = {
    CODEBOOK_ROW(2), CODEBOOK_ROW(3), CODEBOOK_ROW(4), CODEBOOK_ROW(5),
    CODEBOOK_ROW(6), CODEBOOK_ROW(7), CODEBOOK_ROW(8),
};

void LANE_NAME(pith_codebook_apply)(const struct pith_term *term, const struct pith_act *act,
                                    size_t tile_begin, size_t tile_end, bool add, float *y,
                                    size_t ldy)
{
	const struct pith_codebook *c = &term->u.codebook;
	if (c->real)
		codebook_real_apply(term, act, tile_begin, tile_end, add, y, ldy);
	else
		token_batches_apply(codebook_tiles[c->bits - 2][c->per_row], term, act, tile_begin,
		                    tile_end, add, y, ldy);
}
