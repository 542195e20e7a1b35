/*
 * SPDX-License-Identifier: Apache-2.0
 */
#define _XOPEN_SOURCE 700 /* mkstemp */

#include "calibrate_stream.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static pith_status fail_file(const char *what, struct pith_error *err)
{
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s the file of activations: %s", what,
	                 strerror(errno));
}

/* Room is reserved, so that a full disk is an error here and no signal later. */
static pith_status map_file(int fd, struct calibration_stream *s, struct pith_error *err)
{
	int code = posix_fallocate(fd, 0, (off_t)s->nbytes);
	if (code != 0) {
		errno = code;
		return fail_file("no room for", err);
	}
	void *p = mmap(NULL, s->nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return fail_file("cannot map", err);
	s->data = p;
	s->mapped = true;
	return PITH_OK;
}

static pith_status make_file(const char *target, struct calibration_stream *s,
                             struct pith_error *err)
{
	static const char suffix[] = ".activations-XXXXXX";
	size_t nbytes = strlen(target);
	char *path = malloc(nbytes + sizeof(suffix));
	if (!path)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a name");
	memcpy(path, target, nbytes);
	memcpy(path + nbytes, suffix, sizeof(suffix));
	int fd = mkstemp(path);
	if (fd >= 0)
		unlink(path);
	free(path);
	if (fd < 0)
		return fail_file("cannot make", err);
	pith_status status = map_file(fd, s, err);
	close(fd);
	return status;
}

pith_status calibration_stream_new(size_t rows, size_t n, uint64_t limit, const char *target,
                                   struct calibration_stream *out, struct pith_error *err)
{
	*out = (struct calibration_stream){.data = NULL};
	if (!pith_mul_size(rows, n, &out->nbytes) || !pith_mul_size(out->nbytes, 4, &out->nbytes))
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "too many calibration tokens");
	if (out->nbytes > limit && target)
		return make_file(target, out, err);
	out->data = malloc(out->nbytes);
	if (!out->data)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for activations (%zu bytes); --memory puts them on disk",
		                 out->nbytes);
	return PITH_OK;
}

void calibration_stream_free(struct calibration_stream *s)
{
	if (s->mapped)
		munmap(s->data, s->nbytes);
	else
		free(s->data);
	memset(s, 0, sizeof(*s));
}
