/*
 * The kernel sets and where each is defined.  A set is one constant table in
 * set_<isa>.c that reads as an inventory; a target that cannot have it returns NULL.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_SETS_H
#define PITH_RUNTIME_SETS_H

#include "kernels.h"

extern const struct pith_kernels pith_kernels_reference;

const struct pith_kernels *pith_set_avx2(void);
const struct pith_kernels *pith_set_avx512(void);
const struct pith_kernels *pith_set_gfni(void);
const struct pith_kernels *pith_set_neon(void);

#endif
