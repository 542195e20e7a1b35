/*
 * The writer: same calls give same bytes, what the reader would refuse is refused at the
 * call, and a write that fails leaves nothing under the final name.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "sample_file.h"
#include "writer.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char folder[64], path[100], other[100];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	sample_folder(f->folder);
	snprintf(f->path, sizeof(f->path), "%s/a.pith", f->folder);
	snprintf(f->other, sizeof(f->other), "%s/b.pith", f->folder);
	*state = f;
	return f->folder[0] == '\0';
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	sample_remove_folder(f->folder);
	free(f);
	return 0;
}

static size_t files_in(const char *path)
{
	size_t count = 0;
	DIR *folder = opendir(path);
	assert_non_null(folder);
	for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder))
		count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(folder);
	return count;
}

/* One bf16 matrix of ones; freed with pith_packed_free(). */
static struct pith_packed_term ones(size_t m, size_t n)
{
	struct pith_packed_term term;
	float *values = malloc(m * n * sizeof(float));
	for (size_t i = 0; i < m * n; i++)
		values[i] = 1;
	assert_int_equal(pith_dense_pack(values, m, n, PITH_DTYPE_BF16, &term, NULL), PITH_OK);
	free(values);
	return term;
}

static struct pith_writer *new_writer(const char *path)
{
	struct pith_writer *w;
	assert_int_equal(pith_writer_new(path, NULL, &w, NULL), PITH_OK);
	return w;
}

static void same_calls_give_same_bytes(void **state)
{
	struct fixture *f = *state;
	size_t a_nbytes, b_nbytes;
	assert_int_equal(sample_write(f->path, NULL, NULL), PITH_OK);
	assert_int_equal(sample_write(f->other, NULL, NULL), PITH_OK);
	uint8_t *a = sample_read_file(f->path, &a_nbytes);
	uint8_t *b = sample_read_file(f->other, &b_nbytes);
	assert_int_equal(a_nbytes, b_nbytes);
	assert_memory_equal(a, b, a_nbytes);
	assert_int_equal(files_in(f->folder), 2);
	free(a);
	free(b);
}

/* Section 9: the identity depends on what is computed, not on names, order or lineage. */
static void write_variant(const char *path, float value, bool reverse, bool extra, uint32_t align)
{
	static const char *const names[2] = { "first", "second" };
	struct pith_writer_options options = { .tensor_align = align };
	struct pith_writer *w;
	assert_int_equal(pith_writer_new(path, &options, &w, NULL), PITH_OK);
	for (size_t k = 0; k < 2; k++) {
		size_t i = reverse ? 1 - k : k;
		struct pith_packed_term term;
		float values[4] = { 1, 2, 3, i == 0 ? value : 4 };
		assert_int_equal(pith_dense_pack(values, 2, 2, PITH_DTYPE_F32, &term, NULL),
		                 PITH_OK);
		struct pith_writer_weight weight = { .name = names[i], .flags = 1, .rank = 2,
			                             .dim = { 2, 2 }, .terms = &term,
			                             .term_count = 1 };
		assert_int_equal(pith_writer_weight(w, &weight, NULL), PITH_OK);
		pith_packed_free(&term);
	}
	assert_int_equal(pith_writer_arch_u64(w, "key", 1, PITH_ARCH_MUST, NULL), PITH_OK);
	if (extra) {
		struct pith_packed_term term = ones(1, 8);
		struct pith_writer_weight weight = { .name = "unused", .rank = 1, .dim = { 8 },
			                             .terms = &term, .term_count = 1 };
		assert_int_equal(pith_writer_weight(w, &weight, NULL), PITH_OK);
		pith_packed_free(&term);
		assert_int_equal(pith_writer_arch_string(w, "name", "x", PITH_ARCH_NO_IDENTITY,
		                                         NULL), PITH_OK);
		assert_int_equal(pith_writer_lineage(w, PITH_LINEAGE_NOTE, NULL, "a", "b", NULL,
		                                     NULL, NULL), PITH_OK);
		assert_int_equal(pith_writer_section(w, PITH_SECTION_LICENCE, PITH_ENCODING_ZSTD,
		                                     "free", 4, NULL), PITH_OK);
	}
	assert_int_equal(pith_writer_finish(w, NULL), PITH_OK);
}

static void identity_of(const char *path, uint8_t identity[16])
{
	struct pith_file *file;
	struct pith_file_info info;
	assert_int_equal(pith_file_open(path, 0, &file, NULL), PITH_OK);
	assert_int_equal(pith_file_verify(file, NULL, NULL, NULL), PITH_OK);
	pith_file_info(file, &info);
	memcpy(identity, info.model_identity, 16);
	pith_file_close(file);
}

static void identity_is_that_of_the_model(void **state)
{
	struct fixture *f = *state;
	uint8_t a[16], b[16];
	write_variant(f->path, 4, false, false, 4096);
	identity_of(f->path, a);
	write_variant(f->path, 4, true, true, 64);
	identity_of(f->path, b);
	assert_memory_equal(a, b, 16);
	write_variant(f->path, 5, false, false, 4096);
	identity_of(f->path, b);
	assert_memory_not_equal(a, b, 16);
}

static void large_planes_are_aligned(void **state)
{
	struct fixture *f = *state;
	for (uint32_t align = 64; align <= 65536; align *= 32) {
		struct pith_writer_options options = { .tensor_align = align };
		struct pith_writer *w;
		struct pith_file *file;
		struct pith_packed_term term = ones(2, 1 << 14); /* 65536 bytes */
		assert_int_equal(pith_writer_new(f->path, &options, &w, NULL), PITH_OK);
		struct pith_writer_weight weight = { .name = "w", .rank = 2,
			                             .dim = { 2, 1 << 14 }, .terms = &term,
			                             .term_count = 1 };
		assert_int_equal(pith_writer_weight(w, &weight, NULL), PITH_OK);
		assert_int_equal(pith_writer_finish(w, NULL), PITH_OK);
		assert_int_equal(pith_file_open(f->path, 0, &file, NULL), PITH_OK);
		struct pith_weight found;
		struct pith_plane_info plane;
		assert_int_equal(pith_file_find(file, "w", &found, NULL), PITH_OK);
		assert_int_equal(pith_weight_plane(&found, 0, 0, &plane, NULL), PITH_OK);
		assert_int_equal(plane.off % align, 0);
		assert_int_equal(pith_file_verify(file, NULL, NULL, NULL), PITH_OK);
		pith_file_close(file);
		pith_packed_free(&term);
	}
}

static void callers_mistakes_are_refused(void **state)
{
	struct fixture *f = *state;
	struct pith_writer *w = new_writer(f->path);
	struct pith_packed_term term = ones(2, 8);
	struct pith_error err;
	const struct pith_writer_weight good = { .name = "w", .flags = 1, .rank = 2,
		                                 .dim = { 2, 8 }, .terms = &term, .term_count = 1 };
	const uint32_t twice[8] = { 0, 1, 2, 3, 4, 5, 6, 6 };
	struct pith_writer_weight bad[8];
	for (size_t i = 0; i < 8; i++)
		bad[i] = good;
	bad[0].name = "";
	bad[1].name = "new\nline";
	bad[2].name = "\xc0\x80";
	bad[3].dim[1] = 64; /* another size than the plane's */
	bad[4].rank = 5;
	bad[5].activation = PITH_ACTIVATION_INT8_GROUP32;
	bad[6].permute = twice;
	bad[7].term_count = 0;
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(pith_writer_weight(w, &bad[i], &err), PITH_E_ARGUMENT);
		assert_int_equal(err.status, PITH_E_ARGUMENT);
	}
	assert_int_equal(pith_writer_weight(w, &good, &err), PITH_OK);
	assert_int_equal(pith_writer_weight(w, &good, &err), PITH_E_ARGUMENT); /* twice */
	assert_string_equal(err.rule, "container.13");
	assert_int_equal(pith_writer_arch_u64(w, "", 1, 0, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_arch_u64(w, "a b", 1, 0, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_arch_u64(w, "k", 1, 4, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_arch_u64(w, "k", 1, 0, NULL), PITH_OK);
	assert_int_equal(pith_writer_arch_f64(w, "k", 1, 0, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_section(w, PITH_SECTION_WGHT, PITH_ENCODING_RAW, "", 0, NULL),
	                 PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_section(w, PITH_SECTION_TOKN, PITH_ENCODING_ZSTD, "a", 1,
	                                     NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_section(w, PITH_SECTION_CARD, PITH_ENCODING_RAW, "a", 1, NULL),
	                 PITH_OK);
	assert_int_equal(pith_writer_section(w, PITH_SECTION_CARD, PITH_ENCODING_RAW, "a", 1, NULL),
	                 PITH_E_ARGUMENT);
	assert_int_equal(pith_writer_lineage(w, 0, NULL, "a", "b", NULL, NULL, NULL),
	                 PITH_E_ARGUMENT);
	pith_writer_abort(w);
	pith_writer_abort(NULL);
	pith_packed_free(&term);
	assert_int_equal(files_in(f->folder), 0);
}

/* References by name are resolved at the end; one that names nothing stops the file. */
static void references_must_resolve(void **state)
{
	struct fixture *f = *state;
	static const float lanes[16];
	for (unsigned i = 0; i < 5; i++) {
		struct pith_writer *w = new_writer(f->path);
		struct pith_error err;
		struct pith_block_entry none = { 0 };
		struct pith_block_entry later = { .flags = PITH_BLOCK_FFN, .ffn_count = 3,
			                          .ffn_of = 1 };
		if (i == 0)
			pith_writer_canary(w, "missing", 1, lanes, lanes, NULL);
		else if (i == 1)
			pith_writer_lineage(w, PITH_LINEAGE_NOTE, "missing", "", "", NULL, NULL,
			                    NULL);
		else if (i == 2)
			pith_writer_block(w, &none, "missing", NULL, NULL);
		else if (i == 3)
			pith_writer_block(w, &later, NULL, NULL, NULL);
		pith_status wanted = i == 4 ? PITH_OK : PITH_E_ARGUMENT;
		assert_int_equal(pith_writer_finish(w, &err), wanted);
		assert_int_equal(files_in(f->folder), i == 4);
	}
}

/* Weights in any number, found by name; the table is sorted whatever the order of calls. */
static void many_weights_are_found(void **state)
{
	struct fixture *f = *state;
	enum { COUNT = 1000 };
	struct pith_writer *w = new_writer(f->path);
	struct pith_packed_term term = ones(1, 8);
	struct pith_file *file;
	char name[32];
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "weight.%d", i);
		struct pith_writer_weight weight = { .name = name, .rank = 1, .dim = { 8 },
			                             .terms = &term, .term_count = 1,
			                             .source_dtype = (uint32_t)i };
		assert_int_equal(pith_writer_weight(w, &weight, NULL), PITH_OK);
	}
	assert_int_equal(pith_writer_finish(w, NULL), PITH_OK);
	assert_int_equal(pith_file_open(f->path, 0, &file, NULL), PITH_OK);
	for (int i = 0; i < COUNT; i++) {
		struct pith_weight found;
		snprintf(name, sizeof(name), "weight.%d", i);
		assert_int_equal(pith_file_find(file, name, &found, NULL), PITH_OK);
		assert_int_equal(found.source_dtype, i);
	}
	assert_int_equal(pith_file_verify(file, NULL, NULL, NULL), PITH_OK);
	pith_file_close(file);
	pith_packed_free(&term);
}

/* ---- failures of the system ---- */

static void a_full_disk_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, limit;
	struct pith_error err = { 0 };
	size_t nbytes;
	assert_int_equal(sample_write(f->path, NULL, &err), PITH_OK);
	uint8_t *before = sample_read_file(f->path, &nbytes);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	/* a limit in planes, tables, directory, and one byte before the end */
	const size_t limits[] = { 0, 100, 1600, nbytes / 2, nbytes - 900, nbytes - 1 };
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		limit = old;
		limit.rlim_cur = limits[i];
		setrlimit(RLIMIT_FSIZE, &limit);
		pith_status status = sample_write(f->other, NULL, &err);
		pith_status over = sample_write(f->path, NULL, NULL);
		setrlimit(RLIMIT_FSIZE, &old);
		assert_int_equal(status, PITH_E_IO);
		assert_int_equal(over, PITH_E_IO);
		assert_non_null(strstr(err.msg, "File too large"));
		assert_int_equal(files_in(f->folder), 1);
	}
	/* what was there is still there */
	size_t after_nbytes;
	uint8_t *after = sample_read_file(f->path, &after_nbytes);
	assert_int_equal(after_nbytes, nbytes);
	assert_memory_equal(after, before, nbytes);
	free(before);
	free(after);
	signal(SIGXFSZ, SIG_DFL);
}

/* A large write fails at once, and so does everything after it. */
static void a_failed_writer_stays_failed(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, limit;
	struct pith_packed_term term = ones(1, 1 << 21);
	struct pith_writer *w = new_writer(f->path);
	struct pith_error err;
	struct pith_writer_weight weight = { .name = "a", .rank = 1, .dim = { 1 << 21 },
		                             .terms = &term, .term_count = 1 };
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = old;
	limit.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &limit);
	pith_status first = pith_writer_weight(w, &weight, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(first, PITH_E_IO);
	weight.name = "b";
	assert_int_equal(pith_writer_weight(w, &weight, &err), PITH_E_IO);
	assert_int_equal(pith_writer_finish(w, &err), PITH_E_IO);
	assert_int_equal(files_in(f->folder), 0);
	pith_packed_free(&term);
	signal(SIGXFSZ, SIG_DFL);
}

static void bad_targets_fail_early(void **state)
{
	struct fixture *f = *state;
	struct pith_writer *w;
	struct pith_error err;
	assert_int_equal(pith_writer_new(f->folder, NULL, &w, &err), PITH_E_IO);
	assert_null(w);
	assert_int_equal(pith_writer_new("/nonexistent/a.pith", NULL, &w, &err), PITH_E_IO);
	struct pith_writer_options options = { .tensor_align = 96 };
	assert_int_equal(pith_writer_new(f->path, &options, &w, &err), PITH_E_ARGUMENT);
	assert_int_equal(files_in(f->folder), 0);
	/* two writers of one target do not share a temporary file; the last to finish wins */
	struct pith_writer *a = new_writer(f->path), *b = new_writer(f->path);
	assert_int_equal(files_in(f->folder), 2);
	assert_int_equal(pith_writer_arch_u64(a, "a", 1, 0, NULL), PITH_OK);
	assert_int_equal(pith_writer_finish(b, NULL), PITH_OK);
	assert_int_equal(pith_writer_finish(a, NULL), PITH_OK);
	assert_int_equal(files_in(f->folder), 1);
	struct pith_file *file;
	assert_int_equal(pith_file_open(f->path, 0, &file, NULL), PITH_OK);
	assert_int_equal(pith_file_arch_count(file), 1);
	pith_file_close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(same_calls_give_same_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(identity_is_that_of_the_model, set_up, tear_down),
		cmocka_unit_test_setup_teardown(large_planes_are_aligned, set_up, tear_down),
		cmocka_unit_test_setup_teardown(callers_mistakes_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(references_must_resolve, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_weights_are_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_full_disk_leaves_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failed_writer_stays_failed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_targets_fail_early, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
