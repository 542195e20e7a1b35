/*
 * Large memory from the system: zero pages, of which what is never used is never touched.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_MAP_PAGES_H
#define PITH_RUNTIME_MAP_PAGES_H

#include "bytes.h"

/*
 * NULL when there is no memory.  'huge': large pages where the system has them, for what is soon used all over; they
 * spare the processor most look-ups of addresses, but one byte used is a large page taken.
 */
void *pith_pages_new(size_t nbytes, bool huge);
/* NULL is accepted; nbytes as it was asked for. */
void pith_pages_free(void *pages, size_t nbytes);

#endif
