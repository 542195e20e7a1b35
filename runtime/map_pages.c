/*
 * Anonymous mappings of POSIX systems.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */

#include "map_pages.h"

#include <sys/mman.h>

void *pith_pages_new(size_t nbytes, bool huge)
{
	void *pages = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return NULL;
#if defined(MADV_HUGEPAGE)
	if (huge)
		(void)madvise(pages, nbytes, MADV_HUGEPAGE); /* without them it is only slower */
#else
	(void)huge;
#endif
	return pages;
}

void pith_pages_free(void *pages, size_t nbytes)
{
	if (pages != NULL)
		munmap(pages, nbytes);
}
