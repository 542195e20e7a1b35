/*
 * What the command says: errors and notes on stderr, results on stdout, and the one
 * map from a status to an exit code.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_options.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

static void print_prefix(const struct cli *cli)
{
	cli_progress_clear();
	if (cli->command != NULL)
		fprintf(stderr, "pith %s: ", cli->command->name);
	else
		fputs("pith: ", stderr);
}

void cli_say(const struct cli *cli, const char *fmt, ...)
{
	va_list args;
	print_prefix(cli);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list args;
	print_prefix(cli);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	if (cli->command != NULL)
		fprintf(stderr, "\nTry 'pith %s --help'.\n", cli->command->name);
	else
		fputs("\nTry 'pith help'.\n", stderr);
	return CLI_USAGE;
}

int cli_exit_code(pith_status status)
{
	switch (status) {
	case PITH_OK: return CLI_OK;
	case PITH_E_IO:
	case PITH_E_MEMORY:
	case PITH_E_LIMIT: return CLI_FAILED;
	case PITH_E_ARGUMENT: return CLI_USAGE;
	case PITH_E_CORRUPT: return CLI_DAMAGED;
	case PITH_E_NOT_OURS:
	case PITH_E_UNSUPPORTED:
	case PITH_E_NOT_FOUND: return CLI_UNSUPPORTED;
	}
	return CLI_FAILED;
}

int cli_fail(const struct cli *cli, const char *subject, const struct pith_error *err)
{
	print_prefix(cli);
	if (subject != NULL)
		fprintf(stderr, "%s: ", subject);
	fputs(err->msg[0] != '\0' ? err->msg : pith_status_name(err->status), stderr);
	bool has_rule = err->rule[0] != '\0';
	bool has_off = err->off != PITH_NO_OFF;
	if (has_rule || has_off) {
		fputs(" (", stderr);
		if (has_rule)
			fprintf(stderr, "rule %s%s", err->rule, has_off ? ", " : "");
		if (has_off)
			fprintf(stderr, "offset %" PRIu64, err->off);
		fputs(")", stderr);
	}
	fputc('\n', stderr);
	return cli_exit_code(err->status);
}

int cli_fail_errno(const struct cli *cli, const char *subject)
{
	int saved = errno;
	print_prefix(cli);
	fprintf(stderr, "%s: %s\n", subject, strerror(saved));
	return CLI_FAILED;
}

int cli_print_json(struct json_t *json)
{
	int code = CLI_OK;
	if (json == NULL || json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) != 0) {
		/* A write error stays in stdout's error flag and is told at the end. */
		if (json == NULL)
			fputs("pith: out of memory\n", stderr);
		code = CLI_FAILED;
	}
	fputc('\n', stdout);
	json_decref(json);
	return code;
}

char *cli_format_size(uint64_t nbytes, char text[16])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)nbytes;
	size_t unit = 0;
	/* 1023.95 would print as 1024.0 */
	while (value >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(text, 16, unit == 0 ? "%.0f %s" : value < 99.95 ? "%.1f %s" : "%.0f %s", value,
	         units[unit]);
	return text;
}

char *cli_format_digest(const uint8_t digest[16], char text[33])
{
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	return text;
}
