/*
 * The kind ternary on vector lanes; agrees with kern_ternary.c bit for bit.  Lanes are rows.
 * Eight lines are 160 columns, which are five runs of 32: lines and runs meet every 40 vectors of 4
 * columns.  A single token uses the trits as they come out; a batch decodes them once.
 *
 * Parameters: a lanes_codes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_batch.h"

#define PIECE_LINES 8u
#define PIECE_RUNS 5u
#define PIECE_VECTORS 40u
#define RUN_VECTORS 8u
#define LINE_VECTORS 5u
#define LINE_BYTES 64u

/* One run of one token. */
LANE_INLINE vf ternary_run(const vi trits[RUN_VECTORS], const int8_t *q, const int32_t *sum,
                           float as, vf s, vf t)
{
	vf isum = vf_from_i32(trits_dot(trits, q, vi_set1(sum[0] + sum[1])));
	return vf_fma(vf_mul(s, vf_set1(as)), isum, t);
}

/* Five runs of one token from eight lines. */
LANE_INLINE vf ternary_piece(const uint8_t *lines, const int8_t *q, const int32_t *sum,
                             const float *as, vf s, vf t)
{
	vi trits[RUN_VECTORS], b = vi_zero();
#pragma GCC unroll 40
	for (unsigned v = 0; v < PIECE_VECTORS; v++) {
		b = v % LINE_VECTORS == 0 ?
		        trits_first(vi_load(lines + (size_t)LINE_BYTES * (v / LINE_VECTORS))) :
		        trits_next(b);
		trits[v % RUN_VECTORS] = trits_of(b);
		if (v % RUN_VECTORS == RUN_VECTORS - 1) {
			const unsigned run = v / RUN_VECTORS;
			t = ternary_run(trits, q + (size_t)PITH_ACT_GROUP * run, sum + 2 * run, as[run], s, t);
		}
	}
	return t;
}

LANE_INLINE void ternary_decode(const uint8_t *lines, vi trits[PIECE_VECTORS])
{
	for (unsigned l = 0; l < PIECE_LINES; l++) {
		vi b = trits_first(vi_load(lines + (size_t)LINE_BYTES * l));
		trits[LINE_VECTORS * l] = trits_of(b);
		for (unsigned f = 1; f < LINE_VECTORS; f++) {
			b = trits_next(b);
			trits[LINE_VECTORS * l + f] = trits_of(b);
		}
	}
}

/* 'runs' runs, from run 'first' of the row, of all tokens, from eight lines. */
LANE_INLINE void ternary_tokens(const uint8_t *lines, size_t first, size_t runs, size_t part, vf s,
                                const struct token_batch *batch)
{
	vi trits[PIECE_VECTORS];
	ternary_decode(lines, trits);
	for (size_t i = 0; i < batch->count; i++) {
		const int8_t *q = batch->q + i * batch->ldq + first * PITH_ACT_GROUP;
		const float *as = batch->as + i * batch->lds + first;
		const int32_t *sum = batch->sum + 2 * (i * batch->lds + first);
		float *t = batch->t + i * PITH_TILE_ROWS + part * LANE_WIDTH;
		vf acc = vf_load(t);
		for (size_t run = 0; run < runs; run++)
			acc = ternary_run(trits + RUN_VECTORS * run, q + PITH_ACT_GROUP * run,
			                  sum + 2 * run, as[run], s, acc);
		vf_store(t, acc);
	}
}

/* Rows of vector 'part' of a tile. */
LANE_INLINE void ternary_part(const struct pith_term *term, size_t tile, size_t part,
                              const struct token_batch *batch)
{
	const struct pith_ternary *ternary = &term->u.ternary;
	const uint8_t *lines = ternary->codes + tile * ternary->lines * LINE_BYTES + part * 4 * LANE_WIDTH;
	const size_t runs = (term->n + PITH_ACT_GROUP - 1) / PITH_ACT_GROUP;
	const size_t pieces = ternary->lines / PIECE_LINES;
	float scale[LANE_WIDTH];
	memcpy(scale, ternary->scales + 4 * (tile * PITH_TILE_ROWS + part * LANE_WIDTH), sizeof(scale));
	const vf s = vf_load(scale);
	if (batch->count == 1) {
		vf t = vf_load(batch->t + part * LANE_WIDTH);
		for (size_t p = 0; p < pieces; p++)
			t = ternary_piece(lines + p * PIECE_LINES * LINE_BYTES,
			                  batch->q + p * PIECE_RUNS * PITH_ACT_GROUP,
			                  batch->sum + 2 * p * PIECE_RUNS, batch->as + p * PIECE_RUNS, s, t);
		vf_store(batch->t + part * LANE_WIDTH, t);
	} else {
		for (size_t p = 0; p < pieces; p++)
			ternary_tokens(lines + p * PIECE_LINES * LINE_BYTES, p * PIECE_RUNS, PIECE_RUNS,
			               part, s, batch);
	}
	if (pieces * PIECE_RUNS < runs) { /* fewer than eight lines are left */
		uint8_t rest[PIECE_LINES * LINE_BYTES] = {0};
		const uint8_t *from = lines + pieces * PIECE_LINES * LINE_BYTES;
		for (size_t l = 0; l < ternary->lines % PIECE_LINES; l++)
			memcpy(rest + l * LINE_BYTES, from + l * LINE_BYTES, (size_t)4 * LANE_WIDTH);
		ternary_tokens(rest, pieces * PIECE_RUNS, runs - pieces * PIECE_RUNS, part, s, batch);
	}
}

static void ternary_tile(const struct pith_term *term, size_t tile, const struct token_batch *batch)
{
	for (size_t part = 0; part < LANE_PARTS; part++)
		ternary_part(term, tile, part, batch);
}

void LANE_NAME(pith_ternary_apply)(const struct pith_term *term, const struct pith_act *act,
                                   size_t tile_begin, size_t tile_end, bool add, float *y,
                                   size_t ldy)
{
	token_batches_apply(ternary_tile, term, act, tile_begin, tile_end, add, y, ldy);
}
