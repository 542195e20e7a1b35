/*
 * Putting checksums of text archives right.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_reseal.h"

#include "bytes.h"
#include "checksum.h"

/* Lenient: a varint that does not end is what it is so far. */
static uint64_t take(const uint8_t *p, size_t end, size_t *at)
{
	uint64_t v = 0;
	for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
		uint8_t byte = p[(*at)++];
		v |= (uint64_t)(byte & 127u) << shift;
		if (byte < 128)
			break;
	}
	return v;
}

/* The segment at 'off' with payload of 'nbytes', before 'end'; returns XXH3-64 of its header. */
static uint64_t reseal_segment(uint8_t *p, uint64_t off, uint64_t nbytes, uint64_t end)
{
	if (off > end || end - off < 56 || nbytes > end - off - 56)
		return 0;
	memcpy(p + off, "PZSG", 4);
	store_le64(p + off + 20, off);
	store_le64(p + off + 44, pith_xxh3_64(p + off + 56, (size_t)nbytes));
	store_le32(p + off + 52, (uint32_t)pith_xxh3_64(p + off, 52));
	return pith_xxh3_64(p + off, 56);
}

static void reseal_directory(uint8_t *p, size_t begin, size_t end)
{
	size_t at = begin + 8;
	uint64_t off = 64 + load_le64(p + 48);
	store_le64(p + begin, load_le64(p + 56));
	uint64_t count = take(p, end, &at);
	take(p, end, &at);
	for (uint64_t i = 0; i < count && at < end; i++) {
		off += take(p, end, &at);
		take(p, end, &at);
		take(p, end, &at);
		uint64_t stored = take(p, end, &at), records = take(p, end, &at);
		if (end - at < 8 || off > begin || stored > begin || records > begin)
			return;
		store_le64(p + at, reseal_segment(p, off, stored + records, begin));
		at += 8;
		off += 56 + stored + records;
	}
}

void archive_reseal(uint8_t *p, size_t nbytes)
{
	static const uint8_t magic[8] = {0x89, 'P', 'T', 'Z', 0x0d, 0x0a, 0x1a, 0x0a};
	if (nbytes < 128)
		return;
	uint8_t *trailer = p + nbytes - 64;
	size_t end = nbytes - 64;
	memcpy(p, magic, 8);
	store_le64(p + 56, pith_xxh3_64(p, 56));
	memcpy(trailer, "PZTR", 4);
	store_le64(trailer + 48, nbytes);
	uint64_t off = load_le64(trailer + 8);
	if (off >= 64 && off <= end && end - off >= 10) {
		size_t begin = (size_t)off;
		store_le64(trailer + 16, end - begin);
		if (load_le32(trailer + 4) == 0) {
			store_le64(trailer + 24, end - begin);
			reseal_directory(p, begin, end);
		}
		pith_xxh3_128(p + begin, end - begin, trailer + 32);
	}
	store_le64(trailer + 56, pith_xxh3_64(trailer, 56));
}
