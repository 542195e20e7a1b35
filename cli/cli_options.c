/*
 * Option parsing: long and short options, typed values, operands.  Options and operands
 * may be mixed; "--" ends the options; "-" is an operand.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 32u

/* Edits (insert, delete, replace) from a to b; MAX_NAME when one is too long to compare. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	size_t row[MAX_NAME + 1];
	if (na > MAX_NAME || nb > MAX_NAME)
		return MAX_NAME;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

const char *cli_nearest(const char *word, const char *candidate, const char *best)
{
	size_t limit = 1 + strlen(word) / 3;
	size_t distance = edit_distance(word, candidate);
	if (strncmp(word, candidate, strlen(word)) == 0 && strlen(word) >= 2)
		distance = 0;
	if (distance > limit || (best != NULL && edit_distance(word, best) <= distance))
		return best;
	return candidate;
}

bool cli_parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMGT";
	*out = 0;
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	char *end;
	uint64_t value = strtoull(text, &end, 10);
	if (errno != 0)
		return false;
	const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
	if (unit != NULL) {
		bool decimal = strcmp(end + 1, "B") == 0;
		if (end[1] != '\0' && !decimal && strcmp(end + 1, "iB") != 0)
			return false;
		for (const char *u = units; u <= unit; u++) {
			uint64_t factor = decimal ? 1000 : 1024;
			if (value > UINT64_MAX / factor)
				return false;
			value *= factor;
		}
	} else if (*end != '\0' && strcmp(end, "B") != 0) {
		return false;
	}
	*out = value;
	return true;
}

static bool append_item(struct cli_list *list, const char *value)
{
	const char **item = realloc(list->item, (list->count + 1) * sizeof(*item));
	if (item == NULL)
		return false;
	item[list->count++] = value;
	list->item = item;
	return true;
}

/* Store 'value' (NULL for a flag) into the option's field; -1, or an exit code. */
static int store_value(const struct cli *cli, const struct cli_option *o, const char *value,
                       void *options)
{
	char *field = (char *)options + o->field;
	char *end = NULL;
	errno = 0;
	switch (o->type) {
	case CLI_FLAG:
		*(bool *)(void *)field = true;
		return -1;
	case CLI_STRING:
		*(const char **)(void *)field = value;
		return -1;
	case CLI_LIST:
		return append_item((struct cli_list *)(void *)field, value)
		           ? -1
		           : cli_fail_errno(cli, "memory");
	case CLI_COUNT: {
		uint64_t count = strtoull(value, &end, 10);
		if (errno != 0 || *value < '0' || *value > '9' || *end != '\0')
			return cli_usage(cli, "--%s takes a whole number, not '%s'", o->name, value);
		*(uint64_t *)(void *)field = count;
		return -1;
	}
	case CLI_SIZE:
		if (!cli_parse_size(value, (uint64_t *)(void *)field))
			return cli_usage(cli, "--%s takes a size such as 64K, 1MiB or 3GB, not '%s'",
			                 o->name, value);
		return -1;
	case CLI_NUMBER: {
		double number = strtod(value, &end);
		if (errno != 0 || end == value || *end != '\0' || number != number)
			return cli_usage(cli, "--%s takes a number, not '%s'", o->name, value);
		*(double *)(void *)field = number;
		return -1;
	}
	}
	return -1;
}

static const struct cli_option *find_long(const struct cli_command *command, const char *name,
                                          size_t length)
{
	for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
			return o;
	return NULL;
}

static const struct cli_option *find_short(const struct cli_command *command, char letter)
{
	for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++)
		if (o->letter == letter)
			return o;
	return NULL;
}

static int refuse_option(const struct cli *cli, const char *word)
{
	const char *best = NULL;
	const char *name = word + strspn(word, "-");
	char plain[MAX_NAME + 1] = "";
	size_t length = strcspn(name, "=");
	memcpy(plain, name, length < MAX_NAME ? length : MAX_NAME);
	for (const struct cli_option *o = cli->command->options; o != NULL && o->name != NULL; o++)
		best = cli_nearest(plain, o->name, best);
	best = cli_nearest(plain, "help", best);
	if (best != NULL && word[1] == '-')
		return cli_usage(cli, "unknown option '%s'; did you mean --%s?", word, best);
	return cli_usage(cli, "unknown option '%s'", word);
}

/* argv[*i] is "--name", "--name=value"; advances *i over a value of its own. */
static int parse_long(struct cli *cli, char **argv, int argc, int *i, void *options)
{
	const char *word = argv[*i];
	const char *name = word + 2;
	size_t length = strcspn(name, "=");
	const char *value = name[length] == '=' ? name + length + 1 : NULL;
	if (strcmp(name, "help") == 0) {
		cli_print_help(cli->command, stdout);
		return CLI_OK;
	}
	const struct cli_option *o = find_long(cli->command, name, length);
	if (o == NULL)
		return refuse_option(cli, word);
	if (o->type == CLI_FLAG && value != NULL)
		return cli_usage(cli, "--%s takes no value", o->name);
	if (o->type != CLI_FLAG && value == NULL) {
		if (*i + 1 >= argc)
			return cli_usage(cli, "--%s needs a value: %s", o->name, o->value);
		value = argv[++*i];
	}
	return store_value(cli, o, value, options);
}

/* argv[*i] is "-x", "-xVALUE" or several flags "-xy". */
static int parse_short(struct cli *cli, char **argv, int argc, int *i, void *options)
{
	for (const char *p = argv[*i] + 1; *p != '\0'; p++) {
		const struct cli_option *o = find_short(cli->command, *p);
		if (o == NULL && *p == 'h') {
			cli_print_help(cli->command, stdout);
			return CLI_OK;
		}
		if (o == NULL)
			return refuse_option(cli, argv[*i]);
		const char *value = NULL;
		if (o->type != CLI_FLAG) {
			if (p[1] == '\0' && *i + 1 >= argc)
				return cli_usage(cli, "-%c needs a value: %s", o->letter, o->value);
			value = p[1] != '\0' ? p + 1 : argv[++*i];
		}
		int code = store_value(cli, o, value, options);
		if (code >= 0 || value != NULL)
			return code;
	}
	return -1;
}

static int check_operands(const struct cli *cli)
{
	const struct cli_command *command = cli->command;
	if (cli->operand_count < command->min_operands) {
		if (cli->operand_count == 0)
			return cli_usage(cli, "what to work on is missing");
		return cli_usage(cli, "%zu operand(s) given, at least %zu needed", cli->operand_count,
		                 command->min_operands);
	}
	if (cli->operand_count > command->max_operands)
		return cli_usage(cli, "unexpected operand '%s'", cli->operand[command->max_operands]);
	return -1;
}

int cli_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv,
              void *options)
{
	cli->command = command;
	cli->operand_count = 0;
	if (command->defaults != NULL)
		memcpy(options, command->defaults, command->options_nbytes);
	cli->operand = calloc((size_t)argc + 1, sizeof(*cli->operand));
	if (cli->operand == NULL)
		return cli_fail_errno(cli, "memory");
	bool only_operands = false;
	for (int i = 1; i < argc; i++) {
		int code = -1;
		if (only_operands || argv[i][0] != '-' || argv[i][1] == '\0')
			cli->operand[cli->operand_count++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (argv[i][1] == '-')
			code = parse_long(cli, argv, argc, &i, options);
		else
			code = parse_short(cli, argv, argc, &i, options);
		if (code >= 0)
			return code;
	}
	return check_operands(cli);
}

void cli_parse_free(struct cli *cli, void *options)
{
	for (const struct cli_option *o = cli->command->options; o != NULL && o->name != NULL; o++)
		if (o->type == CLI_LIST)
			free(((struct cli_list *)(void *)((char *)options + o->field))->item);
	free(cli->operand);
	cli->operand = NULL;
}
