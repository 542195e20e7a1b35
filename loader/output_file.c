/*
 * Buffered output under a temporary name; see output_file.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	/*
	 * Every write starts at a multiple of this and is as long, until the last: Linux then holds the file
	 * in pages of this size, and who maps it next takes fewer faults.
	 */
	BUFFER_NBYTES = 2 << 20,
	KEPT_NAME_NBYTES = 200, /* of the target's name, so that the temporary one fits 255 */
	NAME_TRIES = 100
};

struct pith_output {
	int fd;
	bool failed;
	uint64_t off;    /* of the next byte */
	size_t buffered; /* the last bytes before 'off' */
	char *path, *temporary;
	size_t folder_nbytes; /* of path, with the last slash; 0: the working folder */
	uint8_t *buffer;
};

pith_status pith_fail_errno(struct pith_error *err, uint64_t off, const char *what,
                            const char *path, int errnum)
{
	char text[100];
	if (strerror_r(errnum, text, sizeof(text)) != 0)
		snprintf(text, sizeof(text), "error %d", errnum);
	return pith_fail(err, PITH_E_IO, off, NULL, "cannot %s %.100s: %s", what, path, text);
}

int pith_write_at(int fd, const void *data, size_t nbytes, uint64_t off)
{
	const uint8_t *p = data;
	while (nbytes != 0) {
		/* Linux takes at most 2^31 - 4096 bytes at once; less is as fast */
		size_t piece = nbytes < 1u << 30 ? nbytes : 1u << 30;
		ssize_t done = pwrite(fd, p, piece, (off_t)off);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? errno : EIO;
		p += done;
		nbytes -= (size_t)done;
		off += (uint64_t)done;
	}
	return 0;
}

static void free_output(struct pith_output *o)
{
	if (o->fd >= 0)
		close(o->fd);
	free(o->path);
	free(o->temporary);
	free(o->buffer);
	free(o);
}

/* O_EXCL, so that two writers of one target never share a file. */
static int create_temporary(struct pith_output *o, size_t cap)
{
	const char *name = o->path + o->folder_nbytes;
	for (int try = 0; try < NAME_TRIES; try++) {
		int used = snprintf(o->temporary, cap, "%.*s.%.*s.tmp.%ld", (int)o->folder_nbytes,
		                    o->path, KEPT_NAME_NBYTES, name, (long)getpid());
		if (try > 0)
			snprintf(o->temporary + used, cap - (size_t)used, ".%d", try);
		o->fd = open(o->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (o->fd >= 0)
			return 0;
		if (errno != EEXIST)
			return errno;
	}
	return EEXIST;
}

pith_status pith_output_new(const char *path, struct pith_output **out, struct pith_error *err)
{
	struct stat st;
	*out = NULL;
	/* renaming to a folder would fail, but only after all the work; to a device it would take that away */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return pith_fail_errno(err, PITH_NO_OFF, "write", path, S_ISDIR(st.st_mode) ? EISDIR : EEXIST);
	size_t length = strlen(path), cap = length + 64;
	struct pith_output *o = calloc(1, sizeof(*o));
	if (o == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to write");
	o->fd = -1;
	o->path = malloc(length + 1);
	o->temporary = malloc(cap);
	o->buffer = malloc(BUFFER_NBYTES);
	if (o->path == NULL || o->temporary == NULL || o->buffer == NULL) {
		free_output(o);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to write");
	}
	memcpy(o->path, path, length + 1);
	const char *slash = strrchr(o->path, '/');
	o->folder_nbytes = slash != NULL ? (size_t)(slash - o->path) + 1 : 0;
	int errnum = create_temporary(o, cap);
	if (errnum != 0) {
		free_output(o);
		return pith_fail_errno(err, PITH_NO_OFF, "create", path, errnum);
	}
	*out = o;
	return PITH_OK;
}

static pith_status put(struct pith_output *o, const void *data, size_t nbytes, uint64_t off,
                       struct pith_error *err)
{
	int errnum = pith_write_at(o->fd, data, nbytes, off);
	if (errnum == 0)
		return PITH_OK;
	o->failed = true;
	return pith_fail_errno(err, off, "write", o->path, errnum);
}

static pith_status flush(struct pith_output *o, struct pith_error *err)
{
	if (o->failed)
		return pith_fail(err, PITH_E_IO, o->off, NULL, "an earlier write to %.100s failed",
		                 o->path);
	size_t nbytes = o->buffered;
	o->buffered = 0;
	return put(o, o->buffer, nbytes, o->off - nbytes, err);
}

pith_status pith_output_write(struct pith_output *o, const void *data, size_t nbytes,
                              struct pith_error *err)
{
	if (nbytes == 0)
		return PITH_OK;
	const uint8_t *p = data;
	while (nbytes != 0) {
		size_t piece = BUFFER_NBYTES - o->buffered;
		if (o->failed || piece == 0) {
			PITH_TRY(flush(o, err));
			continue;
		}
		if (o->buffered == 0 && nbytes >= BUFFER_NBYTES) {
			piece = nbytes / BUFFER_NBYTES * BUFFER_NBYTES;
			PITH_TRY(put(o, p, piece, o->off, err));
		} else {
			piece = piece < nbytes ? piece : nbytes;
			memcpy(o->buffer + o->buffered, p, piece);
			o->buffered += piece;
		}
		o->off += piece;
		p += piece;
		nbytes -= piece;
	}
	return PITH_OK;
}

pith_status pith_output_align(struct pith_output *o, size_t align, struct pith_error *err)
{
	static const uint8_t zeros[4096];
	size_t left = (size_t)((align - o->off % align) % align);
	while (left != 0) {
		size_t piece = left < sizeof(zeros) ? left : sizeof(zeros);
		PITH_TRY(pith_output_write(o, zeros, piece, err));
		left -= piece;
	}
	return PITH_OK;
}

uint64_t pith_output_off(const struct pith_output *o)
{
	return o->off;
}

const char *pith_output_temporary(const struct pith_output *o)
{
	return o->temporary;
}

pith_status pith_output_sync(struct pith_output *o, struct pith_error *err)
{
	PITH_TRY(flush(o, err));
	/* a file system without sync (EINVAL) has nothing to wait for */
	if (fsync(o->fd) != 0 && errno != EINVAL) {
		o->failed = true;
		return pith_fail_errno(err, PITH_NO_OFF, "sync", o->path, errno);
	}
	return PITH_OK;
}

pith_status pith_output_rewrite(struct pith_output *o, uint64_t off, const void *data,
                                size_t nbytes, struct pith_error *err)
{
	PITH_TRY(flush(o, err));
	return put(o, data, nbytes, off, err);
}

/* The name is durable once its folder is. */
static void sync_folder(struct pith_output *o)
{
	if (o->folder_nbytes != 0)
		o->path[o->folder_nbytes] = '\0';
	int fd = open(o->folder_nbytes != 0 ? o->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return; /* a folder that may be written but not read: the rename still holds */
	fsync(fd);
	close(fd);
}

pith_status pith_output_commit(struct pith_output *o, struct pith_error *err)
{
	pith_status status = flush(o, err);
	int fd = o->fd;
	o->fd = -1;
	if (close(fd) != 0 && status == PITH_OK)
		status = pith_fail_errno(err, PITH_NO_OFF, "close", o->path, errno);
	if (status == PITH_OK && rename(o->temporary, o->path) != 0)
		status = pith_fail_errno(err, PITH_NO_OFF, "rename to", o->path, errno);
	if (status != PITH_OK) {
		pith_output_abort(o);
		return status;
	}
	sync_folder(o);
	free_output(o);
	return PITH_OK;
}

void pith_output_abort(struct pith_output *o)
{
	if (o == NULL)
		return;
	unlink(o->temporary);
	free_output(o);
}
