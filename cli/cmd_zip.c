/*
 * pith zip: files, directories and links into a text archive.
 *
 * The list of members is made first and sorted, so the same tree gives the same archive, and the total for the
 * progress bar is known.  The archive grows under a temporary name beside the target.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_model.h"
#include "text.h"

#include "bytes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_NBYTES ((size_t)1 << 18)
#define MAX_PATH_NBYTES 4096u
#define MAX_DEPTH 255u

struct zip_options {
	const char *model, *output;
	uint64_t threads, segment, window, overlap, streams;
	bool no_mix, no_verify, json, force;
};

static const struct zip_options zip_defaults = {.segment = PITH_DEFAULT_SEGMENT_NBYTES, .overlap = UINT64_MAX};

static const struct cli_option zip_table[] = {
    {"output", 'o', CLI_STRING, offsetof(struct zip_options, output), "OUT.pz",
     "the archive to write; '-': standard output"},
    {"model", 'm', CLI_STRING, offsetof(struct zip_options, model), "MODEL",
     "the model to code with; default: the embedded one"},
    {"threads", 0, CLI_COUNT, offsetof(struct zip_options, threads), "N",
     "threads; default: all cores.  The archive does not depend on it"},
    {"segment", 0, CLI_SIZE, offsetof(struct zip_options, segment), "SIZE",
     "content bytes of a segment, 4KiB to 16MiB; default 1MiB"},
    {"window", 0, CLI_COUNT, offsetof(struct zip_options, window), "N",
     "tokens of context before a restart; default: the model's"},
    {"overlap", 0, CLI_COUNT, offsetof(struct zip_options, overlap), "N",
     "tokens kept at a restart, at most half the window; default an eighth of it"},
    {"streams", 0, CLI_COUNT, offsetof(struct zip_options, streams), "N",
     "streams of a segment, 1 to 256; default: by its size"},
    {"no-mix", 0, CLI_FLAG, offsetof(struct zip_options, no_mix), NULL,
     "code with the model alone, without models that learn the text"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct zip_options, no_verify), NULL,
     "do not decode each coded segment and compare; twice as fast"},
    {"force", 'f', CLI_FLAG, offsetof(struct zip_options, force), NULL,
     "replace the archive if it exists"},
    {"json", 0, CLI_FLAG, offsetof(struct zip_options, json), NULL, "print the result as JSON"},
    {0},
};

/* ---- what goes in ---- */

struct item {
	char *path;       /* for the system */
	const char *name; /* in the archive: a part of 'path' */
	struct stat st;
};

struct items {
	struct item *item;
	size_t count, cap;
	uint64_t nbytes; /* of the files */
};

static void free_items(struct items *items)
{
	for (size_t i = 0; i < items->count; i++)
		free(items->item[i].path);
	free(items->item);
}

/* The part of a path that stays inside a target: behind every leading '/', './' and '../'. */
static const char *inner_name(const char *path)
{
	for (;;) {
		if (path[0] == '/')
			path++;
		else if (path[0] == '.' && (path[1] == '/' || path[1] == '\0'))
			path++;
		else if (path[0] == '.' && path[1] == '.' && (path[2] == '/' || path[2] == '\0'))
			path += 2;
		else
			return path;
	}
}

/* Remove '//', '/./' and '/' at the end, in place; '..' stays, and is refused behind a name. */
static void tidy_path(char *path)
{
	char *to = path;
	for (const char *p = path; *p != '\0';) {
		if (p[0] == '/' && (p[1] == '/' || (p[1] == '\0' && p != path))) {
			p++;
		} else if (p[0] == '/' && p[1] == '.' && (p[2] == '/' || p[2] == '\0')) {
			p += 2;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
}

/* Add 'folder'/'name' (name NULL: just folder).  False after saying what is wrong. */
static bool add_item(struct cli *cli, struct items *items, const char *folder, const char *name)
{
	struct item it;
	size_t nbytes = strlen(folder) + (name != NULL ? strlen(name) + 1 : 0) + 1;
	if (items->count == items->cap) {
		size_t cap = items->cap * 2 + 64;
		struct item *grown = realloc(items->item, cap * sizeof(*grown));
		if (grown == NULL)
			return cli_fail_errno(cli, folder), false;
		items->item = grown;
		items->cap = cap;
	}
	it.path = malloc(nbytes);
	if (it.path == NULL)
		return cli_fail_errno(cli, folder), false;
	snprintf(it.path, nbytes, "%s%s%s", folder, name != NULL ? "/" : "", name != NULL ? name : "");
	tidy_path(it.path);
	it.name = inner_name(it.path);
	if (lstat(it.path, &it.st) != 0) {
		cli_fail_errno(cli, it.path);
		free(it.path);
		return false;
	}
	mode_t mode = it.st.st_mode;
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
		cli_say(cli, "%s: neither file, directory nor link: left out", it.path);
		free(it.path);
		return true;
	}
	if (S_ISREG(mode))
		items->nbytes += (uint64_t)it.st.st_size;
	items->item[items->count++] = it;
	return true;
}

static bool add_folder(struct cli *cli, struct items *items, const char *path)
{
	size_t depth = 0;
	for (const char *p = path; *p != '\0'; p++)
		depth += *p == '/' ? 1 : 0;
	if (depth > MAX_DEPTH || strlen(path) >= MAX_PATH_NBYTES) {
		cli_say(cli, "%.60s...: too deep", path);
		return false;
	}
	DIR *dir = opendir(path);
	if (dir == NULL)
		return cli_fail_errno(cli, path), false;
	bool good = true;
	struct dirent *entry;
	while (good && (errno = 0, entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			good = add_item(cli, items, path, entry->d_name);
	if (good && errno != 0) {
		cli_fail_errno(cli, path);
		good = false;
	}
	closedir(dir);
	return good;
}

static int compare_items(const void *a, const void *b)
{
	return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

static int gather(struct cli *cli, struct items *items)
{
	for (size_t i = 0; i < cli->operand_count; i++) {
		const char *path = cli->operand[i];
		size_t first = items->count;
		if (strcmp(path, "-") == 0)
			continue;
		if (!add_item(cli, items, path, NULL))
			return CLI_FAILED;
		for (size_t k = first; k < items->count; k++) { /* grows as it goes: no recursion */
			char *folder = items->item[k].path;
			if (S_ISDIR(items->item[k].st.st_mode) && !add_folder(cli, items, folder))
				return CLI_FAILED;
		}
	}
	if (items->count > 0)
		qsort(items->item, items->count, sizeof(*items->item), compare_items);
	for (size_t i = 1; i < items->count; i++)
		if (compare_items(&items->item[i - 1], &items->item[i]) == 0 && items->item[i].name[0] != '\0') {
			cli_say(cli, "%s and %s would have the same name in the archive",
			        items->item[i - 1].path, items->item[i].path);
			return CLI_FAILED;
		}
	return CLI_OK;
}

/* ---- writing ---- */

struct zipping {
	struct cli *cli;
	const struct zip_options *options;
	struct cli_model model;
	struct pith_text_coder *coder;
	struct pith_team *team;
	struct pith_archive_writer *writer;
	struct cli_progress progress;
	char temporary[MAX_PATH_NBYTES];
	FILE *out;
	const char *failed_on; /* what an error is about */
};

static pith_status write_out(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct zipping *z = ctx;
	if (fwrite(data, 1, nbytes, z->out) == nbytes)
		return PITH_OK;
	z->failed_on = z->options->output;
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
}

static void show_progress(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes)
{
	struct zipping *z = ctx;
	char note[64] = "";
	if (content_nbytes > 0 && stored_nbytes > 64)
		snprintf(note, sizeof(note), "%llu KiB out%s", (unsigned long long)stored_nbytes >> 10,
		         z->options->no_verify ? "" : ", verified");
	cli_progress_update_note(&z->progress, content_nbytes, note);
}

static pith_status add_content(struct zipping *z, int fd, const char *path, struct pith_error *err)
{
	uint8_t *piece = malloc(READ_NBYTES);
	pith_status status = PITH_OK;
	z->failed_on = path;
	if (piece == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	for (bool more = true; more && status == PITH_OK;) {
		size_t nbytes = 0;
		ssize_t got = 0;
		/* full pieces also from a pipe: the archive depends on the first one */
		while (nbytes < READ_NBYTES) {
			got = read(fd, piece + nbytes, READ_NBYTES - nbytes);
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				break;
			nbytes += (size_t)got;
		}
		more = got > 0;
		if (got < 0)
			status = pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
		else if (nbytes > 0)
			status = pith_archive_writer_data(z->writer, piece, nbytes, err);
	}
	free(piece);
	return status;
}

static pith_status add_file(struct zipping *z, const struct item *it,
                            const struct pith_archive_member *m, struct pith_error *err)
{
	int fd = open(it->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	pith_status status = pith_archive_writer_member(z->writer, m, err);
	if (status == PITH_OK)
		status = add_content(z, fd, it->path, err);
	close(fd);
	return status;
}

static pith_status add_member(struct zipping *z, const struct item *it, struct pith_error *err)
{
	char target[MAX_PATH_NBYTES] = "";
	struct pith_archive_member m = {
		.mode = (uint32_t)(it->st.st_mode & 07777),
		.mtime = (int64_t)it->st.st_mtim.tv_sec,
		.mtime_nsec = (uint32_t)it->st.st_mtim.tv_nsec,
		.name = it->name,
		.name_nbytes = strlen(it->name),
		.target = target,
	};
	z->failed_on = it->path;
	if (m.name_nbytes == 0) {
		if (!S_ISREG(it->st.st_mode))
			return PITH_OK; /* '.' or '/' itself: only what is in it */
	}
	if (S_ISREG(it->st.st_mode)) {
		m.kind = PITH_MEMBER_FILE;
		return add_file(z, it, &m, err);
	}
	m.kind = PITH_MEMBER_DIRECTORY;
	if (S_ISLNK(it->st.st_mode)) {
		ssize_t got = readlink(it->path, target, sizeof(target));
		if (got <= 0 || (size_t)got >= sizeof(target))
			return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "cannot read the link: %s",
			                 got < 0 ? strerror(errno) : "its target is too long");
		m.kind = PITH_MEMBER_LINK;
		m.target_nbytes = (size_t)got;
	}
	return pith_archive_writer_member(z->writer, &m, err);
}

static pith_status add_stdin(struct zipping *z, struct pith_error *err)
{
	struct pith_archive_member m = {.kind = PITH_MEMBER_FILE, .mode = 0644, .name = "stdin",
	                                .name_nbytes = 5, .target = ""};
	PITH_TRY(pith_archive_writer_member(z->writer, &m, err));
	return add_content(z, STDIN_FILENO, "standard input", err);
}

static pith_status write_archive(struct zipping *z, const struct items *items,
                                 struct pith_archive_stats *stats, struct pith_error *err)
{
	const struct zip_options *o = z->options;
	struct pith_archive_writer_options options = {
		.coder = z->coder,
		.executor = pith_team_executor(z->team),
		.segment_nbytes = (uint32_t)o->segment,
		.no_mix = o->no_mix,
		.no_verify = o->no_verify,
		.window = (uint32_t)o->window,
		.overlap_plus_one = o->overlap == UINT64_MAX ? 0 : (uint32_t)o->overlap + 1,
		.stream_count = (uint32_t)o->streams,
		.sink = write_out,
		.sink_ctx = z,
		.progress = show_progress,
		.progress_ctx = z,
	};
	PITH_TRY(pith_archive_writer_new(&options, &z->writer, err));
	for (size_t i = 0; i < items->count; i++)
		PITH_TRY(add_member(z, &items->item[i], err));
	for (size_t i = 0; i < z->cli->operand_count; i++) {
		if (strcmp(z->cli->operand[i], "-") == 0) {
			PITH_TRY(add_stdin(z, err));
			break;
		}
	}
	z->failed_on = o->output;
	PITH_TRY(pith_archive_writer_finish(z->writer, stats, err));
	if (fflush(z->out) != 0 || (z->out != stdout && fsync(fileno(z->out)) != 0))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
	return PITH_OK;
}

/* ---- the command ---- */

static int open_output(struct zipping *z)
{
	const char *output = z->options->output;
	struct stat st;
	if (strcmp(output, "-") == 0) {
		z->out = stdout;
		return CLI_OK;
	}
	if (!z->options->force && lstat(output, &st) == 0) {
		cli_say(z->cli, "%s: exists; --force replaces it", output);
		return CLI_FAILED;
	}
	int written = snprintf(z->temporary, sizeof(z->temporary), "%s.XXXXXX", output);
	int fd = -1;
	if (written < 0 || (size_t)written >= sizeof(z->temporary)) {
		z->temporary[0] = '\0';
		errno = ENAMETOOLONG;
	} else {
		fd = mkstemp(z->temporary);
	}
	if (fd < 0) {
		z->temporary[0] = '\0';
		return cli_fail_errno(z->cli, output);
	}
	cli_cleanup_add(z->temporary);
	mode_t mask = umask(0);
	umask(mask);
	fchmod(fd, 0666 & ~mask);
	z->out = fdopen(fd, "wb");
	return z->out != NULL ? CLI_OK : cli_fail_errno(z->cli, output);
}

/* Rename or remove the temporary file. */
static int close_output(struct zipping *z, int code)
{
	if (z->out != NULL && z->out != stdout && fclose(z->out) != 0 && code == CLI_OK)
		code = cli_fail_errno(z->cli, z->options->output);
	if (z->temporary[0] == '\0')
		return code;
	if (code == CLI_OK && rename(z->temporary, z->options->output) != 0)
		code = cli_fail_errno(z->cli, z->options->output);
	if (code != CLI_OK)
		unlink(z->temporary);
	cli_cleanup_remove(z->temporary);
	return code;
}

static int print_result(struct zipping *z, const struct pith_archive_stats *s, double seconds)
{
	double content = (double)s->content_nbytes;
	double bits = s->content_nbytes > 0 ? 8.0 * (double)s->archive_nbytes / content : 0.0;
	char identity[33], from[16], to[16];
	if (s->verify_failures > 0)
		cli_say(z->cli, "%llu segments did not decode to themselves and were stored with zstd: please report this",
		        (unsigned long long)s->verify_failures);
	cli_say(z->cli, "%s -> %s, %.3f bits per byte, %.1f KB/s%s; %llu of %llu segments by the model",
	        cli_format_size(s->content_nbytes, from), cli_format_size(s->archive_nbytes, to), bits,
	        content / 1000.0 / (seconds > 0 ? seconds : 1e-9), z->options->no_verify ? "" : " with verification",
	        (unsigned long long)s->model_segments, (unsigned long long)s->segments);
	cli_say(z->cli, "versions of archive, coder and numerics are 0: the format may change until 1.0");
	if (!z->options->json)
		return CLI_OK;
	return cli_print_json(json_pack(
	    "{s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:b, s:s, s:i, s:i, s:i}", "content_nbytes",
	    (json_int_t)s->content_nbytes, "archive_nbytes", (json_int_t)s->archive_nbytes,
	    "bits_per_byte", bits, "seconds", seconds, "segments", (json_int_t)s->segments,
	    "model_segments", (json_int_t)s->model_segments, "verify_failures",
	    (json_int_t)s->verify_failures, "verified", (int)!z->options->no_verify, "model_identity",
	    cli_format_digest(z->model.info.identity, identity), "archive_version",
	    (int)PITH_ARCHIVE_VERSION, "coder_version", (int)PITH_CODER_VERSION, "numerics_version",
	    (int)z->model.info.numerics_version));
}

static int zip_items(struct zipping *z, const struct items *items)
{
	struct pith_error err = {0};
	struct pith_archive_stats stats = {0};
	double start = cli_seconds();
	cli_progress_start(&z->progress, "zip", "B", items->nbytes);
	pith_status status = write_archive(z, items, &stats, &err);
	cli_progress_end(&z->progress);
	if (status != PITH_OK)
		return cli_fail(z->cli, z->failed_on, &err);
	return print_result(z, &stats, cli_seconds() - start);
}

static int check_options(struct cli *cli, const struct zip_options *o)
{
	if (o->output == NULL)
		return cli_usage(cli, "name the archive to write with -o");
	if (strcmp(o->output, "-") == 0 && o->json)
		return cli_usage(cli, "-o - and --json both want standard output");
	if (strcmp(o->output, "-") == 0 && isatty(STDOUT_FILENO))
		return cli_usage(cli, "an archive is not for a terminal");
	if (o->segment < PITH_MIN_SEGMENT_NBYTES || o->segment > PITH_MAX_SEGMENT_NBYTES)
		return cli_usage(cli, "--segment is 4KiB to 16MiB");
	if (o->streams > 256 || o->window > 1u << 20 || o->window == 1 ||
	    (o->overlap != UINT64_MAX && o->overlap > 1u << 20))
		return cli_usage(cli, "--window, --overlap or --streams is out of range");
	return CLI_OK;
}

static int run_zip(struct cli *cli, const void *options)
{
	const struct zip_options *o = options;
	struct zipping z = {.cli = cli, .options = o};
	struct cli_model_options model = {.tokenizer = true};
	struct items items = {0};
	struct pith_error err;
	int code = check_options(cli, o);
	if (code == CLI_OK)
		code = gather(cli, &items);
	if (code == CLI_OK)
		code = cli_model_open(cli, o->model, &model, &z.model);
	if (code == CLI_OK && pith_text_coder_new(z.model.model, z.model.tokenizer, &z.coder, &err) != PITH_OK)
		code = cli_fail(cli, z.model.path, &err);
	uint64_t window = o->window != 0 ? o->window : z.model.info.context_length;
	if (code == CLI_OK && (window > z.model.info.context_length ||
	                       (o->overlap != UINT64_MAX && o->overlap > window / 2)))
		code = cli_usage(cli, "the model's context is %llu: --window is at most that, --overlap half of it",
		                 (unsigned long long)z.model.info.context_length);
	if (code == CLI_OK)
		code = cli_team_new(cli, o->threads, &z.team);
	if (code == CLI_OK)
		code = open_output(&z);
	if (code == CLI_OK)
		code = zip_items(&z, &items);
	code = close_output(&z, code);
	pith_archive_writer_free(z.writer);
	pith_text_coder_free(z.coder);
	cli_model_close(&z.model);
	pith_team_free(z.team);
	free_items(&items);
	return code;
}

const struct cli_command cmd_zip = {
	.name = "zip",
	.summary = "archive text, coded with a language model",
	.synopsis = "[-m MODEL] -o OUT.pz PATH...",
	.description =
	    "Writes files, directories and symbolic links ('-': standard input) to one archive,\n"
	    "with names, modes and times.  Text is coded with the model, what the model does not\n"
	    "make smaller with zstd.  Each coded segment is decoded again and compared before it is\n"
	    "written.  'pith unzip' needs the same model, which the archive names by its identity.\n"
	    "\n"
	    "The same content, options and version of zstd give the same archive, whatever the\n"
	    "machine and the number of threads.\n",
	.examples = "pith zip -o corpus.pz letters/ notes.txt\n"
	            "tar c src | pith zip -o src.tar.pz -\n"
	            "pith zip -m big.pith -o corpus.pz corpus/\n",
	.options = zip_table,
	.options_nbytes = sizeof(struct zip_options),
	.defaults = &zip_defaults,
	.min_operands = 1,
	.max_operands = SIZE_MAX,
	.run = run_zip,
};
