/*
 * The frame of the pith command: the table of commands, options, help, errors,
 * progress, results.  A command is one file cmd_<name>.c that defines one
 * 'const struct cli_command cmd_<name>' and one row in cli.c; help, man page,
 * option parsing and exit codes follow from that entry.
 *
 * Results go to stdout, talk to stderr.  Exit codes: enum cli_exit.  Only the main
 * thread calls these functions, except that cli_interrupted() may be called anywhere.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_H
#define PITH_CLI_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,     /* I/O, memory, limit, interrupted */
	CLI_USAGE = 2,      /* the command line is wrong */
	CLI_DAMAGED = 3,    /* an input breaks its format */
	CLI_UNSUPPORTED = 4 /* unsupported, not ours, or a model that is missing */
};

/* ---- commands and their options ---- */

enum cli_type {
	CLI_FLAG,   /* bool */
	CLI_STRING, /* const char *, borrowed from argv */
	CLI_LIST,   /* struct cli_list: may be given many times */
	CLI_COUNT,  /* uint64_t, decimal */
	CLI_SIZE,   /* uint64_t bytes: 4096, 64K, 64KiB, 1M, 2G (powers of 1024), 1MB (of 1000) */
	CLI_NUMBER  /* double */
};

struct cli_list {
	const char **item;
	size_t count;
};

struct cli_option {
	const char *name;  /* long name without dashes; NULL ends the table */
	char letter;       /* short name, or 0 */
	enum cli_type type;
	size_t field;      /* offsetof the member in the command's options struct */
	const char *value; /* what it takes, for the help: "FILE"; NULL for a flag */
	const char *help;  /* one line, or more separated by \n */
};

struct cli;

struct cli_command {
	const char *name;
	const char *summary;     /* one line, no full stop */
	const char *synopsis;    /* after "pith NAME "; several forms separated by \n */
	const char *description; /* paragraphs, lines of at most 78 columns, ends with \n */
	void (*details)(FILE *out); /* prints more of the description; NULL: that is all */
	const char *examples;    /* lines "pith ...", each may be followed by lines that start with # */
	const struct cli_option *options;
	size_t options_nbytes;   /* sizeof the options struct, zeroed before parsing; or 0 */
	const void *defaults;    /* options_nbytes bytes to start from instead of zero, or NULL */
	size_t min_operands, max_operands; /* max SIZE_MAX: any number */
	/* 'options': the filled options struct.  Returns an enum cli_exit. */
	int (*run)(struct cli *cli, const void *options);
};

/* What a command is given beside its options. */
struct cli {
	const struct cli_command *command;
	char **operand; /* operand_count strings, then NULL */
	size_t operand_count;
};

/* All commands in the order of the help, ended by NULL. */
extern const struct cli_command *const cli_commands[];

/*
 * Parse argv[1..] of 'command' into 'options' (options_nbytes bytes) and cli->operand.  Returns -1 to go
 * on, or an exit code: CLI_OK after --help, CLI_USAGE after saying what is wrong.
 * Lists are allocated; cli_parse_free() frees them.
 */
int cli_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv,
              void *options);
void cli_parse_free(struct cli *cli, void *options);

/* "64K", "1MiB", "3GB": bytes; false when it is none or does not fit. */
bool cli_parse_size(const char *text, uint64_t *out);

void cli_print_help(const struct cli_command *command, FILE *out);
/* The same as a man page (mdoc-free roff); command NULL: pith(1). */
void cli_print_man(const struct cli_command *command, FILE *out);

/* ---- talk: stderr, "pith NAME: ..." ---- */

/* A name fit for a terminal: control bytes and what is not UTF-8 as \xHH.  Freed with free(). */
char *cli_printable(const char *name);
/* A line of talk; printf rules.  Clears a progress bar in the way. */
void cli_say(const struct cli *cli, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The exit code that a status stands for. */
int cli_exit_code(pith_status status);
/*
 * Print "pith NAME: SUBJECT: message (rule affine.3, offset 4096)", printable, and return the exit code.
 * subject: usually a file name; NULL: none.
 */
int cli_fail(const struct cli *cli, const char *subject, const struct pith_error *err);
/* Print "pith NAME: SUBJECT: strerror(errno)" and return CLI_FAILED. */
int cli_fail_errno(const struct cli *cli, const char *subject);
/* Print a message and where to find help; return CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- results ---- */

struct json_t; /* jansson's json_t */
/*
 * Print a JSON value and a newline on stdout and drop the reference.  Returns CLI_OK, or
 * CLI_FAILED when json is NULL (out of memory).  Write errors surface when the program ends.
 */
int cli_print_json(struct json_t *json);
/* "4.7 MiB", "812 B"; text: 16 bytes.  Returns text. */
char *cli_format_size(uint64_t nbytes, char text[16]);
/* 32 hex digits + NUL. */
char *cli_format_digest(const uint8_t digest[16], char text[33]);

/* ---- progress ---- */

/*
 * A bar with rate and ETA on a terminal, else a plain line every 10 s or 10 % (none for work
 * under 3 s).  Zero-initialise, start, update often (cheap), end once.
 */
struct cli_progress {
	const char *what; /* "verify" */
	const char *unit; /* "B" (scaled to KiB, MiB), "tokens", ... */
	uint64_t total, done;
	double start, shown;   /* seconds, monotonic */
	uint64_t shown_done;
	int width;             /* of the terminal; 0: no terminal */
	bool visible;
};
void cli_progress_start(struct cli_progress *p, const char *what, const char *unit, uint64_t total);
void cli_progress_update(struct cli_progress *p, uint64_t done);
/* note: shown behind the rate, e.g. "ppl 12.3"; may be NULL. */
void cli_progress_update_note(struct cli_progress *p, uint64_t done, const char *note);
void cli_progress_end(struct cli_progress *p);
/* Seconds on a monotonic clock. */
double cli_seconds(void);

/* ---- interruption ---- */

/*
 * Files to remove when the program is interrupted (SIGINT, SIGTERM, SIGHUP): at most 8 at a
 * time, paths up to 4095 bytes.  Async-signal-safe on the handler's side.
 */
void cli_cleanup_add(const char *path);
void cli_cleanup_remove(const char *path);
/* Installs the handlers; called by main. */
void cli_signals_install(void);

/* ---- the embedded models ---- */

enum cli_embedded {
	CLI_EMBEDDED_DEFAULT,
	CLI_EMBEDDED_FAST, /* of archives of the level fast */
	CLI_EMBEDDED_COUNT,
};
/* A .pith file linked into the command, aligned to 64; NULL when built without. */
const void *cli_embedded_model(enum cli_embedded which, size_t *nbytes);

#endif
