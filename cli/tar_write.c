/*
 * Members of an archive as a tar stream.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tar_write.h"

#include "bytes.h"
#include "cli_output.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <unistd.h>

struct tar_out {
	struct cli *cli;
	const struct cli_archive *archive;
	struct archive *tar;
	struct archive_entry *entry;
	struct cli_output output;
	struct cli_progress progress;
	bool broken; /* what libarchive still writes, padding and end mark, is dropped: the stream ends visibly too soon */
};

static pith_status check_tar(const struct tar_out *t, la_ssize_t result, struct pith_error *err)
{
	if (result >= ARCHIVE_WARN)
		return PITH_OK;
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "tar: %s", archive_error_string(t->tar));
}

static pith_status begin_entry(void *ctx, size_t member, struct pith_error *err)
{
	struct tar_out *t = ctx;
	const struct pith_archive_member *m = pith_archive_member_at(t->archive->archive, member);
	static const __LA_MODE_T types[] = {0, AE_IFREG, AE_IFDIR, AE_IFLNK, AE_IFREG};
	struct archive_entry *e = archive_entry_clear(t->entry);
	archive_entry_copy_pathname(e, m->name);
	archive_entry_set_filetype(e, types[m->kind]);
	archive_entry_set_perm(e, (__LA_MODE_T)m->mode);
	archive_entry_set_mtime(e, (time_t)m->mtime, (long)m->mtime_nsec);
	archive_entry_set_size(e, (la_int64_t)m->nbytes);
	if (m->has_owner) {
		archive_entry_set_uid(e, (la_int64_t)m->uid);
		archive_entry_set_gid(e, (la_int64_t)m->gid);
		archive_entry_copy_uname(e, m->uname);
		archive_entry_copy_gname(e, m->gname);
	}
	if (m->kind == PITH_MEMBER_LINK)
		archive_entry_copy_symlink(e, m->target);
	if (m->kind == PITH_MEMBER_HARD_LINK)
		archive_entry_copy_hardlink(e, m->target);
	return check_tar(t, archive_write_header(t->tar, e), err);
}

static pith_status put_entry_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct tar_out *t = ctx;
	return check_tar(t, archive_write_data(t->tar, data, nbytes), err);
}

static pith_status end_entry(void *ctx, size_t member, struct pith_error *err)
{
	struct tar_out *t = ctx;
	(void)member;
	return check_tar(t, archive_write_finish_entry(t->tar), err);
}

static void show_tar(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes)
{
	(void)stored_nbytes;
	cli_progress_update(ctx, content_nbytes);
}

static la_ssize_t write_stream(struct archive *tar, void *ctx, const void *data, size_t nbytes)
{
	struct tar_out *t = ctx;
	if (t->broken || fwrite(data, 1, nbytes, t->output.file) == nbytes)
		return (la_ssize_t)nbytes;
	archive_set_error(tar, errno, "%s", strerror(errno));
	return -1;
}

static pith_status write_members(struct tar_out *t, struct pith_error *err)
{
	const struct cli_archive *a = t->archive;
	struct pith_archive_read_options read = {
		.coder = a->coder,
		.executor = pith_team_executor(a->team),
		.begin = begin_entry,
		.data = put_entry_data,
		.end = end_entry,
		.ctx = t,
		.progress = show_tar,
		.progress_ctx = &t->progress,
	};
	t->tar = archive_write_new();
	t->entry = archive_entry_new();
	if (t->tar == NULL || t->entry == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	archive_write_set_format_pax(t->tar);
	PITH_TRY(check_tar(t, archive_write_open(t->tar, t, NULL, write_stream, NULL), err));
	PITH_TRY(pith_archive_read(a->archive, a->selected, &read, err));
	return check_tar(t, archive_write_close(t->tar), err);
}

int tar_write(struct cli *cli, struct cli_archive *a, const char *output, bool force)
{
	struct tar_out t = {.cli = cli, .archive = a};
	struct pith_error err = {0};
	setlocale(LC_CTYPE, "C.UTF-8"); /* pax names are UTF-8; libarchive marks those that are not */
	int code = cli_output_open(cli, output != NULL ? output : "-", force, &t.output);
	if (code == CLI_OK) {
		cli_progress_start(&t.progress, "unzip", "B", pith_archive_selected_nbytes(a->archive, a->selected));
		pith_status status = write_members(&t, &err);
		cli_progress_end(&t.progress);
		if (status != PITH_OK) {
			code = cli_fail(cli, a->path, &err);
			t.broken = true;
		}
	}
	archive_entry_free(t.entry);
	archive_write_free(t.tar);
	code = cli_output_close(cli, &t.output, code);
	return code != CLI_OK ? code : a->fault;
}
