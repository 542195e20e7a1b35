/*
 * Opening a tokenizer blob and reading single facts out of it.  Open checks the header
 * only; every array access below bounds what it reads, so that a damaged blob gives
 * wrong answers or PITH_E_CORRUPT but never a bad access.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tokenizer.h"

#include "pretokenize.h"
#include "tokenizer_blob.h"

#include <stdlib.h>

static struct tokenizer_header load_header(const uint8_t *p)
{
	return (struct tokenizer_header){
	    .kind = load_le32(p + 8),
	    .pretokenizer = load_le32(p + 12),
	    .flags = load_le32(p + 16),
	    .vocab_count = load_le32(p + 20),
	    .token_bytes_nbytes = load_le32(p + 24),
	    .merge_count = load_le32(p + 28),
	    .merge_slot_count = load_le32(p + 32),
	    .merge_max_probe = load_le32(p + 36),
	    .text_count = load_le32(p + 40),
	    .text_slot_count = load_le32(p + 44),
	    .text_max_probe = load_le32(p + 48),
	    .added_count = load_le32(p + 52),
	    .max_token_nbytes = load_le32(p + 56),
	    .bos_id = load_le32(p + 60),
	    .eos_id = load_le32(p + 64),
	    .unk_id = load_le32(p + 68),
	    .pad_id = load_le32(p + 72),
	};
}

/* spec tokenizer.2: "unknown ones are unsupported" */
static pith_status check_features(const struct tokenizer_header *h, const uint8_t *p,
                                  struct pith_error *err)
{
	const struct pretokenizer *pretokenizer = pretokenizer_find(h->pretokenizer);
	if (h->kind > TOKENIZER_SENTENCEPIECE)
		return pith_fail(err, PITH_E_UNSUPPORTED, 8, "tokenizer.2", "tokenizer kind %u is not known",
		                 h->kind);
	if (!pretokenizer)
		return pith_fail(err, PITH_E_UNSUPPORTED, 12, "tokenizer.2", "pretokenizer %u is not known",
		                 h->pretokenizer);
	if (!(pretokenizer->kinds >> h->kind & 1u))
		return pith_fail(err, PITH_E_CORRUPT, 12, "tokenizer.2",
		                 "pretokenizer %s does not go with tokenizer kind %u", pretokenizer->name,
		                 h->kind);
	if (h->flags & ~(uint32_t)TOKENIZER_KNOWN_FLAGS)
		return pith_fail(err, PITH_E_UNSUPPORTED, 16, "tokenizer.2",
		                 "tokenizer flags %#x hold unknown bits", h->flags);
	for (size_t i = 76; i < TOKENIZER_HEADER_NBYTES; i++)
		if (p[i] != 0)
			return pith_fail(err, PITH_E_UNSUPPORTED, i, "tokenizer.2",
			                 "reserved tokenizer header byte is %u, not 0", p[i]);
	return PITH_OK;
}

static pith_status check_count(uint32_t value, uint32_t low, uint32_t high, uint64_t off,
                               const char *name, struct pith_error *err)
{
	if (value < low || value > high)
		return pith_fail(err, PITH_E_CORRUPT, off, "tokenizer.3", "%s is %u, not %u .. %u", name, value,
		                 low, high);
	return PITH_OK;
}

/* spec tokenizer.3: "Every count lies within the bounds of section 1." */
static pith_status check_counts(const struct tokenizer_header *h, struct pith_error *err)
{
	PITH_TRY(check_count(h->vocab_count, 1, TOKENIZER_MAX_VOCAB, 20, "vocab_count", err));
	PITH_TRY(check_count(h->token_bytes_nbytes, 0, TOKENIZER_MAX_BYTES, 24, "token_bytes_nbytes", err));
	PITH_TRY(check_count(h->merge_count, 0, TOKENIZER_MAX_VOCAB, 28, "merge_count", err));
	PITH_TRY(check_count(h->merge_slot_count, h->merge_count + 1, TOKENIZER_MAX_SLOTS, 32,
	                     "merge_slot_count", err));
	PITH_TRY(check_count(h->merge_max_probe, 1, TOKENIZER_MAX_PROBE, 36, "merge_max_probe", err));
	PITH_TRY(check_count(h->text_count, 0, h->vocab_count, 40, "text_count", err));
	PITH_TRY(check_count(h->text_slot_count, h->text_count + 1, TOKENIZER_MAX_SLOTS, 44,
	                     "text_slot_count", err));
	PITH_TRY(check_count(h->text_max_probe, 1, TOKENIZER_MAX_PROBE, 48, "text_max_probe", err));
	PITH_TRY(check_count(h->added_count, 0, TOKENIZER_MAX_ADDED, 52, "added_count", err));
	return check_count(h->max_token_nbytes, 1, TOKENIZER_MAX_TOKEN_NBYTES, 56, "max_token_nbytes", err);
}

/* spec tokenizer.12: "bos_id, eos_id, unk_id and pad_id are ffffffff or below vocab_count." */
static pith_status check_special_ids(const struct tokenizer_header *h, struct pith_error *err)
{
	const uint32_t ids[4] = {h->bos_id, h->eos_id, h->unk_id, h->pad_id};
	for (unsigned i = 0; i < 4; i++)
		if (ids[i] != PITH_TOKEN_NONE && ids[i] >= h->vocab_count)
			return pith_fail(err, PITH_E_CORRUPT, 60 + 4 * i, "tokenizer.12",
			                 "special id %u is not below vocab_count %u", ids[i],
			                 h->vocab_count);
	return PITH_OK;
}

pith_status pith_tokenizer_open(const void *blob, size_t nbytes, struct pith_tokenizer **out,
                                struct pith_error *err)
{
	static const uint8_t magic[4] = {'P', 'T', 'O', 'K'};
	const uint8_t *p = blob;
	*out = NULL;
	if (nbytes < TOKENIZER_HEADER_NBYTES || memcmp(p, magic, 4) != 0)
		return pith_fail(err, PITH_E_NOT_OURS, 0, "tokenizer.1",
		                 "no tokenizer blob (%zu bytes)", nbytes);
	if (load_le32(p + 4) != 0)
		return pith_fail(err, PITH_E_UNSUPPORTED, 4, "tokenizer.1",
		                 "tokenizer version %u needs a newer reader", load_le32(p + 4));
	struct tokenizer_header h = load_header(p);
	PITH_TRY(check_features(&h, p, err));
	PITH_TRY(check_counts(&h, err));
	PITH_TRY(check_special_ids(&h, err));
	struct tokenizer_layout at = tokenizer_layout_of(&h);
	if (at.end != nbytes)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "tokenizer.4",
		                 "tokenizer blob has %zu bytes, its header says %llu", nbytes,
		                 (unsigned long long)at.end);

	struct pith_tokenizer *t = malloc(sizeof(*t));
	if (!t)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a tokenizer");
	*t = (struct pith_tokenizer){.blob = p, .h = h, .at = at, .lossless = true};
	for (unsigned b = 0; b < 256; b++)
		if (tokenizer_byte_id(t, (uint8_t)b) >= h.vocab_count)
			t->lossless = false;
	*out = t;
	return PITH_OK;
}

void pith_tokenizer_close(struct pith_tokenizer *t)
{
	free(t);
}

uint32_t pith_tokenizer_vocab_count(const struct pith_tokenizer *t) { return t->h.vocab_count; }
uint32_t pith_tokenizer_bos_id(const struct pith_tokenizer *t) { return t->h.bos_id; }
uint32_t pith_tokenizer_eos_id(const struct pith_tokenizer *t) { return t->h.eos_id; }
uint32_t pith_tokenizer_unk_id(const struct pith_tokenizer *t) { return t->h.unk_id; }
uint32_t pith_tokenizer_pad_id(const struct pith_tokenizer *t) { return t->h.pad_id; }
bool pith_tokenizer_is_lossless(const struct pith_tokenizer *t) { return t->lossless; }
size_t pith_tokenizer_max_token_nbytes(const struct pith_tokenizer *t) { return t->h.max_token_nbytes; }

bool pith_tokenizer_adds_bos(const struct pith_tokenizer *t)
{
	return (t->h.flags & TOKENIZER_ADD_BOS) != 0 && t->h.bos_id != PITH_TOKEN_NONE;
}

bool pith_tokenizer_adds_eos(const struct pith_tokenizer *t)
{
	return (t->h.flags & TOKENIZER_ADD_EOS) != 0 && t->h.eos_id != PITH_TOKEN_NONE;
}

const uint8_t *pith_tokenizer_token_bytes(const struct pith_tokenizer *t, uint32_t id, size_t *nbytes)
{
	*nbytes = 0;
	if (id >= t->h.vocab_count)
		return NULL;
	const uint8_t *off = t->blob + t->at.token_off + 4 * (size_t)id;
	uint32_t start = load_le32(off), end = load_le32(off + 4);
	if (start > end || end > t->h.token_bytes_nbytes || end - start > t->h.max_token_nbytes)
		return NULL;
	*nbytes = end - start;
	return t->blob + t->at.token_bytes + start;
}

bool pith_tokenizer_is_control(const struct pith_tokenizer *t, uint32_t id)
{
	return (tokenizer_token_flags(t, id) & TOKEN_CONTROL) != 0;
}

bool pith_tokenizer_is_unused(const struct pith_tokenizer *t, uint32_t id)
{
	return id >= t->h.vocab_count || (tokenizer_token_flags(t, id) & TOKEN_UNUSED) != 0;
}

uint32_t pith_tokenizer_find(const struct pith_tokenizer *t, const char *bytes, size_t nbytes)
{
	const uint8_t *added = t->blob + t->at.added;
	for (uint32_t i = 0; i < t->h.added_count; i++, added += 8) {
		size_t token_nbytes;
		const uint8_t *token = pith_tokenizer_token_bytes(t, load_le32(added), &token_nbytes);
		if (token && token_nbytes == nbytes && memcmp(token, bytes, nbytes) == 0)
			return load_le32(added);
	}
	return tokenizer_find_text(t, (const uint8_t *)bytes, nbytes);
}
