/*
 * Batches of quantized tokens, as the vector kernels of the integer kinds take them: what a tile's codes are
 * decoded for once, and the loop over tiles and batches around a kind's tile function.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_KERN_BATCH_H
#define PITH_RUNTIME_KERN_BATCH_H

#include "kern_reference.h"

/* Tokens that share a decoded block; their accumulators stay in the first-level cache. */
#define TOKEN_BATCH 32u

/* A batch of tokens as seen by one tile. */
struct token_batch {
	const int8_t *q;
	const float *as;
	const int32_t *sum;
	size_t ldq, lds, count;
	float *t; /* [count, 16] */
};

/* A whole tile; batch->t is zero on entry and has the sums after. */
typedef void token_tile_fn(const struct pith_term *term, size_t tile,
                           const struct token_batch *batch);

static inline void token_batches_apply(token_tile_fn *fn, const struct pith_term *term,
                                       const struct pith_act *act, size_t tile_begin,
                                       size_t tile_end, bool add, float *y, size_t ldy)
{
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += TOKEN_BATCH) {
			float t[TOKEN_BATCH * PITH_TILE_ROWS];
			struct token_batch batch = {act->q + token * act->ldq,
			                            act->scale + token * act->lds,
			                            act->sum + 2 * token * act->lds,
			                            act->ldq,
			                            act->lds,
			                            act->k - token,
			                            t};
			if (batch.count > TOKEN_BATCH)
				batch.count = TOKEN_BATCH;
			memset(t, 0, batch.count * PITH_TILE_ROWS * sizeof(float));
			fn(term, tile, &batch);
			for (size_t i = 0; i < batch.count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}

#endif
