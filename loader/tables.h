/*
 * The tables of one generation of a file as bytes in memory, whether mapped (file.c) or
 * about to be written (writer_finish.c), and the model identity computed from them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_TABLES_H
#define PITH_LOADER_TABLES_H

#include "format.h"

/* A table (count entries) or a blob (count 0); absent: data NULL, nbytes 0. */
struct pith_table {
	const uint8_t *data;
	uint64_t off; /* in the file */
	uint64_t nbytes, count;
};

struct pith_tables {
	struct pith_table wght, term, xfrm, plan, name, arch, blck, tokn, cnry, line, text;
	uint64_t tokn_xxh3; /* of the section with padding; 0 when absent */
};

/* Where entry i of a table of 'entry_nbytes' lies in memory and in the file. */
static inline const uint8_t *pith_table_at(const struct pith_table *t, uint32_t entry_nbytes,
                                           uint64_t i)
{
	return t->data + i * entry_nbytes;
}

static inline uint64_t pith_table_off(const struct pith_table *t, uint32_t entry_nbytes,
                                      uint64_t i)
{
	return t->off + i * entry_nbytes;
}

/*
 * spec/container.md section 9.  Every entry used is checked; indices may be hostile.
 * PITH_E_CORRUPT, PITH_E_UNSUPPORTED, PITH_E_MEMORY.
 */
pith_status pith_identity_compute(const struct pith_tables *tables, uint32_t numerics_version,
                                  uint8_t out[16], struct pith_error *err);

#endif
