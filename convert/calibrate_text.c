/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_text.h"

#include "bytes.h"
#include "json.h"
#include "sha256.h"
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX_NBYTES ((size_t)1 << 30)

/* ---- tokens ---- */

struct token_list {
	uint32_t *id;
	size_t count, cap;
};

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the calibration text");
}

static pith_status append_text(const struct pith_tokenizer *t, const char *text, size_t nbytes,
                               struct token_list *list, struct pith_error *err)
{
	size_t bound = pith_tokenizer_encode_bound(t, nbytes, PITH_ENCODE_BOS);
	if (bound > SIZE_MAX / 8 - list->count)
		return no_memory(err);
	if (list->count + bound > list->cap) {
		size_t cap = list->count + bound + list->cap / 2;
		uint32_t *id = realloc(list->id, cap * sizeof(*id));
		if (!id)
			return no_memory(err);
		list->id = id;
		list->cap = cap;
	}
	size_t more;
	PITH_TRY(pith_tokenizer_encode(t, text, nbytes, PITH_ENCODE_BOS, list->id + list->count,
	                               list->cap - list->count, &more, err));
	list->count += more;
	return PITH_OK;
}

/* One line of JSONL; *is_json false: the file is plain text after all. */
static pith_status append_line(const struct pith_tokenizer *t, const char *line, size_t nbytes,
                               struct token_list *list, bool *is_json, struct pith_error *err)
{
	json_t *object;
	struct pith_error ignored;
	*is_json = false;
	if (nbytes == 0 || line[0] != '{' ||
	    jdoc_parse(line, nbytes, "a line of the text", &object, &ignored) != PITH_OK)
		return PITH_OK;
	const json_t *text = json_object_get(object, "text");
	pith_status status = PITH_OK;
	*is_json = json_is_string(text);
	if (*is_json)
		status = append_text(t, json_string_value(text), json_string_length(text), list, err);
	json_decref(object);
	return status;
}

/* Every line must be a JSON object with a text; blank ones are passed over. */
static pith_status append_lines(const struct pith_tokenizer *t, const char *data, size_t nbytes,
                                struct token_list *list, bool *is_json, struct pith_error *err)
{
	*is_json = nbytes > 0 && data[0] == '{';
	for (size_t at = 0; at < nbytes && *is_json;) {
		const char *end = memchr(data + at, '\n', nbytes - at);
		size_t line = end ? (size_t)(end - (data + at)) : nbytes - at;
		if (line > 0 && data[at] != '\r')
			PITH_TRY(append_line(t, data + at, line, list, is_json, err));
		at += line + 1;
	}
	return PITH_OK;
}

static pith_status tokenize(const struct pith_tokenizer *t, const char *data, size_t nbytes,
                            struct token_list *list, struct pith_error *err)
{
	bool is_json;
	PITH_TRY(append_lines(t, data, nbytes, list, &is_json, err));
	if (is_json)
		return PITH_OK;
	list->count = 0;
	return append_text(t, data, nbytes, list, err);
}

/* ---- samples ---- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static pith_status take_samples(const struct token_list *list, size_t samples, size_t length,
                                uint64_t seed, struct calibration_text *out, struct pith_error *err)
{
	out->token_count = list->count;
	if (list->count < length)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "the calibration text has %zu tokens, one sample needs %zu: give more "
		                 "text or a smaller --calib-length", list->count, length);
	if (samples > list->count / length)
		samples = list->count / length;
	out->id = malloc(samples * length * sizeof(*out->id));
	if (!out->id)
		return no_memory(err);
	for (size_t i = 0; i < samples; i++) {
		size_t begin = (size_t)((double)list->count * (double)i / (double)samples);
		size_t end = (size_t)((double)list->count * (double)(i + 1) / (double)samples);
		size_t slack = end - begin > length ? end - begin - length : 0;
		begin += (size_t)(next_random(&seed) % (slack + 1));
		if (begin > list->count - length)
			begin = list->count - length;
		memcpy(out->id + i * length, list->id + begin, length * sizeof(*out->id));
	}
	out->sample_count = samples;
	out->length = length;
	return PITH_OK;
}

static pith_status check_ids(const struct token_list *list, uint64_t vocab, struct pith_error *err)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->id[i] >= vocab)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
			                 "the tokenizer gives token %u, the model has %llu", list->id[i],
			                 (unsigned long long)vocab);
	return PITH_OK;
}

pith_status calibration_text_read(const char *path, const void *tokenizer, size_t tokenizer_nbytes,
                                  size_t samples, size_t length, uint64_t seed, uint64_t vocab,
                                  struct calibration_text *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	struct pith_tokenizer *t;
	struct token_list list = {.id = NULL};
	char *data;
	size_t nbytes;
	pith_status status = text_file_read(path, TEXT_MAX_NBYTES, &data, &nbytes, err);
	if (status == PITH_E_NOT_FOUND) /* of the source that would mean something else */
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL,
		                 "there is no calibration text %.100s", path);
	PITH_TRY(status);
	struct sha256 h;
	sha256_begin(&h);
	sha256_add(&h, data, nbytes);
	sha256_end(&h, out->digest);
	status = pith_tokenizer_open(tokenizer, tokenizer_nbytes, &t, err);
	if (status == PITH_OK) {
		status = tokenize(t, data, nbytes, &list, err);
		pith_tokenizer_close(t);
	}
	free(data);
	if (status == PITH_OK)
		status = check_ids(&list, vocab, err);
	if (status == PITH_OK)
		status = take_samples(&list, samples, length, seed, out, err);
	free(list.id);
	return status;
}

void calibration_text_free(struct calibration_text *t)
{
	free(t->id);
	memset(t, 0, sizeof(*t));
}
