/*
 * pith list: what a text archive holds.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>
#include <time.h>

struct list_options {
	bool json;
};

static const struct cli_option list_table[] = {
    {"json", 0, CLI_FLAG, offsetof(struct list_options, json), NULL, "print one JSON object"},
    {0},
};

static const char *const kind_names[] = {"?", "file", "directory", "link"};

static json_t *json_name(const char *name)
{
	json_t *plain = json_string(name); /* NULL when it is not UTF-8 */
	if (plain != NULL)
		return plain;
	char *printable = cli_printable(name);
	json_t *escaped = printable != NULL ? json_string(printable) : NULL;
	free(printable);
	return escaped;
}

static json_t *json_member(const struct cli_archive *a, size_t i)
{
	const struct pith_archive_member *m = pith_archive_member_at(a->archive, i);
	char digest[33];
	json_t *o = json_pack("{s:o, s:s, s:i, s:I, s:I, s:I, s:I}", "name", json_name(m->name), "kind",
	                      kind_names[m->kind], "mode", (int)m->mode, "mtime", (json_int_t)m->mtime,
	                      "mtime_nsec", (json_int_t)m->mtime_nsec, "size", (json_int_t)m->nbytes, "stored",
	                      (json_int_t)pith_archive_member_stored(a->archive, i));
	if (m->kind == PITH_MEMBER_FILE)
		json_object_set_new(o, "xxh3_128", json_string(cli_format_digest(m->content_xxh3, digest)));
	if (m->kind == PITH_MEMBER_LINK)
		json_object_set_new(o, "target", json_name(m->target));
	return o;
}

static int print_archive_json(const struct cli_archive *a)
{
	char identity[33], root[33];
	json_t *members = json_array();
	for (size_t i = 0; i < a->info.member_count; i++)
		json_array_append_new(members, json_member(a, i));
	return cli_print_json(json_pack(
	    "{s:I, s:I, s:I, s:s, s:i, s:i, s:I, s:s, s:o}", "content_nbytes",
	    (json_int_t)a->info.content_nbytes, "archive_nbytes", (json_int_t)a->info.archive_nbytes,
	    "segments", (json_int_t)a->info.segment_count, "model_identity",
	    cli_format_digest(a->info.model_identity, identity), "numerics_version",
	    (int)a->info.numerics_version, "coder_version", (int)PITH_CODER_VERSION, "segment_nbytes",
	    (json_int_t)a->info.segment_nbytes, "root", cli_format_digest(a->info.archive_root, root),
	    "members", members));
}

static int print_member(const struct cli_archive *a, size_t i)
{
	const struct pith_archive_member *m = pith_archive_member_at(a->archive, i);
	char when[32] = "?", *name = cli_printable(m->name), *target = cli_printable(m->target);
	time_t seconds = (time_t)m->mtime;
	struct tm tm;
	if (name == NULL || target == NULL) {
		free(name);
		free(target);
		return CLI_FAILED;
	}
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	printf("%c%04o %12llu %12llu  %s  %s%s%s%s\n",
	       m->kind == PITH_MEMBER_DIRECTORY ? 'd' : m->kind == PITH_MEMBER_LINK ? 'l' : '-', m->mode,
	       (unsigned long long)m->nbytes,
	       (unsigned long long)pith_archive_member_stored(a->archive, i), when, name,
	       m->kind == PITH_MEMBER_DIRECTORY ? "/" : "", m->target_nbytes > 0 ? " -> " : "", target);
	free(name);
	free(target);
	return CLI_OK;
}

static int run_list(struct cli *cli, const void *options)
{
	const struct list_options *o = options;
	struct cli_archive a;
	int code = cli_archive_open(cli, cli->operand[0], &a);
	if (code == CLI_OK && o->json) {
		code = print_archive_json(&a);
	} else if (code == CLI_OK) {
		char identity[33];
		for (size_t i = 0; i < a.info.member_count && code == CLI_OK; i++)
			code = print_member(&a, i);
		printf("%llu members, %llu bytes in %llu (%.3f bits per byte), %llu segments, model %s\n",
		       (unsigned long long)a.info.member_count, (unsigned long long)a.info.content_nbytes,
		       (unsigned long long)a.info.archive_nbytes,
		       a.info.content_nbytes > 0 ?
		           8.0 * (double)a.info.archive_nbytes / (double)a.info.content_nbytes :
		           0.0,
		       (unsigned long long)a.info.segment_count,
		       cli_format_digest(a.info.model_identity, identity));
	}
	cli_archive_close(&a);
	return code;
}

const struct cli_command cmd_list = {
	.name = "list",
	.summary = "list the members of a text archive",
	.synopsis = "[--json] FILE.pz",
	.description =
	    "Reads the directory at the end of the archive; nothing is decoded and no model is\n"
	    "needed.  Columns: kind and mode, size, bytes in the archive (its share of the\n"
	    "segments it lies in), time, name.\n",
	.examples = "pith list corpus.pz\n"
	            "pith list --json corpus.pz\n",
	.options = list_table,
	.options_nbytes = sizeof(struct list_options),
	.min_operands = 1,
	.max_operands = 1,
	.run = run_list,
};
