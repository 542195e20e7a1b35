/*
 * Helpers of the engine tests: temporary files, random numbers, models of any shape written
 * with the writer, and a forward pass in f64 that reads weights as rows and knows no kernel, no
 * batch, no cache: spec/models/llama.md in loops.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_ENGINE_SUPPORT_H
#define PITH_TESTS_ENGINE_SUPPORT_H

#include "kernels.h"
#include "pithrun.h"
#include "writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* Fail the test with the error's text. */
void require_ok(pith_status status, const struct pith_error *err);

/* TMPDIR/name; a static buffer of the caller: 512 bytes. */
const char *temporary(char path[512], const char *name);

/* Uniform in [-1, 1). */
double random_unit(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t n);

/* Mask that leaves kernel set number 'set' of pith_kernels_available() as the best one; out: 64 bytes. */
const char *mask_for_set(size_t set, char mask[64]);

/* ---- models of any shape ---- */

#define TOY_MAX_BLOCKS 6u

struct toy {
	size_t d, vocab;
	bool tied;
	double ratio, eps;
	size_t block_count;
	struct pith_block_entry block[TOY_MAX_BLOCKS];
	bool attention_const[TOY_MAX_BLOCKS], ffn_const[TOY_MAX_BLOCKS];
	/* false: dense f32; true: affine, sparse, columns, permutations, f16 and bf16 in turn */
	bool mixed;
	bool not_finite; /* the last norm is infinite */
	bool bad_canary; /* one weight's canary is wrong in one bit */
	unsigned kv_dtype; /* 0: f32 */
	const char *extra_key; /* a key that must be understood, or NULL */
	const char *leave_out; /* name of a weight that is not written, or NULL */
};
void toy_write(const struct toy *toy, const char *path);

/*
 * Logits of all positions in f64: out: [count, vocab].  The file's weights by
 * pith_weight_unpack_rows.
 */
void oracle_forward(const struct pith_file *file, const struct toy *toy, const uint32_t *tokens,
                    size_t count, double *out);

/* max |a - b| / max |b| */
double relative_difference(const float *a, const double *b, size_t count);

#endif
