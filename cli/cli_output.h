/*
 * A file that a command writes: under a temporary name beside its own, which it gets when it is complete, or
 * standard output.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_OUTPUT_H
#define PITH_CLI_OUTPUT_H

#include "cli.h"

struct cli_output {
	const char *path;
	FILE *file;
	char temporary[4096]; /* "" when there is none */
};
/*
 * 'path' "-": stdout.  Without 'force' a file that exists is kept, a folder or device always.  Says what is wrong;
 * close it in any case.
 */
int cli_output_open(struct cli *cli, const char *path, bool force, struct cli_output *out);
/* On the disk, then under its name; or removed, when 'code' is not CLI_OK.  Returns the code to exit with. */
int cli_output_close(struct cli *cli, struct cli_output *out, int code);

#endif
