/*
 * The floating-point mode of a thread: rounding to nearest even, subnormals kept, nothing
 * trapped (spec/numerics.md).  A host may run with another one (flush-to-zero is common), so
 * whoever computes sets it on entry and restores it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_FPMODE_H
#define PITH_RUNTIME_FPMODE_H

#include <stdint.h>

/* Set the standard's mode; returns the old one for pith_fpmode_restore().  Nearly free when it is already set. */
uint64_t pith_fpmode_enter(void);
void pith_fpmode_restore(uint64_t old);

#endif
