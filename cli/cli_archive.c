/*
 * Opening archives for commands.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static pith_status read_descriptor(void *ctx, uint64_t off, void *data, size_t nbytes,
                                   struct pith_error *err)
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

int cli_archive_open(struct cli *cli, const char *path, struct cli_archive *out)
{
	struct stat st;
	struct pith_error err;
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
	struct pith_archive_source source = {(uint64_t)st.st_size, read_descriptor, &out->fd};
	if (pith_archive_open(&source, &out->archive, &err) != PITH_OK)
		return cli_fail(cli, out->path, &err);
	pith_archive_info(out->archive, &out->info);
	return CLI_OK;
}

void cli_archive_close(struct cli_archive *a)
{
	pith_archive_close(a->archive);
	pith_text_coder_free(a->coder);
	cli_model_close(&a->model);
	pith_team_free(a->team);
	free(a->selected);
	if (a->fd >= 0)
		close(a->fd);
	*a = (struct cli_archive){.fd = -1};
}

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
	return CLI_OK;
}

int cli_archive_need_model(struct cli *cli, struct cli_archive *a, const char *model,
                           uint64_t threads, bool no_verify)
{
	struct pith_error err;
	struct cli_model_options options = {.no_verify = no_verify, .tokenizer = true};
	bool needed;
	char wanted[33];
	if (cli_team_new(cli, threads, &a->team) != CLI_OK)
		return CLI_FAILED;
	if (pith_archive_needs_model(a->archive, a->selected, &needed, &err) != PITH_OK)
		return cli_fail(cli, a->path, &err);
	if (!needed)
		return CLI_OK;
	cli_format_digest(a->info.model_identity, wanted);
	size_t nbytes;
	if (model == NULL && cli_default_model(&nbytes) == NULL) {
		cli_say(cli, "%s: needs the model with identity %s: name it with -m", a->path, wanted);
		return CLI_UNSUPPORTED;
	}
	int code = cli_model_open(cli, model, &options, &a->model);
	if (code != CLI_OK)
		return code;
	if (memcmp(a->model.info.identity, a->info.model_identity, 16) != 0) {
		char given[33];
		cli_say(cli, "%s: needs the model with identity %s; %s is %s: name the right one with -m",
		        a->path, wanted, a->model.path, cli_format_digest(a->model.info.identity, given));
		return CLI_UNSUPPORTED;
	}
	if (pith_text_coder_new(a->model.model, a->model.tokenizer, &a->coder, &err) != PITH_OK)
		return cli_fail(cli, a->model.path, &err);
	return CLI_OK;
}

/* Bytes of the UTF-8 character at p, 0 if it is none or a control character. */
static size_t printable_nbytes(const unsigned char *p)
{
	if (p[0] >= 0x20 && p[0] < 0x7f)
		return 1;
	size_t n = p[0] >= 0xc3 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return n;
}

char *cli_printable(const char *name)
{
	char *out = malloc(4 * strlen(name) + 1), *to = out;
	if (out == NULL)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)name; *p != '\0';) {
		size_t n = printable_nbytes(p);
		if (n == 0) {
			to += sprintf(to, "\\x%02x", (unsigned)*p++);
			continue;
		}
		memcpy(to, p, n);
		to += n;
		p += n;
	}
	*to = '\0';
	return out;
}
