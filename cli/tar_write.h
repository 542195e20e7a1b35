/*
 * Members of an archive as a tar stream (pax), through libarchive.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_TAR_WRITE_H
#define PITH_CLI_TAR_WRITE_H

#include "cli_archive.h"

/*
 * The selected members to 'output' (NULL or "-": stdout).  A member that is damaged ends the stream: what is written
 * then has no end mark, and a file is removed.  Returns an exit code.
 */
int tar_write(struct cli *cli, struct cli_archive *a, const char *output, bool force);

#endif
