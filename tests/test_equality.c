/*
 * The same bits from every set of kernels, compiler and machine.  A sample of the matrix of kernels,
 * or all of it (PITH_WHOLE), and the logits of models against tests/logit_hashes.txt.  Links only the
 * libraries that any target has: it is also built for aarch64 and run under an emulator
 * (PITH_EMULATED: less of what is slow there).
 *
 *   test_equality                         the tests
 *   test_equality hashes                  lines for tests/logit_hashes.txt
 *   test_equality restore ARCHIVE MODEL   what an archive holds, member after member, on stdout
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check_matrix.h"
#include "checksum.h"
#include "engine_support.h"
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT "bench/texts/docs-eips-00.txt"
#define HASHES "tests/logit_hashes.txt"
#define TOKENS 33u
#define SAMPLE 900u
#define SAMPLE_EMULATED 270u

static bool asked(const char *name) { return getenv(name) != NULL; }

/* ---- kernels ---- */

/* The line "matrix: ..." is compared between compilers and machines by tests/all_equality.sh. */
static void test_matrix(void **unused)
{
	(void)unused;
	const char *seed_text = getenv("PITH_SEED");
	const uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 0) : 1;
	const bool emulated = asked("PITH_EMULATED"), whole = asked("PITH_WHOLE");
	struct matrix_result result;
	matrix_check(!whole ? MATRIX_SAMPLE : emulated ? MATRIX_ONE_TEAM : MATRIX_WHOLE, seed,
	             emulated ? SAMPLE_EMULATED : SAMPLE, &result);
	printf("matrix: PITH_SEED=%" PRIu64 ": %zu cells, hash %016" PRIx64 "\n", seed, result.cells,
	       result.hash);
	printf("%zu applications of %s and the sets below it\n", result.applications,
	       pith_kernels_active());
	if (result.failure[0] != '\0')
		fail_msg("PITH_SEED=%" PRIu64 ": %s", seed, result.failure);
}

/* ---- logits ---- */

struct opened {
	struct pith_file *file;
	struct pith_tokenizer *tokenizer;
};

static void open_file(const char *path, struct opened *o)
{
	struct pith_error err;
	const void *blob;
	size_t nbytes;
	require_ok(pith_file_open(path, 0, &o->file, &err), &err);
	require_ok(pith_file_section(o->file, PITH_SECTION_TOKN, &blob, &nbytes, &err), &err);
	require_ok(pith_tokenizer_open(blob, nbytes, &o->tokenizer, &err), &err);
}

static void close_file(struct opened *o)
{
	pith_tokenizer_close(o->tokenizer);
	pith_file_close(o->file);
}

static void first_tokens(const struct pith_tokenizer *tokenizer, uint32_t ids[TOKENS])
{
	static char text[1024];
	static uint32_t all[4096];
	struct pith_error err;
	size_t count;
	FILE *f = fopen(TEXT, "rb");
	assert_non_null(f);
	assert_int_equal(fread(text, 1, sizeof(text), f), sizeof(text));
	fclose(f);
	assert_true(pith_tokenizer_encode_bound(tokenizer, sizeof(text), 0) <= PITH_ARRAY_LENGTH(all));
	require_ok(pith_tokenizer_encode(tokenizer, text, sizeof(text), 0, all, PITH_ARRAY_LENGTH(all),
	                                 &count, &err), &err);
	assert_true(count >= TOKENS);
	memcpy(ids, all, TOKENS * sizeof(*ids));
}

/* Of the logits at all positions. */
static uint64_t hash_logits(const struct pith_model *model, const uint32_t *ids, size_t batch,
                            size_t threads)
{
	struct pith_model_info info;
	struct pith_error err;
	struct pith_team *team;
	struct pith_session *session;
	struct pith_xxh3 *hash = pith_xxh3_new();
	pith_model_info(model, &info);
	require_ok(pith_team_new(threads, &team, &err), &err);
	struct pith_session_options options = {.sequence_count = 1, .context_length = TOKENS,
	                                       .batch_count = batch,
	                                       .executor = pith_team_executor(team)};
	require_ok(pith_session_new(model, &options, &session, &err), &err);
	pith_xxh3_reset_64(hash);
	for (size_t done = 0; done < TOKENS;) {
		struct pith_row rows[TOKENS];
		const float *logits;
		size_t k = 0;
		for (; k < batch && done + k < TOKENS; k++)
			rows[k] = (struct pith_row){0, ids[done + k], true};
		require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
		for (size_t r = 0; r < k; r++)
			pith_xxh3_update_64(hash, logits + r * pith_session_logit_stride(session),
			                    info.vocab_count * sizeof(float));
		done += k;
	}
	const uint64_t digest = pith_xxh3_digest_64(hash);
	pith_xxh3_free(hash);
	pith_session_free(session);
	pith_team_free(team);
	return digest;
}

/* By all sets, one by one and together; an emulator has time for the best set only. */
static void check_hash(const char *path, const char *name, uint64_t wanted)
{
	static const size_t ways[][2] = {{TOKENS, 3}, {1, 1}, {7, 2}}; /* batch, threads */
	const struct pith_kernels *sets[8];
	const bool brief = asked("PITH_EMULATED") && !asked("PITH_WHOLE");
	const size_t set_count = brief ? 1 : pith_kernels_available(sets);
	uint32_t ids[TOKENS];
	struct opened o;
	open_file(path, &o);
	first_tokens(o.tokenizer, ids);
	for (size_t s = 0; s < set_count; s++) {
		char mask[64];
		struct pith_model_options options = {.kernels = mask_for_set(s, mask)};
		struct pith_model *model;
		struct pith_error err;
		require_ok(pith_model_open(o.file, &options, &model, &err), &err);
		const bool last = s + 1 == set_count; /* the reference is slow */
		for (size_t w = 0; w < (last ? 1 : PITH_ARRAY_LENGTH(ways)); w++) {
			uint64_t hash = hash_logits(model, ids, ways[w][0], ways[w][1]);
			if (hash != wanted)
				fail_msg("%s without '%s', batches of %zu, %zu threads: hash %016" PRIx64
				         ", not %016" PRIx64 " (%s)",
				         name, mask, ways[w][0], ways[w][1], hash, wanted, HASHES);
		}
		pith_model_close(model);
	}
	close_file(&o);
}

struct hash_line {
	char name[64], scheme[96], cache[8];
	uint64_t hash;
	char path[512]; /* $BUILD/models/name.pith */
};

/* False at the end. */
static bool next_line(FILE *f, struct hash_line *line)
{
	char text[256];
	const char *build = getenv("BUILD");
	while (fgets(text, sizeof(text), f) != NULL) {
		if (text[0] == '#')
			continue;
		assert_int_equal(sscanf(text, "%63s %95s %7s %" SCNx64, line->name, line->scheme,
		                        line->cache, &line->hash), 4);
		snprintf(line->path, sizeof(line->path), "%s/models/%s.pith",
		         build != NULL ? build : "build", line->name);
		return true;
	}
	return false;
}

static void test_logits(void **unused)
{
	(void)unused;
	struct hash_line line;
	size_t count = 0;
	FILE *f = fopen(HASHES, "r");
	assert_non_null(f);
	for (; next_line(f, &line); count++)
		check_hash(line.path, line.name, line.hash);
	fclose(f);
	assert_true(count >= 3);
}

static int print_hashes(void)
{
	struct hash_line line;
	struct pith_error err;
	FILE *f = fopen(HASHES, "r");
	assert_non_null(f);
	while (next_line(f, &line)) {
		uint32_t ids[TOKENS];
		struct opened o;
		struct pith_model *model;
		open_file(line.path, &o);
		first_tokens(o.tokenizer, ids);
		require_ok(pith_model_open(o.file, NULL, &model, &err), &err);
		printf("%-11s %-29s %-6s %016" PRIx64 "\n", line.name, line.scheme, line.cache,
		       hash_logits(model, ids, 1, 1));
		pith_model_close(model);
		close_file(&o);
	}
	fclose(f);
	return 0;
}

/* ---- archives ---- */

static pith_status read_at(void *ctx, uint64_t off, void *data, size_t nbytes, struct pith_error *err)
{
	FILE *f = ctx;
	if (fseek(f, (long)off, SEEK_SET) != 0 || fread(data, 1, nbytes, f) != nbytes)
		return pith_fail(err, PITH_E_IO, off, NULL, "cannot read the archive");
	return PITH_OK;
}

static pith_status write_out(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	(void)ctx;
	if (fwrite(data, 1, nbytes, stdout) != nbytes)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "cannot write");
	return PITH_OK;
}

static pith_status restore(const char *archive_path, const char *model_path, struct pith_error *err)
{
	struct opened o;
	struct pith_model *model;
	struct pith_text_coder *coder;
	struct pith_archive *archive;
	FILE *f = fopen(archive_path, "rb");
	if (f == NULL || fseek(f, 0, SEEK_END) != 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "cannot open %s", archive_path);
	struct pith_archive_source source = {(uint64_t)ftell(f), read_at, f};
	open_file(model_path, &o);
	PITH_TRY(pith_model_open(o.file, NULL, &model, err));
	PITH_TRY(pith_text_coder_new(model, o.tokenizer, &coder, err));
	PITH_TRY(pith_archive_open(&source, &archive, err));
	struct pith_archive_read_options options = {.coder = coder, .data = write_out};
	PITH_TRY(pith_archive_read(archive, NULL, &options, err));
	pith_archive_close(archive);
	pith_text_coder_free(coder);
	pith_model_close(model);
	close_file(&o);
	fclose(f);
	return PITH_OK;
}

int main(int argc, char **argv)
{
	struct pith_error err;
	if (argc == 2 && strcmp(argv[1], "hashes") == 0)
		return print_hashes();
	if (argc == 4 && strcmp(argv[1], "restore") == 0) {
		if (restore(argv[2], argv[3], &err) == PITH_OK)
			return 0;
		fprintf(stderr, "test_equality: %s\n", err.msg);
		return 1;
	}
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_matrix),
	    cmocka_unit_test(test_logits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
