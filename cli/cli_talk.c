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
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* Bytes of the UTF-8 character at p, 0 if it is none or a control character. */
static size_t printable_nbytes(const unsigned char *p)
{
	if (p[0] >= 0x20 && p[0] < 0x7f)
		return 1;
	size_t n = p[0] >= 0xc3 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return n;
}

char *cli_printable(const char *name)
{
	char *out = malloc(4 * strlen(name) + 1), *to = out;
	if (out == NULL)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)name; *p != '\0';) {
		size_t n = printable_nbytes(p);
		if (n == 0) {
			to += sprintf(to, "\\x%02x", (unsigned)*p++);
			continue;
		}
		memcpy(to, p, n);
		to += n;
		p += n;
	}
	*to = '\0';
	return out;
}

/* Names, also those inside messages, come out of files that a stranger may have made. */
static void put_printable(const char *text)
{
	char *printable = cli_printable(text);
	fputs(printable != NULL ? printable : "", stderr);
	free(printable);
}

/* ---- messages ---- */

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
	if (subject != NULL) {
		put_printable(subject);
		fputs(": ", stderr);
	}
	put_printable(err->msg[0] != '\0' ? err->msg : pith_status_name(err->status));
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
	put_printable(subject);
	fprintf(stderr, ": %s\n", strerror(saved));
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
