/*
 * From ids to text for a terminal: whole characters of valid UTF-8, as they complete.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "tokenizer_blob.h"
#include "unicode_tables.h"

static const uint8_t replacement[3] = {0xef, 0xbf, 0xbd}; /* U+FFFD */

/* Could the bytes, which are no character yet, become one if more followed? */
static bool is_unfinished(const uint8_t *s, size_t nbytes)
{
	uint8_t grown[4];
	size_t want = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (nbytes >= want || s[0] < 0xc2 || s[0] > 0xf4)
		return false;
	/* the second byte decides alone; 0xa0 is legal after e0, 0x90 after f0, 0x80 after the others */
	memcpy(grown, s, nbytes);
	if (nbytes == 1)
		grown[1] = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
	for (size_t i = nbytes < 2 ? 2 : nbytes; i < want; i++)
		grown[i] = 0x80;
	return utf8_char(grown, want).cp != UNICODE_BAD;
}

static size_t put_byte(struct pith_text_stream *s, uint8_t byte, uint8_t *out)
{
	size_t put = 0;
	s->pending[s->pending_nbytes++] = byte;
	while (s->pending_nbytes > 0) {
		struct unicode_char c = utf8_char(s->pending, s->pending_nbytes);
		if (c.cp == UNICODE_BAD && is_unfinished(s->pending, s->pending_nbytes))
			break;
		memcpy(out + put, c.cp == UNICODE_BAD ? replacement : s->pending,
		       c.cp == UNICODE_BAD ? 3 : c.nbytes);
		put += c.cp == UNICODE_BAD ? 3 : c.nbytes;
		s->pending_nbytes = (uint8_t)(s->pending_nbytes - c.nbytes);
		memmove(s->pending, s->pending + c.nbytes, s->pending_nbytes);
	}
	return put;
}

pith_status pith_tokenizer_decode(const struct pith_tokenizer *t, struct pith_text_stream *s,
                                  uint32_t id, uint8_t *out, size_t out_cap, size_t *out_nbytes,
                                  struct pith_error *err)
{
	size_t nbytes, put = 0;
	*out_nbytes = 0;
	if (id >= t->h.vocab_count || out_cap < pith_tokenizer_decode_bound(t) || s->pending_nbytes > 3)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "cannot decode id %u of %u into %zu bytes", id, t->h.vocab_count, out_cap);
	const uint8_t *token = pith_tokenizer_token_bytes(t, id, &nbytes);
	if (!token)
		return pith_fail(err, PITH_E_CORRUPT, t->at.token_off + 4 * (uint64_t)id, "tokenizer.6",
		                 "the text of token %u is not in the blob", id);
	if (pith_tokenizer_is_control(t, id) || nbytes == 0)
		return PITH_OK;
	if (!s->started && t->h.flags & TOKENIZER_PREFIX_SPACE && token[0] == ' ') {
		token++;
		nbytes--;
	}
	s->started = 1;
	for (size_t i = 0; i < nbytes; i++)
		put += put_byte(s, token[i], out + put);
	*out_nbytes = put;
	return PITH_OK;
}

size_t pith_tokenizer_decode_end(struct pith_text_stream *s, uint8_t *out)
{
	size_t put = 0;
	for (unsigned i = 0; i < s->pending_nbytes && i < 4; i++, put += 3)
		memcpy(out + put, replacement, 3);
	*s = (struct pith_text_stream){0};
	return put;
}

size_t pith_tokenizer_decode_bound(const struct pith_tokenizer *t)
{
	return 3 * (size_t)t->h.max_token_nbytes + 12;
}
