/*
 * Character classes, UTF-8 and canonical composition (NFC) of the Unicode version
 * that spec/tokenizer.md pins, 14.0.  Tables are generated (make_unicode_tables.py).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_UNICODE_TABLES_H
#define PITH_UNICODE_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Classes of general categories; UNICODE_SPACE is the property White_Space. */
enum unicode_class {
	UNICODE_OTHER = 0, /* Cc, Cf, Cn, Co, Cs and bytes outside UTF-8 */
	UNICODE_LU = 1,
	UNICODE_LL = 2,
	UNICODE_LT = 3,
	UNICODE_LM = 4,
	UNICODE_LO = 5,
	UNICODE_MARK = 6,
	UNICODE_NUMBER = 7,
	UNICODE_PUNCTUATION = 8,
	UNICODE_SYMBOL = 9,
	UNICODE_SPACE = 10
};

/* Sets of classes, as bits 1 << class. */
#define UNICODE_SET_L \
	(1u << UNICODE_LU | 1u << UNICODE_LL | 1u << UNICODE_LT | 1u << UNICODE_LM | 1u << UNICODE_LO)
#define UNICODE_SET_N (1u << UNICODE_NUMBER)
#define UNICODE_SET_P (1u << UNICODE_PUNCTUATION)
#define UNICODE_SET_SPACE (1u << UNICODE_SPACE)
#define UNICODE_SET_REST (0x7ffu & ~(UNICODE_SET_L | UNICODE_SET_N | UNICODE_SET_SPACE))

/* Code points from here on have no class but for U+E0100 .. U+E01EF, which are marks. */
#define UNICODE_CLASS_LIMIT 0x32400u
#define UNICODE_CLASS_BLOCK 128u
#define UNICODE_INDEX_COUNT 1608u
#define UNICODE_BLOCKS_NBYTES 15232u
#define UNICODE_COMBINING_COUNT 764u
#define UNICODE_DECOMPOSITIONS_COUNT 6183u
#define UNICODE_COMPOSITIONS_COUNT 2823u

/*
 * Blocks hold two classes a byte.  Ranges are first, last << 8 | combining class;
 * decompositions whole, first, second or 0; compositions first, second, whole.
 */
extern const uint8_t unicode_class_index[UNICODE_INDEX_COUNT];
extern const uint8_t unicode_class_blocks[UNICODE_BLOCKS_NBYTES];
extern const uint32_t unicode_combining_ranges[UNICODE_COMBINING_COUNT];
extern const uint32_t unicode_decompositions[UNICODE_DECOMPOSITIONS_COUNT];
extern const uint32_t unicode_compositions[UNICODE_COMPOSITIONS_COUNT];

static inline enum unicode_class unicode_class_of(uint32_t cp)
{
	if (cp >= UNICODE_CLASS_LIMIT)
		return cp - 0xe0100u < 0xf0u ? UNICODE_MARK : UNICODE_OTHER;
	uint32_t block = unicode_class_index[cp / UNICODE_CLASS_BLOCK];
	uint32_t i = block * UNICODE_CLASS_BLOCK + cp % UNICODE_CLASS_BLOCK;
	return (enum unicode_class)((unsigned)unicode_class_blocks[i / 2] >> 4 * (i % 2) & 15u);
}

/* One character of text; a byte outside valid UTF-8 is one with cp = UNICODE_BAD. */
struct unicode_char {
	uint32_t cp;
	uint32_t nbytes;
	enum unicode_class class;
};

#define UNICODE_BAD UINT32_MAX

static inline bool utf8_is_tail(uint8_t byte) { return (byte & 0xc0u) == 0x80u; }

/* The character at s, of 'nbytes' > 0 readable bytes.  Shortest form only, no surrogates. */
static inline struct unicode_char utf8_char(const uint8_t *s, size_t nbytes)
{
	uint32_t c = s[0];
	if (c < 0x80)
		return (struct unicode_char){c, 1, unicode_class_of(c)};
	if (c >= 0xc2 && c < 0xe0 && nbytes >= 2 && utf8_is_tail(s[1])) {
		c = (c & 0x1fu) << 6 | (s[1] & 0x3fu);
		return (struct unicode_char){c, 2, unicode_class_of(c)};
	}
	if ((c & 0xf0u) == 0xe0u && nbytes >= 3 && utf8_is_tail(s[1]) && utf8_is_tail(s[2])) {
		c = (c & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
		if (c >= 0x800 && (c & 0xf800u) != 0xd800u)
			return (struct unicode_char){c, 3, unicode_class_of(c)};
	} else if (c >= 0xf0 && c < 0xf5 && nbytes >= 4 && utf8_is_tail(s[1]) && utf8_is_tail(s[2]) &&
	           utf8_is_tail(s[3])) {
		c = (c & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
		if (c >= 0x10000 && c < 0x110000)
			return (struct unicode_char){c, 4, unicode_class_of(c)};
	}
	return (struct unicode_char){UNICODE_BAD, 1, UNICODE_OTHER};
}

/* Write cp (a scalar value) to out: [4].  Returns the number of bytes. */
static inline size_t utf8_put(uint32_t cp, uint8_t *out)
{
	if (cp < 0x80) {
		out[0] = (uint8_t)cp;
		return 1;
	}
	size_t tail = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
	static const uint8_t lead[4] = {0, 0xc0, 0xe0, 0xf0};
	out[0] = (uint8_t)(lead[tail] | cp >> 6 * tail);
	for (size_t i = 1; i <= tail; i++)
		out[i] = (uint8_t)(0x80u | (cp >> 6 * (tail - i) & 0x3fu));
	return tail + 1;
}

/*
 * Normalization form C of text: [nbytes], into out: [3 * nbytes].  Bytes outside UTF-8 are
 * kept and end a sequence of marks.  Returns the number of bytes written, or SIZE_MAX if
 * there is no memory (it needs 16 bytes a byte).
 */
size_t unicode_nfc(const uint8_t *text, size_t nbytes, uint8_t *out);

#endif
