/*
 * pith unzip: members of a text archive into a folder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "extract.h"
#include "tar_write.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

struct unzip_options {
	const char *model, *folder, *output;
	uint64_t threads;
	bool force, any_links, recover, to_tar, owner, no_owner, no_verify, json;
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
    {"recover", 0, CLI_FLAG, offsetof(struct unzip_options, recover), NULL,
     "keep what is left of damaged files, too, as NAME.damaged, zeros for\nwhat is lost; and do without the directory if need be"},
    {"to-tar", 0, CLI_FLAG, offsetof(struct unzip_options, to_tar), NULL,
     "write a tar stream (pax) instead of files"},
    {"output", 'o', CLI_STRING, offsetof(struct unzip_options, output), "OUT.tar",
     "with --to-tar: where to; '-' or nothing: standard output"},
    {"owner", 0, CLI_FLAG, offsetof(struct unzip_options, owner), NULL,
     "restore owners; default: only for root"},
    {"no-owner", 0, CLI_FLAG, offsetof(struct unzip_options, no_owner), NULL,
     "do not restore owners, also for root"},
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

/* What reading reports to: the files, and the list of what is lost. */
struct unzipping {
	struct extract x;
	struct cli_damage damage;
	struct cli_progress progress;
};

static pith_status begin_member(void *ctx, size_t member, struct pith_error *err)
{
	return extract_begin(&((struct unzipping *)ctx)->x, member, err);
}

static pith_status put_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	return extract_data(&((struct unzipping *)ctx)->x, data, nbytes, err);
}

static pith_status end_member(void *ctx, size_t member, struct pith_error *err)
{
	return extract_end(&((struct unzipping *)ctx)->x, member, err);
}

static pith_status lose_data(void *ctx, size_t member, uint64_t off, uint64_t nbytes,
                             const struct pith_error *why, struct pith_error *err)
{
	struct unzipping *u = ctx;
	PITH_TRY(cli_damage_add(&u->damage, member, off, nbytes, why, err));
	return extract_lost(&u->x, nbytes, err);
}

static pith_status end_damaged(void *ctx, size_t member, struct pith_error *err)
{
	return extract_damaged(&((struct unzipping *)ctx)->x, member, err);
}

static int report(struct cli *cli, const struct unzip_options *o, const struct cli_archive *a,
                  const struct unzipping *u, uint64_t content_nbytes, double seconds)
{
	const struct extract *x = &u->x;
	char size[16];
	cli_damage_say(&u->damage);
	if (x->damaged > 0)
		cli_say(cli, "%llu members are damaged; %s", (unsigned long long)x->damaged,
		        o->recover ? "what is left of files is in NAME.damaged" :
		                     "they were not restored (--recover keeps what is left of them)");
	cli_say(cli, "%llu files, %s, %.1f KB/s", (unsigned long long)x->files,
	        cli_format_size(content_nbytes, size),
	        (double)content_nbytes / 1000.0 / (seconds > 0 ? seconds : 1e-9));
	int code = x->damaged > 0 ? CLI_DAMAGED : a->fault != CLI_OK ? a->fault : CLI_OK;
	if (code == CLI_OK && x->refused_links > 0)
		code = CLI_FAILED;
	if (o->json) {
		int printed = cli_print_json(json_pack(
		    "{s:I, s:I, s:I, s:o, s:f}", "files", (json_int_t)x->files, "content_nbytes",
		    (json_int_t)content_nbytes, "refused_links", (json_int_t)x->refused_links, "damaged",
		    cli_damage_json(&u->damage), "seconds", seconds));
		code = code != CLI_OK ? code : printed;
	}
	return code;
}

static int extract_members(struct cli *cli, const struct unzip_options *o, struct cli_archive *a)
{
	struct extract_options options = {o->folder, o->force, o->any_links,
	                                  (geteuid() == 0 || o->owner) && !o->no_owner, o->recover};
	struct unzipping u = {.damage = {.cli = cli, .archive = a}};
	struct pith_error err = {0};
	uint64_t total = pith_archive_selected_nbytes(a->archive, a->selected);
	double start = cli_seconds();
	int code = extract_open(&u.x, cli, a->archive, &options);
	if (code == CLI_OK) {
		struct pith_archive_read_options read = {
			.coder = a->coder,
			.executor = pith_team_executor(a->team),
			.begin = begin_member,
			.data = put_data,
			.end = end_member,
			.lost = lose_data,
			.damaged = end_damaged,
			.ctx = &u,
			.progress = show_unzip,
			.progress_ctx = &u.progress,
		};
		cli_progress_start(&u.progress, "unzip", "B", total);
		pith_status status = pith_archive_read(a->archive, a->selected, &read, &err);
		if (status == PITH_OK)
			status = extract_finish(&u.x, a->selected, &err);
		cli_progress_end(&u.progress);
		if (status != PITH_OK)
			code = cli_fail(cli, status == PITH_E_IO && u.x.failed_on != NULL ? u.x.failed_on : a->path, &err);
	}
	if (code == CLI_OK)
		code = report(cli, o, a, &u, total, cli_seconds() - start);
	extract_close(&u.x);
	cli_damage_free(&u.damage);
	return code;
}

static int check_options(struct cli *cli, const struct unzip_options *o)
{
	if (o->output != NULL && !o->to_tar)
		return cli_usage(cli, "-o goes with --to-tar; -C names a folder");
	if (o->to_tar && (o->recover || o->owner || o->no_owner || o->any_links))
		return cli_usage(cli, "--to-tar writes what is whole, as it is in the archive: it takes no option for restoring");
	if (o->to_tar && (o->output == NULL || strcmp(o->output, "-") == 0)) {
		if (o->json)
			return cli_usage(cli, "--to-tar and --json both want standard output");
		if (isatty(STDOUT_FILENO))
			return cli_usage(cli, "a tar stream is not for a terminal");
	}
	return CLI_OK;
}

static int run_unzip(struct cli *cli, const void *options)
{
	const struct unzip_options *o = options;
	struct cli_archive a = {.fd = -1};
	int code = check_options(cli, o);
	if (code != CLI_OK)
		return code;
	code = cli_archive_open(cli, cli->operand[0], o->recover, &a);
	if (code == CLI_OK)
		code = cli_archive_select(cli, &a, cli->operand + 1, cli->operand_count - 1);
	if (code == CLI_OK)
		code = cli_archive_need_model(cli, &a, o->model, o->threads, o->no_verify);
	if (code == CLI_OK && o->to_tar)
		code = tar_write(cli, &a, o->output, o->force);
	else if (code == CLI_OK)
		code = extract_members(cli, o, &a);
	cli_archive_close(&a);
	return code;
}

const struct cli_command cmd_unzip = {
	.name = "unzip",
	.summary = "restore the members of a text archive",
	.synopsis = "[-m MODEL] [-C DIR] FILE.pz [MEMBER]...\n"
	            "[-m MODEL] --to-tar [-o OUT.tar] FILE.pz [MEMBER]...",
	.description =
	    "Restores files, directories and links with modes (never set-user-id), times and, for\n"
	    "root, owners; a MEMBER that is a directory stands for all in it, a hard link for its\n"
	    "file, too.  A file gets its name only when its checksum has matched.  Nothing is\n"
	    "written outside DIR, whatever the archive says, and nothing is replaced without --force.\n"
	    "\n"
	    "Damage costs what was damaged: every member that is whole is restored, the others are\n"
	    "named with the bytes that are lost, and the exit code is 3.  --recover also keeps what is\n"
	    "left of them, and does without the directory at the archive's end if that is lost.\n"
	    "\n"
	    "The archive names the model it was coded with.  Unless -m says which, it is the one inside\n"
	    "the archive, an embedded one, or models/IDENTITY.pith here or where pith is\n"
	    "installed.  Another one, or none, is exit code 4.\n",
	.examples = "pith unzip corpus.pz\n"
	            "pith unzip --to-tar corpus.pz | tar t\n"
	            "pith unzip --recover -C rescued damaged.pz\n"
	            "pith unzip -C restored corpus.pz letters/1865.txt\n",
	.options = unzip_table,
	.options_nbytes = sizeof(struct unzip_options),
	.defaults = &unzip_defaults,
	.min_operands = 1,
	.max_operands = SIZE_MAX,
	.run = run_unzip,
};
