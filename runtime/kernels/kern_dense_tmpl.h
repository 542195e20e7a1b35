/*
 * The kind dense on vector lanes; agrees with kern_dense.c bit for bit.  Sixteen column
 * lanes per (row, token), reduced by the tree of spec/numerics.md 1.  The columns are walked in
 * pieces: a piece of a tile stays in the first-level cache for all tokens of a batch, and the lanes
 * wait in memory meanwhile.
 *
 * Parameters: a lanes_<isa>.h included before; DENSE_BATCH_ROWS x DENSE_BATCH_TOKENS
 * accumulators of sixteen lanes must fit the registers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#define DENSE_SINGLE_ROWS 4u /* rows side by side when there is one token */
#define DENSE_TOKENS 16u     /* most tokens of a batch */
#define DENSE_PIECE 512u     /* columns of a piece, a multiple of 16 */
#define DENSE_ROW_LANES ((size_t)PITH_TILE_ROWS * PITH_LANES)

LANE_INLINE vf dense_load(const uint8_t *p, uint32_t dtype)
{
	if (dtype == PITH_DTYPE_F32)
		return vf_load((const float *)(const void *)p);
	return dtype == PITH_DTYPE_F16 ? vf_from_f16(p) : vf_from_bf16(p);
}

LANE_INLINE vf dense_load_part(const uint8_t *p, uint32_t dtype, size_t count)
{
	if (dtype == PITH_DTYPE_F32)
		return vf_load_part((const float *)(const void *)p, count);
	return dtype == PITH_DTYPE_F16 ? vf_from_f16_part(p, count) : vf_from_bf16_part(p, count);
}

/*
 * Columns begin .. end-1 of 'rows' x 'tokens' (both at most 4, constants); end is n or a multiple
 * of 16.  w: [rows] pointers to rows of n values; x: [tokens] pointers to floats, zeros from n on;
 * lane: [tokens][16 rows][16].
 */
LANE_INLINE void dense_block(const uint8_t *const *w, const float *const *x, size_t begin,
                             size_t end, uint32_t dtype, unsigned rows, unsigned tokens,
                             float *lane)
{
	const size_t width = dtype == PITH_DTYPE_F32 ? 4 : 2;
	vf sum[4][4][LANE_PARTS];
	for (unsigned r = 0; r < rows; r++)
		for (unsigned t = 0; t < tokens; t++)
			for (size_t part = 0; part < LANE_PARTS; part++)
				sum[r][t][part] = vf_load(lane + t * DENSE_ROW_LANES +
				                          r * PITH_LANES + part * LANE_WIDTH);
	size_t j = begin;
	for (; j + PITH_LANES <= end; j += PITH_LANES) {
		for (size_t part = 0; part < LANE_PARTS; part++) {
			const size_t at = j + part * LANE_WIDTH;
			vf v[4];
			for (unsigned t = 0; t < tokens; t++)
				v[t] = vf_load(x[t] + at);
			for (unsigned r = 0; r < rows; r++) {
				vf weight = dense_load(w[r] + at * width, dtype);
				for (unsigned t = 0; t < tokens; t++)
					sum[r][t][part] = vf_fma(weight, v[t], sum[r][t][part]);
			}
		}
	}
	for (size_t part = 0; part < LANE_PARTS && j + part * LANE_WIDTH < end; part++) {
		const size_t at = j + part * LANE_WIDTH;
		const size_t count = end - at < LANE_WIDTH ? end - at : LANE_WIDTH;
		for (unsigned r = 0; r < rows; r++) {
			vf weight = dense_load_part(w[r] + at * width, dtype, count);
			for (unsigned t = 0; t < tokens; t++)
				sum[r][t][part] =
				    vf_fma(weight, vf_load(x[t] + at), sum[r][t][part]);
		}
	}
	for (unsigned r = 0; r < rows; r++)
		for (unsigned t = 0; t < tokens; t++)
			for (size_t part = 0; part < LANE_PARTS; part++)
				vf_store(lane + t * DENSE_ROW_LANES + r * PITH_LANES +
				             part * LANE_WIDTH,
				         sum[r][t][part]);
}

/*
 * Columns begin .. end-1 of a tile for 'tokens' tokens.  Blocks of rows begin inside the matrix;
 * rows of theirs beyond the last repeat it, and what they give is dropped.
 */
LANE_INLINE void dense_rows(const struct pith_term *term, size_t tile, const float *const *x,
                            size_t begin, size_t end, uint32_t dtype, unsigned rows,
                            unsigned tokens, float *lane)
{
	const size_t stride = term->n * (dtype == PITH_DTYPE_F32 ? 4 : 2);
	const uint8_t *base = term->u.dense.values + tile * PITH_TILE_ROWS * stride;
	const size_t last = pith_tile_row_count(term, tile) - 1;
	for (size_t r = 0; r <= last; r += rows) {
		const uint8_t *w[4];
		for (unsigned i = 0; i < rows; i++)
			w[i] = base + (r + i < last ? r + i : last) * stride;
		dense_block(w, x, begin, end, dtype, rows, tokens, lane + r * PITH_LANES);
	}
}

/* A tile for 'count' tokens, x: [count] pointers; lane: [count rounded up][16][16], zeros on entry.
 */
LANE_INLINE void dense_tile(const struct pith_term *term, size_t tile, const float *const *x,
                            size_t count, uint32_t dtype, float *lane)
{
	if (count == 1) {
		dense_rows(term, tile, x, 0, term->n, dtype, DENSE_SINGLE_ROWS, 1, lane);
		return;
	}
	for (size_t begin = 0; begin < term->n; begin += DENSE_PIECE) {
		const size_t end = term->n - begin < DENSE_PIECE ? term->n : begin + DENSE_PIECE;
		for (size_t t = 0; t < count; t += DENSE_BATCH_TOKENS)
			dense_rows(term, tile, x + t, begin, end, dtype, DENSE_BATCH_ROWS,
			           DENSE_BATCH_TOKENS, lane + t * DENSE_ROW_LANES);
	}
}

typedef void dense_tile_fn(const struct pith_term *term, size_t tile, const float *const *x,
                           size_t count, float *lane);

/* Functions, not code in a macro: each line below is one instance of dense_tile. */
#define DENSE_INSTANCE(dtype)                                                                      \
	static void dense_tile_##dtype(const struct pith_term *term, size_t tile,                  \
	                               const float *const *x, size_t count, float *lane)           \
	{                                                                                          \
		dense_tile(term, tile, x, count, PITH_DTYPE_##dtype, lane);                        \
	}
DENSE_INSTANCE(F32)
DENSE_INSTANCE(F16)
DENSE_INSTANCE(BF16)

static dense_tile_fn *const dense_tiles[4] = {
    [PITH_DTYPE_F32] = dense_tile_F32,
    [PITH_DTYPE_F16] = dense_tile_F16,
    [PITH_DTYPE_BF16] = dense_tile_BF16,
};

/* Reduce the lanes of one token and write its tile. */
static void dense_finish(const struct pith_term *term, size_t tile, const float *lane, bool add,
                         float *y)
{
	float t[PITH_TILE_ROWS];
	for (size_t r = 0; r < PITH_TILE_ROWS; r++, lane += PITH_LANES) {
		vf sum[LANE_PARTS];
		for (size_t part = 0; part < LANE_PARTS; part++)
			sum[part] = vf_load(lane + part * LANE_WIDTH);
		t[r] = vf_tree(sum);
	}
	pith_tile_store(term, tile, t, add, y);
}

void LANE_NAME(pith_dense_apply)(const struct pith_term *term, const struct pith_act *act,
                                 size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	dense_tile_fn *fn = dense_tiles[term->u.dense.dtype];
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += DENSE_TOKENS) {
			const size_t left = act->k - token;
			const size_t count = left < DENSE_TOKENS ? left : DENSE_TOKENS;
			const size_t whole =
			    pith_round_up(count, count == 1 ? 1 : DENSE_BATCH_TOKENS);
			const float *x[DENSE_TOKENS];
			for (size_t i = 0; i < whole; i++)
				x[i] = act->x + (token + (i < count ? i : count - 1)) * act->ldx;
			float lane[DENSE_TOKENS * DENSE_ROW_LANES];
			memset(lane, 0, whole * DENSE_ROW_LANES * sizeof(float));
			fn(term, tile, x, count, lane);
			for (size_t i = 0; i < count; i++)
				dense_finish(term, tile, lane + i * DENSE_ROW_LANES, add,
				             y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
