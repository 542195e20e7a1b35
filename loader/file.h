/*
 * An open file inside the library: the mapping, the header in use, the directory and
 * where the tables lie.  Everything but 'checked' is immutable after open.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_FILE_H
#define PITH_LOADER_FILE_H

#include "container.h"
#include "pith.h"
#include "tables.h"

#include <stdatomic.h>

struct pith_file {
	const uint8_t *data;
	size_t nbytes; /* real size; header.file_nbytes is at most this */
	bool mapped;   /* close unmaps */
	unsigned flags;
	unsigned slot; /* number of the slot in use */
	struct pith_header header;
	struct pith_directory_entry directory[PITH_MAX_DIRECTORY_COUNT]; /* header.directory_count */
	struct pith_tables tables;
	/* sections whose checksum was found right, so that it is computed once */
	atomic_bool *checked; /* [header.directory_count] */
};

/*
 * The directory that a header names: root, entries, order (container.8 to container.10).
 * directory: its bytes, header->directory_count entries.
 */
pith_status pith_directory_decode(const uint8_t *directory, const struct pith_header *header,
                                  struct pith_directory_entry *out, struct pith_error *err);

/* Number of section 'id' in the directory, or directory_count. */
size_t pith_file_section_index(const struct pith_file *file, uint32_t id);
/* container.11 for section number i: checksum and padding. */
pith_status pith_section_verify(const uint8_t *data, const struct pith_directory_entry *e,
                                struct pith_error *err);
/* The same, once a file, and not with PITH_OPEN_NO_VERIFY. */
pith_status pith_file_section_check(const struct pith_file *file, uint32_t id,
                                    struct pith_error *err);

/* weight.2 and weight.4 and what else one weight's entries must agree on. */
pith_status pith_weight_check_rules(const struct pith_weight *weight, struct pith_error *err);
/* Plane number 'i' of PLAN, decoded. */
pith_status pith_file_plane(const struct pith_file *file, uint64_t i, struct pith_plane_entry *out,
                            struct pith_error *err);
/* container.17: the entry, and that it stands behind the one before. */
pith_status pith_file_arch_entry(const struct pith_file *file, uint64_t i,
                                 struct pith_arch_entry *out, struct pith_error *err);
/* Order of WGHT: by hash, then by the bytes of the name, a prefix first. */
int pith_compare_names(uint64_t hash_a, const char *a, size_t a_nbytes, uint64_t hash_b,
                       const char *b, size_t b_nbytes);
/* PITH_E_CORRUPT, container.16, naming the weight, role and byte range. */
pith_status pith_plane_fail(const struct pith_weight *weight, const struct pith_plane_entry *plane,
                            struct pith_error *err);

#endif
