/*
 * Unicode normalization form C, by the algorithm of UAX #15: decompose, order the marks,
 * compose.  Linear but for sorting; long runs of marks are sorted by counting.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "unicode_tables.h"

#include <stdlib.h>
#include <string.h>

#define HANGUL_S 0xac00u
#define HANGUL_L 0x1100u
#define HANGUL_V 0x1161u
#define HANGUL_T 0x11a7u
#define HANGUL_L_COUNT 19u
#define HANGUL_V_COUNT 21u
#define HANGUL_T_COUNT 28u
#define HANGUL_S_COUNT (HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT)

#define RAW_BYTE 0x80000000u /* marks a byte that is not UTF-8 */

static unsigned combining_class(uint32_t cp)
{
	size_t low = 0, high = UNICODE_COMBINING_COUNT / 2;
	if (cp < 0x300)
		return 0;
	while (low < high) {
		size_t mid = (low + high) / 2;
		uint32_t last = unicode_combining_ranges[2 * mid + 1];
		if (cp < unicode_combining_ranges[2 * mid])
			high = mid;
		else if (cp > last >> 8)
			low = mid + 1;
		else
			return last & 0xffu;
	}
	return 0;
}

/* First entry of a table of triples whose key is not below (a, b); 'keys' is 1 or 2. */
static const uint32_t *find_triple(const uint32_t *table, size_t count, uint32_t a, uint32_t b,
                                   unsigned keys)
{
	size_t low = 0, high = count / 3;
	while (low < high) {
		size_t mid = (low + high) / 2;
		const uint32_t *e = &table[3 * mid];
		if (e[0] < a || (keys == 2 && e[0] == a && e[1] < b))
			low = mid + 1;
		else
			high = mid;
	}
	if (low == count / 3 || table[3 * low] != a || (keys == 2 && table[3 * low + 1] != b))
		return NULL;
	return &table[3 * low];
}

/* Append the full canonical decomposition of cp to out: [4]; only the first part nests. */
static size_t decompose(uint32_t cp, uint32_t *out)
{
	uint32_t tails[4];
	size_t count = 0, tail_count = 0;
	if (cp - HANGUL_S < HANGUL_S_COUNT) {
		uint32_t s = cp - HANGUL_S, t = s % HANGUL_T_COUNT;
		out[count++] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
		out[count++] = HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT;
		if (t != 0)
			out[count++] = HANGUL_T + t;
		return count;
	}
	const uint32_t *e;
	while (tail_count < 3 &&
	       (e = find_triple(unicode_decompositions, UNICODE_DECOMPOSITIONS_COUNT, cp, 0, 1)) != NULL) {
		if (e[2] != 0)
			tails[tail_count++] = e[2];
		cp = e[1];
	}
	out[count++] = cp;
	while (tail_count > 0)
		out[count++] = tails[--tail_count];
	return count;
}

/* The primary composite of the pair, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
	if (a - HANGUL_L < HANGUL_L_COUNT && b - HANGUL_V < HANGUL_V_COUNT)
		return HANGUL_S + ((a - HANGUL_L) * HANGUL_V_COUNT + (b - HANGUL_V)) * HANGUL_T_COUNT;
	if (a - HANGUL_S < HANGUL_S_COUNT && (a - HANGUL_S) % HANGUL_T_COUNT == 0 && b > HANGUL_T &&
	    b - HANGUL_T < HANGUL_T_COUNT)
		return a + (b - HANGUL_T);
	const uint32_t *e = find_triple(unicode_compositions, UNICODE_COMPOSITIONS_COUNT, a, b, 2);
	return e ? e[2] : 0;
}

/* Stable sort of marks by class.  cps, spare: [count]. */
static void order_marks(uint32_t *cps, uint32_t *spare, size_t count)
{
	if (count <= 16) {
		for (size_t i = 1; i < count; i++) {
			uint32_t cp = cps[i];
			size_t at = i;
			for (; at > 0 && combining_class(cps[at - 1]) > combining_class(cp); at--)
				cps[at] = cps[at - 1];
			cps[at] = cp;
		}
		return;
	}
	size_t start[257] = {0};
	for (size_t i = 0; i < count; i++)
		start[combining_class(cps[i]) + 1]++;
	for (size_t c = 1; c <= 256; c++)
		start[c] += start[c - 1];
	for (size_t i = 0; i < count; i++)
		spare[start[combining_class(cps[i])]++] = cps[i];
	memcpy(cps, spare, count * sizeof(*cps));
}

static size_t compose_all(uint32_t *cps, size_t count)
{
	size_t put = 0, starter = SIZE_MAX;
	unsigned last_class = 0;
	for (size_t i = 0; i < count; i++) {
		unsigned class = combining_class(cps[i]);
		if (starter != SIZE_MAX && (put == starter + 1 || last_class < class)) {
			uint32_t whole = compose(cps[starter], cps[i]);
			if (whole != 0) {
				cps[starter] = whole;
				continue;
			}
		}
		if (class == 0)
			starter = put;
		last_class = class;
		cps[put++] = cps[i];
	}
	return put;
}

size_t unicode_nfc(const uint8_t *text, size_t nbytes, uint8_t *out)
{
	/* no character decomposes into more than two code points a byte */
	if (nbytes > SIZE_MAX / 32)
		return SIZE_MAX;
	uint32_t *cps = malloc((nbytes + 1) * 4 * sizeof(*cps));
	uint32_t *spare = cps ? cps + 2 * nbytes + 2 : NULL;
	size_t count = 0, put = 0;
	if (!cps)
		return SIZE_MAX;
	for (size_t pos = 0; pos < nbytes;) {
		struct unicode_char c = utf8_char(text + pos, nbytes - pos);
		if (c.cp == UNICODE_BAD)
			cps[count++] = RAW_BYTE | text[pos];
		else if (c.cp < 0xc0)
			cps[count++] = c.cp;
		else
			count += decompose(c.cp, cps + count);
		pos += c.nbytes;
	}
	for (size_t i = 0; i < count;) {
		size_t end = i;
		while (end < count && combining_class(cps[end]) != 0)
			end++;
		order_marks(cps + i, spare, end - i);
		i = end + 1;
	}
	count = compose_all(cps, count);
	for (size_t i = 0; i < count; i++) {
		if (cps[i] & RAW_BYTE)
			out[put++] = (uint8_t)cps[i];
		else
			put += utf8_put(cps[i], out + put);
	}
	free(cps);
	return put;
}
