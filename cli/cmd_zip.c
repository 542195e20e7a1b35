/*
 * pith zip: files, directories and links, or the members of tar and zip archives, into a text archive.
 *
 * A new archive grows under a temporary name beside the target.  An append grows behind the archive's end and counts
 * only with its trailer, so whatever happens before leaves the archive as it was.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"
#include "cli_output.h"
#include "zip_input.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

struct zip_options {
	const char *model, *output, *level;
	uint64_t threads, segment, window, overlap, streams;
	bool append, embed, no_model, from_tar, as_file, no_owner, no_mix, no_verify, ignore_failed_read, json, force;
};

static const struct zip_options zip_defaults = {.level = "default", .overlap = UINT64_MAX};

static const struct cli_option zip_table[] = {
    {"output", 'o', CLI_STRING, offsetof(struct zip_options, output), "OUT.pz",
     "the archive to write; '-': standard output"},
    {"model", 'm', CLI_STRING, offsetof(struct zip_options, model), "MODEL",
     "the model to code with; default: the embedded one, at the level\nfast a smaller one"},
    {"threads", 0, CLI_COUNT, offsetof(struct zip_options, threads), "N",
     "threads; default: all cores.  The archive does not depend on it"},
    {"level", 'l', CLI_STRING, offsetof(struct zip_options, level), "LEVEL",
     "fast, default or small: how much time may go into size, both ways"},
    {"segment", 0, CLI_SIZE, offsetof(struct zip_options, segment), "SIZE",
     "content bytes of a segment, 4KiB to 16MiB; default 1MiB,\nat the level small 16MiB"},
    {"window", 0, CLI_COUNT, offsetof(struct zip_options, window), "N",
     "tokens of context before a restart; default: the model's context at the\nlevel small, three eighths of it, fast: a quarter"},
    {"overlap", 0, CLI_COUNT, offsetof(struct zip_options, overlap), "N",
     "tokens kept at a restart, at most half the window; default a sixth of it,\nfast and small: an eighth"},
    {"streams", 0, CLI_COUNT, offsetof(struct zip_options, streams), "N",
     "streams of a segment, 1 to 256; default: by its size"},
    {"no-mix", 0, CLI_FLAG, offsetof(struct zip_options, no_mix), NULL,
     "code with the model alone, without models that learn the text"},
    {"append", 'a', CLI_FLAG, offsetof(struct zip_options, append), NULL,
     "add to the archive, which must exist, with its model; a member with a\nname that is there replaces that one"},
    {"embed-model", 0, CLI_FLAG, offsetof(struct zip_options, embed), NULL,
     "put the model inside: restoring needs no other file"},
    {"no-model", 0, CLI_FLAG, offsetof(struct zip_options, no_model), NULL,
     "code with zstd alone: restoring needs no model"},
    {"from-tar", 0, CLI_FLAG, offsetof(struct zip_options, from_tar), NULL,
     "every PATH, also '-', is a tar or zip archive: store its members"},
    {"as-file", 0, CLI_FLAG, offsetof(struct zip_options, as_file), NULL,
     "store a tar or zip archive as the file it is"},
    {"no-owner", 0, CLI_FLAG, offsetof(struct zip_options, no_owner), NULL,
     "do not store owners"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct zip_options, no_verify), NULL,
     "do not decode each coded segment and compare; twice as fast"},
    {"ignore-failed-read", 0, CLI_FLAG, offsetof(struct zip_options, ignore_failed_read), NULL,
     "files that cannot be read are left out and named, which is no failure"},
    {"force", 'f', CLI_FLAG, offsetof(struct zip_options, force), NULL,
     "replace the archive if it exists"},
    {"json", 0, CLI_FLAG, offsetof(struct zip_options, json), NULL, "print the result as JSON"},
    {0},
};

#define NO_LEVEL ((enum pith_text_level)-1)

static enum pith_text_level level_of(const char *name)
{
	static const char *const names[] = {
	    [PITH_LEVEL_DEFAULT] = "default", [PITH_LEVEL_FAST] = "fast", [PITH_LEVEL_SMALL] = "small"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum pith_text_level)i;
	return NO_LEVEL;
}

struct zipping {
	struct cli *cli;
	const struct zip_options *options;
	struct zip_input input;
	struct cli_archive old; /* --append: the archive that is added to */
	struct cli_model model;
	struct pith_text_coder *coder;
	struct pith_team *team;
	const void *embed;
	size_t embed_nbytes;
	void *mapped; /* of the model's file, when it is embed */
	struct cli_progress progress;
	struct cli_output output;
	FILE *out;
};

/* ---- callbacks of the writer ---- */

static pith_status write_out(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct zipping *z = ctx;
	if (fwrite(data, 1, nbytes, z->out) == nbytes)
		return PITH_OK;
	z->input.failed_on = z->options->output;
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
}

static pith_status sync_out(void *ctx, struct pith_error *err)
{
	struct zipping *z = ctx;
	z->input.failed_on = z->options->output;
	if (fflush(z->out) != 0 || (z->out != stdout && fsync(fileno(z->out)) != 0))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	return PITH_OK;
}

static void show_progress(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes)
{
	struct zipping *z = ctx;
	char note[64] = "";
	if (content_nbytes > 0 && stored_nbytes > z->old.info.archive_nbytes + 64)
		snprintf(note, sizeof(note), "to %.1f%%%s",
		         100.0 * (double)(stored_nbytes - z->old.info.archive_nbytes) / (double)content_nbytes,
		         z->options->no_verify ? "" : ", verified");
	cli_progress_update_note(&z->progress, content_nbytes, note);
}

/* ---- what goes in ---- */

/* Is this operand read as an archive?  --from-tar says so, else its name does, if it is a file. */
static bool is_tar(const struct zip_options *o, const char *path)
{
	struct stat st;
	if (o->from_tar || o->as_file)
		return o->from_tar;
	return zip_is_tar_name(path) && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int gather(struct zipping *z, struct zip_items *items)
{
	int code = CLI_OK;
	for (size_t i = 0; i < z->cli->operand_count && code == CLI_OK; i++) {
		const char *path = z->cli->operand[i];
		if (strcmp(path, "-") != 0 && !is_tar(z->options, path))
			code = zip_items_gather(&z->input, items, path);
	}
	return code == CLI_OK ? zip_items_settle(&z->input, items) : code;
}

static pith_status add_stdin(struct zipping *z, struct pith_error *err)
{
	struct pith_archive_member m = {.kind = PITH_MEMBER_FILE, .mode = 0644, .name = "stdin",
	                                .name_nbytes = 5, .target = ""};
	PITH_TRY(pith_archive_writer_member(z->input.writer, &m, err));
	return zip_add_content(&z->input, STDIN_FILENO, "standard input", NULL, err);
}

static pith_status add_tar(struct zipping *z, const char *path, struct pith_error *err)
{
	uint64_t members;
	PITH_TRY(zip_tar_add(&z->input, strcmp(path, "-") == 0 ? NULL : path, &members, err));
	cli_say(z->cli, "%s: %llu members of the archive%s", z->input.failed_on, (unsigned long long)members,
	        z->options->from_tar ? "" : " (--as-file stores it as a file)");
	return PITH_OK;
}

static pith_status add_all(struct zipping *z, struct zip_items *items, struct pith_error *err)
{
	bool had_stdin = false;
	PITH_TRY(zip_items_add(&z->input, items, err));
	for (size_t i = 0; i < z->cli->operand_count; i++) {
		const char *path = z->cli->operand[i];
		bool is_stdin = strcmp(path, "-") == 0;
		if (is_stdin && had_stdin)
			continue;
		had_stdin = had_stdin || is_stdin;
		if (is_tar(z->options, path))
			PITH_TRY(add_tar(z, path, err));
		else if (is_stdin)
			PITH_TRY(add_stdin(z, err));
	}
	return PITH_OK;
}

static pith_status write_archive(struct zipping *z, struct zip_items *items,
                                 struct pith_archive_stats *stats, struct pith_error *err)
{
	const struct zip_options *o = z->options;
	struct pith_archive_writer_options options = {
		.coder = z->coder,
		.executor = pith_team_executor(z->team),
		.level = level_of(o->level),
		.segment_nbytes = (uint32_t)o->segment,
		.no_mix = o->no_mix,
		.no_verify = o->no_verify,
		.window = (uint32_t)o->window,
		.overlap_plus_one = o->overlap == UINT64_MAX ? 0 : (uint32_t)o->overlap + 1,
		.stream_count = (uint32_t)o->streams,
		.append_to = z->old.archive,
		.embed = z->embed,
		.embed_nbytes = z->embed_nbytes,
		.barrier = sync_out,
		.sink = write_out,
		.sink_ctx = z,
		.progress = show_progress,
		.progress_ctx = z,
	};
	PITH_TRY(pith_archive_writer_new(&options, &z->input.writer, err));
	if (fstat(fileno(z->out), &z->input.output) != 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	PITH_TRY(add_all(z, items, err));
	z->input.failed_on = o->output;
	PITH_TRY(pith_archive_writer_finish(z->input.writer, stats, err));
	return sync_out(z, err);
}

/* ---- the model ---- */

/* What a level codes with, when no model is named. */
static enum cli_embedded embedded_of(const struct zip_options *o)
{
	return level_of(o->level) == PITH_LEVEL_FAST ? CLI_EMBEDDED_FAST : CLI_EMBEDDED_DEFAULT;
}

static int open_model(struct zipping *z)
{
	const struct zip_options *o = z->options;
	struct cli_model_options options = {.tokenizer = true, .embedded = embedded_of(o)};
	struct pith_error err;
	int code = cli_model_open(z->cli, o->model, &options, &z->model);
	if (code == CLI_OK && pith_text_coder_new(z->model.model, z->model.tokenizer, &z->coder, &err) != PITH_OK)
		code = cli_fail(z->cli, z->model.path, &err);
	uint64_t window = o->window != 0 ? o->window : z->model.info.context_length;
	if (code == CLI_OK && (window > z->model.info.context_length ||
	                       (o->overlap != UINT64_MAX && o->overlap > window / 2)))
		code = cli_usage(z->cli, "the model's context is %llu: --window is at most that, --overlap half of it",
		                 (unsigned long long)z->model.info.context_length);
	return code;
}

/* The bytes of the model's file, to put inside. */
static int load_embed(struct zipping *z)
{
	struct stat st;
	if (z->options->model == NULL) {
		z->embed = cli_embedded_model(embedded_of(z->options), &z->embed_nbytes);
		return CLI_OK;
	}
	int fd = open(z->options->model, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		z->embed_nbytes = (size_t)st.st_size;
		z->mapped = mmap(NULL, z->embed_nbytes, PROT_READ, MAP_PRIVATE, fd, 0);
		z->mapped = z->mapped == MAP_FAILED ? NULL : z->mapped;
		z->embed = z->mapped;
	}
	int code = z->embed != NULL ? CLI_OK : cli_fail_errno(z->cli, z->options->model);
	if (fd >= 0)
		close(fd);
	return code;
}

/* ---- output ---- */

/* The archive that grows: at its end, and locked before it is read, so that no other append makes it longer meanwhile. */
static int open_old(struct zipping *z)
{
	const struct zip_options *o = z->options;
	z->out = fopen(o->output, "r+b");
	if (z->out == NULL)
		return cli_fail_errno(z->cli, o->output);
	if (flock(fileno(z->out), LOCK_EX | LOCK_NB) != 0) {
		cli_say(z->cli, "%s: another append is at work on it", o->output);
		return CLI_FAILED;
	}
	int code = cli_archive_open(z->cli, o->output, false, &z->old);
	if (code != CLI_OK)
		return code;
	static const uint8_t none[16];
	bool has_model = memcmp(z->old.info.model_identity, none, 16) != 0;
	if (!has_model && o->model != NULL)
		return cli_usage(z->cli, "%s was written without a model, and goes on without", o->output);
	if (has_model && !o->no_model)
		code = cli_archive_open_model(z->cli, &z->old, o->model);
	if (code != CLI_OK)
		return code;
	z->coder = z->old.coder;
	if (ftruncate(fileno(z->out), (off_t)z->old.info.archive_nbytes) != 0 || fseeko(z->out, 0, SEEK_END) != 0)
		return cli_fail_errno(z->cli, o->output);
	return CLI_OK;
}

static int open_output(struct zipping *z)
{
	if (z->options->append)
		return open_old(z);
	int code = cli_output_open(z->cli, z->options->output, z->options->force, &z->output);
	z->out = z->output.file;
	return code;
}

/* What was appended in vain is taken away again. */
static int close_output(struct zipping *z, int code)
{
	if (!z->options->append)
		return cli_output_close(z->cli, &z->output, code);
	if (z->out == NULL)
		return code;
	int fd = dup(fileno(z->out));
	/* what the buffer still holds would make the file longer again */
	if (fclose(z->out) != 0 && code == CLI_OK)
		code = cli_fail_errno(z->cli, z->options->output);
	if (code != CLI_OK && z->input.writer != NULL && ftruncate(fd, (off_t)z->old.info.archive_nbytes) != 0)
		cli_fail_errno(z->cli, z->options->output);
	close(fd);
	return code;
}

static int print_result(struct zipping *z, const struct pith_archive_stats *s, double seconds)
{
	double content = (double)s->content_nbytes;
	uint64_t written = s->archive_nbytes - z->old.info.archive_nbytes;
	double bits = s->content_nbytes > 0 ? 8.0 * (double)written / content : 0.0;
	char identity[33], from[16], to[16];
	const struct cli_model *model = z->options->append ? &z->old.model : &z->model;
	if (s->verify_failures > 0)
		cli_say(z->cli, "%llu segments did not decode to themselves and were coded otherwise: please report this",
		        (unsigned long long)s->verify_failures);
	if (s->replaced > 0)
		cli_say(z->cli, "%llu members replaced earlier ones of the same name", (unsigned long long)s->replaced);
	cli_say(z->cli, "%s -> %s, %.3f bits per byte, %.1f KB/s%s; %llu of %llu segments by the model",
	        cli_format_size(s->content_nbytes, from), cli_format_size(written, to), bits,
	        content / 1000.0 / (seconds > 0 ? seconds : 1e-9), z->options->no_verify ? "" : " with verification",
	        (unsigned long long)s->model_segments,
	        (unsigned long long)(s->segments - z->old.info.segment_count));
	if (z->input.left_out > 0)
		cli_say(z->cli, "%llu things were left out", (unsigned long long)z->input.left_out);
	uint64_t ignored = z->options->ignore_failed_read ? z->input.unreadable : 0;
	int code = z->input.left_out > ignored ? CLI_FAILED : CLI_OK;
	if (!z->options->json)
		return code;
	int printed = cli_print_json(json_pack(
	    "{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:b, s:s, s:i, s:i, s:i}", "members",
	    (json_int_t)s->members, "replaced", (json_int_t)s->replaced, "left_out", (json_int_t)z->input.left_out,
	    "content_nbytes", (json_int_t)s->content_nbytes, "archive_nbytes", (json_int_t)s->archive_nbytes,
	    "bits_per_byte", bits, "seconds", seconds, "segments", (json_int_t)s->segments,
	    "model_segments", (json_int_t)s->model_segments, "verify_failures",
	    (json_int_t)s->verify_failures, "segment_memory_nbytes", (json_int_t)s->segment_memory_nbytes, "verified", (int)!z->options->no_verify, "model_identity",
	    cli_format_digest(model->info.identity, identity), "archive_version",
	    (int)PITH_ARCHIVE_VERSION, "coder_version", (int)PITH_CODER_VERSION, "numerics_version",
	    (int)model->info.numerics_version));
	return code != CLI_OK ? code : printed;
}

/* ---- the command ---- */

static int zip_all(struct zipping *z, struct zip_items *items, struct pith_archive_stats *stats)
{
	struct pith_error err = {0};
	cli_progress_start(&z->progress, "zip", "B", items->nbytes);
	pith_status status = write_archive(z, items, stats, &err);
	cli_progress_end(&z->progress);
	return status == PITH_OK ? CLI_OK : cli_fail(z->cli, z->input.failed_on, &err);
}

static int check_options(struct cli *cli, const struct zip_options *o)
{
	if (o->output == NULL)
		return cli_usage(cli, "name the archive to write with -o");
	if (strcmp(o->output, "-") == 0 && o->json)
		return cli_usage(cli, "-o - and --json both want standard output");
	if (strcmp(o->output, "-") == 0 && isatty(STDOUT_FILENO))
		return cli_usage(cli, "an archive is not for a terminal");
	if (o->append && (strcmp(o->output, "-") == 0 || o->force || o->embed))
		return cli_usage(cli, "--append wants an archive that exists: no -o -, --force or --embed-model");
	if (o->append && o->segment != 0)
		return cli_usage(cli, "--append goes on with the segments of the archive: no --segment");
	if (o->no_model && (o->model != NULL || o->embed))
		return cli_usage(cli, "--no-model excludes -m and --embed-model");
	if (o->from_tar && o->as_file)
		return cli_usage(cli, "--from-tar and --as-file exclude each other");
	if (level_of(o->level) == NO_LEVEL)
		return cli_usage(cli, "--level is fast, default or small, not '%s'", o->level);
	if (o->segment != 0 && (o->segment < PITH_MIN_SEGMENT_NBYTES || o->segment > PITH_MAX_SEGMENT_NBYTES))
		return cli_usage(cli, "--segment is 4KiB to 16MiB");
	if (o->streams > 256 || o->window > 1u << 20 || o->window == 1 ||
	    (o->overlap != UINT64_MAX && o->overlap > 1u << 20))
		return cli_usage(cli, "--window, --overlap or --streams is out of range");
	return CLI_OK;
}

static int run_zip(struct cli *cli, const void *options)
{
	const struct zip_options *o = options;
	struct zipping z = {.cli = cli, .options = o, .input = {.cli = cli, .no_owner = o->no_owner},
	                    .old = {.fd = -1}};
	struct zip_items items = {0};
	struct pith_archive_stats stats = {0};
	double start = cli_seconds();
	setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive: names in tar and zip are UTF-8 */
	int code = check_options(cli, o);
	if (code == CLI_OK)
		code = gather(&z, &items);
	if (code == CLI_OK && !o->append && !o->no_model)
		code = open_model(&z);
	if (code == CLI_OK && o->embed)
		code = load_embed(&z);
	if (code == CLI_OK)
		code = cli_team_new(cli, o->threads, &z.team);
	if (code == CLI_OK)
		code = open_output(&z);
	if (code == CLI_OK)
		code = zip_all(&z, &items, &stats);
	code = close_output(&z, code);
	if (code == CLI_OK)
		code = print_result(&z, &stats, cli_seconds() - start);
	pith_archive_writer_free(z.input.writer);
	if (!o->append)
		pith_text_coder_free(z.coder);
	cli_archive_close(&z.old);
	cli_model_close(&z.model);
	pith_team_free(z.team);
	if (z.mapped != NULL)
		munmap(z.mapped, z.embed_nbytes);
	zip_items_free(&items);
	return code;
}

const struct cli_command cmd_zip = {
	.name = "zip",
	.summary = "archive text, coded with a language model",
	.synopsis = "[-m MODEL] -o OUT.pz PATH...\n"
	            "--append -o OUT.pz PATH...",
	.description =
	    "Writes files, directories and links ('-': standard input) to one archive, with names,\n"
	    "modes, times and owners.  Text is coded with the model; what the model does not make\n"
	    "smaller, and binary data but at the level small, with zstd.  Each coded segment is\n"
	    "decoded again and compared before it is written.  'pith unzip' needs the same model,\n"
	    "which the archive names by its identity.\n"
	    "\n"
	    "A PATH whose name ends in .tar, .tar.gz (.xz, .zst, .bz2 ...), .tgz or .zip is read as an\n"
	    "archive and its members are stored, which is said; files found in folders are always\n"
	    "stored as they are.  What cannot be read, devices and the like, and the archive itself\n"
	    "are left out, named and counted; the exit code is 1 then, and the archive holds the rest.\n"
	    "\n"
	    "--append writes behind what is there, and until all of it is on the disk the archive\n"
	    "is what it was: after an interruption it is still readable, and can be appended to again.\n"
	    "\n"
	    "The same content, options and version of zstd give the same archive, whatever the\n"
	    "machine and the number of threads.\n",
	.examples = "pith zip -o corpus.pz letters/ notes.txt\n"
	            "pith zip -o corpus.pz corpus.tar.zst\n"
	            "tar c src | pith zip --from-tar -o src.pz -\n"
	            "pith zip --append -o corpus.pz more/\n"
	            "pith zip -m big.pith -o corpus.pz corpus/\n",
	.options = zip_table,
	.options_nbytes = sizeof(struct zip_options),
	.defaults = &zip_defaults,
	.min_operands = 1,
	.max_operands = SIZE_MAX,
	.run = run_zip,
};
