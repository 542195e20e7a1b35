/*
 * The tokenizer blob's constants, layout and table look-ups: shared by the reader
 * (tokenizer*.c) and the builder (tokenizer_build.c).  spec/tokenizer.md sections 1, 2.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TOKENIZER_BLOB_H
#define PITH_TOKENIZER_BLOB_H

#include "bytes.h"
#include "tokenizer.h"

#define TOKENIZER_HEADER_NBYTES 128
#define TOKENIZER_ALIGN 64
#define TOKENIZER_MAX_VOCAB (1u << 24)
#define TOKENIZER_MAX_SLOTS (1u << 26)
#define TOKENIZER_MAX_PROBE 1024u
#define TOKENIZER_MAX_BYTES (1u << 30)
#define TOKENIZER_MAX_ADDED (1u << 16)
#define TOKENIZER_MAX_TOKEN_NBYTES (1u << 16)

enum tokenizer_kind { TOKENIZER_BYTE_LEVEL = 0, TOKENIZER_SENTENCEPIECE = 1 };

enum tokenizer_flag {
	TOKENIZER_ADD_BOS = 1 << 0,
	TOKENIZER_ADD_EOS = 1 << 1,
	TOKENIZER_PREFIX_SPACE = 1 << 2,
	TOKENIZER_PREFIX_UNLESS = 1 << 3,
	TOKENIZER_PREFIX_FIRST = 1 << 4,
	TOKENIZER_NFC = 1 << 5,
	TOKENIZER_FUSE_UNK = 1 << 6,
	TOKENIZER_IGNORE_MERGES = 1 << 7,
	TOKENIZER_SPACE_MARK = 1 << 8,
	TOKENIZER_KNOWN_FLAGS = (1 << 9) - 1
};

enum token_flag {
	TOKEN_CONTROL = 1 << 0,
	TOKEN_BYTE = 1 << 1,
	TOKEN_UNUSED = 1 << 2,
	TOKEN_ADDED = 1 << 3,
	TOKEN_DIRECT = 1 << 4,
	TOKEN_KNOWN_FLAGS = (1 << 5) - 1
};

enum added_flag { ADDED_LSTRIP = 1 << 0, ADDED_RSTRIP = 1 << 1, ADDED_KNOWN_FLAGS = (1 << 2) - 1 };

/* The header's fields, named as in the spec. */
struct tokenizer_header {
	uint32_t kind, pretokenizer, flags;
	uint32_t vocab_count, token_bytes_nbytes;
	uint32_t merge_count, merge_slot_count, merge_max_probe;
	uint32_t text_count, text_slot_count, text_max_probe;
	uint32_t added_count, max_token_nbytes;
	uint32_t bos_id, eos_id, unk_id, pad_id;
};

/* Start of each array and the blob's size, in bytes. */
struct tokenizer_layout {
	uint64_t token_off, token_bytes, token_flags, byte_ids;
	uint64_t merge_slots, text_slots, added_first, added, end;
};

struct pith_tokenizer {
	const uint8_t *blob;
	struct tokenizer_header h;
	struct tokenizer_layout at;
	bool lossless;
};

static inline uint64_t tokenizer_align(uint64_t off)
{
	return (off + TOKENIZER_ALIGN - 1) / TOKENIZER_ALIGN * TOKENIZER_ALIGN;
}

/* Where the arrays lie.  The counts are within their bounds, so nothing overflows. */
static inline struct tokenizer_layout tokenizer_layout_of(const struct tokenizer_header *h)
{
	struct tokenizer_layout at;
	at.token_off = TOKENIZER_HEADER_NBYTES;
	at.token_bytes = tokenizer_align(at.token_off + 4 * ((uint64_t)h->vocab_count + 1));
	at.token_flags = tokenizer_align(at.token_bytes + h->token_bytes_nbytes);
	at.byte_ids = tokenizer_align(at.token_flags + h->vocab_count);
	at.merge_slots = tokenizer_align(at.byte_ids + 4 * 256);
	at.text_slots = tokenizer_align(at.merge_slots + 16 * (uint64_t)h->merge_slot_count);
	at.added_first = tokenizer_align(at.text_slots + 8 * (uint64_t)h->text_slot_count);
	at.added = tokenizer_align(at.added_first + 4 * 257);
	at.end = tokenizer_align(at.added + 8 * (uint64_t)h->added_count);
	return at;
}

static inline uint32_t tokenizer_text_hash(const uint8_t *bytes, size_t nbytes)
{
	uint32_t h = 0x811c9dc5u;
	for (size_t i = 0; i < nbytes; i++)
		h = (h ^ bytes[i]) * 0x01000193u;
	h ^= h >> 15;
	h *= 0x2c1b3c6du;
	return h ^ h >> 13;
}

static inline uint32_t tokenizer_merge_hash(uint32_t left, uint32_t right)
{
	return (uint32_t)((((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u) >> 32);
}

static inline uint32_t tokenizer_slot(uint32_t hash, uint32_t slot_count)
{
	return (uint32_t)((uint64_t)hash * slot_count >> 32);
}

static inline uint32_t tokenizer_byte_id(const struct pith_tokenizer *t, uint8_t byte)
{
	return load_le32(t->blob + t->at.byte_ids + 4 * (size_t)byte);
}

static inline unsigned tokenizer_token_flags(const struct pith_tokenizer *t, uint32_t id)
{
	return id < t->h.vocab_count ? t->blob[t->at.token_flags + id] : 0u;
}

/* The occupied slot of the pair, or NULL.  Bounded by merge_max_probe. */
static inline const uint8_t *tokenizer_find_merge(const struct pith_tokenizer *t, uint32_t left,
                                                  uint32_t right)
{
	uint32_t slot_count = t->h.merge_slot_count;
	uint32_t i = tokenizer_slot(tokenizer_merge_hash(left, right), slot_count);
	for (uint32_t probe = 0; probe < t->h.merge_max_probe; probe++) {
		const uint8_t *slot = t->blob + t->at.merge_slots + 16 * (size_t)i;
		uint32_t l = load_le32(slot);
		if (l == PITH_TOKEN_NONE)
			return NULL;
		if (l == left && load_le32(slot + 4) == right)
			return slot;
		if (++i == slot_count)
			i = 0;
	}
	return NULL;
}

/* The text table's token with these bytes, or PITH_TOKEN_NONE.  Bounded by text_max_probe. */
static inline uint32_t tokenizer_find_text(const struct pith_tokenizer *t, const uint8_t *bytes,
                                           size_t nbytes)
{
	if (nbytes > t->h.max_token_nbytes)
		return PITH_TOKEN_NONE;
	uint32_t hash = tokenizer_text_hash(bytes, nbytes);
	uint32_t slot_count = t->h.text_slot_count;
	uint32_t i = tokenizer_slot(hash, slot_count);
	for (uint32_t probe = 0; probe < t->h.text_max_probe; probe++) {
		const uint8_t *slot = t->blob + t->at.text_slots + 8 * (size_t)i;
		uint32_t id = load_le32(slot + 4);
		if (id == PITH_TOKEN_NONE)
			return PITH_TOKEN_NONE;
		if (load_le32(slot) == hash) {
			size_t token_nbytes;
			const uint8_t *token = pith_tokenizer_token_bytes(t, id, &token_nbytes);
			if (token && token_nbytes == nbytes && memcmp(token, bytes, nbytes) == 0)
				return id;
		}
		if (++i == slot_count)
			i = 0;
	}
	return PITH_TOKEN_NONE;
}

/* ---- tokenizer_bpe.c: one pretoken ------------------------------------------------- */

/* Where ids go: counts on after 'cap', as pith_tokenizer_encode() promises. */
struct token_sink {
	uint32_t *ids;
	size_t cap, count;
};

/* Scratch for long words, reused from word to word; all zero at first. */
struct bpe_scratch {
	void *memory;
	size_t unit_cap;
};

void bpe_scratch_free(struct bpe_scratch *scratch);

/*
 * Encode one pretoken (spec section 4, steps 4 to 6; step 4 only if 'direct').  'exact' makes
 * a byte without id an error, PITH_E_UNSUPPORTED.
 */
pith_status bpe_encode_word(const struct pith_tokenizer *t, const uint8_t *bytes, size_t nbytes,
                            bool direct, bool exact, struct bpe_scratch *scratch,
                            struct token_sink *sink, struct pith_error *err);

#endif
