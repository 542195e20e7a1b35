/*
 * Putting members into a folder.  See extract.h for the rules.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "extract.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static pith_status fail_errno(struct pith_error *err, const char *what)
{
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s: %s", what, strerror(errno));
}

/*
 * Descriptor of the folder that holds 'name', made as needed; *last is the last component.  Names obey text.15, so no
 * component is empty, '.' or '..'.
 */
static pith_status open_parent(const struct extract *x, const char *name, int *out, const char **last,
                               struct pith_error *err)
{
	char part[256];
	int at = dup(x->root);
	*out = -1;
	if (at < 0)
		return fail_errno(err, "cannot open the folder");
	for (const char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
		size_t size = (size_t)(slash - name);
		int next = -1;
		errno = ENAMETOOLONG;
		if (size < sizeof(part)) {
			memcpy(part, name, size);
			part[size] = '\0';
			next = openat(at, part, FOLDER_FLAGS);
			if (next < 0 && errno == ENOENT && (mkdirat(at, part, 0777) == 0 || errno == EEXIST))
				next = openat(at, part, FOLDER_FLAGS);
		}
		int saved = errno;
		close(at);
		errno = saved;
		if (next < 0)
			return fail_errno(err, errno == ELOOP || errno == ENOTDIR ?
			                               "a folder of its path is a link or a file" :
			                               "cannot make its folder");
		at = next;
	}
	*out = at;
	*last = name;
	return PITH_OK;
}

int extract_open(struct extract *x, struct cli *cli, const struct pith_archive *archive,
                 const struct extract_options *options)
{
	*x = (struct extract){.cli = cli, .archive = archive, .options = *options,
	                      .root = -1, .parent = -1, .fd = -1};
	struct pith_archive_info info;
	pith_archive_info(archive, &info);
	x->dropped = calloc((size_t)info.member_count + 1, sizeof(*x->dropped));
	if (x->dropped == NULL)
		return cli_fail_errno(cli, "memory");
	if (mkdir(options->folder, 0777) != 0 && errno != EEXIST)
		return cli_fail_errno(cli, options->folder);
	x->root = open(options->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return x->root >= 0 ? CLI_OK : cli_fail_errno(cli, options->folder);
}

static void drop_file(struct extract *x)
{
	if (x->fd >= 0)
		close(x->fd);
	if (x->temporary[0] != '\0')
		unlinkat(x->parent, x->temporary, 0);
	if (x->full != NULL)
		cli_cleanup_remove(x->full);
	if (x->parent >= 0)
		close(x->parent);
	free(x->full);
	x->full = NULL;
	x->temporary[0] = '\0';
	x->fd = x->parent = -1;
}

void extract_close(struct extract *x)
{
	drop_file(x);
	if (x->root >= 0)
		close(x->root);
	x->root = -1;
	free(x->dropped);
	x->dropped = NULL;
}

/* ---- files ---- */

static pith_status open_temporary(struct extract *x, const char *name, const char *last, size_t member,
                                  struct pith_error *err)
{
	size_t folder_nbytes = (size_t)(last - name);
	size_t nbytes = strlen(x->options.folder) + 1 + folder_nbytes + sizeof(x->temporary);
	snprintf(x->temporary, sizeof(x->temporary), ".pith-%ld-%zu.part", (long)getpid(), member);
	x->fd = openat(x->parent, x->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (x->fd < 0) {
		x->temporary[0] = '\0';
		return fail_errno(err, "cannot make a file");
	}
	x->full = malloc(nbytes);
	if (x->full == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	snprintf(x->full, nbytes, "%s/%.*s%s", x->options.folder, (int)folder_nbytes, name, x->temporary);
	cli_cleanup_add(x->full);
	return PITH_OK;
}

static pith_status check_absent(const struct extract *x, int parent, const char *last,
                                struct pith_error *err)
{
	struct stat st;
	if (fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return PITH_OK;
	if (S_ISDIR(st.st_mode))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "a folder of this name exists");
	if (x->options.force)
		return PITH_OK;
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "exists; --force replaces it");
}

pith_status extract_begin(void *ctx, size_t member, struct pith_error *err)
{
	struct extract *x = ctx;
	const struct pith_archive_member *m = pith_archive_member_at(x->archive, member);
	const char *last;
	x->failed_on = m->name;
	if (m->kind == PITH_MEMBER_LINK || m->kind == PITH_MEMBER_HARD_LINK)
		return PITH_OK; /* extract_finish() */
	PITH_TRY(open_parent(x, m->name, &x->parent, &last, err));
	if (m->kind == PITH_MEMBER_FILE) {
		PITH_TRY(check_absent(x, x->parent, last, err));
		return open_temporary(x, m->name, last, member, err);
	}
	if (mkdirat(x->parent, last, 0777) != 0) {
		int fd = errno == EEXIST ? openat(x->parent, last, FOLDER_FLAGS) : -1;
		if (fd < 0)
			return fail_errno(err, "cannot make the folder");
		close(fd);
	}
	return PITH_OK;
}

pith_status extract_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct extract *x = ctx;
	const uint8_t *p = data;
	while (nbytes > 0) {
		ssize_t put = write(x->fd, p, nbytes);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return fail_errno(err, "cannot write");
		p += put;
		nbytes -= (size_t)put;
	}
	return PITH_OK;
}

/* The owner by name where this system knows it, else by number; 'fd' -1: of the link 'last' in x->parent. */
static pith_status set_owner(const struct extract *x, int fd, const char *last,
                             const struct pith_archive_member *m, struct pith_error *err)
{
	if (!x->options.owner || !m->has_owner)
		return PITH_OK;
	const struct passwd *user = m->uname[0] != '\0' ? getpwnam(m->uname) : NULL;
	const struct group *group = m->gname[0] != '\0' ? getgrnam(m->gname) : NULL;
	uid_t uid = user != NULL ? user->pw_uid : (uid_t)m->uid;
	gid_t gid = group != NULL ? group->gr_gid : (gid_t)m->gid;
	int failed = fd >= 0 ? fchown(fd, uid, gid) : fchownat(x->parent, last, uid, gid, AT_SYMLINK_NOFOLLOW);
	return failed == 0 ? PITH_OK : fail_errno(err, "cannot set the owner");
}

static pith_status set_metadata(const struct extract *x, int fd, const struct pith_archive_member *m,
                                struct pith_error *err)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
	                            {.tv_sec = (time_t)m->mtime, .tv_nsec = (long)m->mtime_nsec}};
	PITH_TRY(set_owner(x, fd, NULL, m, err));
	/* never set-user-id or the like: who made the archive is not who unpacks it */
	if (fchmod(fd, (mode_t)(m->mode & 0777)) != 0)
		return fail_errno(err, "cannot set the mode");
	if (futimens(fd, times) != 0)
		return fail_errno(err, "cannot set the time");
	return PITH_OK;
}

/* The temporary file is complete and becomes 'last' in its folder. */
static pith_status keep_file(struct extract *x, const struct pith_archive_member *m, const char *last,
                             struct pith_error *err)
{
	PITH_TRY(set_metadata(x, x->fd, m, err));
	int fd = x->fd;
	x->fd = -1;
	if (close(fd) != 0)
		return fail_errno(err, "cannot write");
	PITH_TRY(check_absent(x, x->parent, last, err));
	if (renameat(x->parent, x->temporary, x->parent, last) != 0)
		return fail_errno(err, "cannot rename");
	x->temporary[0] = '\0';
	return PITH_OK;
}

static const char *last_of(const char *name)
{
	const char *slash = strrchr(name, '/');
	return slash != NULL ? slash + 1 : name;
}

pith_status extract_end(void *ctx, size_t member, struct pith_error *err)
{
	struct extract *x = ctx;
	const struct pith_archive_member *m = pith_archive_member_at(x->archive, member);
	if (m->kind == PITH_MEMBER_FILE) {
		PITH_TRY(keep_file(x, m, last_of(m->name), err));
		x->files++;
	}
	drop_file(x);
	return PITH_OK;
}

pith_status extract_lost(void *ctx, uint64_t nbytes, struct pith_error *err)
{
	struct extract *x = ctx;
	if (x->fd >= 0 && lseek(x->fd, (off_t)nbytes, SEEK_CUR) < 0)
		return fail_errno(err, "cannot write");
	return PITH_OK;
}

/*
 * What is left of a file is called NAME.damaged.  Where a member or a folder has that name, or it is too long, a number
 * that no other member gets stands before the dot, behind as much of NAME as there is room for.
 */
static void name_damaged(const struct extract *x, size_t member, char last[NAME_MAX + 1])
{
	const char *name = pith_archive_member_at(x->archive, member)->name, *own = last_of(name);
	char full[PATH_MAX + NAME_MAX + 1];
	struct pith_archive_info info;
	struct stat st;
	pith_archive_info(x->archive, &info);
	int written = snprintf(last, NAME_MAX + 1, "%s.damaged", own);
	for (uint64_t number = member;; number += info.member_count) {
		snprintf(full, sizeof(full), "%.*s%s", (int)(own - name), name, last);
		bool is_folder = fstatat(x->parent, last, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
		if (written <= NAME_MAX && !is_folder && pith_archive_find(x->archive, full) == SIZE_MAX)
			return;
		written = snprintf(last, NAME_MAX + 1, "%.200s~%llu.damaged", own, (unsigned long long)number);
	}
}

pith_status extract_damaged(void *ctx, size_t member, struct pith_error *err)
{
	struct extract *x = ctx;
	const struct pith_archive_member *m = pith_archive_member_at(x->archive, member);
	char last[NAME_MAX + 1];
	x->dropped[member] = true;
	x->damaged++;
	if (x->options.damaged && m->kind == PITH_MEMBER_FILE) {
		if (ftruncate(x->fd, (off_t)m->nbytes) != 0)
			return fail_errno(err, "cannot keep what is left");
		name_damaged(x, member, last);
		PITH_TRY(keep_file(x, m, last, err));
	}
	drop_file(x);
	return PITH_OK;
}

/* ---- links and folders ---- */

bool extract_target_is_inside(const char *target, size_t depth)
{
	/* '..' only at the start: behind a name it would depend on where another link leads */
	bool named = false;
	if (target[0] == '/')
		return false;
	while (*target != '\0') {
		size_t size = strcspn(target, "/");
		if (size == 2 && target[0] == '.' && target[1] == '.') {
			if (named || depth == 0)
				return false;
			depth--;
		} else if (size > 0 && !(size == 1 && target[0] == '.')) {
			named = true;
		}
		target += size;
		target += strspn(target, "/");
	}
	return true;
}

static size_t depth_of(const char *name)
{
	size_t depth = 0;
	for (; *name != '\0'; name++)
		depth += *name == '/' ? 1 : 0;
	return depth;
}

static pith_status make_link(struct extract *x, const struct pith_archive_member *m,
                             struct pith_error *err)
{
	const char *last;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
	                            {.tv_sec = (time_t)m->mtime, .tv_nsec = (long)m->mtime_nsec}};
	if (!x->options.any_links && !extract_target_is_inside(m->target, depth_of(m->name))) {
		char *name = cli_printable(m->name), *target = cli_printable(m->target);
		cli_say(x->cli, "%s: a link to %s, which leaves the folder: not made (--any-links makes it)",
		        name != NULL ? name : "", target != NULL ? target : "");
		free(name);
		free(target);
		x->refused_links++;
		return PITH_OK;
	}
	PITH_TRY(open_parent(x, m->name, &x->parent, &last, err));
	PITH_TRY(check_absent(x, x->parent, last, err));
	if (x->options.force)
		unlinkat(x->parent, last, 0);
	if (symlinkat(m->target, x->parent, last) != 0)
		return fail_errno(err, "cannot make the link");
	PITH_TRY(set_owner(x, -1, last, m, err));
	utimensat(x->parent, last, times, AT_SYMLINK_NOFOLLOW);
	drop_file(x);
	return PITH_OK;
}

/* To a file that was restored by this run: never to one that was there before, nor through a link. */
static pith_status make_hard_link(struct extract *x, const struct pith_archive_member *m, struct pith_error *err)
{
	const char *last, *file;
	int folder;
	if (x->dropped[pith_archive_find(x->archive, m->target)]) {
		char *name = cli_printable(m->name);
		cli_say(x->cli, "%s: a hard link to a damaged file: not made", name != NULL ? name : "");
		free(name);
		x->damaged++;
		return PITH_OK;
	}
	PITH_TRY(open_parent(x, m->name, &x->parent, &last, err));
	PITH_TRY(check_absent(x, x->parent, last, err));
	if (x->options.force)
		unlinkat(x->parent, last, 0);
	PITH_TRY(open_parent(x, m->target, &folder, &file, err));
	int failed = linkat(folder, file, x->parent, last, 0);
	int saved = errno;
	close(folder);
	errno = saved;
	if (failed != 0)
		return fail_errno(err, "cannot make the hard link");
	drop_file(x);
	return PITH_OK;
}

static pith_status finish_folder(struct extract *x, const struct pith_archive_member *m,
                                 struct pith_error *err)
{
	const char *last;
	PITH_TRY(open_parent(x, m->name, &x->parent, &last, err));
	x->fd = openat(x->parent, last, FOLDER_FLAGS);
	if (x->fd < 0)
		return fail_errno(err, "cannot open the folder");
	PITH_TRY(set_metadata(x, x->fd, m, err));
	drop_file(x);
	return PITH_OK;
}

static int compare_names_down(const void *a, const void *b)
{
	const struct pith_archive_member *x = *(const struct pith_archive_member *const *)a;
	const struct pith_archive_member *y = *(const struct pith_archive_member *const *)b;
	return strcmp(y->name, x->name);
}

/* From the inside out, wherever they are in the archive: a folder's mode may shut the way to those in it. */
static pith_status finish_folders(struct extract *x, const bool *selected, struct pith_error *err)
{
	struct pith_archive_info info;
	pith_archive_info(x->archive, &info);
	const struct pith_archive_member **folders = malloc(((size_t)info.member_count + 1) * sizeof(*folders));
	pith_status status = PITH_OK;
	size_t count = 0;
	if (folders == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	for (size_t i = 0; i < info.member_count; i++) {
		const struct pith_archive_member *m = pith_archive_member_at(x->archive, i);
		if (m->kind == PITH_MEMBER_DIRECTORY && (selected == NULL || selected[i]))
			folders[count++] = m;
	}
	qsort(folders, count, sizeof(*folders), compare_names_down);
	for (size_t i = 0; i < count && status == PITH_OK; i++) {
		x->failed_on = folders[i]->name;
		status = finish_folder(x, folders[i], err);
	}
	free(folders);
	return status;
}

pith_status extract_finish(struct extract *x, const bool *selected, struct pith_error *err)
{
	struct pith_archive_info info;
	pith_archive_info(x->archive, &info);
	/* hard links before symbolic ones, so that the way to a file is what this run made */
	for (int kind = PITH_MEMBER_HARD_LINK; kind >= PITH_MEMBER_LINK; kind--)
		for (size_t i = 0; i < info.member_count; i++) {
			const struct pith_archive_member *m = pith_archive_member_at(x->archive, i);
			if ((int)m->kind != kind || (selected != NULL && !selected[i]))
				continue;
			x->failed_on = m->name;
			PITH_TRY(kind == PITH_MEMBER_LINK ? make_link(x, m, err) : make_hard_link(x, m, err));
		}
	return finish_folders(x, selected, err);
}
