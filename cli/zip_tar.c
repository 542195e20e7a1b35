/*
 * Members of tar and zip archives, through libarchive.  Names lose what leads out of a folder, as those of a tree do; what
 * is neither file, directory nor link is left out and counted.  Holes of sparse files are filled.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zip_input.h"

#include "bytes.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <strings.h>

#define READ_NBYTES ((size_t)1 << 18)

bool zip_is_tar_name(const char *path)
{
	static const char *const ends[] = {".tar", ".tgz", ".txz", ".tzst", ".tbz2", ".zip", ".tar.gz", ".tar.xz",
	                                   ".tar.zst", ".tar.bz2", ".tar.lz4", ".tar.lzma"};
	size_t nbytes = strlen(path);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(ends); i++) {
		size_t size = strlen(ends[i]);
		if (nbytes > size && strcasecmp(path + nbytes - size, ends[i]) == 0)
			return true;
	}
	return false;
}

struct tar_in {
	struct zip_input *in;
	struct archive *tar;
	uint8_t *piece; /* [READ_NBYTES] */
	uint64_t members;
};

static pith_status fail_tar(const struct tar_in *t, struct pith_error *err)
{
	const char *why = archive_error_string(t->tar);
	return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "as a tar or zip archive: %s",
	                 why != NULL ? why : "damaged");
}

/* Only what libarchive reads by itself: no filter may start a program. */
static pith_status open_tar(struct tar_in *t, const char *path, struct pith_error *err)
{
	t->tar = archive_read_new();
	t->piece = malloc(READ_NBYTES);
	if (t->tar == NULL || t->piece == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	archive_read_support_format_tar(t->tar);
	archive_read_support_format_zip(t->tar);
	archive_read_support_filter_gzip(t->tar);
	archive_read_support_filter_bzip2(t->tar);
	archive_read_support_filter_xz(t->tar);
	archive_read_support_filter_lzma(t->tar);
	archive_read_support_filter_zstd(t->tar);
	archive_read_support_filter_lz4(t->tar);
	archive_read_support_filter_compress(t->tar);
	if (archive_read_open_filename(t->tar, path, READ_NBYTES) < ARCHIVE_WARN)
		return fail_tar(t, err);
	return PITH_OK;
}

static const char *name_or_empty(const char *name) { return name != NULL ? name : ""; }

/* No more than a member can have: text.13. */
static const char *owner_or_empty(const char *name) { return name != NULL && strlen(name) < 256 ? name : ""; }

static bool is_owner_id(int64_t id) { return id >= 0 && id <= UINT32_MAX; }

/* The entry as a member; its strings are the entry's.  False when it was left out. */
static bool describe_entry(struct tar_in *t, struct archive_entry *e, struct pith_archive_member *m)
{
	const char *path = name_or_empty(archive_entry_pathname(e)), *hard_link = archive_entry_hardlink(e);
	*m = (struct pith_archive_member){
		.mode = (uint32_t)(archive_entry_perm(e) & 07777),
		.mtime = archive_entry_mtime_is_set(e) ? (int64_t)archive_entry_mtime(e) : 0,
		.mtime_nsec = archive_entry_mtime_is_set(e) ? (uint32_t)archive_entry_mtime_nsec(e) : 0,
		.has_owner = !t->in->no_owner && is_owner_id(archive_entry_uid(e)) && is_owner_id(archive_entry_gid(e)),
		.uid = (uint32_t)archive_entry_uid(e),
		.gid = (uint32_t)archive_entry_gid(e),
		.uname = owner_or_empty(archive_entry_uname(e)),
		.gname = owner_or_empty(archive_entry_gname(e)),
		.name = path,
		.target = "",
	};
	if (hard_link != NULL) {
		m->kind = PITH_MEMBER_HARD_LINK;
		m->target = hard_link;
	} else if (archive_entry_filetype(e) == AE_IFREG) {
		m->kind = PITH_MEMBER_FILE;
	} else if (archive_entry_filetype(e) == AE_IFDIR) {
		m->kind = PITH_MEMBER_DIRECTORY;
	} else if (archive_entry_filetype(e) == AE_IFLNK) {
		m->kind = PITH_MEMBER_LINK;
		m->target = name_or_empty(archive_entry_symlink(e));
	} else {
		zip_leave_out(t->in, path, "neither file, directory nor link");
		return false;
	}
	return true;
}

static pith_status add_data(struct tar_in *t, struct pith_error *err)
{
	for (;;) {
		size_t nbytes = 0;
		la_ssize_t got = 0;
		while (nbytes < READ_NBYTES) {
			got = archive_read_data(t->tar, t->piece + nbytes, READ_NBYTES - nbytes);
			if (got == ARCHIVE_RETRY)
				continue;
			if (got <= 0)
				break;
			nbytes += (size_t)got;
		}
		if (got < 0)
			return fail_tar(t, err);
		if (nbytes > 0)
			PITH_TRY(pith_archive_writer_data(t->in->writer, t->piece, nbytes, err));
		if (got == 0)
			return PITH_OK;
	}
}

/* name, target: [ZIP_MAX_PATH_NBYTES] for clean copies. */
static pith_status add_entry(struct tar_in *t, struct archive_entry *e, char *name, char *target,
                             struct pith_error *err)
{
	struct pith_archive_member m;
	if (!describe_entry(t, e, &m))
		return PITH_OK;
	if (strlen(m.name) >= ZIP_MAX_PATH_NBYTES || strlen(m.target) >= ZIP_MAX_PATH_NBYTES) {
		zip_leave_out(t->in, "a member", "its name or target is too long");
		return PITH_OK;
	}
	strcpy(name, m.name);
	strcpy(target, m.target);
	zip_tidy_path(name);
	m.name = zip_inner_name(name);
	m.target = target;
	if (m.kind == PITH_MEMBER_HARD_LINK) {
		zip_tidy_path(target);
		m.target = zip_inner_name(target);
	}
	m.name_nbytes = strlen(m.name);
	m.target_nbytes = strlen(m.target);
	if (m.name_nbytes == 0 && m.kind == PITH_MEMBER_DIRECTORY)
		return PITH_OK; /* './' */
	pith_status status = pith_archive_writer_member(t->in->writer, &m, err);
	if (status == PITH_E_ARGUMENT) {
		zip_leave_out(t->in, m.name, err->msg);
		return PITH_OK;
	}
	PITH_TRY(status);
	t->members++;
	return m.kind == PITH_MEMBER_FILE ? add_data(t, err) : PITH_OK;
}

static pith_status add_entries(struct tar_in *t, struct pith_error *err)
{
	char name[ZIP_MAX_PATH_NBYTES], target[ZIP_MAX_PATH_NBYTES];
	for (;;) {
		struct archive_entry *e;
		int result = archive_read_next_header(t->tar, &e);
		if (result == ARCHIVE_EOF)
			return PITH_OK;
		if (result == ARCHIVE_RETRY)
			continue;
		if (result < ARCHIVE_WARN)
			return fail_tar(t, err);
		PITH_TRY(add_entry(t, e, name, target, err));
	}
}

pith_status zip_tar_add(struct zip_input *in, const char *path, uint64_t *members, struct pith_error *err)
{
	struct tar_in t = {.in = in};
	in->failed_on = path != NULL ? path : "standard input";
	pith_status status = open_tar(&t, path, err);
	if (status == PITH_OK)
		status = add_entries(&t, err);
	*members = t.members;
	archive_read_free(t.tar);
	free(t.piece);
	return status;
}
