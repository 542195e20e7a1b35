/*
 * libpith over a small file with every kind: what is written comes back, every flipped
 * byte and every cut is found and called corrupt, and no error is mistaken for another.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "sample_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
	char folder[64], path[100];
	struct sample sample;
	uint8_t *data;
	size_t nbytes;
	struct pith_file *file;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct pith_error err = { 0 };
	sample_folder(f->folder);
	snprintf(f->path, sizeof(f->path), "%s/sample.pith", f->folder);
	if (sample_write(f->path, &f->sample, &err) != PITH_OK) {
		print_error("%s %s\n", err.rule, err.msg);
		return -1;
	}
	f->data = sample_read_file(f->path, &f->nbytes);
	*state = f;
	return pith_file_open(f->path, 0, &f->file, &err);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	pith_file_close(f->file);
	sample_remove_folder(f->folder);
	sample_free(&f->sample);
	free(f->data);
	free(f);
	return 0;
}

/* ---- contents ---- */

static void info_is_that_of_the_file(void **state)
{
	struct fixture *f = *state;
	struct pith_file_info info;
	pith_file_info(f->file, &info);
	assert_int_equal(info.generation, 1);
	assert_int_equal(info.file_nbytes, f->nbytes);
	assert_int_equal(info.mapped_nbytes, f->nbytes);
	assert_int_equal(info.weight_count, SAMPLE_WEIGHTS);
	assert_int_equal(info.term_count, 7);
	assert_int_equal(info.block_count, 3);
	assert_int_equal(info.tensor_align, 4096);
	assert_memory_equal(f->data, "\x89PTH\r\n\x1a\n", 8);
}

static void weights_unpack_to_their_meaning(void **state)
{
	struct fixture *f = *state;
	for (size_t k = 0; k < SAMPLE_WEIGHTS; k++) {
		const struct sample_weight *expected = &f->sample.weight[k];
		size_t count = expected->m * expected->n;
		struct pith_weight w;
		struct pith_error err = { 0 };
		float *out = malloc(count * sizeof(float));
		float *scratch = malloc(expected->n * sizeof(float));
		assert_int_equal(pith_file_find(f->file, expected->name, &w, &err), PITH_OK);
		assert_int_equal(w.m, expected->m);
		assert_int_equal(w.n, expected->n);
		assert_int_equal(w.name_nbytes, strlen(expected->name));
		assert_memory_equal(w.name, expected->name, w.name_nbytes);
		assert_int_equal(pith_weight_verify(&w, &err), PITH_OK);
		assert_int_equal(pith_weight_unpack_rows(&w, 0, w.m, out, scratch, &err), PITH_OK);
		assert_memory_equal(out, expected->values, count * sizeof(float));
		/* the last row alone */
		assert_int_equal(pith_weight_unpack_rows(&w, w.m - 1, 1, out, scratch, &err),
		                 PITH_OK);
		assert_memory_equal(out, expected->values + (w.m - 1) * w.n, w.n * sizeof(float));
		assert_int_equal(pith_weight_unpack_rows(&w, w.m, 1, out, scratch, &err),
		                 PITH_E_ARGUMENT);
		free(out);
		free(scratch);
	}
}

static void dense_weights_are_borrowed(void **state)
{
	struct fixture *f = *state;
	struct pith_weight w;
	const void *data;
	uint32_t dtype;
	assert_int_equal(pith_file_find(f->file, "norm", &w, NULL), PITH_OK);
	assert_int_equal(w.rank, 1);
	assert_int_equal(pith_weight_dense(&w, &data, &dtype, NULL), PITH_OK);
	assert_int_equal(dtype, 1);
	assert_int_equal((uintptr_t)data % 64, 0);
	assert_memory_equal(data, f->sample.weight[0].values, 33 * sizeof(float));
	assert_int_equal(pith_file_find(f->file, "mixed", &w, NULL), PITH_OK);
	assert_int_equal(pith_weight_dense(&w, &data, &dtype, NULL), PITH_E_UNSUPPORTED);
	assert_null(data);
}

static void terms_and_planes_are_described(void **state)
{
	struct fixture *f = *state;
	struct pith_weight w;
	struct pith_term_info info;
	struct pith_plane_info plane;
	assert_int_equal(pith_file_find(f->file, "mixed", &w, NULL), PITH_OK);
	assert_int_equal(w.term_count, 3);
	assert_int_equal(w.transform_count, 1);
	assert_int_equal(w.activation, 1);
	assert_int_equal(pith_weight_term_info(&w, 0, &info, NULL), PITH_OK);
	assert_string_equal(info.kind, "affine");
	assert_int_equal(info.param[0], 3);
	/* 2 tiles x 2 blocks x 192; 2 tiles x 3 groups x 16 halves, twice, each a multiple of 64 */
	assert_int_equal(info.nbytes, 768 + 192 + 192);
	assert_int_equal(pith_weight_plane(&w, 0, 1, &plane, NULL), PITH_OK);
	assert_int_equal(plane.role, 3);
	assert_int_equal(plane.layout, 2);
	assert_int_equal(plane.dtype, 2);
	assert_memory_equal(plane.data, f->data + plane.off, (size_t)plane.nbytes);
	assert_int_equal(pith_weight_plane(&w, 0, 3, &plane, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_weight_term_info(&w, 3, &info, NULL), PITH_E_ARGUMENT);
}

static void unknown_names_are_not_found(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "", "nor", "norm ", "NORM", "mixed.weight" };
	struct pith_error err;
	struct pith_weight w;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(pith_file_find(f->file, names[i], &w, &err), PITH_E_NOT_FOUND);
		assert_null(w.file);
	}
	/* a name cannot write on the terminal */
	pith_file_find(f->file, "a\x1b[2J\n\xff", &w, &err);
	assert_string_equal(err.msg, "no weight named a?[2J??");
}

static void architecture_is_read_by_key(void **state)
{
	struct fixture *f = *state;
	struct pith_error err;
	uint64_t u = 0;
	double d = 0;
	const char *s;
	size_t n;
	assert_int_equal(pith_file_arch_u64(f->file, "hidden_size", &u, NULL), PITH_OK);
	assert_int_equal(u, 33);
	assert_int_equal(pith_file_arch_f64(f->file, "rms_norm_eps", &d, NULL), PITH_OK);
	assert_true(d == 1e-5);
	assert_int_equal(pith_file_arch_string(f->file, "name", &s, &n, NULL), PITH_OK);
	assert_int_equal(n, 6);
	assert_memory_equal(s, "Sample", 6);
	assert_int_equal(pith_file_arch_u64(f->file, "nothing", &u, NULL), PITH_E_NOT_FOUND);
	assert_int_equal(pith_file_arch_u64(f->file, "name", &u, &err), PITH_E_CORRUPT);
	struct pith_arch_value value;
	assert_int_equal(pith_file_arch_count(f->file), 4);
	assert_int_equal(pith_file_arch_at(f->file, 0, &value, NULL), PITH_OK);
	assert_string_equal(value.key, "arch");
	assert_int_equal(value.flags, 1);
	assert_int_equal(pith_file_arch_at(f->file, 4, &value, NULL), PITH_E_ARGUMENT);
}

static void blocks_have_their_own_shapes(void **state)
{
	struct fixture *f = *state;
	struct pith_block b;
	struct pith_weight constant;
	assert_int_equal(pith_file_block(f->file, 1, &b, NULL), PITH_OK);
	assert_true(b.has_attention && b.has_ffn);
	assert_int_equal(b.kv_head_count, 2);
	assert_int_equal(b.attention_of, 1);
	assert_int_equal(b.ffn_of, 0);
	assert_int_equal(pith_file_block(f->file, 2, &b, NULL), PITH_OK);
	assert_false(b.has_attention);
	assert_int_equal(b.ffn_count, 7);
	assert_int_equal(pith_file_find(f->file, "constant", &constant, NULL), PITH_OK);
	assert_int_equal(b.attention_const, constant.index + 1);
	assert_int_equal(pith_file_block(f->file, 3, &b, NULL), PITH_E_ARGUMENT);
}

static void sections_are_read(void **state)
{
	struct fixture *f = *state;
	const void *data;
	char *text;
	size_t n;
	uint32_t cfg = 'c' | 'f' << 8 | 'g' << 16 | ' ' << 24, tokn = 'T' | 'O' << 8 | 'K' << 16 | 'N' << 24;
	assert_int_equal(pith_file_section(f->file, tokn, &data, &n, NULL), PITH_OK);
	assert_int_equal(n, 6);
	assert_memory_equal(data, "tokens", 6);
	assert_int_equal(pith_file_section_read(f->file, cfg, 25, &text, &n, NULL), PITH_OK);
	assert_int_equal(n, 25);
	assert_string_equal(text, "{\"a\": 1, \"b\": 1, \"c\": 1}\n");
	free(text);
	assert_int_equal(pith_file_section_read(f->file, cfg, 24, &text, &n, NULL), PITH_E_LIMIT);
	assert_null(text);
	assert_int_equal(pith_file_section(f->file, cfg + 1, &data, &n, NULL), PITH_E_NOT_FOUND);
}

static void canaries_and_lineage_are_read(void **state)
{
	struct fixture *f = *state;
	struct pith_weight w;
	struct pith_canary canary;
	struct pith_lineage line;
	assert_int_equal(pith_file_find(f->file, "mixed", &w, NULL), PITH_OK);
	assert_int_equal(pith_file_canary(f->file, w.index, &canary, NULL), PITH_OK);
	assert_int_equal(canary.seed, 11);
	assert_true(canary.first[2] == 3 && canary.last[0] == 4);
	assert_int_equal(pith_file_lineage_count(f->file), 2);
	assert_int_equal(pith_file_lineage_at(f->file, 1, &line, NULL), PITH_OK);
	assert_int_equal(line.kind, 7);
	assert_int_equal(line.weight, w.index + 1);
	assert_memory_equal(line.value, "bits=3", 6);
	assert_true(line.number[1] == 3.5);
	assert_int_equal(pith_file_lineage_at(f->file, 0, &line, NULL), PITH_OK);
	assert_int_equal(line.digest[1], 0xcd);
	assert_int_equal(pith_file_find(f->file, "norm", &w, NULL), PITH_OK);
	assert_int_equal(pith_file_canary(f->file, w.index, &canary, NULL), PITH_E_NOT_FOUND);
}

/* ---- damage ---- */

/* Open and verify: the first failure. */
static pith_status examine(const uint8_t *data, size_t nbytes, struct pith_error *err)
{
	struct pith_verify_options options = { .threads = 1 };
	struct pith_file *file;
	pith_status status = pith_file_open_memory(data, nbytes, 0, &file, err);
	if (status == PITH_OK)
		status = pith_file_verify(file, &options, NULL, err);
	pith_file_close(file);
	return status;
}

static void every_flipped_byte_is_found(void **state)
{
	struct fixture *f = *state;
	struct pith_error err = { 0 };
	assert_int_equal(examine(f->data, f->nbytes, &err), PITH_OK);
	for (size_t i = 0; i < f->nbytes; i++) {
		uint8_t flip = (uint8_t)(1u << i % 8);
		f->data[i] ^= flip;
		pith_status status = examine(f->data, f->nbytes, &err);
		/* corrupt is never called unsupported, and the place is not behind the damage */
		if (status != (i < 8 ? PITH_E_NOT_OURS : PITH_E_CORRUPT) || err.off > i ||
		    err.rule[0] == '\0')
			fail_msg("byte %zu flipped: %s at %llu, %s: %s", i,
			         pith_status_name(status), (unsigned long long)err.off, err.rule,
			         err.msg);
		f->data[i] ^= flip;
	}
	assert_int_equal(examine(f->data, f->nbytes, &err), PITH_OK);
}

static void every_cut_is_found(void **state)
{
	struct fixture *f = *state;
	for (size_t n = 0; n < f->nbytes; n++) {
		struct pith_error err = { 0 };
		struct pith_file *file;
		/* a buffer of this size, rounded up to the alignment: sanitizers see reads behind it */
		uint8_t *cut = aligned_alloc(64, (n + 64) / 64 * 64);
		size_t room = (n + 64) / 64 * 64;
		memset(cut, 0, room);
		memcpy(cut, f->data, n);
		pith_status status = pith_file_open_memory(cut, n, PITH_OPEN_NO_VERIFY, &file, &err);
		assert_int_equal(status, n < 8 ? PITH_E_NOT_OURS : PITH_E_CORRUPT);
		assert_null(file);
		free(cut);
	}
}

static void damage_of_a_plane_is_named(void **state)
{
	struct fixture *f = *state;
	struct pith_weight w;
	struct pith_plane_info plane;
	struct pith_error err;
	struct pith_file *file;
	char expected[200];
	assert_int_equal(pith_file_find(f->file, "mixed", &w, NULL), PITH_OK);
	assert_int_equal(pith_weight_plane(&w, 0, 0, &plane, NULL), PITH_OK);
	f->data[plane.off + 5] ^= 1;
	assert_int_equal(examine(f->data, f->nbytes, &err), PITH_E_CORRUPT);
	snprintf(expected, sizeof(expected),
	         "weight mixed: plane codes, bytes %llu..%llu: checksum does not match",
	         (unsigned long long)plane.off, (unsigned long long)(plane.off + plane.nbytes - 1));
	assert_string_equal(err.msg, expected);
	assert_string_equal(err.rule, "container.16");
	/* the same, lazily, for that weight only */
	assert_int_equal(pith_file_open_memory(f->data, f->nbytes, 0, &file, NULL), PITH_OK);
	assert_int_equal(pith_file_find(file, "norm", &w, NULL), PITH_OK);
	assert_int_equal(pith_weight_verify(&w, NULL), PITH_OK);
	assert_int_equal(pith_file_find(file, "mixed", &w, NULL), PITH_OK);
	assert_int_equal(pith_weight_verify(&w, &err), PITH_E_CORRUPT);
	assert_string_equal(err.msg, expected);
	pith_file_close(file);
	f->data[plane.off + 5] ^= 1;
}

struct seen {
	size_t faults;
	uint64_t last_off, done, total;
	bool ordered;
};

static void see_fault(void *ctx, const struct pith_error *fault)
{
	struct seen *seen = ctx;
	seen->ordered = seen->ordered && (seen->faults == 0 || fault->off >= seen->last_off);
	seen->last_off = fault->off;
	seen->faults++;
}

static void see_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct seen *seen = ctx;
	seen->done = done;
	seen->total = total;
}

static void many_faults_come_in_order(void **state)
{
	struct fixture *f = *state;
	struct pith_error first[2];
	size_t total[2];
	for (unsigned threads = 1; threads <= 2; threads++) {
		uint8_t *data = aligned_alloc(64, (f->nbytes + 63) / 64 * 64);
		struct seen seen = { .ordered = true };
		struct pith_verify_options options = { threads == 1 ? 1 : 7, see_fault, see_progress,
			                               &seen };
		struct pith_file *file;
		memcpy(data, f->data, f->nbytes);
		assert_int_equal(pith_file_open_memory(data, f->nbytes, 0, &file, NULL), PITH_OK);
		struct pith_file_info info;
		pith_file_info(file, &info);
		/* everything but the header and the directory */
		for (size_t i = 1536; i < load_le64(data + 512 + 56); i += 16)
			data[i] ^= 0x10;
		assert_int_equal(pith_file_verify(file, &options, &total[threads - 1],
		                                  &first[threads - 1]), PITH_E_CORRUPT);
		assert_true(seen.ordered);
		assert_true(seen.faults <= 64 && seen.faults > 20);
		assert_true(total[threads - 1] >= seen.faults);
		assert_int_equal(seen.done, seen.total);
		pith_file_close(file);
		free(data);
	}
	assert_int_equal(total[0], total[1]);
	assert_string_equal(first[0].msg, first[1].msg);
}

/* ---- callers' mistakes and other files ---- */

static void other_files_are_refused(void **state)
{
	struct fixture *f = *state;
	struct pith_file *file;
	struct pith_error err;
	char path[120];
	assert_int_equal(pith_file_open("/nonexistent/x.pith", 0, &file, &err), PITH_E_IO);
	assert_non_null(strstr(err.msg, "No such file"));
	assert_int_equal(pith_file_open(f->folder, 0, &file, &err), PITH_E_IO);
	assert_int_equal(pith_file_open("/dev/null", 0, &file, &err), PITH_E_IO);
	snprintf(path, sizeof(path), "%s/empty", f->folder);
	fclose(fopen(path, "wb"));
	assert_int_equal(pith_file_open(path, 0, &file, &err), PITH_E_NOT_OURS);
	assert_null(file);
	assert_int_equal(pith_file_open(f->path, 2, &file, &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_file_open_memory(f->data + 8, 100, 0, &file, &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_file_open(f->path, 2, &file, NULL), PITH_E_ARGUMENT);
	pith_file_close(NULL);
}

/* A gap exists only where a large plane is aligned: its zeros are checked too. */
static void gaps_are_zero(void **state)
{
	struct fixture *f = *state;
	char path[120];
	struct pith_writer *w;
	struct pith_packed_term term;
	struct pith_error err = { 0 };
	size_t nbytes;
	float *values = calloc(1 << 15, sizeof(float));
	snprintf(path, sizeof(path), "%s/gap.pith", f->folder);
	assert_int_equal(pith_dense_pack(values, 1, 1 << 15, PITH_DTYPE_BF16, &term, &err), PITH_OK);
	assert_int_equal(pith_writer_new(path, NULL, &w, &err), PITH_OK);
	struct pith_writer_weight entry = { .name = "large", .rank = 1, .dim = { 1 << 15 },
		                            .terms = &term, .term_count = 1 };
	assert_int_equal(pith_writer_weight(w, &entry, &err), PITH_OK);
	assert_int_equal(pith_writer_finish(w, &err), PITH_OK);
	uint8_t *data = sample_read_file(path, &nbytes);
	assert_int_equal(examine(data, nbytes, &err), PITH_OK);
	for (size_t i = 1536; i < 4096; i += 7) { /* the plane starts at 4096 */
		data[i] = 1;
		assert_int_equal(examine(data, nbytes, &err), PITH_E_CORRUPT);
		assert_string_equal(err.rule, "container.20");
		assert_int_equal(err.off, i);
		data[i] = 0;
	}
	pith_packed_free(&term);
	free(values);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(info_is_that_of_the_file),
		cmocka_unit_test(weights_unpack_to_their_meaning),
		cmocka_unit_test(dense_weights_are_borrowed),
		cmocka_unit_test(terms_and_planes_are_described),
		cmocka_unit_test(unknown_names_are_not_found),
		cmocka_unit_test(architecture_is_read_by_key),
		cmocka_unit_test(blocks_have_their_own_shapes),
		cmocka_unit_test(sections_are_read),
		cmocka_unit_test(canaries_and_lineage_are_read),
		cmocka_unit_test(every_flipped_byte_is_found),
		cmocka_unit_test(every_cut_is_found),
		cmocka_unit_test(damage_of_a_plane_is_named),
		cmocka_unit_test(many_faults_come_in_order),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(gaps_are_zero),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
