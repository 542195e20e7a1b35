/*
 * Names in archives: replaced, linked, linked to links, and made to collide.  With the directory and without it an
 * archive tells the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_memory.h"
#include "bytes.h"
#include "checksum.h"
#include "text_archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

/* LONG: more than a run of the writer holds, so that its beginning is written while its end is not there yet. */
enum { SEGMENT = 65536, LONG = 9 << 20 };

static struct pith_archive_writer *start(struct archive_memory *out, const struct pith_archive *old)
{
	struct pith_archive_writer *w;
	struct pith_archive_writer_options o = {.segment_nbytes = SEGMENT, .sink = archive_memory_put,
	                                        .sink_ctx = out, .append_to = old};
	assert_int_equal(pith_archive_writer_new(&o, &w, NULL), PITH_OK);
	return w;
}

static void add(struct pith_archive_writer *w, enum pith_member_kind kind, const char *name, const char *target)
{
	struct pith_archive_member m = {.kind = kind, .mode = 0600, .name = name, .name_nbytes = strlen(name),
	                                .target = target, .target_nbytes = strlen(target)};
	assert_int_equal(pith_archive_writer_member(w, &m, NULL), PITH_OK);
}

/* The content of a file: 'nbytes' times the same letter. */
static void add_file(struct pith_archive_writer *w, const char *name, char letter, size_t nbytes)
{
	uint8_t *content = malloc(nbytes);
	assert_non_null(content);
	memset(content, letter, nbytes);
	add(w, PITH_MEMBER_FILE, name, "");
	assert_int_equal(pith_archive_writer_data(w, content, nbytes, NULL), PITH_OK);
	free(content);
}

static void add_link(struct pith_archive_writer *w, const char *name, const char *target)
{
	add(w, PITH_MEMBER_HARD_LINK, name, target);
}

static void finish(struct pith_archive_writer *w)
{
	assert_int_equal(pith_archive_writer_finish(w, NULL, NULL), PITH_OK);
	pith_archive_writer_free(w);
}

static struct pith_archive *open_memory(struct archive_memory *b, bool recover)
{
	struct pith_archive *a;
	struct pith_archive_source source = {b->nbytes, archive_memory_get, b};
	struct pith_error err;
	pith_status status = recover ? pith_archive_recover(&source, NULL, &a, &err) : pith_archive_open(&source, &a, &err);
	if (status != PITH_OK)
		fail_msg("open: %s", err.msg);
	return a;
}

/* The content that the name leads to, perhaps through a hard link. */
static void expect(const struct pith_archive *a, const char *name, char letter, size_t nbytes)
{
	struct archive_memory content = {0};
	struct pith_archive_info info;
	pith_archive_info(a, &info);
	bool *selected = calloc((size_t)info.member_count, sizeof(*selected));
	size_t i = pith_archive_find(a, name);
	if (i == SIZE_MAX || selected == NULL)
		fail_msg("'%s' is not there", name);
	const struct pith_archive_member *m = pith_archive_member_at(a, i);
	i = m->kind == PITH_MEMBER_HARD_LINK ? pith_archive_find(a, m->target) : i;
	assert_int_equal(pith_archive_member_at(a, i)->kind, PITH_MEMBER_FILE);
	selected[i] = true;
	struct pith_archive_read_options o = {.data = archive_memory_put, .ctx = &content};
	assert_int_equal(pith_archive_read(a, selected, &o, NULL), PITH_OK);
	assert_int_equal(content.nbytes, nbytes);
	for (size_t k = 0; k < nbytes; k++)
		assert_int_equal(content.data[k], letter);
	free(content.data);
	free(selected);
}

/* Calls 'check' with the archive as it is and as it is recovered. */
static void in_both(struct archive_memory *b, void (*check)(const struct pith_archive *a))
{
	struct archive_memory cut = *b;
	cut.nbytes--; /* no trailer */
	struct pith_archive *whole = open_memory(b, false), *recovered = open_memory(&cut, true);
	check(whole);
	check(recovered);
	pith_archive_close(whole);
	pith_archive_close(recovered);
	free(b->data);
}

/* ---- links to what is replaced ---- */

static void check_replaced(const struct pith_archive *a)
{
	expect(a, "a", '2', 10);
	expect(a, "link", '1', 1000);
	expect(a, "other", '1', 1000);
}

/* The file's record is in a segment that is written, the link's is not, when the name is replaced. */
static void a_link_keeps_the_content_of_a_replaced_file(void **state)
{
	struct archive_memory b = {0};
	(void)state;
	struct pith_archive_writer *w = start(&b, NULL);
	add_file(w, "a", '1', 1000);
	add_file(w, "long", 0, LONG);
	add_link(w, "link", "a");
	add_link(w, "other", "a");
	add_file(w, "a", '2', 10);
	finish(w);
	in_both(&b, check_replaced);
}

static void check_long(const struct pith_archive *a)
{
	expect(a, "a", '2', 10);
	expect(a, "link", '1', LONG);
}

/* The end of the file's content is not written yet. */
static void a_link_keeps_the_end_of_a_replaced_file(void **state)
{
	struct archive_memory b = {0};
	(void)state;
	struct pith_archive_writer *w = start(&b, NULL);
	add_file(w, "a", '1', LONG);
	add_link(w, "link", "a");
	add_file(w, "a", '2', 10);
	finish(w);
	in_both(&b, check_long);
}

static void check_chain(const struct pith_archive *a)
{
	expect(a, "a", '2', 10);
	expect(a, "b", '3', 10);
	expect(a, "c", '1', 1000);
	expect(a, "d", '1', 1000);
	expect(a, "e", '1', 1000);
}

/* Some tar streams have links to links. */
static void a_link_to_a_link_shares_its_file(void **state)
{
	struct archive_memory b = {0};
	(void)state;
	struct pith_archive_writer *w = start(&b, NULL);
	add_file(w, "a", '1', 1000);
	add_link(w, "b", "a");
	add_link(w, "c", "b");
	add_link(w, "a", "c");
	add_link(w, "d", "a");
	finish(w);
	struct pith_archive *old = open_memory(&b, false);
	w = start(&b, old);
	add_link(w, "e", "d");
	add_file(w, "a", '2', 10);
	add_file(w, "b", '3', 10);
	finish(w);
	pith_archive_close(old);
	in_both(&b, check_chain);
}

/* An earlier file of the same name is not what the link meant. */
static void a_link_to_a_lost_file_does_not_get_another_one(void **state)
{
	struct archive_memory b = {0};
	struct pith_archive_info info;
	size_t second = 0;
	(void)state;
	for (int part = 0; part < 3; part++) {
		struct pith_archive *old = part > 0 ? open_memory(&b, false) : NULL;
		struct pith_archive_writer *w = start(&b, old);
		second = part == 1 ? b.nbytes : second;
		if (part < 2)
			add_file(w, "a", (char)('1' + part), 1000);
		else
			add_link(w, "link", "a");
		finish(w);
		pith_archive_close(old);
	}
	b.data[second + 60] ^= 1; /* in the records */
	b.nbytes--;
	struct pith_archive *a = open_memory(&b, true);
	pith_archive_info(a, &info);
	expect(a, "a", '1', 1000);
	assert_true(pith_archive_find(a, "link") == SIZE_MAX);
	assert_int_equal(info.lost_links, 1);
	pith_archive_close(a);
	free(b.data);
}

/* ---- names that were chosen ---- */

static void check_count(const struct pith_archive *a)
{
	struct pith_archive_info info;
	pith_archive_info(a, &info);
	assert_int_equal(info.member_count, 60000);
}

/* Names whose checksums agree in 6 bits of those that a table of their number would go by: no cost beyond others. */
static void names_that_collide(void **state)
{
	struct archive_memory b = {0};
	char name[32];
	(void)state;
	clock_t begin = clock();
	struct pith_archive_writer *w = start(&b, NULL);
	for (size_t i = 0, found = 0; found < 60000; i++) {
		int nbytes = snprintf(name, sizeof(name), "%zu", i);
		if ((pith_xxh3_64(name, (size_t)nbytes) & 0x3f000) != 0)
			continue;
		add(w, PITH_MEMBER_DIRECTORY, name, "");
		found++;
	}
	finish(w);
	in_both(&b, check_count);
	assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_link_keeps_the_content_of_a_replaced_file),
		cmocka_unit_test(a_link_keeps_the_end_of_a_replaced_file),
		cmocka_unit_test(a_link_to_a_link_shares_its_file),
		cmocka_unit_test(a_link_to_a_lost_file_does_not_get_another_one),
		cmocka_unit_test(names_that_collide),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
