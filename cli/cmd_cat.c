/*
 * pith cat: the content of members to standard output.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <errno.h>

struct cat_options {
	const char *model;
	uint64_t threads;
	bool no_verify;
};

static const struct cli_option cat_table[] = {
    {"model", 'm', CLI_STRING, offsetof(struct cat_options, model), "MODEL",
     "the model that the archive names; default: the embedded one"},
    {"threads", 0, CLI_COUNT, offsetof(struct cat_options, threads), "N",
     "threads; default: all cores"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct cat_options, no_verify), NULL,
     "do not check the model's checksums and canaries first"},
    {0},
};

static pith_status write_stdout(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	(void)ctx;
	if (fwrite(data, 1, nbytes, stdout) != nbytes)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "standard output: %s", strerror(errno));
	return PITH_OK;
}

static int run_cat(struct cli *cli, const void *options)
{
	const struct cat_options *o = options;
	struct cli_archive a;
	struct pith_error err;
	int code = cli_archive_open(cli, cli->operand[0], false, &a);
	if (code == CLI_OK)
		code = cli_archive_select(cli, &a, cli->operand + 1, cli->operand_count - 1);
	if (code == CLI_OK)
		code = cli_archive_need_model(cli, &a, o->model, o->threads, o->no_verify);
	if (code == CLI_OK) {
		struct pith_archive_read_options read = {
			.coder = a.coder,
			.executor = pith_team_executor(a.team),
			.data = write_stdout,
		};
		if (pith_archive_read(a.archive, a.selected, &read, &err) != PITH_OK)
			code = cli_fail(cli, a.path, &err);
	}
	code = code != CLI_OK ? code : a.fault;
	cli_archive_close(&a);
	return code;
}

const struct cli_command cmd_cat = {
	.name = "cat",
	.summary = "print members of a text archive",
	.synopsis = "[-m MODEL] FILE.pz [MEMBER]...",
	.description =
	    "Decodes only the segments that hold the members asked for; without names, all members\n"
	    "one after the other.  Every segment is checked before its content is printed; when the\n"
	    "exit code is 0 all of it is right.\n",
	.examples = "pith cat corpus.pz\n"
	            "pith cat corpus.pz letters/1865.txt | less\n",
	.options = cat_table,
	.options_nbytes = sizeof(struct cat_options),
	.min_operands = 1,
	.max_operands = SIZE_MAX,
	.run = run_cat,
};
