/*
 * The forms 2 and 3 of sparse terms, bitmasks: what term_sparse.c hands over to
 * term_sparse_mask.c.  Spec: spec/terms/sparse.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_SPARSE_MASK_H
#define PITH_FORMAT_TERM_SPARSE_MASK_H

#include "term.h"

enum pith_sparse_form {
	PITH_SPARSE_LISTS = 1,
	PITH_SPARSE_BITMASK = 2,
	PITH_SPARSE_PATTERN = 3 /* a bitmask with a fixed count */
};

pith_status pith_sparse_mask_check(struct pith_term *t, struct pith_error *err);
pith_status pith_sparse_mask_verify(const struct pith_term *t, struct pith_error *err);
void pith_sparse_mask_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out);

/* spec sparse.2, of forms 1 and 2: 'count' + 1 offsets in plane 'plane'. */
pith_status pith_sparse_check_offsets(const struct pith_term *t, uint32_t plane, size_t count,
                                      struct pith_error *err);

#endif
