/*
 * pith list: what a text archive holds.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct list_options {
	bool json;
};

static const struct cli_option list_table[] = {
    {"json", 0, CLI_FLAG, offsetof(struct list_options, json), NULL, "print one JSON object"},
    {0},
};

static const char *const kind_names[] = {"?", "file", "directory", "link", "hard link"};

/* How its segments are coded. */
static const char *method_name(const struct cli_archive *a, size_t i)
{
	static const char *const names[] = {"-", "stored", "zstd", "mixed", "model", "mixed", "mixed", "mixed"};
	return names[pith_archive_member_methods(a->archive, i) & 7u];
}

static json_t *json_member(const struct cli_archive *a, size_t i)
{
	const struct pith_archive_member *m = pith_archive_member_at(a->archive, i);
	char digest[33];
	json_t *o = json_pack("{s:o, s:s, s:i, s:I, s:I, s:I, s:I, s:s}", "name", cli_json_name(m->name), "kind",
	                      kind_names[m->kind], "mode", (int)m->mode, "mtime", (json_int_t)m->mtime,
	                      "mtime_nsec", (json_int_t)m->mtime_nsec, "size", (json_int_t)m->nbytes, "stored",
	                      (json_int_t)pith_archive_member_stored(a->archive, i), "method", method_name(a, i));
	if (m->kind == PITH_MEMBER_FILE)
		json_object_set_new(o, "xxh3_128", json_string(cli_format_digest(m->content_xxh3, digest)));
	if (m->target_nbytes > 0)
		json_object_set_new(o, "target", cli_json_name(m->target));
	if (m->has_owner) {
		json_object_set_new(o, "uid", json_integer((json_int_t)m->uid));
		json_object_set_new(o, "gid", json_integer((json_int_t)m->gid));
		json_object_set_new(o, "user", cli_json_name(m->uname));
		json_object_set_new(o, "group", cli_json_name(m->gname));
	}
	return o;
}

/* Member by member, a line each: there may be millions of them. */
static int print_members_json(const struct cli_archive *a)
{
	fputs("  \"members\": [", stdout);
	for (size_t i = 0; i < a->info.member_count; i++) {
		json_t *member = json_member(a, i);
		fputs(i == 0 ? "\n    " : ",\n    ", stdout);
		if (member == NULL)
			fputs("pith: out of memory\n", stderr);
		/* a write error stays in stdout's error flag and is told at the end */
		int failed = member == NULL || json_dumpf(member, stdout, 0) != 0;
		json_decref(member);
		if (failed)
			return CLI_FAILED;
	}
	fputs("\n  ]\n}\n", stdout);
	return CLI_OK;
}

static int print_archive_json(const struct cli_archive *a)
{
	char identity[33], root[33];
	json_t *about = json_pack(
	    "{s:I, s:I, s:I, s:s, s:b, s:i, s:i, s:I, s:I, s:s}", "content_nbytes",
	    (json_int_t)a->info.content_nbytes, "archive_nbytes", (json_int_t)a->info.archive_nbytes,
	    "segments", (json_int_t)a->info.segment_count, "model_identity",
	    cli_format_digest(a->info.model_identity, identity), "model_embedded",
	    (int)(a->info.model_nbytes > 0), "numerics_version", (int)a->info.numerics_version, "coder_version",
	    (int)PITH_CODER_VERSION, "segment_nbytes", (json_int_t)a->info.segment_nbytes, "ignored_nbytes",
	    (json_int_t)a->info.ignored_nbytes, "root", cli_format_digest(a->info.archive_root, root));
	char *text = about != NULL ? json_dumps(about, JSON_INDENT(2)) : NULL;
	json_decref(about);
	if (text == NULL) {
		fputs("pith: out of memory\n", stderr);
		return CLI_FAILED;
	}
	printf("%.*s,\n", (int)(strlen(text) - strlen("\n}")), text);
	free(text);
	return print_members_json(a);
}

static int print_member(const struct cli_archive *a, size_t i)
{
	static const char letters[] = "?-dlh";
	const struct pith_archive_member *m = pith_archive_member_at(a->archive, i);
	char when[32] = "?", ratio[16] = "-", *name = cli_printable(m->name), *target = cli_printable(m->target);
	uint64_t stored = pith_archive_member_stored(a->archive, i);
	time_t seconds = (time_t)m->mtime;
	struct tm tm;
	if (name == NULL || target == NULL) {
		free(name);
		free(target);
		return CLI_FAILED;
	}
	if (localtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	if (m->nbytes > 0)
		snprintf(ratio, sizeof(ratio), "%.1f%%", 100.0 * (double)stored / (double)m->nbytes);
	printf("%c%04o %12llu %12llu %7s %-6s  %s  %s%s%s%s\n", letters[m->kind], m->mode,
	       (unsigned long long)m->nbytes, (unsigned long long)stored, ratio, method_name(a, i), when, name,
	       m->kind == PITH_MEMBER_DIRECTORY ? "/" : "",
	       m->kind == PITH_MEMBER_HARD_LINK ? " = " : m->target_nbytes > 0 ? " -> " : "", target);
	free(name);
	free(target);
	return CLI_OK;
}

static int run_list(struct cli *cli, const void *options)
{
	const struct list_options *o = options;
	struct cli_archive a;
	int code = cli_archive_open(cli, cli->operand[0], false, &a);
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
	code = code != CLI_OK ? code : a.fault;
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
	    "segments it lies in), their ratio, how it is coded, time, name.\n",
	.examples = "pith list corpus.pz\n"
	            "pith list --json corpus.pz\n",
	.options = list_table,
	.options_nbytes = sizeof(struct list_options),
	.min_operands = 1,
	.max_operands = 1,
	.run = run_list,
};
