/*
 * pith test: decode a whole archive and compare every checksum.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <jansson.h>

struct test_options {
	const char *model;
	uint64_t threads;
	bool no_verify, json;
};

static const struct cli_option test_table[] = {
    {"model", 'm', CLI_STRING, offsetof(struct test_options, model), "MODEL",
     "the model that the archive names; default: the embedded one"},
    {"threads", 0, CLI_COUNT, offsetof(struct test_options, threads), "N",
     "threads; default: all cores"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct test_options, no_verify), NULL,
     "do not check the model's checksums and canaries first"},
    {"json", 0, CLI_FLAG, offsetof(struct test_options, json), NULL, "print the result as JSON"},
    {0},
};

struct testing {
	struct cli_damage damage;
	struct cli_progress progress;
};

static pith_status note_loss(void *ctx, size_t member, uint64_t off, uint64_t nbytes,
                             const struct pith_error *why, struct pith_error *err)
{
	return cli_damage_add(&((struct testing *)ctx)->damage, member, off, nbytes, why, err);
}

static void show_test(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes)
{
	(void)stored_nbytes;
	cli_progress_update(ctx, content_nbytes);
}

static int report(struct cli *cli, const struct test_options *o, const struct cli_archive *a,
                  const struct cli_damage *d, double seconds)
{
	char size[16];
	int code = d->count > 0 || a->fault != CLI_OK ? CLI_DAMAGED : CLI_OK;
	cli_damage_say(d);
	cli_say(cli, "%s: %llu members, %s in %llu segments, %.1f KB/s: %s", a->path,
	        (unsigned long long)a->info.member_count, cli_format_size(a->info.content_nbytes, size),
	        (unsigned long long)a->info.segment_count,
	        (double)a->info.content_nbytes / 1000.0 / (seconds > 0 ? seconds : 1e-9),
	        code == CLI_OK ? "all is well" : "damaged");
	if (d->count > 0)
		cli_say(cli, "%s: %llu members are damaged; 'pith unzip --recover' restores the rest", a->path,
		        (unsigned long long)d->members);
	if (o->json) {
		int printed = cli_print_json(json_pack(
		    "{s:b, s:I, s:I, s:I, s:I, s:I, s:o, s:f}", "good", (int)(code == CLI_OK), "members",
		    (json_int_t)a->info.member_count, "segments", (json_int_t)a->info.segment_count, "content_nbytes",
		    (json_int_t)a->info.content_nbytes, "lost_nbytes", (json_int_t)d->nbytes, "ignored_nbytes",
		    (json_int_t)a->info.ignored_nbytes, "damaged", cli_damage_json(d), "seconds", seconds));
		code = code != CLI_OK ? code : printed;
	}
	return code;
}

static int test_archive(struct cli *cli, const struct test_options *o, struct cli_archive *a)
{
	struct testing t = {.damage = {.cli = cli, .archive = a}};
	struct pith_archive_read_options read = {
		.coder = a->coder,
		.executor = pith_team_executor(a->team),
		.every_segment = true,
		.lost = note_loss,
		.ctx = &t,
		.progress = show_test,
		.progress_ctx = &t.progress,
	};
	struct pith_error err;
	double start = cli_seconds();
	cli_progress_start(&t.progress, "test", "B", a->info.content_nbytes);
	pith_status status = pith_archive_read(a->archive, NULL, &read, &err);
	cli_progress_end(&t.progress);
	int code = status != PITH_OK ? cli_fail(cli, a->path, &err) :
	                               report(cli, o, a, &t.damage, cli_seconds() - start);
	cli_damage_free(&t.damage);
	return code;
}

static int run_test(struct cli *cli, const void *options)
{
	const struct test_options *o = options;
	struct cli_archive a;
	int code = cli_archive_open(cli, cli->operand[0], false, &a);
	if (code == CLI_OK)
		code = cli_archive_need_model(cli, &a, o->model, o->threads, o->no_verify);
	if (code == CLI_OK)
		code = test_archive(cli, o, &a);
	cli_archive_close(&a);
	return code;
}

const struct cli_command cmd_test = {
	.name = "test",
	.summary = "check a text archive by decoding all of it",
	.synopsis = "[-m MODEL] [--json] FILE.pz",
	.description =
	    "Decodes every segment and compares all checksums, those of the members included; nothing\n"
	    "is written.  Names each damaged member and the byte ranges that are lost.  Exit code\n"
	    "0: all is well; 3: damaged, also when only the end is (bytes that are not part of the\n"
	    "archive); 4: the model is missing.\n",
	.examples = "pith test corpus.pz\n"
	            "pith test --json corpus.pz\n",
	.options = test_table,
	.options_nbytes = sizeof(struct test_options),
	.min_operands = 1,
	.max_operands = 1,
	.run = run_test,
};
