/*
 * The loops of mix_sum.h in the shape that compilers turn into vectors; included once for each instruction set, no
 * parameters.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_sum.h"

static inline void sum_of(int32_t *const *rows, const int32_t *inputs, int32_t *dots, size_t sets, size_t count)
{
	for (size_t s = 0; s < sets; s++) {
		const int32_t *weights = rows[s];
		int32_t sum = 0;
		for (size_t i = 0; i < count; i++)
			sum += weights[i] * inputs[i] >> 8;
		dots[s] = sum >> 8;
	}
}

static inline void learn_of(int32_t *const *rows, const int32_t *inputs, const int32_t *errors, size_t sets,
                            size_t count)
{
	for (size_t s = 0; s < sets; s++) {
		int32_t *restrict weights = rows[s];
		int32_t error = errors[s];
		for (size_t i = 0; i < count; i++) {
			int32_t change = inputs[i] * error + (1 << (MIX_LEARN_SHIFT - 1));
			int32_t w = weights[i] + (change >> MIX_LEARN_SHIFT);
			w = w > MIX_WEIGHT_MAX ? MIX_WEIGHT_MAX : w;
			weights[i] = w < -MIX_WEIGHT_MAX ? -MIX_WEIGHT_MAX : w;
		}
	}
}

/* The counts are known to the compiler, which then needs no loops for what is left over. */
static void sum_few(int32_t *const *rows, const int32_t *inputs, int32_t *dots)
{
	sum_of(rows, inputs, dots, 5, 40);
}
static void learn_few(int32_t *const *rows, const int32_t *inputs, const int32_t *errors)
{
	learn_of(rows, inputs, errors, 5, 40);
}
static void sum_all(int32_t *const *rows, const int32_t *inputs, int32_t *dots)
{
	sum_of(rows, inputs, dots, 7, 48);
}
static void learn_all(int32_t *const *rows, const int32_t *inputs, const int32_t *errors)
{
	learn_of(rows, inputs, errors, 7, 48);
}

#define MIX_LOOPS {{40, 5, sum_few, learn_few}, {48, 7, sum_all, learn_all}}
