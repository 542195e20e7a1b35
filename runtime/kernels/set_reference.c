/*
 * The reference set: every kernel in plain C.  A kind of term without a row here
 * cannot be run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kern_reference.h"
#include "sets.h"

const struct pith_kernels pith_kernels_reference = {
	.name = "reference",
	.apply[PITH_KIND_DENSE] = pith_dense_apply_reference,
	.apply[PITH_KIND_AFFINE] = pith_affine_apply_reference,
	.apply[PITH_KIND_CODEBOOK] = pith_codebook_apply_reference,
	.apply[PITH_KIND_TERNARY] = pith_ternary_apply_reference,
	.apply[PITH_KIND_SPARSE] = pith_sparse_apply_reference,
	.apply[PITH_KIND_COLUMNS] = pith_columns_apply_reference,
	.apply[PITH_KIND_LOWRANK] = pith_lowrank_apply_reference,
	.quantize = pith_quantize_reference,
	.quantize_row = pith_quantize_row_reference,
	.rmsnorm = pith_rmsnorm_reference,
	.silu_mul = pith_silu_mul_reference,
	.add = pith_add_reference,
	.rotate = pith_rotate_reference,
	.append[PITH_KV_F32] = pith_append_f32_reference,
	.append[PITH_KV_F16] = pith_append_f16_reference,
	.append[PITH_KV_I8] = pith_append_i8_reference,
	.attention[PITH_KV_F32] = pith_attention_f32_reference,
	.attention[PITH_KV_F16] = pith_attention_f16_reference,
	.attention[PITH_KV_I8] = pith_attention_i8_reference,
	.exp_array = pith_exp_array_reference,
};

void pith_set_reference(struct pith_kernels *out) { *out = pith_kernels_reference; }
