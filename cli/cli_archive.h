/*
 * What unzip, list and cat share: opening an archive by name, choosing members, and
 * the model that their segments need.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_ARCHIVE_H
#define PITH_CLI_ARCHIVE_H

#include "cli.h"
#include "cli_model.h"
#include "text.h"

struct cli_archive {
	const char *path;
	int fd;
	struct pith_archive *archive;
	struct pith_archive_info info;
	bool *selected; /* [member_count]; NULL: all */
	/* cli_archive_need_model(): */
	struct cli_model model;
	struct pith_text_coder *coder;
	struct pith_team *team;
};

/*
 * Open 'path' ("-": stdin, copied to a temporary file first when it cannot seek).  Says what is wrong and returns
 * an exit code, or CLI_OK.  Close it in both cases.
 */
int cli_archive_open(struct cli *cli, const char *path, struct cli_archive *out);
void cli_archive_close(struct cli_archive *a);

/* Select members by name; a directory selects what is in it.  count 0: all. */
int cli_archive_select(struct cli *cli, struct cli_archive *a, char **names, size_t count);

/* Open model (NULL: the embedded one) and team, if what is selected needs them. */
int cli_archive_need_model(struct cli *cli, struct cli_archive *a, const char *model,
                           uint64_t threads, bool no_verify);

/* A name fit for a terminal: control bytes and what is not UTF-8 as \xHH.  Freed with free(). */
char *cli_printable(const char *name);

#endif
