/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "segment_head.h"

#include "recall.h"

#define FLAG_CRLF 1u
#define FLAG_MIXED 2u
#define FLAG_RECALL 4u

static size_t put_varint(uint8_t *out, uint32_t v)
{
	size_t n = 0;
	for (; v >= 128; v >>= 7)
		out[n++] = (uint8_t)(v | 128u);
	out[n++] = (uint8_t)v;
	return n;
}

/* False when it is cut off, too long or not in shortest form. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint32_t *v)
{
	uint64_t value = 0;
	for (unsigned shift = 0; shift < 35 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;
		value |= (uint64_t)(byte & 127u) << shift;
		if (byte < 128) {
			*v = (uint32_t)value;
			return value <= UINT32_MAX && (byte != 0 || shift == 0);
		}
	}
	return false;
}

size_t segment_head_bound(size_t stream_count) { return 1 + 5 * (stream_count + 3); }

size_t segment_head_store(const struct segment_head *head, uint8_t *out)
{
	size_t n = 0;
	out[n++] = (uint8_t)((head->is_crlf ? FLAG_CRLF : 0) | (head->is_mixed ? FLAG_MIXED : 0) |
	                     (head->has_recall ? FLAG_RECALL : 0));
	if (head->is_crlf)
		n += put_varint(out + n, head->text_nbytes);
	n += put_varint(out + n, head->window);
	n += put_varint(out + n, head->overlap);
	n += put_varint(out + n, head->stream_count);
	for (size_t i = 0; i + 1 < head->stream_count; i++)
		n += put_varint(out + n, head->stream_nbytes[i]);
	return n;
}

static bool take_streams(const uint8_t **p, const uint8_t *end, struct segment_head *head)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i + 1 < head->stream_count; i++) {
		if (!take_varint(p, end, &head->stream_nbytes[i]) || head->stream_nbytes[i] == 0)
			return false;
		sum += head->stream_nbytes[i];
	}
	if (sum >= head->text_nbytes)
		return false;
	head->stream_nbytes[head->stream_count - 1] = head->text_nbytes - (uint32_t)sum;
	return true;
}

pith_status segment_head_load(const struct text_lm *lm, const uint8_t *payload, size_t nbytes,
                              size_t raw_nbytes, uint64_t off, struct segment_head *head,
                              const uint8_t **code, struct pith_error *err)
{
	const uint8_t *p = payload + 1, *end = payload + nbytes;
	*head = (struct segment_head){.text_nbytes = (uint32_t)raw_nbytes};
	bool good = nbytes > 0 && payload[0] <= (FLAG_CRLF | FLAG_MIXED | FLAG_RECALL) &&
	            (payload[0] & (FLAG_MIXED | FLAG_RECALL)) != FLAG_RECALL;
	head->is_crlf = good && (payload[0] & FLAG_CRLF) != 0;
	head->is_mixed = good && (payload[0] & FLAG_MIXED) != 0;
	head->has_recall = good && (payload[0] & FLAG_RECALL) != 0;
	if (head->is_crlf)
		good = take_varint(&p, end, &head->text_nbytes) && head->text_nbytes < raw_nbytes;
	good = good && take_varint(&p, end, &head->window) && take_varint(&p, end, &head->overlap) &&
	       take_varint(&p, end, &head->stream_count) && head->window >= 2 &&
	       head->window <= lm->context_length && head->overlap <= head->window / 2 &&
	       head->stream_count >= 1 && head->stream_count <= SEGMENT_MAX_STREAMS &&
	       take_streams(&p, end, head);
	*code = p;
	// spec text.18: "flags is 0 to 3, 6 or 7, the varints are in range and in shortest form, and every stream has at least one byte"
	if (!good)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.18", "the streams of the segment are damaged");
	// spec text_archive: "Recall needs a model whose head reads 1 to 65536 columns; with another one the segment is unsupported"
	if (head->has_recall && !recall_fits(lm))
		return pith_fail(err, PITH_E_UNSUPPORTED, off, "text.18", "the model has no states to recall");
	return PITH_OK;
}
