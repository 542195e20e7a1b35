/*
 * The lowrank kind: the row of the table of kinds.  Spec: spec/terms/lowrank.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_LOWRANK_H
#define PITH_FORMAT_TERM_LOWRANK_H

#include "term.h"

pith_status pith_lowrank_check(struct pith_term *t, struct pith_error *err);
pith_status pith_lowrank_verify(const struct pith_term *t, struct pith_error *err);
void pith_lowrank_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out);

#endif
