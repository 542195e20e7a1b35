/*
 * The table of architectures.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "models.h"

const struct pith_architecture *const pith_architectures[] = {&pith_architecture_llama, NULL};
