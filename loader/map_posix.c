/*
 * Mapping with POSIX mmap.  A shared read-only mapping: N processes use one page cache.
 * When another process cuts the file while it is mapped, reading beyond its new end
 * raises SIGBUS; pith.h says so.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE /* madvise */
#endif

#include "map.h"

#include "output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static pith_status map_descriptor(int fd, const char *path, struct pith_map *map,
                                  struct pith_error *err)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return pith_fail_errno(err, PITH_NO_OFF, "read", path, errno);
	if (S_ISDIR(st.st_mode))
		return pith_fail_errno(err, PITH_NO_OFF, "map", path, EISDIR);
	if (!S_ISREG(st.st_mode))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL,
		                 "cannot map %.100s: not a regular file", path);
	if ((uint64_t)st.st_size > SIZE_MAX)
		return pith_fail_errno(err, PITH_NO_OFF, "map", path, EFBIG);
	if (st.st_size == 0)
		return PITH_OK;
	void *mapped = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return pith_fail_errno(err, PITH_NO_OFF, "map", path, errno);
#if defined(MADV_HUGEPAGE)
	/* a file that is not in the page cache is then read in pages of 2 MiB */
	madvise(mapped, (size_t)st.st_size, MADV_HUGEPAGE);
#endif
	map->data = mapped;
	map->nbytes = (size_t)st.st_size;
	return PITH_OK;
}

pith_status pith_map_open(const char *path, struct pith_map *map, struct pith_error *err)
{
	*map = (struct pith_map){ .handle = -1 };
	/* a FIFO must not make open() wait for its other end */
	map->handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (map->handle < 0)
		return pith_fail_errno(err, PITH_NO_OFF, "open", path, errno);
	pith_status status = map_descriptor(map->handle, path, map, err);
	if (status != PITH_OK)
		pith_map_close(map);
	return status;
}

pith_status pith_map_read(const struct pith_map *map, uint64_t off, size_t nbytes, uint8_t *out,
                          struct pith_error *err)
{
	if (map->handle < 0 && nbytes != 0)
		memcpy(out, map->data + off, nbytes);
	if (map->handle < 0)
		return PITH_OK;
	while (nbytes != 0) {
		ssize_t done = pread(map->handle, out, nbytes, (off_t)off);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return pith_fail_errno(err, off, "read", "the file", done < 0 ? errno : EIO);
		out += done;
		off += (uint64_t)done;
		nbytes -= (size_t)done;
	}
	return PITH_OK;
}

void pith_map_release_handle(struct pith_map *map)
{
	if (map->handle >= 0)
		close(map->handle);
	map->handle = -1;
}

void pith_map_close(struct pith_map *map)
{
	pith_map_release_handle(map);
	if (map->data != NULL)
		munmap((void *)(uintptr_t)map->data, map->nbytes);
	map->data = NULL;
}
