/*
 * Opening models for commands.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_model.h"

#include "format.h"

#include <stdlib.h>
#include <string.h>

static pith_status open_file(const char *path, const struct cli_model_options *options,
                             struct pith_file **out, struct pith_error *err)
{
	unsigned flags = options->no_verify ? PITH_OPEN_NO_VERIFY : 0;
	size_t nbytes;
	if (path != NULL)
		return pith_file_open(path, flags, out, err);
	const void *data = cli_embedded_model(options->embedded, &nbytes);
	if (data == NULL)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "this pith was built without an embedded model: name a file");
	return pith_file_open_memory(data, nbytes, flags, out, err);
}

/* What is in m->file. */
static pith_status open_model(struct cli_model *m, const struct cli_model_options *options,
                              struct pith_error *err)
{
	struct pith_model_options model = {.no_verify = options->no_verify};
	const void *blob;
	size_t nbytes;
	PITH_TRY(pith_model_open(m->file, &model, &m->model, err));
	pith_model_info(m->model, &m->info);
	if (!options->tokenizer)
		return PITH_OK;
	pith_status status = pith_file_section(m->file, PITH_SECTION_TOKN, &blob, &nbytes, err);
	if (status == PITH_E_NOT_FOUND)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "the model has no tokenizer: give it one when converting");
	PITH_TRY(status);
	PITH_TRY(pith_tokenizer_open(blob, nbytes, &m->tokenizer, err));
	if (pith_tokenizer_vocab_count(m->tokenizer) > m->info.vocab_count)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "the tokenizer has more ids (%u) than the model has rows (%llu)",
		                 pith_tokenizer_vocab_count(m->tokenizer),
		                 (unsigned long long)m->info.vocab_count);
	return PITH_OK;
}

int cli_model_open(struct cli *cli, const char *path, const struct cli_model_options *options,
                   struct cli_model *out)
{
	struct pith_error err;
	*out = (struct cli_model){.path = path != NULL ? path : "embedded model"};
	if (open_file(path, options, &out->file, &err) == PITH_OK &&
	    open_model(out, options, &err) == PITH_OK)
		return CLI_OK;
	return cli_fail(cli, out->path, &err);
}

int cli_model_open_memory(struct cli *cli, const char *name, const void *data, size_t nbytes,
                          const struct cli_model_options *options, struct cli_model *out)
{
	struct pith_error err;
	unsigned flags = options->no_verify ? PITH_OPEN_NO_VERIFY : 0;
	*out = (struct cli_model){.path = name};
	if (pith_file_open_memory(data, nbytes, flags, &out->file, &err) == PITH_OK &&
	    open_model(out, options, &err) == PITH_OK)
		return CLI_OK;
	return cli_fail(cli, name, &err);
}

void cli_model_close(struct cli_model *m)
{
	pith_tokenizer_close(m->tokenizer);
	pith_model_close(m->model);
	pith_file_close(m->file);
	*m = (struct cli_model){0};
}

int cli_team_new(struct cli *cli, uint64_t threads, struct pith_team **out)
{
	struct pith_error err;
	*out = NULL;
	if (pith_team_new((size_t)threads, out, &err) != PITH_OK)
		return cli_fail(cli, NULL, &err);
	return CLI_OK;
}

static char *read_all(struct cli *cli, const char *path, FILE *in, size_t limit, size_t *nbytes)
{
	size_t cap = 1 << 16, used = 0;
	char *data = malloc(cap);
	for (size_t got = 1; data != NULL && got > 0; used += got) {
		if (used == cap) {
			char *larger = cap <= limit ? realloc(data, 2 * cap) : NULL;
			if (larger == NULL) {
				cli_say(cli, "%s: larger than %zu bytes", path, limit);
				free(data);
				return NULL;
			}
			data = larger;
			cap *= 2;
		}
		got = fread(data + used, 1, cap - used, in);
	}
	if (data == NULL || ferror(in)) {
		cli_fail_errno(cli, path);
		free(data);
		return NULL;
	}
	*nbytes = used;
	return data;
}

char *cli_read_file(struct cli *cli, const char *path, size_t limit, size_t *nbytes)
{
	bool is_stdin = strcmp(path, "-") == 0;
	*nbytes = 0;
	FILE *in = is_stdin ? stdin : fopen(path, "rb");
	if (in == NULL) {
		cli_fail_errno(cli, path);
		return NULL;
	}
	char *data = read_all(cli, is_stdin ? "standard input" : path, in, limit, nbytes);
	if (!is_stdin)
		fclose(in);
	return data;
}

uint32_t *cli_encode(struct cli *cli, const struct cli_model *m, const char *text, size_t nbytes,
                     unsigned flags, size_t *count)
{
	struct pith_error err;
	size_t cap = pith_tokenizer_encode_bound(m->tokenizer, nbytes, flags), size;
	*count = 0;
	uint32_t *ids = pith_mul_size(cap + 1, sizeof(*ids), &size) ? malloc(size) : NULL;
	if (ids == NULL) {
		cli_fail_errno(cli, "memory");
		return NULL;
	}
	if (pith_tokenizer_encode(m->tokenizer, text, nbytes, flags, ids, cap, count, &err) != PITH_OK) {
		cli_fail(cli, m->path, &err);
		free(ids);
		return NULL;
	}
	return ids;
}
