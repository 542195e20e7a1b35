/*
 * The NEON set (aarch64 with dot products).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"
#include "sets_neon.h"

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
static const struct pith_kernels kernels_neon = {
	.name = "neon",
	.apply[PITH_KIND_DENSE] = pith_dense_apply_neon,
	.apply[PITH_KIND_AFFINE] = pith_affine_apply_neon,
	.apply[PITH_KIND_CODEBOOK] = pith_codebook_apply_neon,
	.apply[PITH_KIND_TERNARY] = pith_ternary_apply_neon,
	.apply[PITH_KIND_SPARSE] = pith_sparse_apply_neon,
	.apply[PITH_KIND_COLUMNS] = pith_columns_apply_neon,
	.apply[PITH_KIND_LOWRANK] = pith_lowrank_apply_neon,
	.quantize = pith_quantize_neon,
	.quantize_row = pith_quantize_row_neon,
	.rmsnorm = pith_rmsnorm_neon,
	.silu_mul = pith_silu_mul_neon,
	.add = pith_add_neon,
	.rotate = pith_rotate_neon,
	.append[PITH_KV_F32] = pith_append_f32_neon,
	.append[PITH_KV_F16] = pith_append_f16_neon,
	.append[PITH_KV_I8] = pith_append_i8_neon,
	.attention[PITH_KV_F32] = pith_attention_f32_neon,
	.attention[PITH_KV_F16] = pith_attention_f16_neon,
	.attention[PITH_KV_I8] = pith_attention_i8_neon,
	.exp_array = pith_exp_array_neon,
};

const struct pith_kernels *pith_set_neon(void) { return &kernels_neon; }
#else
const struct pith_kernels *pith_set_neon(void) { return NULL; }
#endif
