/*
 * Trees of files as members.  The list is made first and sorted, so that the same tree gives the same archive, and the
 * total for the progress bar is known.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "zip_input.h"

#include "bytes.h"
#include "cli_archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_NBYTES ((size_t)1 << 18)
#define MAX_DEPTH 255u

void zip_leave_out(struct zip_input *in, const char *name, const char *why)
{
	char *printable = cli_printable(name);
	cli_say(in->cli, "%s: %s: left out", printable != NULL ? printable : "", why);
	free(printable);
	in->left_out++;
}

void zip_leave_unreadable(struct zip_input *in, const char *path)
{
	zip_leave_out(in, path, strerror(errno));
	in->unreadable++;
}

const char *zip_inner_name(const char *path)
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

void zip_tidy_path(char *path)
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

/* ---- gathering ---- */

void zip_items_free(struct zip_items *items)
{
	for (size_t i = 0; i < items->count; i++)
		free(items->item[i].path);
	free(items->item);
}

/* Add 'folder'/'name' (name NULL: just folder, which must be there).  False after saying what is wrong. */
static bool add_item(struct zip_input *in, struct zip_items *items, const char *folder, const char *name)
{
	struct zip_item it = {0};
	size_t nbytes = strlen(folder) + (name != NULL ? strlen(name) + 1 : 0) + 1;
	if (items->count == items->cap) {
		size_t cap = items->cap * 2 + 64;
		struct zip_item *grown = realloc(items->item, cap * sizeof(*grown));
		if (grown == NULL)
			return cli_fail_errno(in->cli, folder), false;
		items->item = grown;
		items->cap = cap;
	}
	it.path = malloc(nbytes);
	if (it.path == NULL)
		return cli_fail_errno(in->cli, folder), false;
	snprintf(it.path, nbytes, "%s%s%s", folder, name != NULL ? "/" : "", name != NULL ? name : "");
	zip_tidy_path(it.path);
	it.name = zip_inner_name(it.path);
	if (lstat(it.path, &it.st) != 0) {
		if (name != NULL)
			zip_leave_unreadable(in, it.path);
		else
			cli_fail_errno(in->cli, it.path);
		free(it.path);
		return name != NULL;
	}
	mode_t mode = it.st.st_mode;
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
		zip_leave_out(in, it.path, "neither file, directory nor link");
		free(it.path);
		return true;
	}
	if (S_ISREG(mode))
		items->nbytes += (uint64_t)it.st.st_size;
	items->item[items->count++] = it;
	return true;
}

static bool add_folder(struct zip_input *in, struct zip_items *items, const char *path)
{
	size_t depth = 0;
	for (const char *p = path; *p != '\0'; p++)
		depth += *p == '/' ? 1 : 0;
	if (depth > MAX_DEPTH || strlen(path) >= ZIP_MAX_PATH_NBYTES) {
		cli_say(in->cli, "%.60s...: too deep", path);
		return false;
	}
	DIR *dir = opendir(path);
	if (dir == NULL) {
		zip_leave_unreadable(in, path);
		return true;
	}
	bool good = true;
	struct dirent *entry;
	while (good && (errno = 0, entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			good = add_item(in, items, path, entry->d_name);
	if (good && errno != 0)
		zip_leave_unreadable(in, path);
	closedir(dir);
	return good;
}

int zip_items_gather(struct zip_input *in, struct zip_items *items, const char *path)
{
	size_t first = items->count;
	if (!add_item(in, items, path, NULL))
		return CLI_FAILED;
	for (size_t k = first; k < items->count; k++) { /* grows as it goes: no recursion */
		char *folder = items->item[k].path;
		if (S_ISDIR(items->item[k].st.st_mode) && !add_folder(in, items, folder))
			return CLI_FAILED;
	}
	return CLI_OK;
}

static int compare_items(const void *a, const void *b)
{
	return strcmp(((const struct zip_item *)a)->name, ((const struct zip_item *)b)->name);
}

/* By inode, then by name. */
static int compare_inodes(const void *a, const void *b)
{
	const struct zip_item *x = *(const struct zip_item *const *)a, *y = *(const struct zip_item *const *)b;
	if (x->st.st_dev != y->st.st_dev)
		return x->st.st_dev < y->st.st_dev ? -1 : 1;
	if (x->st.st_ino != y->st.st_ino)
		return x->st.st_ino < y->st.st_ino ? -1 : 1;
	return strcmp(x->name, y->name);
}

static bool find_hard_links(struct zip_items *items)
{
	struct zip_item **linked = malloc((items->count + 1) * sizeof(struct zip_item *));
	size_t count = 0;
	if (linked == NULL)
		return false;
	for (size_t i = 0; i < items->count; i++)
		if (S_ISREG(items->item[i].st.st_mode) && items->item[i].st.st_nlink > 1)
			linked[count++] = &items->item[i];
	if (count > 0)
		qsort(linked, count, sizeof(struct zip_item *), compare_inodes);
	for (size_t i = 1; i < count; i++) {
		struct zip_item *first = linked[i - 1]->first_link != NULL ? linked[i - 1]->first_link : linked[i - 1];
		if (first->st.st_dev == linked[i]->st.st_dev && first->st.st_ino == linked[i]->st.st_ino) {
			linked[i]->first_link = first;
			items->nbytes -= (uint64_t)linked[i]->st.st_size;
		}
	}
	free(linked);
	return true;
}

int zip_items_settle(struct zip_input *in, struct zip_items *items)
{
	if (items->count > 0)
		qsort(items->item, items->count, sizeof(*items->item), compare_items);
	for (size_t i = 1; i < items->count; i++)
		if (compare_items(&items->item[i - 1], &items->item[i]) == 0 && items->item[i].name[0] != '\0') {
			cli_say(in->cli, "%s and %s would have the same name in the archive",
			        items->item[i - 1].path, items->item[i].path);
			return CLI_FAILED;
		}
	return find_hard_links(items) ? CLI_OK : cli_fail_errno(in->cli, "memory");
}

/* ---- adding ---- */

pith_status zip_add_content(struct zip_input *in, int fd, const char *path, bool *unreadable, struct pith_error *err)
{
	uint8_t *piece = malloc(READ_NBYTES);
	pith_status status = PITH_OK;
	in->failed_on = path;
	if (piece == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
	for (bool more = true; more && status == PITH_OK;) {
		size_t nbytes = 0;
		ssize_t got = 0;
		while (nbytes < READ_NBYTES) {
			got = read(fd, piece + nbytes, READ_NBYTES - nbytes);
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				break;
			nbytes += (size_t)got;
		}
		more = got > 0;
		if (got < 0 && unreadable != NULL)
			*unreadable = true;
		else if (got < 0)
			status = pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s", strerror(errno));
		else if (nbytes > 0)
			status = pith_archive_writer_data(in->writer, piece, nbytes, err);
	}
	free(piece);
	return status;
}

/* The owner; names are borrowed from the system until the next call. */
static void set_owner(const struct zip_input *in, const struct stat *st, struct pith_archive_member *m)
{
	if (in->no_owner)
		return;
	const struct passwd *user = getpwuid(st->st_uid);
	const struct group *group = getgrgid(st->st_gid);
	m->has_owner = true;
	m->uid = (uint32_t)st->st_uid;
	m->gid = (uint32_t)st->st_gid;
	m->uname = user != NULL && strlen(user->pw_name) < 256 ? user->pw_name : "";
	m->gname = group != NULL && strlen(group->gr_name) < 256 ? group->gr_name : "";
}

/* A file, or a hard link to the name under which it was stored: a name that cannot be read leaves that to the next. */
static pith_status add_file(struct zip_input *in, struct zip_item *it, struct pith_archive_member *m, struct pith_error *err)
{
	struct zip_item *first = it->first_link != NULL ? it->first_link : it;
	bool unreadable = false;
	if (first->stored != NULL) {
		m->kind = PITH_MEMBER_HARD_LINK;
		m->target = first->stored->name;
		m->target_nbytes = strlen(m->target);
		return pith_archive_writer_member(in->writer, m, err);
	}
	m->kind = PITH_MEMBER_FILE;
	int fd = open(it->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		zip_leave_unreadable(in, it->path);
		return PITH_OK;
	}
	pith_status status = pith_archive_writer_member(in->writer, m, err);
	if (status == PITH_OK)
		status = zip_add_content(in, fd, it->path, &unreadable, err);
	if (unreadable) {
		zip_leave_unreadable(in, it->path);
		status = pith_archive_writer_drop(in->writer, err);
	} else {
		first->stored = it;
	}
	close(fd);
	return status;
}

static pith_status add_tree_member(struct zip_input *in, struct zip_item *it, struct pith_error *err)
{
	char target[ZIP_MAX_PATH_NBYTES] = "";
	struct pith_archive_member m = {
		.mode = (uint32_t)(it->st.st_mode & 07777),
		.mtime = (int64_t)it->st.st_mtim.tv_sec,
		.mtime_nsec = (uint32_t)it->st.st_mtim.tv_nsec,
		.name = it->name,
		.name_nbytes = strlen(it->name),
		.target = target,
	};
	in->failed_on = it->path;
	if (m.name_nbytes == 0 && !S_ISREG(it->st.st_mode))
		return PITH_OK; /* '.' or '/' itself: only what is in it */
	if (it->st.st_dev == in->output.st_dev && it->st.st_ino == in->output.st_ino) {
		zip_leave_out(in, it->path, "the archive itself");
		return PITH_OK;
	}
	set_owner(in, &it->st, &m);
	if (S_ISREG(it->st.st_mode))
		return add_file(in, it, &m, err);
	m.kind = PITH_MEMBER_DIRECTORY;
	if (S_ISLNK(it->st.st_mode)) {
		ssize_t got = readlink(it->path, target, sizeof(target));
		if (got < 0) {
			zip_leave_unreadable(in, it->path);
			return PITH_OK;
		}
		if (got == 0 || (size_t)got >= sizeof(target))
			return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "cannot read the link: its target is too long");
		m.kind = PITH_MEMBER_LINK;
		m.target_nbytes = (size_t)got;
	}
	return pith_archive_writer_member(in->writer, &m, err);
}

pith_status zip_items_add(struct zip_input *in, struct zip_items *items, struct pith_error *err)
{
	for (size_t i = 0; i < items->count; i++)
		PITH_TRY(add_tree_member(in, &items->item[i], err));
	return PITH_OK;
}
