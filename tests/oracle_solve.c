/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "oracle_solve.h"

void oracle_invert(double *a, size_t n)
{
	for (size_t p = 0; p < n; p++) {
		double pivot = a[p * n + p];
		a[p * n + p] = 1;
		for (size_t j = 0; j < n; j++)
			a[p * n + j] /= pivot;
		for (size_t i = 0; i < n; i++) {
			double f = a[i * n + p];
			if (i == p)
				continue;
			a[i * n + p] = 0;
			for (size_t j = 0; j < n; j++)
				a[i * n + j] -= f * a[p * n + j];
		}
	}
}

void oracle_sort_by_diagonal(const float *h, size_t n, size_t *order)
{
	for (size_t j = 0; j < n; j++)
		order[j] = j;
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j > 0 && h[order[j] * (n + 1)] > h[order[j - 1] * (n + 1)]; j--) {
			size_t t = order[j];
			order[j] = order[j - 1];
			order[j - 1] = t;
		}
}
