/*
 * Tables of segments and members: growing, replacing, finding.
 *
 * Names are found through a hash table while members are added and by a sorted list in an archive that was read, whose
 * names a hostile writer may have chosen to collide; recovery, append and tar put such names into the table, too, which then
 * costs time, up to the square of their number.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_directory.h"

#include "checksum.h"

#include <stdlib.h>

#define STRING_BLOCK_NBYTES ((size_t)1 << 16)

struct string_block {
	struct string_block *next;
	size_t used, cap;
	char text[];
};

/* Hard links by 1 + number of a member; 0: none.  Their targets are names, which change with replacements. */
struct member_links {
	uint32_t file;        /* of a hard link: its file */
	uint32_t next;        /* of a hard link: the next one to the same file */
	uint32_t first, last; /* of a file: the hard links to it, also replaced ones */
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
	free(d->links);
	free(d->slots);
	free(d->by_name);
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
	d->hard_link_count += copy.kind == PITH_MEMBER_HARD_LINK ? 1 : 0;
	return PITH_OK;
}

pith_status archive_directory_copy(const struct archive_directory *from, struct archive_directory *to,
                                   struct pith_error *err)
{
	for (size_t i = 0; i < from->segment_count; i++)
		PITH_TRY(archive_directory_add_segment(to, &from->segments[i], err));
	for (size_t i = 0; i < from->member_count; i++) {
		struct record_strings s = archive_member_strings(&from->members[i]);
		PITH_TRY(archive_directory_push_member(to, &from->members[i], &s, err));
	}
	to->content_nbytes = from->content_nbytes;
	return PITH_OK;
}

/* ---- unique names ---- */

/* The slot that has this name, or the free one where it belongs. */
static uint32_t *slot_of(const struct archive_directory *d, const char *name, size_t nbytes)
{
	size_t mask = d->slot_count - 1;
	for (size_t at = (size_t)pith_xxh3_64(name, nbytes) & mask;; at = (at + 1) & mask) {
		if (d->slots[at] == 0)
			return &d->slots[at];
		const struct pith_archive_member *m = &d->members[d->slots[at] - 1];
		if (m->name_nbytes == nbytes && memcmp(m->name, name, nbytes) == 0)
			return &d->slots[at];
	}
}

static pith_status grow_links(struct archive_directory *d, struct pith_error *err)
{
	if (d->link_cap >= d->member_cap)
		return PITH_OK;
	struct member_links *grown = realloc(d->links, d->member_cap * sizeof(*grown));
	if (grown == NULL)
		return fail_memory(err);
	memset(grown + d->link_cap, 0, (d->member_cap - d->link_cap) * sizeof(*grown));
	d->links = grown;
	d->link_cap = d->member_cap;
	return PITH_OK;
}

/* Member i is the last hard link to the member whose slot has 'file'. */
static void add_link(struct archive_directory *d, size_t i, uint32_t file)
{
	struct member_links *f = &d->links[file - 1];
	uint32_t link = (uint32_t)i + 1;
	d->links[i].file = file;
	*(f->last != 0 ? &d->links[f->last - 1].next : &f->first) = link;
	f->last = link;
}

void archive_directory_settle_link(struct archive_directory *d, size_t i)
{
	struct pith_archive_member *m = &d->members[i];
	if (m->kind != PITH_MEMBER_HARD_LINK || d->links == NULL)
		return;
	const struct pith_archive_member *file = &d->members[d->links[i].file - 1];
	m->target = file->name;
	m->target_nbytes = file->name_nbytes;
}

/* Room for one more; at most half of the slots are used. */
static pith_status grow_slots(struct archive_directory *d, struct pith_error *err)
{
	bool is_first = d->slots == NULL;
	if (!is_first && 2 * (d->slot_used + 1) <= d->slot_count)
		return PITH_OK;
	size_t count = 64;
	while (count < 4 * (d->member_count + 1))
		count *= 2;
	uint32_t *slots = calloc(count, sizeof(*slots));
	if (slots == NULL)
		return fail_memory(err);
	free(d->slots);
	d->slots = slots;
	d->slot_count = count;
	d->slot_used = 0;
	PITH_TRY(grow_links(d, err));
	for (size_t i = 0; i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		if (m->is_replaced)
			continue;
		*slot_of(d, m->name, m->name_nbytes) = (uint32_t)i + 1;
		d->slot_used++;
		if (is_first && m->kind == PITH_MEMBER_HARD_LINK)
			add_link(d, i, *slot_of(d, m->target, m->target_nbytes));
	}
	return PITH_OK;
}

/* spec text_archive.md 5: the first of the hard links to it "becomes the file in its place and the target of the others" */
static void replace_member(struct archive_directory *d, size_t old)
{
	struct pith_archive_member *file = &d->members[old];
	uint32_t heir = d->links[old].first;
	while (heir != 0 && d->members[heir - 1].is_replaced)
		heir = d->links[heir - 1].next;
	file->is_replaced = heir == 0;
	d->hard_link_count -= heir != 0 || file->kind == PITH_MEMBER_HARD_LINK ? 1 : 0;
	if (heir == 0)
		return;
	struct pith_archive_member *m = &d->members[heir - 1];
	m->is_replaced = true;
	file->name = m->name;
	file->name_nbytes = m->name_nbytes;
	*slot_of(d, file->name, file->name_nbytes) = (uint32_t)old + 1;
	d->links[old].first = d->links[heir - 1].next;
	if (d->links[old].first == 0)
		d->links[old].last = 0;
}

pith_status archive_directory_add_member(struct archive_directory *d, const struct pith_archive_member *m,
                                         const struct record_strings *strings, bool *replaced,
                                         struct pith_error *err)
{
	uint32_t target = 0;
	PITH_TRY(grow_slots(d, err));
	if (m->kind == PITH_MEMBER_HARD_LINK) {
		target = *slot_of(d, strings->target, strings->target_nbytes);
		bool is_itself = strings->target_nbytes == strings->name_nbytes &&
		                 memcmp(strings->target, strings->name, strings->name_nbytes) == 0;
		// spec text.23: "The target of a hard link is the name of a file that comes before it."
		if (target == 0 || d->members[target - 1].kind != PITH_MEMBER_FILE || is_itself)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.23",
			                 "a hard link to '%.*s', which is no file before it",
			                 (int)(strings->target_nbytes < 100 ? strings->target_nbytes : 100), strings->target);
	}
	PITH_TRY(archive_directory_push_member(d, m, strings, err));
	PITH_TRY(grow_links(d, err));
	if (target != 0)
		add_link(d, d->member_count - 1, target);
	uint32_t *slot = slot_of(d, strings->name, strings->name_nbytes), old = *slot;
	d->slot_used += old == 0 ? 1 : 0;
	*slot = (uint32_t)d->member_count;
	if (replaced != NULL)
		*replaced = old != 0;
	if (old != 0)
		replace_member(d, old - 1);
	return PITH_OK;
}

void archive_directory_compact(struct archive_directory *d)
{
	size_t kept = 0;
	for (size_t i = 0; i < d->member_count; i++)
		archive_directory_settle_link(d, i);
	for (size_t i = 0; i < d->member_count; i++)
		if (!d->members[i].is_replaced)
			d->members[kept++] = d->members[i];
	d->member_count = kept;
	free(d->slots);
	free(d->links);
	d->slots = NULL;
	d->links = NULL;
	d->slot_count = d->slot_used = d->link_cap = 0;
}

/* ---- finding ---- */

static int compare_names(const char *a, size_t a_nbytes, const char *b, size_t b_nbytes)
{
	int order = memcmp(a, b, a_nbytes < b_nbytes ? a_nbytes : b_nbytes);
	return order != 0 ? order : (a_nbytes > b_nbytes) - (a_nbytes < b_nbytes);
}

static int compare_members(const struct archive_directory *d, uint32_t a, uint32_t b)
{
	const struct pith_archive_member *x = &d->members[a], *y = &d->members[b];
	return compare_names(x->name, x->name_nbytes, y->name, y->name_nbytes);
}

/* Merge sort from the bottom, as qsort() has no context: list and work are [count]. */
static void sort_list(const struct archive_directory *d, uint32_t *list, uint32_t *work, size_t count)
{
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t low = 0; low < count; low += 2 * width) {
			size_t middle = low + width < count ? low + width : count;
			size_t high = low + 2 * width < count ? low + 2 * width : count;
			size_t a = low, b = middle;
			for (size_t k = low; k < high; k++) {
				bool take_a = a < middle && (b == high || compare_members(d, list[a], list[b]) <= 0);
				work[k] = take_a ? list[a++] : list[b++];
			}
		}
		memcpy(list, work, count * sizeof(*list));
	}
}

static pith_status check_names(const struct archive_directory *d, struct pith_error *err)
{
	// spec text.22: "No two members have the same name."
	for (size_t i = 1; i < d->member_count; i++)
		if (compare_members(d, d->by_name[i - 1], d->by_name[i]) == 0)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.22", "two members are named '%.100s'",
			                 d->members[d->by_name[i]].name);
	for (size_t i = 0; d->hard_link_count > 0 && i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		if (m->kind != PITH_MEMBER_HARD_LINK)
			continue;
		size_t target = archive_directory_find(d, m->target, m->target_nbytes);
		// spec text.23: "The target of a hard link is the name of a file that comes before it."
		if (target >= i || d->members[target].kind != PITH_MEMBER_FILE)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.23",
			                 "the hard link '%.100s' has no file before it", m->name);
	}
	return PITH_OK;
}

pith_status archive_directory_sort(struct archive_directory *d, struct pith_error *err)
{
	uint32_t *list = malloc((d->member_count + 1) * sizeof(*list));
	uint32_t *work = malloc((d->member_count + 1) * sizeof(*work));
	for (size_t i = 0; list != NULL && i < d->member_count; i++)
		list[i] = (uint32_t)i;
	if (list != NULL && work != NULL)
		sort_list(d, list, work, d->member_count);
	bool failed = list == NULL || work == NULL;
	free(work);
	free(d->by_name);
	d->by_name = list;
	return failed ? fail_memory(err) : check_names(d, err);
}

size_t archive_directory_find(const struct archive_directory *d, const char *name, size_t nbytes)
{
	size_t low = 0, high = d->member_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct pith_archive_member *m = &d->members[d->by_name[middle]];
		int order = compare_names(m->name, m->name_nbytes, name, nbytes);
		if (order == 0)
			return d->by_name[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return SIZE_MAX;
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
