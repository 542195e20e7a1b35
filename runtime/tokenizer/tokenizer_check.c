/*
 * Every rule of spec/tokenizer.md that open leaves out, for `pith verify` and the builder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pretokenize.h"
#include "tokenizer_blob.h"

#include <stdlib.h>

/* spec tokenizer.5: "Padding between and after the arrays is zero." */
static pith_status check_padding(const struct pith_tokenizer *t, struct pith_error *err)
{
	const struct tokenizer_layout *at = &t->at;
	const struct tokenizer_header *h = &t->h;
	const uint64_t gaps[8][2] = {
	    {at->token_off + 4 * ((uint64_t)h->vocab_count + 1), at->token_bytes},
	    {at->token_bytes + h->token_bytes_nbytes, at->token_flags},
	    {at->token_flags + h->vocab_count, at->byte_ids},
	    {at->byte_ids + 4 * 256, at->merge_slots},
	    {at->merge_slots + 16 * (uint64_t)h->merge_slot_count, at->text_slots},
	    {at->text_slots + 8 * (uint64_t)h->text_slot_count, at->added_first},
	    {at->added_first + 4 * 257, at->added},
	    {at->added + 8 * (uint64_t)h->added_count, at->end},
	};
	for (unsigned i = 0; i < 8; i++)
		for (uint64_t off = gaps[i][0]; off < gaps[i][1]; off++)
			if (t->blob[off] != 0)
				return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.5", "padding byte is %u, not 0",
				                 t->blob[off]);
	return PITH_OK;
}

static pith_status check_tokens(const struct pith_tokenizer *t, struct pith_error *err)
{
	const uint8_t *off = t->blob + t->at.token_off;
	if (load_le32(off) != 0 || load_le32(off + 4 * (size_t)t->h.vocab_count) != t->h.token_bytes_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, t->at.token_off, "tokenizer.6",
		                 "token offsets do not span the %u token bytes", t->h.token_bytes_nbytes);
	for (uint32_t id = 0; id < t->h.vocab_count; id++) {
		size_t nbytes;
		unsigned flags = tokenizer_token_flags(t, id);
		if (!pith_tokenizer_token_bytes(t, id, &nbytes))
			return pith_fail(err, PITH_E_CORRUPT, t->at.token_off + 4 * (uint64_t)id, "tokenizer.6",
			                 "bytes of token %u lie outside the token bytes or are too many", id);
		/* spec tokenizer.7: "a token has no bytes exactly if it is UNUSED, and UNUSED stands alone" */
		bool unused = (flags & TOKEN_UNUSED) != 0;
		if (flags & ~(unsigned)TOKEN_KNOWN_FLAGS || unused != (nbytes == 0) ||
		    (unused && flags != TOKEN_UNUSED))
			return pith_fail(err, PITH_E_CORRUPT, t->at.token_flags + id, "tokenizer.7",
			                 "flags %#x of token %u of %zu bytes", flags, id, nbytes);
	}
	return PITH_OK;
}

/* spec tokenizer.8: "byte_ids[b] is ffffffff or a token whose bytes are the one byte b" */
static pith_status check_byte_ids(const struct pith_tokenizer *t, struct pith_error *err)
{
	for (unsigned b = 0; b < 256; b++) {
		uint32_t id = tokenizer_byte_id(t, (uint8_t)b);
		size_t nbytes;
		if (id == PITH_TOKEN_NONE)
			continue;
		const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &nbytes);
		if (!bytes || nbytes != 1 || bytes[0] != b ||
		    tokenizer_token_flags(t, id) & (TOKEN_CONTROL | TOKEN_ADDED))
			return pith_fail(err, PITH_E_CORRUPT, t->at.byte_ids + 4 * b, "tokenizer.8",
			                 "id %u does not stand for byte %u", id, b);
	}
	return PITH_OK;
}

/* Do left, right and merged fit: ids, flags and merged's bytes the two others' joined? */
static bool is_sound_merge(const struct pith_tokenizer *t, const uint32_t ids[3])
{
	const uint8_t *bytes[3];
	size_t nbytes[3];
	for (unsigned i = 0; i < 3; i++) {
		bytes[i] = pith_tokenizer_token_bytes(t, ids[i], &nbytes[i]);
		if (!bytes[i] || nbytes[i] == 0 || tokenizer_token_flags(t, ids[i]) & TOKEN_CONTROL)
			return false;
	}
	return nbytes[2] == nbytes[0] + nbytes[1] && memcmp(bytes[2], bytes[0], nbytes[0]) == 0 &&
	       memcmp(bytes[2] + nbytes[0], bytes[1], nbytes[1]) == 0;
}

/* spec tokenizer.14: "With space-runs no merge joins a left token that ends in another byte" */
static bool crosses_space(const struct pith_tokenizer *t, uint32_t left, uint32_t right)
{
	size_t left_nbytes, right_nbytes;
	const uint8_t *l = pith_tokenizer_token_bytes(t, left, &left_nbytes);
	const uint8_t *r = pith_tokenizer_token_bytes(t, right, &right_nbytes);
	return t->h.pretokenizer == PRETOKENIZER_SPACE_RUNS && l[left_nbytes - 1] != ' ' && r[0] == ' ';
}

/* spec tokenizer.9: "ranks are 0 .. merge_count - 1, each once; a look-up finds each" */
static pith_status check_merges(const struct pith_tokenizer *t, uint8_t *seen, struct pith_error *err)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < t->h.merge_slot_count; i++) {
		uint64_t off = t->at.merge_slots + 16 * (uint64_t)i;
		const uint8_t *slot = t->blob + off;
		uint32_t left = load_le32(slot), right = load_le32(slot + 4), rank = load_le32(slot + 8);
		if (left == PITH_TOKEN_NONE && right == 0 && rank == 0 && load_le32(slot + 12) == 0)
			continue;
		const uint32_t ids[3] = {left, right, load_le32(slot + 12)};
		if (!is_sound_merge(t, ids) || rank >= t->h.merge_count || seen[rank] ||
		    tokenizer_find_merge(t, left, right) != slot)
			return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.9",
			                 "merge of %u and %u (rank %u) into %u is not sound", left, right, rank,
			                 ids[2]);
		if (crosses_space(t, left, right))
			return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.14",
			                 "merge of %u and %u crosses a cut of space-runs", left, right);
		seen[rank] = 1;
		count++;
	}
	if (count != t->h.merge_count)
		return pith_fail(err, PITH_E_CORRUPT, t->at.merge_slots, "tokenizer.9",
		                 "%u merges in the table, not %u", count, t->h.merge_count);
	if (t->h.pretokenizer == PRETOKENIZER_SPACE_RUNS && tokenizer_byte_id(t, ' ') == PITH_TOKEN_NONE)
		return pith_fail(err, PITH_E_CORRUPT, 12, "tokenizer.14",
		                 "space-runs without a token for space");
	return PITH_OK;
}

/* spec tokenizer.10: "exactly the tokens that section 2 names" */
static pith_status check_texts(const struct pith_tokenizer *t, struct pith_error *err)
{
	const unsigned hidden = TOKEN_CONTROL | TOKEN_BYTE | TOKEN_UNUSED | TOKEN_ADDED;
	uint32_t count = 0;
	size_t nbytes;
	for (uint32_t i = 0; i < t->h.text_slot_count; i++) {
		uint64_t off = t->at.text_slots + 8 * (uint64_t)i;
		uint32_t id = load_le32(t->blob + off + 4);
		if (id == PITH_TOKEN_NONE && load_le32(t->blob + off) == 0)
			continue;
		const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &nbytes);
		if (!bytes || tokenizer_token_flags(t, id) & hidden ||
		    load_le32(t->blob + off) != tokenizer_text_hash(bytes, nbytes) ||
		    tokenizer_find_text(t, bytes, nbytes) != id)
			return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.10",
			                 "text table entry of token %u is not sound", id);
		count++;
	}
	for (uint32_t id = 0; id < t->h.vocab_count; id++) {
		if (tokenizer_token_flags(t, id) & hidden)
			continue;
		const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &nbytes);
		if (tokenizer_find_text(t, bytes, nbytes) > id)
			return pith_fail(err, PITH_E_CORRUPT, t->at.text_slots, "tokenizer.10",
			                 "token %u is not in the text table", id);
	}
	if (count != t->h.text_count)
		return pith_fail(err, PITH_E_CORRUPT, t->at.text_slots, "tokenizer.10",
		                 "%u tokens in the text table, not %u", count, t->h.text_count);
	return PITH_OK;
}

/* spec tokenizer.11: "added lists exactly the tokens with ADDED or CONTROL" */
static pith_status check_added(const struct pith_tokenizer *t, struct pith_error *err)
{
	uint32_t expected = 0, i = 0;
	for (uint32_t id = 0; id < t->h.vocab_count; id++)
		expected += (tokenizer_token_flags(t, id) & (TOKEN_ADDED | TOKEN_CONTROL)) != 0;
	size_t last_nbytes = SIZE_MAX, nbytes;
	uint32_t last_id = 0;
	for (unsigned b = 0; b <= 256; b++, last_nbytes = SIZE_MAX) {
		uint64_t off = t->at.added_first + 4 * b;
		if (load_le32(t->blob + off) != i)
			return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.11",
			                 "index of added tokens does not fit the list");
		for (; b < 256 && i < t->h.added_count; i++) {
			uint64_t entry = t->at.added + 8 * (uint64_t)i;
			uint32_t id = load_le32(t->blob + entry);
			const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &nbytes);
			if (!bytes || !(tokenizer_token_flags(t, id) & (TOKEN_ADDED | TOKEN_CONTROL)) ||
			    load_le32(t->blob + entry + 4) & ~(uint32_t)ADDED_KNOWN_FLAGS)
				return pith_fail(err, PITH_E_CORRUPT, entry, "tokenizer.11",
				                 "entry %u of the added tokens is not sound", i);
			if (bytes[0] != b)
				break;
			if (nbytes > last_nbytes || (nbytes == last_nbytes && id <= last_id))
				return pith_fail(err, PITH_E_CORRUPT, entry, "tokenizer.11",
				                 "added token %u is out of order", id);
			last_nbytes = nbytes;
			last_id = id;
		}
	}
	if (i != t->h.added_count || expected != t->h.added_count)
		return pith_fail(err, PITH_E_CORRUPT, t->at.added, "tokenizer.11",
		                 "%u added tokens are listed, %u are flagged", i, expected);
	return PITH_OK;
}

/* spec tokenizer.13: "A DIRECT token is in the text table" */
static pith_status check_direct(const struct pith_tokenizer *t, struct bpe_scratch *scratch,
                                struct pith_error *err)
{
	for (uint32_t id = 0; id < t->h.vocab_count; id++) {
		size_t nbytes;
		uint32_t first = id;
		if (!(tokenizer_token_flags(t, id) & TOKEN_DIRECT))
			continue;
		const uint8_t *bytes = pith_tokenizer_token_bytes(t, id, &nbytes);
		struct token_sink sink = {&first, 1, 1};
		if (!(t->h.flags & TOKENIZER_IGNORE_MERGES)) {
			sink.count = 0;
			PITH_TRY(bpe_encode_word(t, bytes, nbytes, false, false, scratch, &sink, err));
		}
		if (sink.count != 1 || first != id || tokenizer_find_text(t, bytes, nbytes) != id)
			return pith_fail(err, PITH_E_CORRUPT, t->at.token_flags + id, "tokenizer.13",
			                 "token %u is marked DIRECT and is not", id);
	}
	return PITH_OK;
}

pith_status pith_tokenizer_check(const struct pith_tokenizer *t, struct pith_error *err)
{
	struct bpe_scratch scratch = {0};
	PITH_TRY(check_padding(t, err));
	PITH_TRY(check_tokens(t, err));
	PITH_TRY(check_byte_ids(t, err));
	uint8_t *seen = calloc((size_t)t->h.merge_count + 1, 1);
	if (!seen)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to check %u merges",
		                 t->h.merge_count);
	pith_status status = check_merges(t, seen, err);
	free(seen);
	PITH_TRY(status);
	PITH_TRY(check_texts(t, err));
	PITH_TRY(check_added(t, err));
	status = check_direct(t, &scratch, err);
	bpe_scratch_free(&scratch);
	return status;
}
