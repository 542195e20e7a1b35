/*
 * Codebook terms: codes of 2..8 bits into a table of i8 or f32 entries, W = s * e, with one
 * table for all rows or one per row, and scales that may themselves be coded.
 *
 * The decoder here is the meaning of the kind: simple, by row; kernels are elsewhere.
 * Spec: spec/terms/codebook.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_codebook.h"

#include "slice16.h"

#include <assert.h>
#include <math.h>

enum {
	SCALE_F16 = PITH_CODEBOOK_SCALE_F16,
	SCALE_TWO_LEVEL = PITH_CODEBOOK_SCALE_TWO_LEVEL,
	SCALE_NONE = PITH_CODEBOOK_SCALE_NONE,
	MAX_GROUP_SIZE = 1 << 20,
	LEVEL_VALUES = 2, /* scale_scale, scale_zero */
	PLANE_CODES = 0,
	PLANE_ENTRIES = 1,
	PLANE_SCALES = 2,
	PLANE_SECOND_LEVEL = 3
};

static bool group_size_is_valid(uint64_t group_size, uint32_t scale_mode)
{
	// spec codebook.2: "group_size is 0, 16, or a multiple of 32 that is at most 2^20; it is 0 with scale_mode 3."
	if (scale_mode == SCALE_NONE)
		return group_size == 0;
	return group_size == 0 || group_size == 16 ||
	       (group_size % PITH_ACT_GROUP == 0 && group_size <= MAX_GROUP_SIZE);
}

static bool scale_mode_is_valid(uint32_t scale_mode, bool real)
{
	// spec codebook.3: "scale_mode 3 goes with f32 entries"
	return scale_mode == SCALE_F16 || scale_mode == SCALE_TWO_LEVEL ||
	       (scale_mode == SCALE_NONE && real);
}

bool pith_codebook_is_integer(const uint32_t *param)
{
	return param[3] == PITH_DTYPE_I8;
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

bool pith_codebook_sizes(uint32_t bits, uint64_t group_size, uint32_t scale_mode, bool real,
                         bool per_row, uint64_t m, uint64_t n, struct pith_codebook_sizes *out)
{
	memset(out, 0, sizeof(*out));
	if (bits < 2 || bits > 8 || !group_size_is_valid(group_size, scale_mode) ||
	    !scale_mode_is_valid(scale_mode, real) || m == 0 || n == 0)
		return false;
	uint64_t tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0);
	uint64_t table_nbytes = ((uint64_t)1 << bits) * (real ? 4 : 1);
	uint64_t cell_nbytes = scale_mode == SCALE_F16 ? 2 : 0;
	uint64_t code_nbytes = scale_mode == SCALE_TWO_LEVEL ? 1 : 0;
	out->blocks = n / PITH_SLICE16_COLUMNS + (n % PITH_SLICE16_COLUMNS != 0);
	out->groups = group_size == 0 ? 1 : n / group_size + (n % group_size != 0);
	return mul3(tiles, out->blocks, PITH_SLICE16_LINE_NBYTES * bits, &out->codes) &&
	       mul3(per_row ? tiles : 1, per_row ? PITH_TILE_ROWS : 1, table_nbytes, &out->entries) &&
	       mul3(tiles, out->groups, PITH_TILE_ROWS * cell_nbytes, &out->scales) &&
	       mul3(tiles, out->groups, PITH_TILE_ROWS * code_nbytes, &out->scale_codes) &&
	       mul3(tiles, LEVEL_VALUES, 2 * code_nbytes, &out->second_level);
}

/* ---- check ---- */

static pith_status check_params(const struct pith_term *t, struct pith_error *err)
{
	const uint32_t *p = t->param;
	bool real = p[3] == PITH_DTYPE_F32;
	// spec codebook.1: "bits is 2..8."
	if (p[0] < 2 || p[0] > 8)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "codebook.1",
		                      "bits %u is not 2..8", p[0]);
	if ((p[3] != PITH_DTYPE_I8 && !real) || p[4] > 1 || !scale_mode_is_valid(p[2], real))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "codebook.3",
		                      "scale_mode %u, entry_dtype %u, table_mode %u do not go "
		                      "together", p[2], p[3], p[4]);
	if (!group_size_is_valid(p[1], p[2]))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "codebook.2",
		                      "group_size %u with scale_mode %u", p[1], p[2]);
	return PITH_OK;
}

static pith_status check_planes(struct pith_term *t, const struct pith_codebook_sizes *size,
                                struct pith_error *err)
{
	struct pith_codebook *c = &t->u.codebook;
	PITH_TRY(pith_term_expect_plane(t, PLANE_CODES, PITH_ROLE_CODES, PITH_LAYOUT_SLICE16,
	                                PITH_DTYPE_U8, size->codes, err));
	PITH_TRY(pith_term_expect_plane(t, PLANE_ENTRIES, PITH_ROLE_VALUES,
	                                c->per_row ? PITH_LAYOUT_TILE16 : PITH_LAYOUT_LIST,
	                                c->real ? PITH_DTYPE_F32 : PITH_DTYPE_I8, size->entries,
	                                err));
	c->codes = t->plane[PLANE_CODES].data;
	c->entries = t->plane[PLANE_ENTRIES].data;
	if (c->scale_mode == SCALE_F16) {
		PITH_TRY(pith_term_expect_plane(t, PLANE_SCALES, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16,
		                                PITH_DTYPE_F16, size->scales, err));
		c->scales = t->plane[PLANE_SCALES].data;
	} else if (c->scale_mode == SCALE_TWO_LEVEL) {
		PITH_TRY(pith_term_expect_plane(t, PLANE_SCALES, PITH_ROLE_SCALE_CODES,
		                                PITH_LAYOUT_TILE16, PITH_DTYPE_U8, size->scale_codes,
		                                err));
		PITH_TRY(pith_term_expect_plane(t, PLANE_SECOND_LEVEL, PITH_ROLE_SECOND_LEVEL,
		                                PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
		                                size->second_level, err));
		c->scale_codes = t->plane[PLANE_SCALES].data;
		c->second_level = t->plane[PLANE_SECOND_LEVEL].data;
	}
	return PITH_OK;
}

static uint32_t plane_count_of(uint32_t scale_mode)
{
	return scale_mode == SCALE_NONE ? 2 : scale_mode == SCALE_F16 ? 3 : 4;
}

pith_status pith_codebook_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_codebook *c = &t->u.codebook;
	struct pith_codebook_sizes size;
	memset(c, 0, sizeof(*c));
	PITH_TRY(check_params(t, err));
	c->bits = t->param[0];
	c->scale_mode = t->param[2];
	c->real = t->param[3] == PITH_DTYPE_F32;
	c->per_row = t->param[4] == 1;
	if (!pith_codebook_sizes(c->bits, t->param[1], c->scale_mode, c->real, c->per_row, t->m, t->n,
	                         &size))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu codes do not fit", t->m, t->n);
	c->groups = (size_t)size.groups;
	c->blocks = (size_t)size.blocks;
	c->group_size = t->param[1] != 0 ? t->param[1] : PITH_SLICE16_COLUMNS * c->blocks;
	PITH_TRY(pith_term_expect_counts(t, plane_count_of(c->scale_mode), 5, err));
	return check_planes(t, &size, err);
}

/* ---- unpack ---- */

/* Scale of (tile, group, lane); 1 where there is none. */
static float scale_of(const struct pith_codebook *c, size_t tile, size_t group, size_t lane)
{
	size_t cell = (tile * c->groups + group) * PITH_TILE_ROWS + lane;
	if (c->scale_mode == SCALE_NONE)
		return 1.0f;
	if (c->scale_mode == SCALE_F16)
		return f32_of_f16(load_le16(c->scales + 2 * cell));
	// spec codebook: "s = fl( fl(q_s - scale_zero) * scale_scale )"
	const uint8_t *level = c->second_level + 4 * tile;
	float centred = (float)c->scale_codes[cell] - f32_of_f16(load_le16(level + 2));
	return centred * f32_of_f16(load_le16(level));
}

static float entry_of(const struct pith_codebook *c, size_t tile, size_t lane, unsigned code)
{
	size_t at = c->per_row ? ((tile << c->bits) + code) * PITH_TILE_ROWS + lane : code;
	return c->real ? load_f32(c->entries + 4 * at) : (float)(int8_t)c->entries[at];
}

static void unpack_row(const struct pith_term *t, size_t row, float *out)
{
	const struct pith_codebook *c = &t->u.codebook;
	size_t tile = row / PITH_TILE_ROWS, lane = row % PITH_TILE_ROWS;
	size_t block_nbytes = (size_t)PITH_SLICE16_LINE_NBYTES * c->bits;
	const uint8_t *block = c->codes + tile * c->blocks * block_nbytes;
	for (size_t first = 0; first < t->n; first += PITH_SLICE16_COLUMNS, block += block_nbytes) {
		uint8_t code[PITH_SLICE16_COLUMNS];
		size_t left = t->n - first;
		size_t count = left < PITH_SLICE16_COLUMNS ? left : PITH_SLICE16_COLUMNS;
		pith_slice16_row_decode(block, c->bits, (unsigned)lane, code);
		for (size_t j = 0; j < count; j++) {
			float e = entry_of(c, tile, lane, code[j]);
			float s = scale_of(c, tile, (first + j) / c->group_size, lane);
			// spec codebook: "W[i][j] = fl( s * e )"
			out[first + j] = c->scale_mode == SCALE_NONE ? e : s * e;
		}
	}
}

void pith_codebook_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	assert(row + count <= t->m);
	for (size_t r = 0; r < count; r++)
		unpack_row(t, row + r, out + r * t->n);
}

/* ---- verify: codebook.4 ---- */

static bool f16_is_finite(uint16_t h)
{
	return (h & 0x7c00u) != 0x7c00u;
}

static pith_status value_fail(const struct pith_term *t, uint32_t plane, size_t at, const char *what,
                              struct pith_error *err)
{
	return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[plane].off + at, "codebook.4", "%s",
	                      what);
}

/* Values of [tiles][per_row][16]: those of rows from m on are 0, all are finite. */
static pith_status verify_cells(const struct pith_term *t, uint32_t plane, size_t per_row,
                                struct pith_error *err)
{
	const struct pith_plane *p = &t->plane[plane];
	size_t width = pith_dtype_nbytes(p->dtype);
	for (size_t i = 0; i < t->tiles * per_row * PITH_TILE_ROWS; i++) {
		size_t row = i / PITH_TILE_ROWS / per_row * PITH_TILE_ROWS + i % PITH_TILE_ROWS;
		const uint8_t *v = p->data + i * width;
		bool zero = true;
		for (size_t k = 0; k < width; k++)
			zero = zero && v[k] == 0;
		if (row >= t->m && !zero)
			return value_fail(t, plane, i * width,
			                  "a scale or entry of a row from m on is not 0", err);
		if ((p->dtype == PITH_DTYPE_F16 && !f16_is_finite(load_le16(v))) ||
		    (p->dtype == PITH_DTYPE_F32 && !isfinite(load_f32(v))))
			return value_fail(t, plane, i * width, "a scale or entry is not finite", err);
	}
	return PITH_OK;
}

static pith_status verify_list(const struct pith_term *t, uint32_t plane, struct pith_error *err)
{
	const struct pith_plane *p = &t->plane[plane];
	size_t width = pith_dtype_nbytes(p->dtype);
	for (size_t at = 0; at < p->content_nbytes; at += width)
		if ((p->dtype == PITH_DTYPE_F16 && !f16_is_finite(load_le16(p->data + at))) ||
		    (p->dtype == PITH_DTYPE_F32 && !isfinite(load_f32(p->data + at))))
			return value_fail(t, plane, at, "an entry or second-level value is not finite",
			                  err);
	return PITH_OK;
}

pith_status pith_codebook_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_codebook *c = &t->u.codebook;
	// spec codebook.4: "Codes of rows from m and of columns from n on are 0."
	PITH_TRY(pith_slice16_verify(t, c->bits, "codebook.4", err));
	if (c->per_row)
		PITH_TRY(verify_cells(t, PLANE_ENTRIES, (size_t)1 << c->bits, err));
	else
		PITH_TRY(verify_list(t, PLANE_ENTRIES, err));
	if (c->scale_mode != SCALE_NONE)
		PITH_TRY(verify_cells(t, PLANE_SCALES, c->groups, err));
	return c->scale_mode == SCALE_TWO_LEVEL ? verify_list(t, PLANE_SECOND_LEVEL, err) : PITH_OK;
}

/* ---- pack ---- */

static pith_status pack_refuse(const char *what, size_t at, struct pith_error *err)
{
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "codebook.4",
	                 "%s number %zu is not finite", what, at);
}

static pith_status pack_entries(const struct pith_codebook_source *s, size_t m, uint8_t *plane,
                                struct pith_error *err)
{
	size_t count = (size_t)1 << s->bits;
	for (size_t i = 0; i < (s->per_row ? m : 1); i++)
		for (size_t k = 0; k < count; k++) {
			size_t from = i * count + k;
			size_t tile = i / PITH_TILE_ROWS, lane = i % PITH_TILE_ROWS;
			size_t to = s->per_row ? (tile * count + k) * PITH_TILE_ROWS + lane : k;
			if (!s->real) {
				plane[to] = (uint8_t)((const int8_t *)s->entries)[from];
				continue;
			}
			float v = ((const float *)s->entries)[from];
			if (!isfinite(v))
				return pack_refuse("entry", from, err);
			store_f32(plane + 4 * to, v);
		}
	return PITH_OK;
}

static pith_status pack_scales(const struct pith_codebook_source *s, size_t m, size_t groups,
                               uint8_t *plane, struct pith_error *err)
{
	for (size_t i = 0; i < m; i++)
		for (size_t g = 0; g < groups; g++) {
			size_t from = i * groups + g;
			size_t to = (i / PITH_TILE_ROWS * groups + g) * PITH_TILE_ROWS +
			            i % PITH_TILE_ROWS;
			if (s->scale_mode == SCALE_TWO_LEVEL) {
				plane[to] = s->scale_codes[from];
				continue;
			}
			if (!f16_is_finite(s->scales[from]))
				return pack_refuse("scale", from, err);
			store_le16(plane + 2 * to, s->scales[from]);
		}
	return PITH_OK;
}

static pith_status pack_planes(const struct pith_codebook_source *s, size_t m, size_t n,
                               const struct pith_codebook_sizes *size, struct pith_packed_term *out,
                               struct pith_error *err)
{
	bool two = s->scale_mode == SCALE_TWO_LEVEL;
	PITH_TRY(pith_packed_add(out, PITH_ROLE_CODES, PITH_LAYOUT_SLICE16, PITH_DTYPE_U8, size->codes,
	                         err));
	PITH_TRY(pith_slice16_pack(s->codes, m, n, s->bits, out->plane[PLANE_CODES].data, "codebook.4",
	                           err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_VALUES,
	                         s->per_row ? PITH_LAYOUT_TILE16 : PITH_LAYOUT_LIST,
	                         s->real ? PITH_DTYPE_F32 : PITH_DTYPE_I8, size->entries, err));
	PITH_TRY(pack_entries(s, m, out->plane[PLANE_ENTRIES].data, err));
	if (s->scale_mode == SCALE_NONE)
		return PITH_OK;
	PITH_TRY(pith_packed_add(out, two ? PITH_ROLE_SCALE_CODES : PITH_ROLE_SCALES,
	                         PITH_LAYOUT_TILE16, two ? PITH_DTYPE_U8 : PITH_DTYPE_F16,
	                         two ? size->scale_codes : size->scales, err));
	PITH_TRY(pack_scales(s, m, (size_t)size->groups, out->plane[PLANE_SCALES].data, err));
	if (!two)
		return PITH_OK;
	PITH_TRY(pith_packed_add(out, PITH_ROLE_SECOND_LEVEL, PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
	                         size->second_level, err));
	for (size_t i = 0; i < size->second_level / 2; i++) {
		if (!f16_is_finite(s->second_level[i]))
			return pack_refuse("second-level value", i, err);
		store_le16(out->plane[PLANE_SECOND_LEVEL].data + 2 * i, s->second_level[i]);
	}
	return PITH_OK;
}

pith_status pith_codebook_pack(const struct pith_codebook_source *s, size_t m, size_t n,
                               struct pith_packed_term *out, struct pith_error *err)
{
	struct pith_codebook_sizes size;
	memset(out, 0, sizeof(*out));
	if (!pith_codebook_sizes(s->bits, s->group_size, s->scale_mode, s->real, s->per_row, m, n,
	                         &size))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "codebook.1",
		                 "bits %u, group_size %zu, scale_mode %u, %zu x %zu cannot be "
		                 "stored", s->bits, s->group_size, s->scale_mode, m, n);
	out->kind = PITH_KIND_CODEBOOK;
	out->param[0] = s->bits;
	out->param[1] = (uint32_t)s->group_size;
	out->param[2] = s->scale_mode;
	out->param[3] = s->real ? PITH_DTYPE_F32 : PITH_DTYPE_I8;
	out->param[4] = s->per_row;
	pith_status status = pack_planes(s, m, n, &size, out, err);
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
