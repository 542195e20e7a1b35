/*
 * An archive in memory, to write into and to read from: zero-initialise, free data.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_ARCHIVE_MEMORY_H
#define PITH_TESTS_ARCHIVE_MEMORY_H

#include "pith_status.h"

#include <stddef.h>
#include <stdint.h>

struct archive_memory {
	uint8_t *data;
	size_t nbytes, cap;
	uint8_t *touched; /* [nbytes], when not NULL: 1 where the reader read */
};

/* A writer's sink and a reader's read_at; ctx: struct archive_memory.  No memory, or a read outside, aborts. */
pith_status archive_memory_put(void *ctx, const void *data, size_t nbytes, struct pith_error *err);
pith_status archive_memory_get(void *ctx, uint64_t off, void *data, size_t nbytes,
                               struct pith_error *err);

#endif
