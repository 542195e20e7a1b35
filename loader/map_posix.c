/*
 * Mapping with POSIX mmap.  A shared read-only mapping: N processes use one page cache.
 * When another process cuts the file while it is mapped, reading beyond its new end
 * raises SIGBUS; pith.h says so.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "map.h"

#include "output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static pith_status map_descriptor(int fd, const char *path, const uint8_t **data, size_t *nbytes,
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
	*data = mapped;
	*nbytes = (size_t)st.st_size;
	return PITH_OK;
}

pith_status pith_map_open(const char *path, const uint8_t **data, size_t *nbytes,
                          struct pith_error *err)
{
	*data = NULL;
	*nbytes = 0;
	/* a FIFO must not make open() wait for its other end */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return pith_fail_errno(err, PITH_NO_OFF, "open", path, errno);
	pith_status status = map_descriptor(fd, path, data, nbytes, err);
	close(fd);
	return status;
}

void pith_map_close(const uint8_t *data, size_t nbytes)
{
	if (data != NULL)
		munmap((void *)(uintptr_t)data, nbytes);
}
