/*
 * What the commands that compute open: the file (or the embedded model), the bound model, its
 * tokenizer and a team of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_MODEL_H
#define PITH_CLI_MODEL_H

#include "cli.h"
#include "pithrun.h"
#include "tokenizer.h"

struct cli_model {
	const char *path; /* what to call it: the operand or "embedded model" */
	struct pith_file *file;
	struct pith_model *model;
	struct pith_model_info info;
	struct pith_tokenizer *tokenizer; /* NULL when not asked for */
};

struct cli_model_options {
	bool no_verify, tokenizer;
	enum cli_embedded embedded; /* which, when no file is named */
};

/*
 * Open 'path'; NULL: an embedded model.  Says what is wrong and returns an exit code, or
 * CLI_OK.  Close it in both cases.
 */
int cli_model_open(struct cli *cli, const char *path, const struct cli_model_options *options,
                   struct cli_model *out);
/* The same for a .pith file in memory (aligned to 64, the caller's to keep), called 'name' in messages. */
int cli_model_open_memory(struct cli *cli, const char *name, const void *data, size_t nbytes,
                          const struct cli_model_options *options, struct cli_model *out);
void cli_model_close(struct cli_model *m);

/* A team of 'threads' (0: all cores).  Says what is wrong. */
int cli_team_new(struct cli *cli, uint64_t threads, struct pith_team **out);

/* A whole file ("-": stdin), up to 'limit' bytes; freed with free().  NULL after saying what is wrong. */
char *cli_read_file(struct cli *cli, const char *path, size_t limit, size_t *nbytes);

/* Ids of a text as the model was trained, without BOS and EOS unless 'flags' ask; freed with free(). */
uint32_t *cli_encode(struct cli *cli, const struct cli_model *m, const char *text, size_t nbytes,
                     unsigned flags, size_t *count);

#endif
