/*
 * The codebook kind: the row of the table of kinds.  Spec: spec/terms/codebook.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_CODEBOOK_H
#define PITH_FORMAT_TERM_CODEBOOK_H

#include "term.h"

/* Values of scale_mode (param 2). */
enum { PITH_CODEBOOK_SCALE_F16 = 0, PITH_CODEBOOK_SCALE_TWO_LEVEL = 2, PITH_CODEBOOK_SCALE_NONE = 3 };

pith_status pith_codebook_check(struct pith_term *t, struct pith_error *err);
pith_status pith_codebook_verify(const struct pith_term *t, struct pith_error *err);
void pith_codebook_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out);
/* i8 entries make an integer term. */
bool pith_codebook_is_integer(const uint32_t *param);

#endif
