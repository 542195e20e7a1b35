/*
 * Affine terms: codes of 1..8 bits, W = s * (q - z), with scales and zero-points that
 * may themselves be coded.  The bit-sliced layout is drawn in spec/terms/affine.md; it
 * is a block of 16 rows by 32 columns in `bits` lines of 64 bytes.
 *
 * The decoder here is the meaning of the kind: simple, by row; kernels are elsewhere.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_affine.h"

#include "slice16.h"

#include <assert.h>
#include <math.h>

enum {
	BLOCK_COLUMNS = PITH_SLICE16_COLUMNS,
	LINE_NBYTES = PITH_SLICE16_LINE_NBYTES,
	MAX_GROUP_SIZE = 1 << 20,
	SCALE_F16 = 0,
	SCALE_TWO_LEVEL = 1,
	ZERO_MIDDLE = 0,
	ZERO_U8 = 1,
	ZERO_F16 = 2,
	ZERO_TWO_LEVEL = 3,
	SECOND_LEVEL_VALUES = 4 /* scale_scale, scale_zero, zero_scale, zero_zero */
};

static bool group_size_is_valid(uint64_t group_size)
{
	// spec affine.2: "group_size is 0, 16, or a multiple of 32 that is at most 2^20."
	return group_size == 0 || group_size == 16 ||
	       (group_size % BLOCK_COLUMNS == 0 && group_size <= MAX_GROUP_SIZE);
}

static bool modes_are_valid(uint32_t scale_mode, uint32_t zero_mode)
{
	// spec affine.3: "scale_mode 0 goes with zero_mode 0, 1 or 2; scale_mode 1 goes with zero_mode 3."
	return (scale_mode == SCALE_F16 && zero_mode <= ZERO_F16) ||
	       (scale_mode == SCALE_TWO_LEVEL && zero_mode == ZERO_TWO_LEVEL);
}

static bool level_bits_are_valid(bool used, uint32_t bits)
{
	// spec affine.4: "scale_bits and zero_bits are 1..8 where used, else 0."
	return used ? bits >= 1 && bits <= 8 : bits == 0;
}

/* *out = a * b * c; false when it does not fit. */
static bool mul3(uint64_t a, uint64_t b, uint64_t c, uint64_t *out)
{
	size_t ab, abc;
	if (a > SIZE_MAX || b > SIZE_MAX || !pith_mul_size((size_t)a, (size_t)b, &ab) ||
	    !pith_mul_size(ab, (size_t)c, &abc))
		return false;
	*out = abc;
	return true;
}

bool pith_affine_sizes(uint32_t bits, uint64_t group_size, uint32_t scale_mode, uint32_t zero_mode,
                       uint32_t scale_bits, uint32_t zero_bits, uint64_t m, uint64_t n,
                       struct pith_affine_sizes *out)
{
	memset(out, 0, sizeof(*out));
	if (bits < 1 || bits > 8 || !group_size_is_valid(group_size) ||
	    !modes_are_valid(scale_mode, zero_mode) ||
	    !level_bits_are_valid(scale_mode == SCALE_TWO_LEVEL, scale_bits) ||
	    !level_bits_are_valid(zero_mode == ZERO_TWO_LEVEL, zero_bits) || m == 0 || n == 0)
		return false;
	uint64_t tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0);
	out->blocks = n / BLOCK_COLUMNS + (n % BLOCK_COLUMNS != 0);
	out->groups = group_size == 0 ? 1 : n / group_size + (n % group_size != 0);
	uint64_t zero_nbytes = zero_mode == ZERO_U8 ? 1 : zero_mode == ZERO_F16 ? 2 : 0;
	uint64_t scale_nbytes = scale_mode == SCALE_F16 ? 2 : 0;
	uint64_t level_nbytes = scale_mode == SCALE_TWO_LEVEL ? 2 * SECOND_LEVEL_VALUES : 0;
	return mul3(tiles, out->blocks, LINE_NBYTES * bits, &out->codes) &&
	       mul3(tiles, out->groups, PITH_TILE_ROWS * scale_nbytes, &out->scales) &&
	       mul3(tiles, out->groups, PITH_TILE_ROWS * zero_nbytes, &out->zeros) &&
	       mul3(tiles, out->groups, 2u * scale_bits, &out->scale_codes) &&
	       mul3(tiles, out->groups, 2u * zero_bits, &out->zero_codes) &&
	       mul3(tiles, out->groups, level_nbytes, &out->second_level);
}

/* ---- check ---- */

static pith_status check_params(const struct pith_term *t, struct pith_error *err)
{
	const uint32_t *p = t->param;
	if (p[0] < 1 || p[0] > 8)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "affine.1",
		                      "bits %u is not 1..8", p[0]);
	if (!group_size_is_valid(p[1]))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "affine.2",
		                      "group_size %u is not 0, 16 or a multiple of 32", p[1]);
	if (!modes_are_valid(p[2], p[3]))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "affine.3",
		                      "scale_mode %u does not go with zero_mode %u", p[2], p[3]);
	if (!level_bits_are_valid(p[2] == SCALE_TWO_LEVEL, p[4]) ||
	    !level_bits_are_valid(p[3] == ZERO_TWO_LEVEL, p[5]))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "affine.4",
		                      "scale_bits %u or zero_bits %u is out of range", p[4], p[5]);
	return PITH_OK;
}

static pith_status check_planes(struct pith_term *t, const struct pith_affine_sizes *size,
                                struct pith_error *err)
{
	struct pith_affine *a = &t->u.affine;
	uint32_t zero_dtype = a->zero_mode == ZERO_U8 ? PITH_DTYPE_U8 : PITH_DTYPE_F16;
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_CODES, PITH_LAYOUT_SLICE16, PITH_DTYPE_U8,
	                                size->codes, err));
	a->codes = t->plane[0].data;
	if (a->scale_mode == SCALE_TWO_LEVEL) {
		PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_SCALE_CODES, PITH_LAYOUT_SLICE16,
		                                PITH_DTYPE_U16, size->scale_codes, err));
		PITH_TRY(pith_term_expect_plane(t, 2, PITH_ROLE_ZERO_CODES, PITH_LAYOUT_SLICE16,
		                                PITH_DTYPE_U16, size->zero_codes, err));
		PITH_TRY(pith_term_expect_plane(t, 3, PITH_ROLE_SECOND_LEVEL, PITH_LAYOUT_TILE16,
		                                PITH_DTYPE_F16, size->second_level, err));
		a->scale_codes = t->plane[1].data;
		a->zero_codes = t->plane[2].data;
		a->second_level = t->plane[3].data;
		return PITH_OK;
	}
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
	                                size->scales, err));
	a->scales = t->plane[1].data;
	if (a->zero_mode == ZERO_MIDDLE)
		return PITH_OK;
	PITH_TRY(pith_term_expect_plane(t, 2, PITH_ROLE_ZEROS, PITH_LAYOUT_TILE16, zero_dtype,
	                                size->zeros, err));
	a->zeros = t->plane[2].data;
	return PITH_OK;
}

pith_status pith_affine_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_affine *a = &t->u.affine;
	struct pith_affine_sizes size;
	memset(a, 0, sizeof(*a));
	PITH_TRY(check_params(t, err));
	a->bits = t->param[0];
	a->scale_mode = t->param[2];
	a->zero_mode = t->param[3];
	a->scale_bits = t->param[4];
	a->zero_bits = t->param[5];
	if (!pith_affine_sizes(a->bits, t->param[1], a->scale_mode, a->zero_mode, a->scale_bits,
	                       a->zero_bits, t->m, t->n, &size))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu codes do not fit", t->m, t->n);
	a->groups = (size_t)size.groups;
	a->blocks = (size_t)size.blocks;
	a->group_size = t->param[1] != 0 ? t->param[1] : BLOCK_COLUMNS * a->blocks;
	uint32_t plane_count = a->scale_mode == SCALE_TWO_LEVEL ? 4 :
	                       a->zero_mode == ZERO_MIDDLE      ? 2 : 3;
	PITH_TRY(pith_term_expect_counts(t, plane_count, 6, err));
	return check_planes(t, &size, err);
}

/* ---- codes ---- */

/* Code of 'row' from 'bits' masks of u16 at p. */
static unsigned mask_code(const uint8_t *p, unsigned bits, unsigned row)
{
	unsigned code = 0;
	for (unsigned k = 0; k < bits; k++)
		code |= ((uint32_t)load_le16(p + 2 * k) >> row & 1u) << k;
	return code;
}

/* Scale and zero-point of one row and group. */
static void scale_and_zero(const struct pith_affine *a, size_t tile, size_t group, unsigned row,
                           float *s, float *z)
{
	size_t cell = tile * a->groups + group;
	if (a->scale_mode == SCALE_TWO_LEVEL) {
		const uint8_t *level = a->second_level + cell * 2 * SECOND_LEVEL_VALUES;
		const uint8_t *sm = a->scale_codes + cell * 2 * a->scale_bits;
		const uint8_t *zm = a->zero_codes + cell * 2 * a->zero_bits;
		float qs = (float)mask_code(sm, a->scale_bits, row);
		float qz = (float)mask_code(zm, a->zero_bits, row);
		// spec affine.md: "s = fl( fl(q_s - scale_zero) * scale_scale )"
		float ds = qs - f32_of_f16(load_le16(level + 2));
		float dz = qz - f32_of_f16(load_le16(level + 6));
		*s = ds * f32_of_f16(load_le16(level));
		*z = dz * f32_of_f16(load_le16(level + 4));
		return;
	}
	size_t i = cell * PITH_TILE_ROWS + row;
	*s = f32_of_f16(load_le16(a->scales + 2 * i));
	if (a->zero_mode == ZERO_MIDDLE)
		*z = (float)(1u << (a->bits - 1));
	else if (a->zero_mode == ZERO_U8)
		*z = (float)a->zeros[i];
	else
		*z = f32_of_f16(load_le16(a->zeros + 2 * i));
}

static void unpack_row(const struct pith_term *t, size_t row, float *out)
{
	const struct pith_affine *a = &t->u.affine;
	size_t tile = row / PITH_TILE_ROWS;
	unsigned lane = (unsigned)(row % PITH_TILE_ROWS);
	size_t block_nbytes = (size_t)LINE_NBYTES * a->bits;
	const uint8_t *block = a->codes + tile * a->blocks * block_nbytes;
	float s = 0, z = 0;
	for (size_t first = 0; first < t->n; first += BLOCK_COLUMNS, block += block_nbytes) {
		uint8_t code[BLOCK_COLUMNS];
		size_t end = t->n - first < BLOCK_COLUMNS ? t->n : first + BLOCK_COLUMNS;
		pith_slice16_row_decode(block, a->bits, lane, code);
		for (size_t j = first; j < end; j++) {
			if (j % a->group_size == 0)
				scale_and_zero(a, tile, j / a->group_size, lane, &s, &z);
			// spec affine.md: "W[i][j] = fl( s * fl( q - z ) )"
			float d = (float)code[j - first] - z;
			out[j] = s * d;
		}
	}
}

void pith_affine_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	assert(row + count <= t->m);
	for (size_t r = 0; r < count; r++)
		unpack_row(t, row + r, out + r * t->n);
}

/* ---- verify: affine.5 ---- */

static bool f16_is_finite(uint16_t h)
{
	return (h & 0x7c00u) != 0x7c00u;
}

/* Values of [tiles][groups][16]; those of rows from m on are 0. */
static pith_status verify_cells(const struct pith_term *t, uint32_t plane, struct pith_error *err)
{
	const struct pith_affine *a = &t->u.affine;
	const struct pith_plane *p = &t->plane[plane];
	bool is_u8 = p->dtype == PITH_DTYPE_U8;
	uint32_t largest = (1u << a->bits) - 1;
	for (size_t i = 0; i < t->tiles * a->groups * PITH_TILE_ROWS; i++) {
		size_t row = i / PITH_TILE_ROWS / a->groups * PITH_TILE_ROWS + i % PITH_TILE_ROWS;
		size_t at = is_u8 ? i : 2 * i;
		uint16_t v = is_u8 ? p->data[at] : load_le16(p->data + at);
		if (row >= t->m && v != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + at, "affine.5",
			                      "a scale or zero-point of a row from m on is not 0");
		if (is_u8 && v > largest)
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + at, "affine.5",
			                      "zero-point %u with codes of %u bits", v, a->bits);
		if (!is_u8 && !f16_is_finite(v))
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + at, "affine.5",
			                      "a scale or zero-point is not finite");
	}
	return PITH_OK;
}

static pith_status verify_masks(const struct pith_term *t, uint32_t plane, uint32_t bits,
                                struct pith_error *err)
{
	const struct pith_plane *p = &t->plane[plane];
	size_t rows_in_last = t->m - (t->tiles - 1) * PITH_TILE_ROWS;
	unsigned allowed = (1u << rows_in_last) - 1;
	size_t per_tile = t->u.affine.groups * bits;
	for (size_t i = (t->tiles - 1) * per_tile; i < t->tiles * per_tile; i++)
		if ((load_le16(p->data + 2 * i) & ~allowed) != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + 2 * i, "affine.5",
			                      "a coded scale or zero-point of a row from m on is "
			                      "not 0");
	return PITH_OK;
}

static pith_status verify_second_level(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_plane *p = &t->plane[3];
	for (size_t at = 0; at < p->content_nbytes; at += 2)
		if (!f16_is_finite(load_le16(p->data + at)))
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + at, "affine.5",
			                      "a second-level scale or zero is not finite");
	return PITH_OK;
}

pith_status pith_affine_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_affine *a = &t->u.affine;
	// spec affine.5: "Codes of rows from m and of columns from n on are 0"
	PITH_TRY(pith_slice16_verify(t, a->bits, "affine.5", err));
	if (a->scale_mode == SCALE_TWO_LEVEL) {
		PITH_TRY(verify_masks(t, 1, a->scale_bits, err));
		PITH_TRY(verify_masks(t, 2, a->zero_bits, err));
		return verify_second_level(t, err);
	}
	PITH_TRY(verify_cells(t, 1, err));
	return a->zero_mode == ZERO_MIDDLE ? PITH_OK : verify_cells(t, 2, err);
}

/* ---- pack ---- */

static pith_status pack_refuse(const char *what, size_t row, size_t column, struct pith_error *err)
{
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "affine.5",
	                 "%s of row %zu, column or group %zu is out of range", what, row, column);
}

/* [m, groups] halves -> [tiles][groups][16]. */
static pith_status pack_halves(const uint16_t *from, size_t m, size_t groups, uint8_t *plane,
                               struct pith_error *err)
{
	for (size_t i = 0; i < m; i++)
		for (size_t g = 0; g < groups; g++) {
			size_t cell = (i / PITH_TILE_ROWS * groups + g) * PITH_TILE_ROWS;
			uint16_t v = from[i * groups + g];
			if (!f16_is_finite(v))
				return pack_refuse("a scale or zero-point", i, g, err);
			store_le16(plane + 2 * (cell + i % PITH_TILE_ROWS), v);
		}
	return PITH_OK;
}

static pith_status pack_zeros_u8(const struct pith_affine_source *s, size_t m, size_t groups,
                                 uint8_t *plane, struct pith_error *err)
{
	const uint8_t *from = s->zeros;
	for (size_t i = 0; i < m; i++)
		for (size_t g = 0; g < groups; g++) {
			size_t cell = (i / PITH_TILE_ROWS * groups + g) * PITH_TILE_ROWS;
			uint8_t v = from[i * groups + g];
			if (v >> s->bits != 0)
				return pack_refuse("the zero-point", i, g, err);
			plane[cell + i % PITH_TILE_ROWS] = v;
		}
	return PITH_OK;
}

/* [m, groups] codes -> masks of u16, one bit a row. */
static pith_status pack_masks(const uint8_t *from, size_t m, size_t groups, uint32_t bits,
                              uint8_t *plane, struct pith_error *err)
{
	for (size_t i = 0; i < m; i++)
		for (size_t g = 0; g < groups; g++) {
			uint8_t *p = plane + (i / PITH_TILE_ROWS * groups + g) * 2 * bits;
			unsigned v = from[i * groups + g], row = (unsigned)(i % PITH_TILE_ROWS);
			if (v >> bits != 0)
				return pack_refuse("the code of a scale or zero-point", i, g, err);
			for (unsigned k = 0; k < bits; k++) {
				unsigned mask = load_le16(p + 2 * k) | (v >> k & 1u) << row;
				store_le16(p + 2 * k, (uint16_t)mask);
			}
		}
	return PITH_OK;
}

static pith_status pack_two_level(const struct pith_affine_source *s, size_t m,
                                  const struct pith_affine_sizes *size,
                                  struct pith_packed_term *out, struct pith_error *err)
{
	size_t groups = (size_t)size->groups;
	PITH_TRY(pith_packed_add(out, PITH_ROLE_SCALE_CODES, PITH_LAYOUT_SLICE16, PITH_DTYPE_U16,
	                         size->scale_codes, err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_ZERO_CODES, PITH_LAYOUT_SLICE16, PITH_DTYPE_U16,
	                         size->zero_codes, err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_SECOND_LEVEL, PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
	                         size->second_level, err));
	PITH_TRY(pack_masks(s->scale_codes, m, groups, s->scale_bits, out->plane[1].data, err));
	PITH_TRY(pack_masks(s->zero_codes, m, groups, s->zero_bits, out->plane[2].data, err));
	for (size_t i = 0; i < size->second_level / 2; i++) {
		if (!f16_is_finite(s->second_level[i]))
			return pack_refuse("a second-level value", 0, i, err);
		store_le16(out->plane[3].data + 2 * i, s->second_level[i]);
	}
	return PITH_OK;
}

static pith_status pack_one_level(const struct pith_affine_source *s, size_t m,
                                  const struct pith_affine_sizes *size,
                                  struct pith_packed_term *out, struct pith_error *err)
{
	size_t groups = (size_t)size->groups;
	bool is_u8 = s->zero_mode == ZERO_U8;
	PITH_TRY(pith_packed_add(out, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
	                         size->scales, err));
	PITH_TRY(pack_halves(s->scales, m, groups, out->plane[1].data, err));
	if (s->zero_mode == ZERO_MIDDLE)
		return PITH_OK;
	PITH_TRY(pith_packed_add(out, PITH_ROLE_ZEROS, PITH_LAYOUT_TILE16,
	                         is_u8 ? PITH_DTYPE_U8 : PITH_DTYPE_F16, size->zeros, err));
	if (is_u8)
		return pack_zeros_u8(s, m, groups, out->plane[2].data, err);
	return pack_halves(s->zeros, m, groups, out->plane[2].data, err);
}

pith_status pith_affine_pack(const struct pith_affine_source *s, size_t m, size_t n,
                             struct pith_packed_term *out, struct pith_error *err)
{
	struct pith_affine_sizes size;
	memset(out, 0, sizeof(*out));
	if (!pith_affine_sizes(s->bits, s->group_size, s->scale_mode, s->zero_mode, s->scale_bits,
	                       s->zero_bits, m, n, &size))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "affine.1",
		                 "bits %u, group_size %zu, modes %u/%u, level bits %u/%u, "
		                 "%zu x %zu cannot be stored", s->bits, s->group_size,
		                 s->scale_mode, s->zero_mode, s->scale_bits, s->zero_bits, m, n);
	out->kind = PITH_KIND_AFFINE;
	out->param[0] = s->bits;
	out->param[1] = (uint32_t)s->group_size;
	out->param[2] = s->scale_mode;
	out->param[3] = s->zero_mode;
	out->param[4] = s->scale_bits;
	out->param[5] = s->zero_bits;
	pith_status status = pith_packed_add(out, PITH_ROLE_CODES, PITH_LAYOUT_SLICE16,
	                                     PITH_DTYPE_U8, size.codes, err);
	if (status == PITH_OK)
		status = pith_slice16_pack(s->codes, m, n, s->bits, out->plane[0].data, "affine.5",
		                           err);
	if (status == PITH_OK)
		status = s->scale_mode == SCALE_TWO_LEVEL ? pack_two_level(s, m, &size, out, err) :
		                                            pack_one_level(s, m, &size, out, err);
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
