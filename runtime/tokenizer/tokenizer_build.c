/*
 * The tokenizer blob's builder.  Tables are filled at two thirds and grown until no
 * look-up needs more than the spec's probes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tokenizer_build.h"

#include "pretokenize.h"
#include "tokenizer_blob.h"

#include <stdlib.h>

#define NO_SLOT UINT32_MAX

/* ---- Sizes ------------------------------------------------------------------------- */

static bool is_plain(const struct tokenizer_token *token)
{
	const unsigned hidden = TOKEN_CONTROL | TOKEN_BYTE | TOKEN_UNUSED | TOKEN_ADDED;
	return token->nbytes > 0 && !(token->flags & hidden);
}

/* Can text be cut before spaces without changing what merges give? (rule tokenizer.14) */
static bool allows_space_runs(const struct tokenizer_parts *parts)
{
	bool lossless = true;
	for (unsigned b = 0; b < 256; b++)
		lossless = lossless && parts->byte_ids[b] != PITH_TOKEN_NONE;
	if (parts->byte_ids[' '] == PITH_TOKEN_NONE || (!lossless && parts->unk_id == PITH_TOKEN_NONE))
		return false;
	for (size_t i = 0; i < parts->merge_count; i++) {
		const struct tokenizer_token *left = &parts->tokens[parts->merges[i].left];
		const struct tokenizer_token *right = &parts->tokens[parts->merges[i].right];
		if (left->nbytes && right->nbytes && left->bytes[left->nbytes - 1] != ' ' &&
		    right->bytes[0] == ' ')
			return false;
	}
	return true;
}

static pith_status size_header(const struct tokenizer_parts *parts, struct tokenizer_header *h,
                               struct pith_error *err)
{
	uint64_t total = 0;
	uint32_t longest = 1;
	if (parts->token_count == 0 || parts->token_count > TOKENIZER_MAX_VOCAB ||
	    parts->merge_count > TOKENIZER_MAX_VOCAB || parts->added_count > TOKENIZER_MAX_ADDED)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "tokenizer.3",
		                 "%zu tokens, %zu merges, %zu added tokens are more than the format holds",
		                 parts->token_count, parts->merge_count, parts->added_count);
	for (size_t i = 0; i < parts->token_count; i++) {
		total += parts->tokens[i].nbytes;
		if (parts->tokens[i].nbytes > longest)
			longest = parts->tokens[i].nbytes;
	}
	if (total > TOKENIZER_MAX_BYTES || longest > TOKENIZER_MAX_TOKEN_NBYTES)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "tokenizer.3",
		                 "token texts of %llu bytes, the longest of %u, are more than the format holds",
		                 (unsigned long long)total, longest);
	*h = (struct tokenizer_header){
	    .kind = parts->kind,
	    .pretokenizer = parts->pretokenizer,
	    .flags = parts->flags,
	    .vocab_count = (uint32_t)parts->token_count,
	    .token_bytes_nbytes = (uint32_t)total,
	    .added_count = (uint32_t)parts->added_count,
	    .max_token_nbytes = longest,
	    .bos_id = parts->bos_id,
	    .eos_id = parts->eos_id,
	    .unk_id = parts->unk_id,
	    .pad_id = parts->pad_id,
	};
	if (h->kind == TOKENIZER_SENTENCEPIECE && h->pretokenizer == PRETOKENIZER_NONE &&
	    allows_space_runs(parts))
		h->pretokenizer = PRETOKENIZER_SPACE_RUNS;
	return PITH_OK;
}

/* ---- Tables ------------------------------------------------------------------------ */

/*
 * Slot of the key or of the empty place for it, over indices table: [slot_count]; *probes
 * counts from 1.  'equal' compares item i of the list with 'item'.
 */
static uint32_t table_slot(const uint32_t *table, uint32_t slot_count, uint32_t hash,
                           const struct tokenizer_parts *parts, uint32_t item,
                           bool (*equal)(const struct tokenizer_parts *, uint32_t, uint32_t),
                           uint32_t *probes)
{
	uint32_t i = tokenizer_slot(hash, slot_count);
	for (*probes = 1; table[i] != NO_SLOT && !equal(parts, table[i], item); ++*probes)
		i = i + 1 == slot_count ? 0 : i + 1;
	return i;
}

static bool same_text(const struct tokenizer_parts *parts, uint32_t a, uint32_t b)
{
	const struct tokenizer_token *x = &parts->tokens[a], *y = &parts->tokens[b];
	return x->nbytes == y->nbytes && memcmp(x->bytes, y->bytes, x->nbytes) == 0;
}

static bool same_pair(const struct tokenizer_parts *parts, uint32_t a, uint32_t b)
{
	const struct tokenizer_merge *x = &parts->merges[a], *y = &parts->merges[b];
	return x->left == y->left && x->right == y->right;
}

static uint32_t text_hash_of(const struct tokenizer_parts *parts, uint32_t i)
{
	return tokenizer_text_hash(parts->tokens[i].bytes, parts->tokens[i].nbytes);
}

static uint32_t merge_hash_of(const struct tokenizer_parts *parts, uint32_t i)
{
	return tokenizer_merge_hash(parts->merges[i].left, parts->merges[i].right);
}

/* One hash table in the making: indices into parts->tokens or parts->merges, by slot. */
struct index_table {
	uint32_t *slots;
	uint32_t slot_count, count, max_probe;
};

/* Items 0 .. item_count - 1 that 'wanted' (NULL: all) lets in; of equals the first, or the last. */
static pith_status fill_table(const struct tokenizer_parts *parts, size_t item_count, bool last_wins,
                              bool texts, struct index_table *table, struct pith_error *err)
{
	for (uint64_t slots = (uint64_t)item_count * 3 / 2 + 2;; slots = slots * 5 / 4 + 1) {
		free(table->slots);
		*table = (struct index_table){.max_probe = 1};
		if (slots > TOKENIZER_MAX_SLOTS)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "tokenizer.3",
			                 "a tokenizer table of %zu entries does not fit", item_count);
		table->slot_count = (uint32_t)slots;
		table->slots = malloc((size_t)slots * sizeof(*table->slots));
		if (!table->slots)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a tokenizer table");
		memset(table->slots, 0xff, (size_t)slots * sizeof(*table->slots));
		for (size_t n = 0; n < item_count && table->max_probe <= TOKENIZER_MAX_PROBE; n++) {
			uint32_t item = (uint32_t)n, probes;
			if (texts && !is_plain(&parts->tokens[item]))
				continue;
			uint32_t hash = texts ? text_hash_of(parts, item) : merge_hash_of(parts, item);
			uint32_t slot = table_slot(table->slots, table->slot_count, hash, parts, item,
			                           texts ? same_text : same_pair, &probes);
			if (table->slots[slot] == NO_SLOT)
				table->count++;
			if (table->slots[slot] == NO_SLOT || last_wins)
				table->slots[slot] = item;
			if (probes > table->max_probe)
				table->max_probe = probes;
		}
		if (table->max_probe <= TOKENIZER_MAX_PROBE)
			return PITH_OK;
	}
}

/* ---- Arrays ------------------------------------------------------------------------ */

static void store_header(uint8_t *p, const struct tokenizer_header *h)
{
	const uint32_t fields[] = {
	    0, h->kind, h->pretokenizer, h->flags, h->vocab_count, h->token_bytes_nbytes, h->merge_count,
	    h->merge_slot_count, h->merge_max_probe, h->text_count, h->text_slot_count, h->text_max_probe,
	    h->added_count, h->max_token_nbytes, h->bos_id, h->eos_id, h->unk_id, h->pad_id};
	memcpy(p, "PTOK", 4);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(fields); i++)
		store_le32(p + 4 + 4 * i, fields[i]);
}

static void store_tokens(uint8_t *blob, const struct tokenizer_layout *at,
                         const struct tokenizer_parts *parts)
{
	uint32_t off = 0;
	for (size_t i = 0; i < parts->token_count; i++) {
		const struct tokenizer_token *token = &parts->tokens[i];
		store_le32(blob + at->token_off + 4 * i, off);
		if (token->nbytes)
			memcpy(blob + at->token_bytes + off, token->bytes, token->nbytes);
		blob[at->token_flags + i] = token->nbytes ? (uint8_t)token->flags : TOKEN_UNUSED;
		off += token->nbytes;
	}
	store_le32(blob + at->token_off + 4 * parts->token_count, off);
	for (size_t b = 0; b < 256; b++)
		store_le32(blob + at->byte_ids + 4 * b, parts->byte_ids[b]);
}

/* Ranks are dense: a merge that a later one replaced has none.  rank_of: [merge_count], zero. */
static void store_merges(uint8_t *slots, const struct index_table *table,
                         const struct tokenizer_parts *parts, uint32_t *rank_of)
{
	uint32_t rank = 0;
	for (uint32_t i = 0; i < table->slot_count; i++)
		if (table->slots[i] != NO_SLOT)
			rank_of[table->slots[i]] = 1;
	for (size_t i = 0; i < parts->merge_count; i++)
		if (rank_of[i])
			rank_of[i] = rank++;
	for (uint32_t i = 0; i < table->slot_count; i++, slots += 16) {
		memset(slots, 0xff, 4);
		if (table->slots[i] == NO_SLOT)
			continue;
		const struct tokenizer_merge *m = &parts->merges[table->slots[i]];
		store_le32(slots, m->left);
		store_le32(slots + 4, m->right);
		store_le32(slots + 8, rank_of[table->slots[i]]);
		store_le32(slots + 12, m->merged);
	}
}

static void store_texts(uint8_t *slots, const struct index_table *table,
                        const struct tokenizer_parts *parts)
{
	for (uint32_t i = 0; i < table->slot_count; i++, slots += 8) {
		store_le32(slots + 4, table->slots[i]);
		if (table->slots[i] != NO_SLOT)
			store_le32(slots, text_hash_of(parts, table->slots[i]));
	}
}

/* An added token with its sort key beside it, for qsort. */
struct added_key {
	uint32_t first_byte, nbytes;
	struct tokenizer_added added;
};

static int compare_added(const void *a, const void *b)
{
	const struct added_key *x = a, *y = b;
	if (x->first_byte != y->first_byte)
		return x->first_byte < y->first_byte ? -1 : 1;
	if (x->nbytes != y->nbytes)
		return x->nbytes > y->nbytes ? -1 : 1;
	return (x->added.id > y->added.id) - (x->added.id < y->added.id);
}

static pith_status store_added(uint8_t *blob, const struct tokenizer_layout *at,
                               const struct tokenizer_parts *parts, struct pith_error *err)
{
	struct added_key *keys = malloc((parts->added_count + 1) * sizeof(*keys));
	uint32_t starts[257] = {0};
	if (!keys)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for added tokens");
	for (size_t i = 0; i < parts->added_count; i++) {
		const struct tokenizer_token *token = &parts->tokens[parts->added[i].id];
		uint32_t first = token->nbytes ? token->bytes[0] : 0;
		keys[i] = (struct added_key){first, token->nbytes, parts->added[i]};
		starts[first + 1]++;
	}
	qsort(keys, parts->added_count, sizeof(*keys), compare_added);
	for (size_t i = 0; i < parts->added_count; i++) {
		store_le32(blob + at->added + 8 * i, keys[i].added.id);
		store_le32(blob + at->added + 8 * i + 4, keys[i].added.flags);
	}
	for (size_t b = 0; b < 257; b++) {
		starts[b] += b ? starts[b - 1] : 0;
		store_le32(blob + at->added_first + 4 * b, starts[b]);
	}
	free(keys);
	return PITH_OK;
}

/* Mark the tokens that encode to themselves, then hold the whole blob against the rules. */
static pith_status finish(uint8_t *blob, size_t nbytes, struct pith_error *err)
{
	struct pith_tokenizer *t;
	struct bpe_scratch scratch = {0};
	PITH_TRY(pith_tokenizer_open(blob, nbytes, &t, err));
	pith_status status = PITH_OK;
	for (uint32_t id = 0; id < t->h.vocab_count && status == PITH_OK; id++) {
		size_t token_nbytes;
		uint32_t first = id;
		const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &token_nbytes);
		struct token_sink sink = {&first, 1, 1};
		if (!bytes || token_nbytes == 0 || tokenizer_find_text(t, bytes, token_nbytes) != id)
			continue;
		if (!(t->h.flags & TOKENIZER_IGNORE_MERGES)) {
			sink.count = 0;
			status = bpe_encode_word(t, bytes, token_nbytes, false, false, &scratch, &sink, err);
		}
		if (sink.count == 1 && first == id)
			blob[t->at.token_flags + id] |= TOKEN_DIRECT;
	}
	bpe_scratch_free(&scratch);
	if (status == PITH_OK)
		status = pith_tokenizer_check(t, err);
	pith_tokenizer_close(t);
	return status;
}

pith_status tokenizer_build(struct tokenizer_parts *parts, uint8_t **blob, size_t *blob_nbytes,
                            struct pith_error *err)
{
	struct tokenizer_header h = {0};
	struct index_table merges = {0}, texts = {0};
	uint8_t *out = NULL;
	uint32_t *rank_of = NULL;
	*blob = NULL;
	*blob_nbytes = 0;
	PITH_TRY(size_header(parts, &h, err));
	pith_status status = fill_table(parts, parts->merge_count, true, false, &merges, err);
	if (status == PITH_OK)
		status = fill_table(parts, parts->token_count, false, true, &texts, err);
	if (status != PITH_OK)
		goto done;
	h.merge_count = merges.count;
	h.merge_slot_count = merges.slot_count;
	h.merge_max_probe = merges.max_probe;
	h.text_count = texts.count;
	h.text_slot_count = texts.slot_count;
	h.text_max_probe = texts.max_probe;
	struct tokenizer_layout at = tokenizer_layout_of(&h);
	out = calloc(1, (size_t)at.end);
	rank_of = calloc(parts->merge_count + 1, sizeof(*rank_of));
	if (!out || !rank_of) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a tokenizer blob");
		goto done;
	}
	store_header(out, &h);
	store_tokens(out, &at, parts);
	store_merges(out + at.merge_slots, &merges, parts, rank_of);
	store_texts(out + at.text_slots, &texts, parts);
	status = store_added(out, &at, parts, err);
	if (status == PITH_OK)
		status = finish(out, (size_t)at.end, err);
	if (status == PITH_OK) {
		*blob = out;
		*blob_nbytes = (size_t)at.end;
		out = NULL;
	}
done:
	free(out);
	free(rank_of);
	free(merges.slots);
	free(texts.slots);
	return status;
}
