/*
 * Tables of segments and members: growing, replacing, finding.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_directory.h"

#include "bytes.h"

#include <stdlib.h>

#define STRING_BLOCK_NBYTES ((size_t)1 << 16)

struct string_block {
	struct string_block *next;
	size_t used, cap;
	char text[];
};

void archive_directory_free(struct archive_directory *d)
{
	while (d->strings != NULL) {
		struct string_block *next = d->strings->next;
		free(d->strings);
		d->strings = next;
	}
	free(d->segments);
	free(d->members);
	free(d->files);
	archive_names_free(&d->names);
	*d = (struct archive_directory){0};
}

static pith_status fail_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
}

/* A copy with NUL behind it, owned by the directory. */
static pith_status copy_string(struct archive_directory *d, const char *text, size_t nbytes, const char **out,
                               struct pith_error *err)
{
	struct string_block *b = d->strings;
	*out = "";
	if (nbytes == 0)
		return PITH_OK;
	if (b == NULL || b->cap - b->used < nbytes + 1) {
		size_t cap = nbytes + 1 > STRING_BLOCK_NBYTES ? nbytes + 1 : STRING_BLOCK_NBYTES;
		b = malloc(sizeof(*b) + cap);
		if (b == NULL)
			return fail_memory(err);
		*b = (struct string_block){.next = d->strings, .cap = cap};
		d->strings = b;
	}
	char *to = b->text + b->used;
	memcpy(to, text, nbytes);
	to[nbytes] = '\0';
	b->used += nbytes + 1;
	*out = to;
	return PITH_OK;
}

/* The same, but most owners are those of the member before: 'last' is that one's. */
static pith_status copy_owner(struct archive_directory *d, const char *text, size_t nbytes, const char *last,
                              const char **out, struct pith_error *err)
{
	if (last == NULL || strlen(last) != nbytes || memcmp(last, text, nbytes) != 0)
		return copy_string(d, text, nbytes, out, err);
	*out = last;
	return PITH_OK;
}

/* ---- growing ---- */

pith_status archive_directory_add_segment(struct archive_directory *d, const struct archive_segment *s,
                                          struct pith_error *err)
{
	if (d->segment_count == ARCHIVE_MAX_SEGMENTS)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "text.11", "too many segments for one archive");
	if (d->segment_count == d->segment_cap) {
		size_t cap = d->segment_cap * 2 + 16;
		struct archive_segment *grown = realloc(d->segments, cap * sizeof(*grown));
		if (grown == NULL)
			return fail_memory(err);
		d->segments = grown;
		d->segment_cap = cap;
	}
	d->segments[d->segment_count++] = *s;
	return PITH_OK;
}

struct record_strings archive_member_strings(const struct pith_archive_member *m)
{
	const char *uname = m->uname != NULL ? m->uname : "", *gname = m->gname != NULL ? m->gname : "";
	return (struct record_strings){m->name,        m->target,        uname,         gname,
	                               m->name_nbytes, m->target_nbytes, strlen(uname), strlen(gname)};
}

pith_status archive_directory_push_member(struct archive_directory *d, const struct pith_archive_member *m,
                                          const struct record_strings *s, struct pith_error *err)
{
	if (d->member_count == ARCHIVE_MAX_MEMBERS)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "text.11", "too many members for one archive");
	if (d->member_count == d->member_cap) {
		size_t cap = d->member_cap * 2 + 16;
		struct pith_archive_member *grown = realloc(d->members, cap * sizeof(*grown));
		if (grown == NULL)
			return fail_memory(err);
		d->members = grown;
		d->member_cap = cap;
	}
	const struct pith_archive_member *last = d->member_count > 0 ? &d->members[d->member_count - 1] : NULL;
	struct pith_archive_member copy = *m;
	copy.name_nbytes = s->name_nbytes;
	copy.target_nbytes = s->target_nbytes;
	PITH_TRY(copy_string(d, s->name, s->name_nbytes, &copy.name, err));
	PITH_TRY(copy_string(d, s->target, s->target_nbytes, &copy.target, err));
	PITH_TRY(copy_owner(d, s->uname, s->uname_nbytes, last != NULL ? last->uname : NULL, &copy.uname, err));
	PITH_TRY(copy_owner(d, s->gname, s->gname_nbytes, last != NULL ? last->gname : NULL, &copy.gname, err));
	d->members[d->member_count++] = copy;
	return PITH_OK;
}

pith_status archive_directory_copy(const struct archive_directory *from, struct archive_directory *to,
                                   struct pith_error *err)
{
	for (size_t i = 0; i < from->segment_count; i++)
		PITH_TRY(archive_directory_add_segment(to, &from->segments[i], err));
	for (size_t i = 0; i < from->member_count; i++) {
		struct record_strings s = archive_member_strings(&from->members[i]);
		PITH_TRY(archive_directory_add_member(to, &from->members[i], &s, NULL, err));
	}
	to->content_nbytes = from->content_nbytes;
	return PITH_OK;
}

/* ---- unique names ---- */

static pith_status grow_files(struct archive_directory *d, struct pith_error *err)
{
	if (d->file_cap >= d->member_cap)
		return PITH_OK;
	uint32_t *grown = realloc(d->files, d->member_cap * sizeof(*grown));
	if (grown == NULL)
		return fail_memory(err);
	d->files = grown;
	d->file_cap = d->member_cap;
	return PITH_OK;
}

size_t archive_directory_file_of(const struct archive_directory *d, const char *name, size_t nbytes)
{
	size_t i = archive_names_find(&d->names, d->members, name, nbytes);
	if (i == SIZE_MAX || d->members[i].is_replaced)
		return SIZE_MAX;
	if (d->members[i].kind == PITH_MEMBER_HARD_LINK)
		return d->files[i];
	return d->members[i].kind == PITH_MEMBER_FILE ? i : SIZE_MAX;
}

pith_status archive_directory_add_member(struct archive_directory *d, const struct pith_archive_member *m,
                                         const struct record_strings *strings, size_t *replaced,
                                         struct pith_error *err)
{
	size_t file = 0, before;
	if (m->kind == PITH_MEMBER_HARD_LINK) {
		file = archive_directory_file_of(d, strings->target, strings->target_nbytes);
		if (file == SIZE_MAX)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.23",
			                 "a hard link to '%.*s', which is no file before it",
			                 (int)(strings->target_nbytes < 100 ? strings->target_nbytes : 100), strings->target);
	}
	PITH_TRY(archive_directory_push_member(d, m, strings, err));
	PITH_TRY(grow_files(d, err));
	d->files[d->member_count - 1] = (uint32_t)file;
	PITH_TRY(archive_names_put(&d->names, d->members, d->member_count - 1, &before, err));
	if (before != SIZE_MAX && d->members[before].is_replaced)
		before = SIZE_MAX;
	if (before != SIZE_MAX)
		d->members[before].is_replaced = true;
	if (replaced != NULL)
		*replaced = before;
	return PITH_OK;
}

pith_status archive_directory_drop_last(struct archive_directory *d, size_t replaced, struct pith_error *err)
{
	size_t before;
	d->members[d->member_count - 1].is_replaced = d->members[d->member_count - 1].is_dropped = true;
	if (replaced == SIZE_MAX)
		return PITH_OK;
	d->members[replaced].is_replaced = false;
	return archive_names_put(&d->names, d->members, replaced, &before, err);
}

/*
 * Give files that lost their name, and are still meant by a hard link, that of the first one.
 * spec text_archive.md 5: it "becomes the file in its place and the target of the others"
 */
static void settle_links(struct archive_directory *d)
{
	for (size_t i = 0; d->files != NULL && i < d->member_count; i++) {
		struct pith_archive_member *m = &d->members[i], *file = &d->members[d->files[i]];
		if (m->kind != PITH_MEMBER_HARD_LINK || m->is_replaced)
			continue;
		if (file->is_replaced) {
			file->name = m->name;
			file->name_nbytes = m->name_nbytes;
			file->is_replaced = false;
			m->is_replaced = true;
		} else {
			m->target = file->name;
			m->target_nbytes = file->name_nbytes;
		}
	}
}

void archive_directory_compact(struct archive_directory *d)
{
	size_t kept = 0;
	settle_links(d);
	for (size_t i = 0; i < d->member_count; i++)
		if (!d->members[i].is_replaced)
			d->members[kept++] = d->members[i];
	d->member_count = kept;
	archive_names_free(&d->names);
	free(d->files);
	d->files = NULL;
	d->file_cap = 0;
}

/* ---- finding ---- */

pith_status archive_directory_index(struct archive_directory *d, struct pith_error *err)
{
	for (size_t i = 0; i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		size_t target = 0, before;
		if (m->kind == PITH_MEMBER_HARD_LINK)
			target = archive_directory_find(d, m->target, m->target_nbytes);
		// spec text.23: "The target of a hard link is the name of a file that comes before it."
		if (m->kind == PITH_MEMBER_HARD_LINK &&
		    (target == SIZE_MAX || d->members[target].kind != PITH_MEMBER_FILE))
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.23",
			                 "the hard link '%.100s' has no file before it", m->name);
		PITH_TRY(archive_names_put(&d->names, d->members, i, &before, err));
		// spec text.22: "No two members have the same name."
		if (before != SIZE_MAX)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.22", "two members are named '%.100s'",
			                 m->name);
	}
	return PITH_OK;
}

size_t archive_directory_find(const struct archive_directory *d, const char *name, size_t nbytes)
{
	return archive_names_find(&d->names, d->members, name, nbytes);
}

size_t archive_directory_segment_at(const struct archive_directory *d, uint64_t content_off)
{
	size_t low = 0, high = d->segment_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (d->segments[middle].content_off + d->segments[middle].raw_nbytes <= content_off)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
