/*
 * The kernels of the NEON set; defined where the target has it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_SETS_NEON_H
#define PITH_RUNTIME_SETS_NEON_H

#include "kernels.h"

pith_apply_fn pith_dense_apply_neon;
pith_apply_fn pith_affine_apply_neon;
pith_apply_fn pith_codebook_apply_neon;
pith_apply_fn pith_ternary_apply_neon;
pith_apply_fn pith_sparse_apply_neon;
pith_apply_fn pith_sparse_mask_apply_neon; /* forms 2 and 3, by pith_sparse_apply */
pith_apply_fn pith_columns_apply_neon;
pith_apply_fn pith_lowrank_apply_neon;

bool pith_quantize_neon(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);
bool pith_quantize_row_neon(const float *x, size_t n, float static_scale, int8_t *q, float *scale,
                            int32_t *sum);
void pith_rmsnorm_neon(const float *x, const float *w, float eps, size_t n, float *y);
void pith_silu_mul_neon(const float *g, const float *u, size_t n, float *h);
void pith_add_neon(float *x, const float *y, size_t n);
void pith_rotate_neon(float *x, size_t head_count, size_t d, const float *cosine,
                      const float *sine);
pith_append_fn pith_append_f32_neon, pith_append_f16_neon, pith_append_i8_neon;
pith_attention_fn pith_attention_f32_neon, pith_attention_f16_neon, pith_attention_i8_neon;
void pith_exp_array_neon(const float *x, size_t n, float *y);

#endif
