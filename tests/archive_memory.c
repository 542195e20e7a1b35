/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_memory.h"

#include <stdlib.h>
#include <string.h>

pith_status archive_memory_put(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct archive_memory *b = ctx;
	(void)err;
	if (b->data == NULL || b->nbytes + nbytes > b->cap) {
		b->cap = 2 * (b->nbytes + nbytes) + 1;
		b->data = realloc(b->data, b->cap);
		if (b->data == NULL)
			abort();
	}
	if (nbytes > 0)
		memcpy(b->data + b->nbytes, data, nbytes);
	b->nbytes += nbytes;
	return PITH_OK;
}

pith_status archive_memory_get(void *ctx, uint64_t off, void *data, size_t nbytes,
                               struct pith_error *err)
{
	const struct archive_memory *b = ctx;
	(void)err;
	if (off > b->nbytes || nbytes > b->nbytes - off)
		abort(); /* the reader promised to stay inside */
	memcpy(data, b->data + off, nbytes);
	if (b->touched != NULL)
		memset(b->touched + off, 1, nbytes);
	return PITH_OK;
}
