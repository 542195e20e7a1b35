/*
 * The table of containers to export to.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "export.h"

#include "bytes.h"

const struct export_container export_containers[] = {
    {"safetensors", export_safetensors},
    {"gguf", NULL},
    {0},
};

pith_status export_model(const struct pith_file *file, const char *container, const char *target,
                         const struct export_options *options, struct export_result *out,
                         struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; export_containers[i].name; i++) {
		if (strcmp(export_containers[i].name, container) != 0)
			continue;
		if (!export_containers[i].run)
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
			                 "export to %s is not built yet; --to safetensors is", container);
		return export_containers[i].run(file, target, options, out, err);
	}
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
	                 "no container \"%.40s\" to export to; there are safetensors and gguf",
	                 container);
}
