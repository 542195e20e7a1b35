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

/* order: [n], the columns by falling diagonal of h: [n, n]; equal ones stay in order. */
void oracle_sort_by_diagonal(const float *h, size_t n, size_t *order);

#endif
