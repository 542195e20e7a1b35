/*
 * Metadata edits: each one flips to the other slot, and a crash at any byte of it leaves
 * either the old generation or the new one, never neither.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "sample_file.h"
#include "writer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Thousands of small files: threads would only cost time. */
static const struct pith_verify_options one_thread = { .threads = 1 };

enum { SLOT_0 = 512, SLOT_NBYTES = 512, GENERATION = 8 };

struct fixture {
	char folder[64], path[100];
	uint8_t *before;
	size_t nbytes;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	sample_folder(f->folder);
	snprintf(f->path, sizeof(f->path), "%s/a.pith", f->folder);
	*state = f;
	if (sample_write(f->path, NULL, NULL) != PITH_OK)
		return -1;
	f->before = sample_read_file(f->path, &f->nbytes);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	sample_remove_folder(f->folder);
	free(f->before);
	free(f);
	return 0;
}

static void append(const struct fixture *f, const char *value)
{
	struct pith_error err = { 0 };
	if (pith_file_append_lineage(f->path, PITH_LINEAGE_NOTE, "note", value, &err) != PITH_OK)
		fail_msg("%s: %s", err.rule, err.msg);
}

/* Generation that readers of this memory see; verification's status in *verified. */
static uint64_t generation_of(const uint8_t *data, size_t nbytes, size_t *lineage,
                              pith_status *verified)
{
	struct pith_file *file;
	struct pith_file_info info;
	struct pith_error err = { 0 };
	if (pith_file_open_memory(data, nbytes, 0, &file, &err) != PITH_OK)
		fail_msg("cannot be opened: %s: %s", err.rule, err.msg);
	pith_file_info(file, &info);
	*lineage = pith_file_lineage_count(file);
	*verified = pith_file_verify(file, &one_thread, NULL, NULL);
	pith_file_close(file);
	return info.generation;
}

static void edits_flip_the_slots(void **state)
{
	struct fixture *f = *state;
	uint8_t identity[16] = { 0 };
	for (unsigned edit = 0; edit <= 5; edit++) {
		size_t nbytes, lineage;
		pith_status verified;
		uint8_t *data = sample_read_file(f->path, &nbytes);
		assert_int_equal(generation_of(data, nbytes, &lineage, &verified), 1 + edit);
		assert_int_equal(verified, PITH_OK);
		assert_int_equal(lineage, 2 + edit);
		assert_int_equal(load_le64(data + SLOT_0 + SLOT_NBYTES * (edit % 2) + GENERATION),
		                 1 + edit);
		/* planes are where they were, and the model is the same one */
		assert_memory_equal(data + 1536, f->before + 1536, f->nbytes - 1536);
		if (edit == 0)
			memcpy(identity, data + SLOT_0 + 96, 16);
		assert_memory_equal(data + SLOT_0 + SLOT_NBYTES * (edit % 2) + 96, identity, 16);
		free(data);
		append(f, "another");
	}
	struct pith_file *file;
	struct pith_lineage line;
	assert_int_equal(pith_file_open(f->path, 0, &file, NULL), PITH_OK);
	assert_int_equal(pith_file_lineage_at(file, 7, &line, NULL), PITH_OK);
	assert_int_equal(line.kind, PITH_LINEAGE_NOTE);
	assert_memory_equal(line.key, "note", 4);
	assert_memory_equal(line.value, "another", 7);
	assert_int_equal(pith_file_lineage_at(file, 0, &line, NULL), PITH_OK);
	assert_memory_equal(line.key, "model.safetensors", 17);
	pith_file_close(file);
}

/* Every length of what was appended, with the slots as before. */
static void a_crash_while_appending_keeps_the_old(void **state)
{
	struct fixture *f = *state;
	size_t nbytes, lineage;
	pith_status verified;
	append(f, "lost");
	uint8_t *data = sample_read_file(f->path, &nbytes);
	assert_true(nbytes > f->nbytes);
	memcpy(data, f->before, 1536);
	for (size_t end = f->nbytes; end <= nbytes; end++) {
		assert_int_equal(generation_of(data, end, &lineage, &verified), 1);
		assert_int_equal(lineage, 2);
		/* what lies behind the end is reported */
		assert_int_equal(verified, end == f->nbytes ? PITH_OK : PITH_E_CORRUPT);
	}
	free(data);
}

/* Every prefix of the slot over what was there: empty first, an older generation later. */
static void a_crash_in_the_slot_keeps_one(void **state)
{
	struct fixture *f = *state;
	for (unsigned edit = 0; edit < 3; edit++) {
		size_t old_nbytes, nbytes, lineage;
		pith_status verified;
		unsigned slot = SLOT_0 + SLOT_NBYTES * ((edit + 1) % 2);
		uint8_t *old = sample_read_file(f->path, &old_nbytes);
		append(f, "torn");
		uint8_t *data = sample_read_file(f->path, &nbytes);
		uint8_t written[SLOT_NBYTES];
		memcpy(written, data + slot, SLOT_NBYTES);
		memcpy(data + slot, old + slot, SLOT_NBYTES);
		for (size_t n = 0; n <= SLOT_NBYTES; n++) {
			memcpy(data + slot, written, n);
			uint64_t generation = generation_of(data, nbytes, &lineage, &verified);
			/* the bytes beyond the last field are equal in both: not torn from there on */
			bool whole = memcmp(data + slot, written, SLOT_NBYTES) == 0;
			assert_int_equal(generation, whole ? edit + 2 : edit + 1);
			assert_int_equal(lineage, 1 + generation);
			assert_int_equal(verified, whole ? PITH_OK : PITH_E_CORRUPT);
		}
		free(data);
		free(old);
	}
}

/* The next edit starts over what an interrupted one left. */
static void leftovers_are_overwritten(void **state)
{
	struct fixture *f = *state;
	size_t nbytes, lineage;
	pith_status verified;
	FILE *file = fopen(f->path, "ab");
	for (int i = 0; i < 5000; i++)
		fputc(0x55, file);
	fclose(file);
	append(f, "kept");
	uint8_t *data = sample_read_file(f->path, &nbytes);
	assert_int_equal(generation_of(data, nbytes, &lineage, &verified), 2);
	assert_int_equal(verified, PITH_OK);
	assert_int_equal(lineage, 3);
	free(data);
}

/* After two edits every byte that a valid generation names is still checked. */
static void flips_are_found_in_both_generations(void **state)
{
	struct fixture *f = *state;
	size_t nbytes, lineage, unnoticed = 0;
	append(f, "second");
	uint8_t *data = sample_read_file(f->path, &nbytes);
	for (size_t i = 1536; i < nbytes; i++) {
		struct pith_file *file;
		data[i] ^= 0x20;
		if (pith_file_open_memory(data, nbytes, 0, &file, NULL) == PITH_OK) {
			unnoticed += pith_file_verify(file, &one_thread, NULL, NULL) == PITH_OK;
			pith_file_close(file);
		}
		data[i] ^= 0x20;
	}
	assert_int_equal(unnoticed, 0);
	pith_status verified;
	assert_int_equal(generation_of(data, nbytes, &lineage, &verified), 2);
	free(data);
}

static void a_damaged_table_gets_no_fresh_checksum(void **state)
{
	struct fixture *f = *state;
	size_t nbytes;
	struct pith_file *file;
	struct pith_lineage line;
	struct pith_error err;
	assert_int_equal(pith_file_open(f->path, 0, &file, NULL), PITH_OK);
	assert_int_equal(pith_file_lineage_at(file, 0, &line, NULL), PITH_OK);
	uint8_t *data = sample_read_file(f->path, &nbytes);
	char *at = NULL;
	for (size_t i = 0; i + 17 < nbytes && at == NULL; i++)
		if (memcmp(data + i, "model.safetensors", 17) == 0)
			at = (char *)data + i;
	assert_non_null(at);
	pith_file_close(file);
	*at = 'X';
	FILE *out = fopen(f->path, "r+b");
	assert_int_equal(fwrite(data, 1, nbytes, out), nbytes);
	fclose(out);
	assert_int_equal(pith_file_append_lineage(f->path, PITH_LINEAGE_NOTE, "a", "b", &err),
	                 PITH_E_CORRUPT);
	assert_string_equal(err.rule, "container.11");
	size_t after_nbytes;
	uint8_t *after = sample_read_file(f->path, &after_nbytes);
	assert_int_equal(after_nbytes, nbytes);
	assert_memory_equal(after, data, nbytes);
	free(after);
	free(data);
}

static void a_full_disk_keeps_the_old(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, limit;
	struct pith_error err = { 0 };
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = old;
	limit.rlim_cur = f->nbytes + 100;
	setrlimit(RLIMIT_FSIZE, &limit);
	pith_status status = pith_file_append_lineage(f->path, PITH_LINEAGE_NOTE, "a", "b", &err);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(status, PITH_E_IO);
	size_t nbytes;
	uint8_t *data = sample_read_file(f->path, &nbytes);
	assert_int_equal(nbytes, f->nbytes);
	assert_memory_equal(data, f->before, nbytes);
	free(data);
}

static void files_that_are_not_ours_stay_as_they_are(void **state)
{
	struct fixture *f = *state;
	char path[120];
	struct pith_error err;
	snprintf(path, sizeof(path), "%s/text", f->folder);
	FILE *file = fopen(path, "wb");
	fputs("hello", file);
	fclose(file);
	assert_int_equal(pith_file_append_lineage(path, PITH_LINEAGE_NOTE, "a", "b", &err),
	                 PITH_E_NOT_OURS);
	assert_int_equal(pith_file_append_lineage(f->path, 99, "a", "b", &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_file_append_lineage("/nonexistent/a", 8, "a", "b", &err), PITH_E_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(edits_flip_the_slots, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_crash_while_appending_keeps_the_old, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_crash_in_the_slot_keeps_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(leftovers_are_overwritten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(flips_are_found_in_both_generations, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_damaged_table_gets_no_fresh_checksum, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(a_full_disk_keeps_the_old, set_up, tear_down),
		cmocka_unit_test_setup_teardown(files_that_are_not_ours_stay_as_they_are, set_up,
		                                tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
