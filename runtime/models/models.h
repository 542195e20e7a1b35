/*
 * The architectures this build has: one file model_<name>.c each.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_MODELS_H
#define PITH_RUNTIME_MODELS_H

#include "model.h"

extern const struct pith_architecture pith_architecture_llama;

#endif
