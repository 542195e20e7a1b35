/*
 * Normalizers and pre-tokenizers of tokenizer.json.  Both are trees of steps; they are
 * flattened to one line a step and looked up, because the few that exist in the wild are
 * known exactly and a regex out of a file is never run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "import_tokenizer_rules.h"

#include "bytes.h"
#include "pretokenize.h"
#include "tokenizer_blob.h"

#include <stdio.h>

#define STEPS_CAP 2048
#define MAX_STEPS 16

#define LLAMA3_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Another spelling of llama3: possessive, and one line break at the end instead of some. */
#define LLAMA3_POSSESSIVE \
	"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}" \
	"| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define GPT2_REGEX "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* A pre-tokenizer as steps, and what it is to us. */
struct known_pretokenizer {
	const char *steps;
	uint32_t kind, pretokenizer, flags;
};

static const struct known_pretokenizer known_pretokenizers[] = {
    {"ByteLevel regex\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_GPT2, 0},
    {"ByteLevel regex prefix\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_GPT2,
     TOKENIZER_PREFIX_SPACE | TOKENIZER_PREFIX_UNLESS},
    {"ByteLevel\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_NONE, 0},
    {"Split " GPT2_REGEX "\nByteLevel\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_GPT2, 0},
    {"Split " LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL "\nByteLevel\n", TOKENIZER_BYTE_LEVEL,
     PRETOKENIZER_LLAMA3, 0},
    {"Split " LLAMA3_POSSESSIVE "\nByteLevel\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_LLAMA3, 0},
    {"Split " LLAMA3_HEAD "\\p{N}" LLAMA3_TAIL "\nByteLevel\n", TOKENIZER_BYTE_LEVEL,
     PRETOKENIZER_QWEN2, 0},
    {"Digits individual\nByteLevel regex\n", TOKENIZER_BYTE_LEVEL, PRETOKENIZER_STARCODER, 0},
    {"Split [\\r\\n]\nSplit \\s?\\p{L}+\nSplit \\s?\\p{P}+\nSplit [一-龥ࠀ-一가-퟿]+\n"
     "Digits individual\nByteLevel\n",
     TOKENIZER_BYTE_LEVEL, PRETOKENIZER_DEEPSEEK_CODER, 0},
    {"", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_NONE, 0},
    /* Gemma's: it cuts at spaces, of which its normalizer has left none */
    {"Split (other behavior)  \n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_NONE, 0},
    {"Metaspace always split\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_METASPACE,
     TOKENIZER_SPACE_MARK | TOKENIZER_PREFIX_SPACE | TOKENIZER_PREFIX_UNLESS},
    {"Metaspace first split\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_METASPACE,
     TOKENIZER_SPACE_MARK | TOKENIZER_PREFIX_SPACE | TOKENIZER_PREFIX_UNLESS | TOKENIZER_PREFIX_FIRST},
    {"Metaspace never split\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_METASPACE, TOKENIZER_SPACE_MARK},
    {"Metaspace always\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_NONE,
     TOKENIZER_SPACE_MARK | TOKENIZER_PREFIX_SPACE | TOKENIZER_PREFIX_UNLESS},
    {"Metaspace first\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_NONE,
     TOKENIZER_SPACE_MARK | TOKENIZER_PREFIX_SPACE | TOKENIZER_PREFIX_UNLESS | TOKENIZER_PREFIX_FIRST},
    {"Metaspace never\n", TOKENIZER_SENTENCEPIECE, PRETOKENIZER_NONE, TOKENIZER_SPACE_MARK},
};

/* Likewise for normalizers; 'kinds' are those that it makes sense for, as bits. */
struct known_normalizer {
	const char *steps;
	uint32_t kinds, flags;
};

static const struct known_normalizer known_normalizers[] = {
    {"", 3, 0},
    {"NFC\n", 1, TOKENIZER_NFC},
    {"Prepend \xe2\x96\x81\nReplace  >\xe2\x96\x81\n", 2, TOKENIZER_SPACE_MARK | TOKENIZER_PREFIX_SPACE},
    {"Replace  >\xe2\x96\x81\n", 2, TOKENIZER_SPACE_MARK},
};

const char *json_string_at(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

bool json_is_true_at(const json_t *json, const char *key)
{
	return json_is_true(json_object_get(json, key));
}

/* What a Split or Replace looks for: {"Regex": ...} or {"String": ...}. */
static const char *pattern_of(const json_t *step)
{
	const json_t *pattern = json_object_get(step, "pattern");
	const char *string = json_string_at(pattern, "Regex");
	return string ? string : json_string_at(pattern, "String");
}

static const char *text_or_empty(const char *string)
{
	return string ? string : "";
}

/* Cut at the matches and keep them: by both spellings that are in use. */
static bool isolates_matches(const json_t *step)
{
	const char *behavior = text_or_empty(json_string_at(step, "behavior"));
	bool invert = json_is_true_at(step, "invert");
	return (!strcmp(behavior, "Isolated") && !invert) || (!strcmp(behavior, "Removed") && invert);
}

/* One line for one step; options at which nothing we know deviates become part of the line. */
static int describe_step(const json_t *step, const char *type, char *out, size_t cap)
{
	if (!strcmp(type, "Split"))
		return snprintf(out, cap, "Split %s%s\n", isolates_matches(step) ? "" : "(other behavior) ",
		                text_or_empty(pattern_of(step)));
	if (!strcmp(type, "Digits"))
		return snprintf(out, cap, "Digits%s\n",
		                json_is_true_at(step, "individual_digits") ? " individual" : "");
	if (!strcmp(type, "ByteLevel")) {
		const json_t *regex = json_object_get(step, "use_regex");
		return snprintf(out, cap, "ByteLevel%s%s\n", !regex || json_is_true(regex) ? " regex" : "",
		                json_is_true_at(step, "add_prefix_space") ? " prefix" : "");
	}
	if (!strcmp(type, "Metaspace")) {
		/* older files say add_prefix_space, which is "always" */
		const char *scheme = json_string_at(step, "prepend_scheme");
		const json_t *split = json_object_get(step, "split");
		const char *replacement = text_or_empty(json_string_at(step, "replacement"));
		if (!scheme)
			scheme = json_is_false(json_object_get(step, "add_prefix_space")) ? "never" : "always";
		return snprintf(out, cap, "Metaspace %s%s%s\n", scheme,
		                !split || json_is_true(split) ? " split" : "",
		                strcmp(replacement, "\xe2\x96\x81") ? " (other replacement)" : "");
	}
	if (!strcmp(type, "Prepend"))
		return snprintf(out, cap, "Prepend %s\n", text_or_empty(json_string_at(step, "prepend")));
	if (!strcmp(type, "Replace"))
		return snprintf(out, cap, "Replace %s>%s\n", text_or_empty(pattern_of(step)),
		                text_or_empty(json_string_at(step, "content")));
	return snprintf(out, cap, "%s\n", type);
}

/* Flatten json, a step or a Sequence of steps under 'list', to lines.  A Sequence within is unknown. */
static pith_status describe(const json_t *json, const char *name, const char *list,
                            char steps[STEPS_CAP], struct pith_error *err)
{
	const json_t *items = json_object_get(json, list);
	bool is_sequence = !strcmp(text_or_empty(json_string_at(json, "type")), "Sequence");
	size_t count = is_sequence ? json_array_size(items) : 1, used = 0;
	steps[0] = '\0';
	if (!json || json_is_null(json))
		return PITH_OK;
	if (count > MAX_STEPS || (is_sequence && !json_is_array(items)))
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "%s has %zu steps", name, count);
	for (size_t i = 0; i < count; i++) {
		const json_t *step = is_sequence ? json_array_get(items, i) : json;
		const char *type = json_string_at(step, "type");
		if (!type)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "%s has a step without a type",
			                 name);
		int n = describe_step(step, type, steps + used, STEPS_CAP - used);
		if (n < 0 || (size_t)n >= STEPS_CAP - used)
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "%s is too long to be known",
			                 name);
		used += (size_t)n;
	}
	return PITH_OK;
}

/* 'steps' is overwritten: the message shows it on one line. */
static pith_status unknown_steps(const char *name, char *steps, struct pith_error *err)
{
	for (char *c = strchr(steps, '\n'); c; c = strchr(c, '\n'))
		*c = c[1] ? ';' : '\0';
	return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "%s is not known: %.140s", name,
	                 steps[0] ? steps : "none");
}

pith_status import_tokenizer_rules(const json_t *root, struct tokenizer_parts *parts,
                                   struct pith_error *err)
{
	char steps[STEPS_CAP];
	const struct known_pretokenizer *pretokenizer = NULL;
	const struct known_normalizer *normalizer = NULL;
	PITH_TRY(describe(json_object_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", steps,
	                  err));
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(known_pretokenizers); i++)
		if (!strcmp(steps, known_pretokenizers[i].steps))
			pretokenizer = &known_pretokenizers[i];
	if (!pretokenizer)
		return unknown_steps("pre_tokenizer", steps, err);
	PITH_TRY(describe(json_object_get(root, "normalizer"), "normalizer", "normalizers", steps, err));
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(known_normalizers); i++)
		if (!strcmp(steps, known_normalizers[i].steps) &&
		    known_normalizers[i].kinds >> pretokenizer->kind & 1u)
			normalizer = &known_normalizers[i];
	/* one of the two has to mark the spaces, else this is another kind of vocabulary */
	uint32_t flags = normalizer ? pretokenizer->flags | normalizer->flags : 0;
	bool marks_spaces = pretokenizer->kind != TOKENIZER_SENTENCEPIECE || flags & TOKENIZER_SPACE_MARK;
	if (!normalizer || !marks_spaces)
		return unknown_steps("normalizer", steps, err);
	parts->kind = pretokenizer->kind;
	parts->pretokenizer = pretokenizer->pretokenizer;
	parts->flags |= flags;
	return PITH_OK;
}
