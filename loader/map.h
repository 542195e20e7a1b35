/*
 * Read-only mapping of a whole file; one implementation a system (map_posix.c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_MAP_H
#define PITH_LOADER_MAP_H

#include "bytes.h"

/* *data is NULL for an empty file.  PITH_E_IO. */
pith_status pith_map_open(const char *path, const uint8_t **data, size_t *nbytes,
                          struct pith_error *err);
void pith_map_close(const uint8_t *data, size_t nbytes);

#endif
