/*
 * Between the two halves of the tokenizer importer: import_tokenizer_rules.c reads how
 * text is normalized and cut, import_tokenizer.c the vocabulary.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_IMPORT_TOKENIZER_RULES_H
#define PITH_IMPORT_TOKENIZER_RULES_H

#include "tokenizer_build.h"

#include <jansson.h>
#include <stdbool.h>

/* String at json[key], or NULL if there is none or it is no string. */
const char *json_string_at(const json_t *json, const char *key);

/* Is json[key] true? */
bool json_is_true_at(const json_t *json, const char *key);

/*
 * From "normalizer" and "pre_tokenizer" of tokenizer.json to kind, pretokenizer and flags of
 * 'parts'.  PITH_E_UNSUPPORTED names what is not known.
 */
pith_status import_tokenizer_rules(const json_t *root, struct tokenizer_parts *parts,
                                   struct pith_error *err);

#endif
