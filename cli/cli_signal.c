/*
 * Interruption: remove the files that are not finished, then die of the signal.
 *
 * Only the main thread adds and removes paths; the handler reads them.  A slot is used
 * once 'used' is set, which happens after its path is complete.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 8u
#define PATH_CAP 4096u

/* A program's state: a signal handler can be reached in no other way. */
static struct {
	volatile sig_atomic_t used;
	char path[PATH_CAP];
} cleanup[SLOTS];

static void remove_and_die(int signal_number)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (cleanup[i].used)
			unlink(cleanup[i].path);
	/* Set by SA_RESETHAND: the default action, so that the caller sees the signal. */
	raise(signal_number);
}

void cli_cleanup_add(const char *path)
{
	if (strlen(path) >= PATH_CAP)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		if (!cleanup[i].used) {
			strcpy(cleanup[i].path, path);
			cleanup[i].used = 1;
			return;
		}
}

void cli_cleanup_remove(const char *path)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (cleanup[i].used && strcmp(cleanup[i].path, path) == 0)
			cleanup[i].used = 0;
}

void cli_signals_install(void)
{
	static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action;
	memset(&action, 0, sizeof(action));
	sigemptyset(&action.sa_mask);
	action.sa_handler = remove_and_die;
	action.sa_flags = (int)SA_RESETHAND;
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &action, NULL);
	/* A closed pipe is a write error with a message and exit code 1. */
	signal(SIGPIPE, SIG_IGN);
	/* So is the limit of a file's size. */
	signal(SIGXFSZ, SIG_IGN);
}
