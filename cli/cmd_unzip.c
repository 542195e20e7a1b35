/*
 * pith unzip: members of a text archive into a folder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "extract.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>

struct unzip_options {
	const char *model, *folder;
	uint64_t threads;
	bool force, any_links, no_verify, json;
};

static const struct unzip_options unzip_defaults = {.folder = "."};

static const struct cli_option unzip_table[] = {
    {"directory", 'C', CLI_STRING, offsetof(struct unzip_options, folder), "DIR",
     "where to put the members; default: here"},
    {"model", 'm', CLI_STRING, offsetof(struct unzip_options, model), "MODEL",
     "the model that the archive names; default: the embedded one"},
    {"threads", 0, CLI_COUNT, offsetof(struct unzip_options, threads), "N",
     "threads; default: all cores"},
    {"force", 'f', CLI_FLAG, offsetof(struct unzip_options, force), NULL,
     "replace files that exist"},
    {"any-links", 0, CLI_FLAG, offsetof(struct unzip_options, any_links), NULL,
     "make links whose target leaves the folder, too"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct unzip_options, no_verify), NULL,
     "do not check the model's checksums and canaries first"},
    {"json", 0, CLI_FLAG, offsetof(struct unzip_options, json), NULL, "print the result as JSON"},
    {0},
};

static void show_unzip(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes)
{
	(void)stored_nbytes;
	cli_progress_update(ctx, content_nbytes);
}

static int report(struct cli *cli, const struct unzip_options *o, const struct extract *x,
                  uint64_t content_nbytes, double seconds)
{
	char size[16];
	cli_say(cli, "%llu files, %s, %.1f KB/s", (unsigned long long)x->files,
	        cli_format_size(content_nbytes, size),
	        (double)content_nbytes / 1000.0 / (seconds > 0 ? seconds : 1e-9));
	int code = x->refused_links > 0 ? CLI_FAILED : CLI_OK;
	if (o->json) {
		int printed = cli_print_json(json_pack(
		    "{s:I, s:I, s:I, s:f}", "files", (json_int_t)x->files, "content_nbytes",
		    (json_int_t)content_nbytes, "refused_links", (json_int_t)x->refused_links, "seconds", seconds));
		code = code != CLI_OK ? code : printed;
	}
	return code;
}

static int extract_members(struct cli *cli, const struct unzip_options *o, struct cli_archive *a)
{
	struct extract_options options = {o->folder, o->force, o->any_links};
	struct extract x;
	struct cli_progress progress = {0};
	struct pith_error err = {0};
	uint64_t total = pith_archive_selected_nbytes(a->archive, a->selected);
	double start = cli_seconds();
	int code = extract_open(&x, cli, a->archive, &options);
	if (code == CLI_OK) {
		struct pith_archive_read_options read = {
			.coder = a->coder,
			.executor = pith_team_executor(a->team),
			.begin = extract_begin,
			.data = extract_data,
			.end = extract_end,
			.ctx = &x,
			.progress = show_unzip,
			.progress_ctx = &progress,
		};
		cli_progress_start(&progress, "unzip", "B", total);
		pith_status status = pith_archive_read(a->archive, a->selected, &read, &err);
		if (status == PITH_OK)
			status = extract_finish(&x, a->selected, &err);
		cli_progress_end(&progress);
		if (status != PITH_OK) {
			char *name = status == PITH_E_IO && x.failed_on != NULL ? cli_printable(x.failed_on) : NULL;
			code = cli_fail(cli, name != NULL ? name : a->path, &err);
			free(name);
		}
	}
	if (code == CLI_OK)
		code = report(cli, o, &x, total, cli_seconds() - start);
	extract_close(&x);
	return code;
}

static int run_unzip(struct cli *cli, const void *options)
{
	const struct unzip_options *o = options;
	struct cli_archive a;
	int code = cli_archive_open(cli, cli->operand[0], &a);
	if (code == CLI_OK)
		code = cli_archive_select(cli, &a, cli->operand + 1, cli->operand_count - 1);
	if (code == CLI_OK)
		code = cli_archive_need_model(cli, &a, o->model, o->threads, o->no_verify);
	if (code == CLI_OK)
		code = extract_members(cli, o, &a);
	cli_archive_close(&a);
	return code;
}

const struct cli_command cmd_unzip = {
	.name = "unzip",
	.summary = "restore the members of a text archive",
	.synopsis = "[-m MODEL] [-C DIR] FILE.pz [MEMBER]...",
	.description =
	    "Restores files, directories and symbolic links with modes (never set-user-id) and\n"
	    "times; a MEMBER that is a directory stands for all in it.  A file gets its name only\n"
	    "when its checksum has matched.  Nothing is written outside DIR, whatever the archive\n"
	    "says, and nothing is replaced without --force.\n"
	    "\n"
	    "The archive names the model it was coded with; another one, or none, is exit code 4.\n",
	.examples = "pith unzip corpus.pz\n"
	            "pith unzip -C restored corpus.pz letters/1865.txt\n",
	.options = unzip_table,
	.options_nbytes = sizeof(struct unzip_options),
	.defaults = &unzip_defaults,
	.min_operands = 1,
	.max_operands = SIZE_MAX,
	.run = run_unzip,
};
