/*
 * pith version (also --version, -V): what this build is made of.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "format.h"
#include "kernels.h"
#include "pith.h"
#include "pithrun.h"

#include <archive.h>
#include <jansson.h>
#include <xxhash.h>
#include <zstd.h>

struct version_options {
	bool json;
};

static const struct cli_option version_table[] = {
    {"json", 0, CLI_FLAG, offsetof(struct version_options, json), NULL, "print JSON"},
    {0},
};

static json_t *kernel_sets(void)
{
	const struct pith_kernels *sets[8];
	size_t count = pith_kernels_available(sets);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_string(sets[i]->name));
	return list;
}

/* Identity of an embedded model as text; "none" without one. */
static const char *identity_of(enum cli_embedded which, char text[33], size_t *nbytes)
{
	const void *data = cli_embedded_model(which, nbytes);
	struct pith_file *file;
	struct pith_file_info info;
	if (data == NULL || pith_file_open_memory(data, *nbytes, 0, &file, NULL) != PITH_OK)
		return "none";
	pith_file_info(file, &info);
	pith_file_close(file);
	return cli_format_digest(info.model_identity, text);
}

static int version_run(struct cli *cli, const void *options)
{
	const struct version_options *o = options;
	char text[2][33], xxhash[24];
	unsigned xxh = XXH_versionNumber();
	size_t nbytes, fast_nbytes;
	const char *identity = identity_of(CLI_EMBEDDED_DEFAULT, text[0], &nbytes);
	const char *fast = identity_of(CLI_EMBEDDED_FAST, text[1], &fast_nbytes);
	(void)cli;
	snprintf(xxhash, sizeof(xxhash), "%u.%u.%u", xxh / 10000, xxh / 100 % 100, xxh % 100);
	if (o->json)
		return cli_print_json(json_pack(
		    "{s:s, s:s, s:o, s:i, s:i, s:{s:s, s:I}, s:{s:s, s:I}, s:{s:s, s:s, s:s, s:s}}", "version",
		    pith_version(), "kernels", pith_kernels_active(), "kernels_available",
		    kernel_sets(), "numerics_version", (int)PITH_NUMERICS_VERSION,
		    "container_version", (int)PITH_CONTAINER_VERSION, "default_model", "identity",
		    identity, "bytes", (json_int_t)nbytes, "fast_model", "identity", fast, "bytes",
		    (json_int_t)fast_nbytes, "libraries",
		    "zstd", ZSTD_versionString(), "xxhash", xxhash, "libarchive",
		    archive_version_string(), "jansson", jansson_version_str()));
	printf("pith %s\n", pith_version());
	printf("kernels    %s\n", pith_kernels_active());
	printf("numerics   %u\ncontainer  %u\n", PITH_NUMERICS_VERSION, PITH_CONTAINER_VERSION);
	printf("model      %s (%zu bytes)\n", identity, nbytes);
	printf("fast       %s (%zu bytes)\n", fast, fast_nbytes);
	printf("libraries  zstd %s, xxHash %s, %s, jansson %s\n", ZSTD_versionString(), xxhash,
	       archive_version_string(), jansson_version_str());
	return CLI_OK;
}

const struct cli_command cmd_version = {
    .name = "version",
    .summary = "versions, kernel set, embedded models",
    .synopsis = "[--json]",
    .description =
        "Prints the version of pith, the kernel set in use (PITH_CPU masks instruction\n"
        "sets), the versions of numerics and container, the identities of the embedded\n"
        "models and the libraries it was built with.  The same as 'pith --version'.\n",
    .examples = "pith --version\npith version --json\nPITH_CPU=-avx512 pith --version",
    .options = version_table,
    .options_nbytes = sizeof(struct version_options),
    .run = version_run,
};
