/*
 * Read-only mapping of a whole file; one implementation a system (map_posix.c).
 *
 * The few bytes that opening looks at are copied out by a read: touching the mapping
 * would cost page faults that map the pages around, and more of them in a larger file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_MAP_H
#define PITH_LOADER_MAP_H

#include "bytes.h"

struct pith_map {
	const uint8_t *data; /* NULL for an empty file */
	size_t nbytes;
	int handle; /* for pith_map_read(); negative: none, the bytes are memory */
};

/* PITH_E_IO; *map is closed with pith_map_close(). */
pith_status pith_map_open(const char *path, struct pith_map *map, struct pith_error *err);
/* Copy bytes that lie inside the map.  PITH_E_IO. */
pith_status pith_map_read(const struct pith_map *map, uint64_t off, size_t nbytes, uint8_t *out,
                          struct pith_error *err);
/* The handle is not needed any more; the mapping stays. */
void pith_map_release_handle(struct pith_map *map);
void pith_map_close(struct pith_map *map);

#endif
