/*
 * The kind dense on vector lanes; agrees with kern_dense.c bit for bit.  Sixteen column
 * lanes per (row, token), reduced by the tree of spec/numerics.md 1.
 *
 * Parameters: a lanes_<isa>.h included before; DENSE_BATCH_ROWS x DENSE_BATCH_TOKENS
 * accumulators of sixteen lanes must fit the registers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"

#define DENSE_SINGLE_ROWS 4u /* rows side by side when there is one token */

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
 * dot16 of 'rows' x 'tokens' (both at most 4, constants): out[token * 16 + row].
 * w: [rows] pointers to rows of n values; x: [tokens] pointers to floats, zeros from n on.
 */
LANE_INLINE void dense_block(const uint8_t *const *w, const float *const *x, size_t n,
                             uint32_t dtype, unsigned rows, unsigned tokens, float *out)
{
	const size_t width = dtype == PITH_DTYPE_F32 ? 4 : 2;
	vf lane[4][4][LANE_PARTS];
	for (unsigned r = 0; r < rows; r++)
		for (unsigned t = 0; t < tokens; t++)
			for (size_t part = 0; part < LANE_PARTS; part++)
				lane[r][t][part] = vf_zero();
	size_t j = 0;
	for (; j + PITH_LANES <= n; j += PITH_LANES) {
		for (size_t part = 0; part < LANE_PARTS; part++) {
			const size_t at = j + part * LANE_WIDTH;
			vf v[4];
			for (unsigned t = 0; t < tokens; t++)
				v[t] = vf_load(x[t] + at);
			for (unsigned r = 0; r < rows; r++) {
				vf weight = dense_load(w[r] + at * width, dtype);
				for (unsigned t = 0; t < tokens; t++)
					lane[r][t][part] = vf_fma(weight, v[t], lane[r][t][part]);
			}
		}
	}
	for (size_t part = 0; part < LANE_PARTS && j + part * LANE_WIDTH < n; part++) {
		const size_t at = j + part * LANE_WIDTH;
		const size_t count = n - at < LANE_WIDTH ? n - at : LANE_WIDTH;
		for (unsigned r = 0; r < rows; r++) {
			vf weight = dense_load_part(w[r] + at * width, dtype, count);
			for (unsigned t = 0; t < tokens; t++)
				lane[r][t][part] =
				    vf_fma(weight, vf_load(x[t] + at), lane[r][t][part]);
		}
	}
	for (unsigned r = 0; r < rows; r++)
		for (unsigned t = 0; t < tokens; t++)
			out[t * PITH_TILE_ROWS + r] = vf_tree(lane[r][t]);
}

/* All rows of a tile for 'tokens' tokens from x on.  Rows beyond the last repeat it and are
 * dropped. */
LANE_INLINE void dense_tile(const struct pith_term *term, size_t tile, const float *const *x,
                            uint32_t dtype, unsigned rows, unsigned tokens, float *out)
{
	const size_t stride = term->n * (dtype == PITH_DTYPE_F32 ? 4 : 2);
	const uint8_t *base = term->u.dense.values + tile * PITH_TILE_ROWS * stride;
	const size_t last = pith_tile_row_count(term, tile) - 1;
	for (unsigned r = 0; r <= last; r += rows) {
		const uint8_t *w[4];
		for (unsigned i = 0; i < rows; i++)
			w[i] = base + (r + i < last ? r + i : last) * stride;
		dense_block(w, x, term->n, dtype, rows, tokens, out + r);
	}
}

typedef void dense_tile_fn(const struct pith_term *term, size_t tile, const float *const *x,
                           float *out);

#define DENSE_INSTANCE(dtype)                                                                      \
	static void dense_single_##dtype(const struct pith_term *term, size_t tile,                \
	                                 const float *const *x, float *out)                        \
	{                                                                                          \
		dense_tile(term, tile, x, PITH_DTYPE_##dtype, DENSE_SINGLE_ROWS, 1, out);          \
	}                                                                                          \
	static void dense_batch_##dtype(const struct pith_term *term, size_t tile,                 \
	                                const float *const *x, float *out)                         \
	{                                                                                          \
		dense_tile(term, tile, x, PITH_DTYPE_##dtype, DENSE_BATCH_ROWS,                    \
		           DENSE_BATCH_TOKENS, out);                                               \
	}
DENSE_INSTANCE(F32)
DENSE_INSTANCE(F16)
DENSE_INSTANCE(BF16)

/* [dtype][more than one token] */
static dense_tile_fn *const dense_tiles[4][2] = {
    [PITH_DTYPE_F32] = {dense_single_F32, dense_batch_F32},
    [PITH_DTYPE_F16] = {dense_single_F16, dense_batch_F16},
    [PITH_DTYPE_BF16] = {dense_single_BF16, dense_batch_BF16},
};

void LANE_NAME(pith_dense_apply)(const struct pith_term *term, const struct pith_act *act,
                                 size_t tile_begin, size_t tile_end, bool add, float *y, size_t ldy)
{
	dense_tile_fn *const *fn = dense_tiles[term->u.dense.dtype];
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		for (size_t token = 0; token < act->k; token += DENSE_BATCH_TOKENS) {
			size_t left = act->k - token;
			size_t count = left < DENSE_BATCH_TOKENS ? left : DENSE_BATCH_TOKENS;
			const float *x[DENSE_BATCH_TOKENS];
			for (size_t i = 0; i < DENSE_BATCH_TOKENS; i++)
				x[i] = act->x + (token + (i < count ? i : count - 1)) * act->ldx;
			float t[DENSE_BATCH_TOKENS * PITH_TILE_ROWS];
			fn[count > 1](term, tile, x, t);
			for (size_t i = 0; i < count; i++)
				pith_tile_store(term, tile, t + i * PITH_TILE_ROWS, add,
				                y + (token + i) * ldy + tile * PITH_TILE_ROWS);
		}
	}
}
