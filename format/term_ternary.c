/*
 * Ternary terms: -1, 0 and +1 in lines of 16 rows by 20 columns, five trits to a byte, and one
 * f32 scale per row.  The decoder here is the meaning of the kind; kernels are elsewhere.
 * Spec: spec/terms/ternary.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_ternary.h"

#include <assert.h>
#include <math.h>

enum {
	LINE_COLUMNS = PITH_TERNARY_LINE_COLUMNS,
	LINE_NBYTES = PITH_TERNARY_LINE_NBYTES,
	BYTE_TRITS = PITH_TERNARY_BYTE_TRITS,
	BYTE_VALUES = 243 /* 3^5 */
};

static unsigned byte_of_value(unsigned value)
{
	// spec ternary: "byte  = ceil(value * 256 / 243) = floor((value * 256 + 242) / 243)"
	return (value * 256 + 242) / BYTE_VALUES;
}

/* Five trits plus 1 of a byte. */
static void digits_of_byte(unsigned byte, uint8_t digit[BYTE_TRITS])
{
	for (unsigned f = 0; f < BYTE_TRITS; f++) {
		// spec ternary: "d_f   = floor( ((byte * 3^f) mod 256) * 3 / 256 )"
		digit[f] = (uint8_t)(byte * 3 / 256);
		byte = byte * 3 % 256;
	}
}

bool pith_ternary_sizes(uint64_t m, uint64_t n, uint64_t *codes, uint64_t *scales)
{
	uint64_t lines = n / LINE_COLUMNS + (n % LINE_COLUMNS != 0);
	uint64_t tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0);
	size_t cells, nbytes;
	*codes = *scales = 0;
	if (m == 0 || n == 0 || tiles > SIZE_MAX / 64 || lines > SIZE_MAX ||
	    !pith_mul_size((size_t)tiles, (size_t)lines, &cells) ||
	    !pith_mul_size(cells, LINE_NBYTES, &nbytes))
		return false;
	*codes = nbytes;
	*scales = tiles * PITH_TILE_ROWS * 4;
	return true;
}

pith_status pith_ternary_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_ternary *ternary = &t->u.ternary;
	uint64_t codes, scales;
	memset(ternary, 0, sizeof(*ternary));
	if (!pith_ternary_sizes(t->m, t->n, &codes, &scales))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu trits do not fit", t->m, t->n);
	PITH_TRY(pith_term_expect_counts(t, 2, 0, err));
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_CODES, PITH_LAYOUT_TRIT16, PITH_DTYPE_U8,
	                                codes, err));
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16, PITH_DTYPE_F32,
	                                scales, err));
	ternary->codes = t->plane[0].data;
	ternary->scales = t->plane[1].data;
	ternary->lines = t->n / LINE_COLUMNS + (t->n % LINE_COLUMNS != 0);
	return PITH_OK;
}

/* Trits plus 1 of one row of a line, by column. */
static void line_row_decode(const uint8_t *line, size_t lane, uint8_t digit[LINE_COLUMNS])
{
	for (size_t k = 0; k < 4; k++) {
		uint8_t five[BYTE_TRITS];
		digits_of_byte(line[4 * lane + k], five);
		for (size_t f = 0; f < BYTE_TRITS; f++)
			digit[4 * f + k] = five[f];
	}
}

static void unpack_row(const struct pith_term *t, size_t row, float *out)
{
	const struct pith_ternary *ternary = &t->u.ternary;
	size_t tile = row / PITH_TILE_ROWS, lane = row % PITH_TILE_ROWS;
	const uint8_t *line = ternary->codes + tile * ternary->lines * LINE_NBYTES;
	float s = load_f32(ternary->scales + 4 * row);
	for (size_t first = 0; first < t->n; first += LINE_COLUMNS, line += LINE_NBYTES) {
		uint8_t digit[LINE_COLUMNS];
		size_t count = t->n - first < LINE_COLUMNS ? t->n - first : LINE_COLUMNS;
		line_row_decode(line, lane, digit);
		for (size_t j = 0; j < count; j++)
			// spec ternary: "W[i][j] = fl( s * trit )"
			out[first + j] = s * (float)((int)digit[j] - 1);
	}
}

void pith_ternary_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	assert(row + count <= t->m);
	for (size_t r = 0; r < count; r++)
		unpack_row(t, row + r, out + r * t->n);
}

/* ---- verify ---- */

/* Is there a value with this code?  The smallest one whose byte is not below it would be it. */
static bool byte_is_listed(unsigned byte)
{
	unsigned value = byte * BYTE_VALUES / 256;
	return value < BYTE_VALUES && byte_of_value(value) == byte;
}

/* Bytes of one row of a line; 'columns' of its trits lie inside the matrix. */
static pith_status verify_line_row(const struct pith_term *t, const uint8_t *line, size_t lane,
                                   size_t columns, struct pith_error *err)
{
	uint64_t off = t->plane[0].off + (uint64_t)(line - t->plane[0].data) + 4 * lane;
	uint8_t digit[LINE_COLUMNS];
	for (size_t k = 0; k < 4; k++)
		// spec ternary.1: "one of the 243 values that the coding gives"
		if (!byte_is_listed(line[4 * lane + k]))
			return pith_term_fail(t, err, PITH_E_CORRUPT, off + k, "ternary.1",
			                      "byte %u codes no five trits", line[4 * lane + k]);
	line_row_decode(line, lane, digit);
	for (size_t j = columns; j < LINE_COLUMNS; j++)
		// spec ternary.1: "the trits of columns from n on are 0"
		if (digit[j] != 1)
			return pith_term_fail(t, err, PITH_E_CORRUPT, off + j % 4, "ternary.1",
			                      "a trit of a column from n on is not 0");
	return PITH_OK;
}

static pith_status verify_line(const struct pith_term *t, const uint8_t *line, size_t rows,
                               size_t columns, struct pith_error *err)
{
	for (size_t lane = 0; lane < rows; lane++)
		PITH_TRY(verify_line_row(t, line, lane, columns, err));
	for (size_t at = 4 * rows; at < LINE_NBYTES; at++)
		// spec ternary.2: "Bytes and scales of rows from m on are 0"
		if (line[at] != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT,
			                      t->plane[0].off + (uint64_t)(line - t->plane[0].data) + at,
			                      "ternary.2", "a byte of a row from m on is not 0");
	return PITH_OK;
}

static pith_status verify_scales(const struct pith_term *t, struct pith_error *err)
{
	for (size_t row = 0; row < t->tiles * PITH_TILE_ROWS; row++) {
		const uint8_t *p = t->u.ternary.scales + 4 * row;
		if (row >= t->m ? load_le32(p) != 0 : !isfinite(load_f32(p)))
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[1].off + 4 * row,
			                      "ternary.2", "the scale of row %zu is not finite, or not 0 "
			                      "behind the last row", row);
	}
	return PITH_OK;
}

pith_status pith_ternary_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_ternary *ternary = &t->u.ternary;
	const uint8_t *line = ternary->codes;
	for (size_t tile = 0; tile < t->tiles; tile++) {
		size_t left = t->m - tile * PITH_TILE_ROWS;
		size_t rows = left < PITH_TILE_ROWS ? left : PITH_TILE_ROWS;
		for (size_t l = 0; l < ternary->lines; l++, line += LINE_NBYTES) {
			size_t columns = t->n - l * LINE_COLUMNS;
			PITH_TRY(verify_line(t, line, rows,
			                     columns < LINE_COLUMNS ? columns : LINE_COLUMNS, err));
		}
	}
	return verify_scales(t, err);
}

/* ---- pack ---- */

/* Byte k of a line for one row; trit(columns from n on) is 0. */
static uint8_t pack_byte(const int8_t *row, size_t first, size_t n)
{
	unsigned value = 0;
	for (size_t f = 0; f < BYTE_TRITS; f++) {
		size_t j = first + 4 * f;
		value = 3 * value + (unsigned)((j < n ? row[j] : 0) + 1);
	}
	return (uint8_t)byte_of_value(value);
}

static pith_status pack_row(const int8_t *row, size_t i, size_t n, size_t lines, uint8_t *plane,
                            struct pith_error *err)
{
	uint8_t *line = plane + i / PITH_TILE_ROWS * lines * LINE_NBYTES;
	for (size_t j = 0; j < n; j++)
		if (row[j] < -1 || row[j] > 1)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "ternary.1",
			                 "row %zu, column %zu is %d", i, j, row[j]);
	for (size_t l = 0; l < lines; l++, line += LINE_NBYTES)
		for (size_t k = 0; k < 4; k++)
			line[4 * (i % PITH_TILE_ROWS) + k] = pack_byte(row, l * LINE_COLUMNS + k, n);
	return PITH_OK;
}

static pith_status pack_planes(const int8_t *trits, const float *scales, size_t m, size_t n,
                               struct pith_packed_term *out, struct pith_error *err)
{
	uint64_t codes_nbytes, scales_nbytes;
	if (!pith_ternary_sizes(m, n, &codes_nbytes, &scales_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.14",
		                 "%zu x %zu trits cannot be stored", m, n);
	PITH_TRY(pith_packed_add(out, PITH_ROLE_CODES, PITH_LAYOUT_TRIT16, PITH_DTYPE_U8, codes_nbytes,
	                         err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_SCALES, PITH_LAYOUT_TILE16, PITH_DTYPE_F32,
	                         scales_nbytes, err));
	size_t lines = n / LINE_COLUMNS + (n % LINE_COLUMNS != 0);
	for (size_t i = 0; i < m; i++) {
		if (!isfinite(scales[i]))
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "ternary.2",
			                 "the scale of row %zu is not finite", i);
		store_f32(out->plane[1].data + 4 * i, scales[i]);
		PITH_TRY(pack_row(trits + i * n, i, n, lines, out->plane[0].data, err));
	}
	return PITH_OK;
}

pith_status pith_ternary_pack(const int8_t *trits, const float *scales, size_t m, size_t n,
                              struct pith_packed_term *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	out->kind = PITH_KIND_TERNARY;
	pith_status status = pack_planes(trits, scales, m, n, out, err);
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
