/*
 * tests/vectors/ against libpith: every good file opens, verifies, unpacks to the expected
 * bits and has right canaries; every other gives the status and the rule it names.
 *
 * The vectors come from a writer and exact arithmetic in Python that share nothing with the
 * C code; their form is spec/vectors.md.  Runs from the root of the tree.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "pithrun.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROOT "tests/vectors"

struct vector {
	char path[300];
	char status[16], rule[24]; /* rule "" for a good one */
	bool needs_runtime;
	uint8_t *data; /* aligned to 64, [nbytes] */
	size_t nbytes;
};

/* What verification found. */
struct faults {
	size_t count, other_rules; /* all, and those with another rule than the first one */
	struct pith_error first;
};

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	rewind(f);
	char *text = size < 0 ? NULL : malloc((size_t)size + 1);
	if (text) {
		size_t got = fread(text, 1, (size_t)size, f);
		text[got] = '\0';
	}
	fclose(f);
	return text;
}

/* "key: value" of the first line into out[cap]; "" when absent. */
static void head_field(const char *text, const char *key, char *out, size_t cap)
{
	const char *end = strchr(text, '\n');
	const char *at = strstr(text, key);
	out[0] = '\0';
	if (!at || !end || at > end)
		return;
	at += strlen(key);
	size_t size = strcspn(at, " \n");
	assert_true(size < cap);
	memcpy(out, at, size);
	out[size] = '\0';
}

/*
 * The bytes of a .hex text: words "XX" or "XX*COUNT", '#' to the end of the line is a
 * comment.  out may be NULL to count only.
 */
static size_t hex_bytes(const char *text, uint8_t *out)
{
	size_t size = 0;
	for (const char *p = text; *p;) {
		if (*p == '#') {
			p += strcspn(p, "\n");
		} else if (strchr(" \t\r\n", *p)) {
			p++;
		} else {
			char *end;
			unsigned long byte = strtoul(p, &end, 16), count = 1;
			assert_true(end == p + 2);
			if (*end == '*')
				count = strtoul(end + 1, &end, 10);
			if (out)
				memset(out + size, (int)byte, count);
			size += count;
			p = end;
		}
	}
	return size;
}

static struct vector vector_read(const char *folder, const char *file)
{
	struct vector v = {0};
	snprintf(v.path, sizeof(v.path), ROOT "/%s/%s", folder, file);
	char *text = read_text(v.path);
	assert_non_null(text);
	char needs[16];
	head_field(text, "status: ", v.status, sizeof(v.status));
	head_field(text, "rule: ", v.rule, sizeof(v.rule));
	head_field(text, "needs: ", needs, sizeof(needs));
	v.needs_runtime = strcmp(needs, "runtime") == 0;
	v.nbytes = hex_bytes(text, NULL);
	v.data = aligned_alloc(64, (v.nbytes + 63) / 64 * 64 + 64);
	assert_non_null(v.data);
	hex_bytes(text, v.data);
	free(text);
	return v;
}

static void on_fault(void *ctx, const struct pith_error *fault)
{
	struct faults *faults = ctx;
	if (faults->count++ == 0)
		faults->first = *fault;
	else if (strcmp(fault->rule, faults->first.rule) != 0)
		faults->other_rules++;
}

/* Open and verify; *file is NULL when it does not open. */
static struct faults examine(const struct vector *v, struct pith_file **file)
{
	struct faults faults = {0};
	struct pith_error err = {0};
	if (pith_file_open_memory(v->data, v->nbytes, 0, file, &err) != PITH_OK) {
		on_fault(&faults, &err);
		return faults;
	}
	struct pith_verify_options options = {.threads = 1, .fault = on_fault, .ctx = &faults};
	size_t count = 0;
	pith_status status = pith_file_verify(*file, &options, &count, &err);
	assert_int_equal(count, faults.count);
	assert_int_equal(status == PITH_OK, count == 0);
	if (count > 0)
		assert_string_equal(err.rule, faults.first.rule);
	return faults;
}

/* Check every canary; the first fault into *err. */
static pith_status check_canaries(const struct pith_file *file, struct pith_error *err)
{
	struct pith_file_info info;
	pith_file_info(file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct pith_weight weight;
		pith_status status = pith_file_weight_at(file, i, &weight, err);
		if (status == PITH_OK)
			status = pith_canary_check(&weight, err);
		if (status != PITH_OK)
			return status;
	}
	return PITH_OK;
}

/* Compare bits of out[m * n] with the words "XXXXXXXX" or "XXXXXXXX*COUNT" at *text. */
static size_t words_that_differ(char **text, const float *out, size_t count)
{
	size_t differ = 0;
	for (size_t i = 0; i < count;) {
		unsigned long bits = strtoul(*text, text, 16), times = 1;
		if (**text == '*')
			times = strtoul(*text + 1, text, 10);
		for (; times > 0 && i < count; times--, i++) {
			uint32_t got;
			memcpy(&got, &out[i], 4);
			differ += got != bits;
		}
	}
	return differ;
}

/* One weight of the sidecar at *text, which is moved behind it; false on any difference. */
static bool weight_as_expected(const struct pith_file *file, char **text)
{
	char name[64];
	size_t m, n;
	int used;
	assert_int_equal(sscanf(*text, "weight %63s %zu %zu%n", name, &m, &n, &used), 3);
	*text += used;
	struct pith_weight weight;
	struct pith_error err = {0};
	if (pith_file_find(file, name, &weight, &err) != PITH_OK || weight.m != m || weight.n != n)
		return false;
	float *out = malloc(m * n * sizeof(float)), *row = malloc(n * sizeof(float));
	float *scratch = malloc(n * sizeof(float));
	assert_true(out && row && scratch);
	bool same = pith_weight_verify(&weight, &err) == PITH_OK &&
	            pith_weight_unpack_rows(&weight, 0, m, out, scratch, &err) == PITH_OK &&
	            words_that_differ(text, out, m * n) == 0;
	for (size_t i = 0; i < m && same; i++) /* a row alone is the same row */
		same = pith_weight_unpack_rows(&weight, i, 1, row, scratch, &err) == PITH_OK &&
		       memcmp(row, out + i * n, n * sizeof(float)) == 0;
	free(scratch);
	free(row);
	free(out);
	return same;
}

static bool values_as_expected(const struct vector *v, const struct pith_file *file)
{
	char path[304];
	snprintf(path, sizeof(path), "%.*s.txt", (int)(strlen(v->path) - 4), v->path);
	char *text = read_text(path), *at = text;
	assert_non_null(text);
	struct pith_file_info info;
	pith_file_info(file, &info);
	bool same = true;
	size_t weights = 0;
	for (; same && (at = strstr(at, "weight ")) != NULL; weights++)
		same = weight_as_expected(file, &at);
	free(text);
	return same && weights == info.weight_count;
}

/* true when the library says of the vector what the vector says of itself. */
static bool vector_holds(const struct vector *v)
{
	struct pith_file *file = NULL;
	struct faults faults = examine(v, &file);
	struct pith_error err = {0};
	if (file && faults.count == 0 && check_canaries(file, &err) != PITH_OK)
		on_fault(&faults, &err);
	const char *status = "good";
	if (faults.count > 0)
		status = faults.first.status == PITH_E_NOT_OURS ? "not-ours" :
		         faults.first.status == PITH_E_UNSUPPORTED ? "unsupported" :
		         faults.first.status == PITH_E_CORRUPT ? "corrupt" : "other";
	bool holds = strcmp(status, v->status) == 0 && strcmp(faults.first.rule, v->rule) == 0 &&
	             faults.other_rules == 0;
	if (!holds)
		print_error("%s: wanted %s %s, got %s %s (%zu faults, %zu with other rules): %s\n",
		            v->path, v->status, v->rule, status, faults.first.rule, faults.count,
		            faults.other_rules, faults.first.msg);
	if (holds && faults.count == 0 && !values_as_expected(v, file)) {
		print_error("%s: a weight does not unpack to the expected bits\n", v->path);
		holds = false;
	}
	pith_file_close(file);
	return holds;
}

static void test_folder(void **state)
{
	const char *folder = *state;
	char path[64];
	snprintf(path, sizeof(path), ROOT "/%s", folder);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	size_t seen = 0, wrong = 0;
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		size_t size = strlen(entry->d_name);
		if (size < 5 || strcmp(entry->d_name + size - 4, ".hex") != 0)
			continue;
		struct vector v = vector_read(folder, entry->d_name);
		wrong += !vector_holds(&v);
		seen++;
		free(v.data);
	}
	closedir(dir);
	assert_true(seen >= 4);
	assert_int_equal(wrong, 0);
}

int main(void)
{
#define FOLDER(name) {name, test_folder, NULL, NULL, (void *)(uintptr_t)name}
	const struct CMUnitTest tests[] = {
	    FOLDER("container"), FOLDER("weight"),  FOLDER("dense"), FOLDER("affine"),
	    FOLDER("codebook"),  FOLDER("ternary"), FOLDER("sparse"), FOLDER("columns"),
	    FOLDER("lowrank"), FOLDER("permute"), FOLDER("scale"), FOLDER("sums"),
	};
#undef FOLDER
	return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
