/*
 * pith help: the list of commands, the help of one, and its man page.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_options.h"

#include <string.h>

struct help_options {
	bool man;
};

static const struct cli_option help_table[] = {
    {"man", 0, CLI_FLAG, offsetof(struct help_options, man), NULL,
     "print a man page (roff) instead"},
    {0},
};

static void list_commands(void)
{
	puts("pith: compressed language models: convert, run, archive text\n\n"
	     "usage: pith COMMAND ...\n\ncommands:");
	for (size_t i = 0; cli_commands[i] != NULL; i++)
		printf("  %-9s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	puts("\n'pith COMMAND --help' tells more about one.\n"
	     "Exit codes: 0 done; 1 failed; 2 usage; 3 damaged input; 4 unsupported or missing.");
}

static int help_run(struct cli *cli, const void *options)
{
	const struct help_options *o = options;
	const struct cli_command *found = NULL;
	const char *best = NULL;
	if (cli->operand_count == 0) {
		if (o->man)
			cli_print_man(NULL, stdout);
		else
			list_commands();
		return CLI_OK;
	}
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		if (strcmp(cli_commands[i]->name, cli->operand[0]) == 0)
			found = cli_commands[i];
		best = cli_nearest(cli->operand[0], cli_commands[i]->name, best);
	}
	if (found == NULL && best != NULL)
		return cli_usage(cli, "no command '%s'; did you mean %s?", cli->operand[0], best);
	if (found == NULL)
		return cli_usage(cli, "no command '%s'", cli->operand[0]);
	if (o->man)
		cli_print_man(found, stdout);
	else
		cli_print_help(found, stdout);
	return CLI_OK;
}

const struct cli_command cmd_help = {
    .name = "help",
    .summary = "list the commands, or explain one",
    .synopsis = "[--man] [COMMAND]",
    .description = "Prints the list of commands, or what 'pith COMMAND --help' prints.\n",
    .examples = "pith help\npith help convert\npith help --man verify | man -l -",
    .options = help_table,
    .options_nbytes = sizeof(struct help_options),
    .max_operands = 1,
    .run = help_run,
};
