/*
 * Opening archives for commands.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

pith_status cli_archive_read_at(void *ctx, uint64_t off, void *data, size_t nbytes, struct pith_error *err)
{
	const int *fd = ctx;
	uint8_t *p = data;
	while (nbytes > 0) {
		ssize_t got = pread(*fd, p, nbytes, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return pith_fail(err, PITH_E_IO, off, NULL, "%s",
			                 got < 0 ? strerror(errno) : "the file became shorter while it was read");
		p += got;
		off += (uint64_t)got;
		nbytes -= (size_t)got;
	}
	return PITH_OK;
}

/* stdin that cannot seek: the directory is at the end, so all of it has to be here first. */
static int spool_stdin(struct cli *cli)
{
	static const size_t piece_nbytes = 1 << 16;
	FILE *file = tmpfile();
	char *piece = malloc(piece_nbytes);
	int fd = -1;
	size_t got = 0;
	cli_say(cli, "standard input cannot seek: copying it to a temporary file first");
	while (file != NULL && piece != NULL && (got = fread(piece, 1, piece_nbytes, stdin)) > 0)
		if (fwrite(piece, 1, got, file) != got)
			break;
	if (file != NULL && piece != NULL && got == 0 && !ferror(stdin) && fflush(file) == 0)
		fd = dup(fileno(file));
	if (file != NULL)
		fclose(file);
	free(piece);
	return fd;
}

/* Say what is not whole about an archive whose members can be had all the same. */
static void say_state(struct cli *cli, struct cli_archive *a)
{
	if (a->info.ignored_nbytes > 0)
		cli_say(cli,
		        "%s: the last %llu bytes are not part of the archive: an append was interrupted, or the file "
		        "is cut off; going by what was there before",
		        a->path, (unsigned long long)a->info.ignored_nbytes);
	if (a->info.lost_links > 0)
		cli_say(cli, "%s: %llu hard links are lost with their files", a->path,
		        (unsigned long long)a->info.lost_links);
	if (a->info.ignored_nbytes > 0 || a->info.is_recovered)
		a->fault = CLI_DAMAGED;
}

static void say_made(struct cli *cli, const struct cli_archive *a)
{
	cli_say(cli, "%s: made a directory from what is left: %llu segments, %llu members%s", a->path,
	        (unsigned long long)a->info.segment_count, (unsigned long long)a->info.member_count,
	        a->info.header_lost ? "; the header is lost, and with it which model it needs" : "");
}

/* Behind the last complete directory: is there more content, of an append that lost its end? */
static void look_behind(struct cli *cli, const struct pith_archive_source *source, struct cli_archive *a)
{
	struct pith_archive *found;
	struct pith_archive_info info;
	struct pith_error err;
	if (a->info.ignored_nbytes == 0)
		return;
	if (pith_archive_recover(source, a->archive, &found, &err) != PITH_OK) {
		cli_fail(cli, a->path, &err); /* said; the complete directory serves */
		return;
	}
	pith_archive_info(found, &info);
	if (info.segment_count == a->info.segment_count) {
		pith_archive_close(found);
		return;
	}
	pith_archive_close(a->archive);
	a->archive = found;
	a->info = info;
	say_made(cli, a);
}

static int open_archive(struct cli *cli, bool recover, uint64_t nbytes, struct cli_archive *a)
{
	struct pith_archive_source source = {nbytes, cli_archive_read_at, &a->fd};
	struct pith_error err;
	pith_status status = pith_archive_open(&source, &a->archive, &err);
	bool damaged = status == PITH_E_CORRUPT || status == PITH_E_NOT_OURS;
	if (damaged && recover) {
		int code = cli_fail(cli, a->path, &err);
		status = pith_archive_recover(&source, NULL, &a->archive, &err);
		if (status != PITH_OK)
			return code;
		pith_archive_info(a->archive, &a->info);
		say_made(cli, a);
	} else if (status != PITH_OK) {
		int code = cli_fail(cli, a->path, &err);
		if (status == PITH_E_CORRUPT)
			cli_say(cli, "'pith unzip --recover' restores what is left");
		return code;
	}
	pith_archive_info(a->archive, &a->info);
	if (recover)
		look_behind(cli, &source, a);
	say_state(cli, a);
	return CLI_OK;
}

int cli_archive_open(struct cli *cli, const char *path, bool recover, struct cli_archive *out)
{
	struct stat st;
	bool is_stdin = strcmp(path, "-") == 0;
	*out = (struct cli_archive){.path = is_stdin ? "standard input" : path, .fd = -1};
	if (!is_stdin)
		out->fd = open(path, O_RDONLY | O_CLOEXEC);
	else if (lseek(STDIN_FILENO, 0, SEEK_CUR) == 0)
		out->fd = dup(STDIN_FILENO);
	else
		out->fd = spool_stdin(cli);
	if (out->fd < 0 || fstat(out->fd, &st) != 0)
		return cli_fail_errno(cli, out->path);
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : ESPIPE;
		return cli_fail_errno(cli, out->path);
	}
	return open_archive(cli, recover, (uint64_t)st.st_size, out);
}

void cli_archive_close(struct cli_archive *a)
{
	pith_archive_close(a->archive);
	pith_text_coder_free(a->coder);
	cli_model_close(&a->model);
	pith_team_free(a->team);
	if (a->embedded != NULL)
		munmap(a->embedded, a->embedded_nbytes);
	free(a->selected);
	if (a->fd >= 0)
		close(a->fd);
	*a = (struct cli_archive){.fd = -1};
}

/* ---- members ---- */

/* Is 'name' the member 'wanted', or inside it? */
static bool is_selected_by(const char *name, const char *wanted)
{
	size_t size = strlen(wanted);
	while (size > 0 && wanted[size - 1] == '/')
		size--;
	return size > 0 && strncmp(name, wanted, size) == 0 && (name[size] == '\0' || name[size] == '/');
}

int cli_archive_select(struct cli *cli, struct cli_archive *a, char **names, size_t count)
{
	if (count == 0)
		return CLI_OK;
	size_t members = (size_t)a->info.member_count;
	a->selected = calloc(members + 1, sizeof(*a->selected));
	if (a->selected == NULL)
		return cli_fail_errno(cli, a->path);
	for (size_t n = 0; n < count; n++) {
		bool found = false;
		for (size_t i = 0; i < members; i++) {
			if (!is_selected_by(pith_archive_member_at(a->archive, i)->name, names[n]))
				continue;
			a->selected[i] = true;
			found = true;
		}
		if (!found) {
			cli_say(cli, "%s: no member '%s'; 'pith list' shows what there is", a->path, names[n]);
			return CLI_FAILED;
		}
	}
	for (size_t i = 0; i < members; i++) {
		const struct pith_archive_member *m = pith_archive_member_at(a->archive, i);
		if (a->selected[i] && m->kind == PITH_MEMBER_HARD_LINK)
			a->selected[pith_archive_find(a->archive, m->target)] = true;
	}
	return CLI_OK;
}

/* ---- the model ---- */

/* The model inside the archive, mapped. */
static int open_embedded(struct cli *cli, struct cli_archive *a, const struct cli_model_options *options)
{
	uint64_t nbytes = a->info.model_off + a->info.model_nbytes;
	a->embedded_nbytes = (size_t)nbytes;
	a->embedded = mmap(NULL, a->embedded_nbytes, PROT_READ, MAP_PRIVATE, a->fd, 0);
	if (a->embedded == MAP_FAILED) {
		a->embedded = NULL;
		return cli_fail_errno(cli, a->path);
	}
	return cli_model_open_memory(cli, "the model inside the archive",
	                             (const char *)a->embedded + a->info.model_off, (size_t)a->info.model_nbytes,
	                             options, &a->model);
}

static bool is_wanted(const struct cli_archive *a)
{
	return a->info.header_lost || memcmp(a->model.info.identity, a->info.model_identity, 16) == 0;
}

/* models/<identity>.pith beside the program's folder, where it is installed; "" when that is not known. */
static void installed_path(const char *identity, char *path, size_t cap)
{
	ssize_t got = readlink("/proc/self/exe", path, cap - 1);
	path[got > 0 ? got : 0] = '\0';
	char *slash = strrchr(path, '/');
	size_t used = slash != NULL ? (size_t)(slash - path) : 0;
	int written = snprintf(path + used, cap - used, "/../share/pith/models/%s.pith", identity);
	if (slash == NULL || written < 0 || (size_t)written >= cap - used)
		path[0] = '\0';
}

/* Nobody named one: one of the program's own, or the one whose file is named by the identity. */
static int search_model(struct cli *cli, struct cli_archive *a, const struct cli_model_options *options)
{
	char wanted[33], here[64];
	size_t nbytes;
	cli_format_digest(a->info.model_identity, wanted);
	snprintf(here, sizeof(here), "models/%s.pith", wanted);
	installed_path(wanted, a->model_path, sizeof(a->model_path));
	const char *const paths[] = {here, a->model_path};
	for (size_t i = 0; i < CLI_EMBEDDED_COUNT + PITH_ARRAY_LENGTH(paths); i++) {
		struct cli_model_options own = *options;
		own.embedded = i < CLI_EMBEDDED_COUNT ? (enum cli_embedded)i : CLI_EMBEDDED_DEFAULT;
		const char *path = i < CLI_EMBEDDED_COUNT ? NULL : paths[i - CLI_EMBEDDED_COUNT];
		bool is_there = path != NULL ? access(path, R_OK) == 0 : cli_embedded_model(own.embedded, &nbytes) != NULL;
		if (!is_there)
			continue;
		int code = cli_model_open(cli, path, &own, &a->model);
		if (path == here)
			a->model.path = strcpy(a->model_path, here);
		if (code != CLI_OK || is_wanted(a))
			return code;
		cli_model_close(&a->model);
	}
	cli_say(cli,
	        "%s: needs the model with identity %s, which is neither an embedded one nor %s nor %s: name it "
	        "with -m",
	        a->path, wanted, here, a->model_path);
	return CLI_UNSUPPORTED;
}

static int open_wanted(struct cli *cli, struct cli_archive *a, const char *model, bool no_verify)
{
	struct cli_model_options options = {.no_verify = no_verify, .tokenizer = true};
	if (model == NULL && a->info.model_nbytes == 0)
		return search_model(cli, a, &options);
	int code = model != NULL ? cli_model_open(cli, model, &options, &a->model) :
	                           open_embedded(cli, a, &options);
	if (code != CLI_OK || is_wanted(a))
		return code;
	char wanted[33], given[33];
	cli_say(cli, "%s: needs the model with identity %s; %s is %s: name the right one with -m", a->path,
	        cli_format_digest(a->info.model_identity, wanted), a->model.path,
	        cli_format_digest(a->model.info.identity, given));
	return CLI_UNSUPPORTED;
}

static int open_coder(struct cli *cli, struct cli_archive *a, const char *model, bool no_verify)
{
	struct pith_error err;
	int code = open_wanted(cli, a, model, no_verify);
	if (code == CLI_OK && pith_text_coder_new(a->model.model, a->model.tokenizer, &a->coder, &err) != PITH_OK)
		code = cli_fail(cli, a->model.path, &err);
	return code;
}

int cli_archive_open_model(struct cli *cli, struct cli_archive *a, const char *model)
{
	return open_coder(cli, a, model, false);
}

int cli_archive_need_model(struct cli *cli, struct cli_archive *a, const char *model,
                           uint64_t threads, bool no_verify)
{
	if (cli_team_new(cli, threads, &a->team) != CLI_OK)
		return CLI_FAILED;
	return pith_archive_needs_model(a->archive, a->selected) ? open_coder(cli, a, model, no_verify) : CLI_OK;
}

/* ---- names ---- */

json_t *cli_json_name(const char *name)
{
	json_t *plain = json_string(name); /* NULL when it is not UTF-8 */
	if (plain != NULL)
		return plain;
	char *printable = cli_printable(name);
	json_t *escaped = printable != NULL ? json_string(printable) : NULL;
	free(printable);
	return escaped;
}
