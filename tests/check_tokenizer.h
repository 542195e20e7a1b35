/*
 * Helpers of the tokenizer tests: files, a random generator, import and encode in one
 * call, and a naive byte-pair encoder over strings as the oracle.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CHECK_TOKENIZER_H
#define PITH_CHECK_TOKENIZER_H

#include "import_tokenizer.h"
#include "tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A file's bytes and a NUL after them, malloc'd; NULL if it cannot be read. */
static inline char *read_whole(const char *path, size_t *nbytes)
{
	FILE *file = fopen(path, "rb");
	char *text = NULL;
	*nbytes = 0;
	if (!file)
		return NULL;
	if (fseek(file, 0, SEEK_END) == 0) {
		long size = ftell(file);
		rewind(file);
		text = size < 0 ? NULL : malloc((size_t)size + 1);
		if (text) {
			*nbytes = fread(text, 1, (size_t)size, file);
			text[*nbytes] = '\0';
		}
	}
	fclose(file);
	return text;
}

struct rng {
	uint64_t state;
};

static inline uint32_t rng_next(struct rng *rng)
{
	rng->state = rng->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng->state >> 33);
}

static inline uint32_t rng_under(struct rng *rng, uint32_t bound)
{
	return (uint32_t)((uint64_t)rng_next(rng) * bound >> 31);
}

/* A tokenizer and the blob it reads. */
struct subject {
	uint8_t *blob;
	size_t blob_nbytes;
	struct pith_tokenizer *t;
};

static inline struct subject import_text(const char *json, const char *config, const char *model_config)
{
	struct pith_error err = {0};
	struct subject s = {0};
	struct import_tokenizer_files files = {
	    .tokenizer_json = json, .tokenizer_nbytes = strlen(json),
	    .tokenizer_config = config, .tokenizer_config_nbytes = config ? strlen(config) : 0,
	    .model_config = model_config, .model_config_nbytes = model_config ? strlen(model_config) : 0,
	};
	if (import_tokenizer(&files, &s.blob, &s.blob_nbytes, &err) != PITH_OK)
		fail_msg("import: %s: %s", err.rule, err.msg);
	assert_int_equal(pith_tokenizer_open(s.blob, s.blob_nbytes, &s.t, &err), PITH_OK);
	assert_int_equal(pith_tokenizer_check(s.t, &err), PITH_OK);
	return s;
}

static inline struct subject import_file(const char *path)
{
	size_t nbytes;
	char *json = read_whole(path, &nbytes);
	if (!json)
		fail_msg("cannot read %s", path);
	struct subject s = import_text(json, NULL, NULL);
	free(json);
	return s;
}

static inline void close_subject(struct subject *s)
{
	pith_tokenizer_close(s->t);
	free(s->blob);
}

/* Encode into a fresh array with room for the bound; the caller frees it. */
static inline uint32_t *encode_all(const struct pith_tokenizer *t, const char *text, size_t nbytes,
                                   unsigned flags, size_t *count)
{
	struct pith_error err = {0};
	size_t cap = pith_tokenizer_encode_bound(t, nbytes, flags);
	uint32_t *ids = malloc((cap + 1) * sizeof(*ids));
	assert_non_null(ids);
	if (pith_tokenizer_encode(t, text, nbytes, flags, ids, cap, count, &err) != PITH_OK)
		fail_msg("encode: %s", err.msg);
	assert_true(*count <= cap);
	return ids;
}

/* Exact mode's promise: the tokens' bytes joined are the input. */
static inline void assert_exact(const struct pith_tokenizer *t, const char *text, size_t nbytes)
{
	size_t count, at = 0, token_nbytes;
	uint32_t *ids = encode_all(t, text, nbytes, PITH_ENCODE_EXACT, &count);
	for (size_t i = 0; i < count; i++) {
		const uint8_t *token = pith_tokenizer_token_bytes(t, ids[i], &token_nbytes);
		assert_non_null(token);
		assert_false(pith_tokenizer_is_control(t, ids[i]));
		assert_true(token_nbytes > 0 && token_nbytes <= nbytes - at);
		assert_memory_equal(token, text + at, token_nbytes);
		at += token_nbytes;
	}
	assert_int_equal(at, nbytes);
	free(ids);
}

static inline void assert_ids(const struct pith_tokenizer *t, const char *text, unsigned flags,
                              const uint32_t *expected, size_t expected_count)
{
	size_t count;
	uint32_t *ids = encode_all(t, text, strlen(text), flags, &count);
	for (size_t i = 0; i < count && i < expected_count; i++)
		if (ids[i] != expected[i])
			fail_msg("\"%s\": id %zu is %u, not %u", text, i, ids[i], expected[i]);
	assert_int_equal(count, expected_count);
	free(ids);
}

#endif
