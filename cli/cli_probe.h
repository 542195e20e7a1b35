/*
 * How fast the threads of an executor read the planes of a mapped file when they do nothing else.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_PROBE_H
#define PITH_CLI_PROBE_H

#include "pithrun.h"

enum { CLI_PROBE_PLAIN, CLI_PROBE_PREFETCH, CLI_PROBE_STREAMS, CLI_PROBE_WAYS };

struct cli_probe {
	const uint8_t *data; /* from the first plane to the end of the last; NULL: no planes */
	size_t nbytes;
};

struct cli_probe cli_probe_of(const struct pith_file *file);
/* Read all of it once; GB/s. */
double cli_probe_read(const struct cli_probe *probe, const struct pith_executor *executor,
                      unsigned way);

#endif
