/*
 * The reference kernels: plain C that says what spec/numerics.md means, never
 * optimised.  Every other set agrees with them bit for bit.  Also the pieces of the
 * numerics that more than one of them needs.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_KERN_REFERENCE_H
#define PITH_RUNTIME_KERN_REFERENCE_H

#include "kernels.h"

#define PITH_LANES 16u /* spec/numerics.md 1 */

pith_apply_fn pith_dense_apply_reference;
pith_apply_fn pith_affine_apply_reference;
pith_apply_fn pith_codebook_apply_reference;
pith_apply_fn pith_ternary_apply_reference;
pith_apply_fn pith_sparse_apply_reference;
pith_apply_fn pith_sparse_mask_apply_reference; /* forms 2 and 3, by pith_sparse_apply */
pith_apply_fn pith_columns_apply_reference;
pith_apply_fn pith_lowrank_apply_reference;

bool pith_quantize_reference(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);
bool pith_quantize_row_reference(const float *x, size_t n, float static_scale, int8_t *q,
                                 float *scale, int32_t *sum);
void pith_rmsnorm_reference(const float *x, const float *w, float eps, size_t n, float *y);
void pith_silu_mul_reference(const float *g, const float *u, size_t n, float *h);
void pith_add_reference(float *x, const float *y, size_t n);
void pith_rotate_reference(float *x, size_t head_count, size_t d, const float *cosine,
                           const float *sine);
pith_append_fn pith_append_f32_reference, pith_append_f16_reference, pith_append_i8_reference;
pith_attention_fn pith_attention_f32_reference, pith_attention_f16_reference, pith_attention_i8_reference;
void pith_exp_array_reference(const float *x, size_t n, float *y);

/* The code of 'row' and 'column' of a block of the layout slice16. */
int pith_slice16_code_reference(const uint8_t *block, unsigned bits, size_t row, size_t column);

/* exp of spec/numerics.md 5. */
float pith_exp_reference(float x);

/* The tree that ends every sum over sixteen lanes. */
static inline float pith_lane_tree(const float lane[PITH_LANES])
{
	// spec numerics.1: "`a[i] = L[i] + L[i+8]` (i < 8), `b[i] = a[i] + a[i+4]`, `c[i] = b[i] +
	// b[i+2]`, result `c[0] + c[1]`"
	float a[8], b[4], c[2];
	for (size_t i = 0; i < 8; i++)
		a[i] = lane[i] + lane[i + 8];
	for (size_t i = 0; i < 4; i++)
		b[i] = a[i] + a[i + 4];
	for (size_t i = 0; i < 2; i++)
		c[i] = b[i] + b[i + 2];
	return c[0] + c[1];
}

/* Rows of tile 'tile' that exist: 16, or fewer in the last one. */
static inline size_t pith_tile_row_count(const struct pith_term *term, size_t tile)
{
	size_t left = term->m - tile * PITH_TILE_ROWS;
	return left < PITH_TILE_ROWS ? left : PITH_TILE_ROWS;
}

/*
 * Write one token's results t: [16] of a tile to y: [16].  Rows from m on count as +0, so that
 * padding never depends on what a file holds there.
 */
static inline void pith_tile_store(const struct pith_term *term, size_t tile,
                                   const float t[PITH_TILE_ROWS], bool add, float *y)
{
	size_t rows = pith_tile_row_count(term, tile);
	if (rows == PITH_TILE_ROWS && !add) { /* most tiles; compilers would test every row */
		memcpy(y, t, PITH_TILE_ROWS * sizeof(*y));
		return;
	}
	for (size_t r = 0; r < PITH_TILE_ROWS; r++) {
		float v = r < rows ? t[r] : 0.0f;
		y[r] = add ? y[r] + v : v;
	}
}

#endif
