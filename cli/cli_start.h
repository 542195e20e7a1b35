/*
 * How long it takes from a file's name to the first logits, and to read the file's planes through a
 * new map and do nothing else: with the file in the page cache and without.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_START_H
#define PITH_CLI_START_H

#include "cli.h"
#include "pithrun.h"

enum cli_start {
	CLI_START_VERIFIED,  /* checksums and canaries, then the logits of one token */
	CLI_START_UNCHECKED, /* the logits of one token */
	CLI_START_READ,      /* a plain sum over the planes */
	CLI_STARTS
};

/* Do it once; *seconds from before opening to the result.  Says what is wrong; an exit code. */
int cli_start_once(struct cli *cli, const char *path, enum cli_start what,
                   const struct pith_executor *executor, double *seconds);

/*
 * Put the file out of the page cache.  True when the system says that at most a hundredth of
 * it is left there; false when it does not obey, or does not say.
 */
bool cli_start_evict(const char *path);

#endif
