/*
 * The AVX2 set (avx2, fma, f16c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"
#include "sets_avx2.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
static const struct pith_kernels kernels_avx2 = {
	.name = "avx2",
	.apply[PITH_KIND_DENSE] = pith_dense_apply_avx2,
	.apply[PITH_KIND_AFFINE] = pith_affine_apply_avx2,
	.apply[PITH_KIND_CODEBOOK] = pith_codebook_apply_avx2,
	.apply[PITH_KIND_TERNARY] = pith_ternary_apply_avx2,
	.apply[PITH_KIND_SPARSE] = pith_sparse_apply_avx2,
	.apply[PITH_KIND_COLUMNS] = pith_columns_apply_avx2,
	.apply[PITH_KIND_LOWRANK] = pith_lowrank_apply_avx2,
	.quantize = pith_quantize_avx2,
	.quantize_row = pith_quantize_row_avx2,
	.rmsnorm = pith_rmsnorm_avx2,
	.silu_mul = pith_silu_mul_avx2,
	.add = pith_add_avx2,
	.rotate = pith_rotate_avx2,
	.append[PITH_KV_F32] = pith_append_f32_avx2,
	.append[PITH_KV_F16] = pith_append_f16_avx2,
	.append[PITH_KV_I8] = pith_append_i8_avx2,
	.attention[PITH_KV_F32] = pith_attention_f32_avx2,
	.attention[PITH_KV_F16] = pith_attention_f16_avx2,
	.attention[PITH_KV_I8] = pith_attention_i8_avx2,
	.exp_array = pith_exp_array_avx2,
};

const struct pith_kernels *pith_set_avx2(void) { return &kernels_avx2; }
#else
const struct pith_kernels *pith_set_avx2(void) { return NULL; }
#endif
