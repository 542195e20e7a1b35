/*
 * The public face of the choice among kernel sets (kernels/kernels.c makes it).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kernels.h"
#include "pithrun.h"

const char *pith_kernels_active(void)
{
	const struct pith_kernels *kernels;
	/* a mask with an unknown name leaves the definition itself */
	if (pith_kernels_select(NULL, &kernels, NULL) != PITH_OK)
		return "reference";
	return kernels->name;
}

pith_status pith_kernels_check(const char *mask, struct pith_error *err)
{
	const struct pith_kernels *kernels;
	return pith_kernels_select(mask, &kernels, err);
}
