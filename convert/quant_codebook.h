/*
 * Fixed codebooks (NF4, and floats of 4, 6 and 8 bits) and what quantizes with them: one table for
 * all rows, a scale per row and group from the largest magnitude, every value the nearest entry.
 * Shared by nf4, fp4, fp6, fp8 and mofq.
 *
 * Spec: spec/terms/codebook.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_CODEBOOK_H
#define PITH_CONVERT_QUANT_CODEBOOK_H

#include "quant.h"

#define CODEBOOK_MAX_ENTRIES 256u

struct codebook_table {
	uint32_t bits;
	float largest;                     /* magnitude */
	float value[CODEBOOK_MAX_ENTRIES]; /* by code */
	/*
	 * rne(127 * value / largest).  Off by at most half a step of largest / 127: for NF4 and FP4 at most 0.4 % of a
	 * group's largest weight; small values of FP8 and of FP6 e3m2 fall together or to 0.
	 */
	int8_t small[CODEBOOK_MAX_ENTRIES];
};

void codebook_table_nf4(struct codebook_table *t);
/*
 * Sign, exponent and mantissa bits, in that order, as in the OCP Microscaling formats: e2m1 (4 bits), e2m3 and
 * e3m2 (6), e4m3 (8).  All codes are finite; the two NaNs of e4m3 stand for the largest value.
 */
void codebook_table_float(struct codebook_table *t, unsigned exponent_bits, unsigned mantissa_bits);

struct codebook_rule {
	const struct codebook_table *table;
	bool real;           /* f32 entries, exact; else i8 */
	bool two_level;      /* scales as 8-bit codes */
	uint32_t group_size; /* 0: row */
};

/* Append the term of the whole weight to *out and set its activation. */
pith_status quant_codebook(const struct codebook_rule *rule, const struct quant_job *job,
                           struct quant_result *out, struct pith_error *err);
/* scheme nbytes of such a term. */
bool quant_codebook_nbytes(const struct codebook_rule *rule, uint64_t m, uint64_t n, uint64_t *nbytes,
                           uint32_t *plane_count);
/* Sum of the planes of any codebook term, each rounded up to 64. */
uint64_t quant_codebook_padded(const struct pith_codebook_sizes *size);

#endif
