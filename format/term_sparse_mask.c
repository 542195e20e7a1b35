/*
 * Sparse terms as bitmasks: a bit per position, the values densely behind each other.
 * Spec: spec/terms/sparse.md, forms 2 and 3.
 *
 * A reader trusts the offsets of tiles, not the masks: the planes of values go on behind
 * the last one for as long as a block of masks can lead, so that starting no block
 * behind value_count keeps it in range.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_sparse_mask.h"

#include "term_sparse.h"

#include <assert.h>
#include <stdlib.h>

enum {
	BLOCK_COLUMNS = 32,
	BLOCK_NBYTES = 64, /* 8 lines of 64 bits */
	LINE_COLUMNS = 4,
	MAX_GROUP_SIZE = 1 << 20,
	SLACK = 640,            /* values behind the last */
	SECTION = 64,           /* codes that share words */
	SLACK_SECTIONS = SLACK / SECTION
};

/* Bit of (row, k) in a line. */
static unsigned bit_of(bool codes, size_t row, size_t k)
{
	// spec sparse: "f16 values: p = 16 k + row"
	return (unsigned)(codes ? 4 * row + k : PITH_TILE_ROWS * k + row);
}

static bool group_size_is_valid(uint64_t group_size)
{
	return group_size % BLOCK_COLUMNS == 0 && group_size <= MAX_GROUP_SIZE;
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

bool pith_sparse_mask_sizes(uint32_t form, uint64_t value_count, uint32_t bits, uint64_t group_size,
                            uint32_t zero_mode, uint64_t m, uint64_t n,
                            struct pith_sparse_mask_sizes *out)
{
	memset(out, 0, sizeof(*out));
	if (m == 0 || n == 0 || bits > 8 || value_count == 0 || value_count > UINT32_MAX ||
	    !group_size_is_valid(group_size) || zero_mode > 1 ||
	    (bits == 0 && (group_size != 0 || zero_mode != 0)))
		return false;
	uint64_t tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0);
	out->blocks = n / BLOCK_COLUMNS + (n % BLOCK_COLUMNS != 0);
	out->groups = group_size == 0 ? 1 : n / group_size + (n % group_size != 0);
	out->values = bits != 0 ? (value_count / SECTION + SLACK_SECTIONS) * (SECTION / 8) * bits :
	                          2 * (value_count + SLACK);
	uint64_t cells;
	if (!mul3(tiles, out->blocks, BLOCK_NBYTES, &out->masks) || !mul3(tiles, 4, 1, &out->offsets) ||
	    !mul3(tiles, out->groups, PITH_TILE_ROWS, &cells) || !mul3(cells, 2, 1, &out->scales))
		return false;
	out->offsets = form == PITH_SPARSE_BITMASK ? out->offsets + 4 : 0;
	out->zeros = zero_mode == 1 ? cells : 0;
	out->scales = bits != 0 ? out->scales : 0;
	return true;
}

/* ---- check ---- */

static bool pattern_is_valid(const struct pith_term *t)
{
	uint64_t count = t->param[5], columns = t->param[6];
	if (t->param[0] == PITH_SPARSE_BITMASK)
		return count == 0 && columns == 0;
	return columns >= 2 && columns <= 32 && t->n % columns == 0 && count >= 1 &&
	       count < columns && t->m <= UINT32_MAX &&
	       t->n / columns <= UINT32_MAX / count && /* no product below wraps */
	       (uint64_t)t->m * (t->n / columns * count) == t->param[1];
}

static pith_status check_params(const struct pith_term *t, struct pith_error *err)
{
	const uint32_t *p = t->param;
	// spec sparse.5: "with f16 values both are 0"
	if (p[2] > 8 || !group_size_is_valid(p[3]) || p[4] > 1 ||
	    (p[2] == 0 && (p[3] != 0 || p[4] != 0)))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "sparse.5",
		                      "bits %u, group_size %u, zero_mode %u", p[2], p[3], p[4]);
	// spec sparse.6: "value_count is m * (n / pattern_columns) * pattern_count"
	if (!pattern_is_valid(t))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "sparse.6",
		                      "%u of %u columns, %u values of %zu x %zu", p[5], p[6], p[1],
		                      t->m, t->n);
	return PITH_OK;
}

static pith_status check_code_planes(struct pith_term *t, uint32_t at,
                                     const struct pith_sparse_mask_sizes *size,
                                     struct pith_error *err)
{
	struct pith_sparse *s = &t->u.sparse;
	PITH_TRY(pith_term_expect_plane(t, at, PITH_ROLE_CODES, PITH_LAYOUT_LIST, PITH_DTYPE_U8,
	                                size->values, err));
	PITH_TRY(pith_term_expect_plane(t, at + 1, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16,
	                                PITH_DTYPE_F16, size->scales, err));
	s->scales = t->plane[at + 1].data;
	if (s->zero_mode == 0)
		return PITH_OK;
	PITH_TRY(pith_term_expect_plane(t, at + 2, PITH_ROLE_ZEROS, PITH_LAYOUT_TILE16,
	                                PITH_DTYPE_U8, size->zeros, err));
	s->zeros = t->plane[at + 2].data;
	return PITH_OK;
}

pith_status pith_sparse_mask_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_sparse *s = &t->u.sparse;
	struct pith_sparse_mask_sizes size;
	bool listed = t->param[0] == PITH_SPARSE_BITMASK;
	PITH_TRY(check_params(t, err));
	s->value_count = t->param[1];
	s->bits = t->param[2];
	s->zero_mode = t->param[4];
	if (!pith_sparse_mask_sizes(t->param[0], s->value_count, s->bits, t->param[3], s->zero_mode,
	                            t->m, t->n, &size))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu positions do not fit", t->m, t->n);
	s->blocks = (size_t)size.blocks;
	s->groups = (size_t)size.groups;
	s->group_size = t->param[3] != 0 ? t->param[3] : BLOCK_COLUMNS * s->blocks;
	s->tile_values = listed ? 0 : PITH_TILE_ROWS * (t->n / t->param[6]) * t->param[5];
	uint32_t values = listed ? 2 : 1; /* the plane of the values */
	PITH_TRY(pith_term_expect_counts(t, values + 1 + (s->bits != 0) + s->zero_mode, 7, err));
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_INDEX, PITH_LAYOUT_SLICE16, PITH_DTYPE_U8,
	                                size.masks, err));
	s->masks = t->plane[0].data;
	s->values = t->plane[values].data;
	if (s->bits != 0)
		PITH_TRY(check_code_planes(t, values, &size, err));
	else
		PITH_TRY(pith_term_expect_plane(t, values, PITH_ROLE_VALUES, PITH_LAYOUT_LIST,
		                                PITH_DTYPE_F16, size.values, err));
	if (!listed)
		return PITH_OK;
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                                size.offsets, err));
	s->offsets = t->plane[1].data;
	return pith_sparse_check_offsets(t, 1, t->tiles, err);
}

/* ---- the bits of a tile ---- */

/* Where one row stands in its tile: call for every line in order, see row_line(). */
struct row_walk {
	const struct pith_sparse *s;
	const uint8_t *line; /* the next one */
	size_t row;          /* in the tile */
	size_t at;           /* value of the line's first bit */
};

static struct row_walk walk_start(const struct pith_term *t, size_t row)
{
	size_t tile = row / PITH_TILE_ROWS;
	return (struct row_walk){&t->u.sparse,
	                         t->u.sparse.masks + tile * t->u.sparse.blocks * BLOCK_NBYTES,
	                         row % PITH_TILE_ROWS, pith_sparse_first(&t->u.sparse, tile)};
}

static unsigned bit_count(uint64_t mask)
{
	unsigned count = 0;
	for (; mask != 0; mask &= mask - 1)
		count++;
	return count;
}

/* The next line: value[k] is the number of the value in its column k, or SIZE_MAX. */
static void walk_line(struct row_walk *w, size_t value[LINE_COLUMNS])
{
	uint64_t mask = load_le64(w->line);
	for (size_t k = 0; k < LINE_COLUMNS; k++) {
		uint64_t bit = (uint64_t)1 << bit_of(w->s->bits != 0, w->row, k);
		value[k] = (mask & bit) != 0 ? w->at + bit_count(mask & (bit - 1)) : SIZE_MAX;
	}
	w->at += bit_count(mask);
	w->line += 8;
	/* a mask that lies cannot lead behind the plane: see the file comment */
	if ((size_t)(w->line - w->s->masks) % BLOCK_NBYTES == 0 && w->at > w->s->value_count)
		w->at = w->s->value_count;
}

static unsigned code_at(const struct pith_sparse *s, size_t at)
{
	unsigned code = 0;
	for (unsigned b = 0; b < s->bits; b++) {
		uint64_t word = load_le64(s->values + 8 * (at / SECTION * s->bits + b));
		code |= (unsigned)(word >> at % SECTION & 1u) << b;
	}
	return code;
}

/* W of value number 'at' of 'row' and column j. */
static float value_at(const struct pith_sparse *s, size_t row, size_t j, size_t at)
{
	if (s->bits == 0)
		return f32_of_f16(load_le16(s->values + 2 * at));
	size_t cell = (row / PITH_TILE_ROWS * s->groups + j / s->group_size) * PITH_TILE_ROWS +
	              row % PITH_TILE_ROWS;
	float scale = f32_of_f16(load_le16(s->scales + 2 * cell));
	float zero = s->zero_mode == 1 ? (float)s->zeros[cell] : (float)(1u << (s->bits - 1));
	float centred = (float)code_at(s, at) - zero;
	return scale * centred;
}

void pith_sparse_mask_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	assert(row + count <= t->m);
	for (size_t i = row; i < row + count; i++, out += t->n) {
		struct row_walk walk = walk_start(t, i);
		for (size_t j = 0; j < t->n; j += LINE_COLUMNS) {
			size_t value[LINE_COLUMNS];
			walk_line(&walk, value);
			for (size_t k = 0; k < LINE_COLUMNS && j + k < t->n; k++)
				out[j + k] = value[k] == SIZE_MAX ?
				                 0 : value_at(&t->u.sparse, i, j + k, value[k]);
		}
	}
}

/* ---- verify ---- */

/* Bits of a line whose columns begin at 'column' that may be set in a tile of 'rows' rows. */
static uint64_t allowed_bits(const struct pith_term *t, size_t rows, size_t column)
{
	uint64_t allowed = 0;
	for (size_t k = 0; k < LINE_COLUMNS && column + k < t->n; k++)
		for (size_t row = 0; row < rows; row++)
			allowed |= (uint64_t)1 << bit_of(t->u.sparse.bits != 0, row, k);
	return allowed;
}

static pith_status verify_tile(const struct pith_term *t, size_t tile, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	size_t left = t->m - tile * PITH_TILE_ROWS, count = 0;
	size_t rows = left < PITH_TILE_ROWS ? left : PITH_TILE_ROWS;
	for (size_t l = 0; l < s->blocks * (BLOCK_NBYTES / 8); l++) {
		size_t at = tile * s->blocks * BLOCK_NBYTES + 8 * l;
		uint64_t mask = load_le64(s->masks + at);
		// spec sparse.7: "Bits of rows from m and of columns from n on are 0."
		if ((mask & ~allowed_bits(t, rows, LINE_COLUMNS * l)) != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[0].off + at, "sparse.7",
			                      "a bit outside of the matrix is set");
		count += bit_count(mask);
	}
	size_t first = pith_sparse_first(s, tile);
	size_t end = s->offsets != NULL ? pith_sparse_first(s, tile + 1) :
	                                  first + s->tile_values / PITH_TILE_ROWS * rows;
	// spec sparse.7: "A tile's masks have as many bits as it has values."
	if (count != end - first)
		return pith_term_fail(t, err, PITH_E_CORRUPT,
		                      t->plane[0].off + tile * s->blocks * BLOCK_NBYTES, "sparse.7",
		                      "the masks of tile %zu have %zu bits for %zu values", tile, count,
		                      end - first);
	return PITH_OK;
}

static pith_status verify_pattern(const struct pith_term *t, size_t row, struct pith_error *err)
{
	size_t columns = t->param[6], count = 0;
	struct row_walk walk = walk_start(t, row);
	size_t value[LINE_COLUMNS];
	for (size_t j = 0; j < t->n; j++) {
		if (j % LINE_COLUMNS == 0)
			walk_line(&walk, value);
		count += value[j % LINE_COLUMNS] != SIZE_MAX;
		// spec sparse.7: "In form 3 every row has pattern_count bits in every pattern_columns columns"
		if ((j + 1) % columns == 0 && count != (j + 1) / columns * t->param[5])
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[0].off, "sparse.7",
			                      "row %zu has not %u values in the %zu columns before "
			                      "column %zu", row, t->param[5], columns, j + 1);
	}
	return PITH_OK;
}

/* Halves of plane 'plane' from 'first' on are finite; those for which padding() says so are 0. */
static pith_status verify_halves(const struct pith_term *t, uint32_t plane, size_t count,
                                 bool cells, struct pith_error *err)
{
	const struct pith_plane *p = &t->plane[plane];
	const struct pith_sparse *s = &t->u.sparse;
	for (size_t i = 0; i < count; i++) {
		uint16_t v = load_le16(p->data + 2 * i);
		size_t row = i / PITH_TILE_ROWS / (cells ? s->groups : 1) * PITH_TILE_ROWS +
		             i % PITH_TILE_ROWS;
		bool padding = cells ? row >= t->m : i >= s->value_count;
		// spec sparse.8: "Values and scales are finite"
		if ((v & 0x7c00u) == 0x7c00u || (padding && v != 0))
			return pith_term_fail(t, err, PITH_E_CORRUPT, p->off + 2 * i, "sparse.8",
			                      "a %s is %s", cells ? "scale" : "value",
			                      padding ? "padding and not 0" : "not finite");
	}
	return PITH_OK;
}

static pith_status verify_codes(const struct pith_term *t, uint32_t plane, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	size_t section = s->value_count / SECTION;
	for (size_t w = section * s->bits; w < (section + SLACK_SECTIONS) * s->bits; w++) {
		uint64_t behind = load_le64(s->values + 8 * w);
		if (w < (section + 1) * s->bits)
			behind >>= s->value_count % SECTION;
		if (behind != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[plane].off + 8 * w,
			                      "sparse.8", "a code behind the last is not 0");
	}
	PITH_TRY(verify_halves(t, plane + 1, t->tiles * s->groups * PITH_TILE_ROWS, true, err));
	for (size_t i = 0; s->zeros != NULL && i < t->tiles * s->groups * PITH_TILE_ROWS; i++) {
		size_t row = i / PITH_TILE_ROWS / s->groups * PITH_TILE_ROWS + i % PITH_TILE_ROWS;
		if (s->zeros[i] >> s->bits != 0 || (row >= t->m && s->zeros[i] != 0))
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[plane + 2].off + i,
			                      "sparse.8", "zero-point %u of row %zu", s->zeros[i], row);
	}
	return PITH_OK;
}

pith_status pith_sparse_mask_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	uint32_t plane = s->offsets != NULL ? 2 : 1;
	for (size_t tile = 0; tile < t->tiles; tile++)
		PITH_TRY(verify_tile(t, tile, err));
	for (size_t row = 0; s->offsets == NULL && row < t->m; row++)
		PITH_TRY(verify_pattern(t, row, err));
	if (s->bits == 0)
		return verify_halves(t, plane, s->value_count + SLACK, false, err);
	return verify_codes(t, plane, err);
}

/* ---- pack ---- */

static pith_status refuse(const char *what, size_t row, size_t column, struct pith_error *err)
{
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "sparse.8",
	                 "%s of row %zu, column or group %zu is out of range", what, row, column);
}

/* Store the value of (row, column) as number 'at'. */
static pith_status pack_value(const struct pith_sparse_mask_source *s, size_t n, size_t row,
                              size_t column, size_t at, uint8_t *plane, struct pith_error *err)
{
	size_t i = row * n + column;
	if (s->bits == 0) {
		uint16_t v = f16_of_f32(s->values[i]);
		if ((v & 0x7c00u) == 0x7c00u)
			return refuse("the value", row, column, err);
		store_le16(plane + 2 * at, v);
		return PITH_OK;
	}
	if (s->codes[i] >> s->bits != 0)
		return refuse("the code", row, column, err);
	for (unsigned b = 0; b < s->bits; b++) {
		uint8_t *word = plane + 8 * (at / SECTION * s->bits + b);
		uint64_t bit = (uint64_t)(s->codes[i] >> b & 1u) << at % SECTION;
		store_le64(word, load_le64(word) | bit);
	}
	return PITH_OK;
}

/* One line of a tile, its first column 'column': mask and values. */
static pith_status pack_line(const struct pith_sparse_mask_source *s, size_t m, size_t n,
                             size_t tile, size_t column, size_t *at, uint8_t *mask_at,
                             uint8_t *plane, struct pith_error *err)
{
	uint64_t mask = 0;
	for (unsigned p = 0; p < 64; p++) {
		size_t row = tile * PITH_TILE_ROWS + (s->bits != 0 ? p / 4 : p % PITH_TILE_ROWS);
		size_t j = column + (s->bits != 0 ? p % 4 : p / PITH_TILE_ROWS);
		if (row >= m || j >= n || s->present[row * n + j] == 0)
			continue;
		mask |= (uint64_t)1 << p;
		PITH_TRY(pack_value(s, n, row, j, (*at)++, plane, err));
	}
	store_le64(mask_at, mask);
	return PITH_OK;
}

static pith_status pack_scales(const struct pith_sparse_mask_source *s, size_t m, size_t groups,
                               uint8_t *scales, uint8_t *zeros, struct pith_error *err)
{
	for (size_t i = 0; i < m * groups; i++) {
		size_t row = i / groups, group = i % groups;
		size_t cell = (row / PITH_TILE_ROWS * groups + group) * PITH_TILE_ROWS +
		              row % PITH_TILE_ROWS;
		if ((s->scales[i] & 0x7c00u) == 0x7c00u)
			return refuse("a scale", row, group, err);
		store_le16(scales + 2 * cell, s->scales[i]);
		if (zeros == NULL)
			continue;
		if (s->zeros[i] >> s->bits != 0)
			return refuse("a zero-point", row, group, err);
		zeros[cell] = s->zeros[i];
	}
	return PITH_OK;
}

static pith_status add_planes(const struct pith_sparse_mask_source *s,
                              const struct pith_sparse_mask_sizes *size,
                              struct pith_packed_term *out, struct pith_error *err)
{
	PITH_TRY(pith_packed_add(out, PITH_ROLE_INDEX, PITH_LAYOUT_SLICE16, PITH_DTYPE_U8,
	                         size->masks, err));
	if (size->offsets != 0)
		PITH_TRY(pith_packed_add(out, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
		                         size->offsets, err));
	PITH_TRY(pith_packed_add(out, s->bits != 0 ? PITH_ROLE_CODES : PITH_ROLE_VALUES,
	                         PITH_LAYOUT_LIST, s->bits != 0 ? PITH_DTYPE_U8 : PITH_DTYPE_F16,
	                         size->values, err));
	if (size->scales != 0)
		PITH_TRY(pith_packed_add(out, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16, PITH_DTYPE_F16,
		                         size->scales, err));
	if (size->zeros != 0)
		PITH_TRY(pith_packed_add(out, PITH_ROLE_ZEROS, PITH_LAYOUT_TILE16, PITH_DTYPE_U8,
		                         size->zeros, err));
	return PITH_OK;
}

static pith_status pack_planes(const struct pith_sparse_mask_source *s, size_t m, size_t n,
                               const struct pith_sparse_mask_sizes *size,
                               struct pith_packed_term *out, struct pith_error *err)
{
	size_t at = 0, blocks = (size_t)size->blocks;
	PITH_TRY(add_planes(s, size, out, err));
	uint32_t values = size->offsets != 0 ? 2 : 1;
	for (size_t tile = 0; tile < (m + PITH_TILE_ROWS - 1) / PITH_TILE_ROWS; tile++) {
		uint8_t *mask = out->plane[0].data + tile * blocks * BLOCK_NBYTES;
		for (size_t j = 0; j < n; j += LINE_COLUMNS, mask += 8)
			PITH_TRY(pack_line(s, m, n, tile, j, &at, mask, out->plane[values].data, err));
		if (size->offsets != 0)
			store_le32(out->plane[1].data + 4 * (tile + 1), (uint32_t)at);
	}
	if (s->bits == 0)
		return PITH_OK;
	return pack_scales(s, m, (size_t)size->groups, out->plane[values + 1].data,
	                   size->zeros != 0 ? out->plane[values + 2].data : NULL, err);
}

pith_status pith_sparse_mask_pack(const struct pith_sparse_mask_source *s, size_t m, size_t n,
                                  struct pith_packed_term *out, struct pith_error *err)
{
	struct pith_sparse_mask_sizes size;
	size_t value_count = 0;
	struct pith_term bound;
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < m * n; i++)
		value_count += s->present[i] != 0;
	uint32_t form = s->pattern_columns != 0 ? PITH_SPARSE_PATTERN : PITH_SPARSE_BITMASK;
	if (!pith_sparse_mask_sizes(form, value_count, s->bits, s->group_size, s->zero_mode, m, n,
	                            &size))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "sparse.5",
		                 "%zu values of %u bits, group_size %zu, zero_mode %u cannot be stored",
		                 value_count, s->bits, s->group_size, s->zero_mode);
	const uint32_t param[] = {form, (uint32_t)value_count, s->bits, (uint32_t)s->group_size,
	                          s->zero_mode, s->pattern_count, s->pattern_columns};
	out->kind = PITH_KIND_SPARSE;
	memcpy(out->param, param, sizeof(param));
	pith_status status = pack_planes(s, m, n, &size, out, err);
	/* the counts of a pattern are the caller's promise */
	if (status == PITH_OK && form == PITH_SPARSE_PATTERN) {
		status = pith_packed_bind(out, m, n, &bound, err);
		if (status == PITH_OK)
			status = pith_sparse_mask_verify(&bound, err);
	}
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
