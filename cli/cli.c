/*
 * The pith command: the table of commands, 'pith help', 'pith --version' and the
 * way out (exit codes, errors of stdout).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_options.h"

#include "pith.h"
#include "pithrun.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table: one row a command ---- */

#define CLI_COMMANDS(X) \
	X(convert)      \
	X(info)         \
	X(verify)       \
	X(log)          \
	X(diff)         \
	X(export)       \
	X(eval)         \
	X(run)          \
	X(bench)        \
	X(zip)          \
	X(unzip)        \
	X(test)         \
	X(list)         \
	X(cat)          \
	X(version)      \
	X(help)

#define DECLARE(name) extern const struct cli_command cmd_##name;
#define ROW(name) &cmd_##name,
CLI_COMMANDS(DECLARE)
const struct cli_command *const cli_commands[] = {CLI_COMMANDS(ROW) NULL};

static const struct cli_command *find_command(const char *name)
{
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	return NULL;
}

/* A full disk or a closed pipe behind stdout is a failure, not success with less output. */
static int close_stdout(int code)
{
	bool failed = ferror(stdout) != 0;
	errno = 0;
	if (fclose(stdout) != 0)
		failed = true;
	if (!failed)
		return code;
	fprintf(stderr, "pith: standard output: %s\n", errno != 0 ? strerror(errno) : "write error");
	return code != CLI_OK ? code : CLI_FAILED;
}

static int run_command(const struct cli_command *command, int argc, char **argv)
{
	struct cli cli = {.command = command};
	void *options = calloc(1, command->options_nbytes + 1);
	if (options == NULL)
		return cli_fail_errno(&cli, "memory");
	int code = cli_parse(&cli, command, argc, argv, options);
	if (code < 0)
		code = command->run(&cli, options);
	cli_parse_free(&cli, options);
	free(options);
	return code;
}

static int refuse_command(const char *name)
{
	struct cli cli = {0};
	const char *best = NULL;
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		best = cli_nearest(name, cli_commands[i]->name, best);
	if (best != NULL)
		return cli_usage(&cli, "no command '%s'; did you mean %s?", name, best);
	return cli_usage(&cli, "no command '%s'", name);
}

int main(int argc, char **argv)
{
	cli_signals_install();
	if (argc < 2) {
		fprintf(stderr, "usage: pith COMMAND ...; 'pith help' lists the commands\n");
		return CLI_USAGE;
	}
	const struct cli_command *command = find_command(argv[1]);
	if (command == NULL)
		return refuse_command(argv[1]);
	struct pith_error err;
	if (pith_kernels_check(NULL, &err) != PITH_OK) {
		struct cli cli = {.command = command};
		return cli_fail(&cli, "PITH_CPU", &err);
	}
	return close_stdout(run_command(command, argc - 1, argv + 1));
}
