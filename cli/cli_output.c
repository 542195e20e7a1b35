/*
 * Files that commands write.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cli_output_open(struct cli *cli, const char *path, bool force, struct cli_output *out)
{
	struct stat st;
	*out = (struct cli_output){.path = path};
	if (strcmp(path, "-") == 0) {
		out->file = stdout;
		return CLI_OK;
	}
	/* what is renamed to a device's name takes the device away */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		cli_say(cli, "%s: exists and is no regular file; '-' is standard output", path);
		return CLI_FAILED;
	}
	if (!force && lstat(path, &st) == 0) {
		cli_say(cli, "%s: exists; --force replaces it", path);
		return CLI_FAILED;
	}
	int written = snprintf(out->temporary, sizeof(out->temporary), "%s.XXXXXX", path), fd = -1;
	errno = ENAMETOOLONG;
	if (written > 0 && (size_t)written < sizeof(out->temporary))
		fd = mkstemp(out->temporary);
	if (fd < 0) {
		out->temporary[0] = '\0';
		return cli_fail_errno(cli, path);
	}
	cli_cleanup_add(out->temporary);
	mode_t mask = umask(0);
	umask(mask);
	fchmod(fd, 0666 & ~mask);
	out->file = fdopen(fd, "wb");
	return out->file != NULL ? CLI_OK : cli_fail_errno(cli, path);
}

int cli_output_close(struct cli *cli, struct cli_output *out, int code)
{
	if (out->file != NULL && code == CLI_OK &&
	    (fflush(out->file) != 0 || (out->file != stdout && fsync(fileno(out->file)) != 0)))
		code = cli_fail_errno(cli, out->path);
	if (out->file != NULL && out->file != stdout && fclose(out->file) != 0 && code == CLI_OK)
		code = cli_fail_errno(cli, out->path);
	out->file = NULL;
	if (out->temporary[0] == '\0')
		return code;
	if (code == CLI_OK && rename(out->temporary, out->path) != 0)
		code = cli_fail_errno(cli, out->path);
	if (code != CLI_OK)
		unlink(out->temporary);
	cli_cleanup_remove(out->temporary);
	out->temporary[0] = '\0';
	return code;
}
