/*
 * The binary arithmetic coder of spec/text_archive.md, section 9: carryless, 32 bits,
 * 64-bit products, integers only.  Inline, because a token takes some twenty decisions.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_RANGE_CODER_H
#define PITH_TEXT_RANGE_CODER_H

#include "bytes.h"

struct range_encoder {
	uint32_t low, high;
	uint8_t *out; /* [out_cap] */
	size_t out_cap;
	size_t out_nbytes; /* goes on counting when out is full: nothing is stored then */
};

static inline void range_encoder_start(struct range_encoder *r, uint8_t *out, size_t out_cap)
{
	*r = (struct range_encoder){.high = UINT32_MAX, .out = out, .out_cap = out_cap};
}

static inline void range_encoder_put(struct range_encoder *r, uint8_t byte)
{
	if (r->out_nbytes < r->out_cap)
		r->out[r->out_nbytes] = byte;
	r->out_nbytes++;
}

/* Code 'bit' where 0 has probability z / n; 0 < z < n. */
static inline void range_encode(struct range_encoder *r, uint32_t z, uint32_t n, bool bit)
{
	uint32_t mid = r->low + (uint32_t)((uint64_t)(r->high - r->low) * z / n);
	if (bit)
		r->low = mid + 1;
	else
		r->high = mid;
	while ((r->low ^ r->high) < 1u << 24) {
		range_encoder_put(r, (uint8_t)(r->high >> 24));
		r->low <<= 8;
		r->high = r->high << 8 | 255u;
	}
}

static inline void range_encoder_finish(struct range_encoder *r)
{
	// spec text_archive: "nothing more if low is 0, else the byte floor(low / 2^24) + 1"
	if (r->low != 0)
		range_encoder_put(r, (uint8_t)((r->low >> 24) + 1));
}

struct range_decoder {
	uint32_t low, high, code;
	const uint8_t *in; /* next byte */
	const uint8_t *end;
};

static inline uint32_t range_decoder_byte(struct range_decoder *r)
{
	return r->in < r->end ? *r->in++ : 0;
}

static inline void range_decoder_start(struct range_decoder *r, const uint8_t *in, size_t nbytes)
{
	*r = (struct range_decoder){.high = UINT32_MAX, .in = in, .end = in + nbytes};
	for (int i = 0; i < 4; i++)
		r->code = r->code << 8 | range_decoder_byte(r);
}

static inline bool range_decode(struct range_decoder *r, uint32_t z, uint32_t n)
{
	uint32_t mid = r->low + (uint32_t)((uint64_t)(r->high - r->low) * z / n);
	bool bit = r->code > mid;
	if (bit)
		r->low = mid + 1;
	else
		r->high = mid;
	while ((r->low ^ r->high) < 1u << 24) {
		r->low <<= 8;
		r->high = r->high << 8 | 255u;
		r->code = r->code << 8 | range_decoder_byte(r);
	}
	return bit;
}

#endif
