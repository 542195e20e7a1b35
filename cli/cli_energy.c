/*
 * Reading /sys/class/powercap: intel-rapl:N is package N, on processors of AMD too.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_energy.h"

#include <inttypes.h>
#include <stdio.h>

static bool read_number(unsigned package, const char *name, uint64_t *out)
{
	char path[96];
	snprintf(path, sizeof(path), "/sys/class/powercap/intel-rapl:%u/%s", package, name);
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return false;
	bool good = fscanf(f, "%" SCNu64, out) == 1;
	fclose(f);
	return good;
}

struct cli_energy cli_energy_now(void)
{
	struct cli_energy e = {.packages = 0};
	while (e.packages < CLI_ENERGY_PACKAGES &&
	       read_number(e.packages, "energy_uj", &e.count[e.packages]))
		e.packages++;
	return e;
}

double cli_energy_between(const struct cli_energy *from, const struct cli_energy *to)
{
	uint64_t sum = 0, range = 0;
	if (from->packages == 0 || from->packages != to->packages)
		return -1;
	for (unsigned i = 0; i < to->packages; i++) {
		bool wrapped = to->count[i] < from->count[i];
		if (wrapped && !read_number(i, "max_energy_range_uj", &range))
			return -1;
		sum += to->count[i] + (wrapped ? range : 0) - from->count[i];
	}
	return (double)sum / 1e6;
}
