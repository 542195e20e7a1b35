/*
 * The kernels of the set with GFNI that are not those of the AVX-512 set; defined where the target has it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_SETS_GFNI_H
#define PITH_RUNTIME_SETS_GFNI_H

#include "sets_avx512.h"

pith_apply_fn pith_affine_apply_gfni;

#endif
