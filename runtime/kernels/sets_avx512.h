/*
 * The kernels of the AVX-512 set; defined where the target has it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_SETS_AVX512_H
#define PITH_RUNTIME_SETS_AVX512_H

#include "kernels.h"

pith_apply_fn pith_dense_apply_avx512;
pith_apply_fn pith_affine_apply_avx512;
pith_apply_fn pith_codebook_apply_avx512;
pith_apply_fn pith_ternary_apply_avx512;
pith_apply_fn pith_sparse_apply_avx512;
pith_apply_fn pith_sparse_mask_apply_avx512; /* forms 2 and 3, by pith_sparse_apply */
pith_apply_fn pith_columns_apply_avx512;
pith_apply_fn pith_lowrank_apply_avx512;

bool pith_quantize_avx512(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);
bool pith_quantize_row_avx512(const float *x, size_t n, float static_scale, int8_t *q, float *scale,
                             int32_t *sum);
void pith_rmsnorm_avx512(const float *x, const float *w, float eps, size_t n, float *y);
void pith_silu_mul_avx512(const float *g, const float *u, size_t n, float *h);
void pith_add_avx512(float *x, const float *y, size_t n);
void pith_rotate_avx512(float *x, size_t head_count, size_t d, const float *cosine,
                        const float *sine);
pith_append_fn pith_append_f32_avx512, pith_append_f16_avx512, pith_append_i8_avx512;
pith_attention_fn pith_attention_f32_avx512, pith_attention_f16_avx512, pith_attention_i8_avx512;
void pith_exp_array_avx512(const float *x, size_t n, float *y);

/* The rows of a set on AVX-512, whose kernel for the kind affine is its own. */
#define SET_AVX512_ROWS(affine) \
	.apply[PITH_KIND_DENSE] = pith_dense_apply_avx512, \
	.apply[PITH_KIND_AFFINE] = affine, \
	.apply[PITH_KIND_CODEBOOK] = pith_codebook_apply_avx512, \
	.apply[PITH_KIND_TERNARY] = pith_ternary_apply_avx512, \
	.apply[PITH_KIND_SPARSE] = pith_sparse_apply_avx512, \
	.apply[PITH_KIND_COLUMNS] = pith_columns_apply_avx512, \
	.apply[PITH_KIND_LOWRANK] = pith_lowrank_apply_avx512, \
	.quantize = pith_quantize_avx512, \
	.quantize_row = pith_quantize_row_avx512, \
	.rmsnorm = pith_rmsnorm_avx512, \
	.silu_mul = pith_silu_mul_avx512, \
	.add = pith_add_avx512, \
	.rotate = pith_rotate_avx512, \
	.append[PITH_KV_F32] = pith_append_f32_avx512, \
	.append[PITH_KV_F16] = pith_append_f16_avx512, \
	.append[PITH_KV_I8] = pith_append_i8_avx512, \
	.attention[PITH_KV_F32] = pith_attention_f32_avx512, \
	.attention[PITH_KV_F16] = pith_attention_f16_avx512, \
	.attention[PITH_KV_I8] = pith_attention_i8_avx512, \
	.exp_array = pith_exp_array_avx512

#endif
