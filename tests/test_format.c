/*
 * The container's entries against bytes laid out here from the spec's tables, halves
 * against arithmetic in binary64, names, and zstd frames.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "checksum.h"
#include "container.h"
#include "frame_zstd.h"
#include "term.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <xxhash.h>

#include <cmocka.h>

/* ---- constants, restated from the spec ---- */

static void constants_are_those_of_the_spec(void **state)
{
	(void)state;
	assert_int_equal(PITH_SLOT_OFF(0), 512);
	assert_int_equal(PITH_SLOT_OFF(1), 1024);
	assert_int_equal(PITH_DATA_OFF, 1536);
	assert_int_equal(PITH_SECTION_WGHT, 0x54484757);
	assert_int_equal(PITH_SECTION_CONFIG, 0x20676663);
	assert_int_equal(PITH_SECTION_CARD, 0x64726163);
	static const struct { uint32_t id, entry; } tables[] = {
		{ PITH_SECTION_WGHT, 128 }, { PITH_SECTION_TERM, 128 }, { PITH_SECTION_XFRM, 64 },
		{ PITH_SECTION_PLAN, 64 },  { PITH_SECTION_NAME, 0 },   { PITH_SECTION_ARCH, 64 },
		{ PITH_SECTION_BLCK, 64 },  { PITH_SECTION_TOKN, 0 },   { PITH_SECTION_CNRY, 160 },
		{ PITH_SECTION_LINE, 128 }, { PITH_SECTION_TEXT, 0 },   { PITH_SECTION_LICENCE, 0 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(tables); i++) {
		assert_true(pith_section_is_known(tables[i].id));
		assert_int_equal(pith_section_entry_nbytes(tables[i].id), tables[i].entry);
	}
	assert_false(pith_section_is_known(PITH_ID('x', 'y', 'z', ' ')));
	static const struct { uint32_t id, nbytes; const char *name; } dtypes[] = {
		{ 0, 0, "?" },  { 1, 4, "f32" }, { 2, 2, "f16" }, { 3, 2, "bf16" }, { 4, 1, "u8" },
		{ 5, 2, "u16" }, { 6, 4, "u32" }, { 7, 1, "i8" }, { 8, 0, "?" },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(dtypes); i++) {
		assert_int_equal(pith_dtype_nbytes(dtypes[i].id), dtypes[i].nbytes);
		assert_string_equal(pith_dtype_name(dtypes[i].id), dtypes[i].name);
	}
}

static void kinds_are_those_of_the_spec(void **state)
{
	(void)state;
	static const struct { uint32_t id; const char *name; bool known; } kinds[] = {
		{ 0, "unknown", false },
		{ 1, "dense", true },
		{ 2, "affine", true },
		{ 3, "codebook", true },
		{ 4, "ternary", true },
		{ 5, "sparse", true },
		{ 6, "columns", true },
		{ 7, "lowrank", true },
		{ 8, "unknown", false },
		{ 0x80000000, "experimental", false },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(kinds); i++) {
		assert_string_equal(pith_kind_name(kinds[i].id), kinds[i].name);
		assert_int_equal(pith_term_kind_find(kinds[i].id) != NULL, kinds[i].known);
	}
	uint32_t param[24] = {0};
	assert_true(pith_term_kind_find(2)->integer(param));
	assert_false(pith_term_kind_find(1)->integer(param));
	param[3] = 1; /* entry_dtype f32 */
	assert_false(pith_term_kind_find(3)->integer(param));
	param[3] = 7; /* i8 */
	assert_true(pith_term_kind_find(3)->integer(param));
	assert_string_equal(pith_transform_name(1), "permute");
	assert_string_equal(pith_role_name(9), "scale_codes");
	assert_string_equal(pith_role_name(10), "counts");
}

/* ---- halves ---- */

/* A half as a binary64, from its definition. */
static double half_value(uint16_t h)
{
	int exponent = h >> 10 & 31, fraction = h & 1023;
	double magnitude = exponent == 0 ? ldexp(fraction, -24) :
	                                   ldexp(1024 + fraction, exponent - 25);
	return h >> 15 ? -magnitude : magnitude;
}

static void halves_widen_exactly(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		float f = f32_of_f16((uint16_t)h);
		if ((h >> 10 & 31) == 31) {
			assert_true((h & 1023) != 0 ? isnan(f) : isinf(f));
			continue;
		}
		assert_true((double)f == half_value((uint16_t)h));
		assert_int_equal(signbit(f) != 0, h >> 15);
		assert_int_equal(f16_of_f32(f), h);
	}
	assert_true(isnan(f32_of_f16(f16_of_f32(NAN))));
}

/* Midpoints between neighbours go to the even one, anything beside them to the nearer one. */
static void halves_round_to_nearest_even(void **state)
{
	(void)state;
	for (uint16_t h = 0; h < 0x7bff; h++) {
		double low = half_value(h), high = half_value((uint16_t)(h + 1));
		float middle = (float)((low + high) / 2); /* exact: one bit more than a half */
		assert_int_equal(f16_of_f32(middle), h % 2 == 0 ? h : h + 1);
		assert_int_equal(f16_of_f32(nextafterf(middle, -1)), h);
		assert_int_equal(f16_of_f32(nextafterf(middle, 1e9f)), h + 1);
		assert_int_equal(f16_of_f32(-middle), (h % 2 == 0 ? h : h + 1) | 0x8000);
	}
	assert_int_equal(f16_of_f32(65519.996f), 0x7bff);
	assert_int_equal(f16_of_f32(65520.0f), 0x7c00);
	assert_int_equal(f16_of_f32(INFINITY), 0x7c00);
	assert_int_equal(f16_of_f32(0x1p-25f), 0); /* half the least one: to even */
	assert_int_equal(f16_of_f32(0x1.000002p-25f), 1);
}

static void bfloats_round_to_nearest_even(void **state)
{
	(void)state;
	assert_int_equal(bf16_of_f32(1.0f), 0x3f80);
	assert_true(f32_of_bf16(0x3f81) == 1.0078125f);
	assert_int_equal(bf16_of_f32(f32_of_bits(0x3f808000)), 0x3f80); /* tie to even */
	assert_int_equal(bf16_of_f32(f32_of_bits(0x3f818000)), 0x3f82);
	assert_int_equal(bf16_of_f32(f32_of_bits(0x3f808001)), 0x3f81);
	assert_int_equal(bf16_of_f32(f32_of_bits(0x7f7fffff)), 0x7f80); /* overflow */
	assert_true(isnan(f32_of_bf16(bf16_of_f32(f32_of_bits(0x7f800001)))));
}

static void products_are_checked(void **state)
{
	(void)state;
	size_t out;
	assert_true(pith_mul_size(0, SIZE_MAX, &out) && out == 0);
	assert_true(pith_mul_size(SIZE_MAX, 1, &out) && out == SIZE_MAX);
	assert_false(pith_mul_size(SIZE_MAX / 2 + 1, 2, &out));
	assert_int_equal(out, 0);
}

/* ---- names ---- */

static void names_are_checked(void **state)
{
	(void)state;
	char longest[257];
	memset(longest, 'a', sizeof(longest));
	assert_true(pith_name_is_valid("model.layers.0", 14));
	assert_true(pith_name_is_valid("\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb1", 9));
	assert_true(pith_name_is_valid(longest, 255));
	assert_false(pith_name_is_valid(longest, 256));
	assert_false(pith_name_is_valid("", 0));
	static const struct { const char *bytes; size_t nbytes; } bad[] = {
		{ "a\0b", 3 },          { "a\x1f", 2 },         { "\x7f", 1 },
		{ "\x80", 1 },          { "\xc3", 1 },          { "\xc0\x80", 2 },
		{ "\xe0\x80\x80", 3 },  { "\xed\xa0\x80", 3 },  { "\xf0\x80\x80\x80", 4 },
		{ "\xf4\x90\x80\x80", 4 }, { "\xf8\x88\x80\x80\x80", 5 }, { "\xe2\x82", 2 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(bad); i++)
		assert_false(pith_name_is_valid(bad[i].bytes, bad[i].nbytes));
}

static void names_are_shown_safely(void **state)
{
	(void)state;
	char shown[PITH_SHOWN_NAME_NBYTES], longest[300];
	pith_show_name("a\x1b[1m\n\xff\xc3\xa9\xc2\x9b", 11, shown);
	assert_string_equal(shown, "a?[1m??\xc3\xa9??");
	memset(longest, 'x', sizeof(longest));
	pith_show_name(longest, sizeof(longest), shown);
	assert_int_equal(strlen(shown), 95);
	assert_string_equal(shown + 91, "x...");
	pith_show_name(longest, 93, shown);
	assert_int_equal(strlen(shown), 93);
	for (size_t cut = 88; cut < 100; cut++) { /* never half a character */
		memset(longest, 'x', sizeof(longest));
		memcpy(longest + cut, "\xf0\x9f\x8c\xb1", 4);
		pith_show_name(longest, sizeof(longest), shown);
		assert_true(strlen(shown) < sizeof(shown));
		assert_true(pith_name_is_valid(shown, strlen(shown)));
	}
	pith_show_name(NULL, 0, shown);
	assert_string_equal(shown, "");
}

/* ---- checksums ---- */

static void checksums_agree_in_pieces(void **state)
{
	(void)state;
	uint8_t data[1000], whole[16], pieces[16];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 37);
	/* the empty string's, from the xxHash specification */
	assert_int_equal(pith_xxh3_64("", 0), 0x2d06800538d394c2u);
	pith_xxh3_128("", 0, whole);
	assert_memory_equal(whole, "\x99\xaa\x06\xd3\x01\x47\x98\xd8\x60\x01\xc3\x24\x46\x8d\x49\x7f", 16);
	struct pith_xxh3 *s = pith_xxh3_new();
	pith_xxh3_reset_64(s);
	for (size_t i = 0; i < 1000; i += 100)
		pith_xxh3_update_64(s, data + i, 100);
	assert_int_equal(pith_xxh3_digest_64(s), pith_xxh3_64(data, 1000));
	pith_xxh3_128(data, 1000, whole);
	pith_xxh3_reset_128(s);
	pith_xxh3_update_128(s, data, 999);
	pith_xxh3_update_128(s, data + 999, 1);
	pith_xxh3_digest_128(s, pieces);
	assert_memory_equal(whole, pieces, 16);
	pith_xxh3_free(s);
}

/* ---- entries ---- */

/* Fields by the spec's tables: offset, size, value; then the checksum. */
struct field {
	unsigned off, nbytes;
	uint64_t value;
};

static void lay_out(uint8_t *p, size_t nbytes, const struct field *fields, size_t count)
{
	memset(p, 0, nbytes);
	for (size_t i = 0; i < count; i++)
		for (unsigned b = 0; b < fields[i].nbytes; b++)
			p[fields[i].off + b] = (uint8_t)(fields[i].value >> 8 * b);
	uint64_t hash = XXH3_64bits(p, nbytes - 8);
	for (unsigned b = 0; b < 8; b++)
		p[nbytes - 8 + b] = (uint8_t)(hash >> 8 * b);
}

static void weight_entries(void **state)
{
	(void)state;
	static const struct field fields[] = {
		{ 0, 8, 0x1122334455667788 }, { 8, 8, 99 }, { 16, 4, 12 }, { 20, 4, 1 },
		{ 24, 4, 3 }, { 28, 4, 2 }, { 32, 8, 5 }, { 40, 8, 6 }, { 48, 8, 7 }, { 56, 8, 1 },
		{ 64, 4, 10 }, { 68, 4, 20 }, { 72, 4, 1 }, { 76, 4, 3 }, { 80, 4, 3 },
		{ 84, 4, 0x3c000000 },
	};
	uint8_t expected[128], p[128];
	struct pith_weight_entry e;
	struct pith_error err;
	lay_out(expected, 128, fields, PITH_ARRAY_LENGTH(fields));
	assert_int_equal(pith_weight_entry_decode(expected, 0, &e, &err), PITH_OK);
	assert_int_equal(e.name_hash, 0x1122334455667788);
	assert_int_equal(e.dim[2], 7);
	assert_int_equal(e.first_transform, 20);
	assert_true(e.activation_scale == 0x1p-7f);
	pith_weight_entry_encode(&e, p);
	assert_memory_equal(p, expected, 128);
	uint64_t m, n;
	pith_weight_entry_shape(&e, &m, &n);
	assert_int_equal(m, 5);
	assert_int_equal(n, 42);
	/* each breaks one rule, with a right checksum */
	static const struct { struct field field; const char *rule; } broken[] = {
		{ { 16, 4, 0 }, "container.13" },  { { 16, 4, 256 }, "container.13" },
		{ { 20, 4, 2 }, "container.12" },  { { 24, 4, 0 }, "container.14" },
		{ { 24, 4, 5 }, "container.14" },  { { 28, 4, 0 }, "container.14" },
		{ { 28, 4, 17 }, "container.14" }, { { 32, 8, 0 }, "container.14" },
		{ { 32, 8, (1ull << 40) + 1 }, "container.14" },
		{ { 32, 8, 1ull << 40 }, "container.14" }, /* x 300 x 7 elements exceed 2^48 */
		{ { 56, 8, 2 }, "container.14" },  { { 72, 4, 5 }, "container.14" },
		{ { 88, 1, 1 }, "container.12" },  { { 119, 1, 1 }, "container.12" },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		struct field all[PITH_ARRAY_LENGTH(fields) + 2];
		memcpy(all, fields, sizeof(fields));
		all[PITH_ARRAY_LENGTH(fields)] = broken[i].field;
		all[PITH_ARRAY_LENGTH(fields) + 1] = (struct field){ 40, 8, 300 };
		lay_out(p, 128, all, PITH_ARRAY_LENGTH(all));
		assert_int_equal(pith_weight_entry_decode(p, 0, &e, &err), PITH_E_CORRUPT);
		assert_string_equal(err.rule, broken[i].rule);
	}
}

static void term_and_transform_entries(void **state)
{
	(void)state;
	static const struct field term[] = { { 0, 4, 2 }, { 4, 4, 7 }, { 8, 4, 3 }, { 16, 4, 4 },
		                             { 108, 4, 9 } };
	static const struct field transform[] = { { 0, 4, 1 }, { 4, 4, 8 }, { 8, 4, 1 },
		                                  { 52, 4, 6 } };
	uint8_t expected[128], p[128];
	struct pith_term_entry t;
	struct pith_transform_entry x;
	struct pith_error err;
	lay_out(expected, 128, term, PITH_ARRAY_LENGTH(term));
	assert_int_equal(pith_term_entry_decode(expected, 0, &t, &err), PITH_OK);
	assert_int_equal(t.kind, 2);
	assert_int_equal(t.first_plane, 7);
	assert_int_equal(t.param[0], 4);
	assert_int_equal(t.param[23], 9);
	pith_term_entry_encode(&t, p);
	assert_memory_equal(p, expected, 128);
	for (unsigned planes = 0; planes <= 9; planes += 9) {
		t.plane_count = planes;
		pith_term_entry_encode(&t, p);
		assert_int_equal(pith_term_entry_decode(p, 0, &t, &err), PITH_E_CORRUPT);
		assert_string_equal(err.rule, "container.14");
	}
	lay_out(expected, 64, transform, PITH_ARRAY_LENGTH(transform));
	assert_int_equal(pith_transform_entry_decode(expected, 0, &x, &err), PITH_OK);
	assert_int_equal(x.param[9], 6);
	pith_transform_entry_encode(&x, p);
	assert_memory_equal(p, expected, 64);
}

static void plane_entries(void **state)
{
	(void)state;
	static const struct field fields[] = { { 0, 8, 4096 }, { 8, 8, 65536 }, { 16, 8, 77 },
		                               { 24, 4, 1 }, { 28, 4, 2 }, { 32, 4, 3 } };
	uint8_t expected[64], p[64];
	struct pith_plane_entry e;
	struct pith_error err;
	lay_out(expected, 64, fields, PITH_ARRAY_LENGTH(fields));
	assert_int_equal(pith_plane_entry_decode(expected, 0, 69632, 4096, &e, &err), PITH_OK);
	assert_int_equal(e.xxh3, 77);
	assert_int_equal(e.layout, 2);
	pith_plane_entry_encode(&e, p);
	assert_memory_equal(p, expected, 64);
	/* one byte short, or aligned to less than the file says */
	assert_int_equal(pith_plane_entry_decode(expected, 0, 69631, 4096, &e, &err),
	                 PITH_E_CORRUPT);
	assert_int_equal(pith_plane_entry_decode(expected, 0, 1 << 20, 8192, &e, &err),
	                 PITH_E_CORRUPT);
	static const struct { uint64_t off, nbytes; bool valid; } extents[] = {
		{ 1536, 64, true },    { 1472, 64, false },  { 1600, 64, true },
		{ 1568, 64, false },   { 1536, 0, false },   { 1536, 65, false },
		{ 4096, 65536, true }, { 4160, 65536, false }, { 4160, 65472, true },
		{ 0xffffffffffffffc0, 64, false }, { 4096, 0xfffffffffffff000, false },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(extents); i++) {
		struct pith_plane_entry plane = { .off = extents[i].off,
			                          .nbytes = extents[i].nbytes };
		pith_plane_entry_encode(&plane, p);
		pith_status status = pith_plane_entry_decode(p, 0, 1 << 20, 4096, &plane, &err);
		assert_int_equal(status, extents[i].valid ? PITH_OK : PITH_E_CORRUPT);
	}
	e.encoding = 1;
	pith_plane_entry_encode(&e, p);
	assert_int_equal(pith_plane_entry_decode(p, 0, 1 << 20, 64, &e, &err), PITH_E_UNSUPPORTED);
}

static void arch_entries(void **state)
{
	(void)state;
	static const struct field fields[] = { { 0, 3, 'k' | 'e' << 8 | 'y' << 16 }, { 32, 4, 3 },
		                               { 36, 4, 1 }, { 40, 8, 10 }, { 48, 8, 5 } };
	uint8_t expected[64], p[64];
	struct pith_arch_entry e;
	struct pith_error err;
	lay_out(expected, 64, fields, PITH_ARRAY_LENGTH(fields));
	assert_int_equal(pith_arch_entry_decode(expected, 0, 15, &e, &err), PITH_OK);
	assert_string_equal(e.key, "key");
	pith_arch_entry_encode(&e, p);
	assert_memory_equal(p, expected, 64);
	assert_int_equal(pith_arch_entry_decode(expected, 0, 14, &e, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "container.17");
	static const struct field broken[] = {
		{ 0, 1, 0 },  { 1, 1, ' ' }, { 1, 1, 0x80 }, { 4, 1, 'x' }, { 32, 4, 0 },
		{ 32, 4, 4 }, { 32, 4, 1 },  { 40, 8, UINT64_MAX }, { 36, 4, 4 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		struct field all[PITH_ARRAY_LENGTH(fields) + 1];
		memcpy(all, fields, sizeof(fields));
		all[PITH_ARRAY_LENGTH(fields)] = broken[i];
		lay_out(p, 64, all, PITH_ARRAY_LENGTH(all));
		assert_int_equal(pith_arch_entry_decode(p, 0, 15, &e, &err), PITH_E_CORRUPT);
	}
	for (unsigned i = 0; i < 32; i++) /* 32 characters leave no room for the zero */
		e.key[i] = 'a';
	pith_arch_entry_encode(&e, p);
	assert_int_equal(pith_arch_entry_decode(p, 0, 1000, &e, &err), PITH_E_CORRUPT);
}

static void block_entries(void **state)
{
	(void)state;
	static const struct field fields[] = { { 0, 4, 3 }, { 4, 4, 8 }, { 8, 4, 2 }, { 12, 4, 64 },
		                               { 16, 4, 100 }, { 20, 4, 4 }, { 24, 4, 3 },
		                               { 28, 4, 77 } };
	uint8_t expected[64], p[64];
	struct pith_block_entry e, good;
	struct pith_error err;
	lay_out(expected, 64, fields, PITH_ARRAY_LENGTH(fields));
	assert_int_equal(pith_block_entry_decode(expected, 0, 4, 0, &good, &err), PITH_OK);
	assert_int_equal(good.window, 77);
	pith_block_entry_encode(&good, p);
	assert_memory_equal(p, expected, 64);
	static const struct field broken[] = {
		{ 0, 4, 4 },   { 4, 4, 0 },   { 4, 4, 7 },     { 4, 4, 65538 }, { 8, 4, 0 },
		{ 8, 4, 16 },  { 12, 4, 0 },  { 12, 4, 65537 }, { 16, 4, 0 },
		{ 16, 4, (1 << 24) + 1 },     { 20, 4, 5 },    { 24, 4, 5 },    { 32, 4, 1 },
		{ 36, 4, 1 },  { 0, 4, 2 },   { 0, 4, 1 },     { 40, 1, 1 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		struct field all[PITH_ARRAY_LENGTH(fields) + 1];
		memcpy(all, fields, sizeof(fields));
		all[PITH_ARRAY_LENGTH(fields)] = broken[i];
		lay_out(p, 64, all, PITH_ARRAY_LENGTH(all));
		assert_int_equal(pith_block_entry_decode(p, 0, 4, 9, &e, &err), PITH_E_CORRUPT);
	}
	struct pith_block_entry none = { .attention_const = 3 };
	pith_block_entry_encode(&none, p);
	assert_int_equal(pith_block_entry_decode(p, 0, 0, 3, &e, &err), PITH_OK);
	assert_int_equal(pith_block_entry_decode(p, 0, 0, 2, &e, &err), PITH_E_CORRUPT);
	/* sharing: the same shape, with weights of its own */
	struct pith_block_entry owner = good, other = good;
	owner.attention_of = 4;
	owner.ffn_of = 3;
	assert_int_equal(pith_block_check_shared(&good, &owner, &owner, 4, 0, &err), PITH_OK);
	other.head_dim++;
	other.attention_of = 4;
	assert_int_equal(pith_block_check_shared(&good, &other, &owner, 4, 0, &err), PITH_E_CORRUPT);
	other = owner;
	other.ffn_of = 2; /* itself borrows */
	assert_int_equal(pith_block_check_shared(&good, &owner, &other, 4, 0, &err), PITH_E_CORRUPT);
	assert_int_equal(pith_block_check_shared(&good, &owner, &none, 4, 0, &err), PITH_E_CORRUPT);
}

static void canary_and_lineage_entries(void **state)
{
	(void)state;
	static const struct field canary[] = { { 0, 4, 5 }, { 4, 4, 6 }, { 8, 4, 0x3f800000 },
		                               { 68, 4, 0x40000000 }, { 132, 4, 0x40400000 } };
	static const struct field line[] = { { 0, 4, 7 }, { 4, 4, 2 }, { 8, 8, 10 }, { 16, 4, 3 },
		                             { 20, 4, 4 }, { 24, 8, 13 },
		                             { 40, 8, 0x3ff8000000000000 }, { 48, 1, 0xaa },
		                             { 79, 1, 0xbb } };
	uint8_t expected[160], p[160];
	struct pith_canary_entry c;
	struct pith_lineage_entry l;
	struct pith_error err;
	lay_out(expected, 160, canary, PITH_ARRAY_LENGTH(canary));
	assert_int_equal(pith_canary_entry_decode(expected, 0, 6, &c, &err), PITH_OK);
	assert_true(c.first[0] == 1 && c.first[15] == 2 && c.last[15] == 3);
	pith_canary_entry_encode(&c, p);
	assert_memory_equal(p, expected, 160);
	assert_int_equal(pith_canary_entry_decode(expected, 0, 5, &c, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "container.19");
	lay_out(expected, 128, line, PITH_ARRAY_LENGTH(line));
	assert_int_equal(pith_lineage_entry_decode(expected, 0, 2, 17, &l, &err), PITH_OK);
	assert_true(l.number[1] == 1.5);
	assert_int_equal(l.digest[31], 0xbb);
	pith_lineage_entry_encode(&l, p);
	assert_memory_equal(p, expected, 128);
	assert_int_equal(pith_lineage_entry_decode(expected, 0, 1, 17, &l, &err), PITH_E_CORRUPT);
	assert_int_equal(pith_lineage_entry_decode(expected, 0, 2, 16, &l, &err), PITH_E_CORRUPT);
}

/* ---- preamble, slots, directory ---- */

static void preambles(void **state)
{
	(void)state;
	uint8_t p[1536] = { 0 };
	struct pith_error err;
	pith_preamble_encode(p);
	assert_memory_equal(p, "\x89\x50\x54\x48\x0d\x0a\x1a\x0a\x00\x02\x00\x00", 12);
	assert_int_equal(pith_preamble_check(p, sizeof(p), &err), PITH_OK);
	assert_int_equal(pith_preamble_check(p, 1535, &err), PITH_E_CORRUPT);
	assert_int_equal(pith_preamble_check(p, 7, &err), PITH_E_NOT_OURS);
	for (size_t i = 0; i < 512; i++) {
		p[i] ^= 0x40;
		assert_int_equal(pith_preamble_check(p, sizeof(p), &err),
		                 i < 8 ? PITH_E_NOT_OURS : PITH_E_CORRUPT);
		p[i] ^= 0x40;
	}
}

/* A slot's checksum is at its start, so it is sealed apart from lay_out(). */
static void seal_slot(uint8_t p[512])
{
	store_le64(p, XXH3_64bits(p + 8, 504));
}

static void header_slots(void **state)
{
	(void)state;
	uint8_t p[512], q[512];
	struct pith_header h = { .generation = 3, .file_nbytes = 1 << 20, .directory_off = 64 * 99,
		                 .directory_count = 12, .tensor_align = 4096 };
	struct pith_header got;
	struct pith_error err;
	memset(p, 0, sizeof(p));
	assert_int_equal(pith_slot_state(p), PITH_SLOT_EMPTY);
	pith_header_encode(&h, p);
	assert_int_equal(pith_slot_state(p), PITH_SLOT_VALID);
	assert_int_equal(load_le64(p + 56), 6336);
	assert_int_equal(load_le32(p + 64), 12);
	assert_int_equal(pith_header_decode(p, 512, &got, &err), PITH_OK);
	assert_int_equal(got.generation, 3);
	for (size_t i = 0; i < 512; i++) {
		memcpy(q, p, 512);
		q[i] ^= 1;
		assert_int_equal(pith_slot_state(q), PITH_SLOT_DAMAGED);
	}
	memcpy(q, p, 512);
	store_le64(q + 8, 0); /* generation 0 with a right checksum */
	seal_slot(q);
	assert_int_equal(pith_slot_state(q), PITH_SLOT_DAMAGED);
	static const struct { struct field field; pith_status status; const char *rule, *word; }
	broken[] = {
		{ { 16, 4, 1 }, PITH_E_UNSUPPORTED, "container.4", "version 1" },
		{ { 24, 8, 1 }, PITH_E_UNSUPPORTED, "container.5", "packed-planes" },
		{ { 24, 8, 2 }, PITH_E_UNSUPPORTED, "container.5", "entropy-bf16" },
		{ { 24, 8, 4 }, PITH_E_UNSUPPORTED, "container.5", "split" },
		{ { 24, 8, 1ull << 63 }, PITH_E_UNSUPPORTED, "container.5", "bit 63" },
		{ { 64, 4, 0 }, PITH_E_CORRUPT, "container.7", "directory_count" },
		{ { 64, 4, 257 }, PITH_E_CORRUPT, "container.7", "directory_count" },
		{ { 68, 4, 32 }, PITH_E_CORRUPT, "container.7", "tensor_align" },
		{ { 68, 4, 131072 }, PITH_E_CORRUPT, "container.7", "tensor_align" },
		{ { 68, 4, 96 }, PITH_E_CORRUPT, "container.7", "tensor_align" },
		{ { 56, 8, 1472 }, PITH_E_CORRUPT, "container.7", "directory" },
		{ { 56, 8, 1568 }, PITH_E_CORRUPT, "container.7", "directory" },
		{ { 56, 8, (1 << 20) - 704 }, PITH_E_CORRUPT, "container.7", "directory" },
		{ { 56, 8, 0xffffffffffffffc0 }, PITH_E_CORRUPT, "container.7", "directory" },
		{ { 72, 1, 1 }, PITH_E_CORRUPT, "container.7", "reserved" },
		{ { 511, 1, 1 }, PITH_E_CORRUPT, "container.7", "reserved" },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		memcpy(q, p, 512);
		for (unsigned b = 0; b < broken[i].field.nbytes; b++)
			q[broken[i].field.off + b] = (uint8_t)(broken[i].field.value >> 8 * b);
		seal_slot(q);
		assert_int_equal(pith_header_decode(q, 512, &got, &err), broken[i].status);
		assert_string_equal(err.rule, broken[i].rule);
		assert_non_null(strstr(err.msg, broken[i].word));
	}
	/* the other two sets of features are for a reader to ignore */
	h.compatible = h.read_only_compatible = UINT64_MAX;
	pith_header_encode(&h, p);
	assert_int_equal(pith_header_decode(p, 512, &got, &err), PITH_OK);
}

static void directory_entries(void **state)
{
	(void)state;
	static const struct field fields[] = { { 0, 4, 0x54484757 }, { 8, 8, 1600 }, { 16, 8, 256 },
		                               { 24, 8, 256 }, { 32, 8, 55 }, { 40, 4, 1 },
		                               { 44, 4, 128 } };
	static const struct { struct field field; pith_status status; const char *rule; } broken[] = {
		{ { 4, 4, 1 }, PITH_E_CORRUPT, "container.10" },
		{ { 4, 4, 2 }, PITH_E_UNSUPPORTED, "container.9" },
		{ { 8, 8, 1472 }, PITH_E_CORRUPT, "container.9" },
		{ { 8, 8, 1601 }, PITH_E_CORRUPT, "container.9" },
		{ { 8, 8, 4096 }, PITH_E_CORRUPT, "container.9" },
		{ { 8, 8, 0xffffffffffffffc0 }, PITH_E_CORRUPT, "container.9" },
		{ { 16, 8, UINT64_MAX }, PITH_E_CORRUPT, "container.9" },
		{ { 24, 8, 255 }, PITH_E_CORRUPT, "container.9" },
		{ { 40, 4, 3 }, PITH_E_CORRUPT, "container.9" },
		{ { 44, 4, 64 }, PITH_E_CORRUPT, "container.10" },
		{ { 48, 1, 1 }, PITH_E_CORRUPT, "container.9" },
		{ { 0, 1, 'Q' }, PITH_E_UNSUPPORTED, "container.10" },
	};
	uint8_t expected[64], p[64];
	struct pith_directory_entry e;
	struct pith_error err;
	lay_out(expected, 64, fields, PITH_ARRAY_LENGTH(fields));
	assert_int_equal(pith_directory_entry_decode(expected, 0, 4096, &e, &err), PITH_OK);
	pith_directory_entry_encode(&e, p);
	assert_memory_equal(p, expected, 64);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		struct field all[PITH_ARRAY_LENGTH(fields) + 1];
		memcpy(all, fields, sizeof(fields));
		all[PITH_ARRAY_LENGTH(fields)] = broken[i].field;
		lay_out(p, 64, all, PITH_ARRAY_LENGTH(all));
		assert_int_equal(pith_directory_entry_decode(p, 0, 4096, &e, &err),
		                 broken[i].status);
		assert_string_equal(err.rule, broken[i].rule);
	}
	e = (struct pith_directory_entry){ .section_id = PITH_ID('x', 'a', 'b', 'c'), .off = 1536,
		                           .nbytes = 3, .raw_nbytes = 3, .entry_nbytes = 7 };
	pith_directory_entry_encode(&e, p);
	assert_int_equal(pith_directory_entry_decode(p, 0, 1600, &e, &err), PITH_OK);
	assert_int_equal(pith_directory_entry_decode(p, 0, 1599, &e, &err), PITH_E_CORRUPT);
}

/* ---- zstd frames ---- */

static void frames_are_bounded(void **state)
{
	(void)state;
	enum { NBYTES = 300000 };
	uint8_t *data = malloc(NBYTES), *out = malloc(NBYTES + 1), *frame;
	size_t nbytes;
	struct pith_error err;
	for (size_t i = 0; i < NBYTES; i++)
		data[i] = (uint8_t)(i * i >> 7);
	assert_int_equal(pith_frame_encode(data, NBYTES, 3, &frame, &nbytes, &err), PITH_OK);
	assert_true(nbytes < NBYTES);
	assert_int_equal(pith_frame_decode(frame, nbytes, out, NBYTES, 0, &err), PITH_OK);
	assert_memory_equal(out, data, NBYTES);
	assert_int_equal(pith_frame_verify(frame, nbytes, NBYTES, 0, &err), PITH_OK);
	static const struct { int more; size_t raw; } wrong[] = {
		{ -1, NBYTES }, { 0, NBYTES - 1 }, { 0, NBYTES + 1 }, { -299, NBYTES },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(wrong); i++) {
		size_t cut = nbytes - (size_t)-wrong[i].more;
		assert_int_equal(pith_frame_check(frame, cut, wrong[i].raw, 9, &err),
		                 PITH_E_CORRUPT);
		assert_int_equal(pith_frame_verify(frame, cut, wrong[i].raw, 9, &err),
		                 PITH_E_CORRUPT);
		assert_string_equal(err.rule, "container.21");
		assert_int_equal(err.off, 9);
	}
	uint8_t *longer = malloc(nbytes + 1);
	memcpy(longer, frame, nbytes);
	longer[nbytes] = 0;
	assert_int_equal(pith_frame_check(longer, nbytes + 1, NBYTES, 0, &err), PITH_E_CORRUPT);
	/* a frame that claims 2^60 bytes allocates nothing: header, then its size of 8 bytes */
	static const uint8_t huge[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1,
		                        0, 0 };
	assert_int_equal(pith_frame_check(huge, sizeof(huge), 1ull << 60, 0, &err), PITH_E_CORRUPT);
	assert_int_equal(pith_frame_verify(huge, sizeof(huge), 1ull << 60, 0, &err), PITH_E_CORRUPT);
	assert_int_equal(pith_frame_check(data, 10, 10, 0, &err), PITH_E_CORRUPT);
	free(longer);
	free(frame);
	assert_int_equal(pith_frame_encode("", 0, 19, &frame, &nbytes, &err), PITH_OK);
	assert_int_equal(pith_frame_decode(frame, nbytes, out, 0, 0, &err), PITH_OK);
	free(frame);
	free(data);
	free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(constants_are_those_of_the_spec),
		cmocka_unit_test(kinds_are_those_of_the_spec),
		cmocka_unit_test(halves_widen_exactly),
		cmocka_unit_test(halves_round_to_nearest_even),
		cmocka_unit_test(bfloats_round_to_nearest_even),
		cmocka_unit_test(products_are_checked),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(names_are_shown_safely),
		cmocka_unit_test(checksums_agree_in_pieces),
		cmocka_unit_test(weight_entries),
		cmocka_unit_test(term_and_transform_entries),
		cmocka_unit_test(plane_entries),
		cmocka_unit_test(arch_entries),
		cmocka_unit_test(block_entries),
		cmocka_unit_test(canary_and_lineage_entries),
		cmocka_unit_test(preambles),
		cmocka_unit_test(header_slots),
		cmocka_unit_test(directory_entries),
		cmocka_unit_test(frames_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
