/*
 * The energy counters of the processor packages, where the system shows them (powercap, "RAPL").
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_ENERGY_H
#define PITH_CLI_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

#define CLI_ENERGY_PACKAGES 16u

/* Microjoules of every package since some time; they wrap. */
struct cli_energy {
	uint64_t count[CLI_ENERGY_PACKAGES];
	unsigned packages; /* 0: this machine does not report any, or not to this user */
};

struct cli_energy cli_energy_now(void);
/* Joules of all packages between two readings; negative: unknown. */
double cli_energy_between(const struct cli_energy *from, const struct cli_energy *to);

#endif
