/*
 * What the parts of full verification share: the faults found and who hashes which
 * plane.  verify.c runs it, verify_tables.c goes over tables, extents and gaps.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_VERIFY_H
#define PITH_LOADER_VERIFY_H

#include "file.h"

#include <pthread.h>

enum { PITH_KEPT_FAULTS = 64 };

/* The first faults in file order and the number of all; any thread may add. */
struct pith_fault_list {
	pthread_mutex_t lock;
	struct pith_error kept[PITH_KEPT_FAULTS];
	size_t kept_count, total;
};
void pith_fault_add(struct pith_fault_list *faults, const struct pith_error *fault);

#define PITH_NO_OWNER UINT32_MAX

struct pith_verify {
	const struct pith_file *file;
	struct pith_fault_list faults;
	/* [PLAN entries] number of the weight that uses the plane first, or PITH_NO_OWNER */
	uint32_t *owner;
	/* [PLAN entries] the extent must be hashed: valid, and the first entry to name it */
	bool *hashed;
	/* the other slot's generation, when it is valid and can be decoded */
	bool has_older;
	struct pith_header older;
	struct pith_directory_entry older_directory[PITH_MAX_DIRECTORY_COUNT];
};

/*
 * Note a fault of the file and go on (PITH_OK), or return a failure that is not the
 * file's (memory).
 */
pith_status pith_verify_note(struct pith_verify *v, pith_status status,
                             const struct pith_error *fault);

/* Both slots, what lies behind the file's end, the older generation's directory. */
pith_status pith_verify_slots(struct pith_verify *v, struct pith_error *err);
/* Every entry of every table; fills owner. */
pith_status pith_verify_tables(struct pith_verify *v, struct pith_error *err);
/* container.20: overlaps and gaps; fills hashed. */
pith_status pith_verify_extents(struct pith_verify *v, struct pith_error *err);
/* container.22: the model identity. */
pith_status pith_verify_identity(struct pith_verify *v, struct pith_error *err);

#endif
