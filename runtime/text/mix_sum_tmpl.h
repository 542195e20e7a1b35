/*
 * The loops of mix_sum.h in the shape that compilers turn into vectors; included once for each instruction set, no
 * parameters.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_sum.h"

static void sum_rows(int32_t *const *rows, const int32_t *inputs, int32_t *dots)
{
	for (size_t s = 0; s < MIX_SETS; s++) {
		const int32_t *weights = rows[s];
		int32_t sum = 0;
		for (size_t i = 0; i < MIX_INPUTS; i++)
			sum += weights[i] * inputs[i] >> 8;
		dots[s] = sum >> 8;
	}
}

static void learn_rows(int32_t *const *rows, const int32_t *inputs, const int32_t *errors)
{
	for (size_t s = 0; s < MIX_SETS; s++) {
		int32_t *restrict weights = rows[s];
		int32_t error = errors[s];
		for (size_t i = 0; i < MIX_INPUTS; i++) {
			int32_t change = inputs[i] * error + (1 << (MIX_LEARN_SHIFT - 1));
			int32_t w = weights[i] + (change >> MIX_LEARN_SHIFT);
			w = w > MIX_WEIGHT_MAX ? MIX_WEIGHT_MAX : w;
			weights[i] = w < -MIX_WEIGHT_MAX ? -MIX_WEIGHT_MAX : w;
		}
	}
}
