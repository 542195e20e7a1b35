/*
 * The AVX-512 set with GFNI: the kind affine has a kernel of its own.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"
#include "sets_gfni.h"

#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__GFNI__)
static const struct pith_kernels kernels_gfni = {
	.name = "gfni",
	.apply[PITH_KIND_DENSE] = pith_dense_apply_avx512,
	.apply[PITH_KIND_AFFINE] = pith_affine_apply_gfni,
	.apply[PITH_KIND_CODEBOOK] = pith_codebook_apply_avx512,
	.apply[PITH_KIND_TERNARY] = pith_ternary_apply_avx512,
	.apply[PITH_KIND_SPARSE] = pith_sparse_apply_avx512,
	.apply[PITH_KIND_COLUMNS] = pith_columns_apply_avx512,
	.apply[PITH_KIND_LOWRANK] = pith_lowrank_apply_avx512,
	.beside_end = pith_beside_end_avx512,
	.quantize = pith_quantize_avx512,
	.quantize_row = pith_quantize_row_avx512,
	.rmsnorm = pith_rmsnorm_avx512,
	.silu_mul = pith_silu_mul_avx512,
	.add = pith_add_avx512,
	.rotate = pith_rotate_avx512,
	.append[PITH_KV_F32] = pith_append_f32_avx512,
	.append[PITH_KV_F16] = pith_append_f16_avx512,
	.append[PITH_KV_I8] = pith_append_i8_avx512,
	.attention[PITH_KV_F32] = pith_attention_f32_avx512,
	.attention[PITH_KV_F16] = pith_attention_f16_avx512,
	.attention[PITH_KV_I8] = pith_attention_i8_avx512,
	.exp_array = pith_exp_array_avx512,
};

const struct pith_kernels *pith_set_gfni(void) { return &kernels_gfni; }
#else
const struct pith_kernels *pith_set_gfni(void) { return NULL; }
#endif
