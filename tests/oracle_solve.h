/*
 * Small dense algebra in binary64 for tests that solve a problem a second time, by the plainest way there is.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_ORACLE_SOLVE_H
#define PITH_TESTS_ORACLE_SOLVE_H

#include <stddef.h>

/* a: [n, n], symmetric and positive definite, to its inverse in place, by Gauss and Jordan. */
void oracle_invert(double *a, size_t n);

#endif
