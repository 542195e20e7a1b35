/*
 * From text to ids: added tokens, normalization, pretokens (spec/tokenizer.md section 4,
 * steps 1 to 3); tokenizer_bpe.c does the rest.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pretokenize.h"
#include "tokenizer_blob.h"
#include "unicode_tables.h"

#include <stdlib.h>

/* One call of pith_tokenizer_encode(). */
struct encoding {
	const struct pith_tokenizer *t;
	unsigned flags;
	struct token_sink sink;
	struct bpe_scratch scratch;
	struct pith_error *err;
};

static void put_id(struct encoding *e, uint32_t id)
{
	if (e->sink.count < e->sink.cap)
		e->sink.ids[e->sink.count] = id;
	e->sink.count++;
}

static pith_status encode_pretokens(struct encoding *e, const uint8_t *text, size_t nbytes)
{
	struct pretokens run = {text, nbytes, 0};
	const struct pretokenizer *pretokenizer = pretokenizer_find(e->t->h.pretokenizer);
	bool exact = (e->flags & PITH_ENCODE_EXACT) != 0;
	for (size_t pos = 0; pos < nbytes;) {
		size_t end = pretokenizer->end(&run, pos);
		PITH_TRY(bpe_encode_word(e->t, text + pos, end - pos, true, exact, &e->scratch, &e->sink,
		                         e->err));
		pos = end;
	}
	return PITH_OK;
}

/* ---- Normalization ----------------------------------------------------------------- */

/* No character below U+0300 takes part in composition; its first byte is 0xcc. */
static bool may_compose(const uint8_t *text, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i++)
		if (text[i] >= 0xcc)
			return true;
	return false;
}

/* U+2581 to space, in place.  Returns the new size. */
static size_t replace_space_marks(uint8_t *text, size_t nbytes)
{
	size_t to = 0;
	for (size_t from = 0; from < nbytes; to++) {
		bool mark = nbytes - from >= 3 && memcmp(text + from, "\xe2\x96\x81", 3) == 0;
		text[to] = mark ? ' ' : text[from];
		from += mark ? 3 : 1;
	}
	return to;
}

static bool wants_prefix(const struct encoding *e, const uint8_t *text, bool at_start)
{
	unsigned flags = e->t->h.flags;
	if (!(flags & TOKENIZER_PREFIX_SPACE) || (flags & TOKENIZER_PREFIX_FIRST && !at_start))
		return false;
	if (!(flags & TOKENIZER_PREFIX_UNLESS))
		return true;
	return text[0] != ' ';
}

/* Encode text between added tokens.  'at_start': nothing came before it. */
static pith_status encode_piece(struct encoding *e, const uint8_t *text, size_t nbytes, bool at_start)
{
	unsigned flags = e->t->h.flags;
	bool compose = flags & TOKENIZER_NFC && may_compose(text, nbytes);
	if (nbytes == 0)
		return PITH_OK;
	if (e->flags & PITH_ENCODE_EXACT ||
	    (!compose && !(flags & (TOKENIZER_PREFIX_SPACE | TOKENIZER_SPACE_MARK))))
		return encode_pretokens(e, text, nbytes);

	/* form C is at most three times as long in UTF-8; one byte more for the prefix */
	uint8_t *copy = malloc((compose ? 3 : 1) * nbytes + 1);
	size_t copy_nbytes = nbytes;
	if (!copy)
		return pith_fail(e->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to normalize %zu bytes",
		                 nbytes);
	copy[0] = ' ';
	if (compose)
		copy_nbytes = unicode_nfc(text, nbytes, copy + 1);
	else
		memcpy(copy + 1, text, nbytes);
	if (copy_nbytes == SIZE_MAX) {
		free(copy);
		return pith_fail(e->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to normalize %zu bytes",
		                 nbytes);
	}
	if (flags & TOKENIZER_SPACE_MARK)
		copy_nbytes = replace_space_marks(copy + 1, copy_nbytes);
	size_t prefix = wants_prefix(e, copy + 1, at_start) ? 1 : 0;
	pith_status status = encode_pretokens(e, copy + 1 - prefix, copy_nbytes + prefix);
	free(copy);
	return status;
}

/* ---- Added tokens ------------------------------------------------------------------ */

/* Entry of 'added' of the longest added token at text[pos], or NULL; its size in *token_nbytes. */
static const uint8_t *match_added(const struct encoding *e, const uint8_t *text, size_t nbytes,
                                  size_t pos, size_t *token_nbytes)
{
	const struct pith_tokenizer *t = e->t;
	const uint8_t *first = t->blob + t->at.added_first + 4 * (size_t)text[pos];
	uint32_t end = load_le32(first + 4);
	if (end > t->h.added_count)
		end = t->h.added_count;
	for (uint32_t i = load_le32(first); i < end; i++) {
		const uint8_t *entry = t->blob + t->at.added + 8 * (size_t)i;
		uint32_t id = load_le32(entry);
		unsigned strip = load_le32(entry + 4) & (ADDED_LSTRIP | ADDED_RSTRIP);
		const uint8_t *token = pith_tokenizer_token_bytes(t, id, token_nbytes);
		bool control = pith_tokenizer_is_control(t, id);
		if (control && !(e->flags & PITH_ENCODE_SPECIAL))
			continue;
		if (strip && e->flags & PITH_ENCODE_EXACT)
			continue;
		if (token && *token_nbytes > 0 && *token_nbytes <= nbytes - pos &&
		    memcmp(token, text + pos, *token_nbytes) == 0)
			return entry;
	}
	return NULL;
}

static size_t skip_space(const uint8_t *text, size_t nbytes, size_t pos)
{
	while (pos < nbytes) {
		struct unicode_char c = utf8_char(text + pos, nbytes - pos);
		if (c.class != UNICODE_SPACE)
			break;
		pos += c.nbytes;
	}
	return pos;
}

/* Start of the white space that ends at 'end', not before 'start'. */
static size_t unskip_space(const uint8_t *text, size_t start, size_t end)
{
	for (size_t pos = end; pos > start; end = pos) {
		do
			pos--;
		while (pos > start && utf8_is_tail(text[pos]));
		struct unicode_char c = utf8_char(text + pos, end - pos);
		if (c.class != UNICODE_SPACE || c.nbytes != end - pos)
			return end;
	}
	return start;
}

static pith_status encode_text(struct encoding *e, const uint8_t *text, size_t nbytes)
{
	size_t start = 0;
	for (size_t pos = 0; e->t->h.added_count != 0 && pos < nbytes;) {
		size_t token_nbytes;
		const uint8_t *entry = match_added(e, text, nbytes, pos, &token_nbytes);
		if (!entry) {
			pos++;
			continue;
		}
		unsigned strip = load_le32(entry + 4);
		size_t piece_end = strip & ADDED_LSTRIP ? unskip_space(text, start, pos) : pos;
		PITH_TRY(encode_piece(e, text + start, piece_end - start, start == 0));
		put_id(e, load_le32(entry));
		pos += token_nbytes;
		if (strip & ADDED_RSTRIP)
			pos = skip_space(text, nbytes, pos);
		start = pos;
	}
	return encode_piece(e, text + start, nbytes - start, start == 0);
}

pith_status pith_tokenizer_encode(const struct pith_tokenizer *t, const char *text, size_t nbytes,
                                  unsigned flags, uint32_t *ids, size_t ids_cap, size_t *ids_count,
                                  struct pith_error *err)
{
	const unsigned known = PITH_ENCODE_BOS | PITH_ENCODE_EOS | PITH_ENCODE_SPECIAL | PITH_ENCODE_EXACT;
	*ids_count = 0;
	if (flags & ~known || (flags & PITH_ENCODE_EXACT && flags != PITH_ENCODE_EXACT))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "encode flags %#x do not go together",
		                 flags);
	if (nbytes > PITH_ENCODE_MAX_NBYTES)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "text of %zu bytes is above the limit of one call, %zu", nbytes,
		                 PITH_ENCODE_MAX_NBYTES);
	struct encoding e = {.t = t, .flags = flags, .sink = {ids, ids_cap, 0}, .err = err};
	if (flags & PITH_ENCODE_BOS && pith_tokenizer_adds_bos(t))
		put_id(&e, t->h.bos_id);
	pith_status status = nbytes ? encode_text(&e, (const uint8_t *)text, nbytes) : PITH_OK;
	bpe_scratch_free(&e.scratch);
	if (status != PITH_OK)
		return status;
	if (flags & PITH_ENCODE_EOS && pith_tokenizer_adds_eos(t))
		put_id(&e, t->h.eos_id);
	*ids_count = e.sink.count;
	if (e.sink.count > ids_cap)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "text needs %zu ids, there is room for %zu", e.sink.count, ids_cap);
	return PITH_OK;
}

size_t pith_tokenizer_encode_bound(const struct pith_tokenizer *t, size_t nbytes, unsigned flags)
{
	if (flags & PITH_ENCODE_EXACT)
		return nbytes;
	/* every piece may get a prefix, and is at least one byte; form C is at most three times as long */
	size_t factor = 1, bound;
	if (t->h.flags & TOKENIZER_NFC)
		factor += 2;
	if (t->h.flags & TOKENIZER_PREFIX_SPACE)
		factor += 1;
	if (!pith_mul_size(nbytes, factor, &bound) || bound > SIZE_MAX - 2)
		return SIZE_MAX;
	return bound + 2;
}
