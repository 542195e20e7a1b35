/*
 * The ternary kind: the row of the table of kinds.  Spec: spec/terms/ternary.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_TERNARY_H
#define PITH_FORMAT_TERM_TERNARY_H

#include "term.h"

#define PITH_TERNARY_LINE_NBYTES 64u
#define PITH_TERNARY_BYTE_TRITS 5u

pith_status pith_ternary_check(struct pith_term *t, struct pith_error *err);
pith_status pith_ternary_verify(const struct pith_term *t, struct pith_error *err);
void pith_ternary_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out);

#endif
