/*
 * The vocabulary, merges, added and special tokens of tokenizer.json.
 *
 * Token strings are turned into the bytes they decode to, once, here: byte-level strings
 * by GPT-2's byte alphabet, SentencePiece strings by U+2581 and <0xNN>.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "import_tokenizer.h"

#include "bytes.h"
#include "import_tokenizer_rules.h"
#include "tokenizer_blob.h"
#include "unicode_tables.h"

#include <jansson.h>
#include <stdlib.h>

/* Ids may leave gaps, but not so many that a small file asks for much memory. */
#define MAX_ID_GAPS 65536u

#define NO_BYTE 0xffffu
#define ALPHABET_COUNT 324u

struct import {
	json_t *root, *config, *model_config; /* the last two may be NULL */
	const json_t *model, *vocab;
	struct tokenizer_parts parts;
	uint32_t vocab_size; /* rows of the model; 0: not known */
	uint16_t byte_of[ALPHABET_COUNT]; /* GPT-2's alphabet: code point -> byte, or NO_BYTE */
	char *pair; /* scratch for the name of a merged token */
	size_t pair_cap;
	struct pith_error *err;
};

static pith_status corrupt(struct import *im, const char *what, const char *detail)
{
	return pith_fail(im->err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "tokenizer.json: %s: %.100s", what,
	                 detail);
}

static pith_status unsupported(struct import *im, const char *what, const char *detail)
{
	return pith_fail(im->err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
	                 "tokenizer.json: %s is not supported: %.100s", what, detail);
}

static pith_status no_memory(struct import *im)
{
	return pith_fail(im->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to import a tokenizer");
}

/* GPT-2 writes a byte as itself where that is a visible Latin-1 character, else from U+0100 up. */
static void fill_byte_alphabet(uint16_t byte_of[ALPHABET_COUNT])
{
	uint32_t next = 256;
	for (unsigned i = 0; i < ALPHABET_COUNT; i++)
		byte_of[i] = NO_BYTE;
	for (unsigned b = 0; b < 256; b++) {
		bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
		byte_of[visible ? b : next++] = (uint16_t)b;
	}
}

/* ---- Token strings to bytes -------------------------------------------------------- */

/* Byte-level: a string outside the alphabet stands for itself.  out: [nbytes]. */
static uint32_t decode_byte_level(const struct import *im, const uint8_t *s, size_t nbytes,
                                  uint8_t *out)
{
	uint32_t count = 0;
	for (size_t pos = 0; pos < nbytes;) {
		struct unicode_char c = utf8_char(s + pos, nbytes - pos);
		if (c.cp >= ALPHABET_COUNT || im->byte_of[c.cp] == NO_BYTE) {
			memcpy(out, s, nbytes);
			return (uint32_t)nbytes;
		}
		out[count++] = (uint8_t)im->byte_of[c.cp];
		pos += c.nbytes;
	}
	return count;
}

/* SentencePiece: U+2581 is a space.  out: [nbytes]. */
static uint32_t decode_sentencepiece(const uint8_t *s, size_t nbytes, uint8_t *out)
{
	uint32_t count = 0;
	for (size_t pos = 0; pos < nbytes; count++) {
		bool mark = nbytes - pos >= 3 && memcmp(s + pos, "\xe2\x96\x81", 3) == 0;
		out[count] = mark ? ' ' : s[pos];
		pos += mark ? 3 : 1;
	}
	return count;
}

/* The byte of "<0x0A>", or -1. */
static int fallback_byte(const char *s)
{
	static const char digits[] = "0123456789ABCDEF";
	if (strlen(s) != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
		return -1;
	const char *high = strchr(digits, s[3]), *low = strchr(digits, s[4]);
	return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* Give token 'id' its bytes from the string; 'literal': as it stands (added tokens). */
static pith_status set_token(struct import *im, uint32_t id, const char *string, bool literal,
                             unsigned flags)
{
	struct tokenizer_token *token = &im->parts.tokens[id];
	size_t nbytes = strlen(string);
	int byte = im->parts.kind == TOKENIZER_SENTENCEPIECE && !literal ? fallback_byte(string) : -1;
	if (nbytes > TOKENIZER_MAX_TOKEN_NBYTES)
		return unsupported(im, "a token of this length", string);
	free(token->bytes);
	*token = (struct tokenizer_token){.bytes = malloc(nbytes + 1), .flags = flags};
	if (!token->bytes)
		return no_memory(im);
	if (byte >= 0) {
		token->bytes[0] = (uint8_t)byte;
		token->nbytes = 1;
		token->flags |= TOKEN_BYTE;
	} else if (literal) {
		memcpy(token->bytes, string, nbytes);
		token->nbytes = (uint32_t)nbytes;
	} else if (im->parts.kind == TOKENIZER_BYTE_LEVEL) {
		token->nbytes = decode_byte_level(im, (const uint8_t *)string, nbytes, token->bytes);
	} else {
		token->nbytes = decode_sentencepiece((const uint8_t *)string, nbytes, token->bytes);
	}
	return PITH_OK;
}

/* ---- Vocabulary -------------------------------------------------------------------- */

/* Largest id + 1 over vocabulary and added tokens, cut at the model's rows. */
static pith_status count_tokens(struct import *im, size_t *count)
{
	const char *key;
	json_t *value;
	size_t i;
	json_int_t last = -1, last_added = -1;
	const json_t *added = json_object_get(im->root, "added_tokens");
	json_int_t limit = (json_int_t)(json_object_size(im->vocab) + json_array_size(added) + MAX_ID_GAPS);
	json_object_foreach((json_t *)im->vocab, key, value) {
		if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		    json_integer_value(value) >= limit)
			return corrupt(im, "no sensible id for token", key);
		if (json_integer_value(value) > last)
			last = json_integer_value(value);
	}
	json_array_foreach((json_t *)added, i, value) {
		const json_t *id = json_object_get(value, "id");
		const char *content = json_string_at(value, "content");
		if (!content || !content[0] || !json_is_integer(id) || json_integer_value(id) < 0 ||
		    json_integer_value(id) >= limit)
			return corrupt(im, "no sensible id for an added token", content ? content : "");
		if (json_integer_value(id) > last_added)
			last_added = json_integer_value(id);
	}
	if (im->vocab_size != 0 && last >= (json_int_t)im->vocab_size)
		return corrupt(im, "vocabulary is larger than config.json says", "vocab_size");
	*count = (size_t)(last > last_added ? last : last_added) + 1;
	if (im->vocab_size != 0)
		*count = im->vocab_size;
	if (*count == 0 || *count > TOKENIZER_MAX_VOCAB)
		return unsupported(im, "a vocabulary of this size", "0 or above 16777216");
	return PITH_OK;
}

static pith_status import_vocab(struct import *im)
{
	const char *key;
	json_t *value;
	size_t count = 0;
	PITH_TRY(count_tokens(im, &count));
	im->parts.tokens = calloc(count, sizeof(*im->parts.tokens));
	if (!im->parts.tokens)
		return no_memory(im);
	im->parts.token_count = count;
	json_object_foreach((json_t *)im->vocab, key, value) {
		uint32_t id = (uint32_t)json_integer_value(value);
		if (im->parts.tokens[id].bytes)
			return corrupt(im, "two tokens have one id", key);
		PITH_TRY(set_token(im, id, key, false, 0));
	}
	return PITH_OK;
}

static uint32_t vocab_id(const struct import *im, const char *string)
{
	const json_t *id = json_object_get(im->vocab, string);
	return id ? (uint32_t)json_integer_value(id) : PITH_TOKEN_NONE;
}

/* Look up left, right and both joined.  im->pair has room for them and two more bytes. */
static bool resolve_merge(const struct import *im, const char *left, size_t left_nbytes,
                          const char *right, struct tokenizer_merge *m)
{
	memcpy(im->pair, left, left_nbytes);
	im->pair[left_nbytes] = '\0';
	m->left = vocab_id(im, im->pair);
	m->right = vocab_id(im, right);
	memcpy(im->pair + left_nbytes, right, strlen(right) + 1);
	m->merged = vocab_id(im, im->pair);
	return m->left != PITH_TOKEN_NONE && m->right != PITH_TOKEN_NONE && m->merged != PITH_TOKEN_NONE;
}

/* "a b" or ["a", "b"].  Names with spaces make the first form ambiguous: the first cut that works. */
static pith_status import_merge(struct import *im, const json_t *json, struct tokenizer_merge *m)
{
	const char *text = json_string_value(json);
	const char *left = text ? text : json_string_value(json_array_get(json, 0));
	const char *right = text ? strchr(text, ' ') : json_string_value(json_array_get(json, 1));
	if (!left || !right || (!text && json_array_size(json) != 2))
		return corrupt(im, "a merge is not a pair of tokens", left ? left : "");
	size_t need = strlen(left) + strlen(right) + 2;
	if (need > im->pair_cap) {
		char *grown = realloc(im->pair, 2 * need);
		if (!grown)
			return no_memory(im);
		im->pair = grown;
		im->pair_cap = 2 * need;
	}
	if (!text && resolve_merge(im, left, strlen(left), right, m))
		return PITH_OK;
	for (; text && right; right = strchr(right + 1, ' '))
		if (resolve_merge(im, left, (size_t)(right - left), right + 1, m))
			return PITH_OK;
	return corrupt(im, "a merge names a token that the vocabulary lacks", left);
}

static pith_status import_merges(struct import *im)
{
	const json_t *merges = json_object_get(im->model, "merges");
	size_t count = json_array_size(merges);
	if (!json_is_array(merges))
		return corrupt(im, "model.merges is missing", "no array");
	im->parts.merges = calloc(count + 1, sizeof(*im->parts.merges));
	if (!im->parts.merges)
		return no_memory(im);
	for (; im->parts.merge_count < count; im->parts.merge_count++)
		PITH_TRY(import_merge(im, json_array_get(merges, im->parts.merge_count),
		                      &im->parts.merges[im->parts.merge_count]));
	return PITH_OK;
}

/* Plain text never makes a control token, so merges that would are left out. */
static void drop_control_merges(struct tokenizer_parts *parts)
{
	size_t kept = 0;
	for (size_t i = 0; i < parts->merge_count; i++) {
		struct tokenizer_merge m = parts->merges[i];
		unsigned flags = parts->tokens[m.left].flags | parts->tokens[m.right].flags |
		                 parts->tokens[m.merged].flags;
		if (!(flags & TOKEN_CONTROL))
			parts->merges[kept++] = m;
	}
	parts->merge_count = kept;
}

static void find_byte_ids(struct tokenizer_parts *parts)
{
	for (unsigned b = 0; b < 256; b++)
		parts->byte_ids[b] = PITH_TOKEN_NONE;
	/* fallback tokens first; of kind 1 only ASCII characters are units of one byte */
	for (unsigned wanted = TOKEN_BYTE;; wanted = 0) {
		for (size_t id = parts->token_count; id-- > 0;) {
			const struct tokenizer_token *token = &parts->tokens[id];
			if (token->nbytes == 1 && token->flags == wanted)
				parts->byte_ids[token->bytes[0]] = (uint32_t)id;
		}
		if (wanted == 0)
			return;
	}
}

/* ---- Added and special tokens ------------------------------------------------------ */

static pith_status import_added(struct import *im)
{
	const json_t *list = json_object_get(im->root, "added_tokens");
	const json_t *item;
	size_t i;
	im->parts.added = calloc(json_array_size(list) + 1, sizeof(*im->parts.added));
	if (!im->parts.added)
		return no_memory(im);
	json_array_foreach(list, i, item) {
		uint32_t id = (uint32_t)json_integer_value(json_object_get(item, "id"));
		const char *content = json_string_at(item, "content");
		struct tokenizer_added added = {.id = id};
		if (id >= im->parts.token_count)
			continue;
		if (json_is_true_at(item, "single_word"))
			return unsupported(im, "single_word of an added token", content);
		if (im->parts.tokens[id].flags & (TOKEN_ADDED | TOKEN_CONTROL))
			return corrupt(im, "two added tokens have one id", content);
		added.flags |= json_is_true_at(item, "lstrip") ? ADDED_LSTRIP : 0u;
		added.flags |= json_is_true_at(item, "rstrip") ? ADDED_RSTRIP : 0u;
		PITH_TRY(set_token(im, id, content, true,
		                   json_is_true_at(item, "special") ? TOKEN_CONTROL : TOKEN_ADDED));
		im->parts.added[im->parts.added_count++] = added;
	}
	return PITH_OK;
}

/* Id of the added or vocabulary token with this text, or none. */
static uint32_t find_id(const struct import *im, const char *string)
{
	const json_t *item;
	size_t i;
	if (!string)
		return PITH_TOKEN_NONE;
	json_array_foreach(json_object_get(im->root, "added_tokens"), i, item) {
		json_int_t id = json_integer_value(json_object_get(item, "id"));
		if (!strcmp(json_string_at(item, "content"), string) && (size_t)id < im->parts.token_count)
			return (uint32_t)id;
	}
	return vocab_id(im, string);
}

/* "<s>" or {"content": "<s>"} of tokenizer_config.json; else the first id of config.json's field. */
static uint32_t special_id(const struct import *im, const char *token_key, const char *id_key)
{
	const json_t *token = json_object_get(im->config, token_key);
	const char *string = json_string_value(token);
	if (json_is_object(token))
		string = json_string_at(token, "content");
	if (string)
		return find_id(im, string);
	const json_t *id = json_object_get(im->model_config, id_key);
	if (json_is_array(id))
		id = json_array_get(id, 0);
	if (token || !json_is_integer(id) || json_integer_value(id) < 0 ||
	    json_integer_value(id) >= (json_int_t)im->parts.token_count)
		return PITH_TOKEN_NONE;
	return (uint32_t)json_integer_value(id);
}

/* The TemplateProcessing of the post-processor, alone or in a Sequence, or NULL. */
static const json_t *find_template(const json_t *processor)
{
	const json_t *item;
	size_t i;
	const char *type = json_string_at(processor, "type");
	if (type && !strcmp(type, "TemplateProcessing"))
		return processor;
	json_array_foreach(json_object_get(processor, "processors"), i, item) {
		type = json_string_at(item, "type");
		if (type && !strcmp(type, "TemplateProcessing"))
			return item;
	}
	return NULL;
}

/* Id of the template's special token at 'index', or none if there stands something else. */
static uint32_t template_id(const struct import *im, const json_t *template, size_t index)
{
	const json_t *item = json_array_get(json_object_get(template, "single"), index);
	const char *name = json_string_at(json_object_get(item, "SpecialToken"), "id");
	const json_t *specials = json_object_get(template, "special_tokens");
	const json_t *special = json_object_get(specials, name ? name : "");
	const json_t *ids = json_object_get(special, "ids");
	json_int_t id = json_integer_value(json_array_get(ids, 0));
	if (!name || json_array_size(ids) != 1 || id < 0 || id >= (json_int_t)im->parts.token_count)
		return PITH_TOKEN_NONE;
	return (uint32_t)id;
}

/* What the template puts around the text, unless tokenizer_config.json says add_*_token. */
static void import_specials(struct import *im)
{
	struct tokenizer_parts *parts = &im->parts;
	const json_t *template = find_template(json_object_get(im->root, "post_processor"));
	size_t count = json_array_size(json_object_get(template, "single"));
	uint32_t first = template_id(im, template, 0);
	uint32_t last = count > 1 ? template_id(im, template, count - 1) : PITH_TOKEN_NONE;
	const json_t *add_bos = json_object_get(im->config, "add_bos_token");
	const json_t *add_eos = json_object_get(im->config, "add_eos_token");
	parts->bos_id = special_id(im, "bos_token", "bos_token_id");
	parts->eos_id = special_id(im, "eos_token", "eos_token_id");
	parts->pad_id = special_id(im, "pad_token", "pad_token_id");
	parts->unk_id = find_id(im, json_string_at(im->model, "unk_token"));
	if (first != PITH_TOKEN_NONE && !json_is_boolean(add_bos))
		parts->bos_id = first;
	if (last != PITH_TOKEN_NONE && !json_is_boolean(add_eos))
		parts->eos_id = last;
	if (json_is_boolean(add_bos) ? json_is_true(add_bos) : first != PITH_TOKEN_NONE)
		parts->flags |= TOKENIZER_ADD_BOS;
	if (json_is_boolean(add_eos) ? json_is_true(add_eos) : last != PITH_TOKEN_NONE)
		parts->flags |= TOKENIZER_ADD_EOS;
}

/* ---- The file ---------------------------------------------------------------------- */

/* Options of the BPE model that would change its meaning. */
static pith_status check_model(struct import *im)
{
	static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const char *type = json_string_at(im->model, "type");
	/* older files have no type: merges tell BPE, and a vocabulary of pairs is Unigram's */
	if (!type)
		type = json_object_get(im->model, "merges") ? "BPE"
		       : json_is_array(im->vocab)            ? "Unigram"
		                                             : "(none)";
	if (strcmp(type, "BPE") != 0)
		return unsupported(im, "model type", type);
	if (!json_is_object(im->vocab))
		return corrupt(im, "model.vocab is missing", "no object");
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(affixes); i++) {
		const char *affix = json_string_at(im->model, affixes[i]);
		if (affix && affix[0])
			return unsupported(im, affixes[i], affix);
	}
	if (json_is_true_at(im->model, "fuse_unk"))
		im->parts.flags |= TOKENIZER_FUSE_UNK;
	if (json_is_true_at(im->model, "ignore_merges"))
		im->parts.flags |= TOKENIZER_IGNORE_MERGES;
	return PITH_OK;
}

static pith_status load_json(const char *text, size_t nbytes, const char *name, json_t **out,
                             struct pith_error *err)
{
	json_error_t fault;
	*out = json_loadb(text, nbytes, 0, &fault);
	if (!*out || !json_is_object(*out))
		return pith_fail(err, PITH_E_CORRUPT, *out ? 0 : (uint64_t)fault.position, NULL,
		                 "%s is not a JSON object: %.100s", name, *out ? "another value" : fault.text);
	return PITH_OK;
}

static pith_status import_all(struct import *im, const struct import_tokenizer_files *files,
                              uint8_t **blob, size_t *blob_nbytes)
{
	PITH_TRY(load_json(files->tokenizer_json, files->tokenizer_nbytes, "tokenizer.json", &im->root,
	                   im->err));
	if (files->tokenizer_config)
		PITH_TRY(load_json(files->tokenizer_config, files->tokenizer_config_nbytes,
		                   "tokenizer_config.json", &im->config, im->err));
	if (files->model_config) {
		PITH_TRY(load_json(files->model_config, files->model_config_nbytes, "config.json",
		                   &im->model_config, im->err));
		json_int_t rows = json_integer_value(json_object_get(im->model_config, "vocab_size"));
		if (rows < 0 || rows > TOKENIZER_MAX_VOCAB)
			return unsupported(im, "vocab_size of config.json", "negative or above 16777216");
		im->vocab_size = (uint32_t)rows;
	}
	im->model = json_object_get(im->root, "model");
	im->vocab = json_object_get(im->model, "vocab");
	fill_byte_alphabet(im->byte_of);
	PITH_TRY(check_model(im));
	PITH_TRY(import_tokenizer_rules(im->root, &im->parts, im->err));
	PITH_TRY(import_vocab(im));
	PITH_TRY(import_merges(im));
	PITH_TRY(import_added(im));
	drop_control_merges(&im->parts);
	find_byte_ids(&im->parts);
	import_specials(im);
	return tokenizer_build(&im->parts, blob, blob_nbytes, im->err);
}

pith_status import_tokenizer(const struct import_tokenizer_files *files, uint8_t **blob,
                             size_t *blob_nbytes, struct pith_error *err)
{
	struct import im = {.err = err};
	*blob = NULL;
	*blob_nbytes = 0;
	pith_status status = import_all(&im, files, blob, blob_nbytes);
	for (size_t i = 0; i < im.parts.token_count; i++)
		free(im.parts.tokens[i].bytes);
	free(im.parts.tokens);
	free(im.parts.merges);
	free(im.parts.added);
	free(im.pair);
	json_decref(im.root);
	json_decref(im.config);
	json_decref(im.model_config);
	return status;
}

pith_status import_tokenizer_json(const char *json, size_t nbytes, const char *config_json,
                                  size_t config_nbytes, uint8_t **blob, size_t *blob_nbytes,
                                  struct pith_error *err)
{
	const struct import_tokenizer_files files = {
	    .tokenizer_json = json,
	    .tokenizer_nbytes = nbytes,
	    .tokenizer_config = config_json,
	    .tokenizer_config_nbytes = config_nbytes,
	};
	return import_tokenizer(&files, blob, blob_nbytes, err);
}
