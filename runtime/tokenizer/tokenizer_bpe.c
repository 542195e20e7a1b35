/*
 * Byte-pair merging of one pretoken.
 *
 * Short words search the pair of lowest rank anew for each merge: quadratic in at most
 * SHORT_UNITS units, and faster than any structure.  Longer ones keep the pairs in a
 * binary heap over a linked list of units, so a megabyte of one letter is no attack.
 * Both follow spec/tokenizer.md section 4 step 6: lowest rank first, then leftmost.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pretokenize.h"
#include "tokenizer_blob.h"
#include "unicode_tables.h"

#include <stdlib.h>

#define SHORT_UNITS 64
#define NO_RANK UINT32_MAX
#define NO_UNIT UINT32_MAX

/* A unit of a long word.  'rank' and 'merged' are of the pair it forms with 'next'. */
struct unit {
	uint32_t id, prev, next;
	uint32_t rank, merged;
};

static void rank_pair(const struct pith_tokenizer *t, uint32_t left, uint32_t right, uint32_t *rank,
                      uint32_t *merged)
{
	const uint8_t *slot = tokenizer_find_merge(t, left, right);
	*rank = slot ? load_le32(slot + 8) : NO_RANK;
	*merged = slot ? load_le32(slot + 12) : PITH_TOKEN_NONE;
}

static pith_status put_ids(const struct pith_tokenizer *t, uint32_t id, struct token_sink *sink,
                           struct pith_error *err)
{
	if (id >= t->h.vocab_count)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "tokenizer.9",
		                 "a tokenizer table names id %u of %u", id, t->h.vocab_count);
	if (sink->count < sink->cap)
		sink->ids[sink->count] = id;
	sink->count++;
	return PITH_OK;
}

/* ---- Units ------------------------------------------------------------------------- */

/* The units of a word so far.  'lost': some byte had no token and is gone or unknown. */
struct unit_list {
	uint32_t *ids;
	size_t count;
	bool lost;
};

/* Append, leaving out unknown bytes and fusing unknown characters. */
static void put_unit(const struct pith_tokenizer *t, uint32_t id, struct unit_list *list)
{
	if (id == PITH_TOKEN_NONE) {
		list->lost = true;
		id = t->h.unk_id;
		if (id == PITH_TOKEN_NONE)
			return;
		if (t->h.flags & TOKENIZER_FUSE_UNK && list->count > 0 && list->ids[list->count - 1] == id)
			return;
	}
	list->ids[list->count++] = id;
}

/* One character from U+0080 up of kind 1: its token, its bytes' tokens or one unknown. */
static void put_character(const struct pith_tokenizer *t, const uint8_t *bytes, size_t nbytes,
                          struct unit_list *list)
{
	uint32_t id = tokenizer_find_text(t, bytes, nbytes);
	bool has_bytes = true;
	for (size_t i = 0; i < nbytes; i++)
		has_bytes = has_bytes && tokenizer_byte_id(t, bytes[i]) != PITH_TOKEN_NONE;
	if (id != PITH_TOKEN_NONE || !has_bytes) {
		put_unit(t, id, list);
		return;
	}
	for (size_t i = 0; i < nbytes; i++)
		put_unit(t, tokenizer_byte_id(t, bytes[i]), list);
}

/* The units of a word, at most one per byte.  ids: [nbytes]; their number in *count. */
static pith_status split_units(const struct pith_tokenizer *t, const uint8_t *bytes, size_t nbytes,
                               bool exact, uint32_t *ids, size_t *count, struct pith_error *err)
{
	struct unit_list list = {.ids = ids};
	for (size_t pos = 0; pos < nbytes;) {
		if (t->h.kind == TOKENIZER_BYTE_LEVEL || bytes[pos] < 0x80) {
			put_unit(t, tokenizer_byte_id(t, bytes[pos]), &list);
			pos++;
			continue;
		}
		struct unicode_char c = utf8_char(bytes + pos, nbytes - pos);
		put_character(t, bytes + pos, c.nbytes, &list);
		pos += c.nbytes;
	}
	*count = list.count;
	if (exact && list.lost)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "the vocabulary has no token for some byte, so it cannot encode this exactly");
	return PITH_OK;
}

/* ---- Short words ------------------------------------------------------------------- */

static pith_status merge_short(const struct pith_tokenizer *t, uint32_t *ids, size_t count,
                               struct token_sink *sink, struct pith_error *err)
{
	uint32_t ranks[SHORT_UNITS], merged[SHORT_UNITS];
	for (size_t i = 0; i + 1 < count; i++)
		rank_pair(t, ids[i], ids[i + 1], &ranks[i], &merged[i]);
	while (count > 1) {
		size_t best = 0;
		for (size_t i = 1; i + 1 < count; i++)
			if (ranks[i] < ranks[best])
				best = i;
		if (ranks[best] == NO_RANK)
			break;
		ids[best] = merged[best];
		size_t tail = count - best - 2;
		memmove(&ids[best + 1], &ids[best + 2], tail * sizeof(*ids));
		memmove(&ranks[best], &ranks[best + 1], tail * sizeof(*ranks));
		memmove(&merged[best], &merged[best + 1], tail * sizeof(*merged));
		count--;
		if (best + 1 < count)
			rank_pair(t, ids[best], ids[best + 1], &ranks[best], &merged[best]);
		if (best > 0)
			rank_pair(t, ids[best - 1], ids[best], &ranks[best - 1], &merged[best - 1]);
	}
	for (size_t i = 0; i < count; i++)
		PITH_TRY(put_ids(t, ids[i], sink, err));
	return PITH_OK;
}

/* ---- Long words -------------------------------------------------------------------- */

/* Keys are rank << 32 | unit, so the smallest is the lowest rank, then the leftmost. */
static void heap_push(uint64_t *heap, size_t *count, uint64_t key)
{
	size_t i = (*count)++;
	while (i > 0 && heap[(i - 1) / 2] > key) {
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
	uint64_t top = heap[0], key = heap[--*count];
	size_t i = 0;
	for (size_t child = 1; child < *count; child = 2 * i + 1) {
		if (child + 1 < *count && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= key)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = key;
	return top;
}

static void queue_pair(const struct pith_tokenizer *t, struct unit *units, uint32_t i, uint64_t *heap,
                       size_t *count)
{
	struct unit *u = &units[i];
	u->rank = NO_RANK;
	if (u->next == NO_UNIT)
		return;
	rank_pair(t, u->id, units[u->next].id, &u->rank, &u->merged);
	if (u->rank != NO_RANK)
		heap_push(heap, count, (uint64_t)u->rank << 32 | i);
}

/* Room for ids, units and heap of 'units' units; each merge queues at most two pairs. */
static pith_status reserve(struct bpe_scratch *scratch, size_t units, struct pith_error *err)
{
	if (units <= scratch->unit_cap)
		return PITH_OK;
	size_t nbytes;
	free(scratch->memory);
	*scratch = (struct bpe_scratch){0};
	const size_t each = 3 * sizeof(uint64_t) + sizeof(struct unit) + sizeof(uint32_t);
	bool fits = pith_mul_size(units, each, &nbytes);
	scratch->memory = fits ? malloc(nbytes) : NULL;
	if (!scratch->memory)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to encode a word of %zu bytes", units);
	scratch->unit_cap = units;
	return PITH_OK;
}

void bpe_scratch_free(struct bpe_scratch *scratch)
{
	free(scratch->memory);
	*scratch = (struct bpe_scratch){0};
}

/* heap: [3 * count], units: [count].  'count' > 1. */
static pith_status merge_long(const struct pith_tokenizer *t, const uint32_t *ids, size_t count,
                              uint64_t *heap, struct unit *units, struct token_sink *sink,
                              struct pith_error *err)
{
	size_t queued = 0;
	for (uint32_t i = 0; i < count; i++)
		units[i] = (struct unit){.id = ids[i], .prev = i - 1, .next = i + 1 < count ? i + 1 : NO_UNIT};
	for (uint32_t i = 0; i < count; i++)
		queue_pair(t, units, i, heap, &queued);
	while (queued > 0) {
		uint64_t key = heap_pop(heap, &queued);
		struct unit *u = &units[(uint32_t)key];
		/* a unit that was merged away, or whose pair has changed, has another rank by now */
		if (u->rank != (uint32_t)(key >> 32))
			continue;
		struct unit *gone = &units[u->next];
		u->id = u->merged;
		u->next = gone->next;
		gone->rank = NO_RANK;
		if (u->next != NO_UNIT)
			units[u->next].prev = (uint32_t)key;
		queue_pair(t, units, (uint32_t)key, heap, &queued);
		if (u->prev != NO_UNIT)
			queue_pair(t, units, u->prev, heap, &queued);
	}
	for (uint32_t i = 0; i != NO_UNIT; i = units[i].next)
		PITH_TRY(put_ids(t, units[i].id, sink, err));
	return PITH_OK;
}

pith_status bpe_encode_word(const struct pith_tokenizer *t, const uint8_t *bytes, size_t nbytes,
                            bool direct, bool exact, struct bpe_scratch *scratch,
                            struct token_sink *sink, struct pith_error *err)
{
	if (direct) {
		uint32_t id = tokenizer_find_text(t, bytes, nbytes);
		if (id != PITH_TOKEN_NONE && tokenizer_token_flags(t, id) & TOKEN_DIRECT)
			return put_ids(t, id, sink, err);
	}
	size_t count = 0;
	if (nbytes <= SHORT_UNITS) {
		uint32_t short_ids[SHORT_UNITS];
		PITH_TRY(split_units(t, bytes, nbytes, exact, short_ids, &count, err));
		return merge_short(t, short_ids, count, sink, err);
	}
	PITH_TRY(reserve(scratch, nbytes, err));
	uint64_t *heap = scratch->memory;
	struct unit *units = (struct unit *)(void *)(heap + 3 * nbytes);
	uint32_t *ids = (uint32_t *)(void *)(units + nbytes);
	PITH_TRY(split_units(t, bytes, nbytes, exact, ids, &count, err));
	return count == 0 ? PITH_OK : merge_long(t, ids, count, heap, units, sink, err);
}
