/*
 * Columns terms: whole input columns in f16 or bf16 (OWQ's kept columns).
 * Spec: spec/terms/columns.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_columns.h"

#include <assert.h>

/* f16 and bf16 alike: finite unless the exponent is all ones. */
static bool half_is_finite(uint16_t h, uint32_t dtype)
{
	uint16_t exponent = dtype == PITH_DTYPE_F16 ? 0x7c00u : 0x7f80u;
	return (h & exponent) != exponent;
}

static bool columns_dtype_is_valid(uint32_t dtype)
{
	return dtype == PITH_DTYPE_F16 || dtype == PITH_DTYPE_BF16;
}

static pith_status check_index(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_columns *c = &t->u.columns;
	uint64_t next = 0; /* the least column that may follow */
	for (size_t i = 0; i < c->column_count; i++) {
		uint32_t column = load_le32(c->index + 4 * i);
		// spec columns.2: "The index strictly ascends and is below n."
		if (column < next || column >= t->n)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[0].off + 4 * i,
			                      "columns.2", "column %u at place %zu of %zu columns",
			                      column, i, t->n);
		next = (uint64_t)column + 1;
	}
	return PITH_OK;
}

pith_status pith_columns_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_columns *c = &t->u.columns;
	uint32_t dtype = t->param[0], count = t->param[1];
	PITH_TRY(pith_term_expect_counts(t, 2, 2, err));
	// spec columns.1: "dtype is 2 (f16) or 3 (bf16); column_count is 1..n."
	if (!columns_dtype_is_valid(dtype) || count == 0 || count > t->n)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "columns.1",
		                      "dtype %u, %u of %zu columns", dtype, count, t->n);
	size_t cells, values_nbytes;
	if (!pith_mul_size(t->tiles, count, &cells) ||
	    !pith_mul_size(cells, 2 * PITH_TILE_ROWS, &values_nbytes))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%u columns of %zu rows do not fit", count, t->m);
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                                4 * (uint64_t)count, err));
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_VALUES, PITH_LAYOUT_TILE16, dtype,
	                                values_nbytes, err));
	c->index = t->plane[0].data;
	c->values = t->plane[1].data;
	c->column_count = count;
	c->dtype = dtype;
	return check_index(t, err);
}

pith_status pith_columns_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_columns *c = &t->u.columns;
	for (size_t i = 0; i < t->tiles * c->column_count * PITH_TILE_ROWS; i++) {
		size_t tile = i / PITH_TILE_ROWS / c->column_count;
		size_t row = tile * PITH_TILE_ROWS + i % PITH_TILE_ROWS;
		uint16_t v = load_le16(c->values + 2 * i);
		// spec columns.3: "Values of rows from m on are 0; values are finite."
		if ((row >= t->m && v != 0) || !half_is_finite(v, c->dtype))
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[1].off + 2 * i,
			                      "columns.3", "value of row %zu is %s", row,
			                      row >= t->m ? "padding and not 0" : "not finite");
	}
	return PITH_OK;
}

void pith_columns_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	const struct pith_columns *c = &t->u.columns;
	assert(row + count <= t->m);
	for (size_t r = 0; r < count; r++) {
		float *to = out + r * t->n;
		size_t tile = (row + r) / PITH_TILE_ROWS, lane = (row + r) % PITH_TILE_ROWS;
		const uint8_t *values = c->values + tile * c->column_count * PITH_TILE_ROWS * 2;
		for (size_t j = 0; j < t->n; j++)
			to[j] = 0;
		for (size_t k = 0; k < c->column_count; k++) {
			uint16_t v = load_le16(values + 2 * (k * PITH_TILE_ROWS + lane));
			to[load_le32(c->index + 4 * k)] = c->dtype == PITH_DTYPE_F16 ?
			                                      f32_of_f16(v) : f32_of_bf16(v);
		}
	}
}

static pith_status pack_values(const float *values, size_t c, size_t m, uint32_t dtype,
                               uint8_t *plane, struct pith_error *err)
{
	for (size_t i = 0; i < m; i++)
		for (size_t k = 0; k < c; k++) {
			float from = values[i * c + k];
			uint16_t v = dtype == PITH_DTYPE_F16 ? f16_of_f32(from) : bf16_of_f32(from);
			size_t cell = (i / PITH_TILE_ROWS * c + k) * PITH_TILE_ROWS;
			if (!half_is_finite(v, dtype))
				return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "columns.3",
				                 "%g at row %zu is not finite in %s", (double)from, i,
				                 pith_dtype_name(dtype));
			store_le16(plane + 2 * (cell + i % PITH_TILE_ROWS), v);
		}
	return PITH_OK;
}

static pith_status pack_planes(const uint32_t *index, const float *values, size_t c, size_t m,
                               uint32_t dtype, struct pith_packed_term *out,
                               struct pith_error *err)
{
	size_t cells, values_nbytes, tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0);
	if (!pith_mul_size(tiles, c, &cells) ||
	    !pith_mul_size(cells, 2 * PITH_TILE_ROWS, &values_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "columns.1",
		                 "%zu columns of %zu rows do not fit", c, m);
	PITH_TRY(pith_packed_add(out, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U32, 4 * c,
	                         err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_TILE16, dtype, values_nbytes,
	                         err));
	for (size_t k = 0; k < c; k++)
		store_le32(out->plane[0].data + 4 * k, index[k]);
	return pack_values(values, c, m, dtype, out->plane[1].data, err);
}

pith_status pith_columns_pack(const uint32_t *index, const float *values, size_t c, size_t m,
                              size_t n, uint32_t dtype, struct pith_packed_term *out,
                              struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	if (!columns_dtype_is_valid(dtype) || c == 0 || c > n || c > UINT32_MAX || m == 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "columns.1",
		                 "cannot store %zu of %zu columns as dtype %u", c, n, dtype);
	for (size_t k = 0; k < c; k++)
		if (index[k] >= n || (k > 0 && index[k] <= index[k - 1]))
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "columns.2",
			                 "column %u at place %zu of %zu columns", index[k], k, n);
	out->kind = PITH_KIND_COLUMNS;
	out->param[0] = dtype;
	out->param[1] = (uint32_t)c;
	pith_status status = pack_planes(index, values, c, m, dtype, out, err);
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
