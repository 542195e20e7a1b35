/*
 * Help texts and man pages, both made from a command's table entry: the one place
 * where a command is described.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "pith.h"

#include <stdlib.h>
#include <string.h>

/* Where the help of an option starts; longer names break the line. */
#define HELP_COLUMN 26

static void print_option(char letter, const char *name, const char *value, const char *help,
                         FILE *out)
{
	int used = letter != 0 ? fprintf(out, "  -%c, --%s", letter, name)
	                       : fprintf(out, "      --%s", name);
	if (value != NULL)
		used += fprintf(out, " %s", value);
	if (used > HELP_COLUMN - 2) {
		fputc('\n', out);
		used = 0;
	}
	for (;;) {
		size_t length = strcspn(help, "\n");
		fprintf(out, "%*s%.*s\n", HELP_COLUMN - used, "", (int)length, help);
		if (help[length] == '\0')
			break;
		help += length + 1;
		used = 0;
	}
}

/* Print 'text' line by line, each behind 'prefix'; the first one behind 'first'. */
static void print_lines(const char *first, const char *prefix, const char *text, FILE *out)
{
	while (*text != '\0') {
		size_t length = strcspn(text, "\n");
		fprintf(out, "%s%.*s\n", length > 0 ? first : "", (int)length, text);
		first = prefix;
		text += length + (text[length] == '\n');
	}
}

void cli_print_help(const struct cli_command *command, FILE *out)
{
	char first[48], prefix[48];
	fprintf(out, "pith %s: %s\n\n", command->name, command->summary);
	snprintf(first, sizeof(first), "usage: pith %s ", command->name);
	snprintf(prefix, sizeof(prefix), "       pith %s ", command->name);
	if (*command->synopsis != '\0')
		print_lines(first, prefix, command->synopsis, out);
	else
		fprintf(out, "usage: pith %s\n", command->name);
	fputc('\n', out);
	fputs(command->description, out);
	if (command->details != NULL)
		command->details(out);
	fputs("\noptions:\n", out);
	for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		print_option(o->letter, o->name, o->value, o->help, out);
	print_option('h', "help", NULL, "this text", out);
	fputs("\nexamples:\n", out);
	print_lines("  ", "  ", command->examples, out);
}

/* Text for roff: backslashes and leading dots and quotes have a meaning there. */
static void print_roff(const char *text, FILE *out)
{
	bool line_start = true;
	for (; *text != '\0'; text++) {
		if (line_start && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
		line_start = *text == '\n';
	}
	if (!line_start)
		fputc('\n', out);
}

static void print_roff_verbatim(const char *text, FILE *out)
{
	fputs(".nf\n", out);
	print_roff(text, out);
	fputs(".fi\n", out);
}

static void print_man_option(char letter, const char *name, const char *value, const char *help,
                             FILE *out)
{
	fputs(".TP\n", out);
	if (letter != 0)
		fprintf(out, "\\fB\\-%c\\fR, ", letter);
	fputs("\\fB\\-\\-", out);
	for (const char *p = name; *p != '\0'; p++)
		fputs(*p == '-' ? "\\-" : (char[2]){*p, '\0'}, out);
	fprintf(out, "\\fR%s%s\n", value != NULL ? " " : "", value != NULL ? value : "");
	print_roff(help, out);
}

static void print_man_footer(FILE *out)
{
	fputs(".SH EXIT STATUS\n", out);
	print_roff_verbatim("0 done\n"
	                    "1 failed (input/output, memory, a limit, interrupted)\n"
	                    "2 the command line is wrong\n"
	                    "3 an input is damaged\n"
	                    "4 unsupported, not ours, or a model that is missing\n",
	                    out);
	fputs(".SH ENVIRONMENT\n.TP\n.B PITH_CPU\n", out);
	print_roff("Instruction sets not to use, e.g. -avx512,-avx2.  Results do not change.\n", out);
}

static void print_man_details(const struct cli_command *command, FILE *out)
{
	char *text = NULL;
	size_t nbytes;
	FILE *memory = command->details != NULL ? open_memstream(&text, &nbytes) : NULL;
	if (memory == NULL)
		return;
	command->details(memory);
	if (fclose(memory) == 0)
		print_roff_verbatim(text, out);
	free(text);
}

static void print_man_of(const struct cli_command *command, FILE *out)
{
	fprintf(out, ".TH PITH-%s 1 \"\" \"pith %s\"\n.SH NAME\n", command->name, pith_version());
	fprintf(out, "pith-%s \\- ", command->name);
	print_roff(command->summary, out);
	fputs(".SH SYNOPSIS\n.nf\n", out);
	const char *line = command->synopsis;
	do {
		size_t length = strcspn(line, "\n");
		fprintf(out, ".B pith %s\n", command->name);
		char text[256];
		snprintf(text, sizeof(text), "%.*s", (int)length, line);
		if (length > 0)
			print_roff(text, out);
		line += length + (line[length] == '\n');
	} while (*line != '\0');
	fputs(".fi\n.SH DESCRIPTION\n", out);
	print_roff_verbatim(command->description, out);
	print_man_details(command, out);
	fputs(".SH OPTIONS\n", out);
	for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		print_man_option(o->letter, o->name, o->value, o->help, out);
	print_man_option('h', "help", NULL, "Print a help text.", out);
	fputs(".SH EXAMPLES\n", out);
	print_roff_verbatim(command->examples, out);
	print_man_footer(out);
}

void cli_print_man(const struct cli_command *command, FILE *out)
{
	if (command != NULL) {
		print_man_of(command, out);
		return;
	}
	fprintf(out, ".TH PITH 1 \"\" \"pith %s\"\n", pith_version());
	fputs(".SH NAME\npith \\- compressed language models: convert, run, archive text\n"
	      ".SH SYNOPSIS\n.B pith\n.I COMMAND ...\n.SH COMMANDS\n",
	      out);
	for (size_t i = 0; cli_commands[i] != NULL; i++) {
		fprintf(out, ".TP\n.BR pith-%s (1)\n", cli_commands[i]->name);
		print_roff(cli_commands[i]->summary, out);
	}
	print_man_footer(out);
}
