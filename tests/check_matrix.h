/*
 * The matrix of equality: every kind with all its parameters x odd shapes x batches of 1 .. 33 tokens
 * x teams of 1 .. 4 threads; each set of kernels against the reference, bit for bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_CHECK_MATRIX_H
#define PITH_TESTS_CHECK_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct matrix_result {
	size_t cells;        /* terms: a kind with parameters and a shape */
	size_t applications; /* of sets other than the reference to some tokens */
	uint64_t hash;       /* of the reference's outputs: the same for every compiler and machine */
	char failure[320];   /* what differs; empty: nothing */
};

/* How much to do of the matrix. */
enum matrix_extent {
	MATRIX_SAMPLE,   /* some cells, some batches, a team each */
	MATRIX_ONE_TEAM, /* all cells and batches, a team each: for emulators */
	MATRIX_WHOLE
};
/* 'seed' seeds the contents of the terms, and chooses the 'count' cells of a sample. */
void matrix_check(enum matrix_extent extent, uint64_t seed, size_t count, struct matrix_result *out);

#endif
