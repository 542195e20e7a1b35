/*
 * Text to token ids and back (part of libpithrun).
 *
 * A 'pith_tokenizer' is a view of a tokenizer blob (spec/tokenizer.md), normally the
 * TOKN section of a mapped .pith file.  Opening it costs the same for 500 tokens and
 * for 150,000: nothing is parsed or copied.  The blob must stay readable and unchanged
 * until pith_tokenizer_close().  A tokenizer is immutable after open, so any number
 * of threads may use one; a 'pith_text_stream' belongs to one thread at a time.
 *
 * Damaged blobs never crash: what open does not check is checked where it is used
 * (PITH_E_CORRUPT), and pith_tokenizer_check() checks everything at once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TOKENIZER_H
#define PITH_TOKENIZER_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Value of an id that does not exist. */
#define PITH_TOKEN_NONE UINT32_MAX

/* Largest input of one pith_tokenizer_encode() call, in bytes. */
#define PITH_ENCODE_MAX_NBYTES ((size_t)1 << 30)

struct pith_tokenizer;

/* ---- Opening ---------------------------------------------------------------------- */

/*
 * Open the blob of 'nbytes' bytes.  'blob' is borrowed until pith_tokenizer_close().
 *
 * Checks the header only (rules tokenizer.1 to .4 and .12).  Returns PITH_E_NOT_OURS (no tokenizer
 * blob), PITH_E_UNSUPPORTED (newer version, kind, pretokenizer or flag: named),
 * PITH_E_CORRUPT or PITH_E_MEMORY; *out is then NULL.  Offsets in 'err' (may be NULL)
 * count from the start of the blob.
 */
pith_status pith_tokenizer_open(const void *blob, size_t nbytes, struct pith_tokenizer **out,
                                struct pith_error *err);

/* Free the tokenizer, not the blob.  NULL is accepted. */
void pith_tokenizer_close(struct pith_tokenizer *t);

/*
 * Check every rule of spec/tokenizer.md, in time linear in the blob.  Returns PITH_E_CORRUPT
 * with rule and offset, or PITH_E_MEMORY (it needs scratch of 1 byte per merge).
 */
pith_status pith_tokenizer_check(const struct pith_tokenizer *t, struct pith_error *err);

/* ---- Facts ------------------------------------------------------------------------ */

/* Number of ids: the ids are 0 .. count - 1. */
uint32_t pith_tokenizer_vocab_count(const struct pith_tokenizer *t);

/* Special ids, PITH_TOKEN_NONE where the tokenizer has none. */
uint32_t pith_tokenizer_bos_id(const struct pith_tokenizer *t);
uint32_t pith_tokenizer_eos_id(const struct pith_tokenizer *t);
uint32_t pith_tokenizer_unk_id(const struct pith_tokenizer *t);
uint32_t pith_tokenizer_pad_id(const struct pith_tokenizer *t);

/* Was the model trained with BOS first, with EOS last? */
bool pith_tokenizer_adds_bos(const struct pith_tokenizer *t);
bool pith_tokenizer_adds_eos(const struct pith_tokenizer *t);

/* Can every byte sequence be encoded with PITH_ENCODE_EXACT? */
bool pith_tokenizer_is_lossless(const struct pith_tokenizer *t);

/* No token has more bytes than this. */
size_t pith_tokenizer_max_token_nbytes(const struct pith_tokenizer *t);

/* ---- Encoding --------------------------------------------------------------------- */

enum pith_encode_flags {
	PITH_ENCODE_BOS = 1,     /* put BOS first if the model was trained so (adds_bos) */
	PITH_ENCODE_EOS = 2,     /* put EOS last if the model was trained so (adds_eos) */
	PITH_ENCODE_SPECIAL = 4, /* read the text of control tokens, "<|im_end|>", as these tokens */
	PITH_ENCODE_EXACT = 8    /* lossless: any bytes, and the tokens' bytes joined are the input */
};

/*
 * Encode 'nbytes' bytes at 'text' (UTF-8; NULL if nbytes is 0) into ids: [ids_cap].
 *
 * *ids_count (not NULL) is the number of ids that the text needs, also when 'ids_cap' is smaller:
 * then the first ids_cap ids are stored and PITH_E_LIMIT is returned.  'ids' may be NULL
 * if ids_cap is 0.  Without PITH_ENCODE_EXACT the text is normalized as the model's tokenizer
 * asks; bytes that are not UTF-8 are kept where the vocabulary has tokens for them.
 * With PITH_ENCODE_EXACT the other flags must be absent.
 *
 * Time is linear in 'nbytes' but for a logarithm in the longest word; allocates only for
 * words above 64 bytes and for normalization, and frees that before it returns.  Returns
 * PITH_E_LIMIT (also for nbytes > PITH_ENCODE_MAX_NBYTES; *ids_count is then 0),
 * PITH_E_ARGUMENT, PITH_E_MEMORY, PITH_E_UNSUPPORTED (PITH_ENCODE_EXACT, and a byte of the
 * text has no token: never if is_lossless), PITH_E_CORRUPT (a table of the blob is damaged).
 */
pith_status pith_tokenizer_encode(const struct pith_tokenizer *t, const char *text, size_t nbytes,
                                  unsigned flags, uint32_t *ids, size_t ids_cap, size_t *ids_count,
                                  struct pith_error *err);

/*
 * An upper bound of *ids_count for any text of 'nbytes' bytes: nbytes with PITH_ENCODE_EXACT,
 * nbytes + 2 for tokenizers without prefix space and normalization.  Saturates at SIZE_MAX.
 */
size_t pith_tokenizer_encode_bound(const struct pith_tokenizer *t, size_t nbytes, unsigned flags);

/* ---- Decoding --------------------------------------------------------------------- */

/*
 * Borrow the bytes of token 'id' and store their number in *nbytes.
 *
 * Returns NULL (and 0) if the id is out of range or its entry damaged.  Joined, the bytes
 * are the text; they need not be UTF-8 one by one.  A control token gives its literal text
 * (ask pith_tokenizer_is_control), an unused one no bytes.  Valid as long as the blob.
 */
const uint8_t *pith_tokenizer_token_bytes(const struct pith_tokenizer *t, uint32_t id, size_t *nbytes);

/* Is 'id' a control token (bos, eos, ...), which decodes to nothing?  False out of range. */
bool pith_tokenizer_is_control(const struct pith_tokenizer *t, uint32_t id);

/* Is 'id' a row of the model without text?  True out of range. */
bool pith_tokenizer_is_unused(const struct pith_tokenizer *t, uint32_t id);

/* Id of the token with just these bytes (control tokens: literal text), or PITH_TOKEN_NONE. */
uint32_t pith_tokenizer_find(const struct pith_tokenizer *t, const char *bytes, size_t nbytes);

/* State of a running decode; all zero at the start of a text.  Fields are private. */
struct pith_text_stream {
	uint8_t pending[4];
	uint8_t pending_nbytes;
	uint8_t started;
};

/*
 * Decode one id to text for a terminal.
 *
 * 'out' gets whole characters of valid UTF-8 only: an unfinished character is held back
 * in 's' until its last byte comes, a byte that cannot be UTF-8 becomes U+FFFD.  Control
 * tokens give nothing, and the space that encoding put before the text is taken away.
 * *out_nbytes <= pith_tokenizer_decode_bound().  Returns PITH_E_ARGUMENT (id out of range,
 * out_cap below the bound), PITH_E_CORRUPT (damaged entry).
 */
pith_status pith_tokenizer_decode(const struct pith_tokenizer *t, struct pith_text_stream *s,
                                  uint32_t id, uint8_t *out, size_t out_cap, size_t *out_nbytes,
                                  struct pith_error *err);

/* End of the text: what is still held back becomes U+FFFD.  out: 12 bytes.  Returns their number. */
size_t pith_tokenizer_decode_end(struct pith_text_stream *s, uint8_t *out);

/* Room that pith_tokenizer_decode() asks for, in bytes. */
size_t pith_tokenizer_decode_bound(const struct pith_tokenizer *t);

#ifdef __cplusplus
}
#endif
#endif
