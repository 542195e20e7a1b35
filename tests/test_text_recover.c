/*
 * Archives that lost something: what is whole comes back, and what does not is named to the byte.  With and without the
 * directory, after flips, cuts, lost blocks and interrupted appends, with an archive inside the archive.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"
#include "archive_memory.h"
#include "archive_record.h"
#include "bytes.h"
#include "checksum.h"
#include "text_archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { MEMBERS = 7, HEADER = 56 };

/* Content that zstd cannot make small, so that segments are stored one by one. */
static struct content {
	const char *name;
	uint8_t *data;
	size_t nbytes;
} contents[MEMBERS] = {
	{"a", NULL, 70000}, {"b/empty", NULL, 0},      {"b/long", NULL, 300000}, {"c", NULL, 1},
	{"d", NULL, 66000}, {"e", NULL, 200000}, {"f", NULL, 100},
};

static int set_up(void **state)
{
	uint32_t h = 99;
	(void)state;
	for (size_t i = 0; i < MEMBERS; i++) {
		contents[i].data = malloc(contents[i].nbytes + 1);
		assert_non_null(contents[i].data);
		for (size_t k = 0; k < contents[i].nbytes; k++) {
			h = h * 1664525u + 1013904223u;
			contents[i].data[k] = (uint8_t)(h >> 24);
		}
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < MEMBERS; i++)
		free(contents[i].data);
	return 0;
}

static void write_member(struct pith_archive_writer *w, enum pith_member_kind kind, const char *name,
                         const char *target, const void *data, size_t nbytes)
{
	struct pith_archive_member m = {.kind = kind, .mode = 0600, .name = name, .name_nbytes = strlen(name),
	                                .has_owner = true, .uid = 7, .uname = "someone", .gname = "",
	                                .target = target, .target_nbytes = strlen(target)};
	assert_int_equal(pith_archive_writer_member(w, &m, NULL), PITH_OK);
	if (kind == PITH_MEMBER_FILE)
		assert_int_equal(pith_archive_writer_data(w, data, nbytes, NULL), PITH_OK);
}

static struct pith_archive_writer *start(struct archive_memory *out, uint32_t segment,
                                         const struct pith_archive *old)
{
	struct pith_archive_writer *w;
	struct pith_archive_writer_options o = {.segment_nbytes = segment, .sink = archive_memory_put,
	                                        .sink_ctx = out, .append_to = old};
	assert_int_equal(pith_archive_writer_new(&o, &w, NULL), PITH_OK);
	return w;
}

static void finish(struct pith_archive_writer *w, struct pith_archive_stats *stats)
{
	assert_int_equal(pith_archive_writer_finish(w, stats, NULL), PITH_OK);
	pith_archive_writer_free(w);
}

/* All members in segments of 64 KiB, a link and a hard link behind them. */
static void make_archive(struct archive_memory *out)
{
	struct pith_archive_writer *w = start(out, 65536, NULL);
	for (size_t i = 0; i < MEMBERS; i++)
		write_member(w, PITH_MEMBER_FILE, contents[i].name, "", contents[i].data, contents[i].nbytes);
	write_member(w, PITH_MEMBER_DIRECTORY, "folder", "", NULL, 0);
	write_member(w, PITH_MEMBER_LINK, "link", "somewhere", NULL, 0);
	write_member(w, PITH_MEMBER_HARD_LINK, "same as d", "d", NULL, 0);
	finish(w, NULL);
}

static struct pith_archive *open_bytes(struct archive_memory *b, bool recover)
{
	struct pith_archive *a = NULL;
	struct pith_archive_source source = {b->nbytes, archive_memory_get, b};
	pith_status status = recover ? pith_archive_recover(&source, NULL, &a, NULL) : pith_archive_open(&source, &a, NULL);
	assert_true((status == PITH_OK) == (a != NULL));
	return a;
}

/* ---- reading what is left ---- */

struct rest {
	const struct pith_archive *archive;
	const struct content *now;
	uint64_t at;      /* in the member */
	uint64_t lost;    /* bytes of members */
	size_t whole, damaged, open_ended;
};

static const struct content *find_content(const char *name)
{
	for (size_t i = 0; i < MEMBERS; i++)
		if (strcmp(contents[i].name, name) == 0)
			return &contents[i];
	return NULL;
}

static pith_status rest_begin(void *ctx, size_t member, struct pith_error *err)
{
	struct rest *r = ctx;
	const struct pith_archive_member *m = pith_archive_member_at(r->archive, member);
	(void)err;
	r->now = find_content(m->name);
	r->at = 0;
	assert_true(m->kind != PITH_MEMBER_FILE || r->now != NULL);
	return PITH_OK;
}

static pith_status rest_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	struct rest *r = ctx;
	(void)err;
	/* whatever is given out is right, and at its place */
	assert_true(r->at + nbytes <= r->now->nbytes);
	assert_memory_equal(data, r->now->data + r->at, nbytes);
	r->at += nbytes;
	return PITH_OK;
}

static pith_status rest_lost(void *ctx, size_t member, uint64_t off, uint64_t nbytes,
                             const struct pith_error *why, struct pith_error *err)
{
	struct rest *r = ctx;
	(void)err;
	assert_true(why->status != PITH_OK && why->msg[0] != '\0');
	if (member == SIZE_MAX)
		return PITH_OK;
	assert_int_equal(off, r->at);
	r->at += nbytes;
	r->lost += nbytes;
	r->open_ended += nbytes == 0 ? 1 : 0;
	return PITH_OK;
}

static pith_status rest_end(void *ctx, size_t member, struct pith_error *err)
{
	struct rest *r = ctx;
	(void)err;
	if (pith_archive_member_at(r->archive, member)->kind == PITH_MEMBER_FILE) {
		assert_int_equal(r->at, r->now->nbytes); /* a member that is called whole is */
		r->whole++;
	}
	return PITH_OK;
}

static pith_status rest_damaged(void *ctx, size_t member, struct pith_error *err)
{
	struct rest *r = ctx;
	(void)member;
	(void)err;
	r->damaged++;
	return PITH_OK;
}

static struct rest read_rest(struct pith_archive *a)
{
	struct rest r = {.archive = a};
	struct pith_archive_read_options o = {.begin = rest_begin, .data = rest_data, .end = rest_end,
	                                      .lost = rest_lost, .damaged = rest_damaged, .ctx = &r};
	if (a == NULL)
		return r;
	assert_int_equal(pith_archive_read(a, NULL, &o, NULL), PITH_OK);
	pith_archive_close(a);
	return r;
}

static struct archive_memory copy_of(const struct archive_memory *b)
{
	struct archive_memory copy = {0};
	archive_memory_put(&copy, b->data, b->nbytes, NULL);
	return copy;
}

/* Offsets of segment headers. */
static size_t find_segments(const struct archive_memory *b, size_t *off, size_t cap)
{
	size_t count = 0;
	for (size_t i = 0; i + HEADER <= b->nbytes; i++)
		if (memcmp(b->data + i, "PZSG", 4) == 0 && load_le64(b->data + i + 20) == i) {
			assert_true(count < cap);
			off[count++] = i;
		}
	return count;
}

/* ---- tests ---- */

static void a_lost_directory_loses_nothing(void **state)
{
	struct archive_memory b = {0};
	(void)state;
	make_archive(&b);
	uint64_t directory = load_le64(b.data + b.nbytes - 64 + 8);
	for (int how = 0; how < 4; how++) {
		struct archive_memory hurt = copy_of(&b);
		if (how == 0)
			hurt.nbytes = (size_t)directory;
		else if (how == 1)
			hurt.data[directory + 3] ^= 1;
		else if (how == 2)
			hurt.data[hurt.nbytes - 10] ^= 1;
		else
			memset(hurt.data, 0xee, 64); /* the header */
		assert_null(open_bytes(&hurt, false));
		struct pith_archive *a = open_bytes(&hurt, true);
		struct pith_archive_info info;
		pith_archive_info(a, &info);
		assert_true(info.is_recovered);
		assert_int_equal(info.header_lost, how == 3);
		assert_int_equal(info.member_count, MEMBERS + 3);
		const struct pith_archive_member *m =
			pith_archive_member_at(a, pith_archive_find(a, "same as d"));
		assert_int_equal(m->kind, PITH_MEMBER_HARD_LINK);
		assert_string_equal(m->target, "d");
		assert_int_equal(m->uid, 7);
		assert_string_equal(m->uname, "someone");
		struct rest r = read_rest(a);
		assert_int_equal(r.whole, MEMBERS);
		assert_int_equal(r.damaged, 0);
		free(hurt.data);
	}
	free(b.data);
}

/* One block of a segment is hurt, or gone: with the directory the rest is whole and the loss exact. */
static void a_block_costs_its_segment(void **state)
{
	struct archive_memory b = {0};
	size_t off[64];
	(void)state;
	make_archive(&b);
	size_t count = find_segments(&b, off, 64);
	assert_true(count >= 9);
	for (size_t s = 0; s < count; s++) {
		uint32_t raw = load_le32(b.data + off[s] + 8);
		for (int where = 0; where < 3; where++) {
			struct archive_memory hurt = copy_of(&b);
			size_t at = off[s] + (where == 0 ? 5 : where == 1 ? HEADER + 1 : HEADER + 60000);
			if (at >= (s + 1 < count ? off[s + 1] : load_le64(b.data + b.nbytes - 56)))
				at = off[s] + HEADER;
			hurt.data[at] ^= 0x40;
			struct rest r = read_rest(open_bytes(&hurt, false));
			assert_int_equal(r.lost, raw);
			assert_int_equal(r.whole + r.damaged, MEMBERS);
			assert_true(r.damaged >= 1 || raw == 0);
			/* and without it: no more members are lost than lie in the segment or border on it */
			hurt.nbytes = (size_t)load_le64(b.data + b.nbytes - 56);
			struct rest scanned = read_rest(open_bytes(&hurt, true));
			assert_true(scanned.whole + r.damaged + 1 >= MEMBERS);
			free(hurt.data);
		}
		/* the bytes are gone, and all behind them lie elsewhere */
		struct archive_memory gone = copy_of(&b);
		size_t cut = 1000 < gone.nbytes - off[s] - 64 ? 1000 : 10;
		memmove(gone.data + off[s] + 20, gone.data + off[s] + 20 + cut, gone.nbytes - off[s] - 20 - cut);
		gone.nbytes -= cut;
		struct rest r = read_rest(open_bytes(&gone, true));
		assert_true(r.whole >= MEMBERS - 4);
		free(gone.data);
	}
	free(b.data);
}

static void every_cut_keeps_what_is_before_it(void **state)
{
	struct archive_memory b = {0};
	size_t last = 0;
	(void)state;
	make_archive(&b);
	for (size_t n = 65; n < b.nbytes; n += 4001) {
		struct archive_memory cut = b;
		cut.nbytes = n;
		assert_null(open_bytes(&cut, false));
		struct rest r = read_rest(open_bytes(&cut, true));
		assert_true(r.whole >= last);
		last = r.whole;
	}
	assert_true(last >= MEMBERS - 2);
	free(b.data);
}

static void an_append_counts_when_it_is_complete(void **state)
{
	struct archive_memory b = {0};
	(void)state;
	struct pith_archive_writer *w = start(&b, 65536, NULL);
	for (size_t i = 0; i < 4; i++)
		write_member(w, PITH_MEMBER_FILE, contents[i].name, "", contents[i].data, contents[i].nbytes);
	finish(w, NULL);
	size_t old = b.nbytes;
	struct pith_archive *a = open_bytes(&b, false);
	w = start(&b, 65536, a);
	for (size_t i = 4; i < MEMBERS; i++)
		write_member(w, PITH_MEMBER_FILE, contents[i].name, "", contents[i].data, contents[i].nbytes);
	struct pith_archive_stats stats;
	finish(w, &stats);
	pith_archive_close(a);
	assert_int_equal(stats.members, MEMBERS - 4);
	assert_int_equal(stats.archive_nbytes, b.nbytes);
	assert_int_equal(read_rest(open_bytes(&b, false)).whole, MEMBERS);
	for (size_t n = old; n < b.nbytes; n += n - old < 200 || b.nbytes - n < 300 ? 1 : 5003) {
		struct archive_memory cut = b;
		struct pith_archive_info info;
		cut.nbytes = n;
		a = open_bytes(&cut, false);
		assert_non_null(a);
		pith_archive_info(a, &info);
		assert_int_equal(info.member_count, 4);
		assert_int_equal(info.ignored_nbytes, n - old);
		assert_int_equal(read_rest(a).whole, 4);
	}
	/* recovery sees old and new */
	struct archive_memory cut = b;
	cut.nbytes = b.nbytes - 1;
	assert_int_equal(read_rest(open_bytes(&cut, true)).whole, MEMBERS);
	free(b.data);
}

static void names_are_replaced(void **state)
{
	struct archive_memory b = {0};
	struct pith_archive_stats stats;
	(void)state;
	struct pith_archive_writer *w = start(&b, 65536, NULL);
	write_member(w, PITH_MEMBER_FILE, "a", "", contents[3].data, 1);
	write_member(w, PITH_MEMBER_FILE, "a", "", contents[4].data, 66000); /* in one run */
	write_member(w, PITH_MEMBER_FILE, "d", "", contents[4].data, 66000);
	write_member(w, PITH_MEMBER_HARD_LINK, "x", "d", NULL, 0);
	write_member(w, PITH_MEMBER_HARD_LINK, "y", "d", NULL, 0);
	struct pith_archive_member bad = {.kind = PITH_MEMBER_HARD_LINK, .name = "z", .name_nbytes = 1,
	                                  .target = "none", .target_nbytes = 4};
	struct pith_error err;
	assert_int_equal(pith_archive_writer_member(w, &bad, &err), PITH_E_ARGUMENT);
	assert_string_equal(err.rule, "text.23");
	finish(w, &stats);
	assert_int_equal(stats.replaced, 1);
	struct pith_archive *old = open_bytes(&b, false);
	w = start(&b, 65536, old);
	write_member(w, PITH_MEMBER_FILE, "a", "", contents[0].data, 70000);
	write_member(w, PITH_MEMBER_FILE, "d", "", contents[6].data, 100);
	finish(w, &stats);
	assert_int_equal(stats.replaced, 2);
	pith_archive_close(old);
	for (int recover = 0; recover < 2; recover++) {
		struct archive_memory view = b;
		view.nbytes -= (size_t)recover; /* no trailer, yet the same members */
		struct pith_archive *a = open_bytes(&view, recover != 0);
		struct pith_archive_info info;
		pith_archive_info(a, &info);
		assert_int_equal(info.member_count, 4);
		assert_int_equal(pith_archive_member_at(a, pith_archive_find(a, "a"))->nbytes, 70000);
		assert_int_equal(pith_archive_member_at(a, pith_archive_find(a, "d"))->nbytes, 100);
		/* what the links meant is what they still mean */
		const struct pith_archive_member *x = pith_archive_member_at(a, pith_archive_find(a, "x"));
		assert_int_equal(x->kind, PITH_MEMBER_FILE);
		assert_int_equal(x->nbytes, 66000);
		assert_string_equal(pith_archive_member_at(a, pith_archive_find(a, "y"))->target, "x");
		pith_archive_close(a);
	}
	free(b.data);
}

/* Replacing one of many members looks at the hard links to it, not at all members. */
static void many_members_are_replaced(void **state)
{
	enum { COUNT = 100000, LINKS = 100 };
	struct archive_memory b = {0};
	char name[32];
	(void)state;
	clock_t begin = clock();
	struct pith_archive_writer *w = start(&b, 65536, NULL);
	for (size_t i = 0; i < 2 * COUNT; i++) {
		snprintf(name, sizeof(name), "%zu", i % COUNT);
		write_member(w, PITH_MEMBER_FILE, name, "", NULL, 0);
		snprintf(name, sizeof(name), "link %zu", i);
		if (i < LINKS)
			write_member(w, PITH_MEMBER_HARD_LINK, name, "0", NULL, 0);
	}
	for (size_t i = 0; i + 1 < LINKS; i++) { /* each leaves the file to the next one */
		snprintf(name, sizeof(name), "link %zu", i);
		write_member(w, PITH_MEMBER_FILE, name, "", contents[3].data, 1);
	}
	finish(w, NULL);
	struct pith_archive *a = open_bytes(&b, false);
	struct pith_archive_info info;
	pith_archive_info(a, &info);
	assert_int_equal(info.member_count, COUNT + LINKS);
	assert_int_equal(info.content_nbytes, LINKS - 1);
	snprintf(name, sizeof(name), "link %d", LINKS - 1);
	const struct pith_archive_member *last = pith_archive_member_at(a, pith_archive_find(a, name));
	assert_int_equal(last->kind, PITH_MEMBER_FILE);
	assert_int_equal(last->nbytes, 0);
	pith_archive_close(a);
	free(b.data);
	assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 20);
}

/* So many members that their records do not fit one segment: none is taken for a part of another. */
static void tiny_members_keep_their_records(void **state)
{
	enum { COUNT = 150000 };
	struct archive_memory b = {0};
	char name[32];
	(void)state;
	struct pith_archive_writer *w = start(&b, 1 << 20, NULL);
	for (size_t i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		write_member(w, PITH_MEMBER_FILE, name, "", contents[4].data + i % 60000, i % 3);
	}
	finish(w, NULL);
	b.nbytes -= 1;
	struct pith_archive *a = open_bytes(&b, true);
	struct pith_archive_info info;
	pith_archive_info(a, &info);
	assert_true(info.segment_count > 1);
	assert_int_equal(info.member_count, COUNT);
	uint64_t off = 0;
	for (size_t i = 0; i < COUNT; i++) {
		const struct pith_archive_member *m = pith_archive_member_at(a, i);
		snprintf(name, sizeof(name), "%zu", i);
		assert_string_equal(m->name, name);
		assert_int_equal(m->nbytes, i % 3);
		assert_int_equal(m->content_off, off);
		assert_false(m->is_open_ended);
		off += m->nbytes;
	}
	pith_archive_close(a);
	free(b.data);
}

/* An archive whose segment lost its header is not taken for a part of the one it is in. */
static void an_archive_inside_stays_inside(void **state)
{
	struct archive_memory inner = {0}, b = {0};
	(void)state;
	make_archive(&inner);
	finish(start(&b, 1 << 20, NULL), NULL);
	b.nbytes = 64; /* its header */
	archive_memory_put(&b, inner.data, inner.nbytes - 64, NULL);
	struct pith_archive *a = open_bytes(&b, true);
	struct pith_archive_info info;
	pith_archive_info(a, &info);
	assert_int_equal(info.member_count, 0);
	pith_archive_close(a);
	free(inner.data);
	free(b.data);
}

/* A segment with a member of its own, as the content of a stored file: it claims to lie at 'off', behind all others. */
static size_t plant_segment(uint8_t *to, uint64_t off)
{
	static const char code[] = "not what was archived";
	struct pith_archive_member m = {.kind = PITH_MEMBER_FILE, .name = "evil", .name_nbytes = 4, .target = ""};
	struct record_bytes records = {0};
	struct segment_header h = {.raw_nbytes = 21, .stored_nbytes = 21, .off = off, .content_off = (uint64_t)1 << 40,
	                           .raw_xxh3 = pith_xxh3_64(code, 21)};
	assert_int_equal(record_put_member(&records, &m, NULL), PITH_OK);
	assert_int_equal(record_put_varint(&records, h.content_off, NULL), PITH_OK);
	h.records_nbytes = (uint32_t)records.nbytes;
	memcpy(to + HEADER, records.data, records.nbytes);
	memcpy(to + HEADER + records.nbytes, code, 21);
	h.stored_xxh3 = pith_xxh3_64(to + HEADER, records.nbytes + 21);
	segment_header_store(&h, to);
	free(records.data);
	return HEADER + h.records_nbytes + 21;
}

static void a_segment_in_the_content_is_none(void **state)
{
	enum { AT = 30000 };
	struct archive_memory b = {0};
	uint8_t *content = contents[5].data, saved[300];
	size_t off[64];
	(void)state;
	memcpy(saved, content + AT, sizeof(saved));
	size_t planted = plant_segment(content + AT, (uint64_t)1 << 41);
	plant_segment(content + AT + planted, 64 + HEADER + 8 + AT + planted); /* its place, or near */
	struct pith_archive_writer *w = start(&b, 1 << 20, NULL);
	write_member(w, PITH_MEMBER_FILE, "e", "", content, contents[5].nbytes);
	finish(w, NULL);
	size_t count = find_segments(&b, off, 64);
	assert_int_equal(read_rest(open_bytes(&b, false)).whole, 1);
	for (size_t s = 0; s < count; s++)
		for (size_t part = 0; part <= HEADER; part += HEADER) {
			struct archive_memory hurt = copy_of(&b);
			hurt.data[off[s] + 3 + part] ^= 1; /* header, then payload */
			hurt.nbytes -= 64;
			struct pith_archive *a = open_bytes(&hurt, true);
			assert_true(pith_archive_find(a, "evil") == SIZE_MAX);
			pith_archive_close(a);
			free(hurt.data);
		}
	memcpy(content + AT, saved, sizeof(saved));
	free(b.data);
}

/* A member costs its own segments and the directory, and not a byte more is read. */
static void one_member_reads_its_segments_only(void **state)
{
	struct archive_memory b = {0};
	size_t off[64];
	(void)state;
	make_archive(&b);
	size_t count = find_segments(&b, off, 64);
	b.touched = calloc(b.nbytes, 1);
	struct pith_archive *a = open_bytes(&b, false);
	size_t i = pith_archive_find(a, "d");
	bool *selected = calloc(MEMBERS + 3, sizeof(*selected));
	assert_true(b.touched != NULL && selected != NULL);
	selected[i] = true;
	struct rest r = {.archive = a};
	struct pith_archive_read_options o = {.begin = rest_begin, .data = rest_data, .end = rest_end, .ctx = &r};
	assert_int_equal(pith_archive_read(a, selected, &o, NULL), PITH_OK);
	assert_int_equal(r.whole, 1);
	uint64_t begin = pith_archive_member_at(a, i)->content_off, end = begin + contents[4].nbytes;
	uint64_t directory = load_le64(b.data + b.nbytes - 56);
	size_t needed = 0;
	for (size_t s = 0; s < count; s++) {
		uint64_t from = load_le64(b.data + off[s] + 28), until = from + load_le32(b.data + off[s] + 8);
		bool is_needed = from < end && until > begin;
		needed += is_needed ? 1 : 0;
		size_t next = s + 1 < count ? off[s + 1] : (size_t)directory;
		for (size_t k = off[s]; k < next; k++)
			assert_int_equal(b.touched[k], is_needed);
	}
	assert_in_range(needed, 1, 3);
	pith_archive_close(a);
	free(selected);
	free(b.touched);
	free(b.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lost_directory_loses_nothing),
		cmocka_unit_test(a_block_costs_its_segment),
		cmocka_unit_test(every_cut_keeps_what_is_before_it),
		cmocka_unit_test(an_append_counts_when_it_is_complete),
		cmocka_unit_test(names_are_replaced),
		cmocka_unit_test(many_members_are_replaced),
		cmocka_unit_test(tiny_members_keep_their_records),
		cmocka_unit_test(an_archive_inside_stays_inside),
		cmocka_unit_test(a_segment_in_the_content_is_none),
		cmocka_unit_test(one_member_reads_its_segments_only),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
