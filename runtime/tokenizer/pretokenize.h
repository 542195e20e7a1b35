/*
 * Cutting text into pretokens (spec/tokenizer.md section 3): hand-written matchers in
 * place of the regular expressions that tokenizers are published with.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_PRETOKENIZE_H
#define PITH_PRETOKENIZE_H

#include <stddef.h>
#include <stdint.h>

enum pretokenizer_id {
	PRETOKENIZER_NONE = 0,
	PRETOKENIZER_GPT2 = 1,
	PRETOKENIZER_LLAMA3 = 2,
	PRETOKENIZER_QWEN2 = 3,
	PRETOKENIZER_STARCODER = 4,
	PRETOKENIZER_DEEPSEEK_CODER = 5,
	PRETOKENIZER_SPACE_RUNS = 6,
	PRETOKENIZER_METASPACE = 7
};

/* A run over one text. 'piece_end' is where the matcher's own outer cut lies, if it has one. */
struct pretokens {
	const uint8_t *text; /* [nbytes], borrowed */
	size_t nbytes;
	size_t piece_end;
};

/* End of the pretoken that starts at 'pos' < nbytes; greater than 'pos'.  Linear over a whole text. */
typedef size_t pretoken_end(struct pretokens *p, size_t pos);

struct pretokenizer {
	const char *name;
	unsigned kinds; /* bit k: goes with tokenizer kind k */
	pretoken_end *end;
};

/* NULL if 'id' is not known. */
const struct pretokenizer *pretokenizer_find(uint32_t id);

#endif
