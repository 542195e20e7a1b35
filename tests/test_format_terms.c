/*
 * The kinds: the bit layout against bytes worked out by hand from the spec's drawing,
 * unpacking against plain loops over the source arrays at odd sizes, and every rule of a
 * kind's page broken once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sample_file.h"
#include "term.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const size_t sizes_m[] = { 1, 17, 100 };
static const size_t sizes_n[] = { 1, 31, 33, 100, 4097 };

/* ---- helpers ---- */

static struct pith_term bind(const struct pith_packed_term *packed, size_t m, size_t n)
{
	struct pith_term term;
	struct pith_error err = { 0 };
	if (pith_packed_bind(packed, m, n, &term, &err) != PITH_OK ||
	    pith_term_verify(&term, &err) != PITH_OK)
		fail_msg("%s: %s", err.rule, err.msg);
	for (uint32_t i = 0; i < term.plane_count; i++) {
		assert_int_equal((uintptr_t)term.plane[i].data % 64, 0);
		assert_int_equal(term.plane[i].nbytes % 64, 0);
	}
	return term;
}

/* Unpack all rows at once and rows from the middle; both must be 'expected' bit for bit. */
static void expect_rows(const struct pith_term *term, const float *expected)
{
	size_t count = term->m * term->n, row = term->m / 3;
	float *out = malloc((count + 1) * sizeof(float));
	out[count] = 12345;
	term->kind->unpack_rows(term, 0, term->m, out);
	assert_memory_equal(out, expected, count * sizeof(float));
	assert_true(out[count] == 12345);
	size_t some = term->m - row > 20 ? 20 : term->m - row;
	term->kind->unpack_rows(term, row, some, out);
	assert_memory_equal(out, expected + row * term->n, some * term->n * sizeof(float));
	free(out);
}

static uint16_t random_half(uint64_t *seed)
{
	return f16_of_f32((float)((int)(sample_random(seed) % 2001) - 1000) / 128);
}

/* A field or byte changed, what binding and then verification say. */
static void expect_bind(const struct pith_packed_term *packed, size_t m, size_t n,
                        pith_status status, const char *rule)
{
	struct pith_term term;
	struct pith_error err = { 0 };
	pith_status got = pith_packed_bind(packed, m, n, &term, &err);
	if (got != status || strcmp(err.rule, rule) != 0)
		fail_msg("wanted %s %s, got %s %s: %s", pith_status_name(status), rule,
		         pith_status_name(got), err.rule, err.msg);
}

static void expect_fault(const struct pith_packed_term *packed, size_t m, size_t n,
                         const char *rule)
{
	struct pith_term term;
	struct pith_error err = { 0 };
	assert_int_equal(pith_packed_bind(packed, m, n, &term, &err), PITH_OK);
	float *out = malloc(m * n * sizeof(float));
	term.kind->unpack_rows(&term, 0, m, out); /* wrong values, but in range */
	free(out);
	if (pith_term_verify(&term, &err) != PITH_E_CORRUPT || strcmp(err.rule, rule) != 0)
		fail_msg("wanted %s, got %s: %s", rule, err.rule, err.msg);
}

/* ---- affine: bits by hand ---- */

/*
 * One code in a block of zeros, and where spec/terms/affine.md puts its bits:
 * byte = 64 * line + 4 * row + k.
 */
static const struct {
	unsigned bits, row, column, code;
	struct { unsigned byte, value; } at[3];
} placed[] = {
	/* 1 bit: column 4 f + k, bit f */
	{ 1, 3, 13, 1, { { 13, 0x08 } } },
	{ 1, 3, 31, 1, { { 15, 0x80 } } },
	/* 2 bits: column 16 l + 4 f + k, two bits at 2 f */
	{ 2, 3, 13, 2, { { 13, 0x80 } } },
	{ 2, 3, 30, 3, { { 78, 0xc0 } } },
	{ 2, 3, 20, 1, { { 76, 0x04 } } },
	/* 3 = 2 + 1: low two bits in lines 0 and 1, the third in line 2 */
	{ 3, 0, 5, 6, { { 1, 0x08 }, { 129, 0x02 } } },
	/* 4 bits: column 8 l + 4 f + k, four bits at 4 f */
	{ 4, 2, 13, 0xb, { { 73, 0xb0 } } },
	{ 4, 0, 31, 5, { { 195, 0x50 } } },
	{ 4, 2, 24, 9, { { 200, 0x09 } } },
	/* 5 = 4 + 1: line 4 holds the fifth bit */
	{ 5, 15, 9, 0x1a, { { 125, 0x0a }, { 317, 0x04 } } },
	/* 6 = 4 + 2: lines 4 and 5 hold the upper two */
	{ 6, 1, 22, 0x2d, { { 134, 0xd0 }, { 326, 0x08 } } },
	/* 7 = 4 + 2 + 1 */
	{ 7, 7, 0, 0x55, { { 28, 0x05 }, { 284, 0x01 }, { 412, 0x01 } } },
	/* 8 bits: column 4 l + k */
	{ 8, 9, 30, 0xc3, { { 486, 0xc3 } } },
};

static void affine_bits_are_where_the_spec_draws_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(placed); i++) {
		uint8_t codes[16 * 32] = { 0 }, expected[512] = { 0 };
		uint16_t scales[16] = { 0 };
		struct pith_packed_term packed;
		unsigned bits = placed[i].bits;
		codes[placed[i].row * 32 + placed[i].column] = (uint8_t)placed[i].code;
		for (size_t k = 0; k < 3; k++)
			if (placed[i].at[k].value != 0)
				expected[placed[i].at[k].byte] = (uint8_t)placed[i].at[k].value;
		struct pith_affine_source s = { .bits = bits, .codes = codes, .scales = scales };
		assert_int_equal(pith_affine_pack(&s, 16, 32, &packed, NULL), PITH_OK);
		assert_int_equal(packed.plane[0].nbytes, 64 * bits);
		assert_memory_equal(packed.plane[0].data, expected, 64 * bits);
		pith_packed_free(&packed);
	}
}

/* Where tiles, blocks, groups and masks go, in a matrix of 2 tiles, 2 blocks, 3 groups. */
static void affine_planes_are_laid_out_by_tile(void **state)
{
	(void)state;
	enum { M = 18, N = 40, GROUPS = 3 };
	uint8_t codes[M * N] = { 0 }, scale_codes[M * GROUPS] = { 0 }, zero_codes[M * GROUPS] = { 0 };
	uint16_t scales[M * GROUPS] = { 0 }, level[2 * GROUPS * 4];
	uint8_t zeros[M * GROUPS] = { 0 };
	struct pith_packed_term packed;
	for (size_t i = 0; i < 24; i++)
		level[i] = (uint16_t)(0x100 + i);
	codes[17 * N + 33] = 0x7f; /* tile 1, row 1, block 1, column 1 */
	scales[17 * GROUPS + 2] = 0x1234;
	zeros[17 * GROUPS + 1] = 0x42;
	struct pith_affine_source s = { .bits = 8, .zero_mode = 1, .group_size = 16,
		                        .codes = codes, .scales = scales, .zeros = zeros };
	assert_int_equal(pith_affine_pack(&s, M, N, &packed, NULL), PITH_OK);
	assert_int_equal(packed.plane_count, 3);
	/* (tile 1 x 2 blocks + block 1) x 512, line 0, row 1, k 1 */
	assert_int_equal(packed.plane[0].data[3 * 512 + 5], 0x7f);
	/* (tile 1 x 3 groups + group) x 16 + row 1 */
	assert_int_equal(load_le16(packed.plane[1].data + 2 * (5 * 16 + 1)), 0x1234);
	assert_int_equal(packed.plane[2].data[4 * 16 + 1], 0x42);
	assert_int_equal(packed.plane[2].nbytes, 128); /* 96 and padding */
	pith_packed_free(&packed);

	scale_codes[17 * GROUPS + 2] = 5; /* bits 0 and 2 */
	zero_codes[3 * GROUPS + 1] = 2;
	s = (struct pith_affine_source){ .bits = 8, .scale_mode = 1, .zero_mode = 3, .scale_bits = 3,
		                         .zero_bits = 2, .group_size = 16, .codes = codes,
		                         .scale_codes = scale_codes, .zero_codes = zero_codes,
		                         .second_level = level };
	assert_int_equal(pith_affine_pack(&s, M, N, &packed, NULL), PITH_OK);
	assert_int_equal(packed.plane_count, 4);
	const uint8_t *mask = packed.plane[1].data + 5 * 3 * 2;
	assert_int_equal(load_le16(mask), 2);
	assert_int_equal(load_le16(mask + 2), 0);
	assert_int_equal(load_le16(mask + 4), 2);
	mask = packed.plane[2].data + 1 * 2 * 2;
	assert_int_equal(load_le16(mask), 0);
	assert_int_equal(load_le16(mask + 2), 8);
	assert_int_equal(load_le16(packed.plane[3].data + 2 * 23), 0x117);
	pith_packed_free(&packed);
}

/* ---- affine: meaning ---- */

struct affine_arrays {
	uint8_t *codes, *zeros_u8, *scale_codes, *zero_codes;
	uint16_t *scales, *zeros, *level;
	float *expected;
};

static struct affine_arrays random_affine(size_t m, size_t n, size_t groups, unsigned bits,
                                          unsigned scale_bits, unsigned zero_bits, uint64_t *seed)
{
	size_t cells = m * groups, levels = (m + 15) / 16 * groups * 4;
	struct affine_arrays a = { malloc(m * n), malloc(cells), malloc(cells), malloc(cells),
		                   malloc(2 * cells), malloc(2 * cells), malloc(2 * levels),
		                   malloc(m * n * sizeof(float)) };
	for (size_t i = 0; i < m * n; i++)
		a.codes[i] = (uint8_t)(sample_random(seed) & ((1u << bits) - 1));
	for (size_t i = 0; i < cells; i++) {
		a.scales[i] = random_half(seed);
		a.zeros[i] = random_half(seed);
		a.zeros_u8[i] = (uint8_t)(sample_random(seed) & ((1u << bits) - 1));
		a.scale_codes[i] = (uint8_t)(sample_random(seed) & ((1u << scale_bits) - 1));
		a.zero_codes[i] = (uint8_t)(sample_random(seed) & ((1u << zero_bits) - 1));
	}
	for (size_t i = 0; i < levels; i++)
		a.level[i] = random_half(seed);
	return a;
}

static void free_affine(struct affine_arrays *a)
{
	free(a->codes);
	free(a->zeros_u8);
	free(a->scale_codes);
	free(a->zero_codes);
	free(a->scales);
	free(a->zeros);
	free(a->level);
	free(a->expected);
}

/* spec/terms/affine.md, "Meaning", on the source arrays. */
static void expect_affine(struct affine_arrays *a, size_t m, size_t n, size_t group_size,
                          size_t groups, unsigned bits, unsigned zero_mode)
{
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			size_t g = j / group_size, cell = i * groups + g;
			const uint16_t *l = a->level + (i / 16 * groups + g) * 4;
			float s = f32_of_f16(a->scales[cell]), z = 0;
			if (zero_mode == 0)
				z = (float)(1u << (bits - 1));
			if (zero_mode == 1)
				z = (float)a->zeros_u8[cell];
			if (zero_mode == 2)
				z = f32_of_f16(a->zeros[cell]);
			if (zero_mode == 3) {
				float ds = (float)a->scale_codes[cell] - f32_of_f16(l[1]);
				float dz = (float)a->zero_codes[cell] - f32_of_f16(l[3]);
				s = ds * f32_of_f16(l[0]);
				z = dz * f32_of_f16(l[2]);
			}
			float d = (float)a->codes[i * n + j] - z;
			a->expected[i * n + j] = s * d;
		}
}

static void check_affine(size_t m, size_t n, size_t group_size, unsigned bits, unsigned zero_mode,
                         uint64_t *seed)
{
	size_t width = group_size != 0 ? group_size : n, groups = (n + width - 1) / width;
	unsigned scale_bits = zero_mode == 3 ? bits : 0, zero_bits = zero_mode == 3 ? 9 - bits : 0;
	struct pith_packed_term packed;
	struct pith_error err = { 0 };
	struct affine_arrays a = random_affine(m, n, groups, bits, scale_bits, zero_bits, seed);
	expect_affine(&a, m, n, width, groups, bits, zero_mode);
	struct pith_affine_source s = {
		.bits = bits, .scale_mode = zero_mode == 3, .zero_mode = zero_mode,
		.scale_bits = scale_bits, .zero_bits = zero_bits, .group_size = group_size,
		.codes = a.codes, .scales = a.scales,
		.zeros = zero_mode == 1 ? (const void *)a.zeros_u8 : a.zeros,
		.scale_codes = a.scale_codes, .zero_codes = a.zero_codes, .second_level = a.level,
	};
	if (pith_affine_pack(&s, m, n, &packed, &err) != PITH_OK)
		fail_msg("%s: %s", err.rule, err.msg);
	struct pith_term term = bind(&packed, m, n);
	expect_rows(&term, a.expected);
	/* codes plane: tiles * blocks * 64 * bits, exactly */
	assert_int_equal(packed.plane[0].nbytes, (m + 15) / 16 * ((n + 31) / 32) * 64 * bits);
	pith_packed_free(&packed);
	free_affine(&a);
}

static void affine_unpacks_to_its_meaning(void **state)
{
	(void)state;
	static const size_t group_sizes[] = { 0, 16, 32, 128, 1 << 20 };
	uint64_t seed = 1;
	for (size_t mi = 0; mi < PITH_ARRAY_LENGTH(sizes_m); mi++)
		for (size_t ni = 0; ni < PITH_ARRAY_LENGTH(sizes_n); ni++)
			for (unsigned bits = 1; bits <= 8; bits++)
				for (unsigned mode = 0; mode <= 3; mode++) {
					/* every group size in turn: all pairs, not all triples */
					size_t g = (mi + ni + bits + mode) % 5;
					check_affine(sizes_m[mi], sizes_n[ni], group_sizes[g], bits,
					             mode, &seed);
				}
}

/* ---- affine: rules ---- */

static struct pith_packed_term small_affine(unsigned zero_mode)
{
	static uint8_t codes[17 * 33];
	static uint16_t halves[17 * 3], level[2 * 3 * 4];
	struct pith_packed_term packed;
	struct pith_affine_source s = {
		.bits = 4, .scale_mode = zero_mode == 3, .zero_mode = zero_mode,
		.scale_bits = zero_mode == 3 ? 2 : 0, .zero_bits = zero_mode == 3 ? 2 : 0,
		.group_size = 16, .codes = codes, .scales = halves, .zeros = halves,
		.scale_codes = codes, .zero_codes = codes, .second_level = level,
	};
	assert_int_equal(pith_affine_pack(&s, 17, 33, &packed, NULL), PITH_OK);
	return packed;
}

static void affine_rules_hold(void **state)
{
	(void)state;
	static const struct { unsigned param; uint32_t value; const char *rule; } broken[] = {
		{ 0, 0, "affine.1" },  { 0, 9, "affine.1" },         { 1, 8, "affine.2" },
		{ 1, 48, "affine.2" }, { 1, (1 << 20) + 32, "affine.2" }, { 2, 2, "affine.3" },
		{ 2, 1, "affine.3" },  { 3, 3, "affine.3" },         { 3, 4, "affine.3" },
		{ 4, 1, "affine.4" },  { 5, 1, "affine.4" },         { 6, 1, "weight.3" },
		{ 23, 1, "weight.3" }, { 0, 5, "container.15" },     { 1, 32, "container.15" },
		{ 3, 0, "weight.5" },  { 3, 1, "container.15" },
	};
	struct pith_packed_term p = small_affine(2);
	expect_bind(&p, 17, 33, PITH_OK, "");
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		uint32_t old = p.param[broken[i].param];
		p.param[broken[i].param] = broken[i].value;
		expect_bind(&p, 17, 33, PITH_E_CORRUPT, broken[i].rule);
		p.param[broken[i].param] = old;
	}
	expect_bind(&p, 33, 33, PITH_E_CORRUPT, "container.15");
	expect_bind(&p, 17, 97, PITH_E_CORRUPT, "container.15");
	expect_bind(&p, (size_t)1 << 40, (size_t)1 << 40, PITH_E_CORRUPT, "container.14");
	p.plane_count = 2;
	expect_bind(&p, 17, 33, PITH_E_CORRUPT, "weight.5");
	p.plane_count = 3;
	p.plane[1].role = PITH_ROLE_ZEROS;
	expect_bind(&p, 17, 33, PITH_E_CORRUPT, "container.15");
	p.plane[1].role = 77;
	expect_bind(&p, 17, 33, PITH_E_UNSUPPORTED, "weight.1");
	p.plane[1].role = PITH_ROLE_SCALES;
	p.plane[0].layout = 0x80000001;
	expect_bind(&p, 17, 33, PITH_E_UNSUPPORTED, "weight.1");
	p.plane[0].layout = PITH_LAYOUT_SLICE16;
	p.kind = PITH_KIND_EXPERIMENTAL + 1;
	expect_bind(&p, 17, 33, PITH_E_UNSUPPORTED, "weight.1");
	p.kind = 0;
	expect_bind(&p, 17, 33, PITH_E_CORRUPT, "weight.1");
	p.kind = PITH_KIND_AFFINE;
	pith_packed_free(&p);
	p = small_affine(3);
	p.param[5] = 9;
	expect_bind(&p, 17, 33, PITH_E_CORRUPT, "affine.4");
	p.param[5] = 0;
	expect_bind(&p, 17, 33, PITH_E_CORRUPT, "affine.4");
	pith_packed_free(&p);
}

/* One byte of a plane set; verification says which rule that breaks. */
static void affine_values_are_verified(void **state)
{
	(void)state;
	/* 17 x 33: 2 tiles, 2 blocks of 256, 3 groups; row 1 of tile 1 and column 1 of block 1 are outside */
	static const struct { unsigned mode, plane, off, value; const char *rule; } broken[] = {
		{ 2, 0, 256 + 1, 0x01, "affine.5" },     /* column 33 */
		{ 2, 0, 256, 0x10, "affine.5" },         /* column 36 */
		{ 2, 0, 512 + 4, 0x01, "affine.5" },     /* row 17 */
		{ 2, 1, 2 * (3 * 16 + 1), 1, "affine.5" }, /* scale of row 17 */
		{ 2, 1, 1, 0x7c, "affine.5" },           /* an infinite scale */
		{ 2, 2, 1, 0x7e, "affine.5" },           /* a zero that is not a number */
		{ 1, 2, 0, 16, "affine.5" },             /* beyond 4 bits */
		{ 1, 2, 3 * 16 + 1, 1, "affine.5" },     /* zero of row 17 */
		{ 1, 2, 96, 1, "container.15" },         /* padding */
		{ 3, 1, 3 * 2 * 2, 2, "affine.5" },      /* mask bit of row 17 */
		{ 3, 2, 3 * 2 * 2, 2, "affine.5" },
		{ 3, 3, 1, 0x7c, "affine.5" },
		{ 3, 3, 48, 1, "container.15" },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(broken); i++) {
		struct pith_packed_term p = small_affine(broken[i].mode);
		p.plane[broken[i].plane].data[broken[i].off] = (uint8_t)broken[i].value;
		expect_fault(&p, 17, 33, broken[i].rule);
		pith_packed_free(&p);
	}
}

static void affine_sources_are_checked(void **state)
{
	(void)state;
	uint8_t codes[64] = { 0 }, zeros[2] = { 0 };
	uint16_t scales[2] = { 0 };
	struct pith_packed_term p;
	struct pith_affine_source s = { .bits = 3, .zero_mode = 1, .codes = codes, .scales = scales,
		                        .zeros = zeros };
	assert_int_equal(pith_affine_pack(&s, 2, 32, &p, NULL), PITH_OK);
	pith_packed_free(&p);
	codes[63] = 8;
	assert_int_equal(pith_affine_pack(&s, 2, 32, &p, NULL), PITH_E_ARGUMENT);
	codes[63] = 7;
	zeros[1] = 8;
	assert_int_equal(pith_affine_pack(&s, 2, 32, &p, NULL), PITH_E_ARGUMENT);
	zeros[1] = 7;
	scales[1] = 0x7c00;
	assert_int_equal(pith_affine_pack(&s, 2, 32, &p, NULL), PITH_E_ARGUMENT);
	scales[1] = 0;
	s.group_size = 24;
	assert_int_equal(pith_affine_pack(&s, 2, 32, &p, NULL), PITH_E_ARGUMENT);
	assert_int_equal(p.plane_count, 0);
	struct pith_affine_sizes size;
	assert_false(pith_affine_sizes(3, 0, 0, 0, 0, 0, (uint64_t)1 << 40, (uint64_t)1 << 40, &size));
	assert_false(pith_affine_sizes(3, 0, 0, 0, 0, 0, 0, 1, &size));
	assert_true(pith_affine_sizes(3, 0, 0, 0, 0, 0, (uint64_t)1 << 40, 256, &size));
}

/* ---- dense ---- */

static void dense_unpacks_to_its_meaning(void **state)
{
	(void)state;
	uint64_t seed = 2;
	for (size_t mi = 0; mi < PITH_ARRAY_LENGTH(sizes_m); mi++)
		for (size_t ni = 0; ni < PITH_ARRAY_LENGTH(sizes_n); ni++)
			for (uint32_t dtype = 1; dtype <= 3; dtype++) {
				size_t m = sizes_m[mi], n = sizes_n[ni];
				float *values = malloc(m * n * sizeof(float));
				struct pith_packed_term p, q;
				for (size_t i = 0; i < m * n; i++) {
					float v = f32_of_f16(random_half(&seed));
					values[i] = dtype == 3 ? f32_of_bf16(bf16_of_f32(v)) : v;
				}
				assert_int_equal(pith_dense_pack(values, m, n, dtype, &p, NULL),
				                 PITH_OK);
				struct pith_term term = bind(&p, m, n);
				expect_rows(&term, values);
				assert_int_equal(pith_dense_pack_bytes(p.plane[0].data, m, n, dtype,
				                                       &q, NULL), PITH_OK);
				assert_int_equal(p.plane[0].nbytes, q.plane[0].nbytes);
				assert_memory_equal(p.plane[0].data, q.plane[0].data,
				                    p.plane[0].nbytes);
				pith_packed_free(&p);
				pith_packed_free(&q);
				free(values);
			}
}

static void dense_rules_hold(void **state)
{
	(void)state;
	float values[15] = { 0 };
	struct pith_packed_term p;
	assert_int_equal(pith_dense_pack(values, 3, 5, PITH_DTYPE_F16, &p, NULL), PITH_OK);
	expect_bind(&p, 3, 5, PITH_OK, "");
	expect_bind(&p, 3, 11, PITH_E_CORRUPT, "container.15");
	expect_bind(&p, SIZE_MAX / 2, 3, PITH_E_CORRUPT, "container.14");
	p.param[0] = PITH_DTYPE_U8;
	expect_bind(&p, 3, 5, PITH_E_CORRUPT, "dense.1");
	p.param[0] = PITH_DTYPE_BF16; /* another than the plane's */
	expect_bind(&p, 3, 5, PITH_E_CORRUPT, "container.15");
	p.param[0] = PITH_DTYPE_F16;
	p.param[1] = 1;
	expect_bind(&p, 3, 5, PITH_E_CORRUPT, "weight.3");
	p.param[1] = 0;
	p.plane[0].data[30] = 1; /* behind 15 halves */
	expect_fault(&p, 3, 5, "container.15");
	pith_packed_free(&p);
	assert_int_equal(pith_dense_pack(values, 3, 5, PITH_DTYPE_I8, &p, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_dense_pack(values, 0, 5, PITH_DTYPE_F32, &p, NULL), PITH_E_ARGUMENT);
}

/* ---- sparse ---- */

/* About one position in 'every', shuffled; the expected matrix beside them. */
static size_t random_entries(size_t m, size_t n, uint32_t every, uint64_t *seed,
                             struct pith_sparse_source_entry *entries, float *expected)
{
	size_t count = 0;
	for (size_t i = 0; i < m * n; i++) {
		expected[i] = 0;
		if (sample_random(seed) % every != 0 && !(count == 0 && i == m * n - 1))
			continue;
		uint16_t value = random_half(seed);
		expected[i] = f32_of_f16(value);
		entries[count++] = (struct pith_sparse_source_entry){ (uint32_t)(i / n),
			                                             (uint32_t)(i % n), value };
	}
	for (size_t e = count; e-- > 1;) {
		size_t other = sample_random(seed) % (e + 1);
		struct pith_sparse_source_entry t = entries[e];
		entries[e] = entries[other];
		entries[other] = t;
	}
	return count;
}

static void sparse_unpacks_to_its_meaning(void **state)
{
	(void)state;
	uint64_t seed = 3;
	for (size_t mi = 0; mi < PITH_ARRAY_LENGTH(sizes_m); mi++)
		for (size_t ni = 0; ni < PITH_ARRAY_LENGTH(sizes_n); ni++) {
			size_t m = sizes_m[mi], n = sizes_n[ni];
			float *expected = malloc(m * n * sizeof(float));
			struct pith_sparse_source_entry *entries = malloc(m * n * sizeof(*entries));
			struct pith_packed_term p;
			size_t count = random_entries(m, n, 7, &seed, entries, expected);
			assert_int_equal(pith_sparse_pack(entries, count, m, n, &p, NULL), PITH_OK);
			struct pith_term term = bind(&p, m, n);
			expect_rows(&term, expected);
			pith_packed_free(&p);
			free(expected);
			free(entries);
		}
}

/* 17 x 4097: two tiles, two blocks. */
static struct pith_packed_term small_sparse(void)
{
	static const struct pith_sparse_source_entry entries[] = {
		{ 16, 4096, 0x3c00 }, { 2, 7, 0x4400 }, { 2, 1, 0x3c00 }, { 1, 1, 0x4000 },
		{ 15, 4095, 0x4200 },
	};
	struct pith_packed_term p;
	assert_int_equal(pith_sparse_pack(entries, 5, 17, 4097, &p, NULL), PITH_OK);
	return p;
}

static void sparse_lists_are_laid_out_by_tile_and_block(void **state)
{
	(void)state;
	static const uint8_t offsets[20] = { 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 5 };
	static const uint8_t counts[128] = { [2] = 1, [4] = 2, [30] = 1, [96] = 1 };
	static const uint8_t index[10] = { 1, 0, 1, 0, 0xff, 0x0f, 7, 0, 0, 0 };
	static const uint8_t values[10] = { 0, 0x40, 0, 0x3c, 0, 0x42, 0, 0x44, 0, 0x3c };
	struct pith_packed_term p = small_sparse();
	assert_memory_equal(p.plane[0].data, offsets, 20);
	assert_memory_equal(p.plane[1].data, counts, 128);
	assert_memory_equal(p.plane[2].data, index, 10);
	assert_memory_equal(p.plane[3].data, values, 10);
	assert_int_equal(p.param[0], 1);
	assert_int_equal(p.param[1], 5);
	pith_packed_free(&p);
}

static void sparse_rules_hold(void **state)
{
	(void)state;
	struct pith_packed_term p = small_sparse();
	struct pith_sparse_source_entry twice[2] = { { 1, 1, 0 }, { 1, 1, 1 } };
	expect_bind(&p, 17, 4097, PITH_OK, "");
	p.param[0] = 4;
	expect_bind(&p, 17, 4097, PITH_E_UNSUPPORTED, "sparse.1");
	p.param[0] = 1;
	p.param[1] = 0;
	expect_bind(&p, 17, 4097, PITH_E_CORRUPT, "sparse.1");
	p.param[1] = 6;
	expect_bind(&p, 17, 4097, PITH_E_CORRUPT, "sparse.2");
	p.param[1] = 33;
	expect_bind(&p, 17, 4097, PITH_E_CORRUPT, "container.15");
	p.param[1] = 5;
	static const struct { unsigned off; uint32_t value; } offsets[] = {
		{ 0, 1 }, { 4, 5 }, { 8, 3 }, { 12, 6 }, { 16, 6 }, { 4, 0xffffffff }, { 16, 4 },
		{ 4, 3 },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(offsets); i++) {
		uint32_t old = load_le32(p.plane[0].data + offsets[i].off);
		store_le32(p.plane[0].data + offsets[i].off, offsets[i].value);
		expect_bind(&p, 17, 4097, PITH_E_CORRUPT, "sparse.2");
		store_le32(p.plane[0].data + offsets[i].off, old);
	}
	static const struct { unsigned off, value; } counts[] = { { 0, 1 }, { 4, 1 }, { 3, 1 }, { 127, 0xff } };
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(counts); i++) {
		uint8_t *byte = &p.plane[1].data[counts[i].off], old = *byte;
		*byte = (uint8_t)counts[i].value;
		expect_bind(&p, 17, 4097, PITH_E_CORRUPT, "sparse.2");
		*byte = old;
	}
	static const struct { unsigned plane, off, value; const char *rule; } values[] = {
		{ 2, 6, 1, "sparse.3" }, { 2, 6, 0, "sparse.3" }, { 2, 8, 1, "sparse.4" },
		{ 2, 5, 0x1f, "sparse.4" }, { 3, 1, 0x7c, "sparse.4" }, { 3, 10, 1, "sparse.4" },
		{ 2, 73, 1, "sparse.4" }, { 2, 74, 1, "container.15" }, { 3, 74, 1, "container.15" },
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(values); i++) {
		uint8_t *byte = &p.plane[values[i].plane].data[values[i].off], old = *byte;
		*byte = (uint8_t)values[i].value;
		expect_fault(&p, 17, 4097, values[i].rule);
		*byte = old;
	}
	pith_packed_free(&p);
	assert_int_equal(pith_sparse_pack(twice, 2, 2, 2, &p, NULL), PITH_E_ARGUMENT);
	twice[0].column = 2;
	assert_int_equal(pith_sparse_pack(twice, 2, 2, 2, &p, NULL), PITH_E_ARGUMENT);
	twice[0] = (struct pith_sparse_source_entry){ 0, 0, 0xfc00 };
	assert_int_equal(pith_sparse_pack(twice, 2, 2, 2, &p, NULL), PITH_E_ARGUMENT);
	assert_int_equal(pith_sparse_pack(twice, 0, 2, 2, &p, NULL), PITH_E_ARGUMENT);
}

/* ---- columns ---- */

static void columns_unpack_to_their_meaning(void **state)
{
	(void)state;
	uint64_t seed = 4;
	for (size_t mi = 0; mi < PITH_ARRAY_LENGTH(sizes_m); mi++)
		for (size_t ni = 0; ni < PITH_ARRAY_LENGTH(sizes_n); ni++) {
			size_t m = sizes_m[mi], n = sizes_n[ni], c = 0;
			uint32_t dtype = 2 + (uint32_t)((mi + ni) % 2);
			uint32_t *index = malloc(n * sizeof(*index));
			float *expected = calloc(m * n, sizeof(float));
			for (size_t j = 0; j < n; j++)
				if (j == n - 1 || sample_random(&seed) % 9 == 0)
					index[c++] = (uint32_t)j;
			float *values = malloc(m * c * sizeof(float));
			for (size_t i = 0; i < m * c; i++) {
				float v = f32_of_f16(random_half(&seed));
				values[i] = dtype == 3 ? f32_of_bf16(bf16_of_f32(v)) : v;
				expected[i / c * n + index[i % c]] = values[i];
			}
			struct pith_packed_term p;
			assert_int_equal(pith_columns_pack(index, values, c, m, n, dtype, &p, NULL),
			                 PITH_OK);
			struct pith_term term = bind(&p, m, n);
			expect_rows(&term, expected);
			pith_packed_free(&p);
			free(index);
			free(values);
			free(expected);
		}
}

static void columns_rules_hold(void **state)
{
	(void)state;
	uint32_t index[2] = { 3, 9 };
	float values[17 * 2];
	for (size_t i = 0; i < 34; i++)
		values[i] = (float)i;
	struct pith_packed_term p;
	assert_int_equal(pith_columns_pack(index, values, 2, 17, 10, PITH_DTYPE_F16, &p, NULL),
	                 PITH_OK);
	/* (tile 1 x 2 columns + column 1) x 16 + row 0: value 33 */
	assert_int_equal(load_le16(p.plane[1].data + 2 * (3 * 16)), 0x5020);
	expect_bind(&p, 17, 10, PITH_OK, "");
	expect_bind(&p, 17, 9, PITH_E_CORRUPT, "columns.2");
	p.param[0] = PITH_DTYPE_F32;
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "columns.1");
	p.param[0] = PITH_DTYPE_BF16;
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "container.15");
	p.param[0] = PITH_DTYPE_F16;
	p.param[1] = 0;
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "columns.1");
	p.param[1] = 11;
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "columns.1");
	p.param[1] = 2;
	store_le32(p.plane[0].data + 4, 3);
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "columns.2");
	store_le32(p.plane[0].data + 4, 0xffffffff);
	expect_bind(&p, 17, 10, PITH_E_CORRUPT, "columns.2");
	store_le32(p.plane[0].data + 4, 9);
	p.plane[1].data[2 * (2 * 16 + 1)] = 1; /* row 17 */
	expect_fault(&p, 17, 10, "columns.3");
	p.plane[1].data[2 * (2 * 16 + 1)] = 0;
	store_le16(p.plane[1].data, 0x7c00);
	expect_fault(&p, 17, 10, "columns.3");
	pith_packed_free(&p);
	values[0] = 1e9f; /* infinite as f16, not as bf16 */
	assert_int_equal(pith_columns_pack(index, values, 2, 17, 10, PITH_DTYPE_F16, &p, NULL),
	                 PITH_E_ARGUMENT);
	assert_int_equal(pith_columns_pack(index, values, 2, 17, 10, PITH_DTYPE_BF16, &p, NULL),
	                 PITH_OK);
	pith_packed_free(&p);
	index[1] = 3;
	assert_int_equal(pith_columns_pack(index, values, 2, 17, 10, PITH_DTYPE_BF16, &p, NULL),
	                 PITH_E_ARGUMENT);
}

/* ---- permute ---- */

static void permute_rules_hold(void **state)
{
	(void)state;
	_Alignas(64) uint8_t data[64] = { 0 };
	struct pith_error err;
	struct pith_transform t = {
		.kind = 1, .n = 5, .weight_name = "w", .weight_name_nbytes = 1,
		.plane = { .data = data, .nbytes = 64, .role = PITH_ROLE_INDEX,
		           .layout = PITH_LAYOUT_LIST, .dtype = PITH_DTYPE_U32 },
	};
	for (uint32_t j = 0; j < 5; j++)
		store_le32(data + 4 * j, (j * 2 + 1) % 5);
	assert_int_equal(pith_transform_bind(&t, &err), PITH_OK);
	assert_int_equal(pith_transform_verify(&t, &err), PITH_OK);
	assert_ptr_equal(t.plane.data, data);
	store_le32(data, 5);
	assert_int_equal(pith_transform_bind(&t, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "permute.1");
	store_le32(data, 3);
	assert_int_equal(pith_transform_bind(&t, &err), PITH_OK);
	assert_int_equal(pith_transform_verify(&t, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "permute.2");
	assert_string_equal(err.msg, "weight w: transform permute: index 3 occurs twice");
	store_le32(data, 1);
	data[20] = 1;
	assert_int_equal(pith_transform_verify(&t, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "container.15");
	t.n = 17;
	assert_int_equal(pith_transform_bind(&t, &err), PITH_E_CORRUPT);
	t.n = SIZE_MAX / 4;
	assert_int_equal(pith_transform_bind(&t, &err), PITH_E_CORRUPT);
	t.n = 5;
	t.plane.dtype = PITH_DTYPE_I8;
	assert_int_equal(pith_transform_bind(&t, &err), PITH_E_CORRUPT);
	t.plane.dtype = 8;
	assert_int_equal(pith_transform_bind(&t, &err), PITH_E_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(affine_bits_are_where_the_spec_draws_them),
		cmocka_unit_test(affine_planes_are_laid_out_by_tile),
		cmocka_unit_test(affine_unpacks_to_its_meaning),
		cmocka_unit_test(affine_rules_hold),
		cmocka_unit_test(affine_values_are_verified),
		cmocka_unit_test(affine_sources_are_checked),
		cmocka_unit_test(dense_unpacks_to_its_meaning),
		cmocka_unit_test(dense_rules_hold),
		cmocka_unit_test(sparse_unpacks_to_its_meaning),
		cmocka_unit_test(sparse_lists_are_laid_out_by_tile_and_block),
		cmocka_unit_test(sparse_rules_hold),
		cmocka_unit_test(columns_unpack_to_their_meaning),
		cmocka_unit_test(columns_rules_hold),
		cmocka_unit_test(permute_rules_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
