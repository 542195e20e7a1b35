/*
 * The layout slice16: codes of 1..8 bits of a block of 16 rows by 32 columns in 'bits'
 * lines of 64 bytes, drawn in spec/terms/affine.md ("Codes").  One row at a time: simple, not fast.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_SLICE16_H
#define PITH_FORMAT_SLICE16_H

#include "term.h"

#define PITH_SLICE16_COLUMNS 32u
#define PITH_SLICE16_LINE_NBYTES 64u

/* Codes of 'row' (0..15) of a block. */
void pith_slice16_row_decode(const uint8_t *block, unsigned bits, unsigned row,
                             uint8_t code[PITH_SLICE16_COLUMNS]);
/* Into a block whose bits of that row are 0; codes below 2^bits. */
void pith_slice16_row_encode(uint8_t *block, unsigned bits, unsigned row,
                             const uint8_t code[PITH_SLICE16_COLUMNS]);

/* The whole matrix: codes [m, n] -> plane.  PITH_E_ARGUMENT with 'rule' for a code of 2^bits or more. */
pith_status pith_slice16_pack(const uint8_t *codes, size_t m, size_t n, uint32_t bits, uint8_t *plane,
                              const char *rule, struct pith_error *err);
/* PITH_E_CORRUPT with 'rule' for a code of the term's first plane outside of the matrix that is not 0. */
pith_status pith_slice16_verify(const struct pith_term *t, uint32_t bits, const char *rule,
                                struct pith_error *err);

#endif
