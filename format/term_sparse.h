/*
 * The sparse kind: the row of the table of kinds.  Spec: spec/terms/sparse.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_SPARSE_H
#define PITH_FORMAT_TERM_SPARSE_H

#include "term.h"

pith_status pith_sparse_check(struct pith_term *t, struct pith_error *err);
pith_status pith_sparse_verify(const struct pith_term *t, struct pith_error *err);
bool pith_sparse_is_integer(const uint32_t *param);
void pith_sparse_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out);

#endif
