/*
 * Putting members of an archive into a folder, whatever an archive says.
 *
 * Every path, also that of a hard link's file, is walked from the folder's descriptor, component by component and
 * never through a symbolic link; a file grows under a temporary name and gets its own when its checksum
 * has matched; links come last, so nothing is written through them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_EXTRACT_H
#define PITH_CLI_EXTRACT_H

#include "cli_archive.h"

struct extract_options {
	const char *folder; /* made if it is missing */
	bool force;         /* replace what exists */
	bool any_links;     /* also links whose target leaves the folder */
	bool owner;         /* restore owners */
	bool damaged;       /* keep what is left of damaged files, as NAME.damaged with zeros for what is lost */
};

struct extract {
	struct cli *cli;
	const struct pith_archive *archive;
	struct extract_options options;
	int root;           /* descriptor of the folder */
	int parent;         /* of the file being written */
	int fd;             /* the file being written */
	char temporary[64]; /* its name in 'parent'; "" when there is none */
	char *full;         /* the same from the working directory, for clean-up */
	const char *failed_on;
	bool *dropped; /* [member_count]: not restored, so no hard link leads there */
	uint64_t files, refused_links, damaged;
};

/* Says what is wrong.  Close it in any case. */
int extract_open(struct extract *x, struct cli *cli, const struct pith_archive *archive,
                 const struct extract_options *options);
void extract_close(struct extract *x);

/* The callbacks of pith_archive_read(); ctx: struct extract. */
pith_status extract_begin(void *ctx, size_t member, struct pith_error *err);
pith_status extract_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err);
pith_status extract_end(void *ctx, size_t member, struct pith_error *err);
pith_status extract_lost(void *ctx, uint64_t nbytes, struct pith_error *err);
pith_status extract_damaged(void *ctx, size_t member, struct pith_error *err);

/* After all files: links, then modes and times of directories.  selected: NULL: all. */
pith_status extract_finish(struct extract *x, const bool *selected, struct pith_error *err);

/* Does a link with this target, 'depth' folders below the root, lead nowhere but into the folder? */
bool extract_target_is_inside(const char *target, size_t depth);

#endif
