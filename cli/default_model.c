/*
 * Access to the model that embed_model.S links in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

extern const unsigned char pith_default_model_start[], pith_default_model_end[];

const void *cli_default_model(size_t *nbytes)
{
	*nbytes = (size_t)((uintptr_t)pith_default_model_end - (uintptr_t)pith_default_model_start);
	return *nbytes > 0 ? pith_default_model_start : NULL;
}
