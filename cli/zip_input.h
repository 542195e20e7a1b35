/*
 * What goes into an archive: trees of files (zip_tree.c), tar and zip archives (zip_tar.c) and standard input.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_ZIP_INPUT_H
#define PITH_CLI_ZIP_INPUT_H

#include "cli.h"
#include "text.h"

#include <sys/stat.h>

#define ZIP_MAX_PATH_NBYTES 4096u

struct zip_input {
	struct cli *cli;
	struct pith_archive_writer *writer;
	struct stat output;    /* of the archive, which would never end if it held itself */
	bool no_owner;         /* do not store owners */
	const char *failed_on; /* what an error is about */
	uint64_t left_out;     /* what cannot be stored or read: said, counted */
	uint64_t unreadable;   /* of these, what cannot be read */
};

/* Say that 'name' is not stored, and why. */
void zip_leave_out(struct zip_input *in, const char *name, const char *why);
/* The same for what the system refuses to read: errno says why. */
void zip_leave_unreadable(struct zip_input *in, const char *path);
/* The part of a path that stays inside a target: behind every leading '/', './' and '../'. */
const char *zip_inner_name(const char *path);
/* Remove '//', '/./' and '/' at the end, in place; '..' stays, and is refused behind a name. */
void zip_tidy_path(char *path);
/*
 * All of a descriptor as content of the member that was begun.  What cannot be read is an error, or, where 'unreadable' is
 * not NULL, stored there with errno as the system set it.
 */
pith_status zip_add_content(struct zip_input *in, int fd, const char *path, bool *unreadable, struct pith_error *err);

/* ---- trees ---- */

struct zip_item {
	char *path;       /* for the system */
	const char *name; /* in the archive: a part of 'path' */
	struct stat st;
	struct zip_item *first_link;   /* the first with the same inode; NULL: this is it */
	const struct zip_item *stored; /* of the first: the name whose content was stored; NULL: none yet */
};

struct zip_items {
	struct zip_item *item;
	size_t count, cap;
	uint64_t nbytes; /* of the files */
};
void zip_items_free(struct zip_items *items);
/* A path, which must be there, and what is in it, as far as it can be read. */
int zip_items_gather(struct zip_input *in, struct zip_items *items, const char *path);
/* Once, when all are gathered: sort, refuse equal names, find hard links. */
int zip_items_settle(struct zip_input *in, struct zip_items *items);
pith_status zip_items_add(struct zip_input *in, struct zip_items *items, struct pith_error *err);

/* ---- archives ---- */

/* Does the name say that it is a tar or zip archive? */
bool zip_is_tar_name(const char *path);
/* The members of a tar or zip archive, compressed or not; path NULL: stdin. */
pith_status zip_tar_add(struct zip_input *in, const char *path, uint64_t *members, struct pith_error *err);

#endif
