/*
 * Access to the models that embed_model.S links in.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

extern const unsigned char pith_default_model_start[], pith_default_model_end[];
extern const unsigned char pith_fast_model_start[], pith_fast_model_end[];

const void *cli_embedded_model(enum cli_embedded which, size_t *nbytes)
{
	static const struct {
		const unsigned char *start, *end;
	} models[CLI_EMBEDDED_COUNT] = {
	    [CLI_EMBEDDED_DEFAULT] = {pith_default_model_start, pith_default_model_end},
	    [CLI_EMBEDDED_FAST] = {pith_fast_model_start, pith_fast_model_end},
	};
	*nbytes = (size_t)((uintptr_t)models[which].end - (uintptr_t)models[which].start);
	return *nbytes > 0 ? models[which].start : NULL;
}
