/*
 * Sparse terms, and their form 1: tiled lists, one per row tile and block of 4096 columns, so
 * that an index stays inside its tile and block by construction.  Bitmasks are in
 * term_sparse_mask.c.  Spec: spec/terms/sparse.md.
 *
 * A reader trusts the offsets (checked when bound) but not the positions: a row or
 * column beyond the matrix is skipped here, and found by verification.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_sparse.h"

#include "term_sparse_mask.h"

#include <assert.h>
#include <stdlib.h>

static size_t column_blocks(size_t n)
{
	return n / PITH_SPARSE_BLOCK_COLUMNS + (n % PITH_SPARSE_BLOCK_COLUMNS != 0);
}

bool pith_sparse_is_integer(const uint32_t *param)
{
	return param[0] != PITH_SPARSE_LISTS && param[2] != 0;
}

pith_status pith_sparse_check_offsets(const struct pith_term *t, uint32_t plane, size_t count,
                                      struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	uint32_t last = 0;
	// spec sparse.2: "offsets[0] is 0, offsets ascend (equal allowed), the last is value_count."
	for (size_t l = 0; l <= count; l++) {
		uint32_t offset = load_le32(s->offsets + 4 * l);
		bool wrong = offset < last || (l == 0 && offset != 0) ||
		             (l == count && offset != s->value_count);
		if (wrong)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[plane].off + 4 * l,
			                      "sparse.2", "offset %zu is %u, the one before %u, "
			                      "values %zu", l, offset, last, s->value_count);
		last = offset;
	}
	return PITH_OK;
}

pith_status pith_sparse_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_sparse *s = &t->u.sparse;
	uint64_t count = t->param[1];
	size_t lists;
	memset(s, 0, sizeof(*s));
	// spec sparse.1: "form is 1, 2 or 3; value_count is not 0."
	if (t->param[0] < PITH_SPARSE_LISTS || t->param[0] > PITH_SPARSE_PATTERN)
		return pith_term_fail(t, err, PITH_E_UNSUPPORTED, t->off, "sparse.1",
		                      "form %u: needs a newer reader", t->param[0]);
	if (count == 0)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "sparse.1",
		                      "value_count is 0");
	if (t->param[0] != PITH_SPARSE_LISTS)
		return pith_sparse_mask_check(t, err);
	PITH_TRY(pith_term_expect_counts(t, 3, 2, err));
	s->blocks = column_blocks(t->n);
	if (!pith_mul_size(t->tiles, s->blocks, &lists) || lists > SIZE_MAX / 8)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu lists do not fit", t->tiles, s->blocks);
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                                4 * ((uint64_t)lists + 1), err));
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U16,
	                                2 * count, err));
	PITH_TRY(pith_term_expect_plane(t, 2, PITH_ROLE_VALUES, PITH_LAYOUT_LIST, PITH_DTYPE_F16,
	                                2 * count, err));
	s->offsets = t->plane[0].data;
	s->index = t->plane[1].data;
	s->values = t->plane[2].data;
	s->value_count = (size_t)count;
	return pith_sparse_check_offsets(t, 0, lists, err);
}

pith_status pith_sparse_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	if (s->masks != NULL)
		return pith_sparse_mask_verify(t, err);
	for (size_t l = 0; l < t->tiles * s->blocks; l++) {
		size_t first_row = l / s->blocks * PITH_TILE_ROWS;
		size_t first_column = l % s->blocks * PITH_SPARSE_BLOCK_COLUMNS;
		size_t begin = load_le32(s->offsets + 4 * l);
		size_t end = load_le32(s->offsets + 4 * (l + 1));
		for (size_t e = begin; e < end; e++) {
			uint16_t at = load_le16(s->index + 2 * e);
			uint16_t value = load_le16(s->values + 2 * e);
			size_t row = first_row + at % PITH_TILE_ROWS;
			size_t column = first_column + at / PITH_TILE_ROWS;
			// spec sparse.3: "Inside a list the index values strictly ascend"
			if (e > begin && at <= load_le16(s->index + 2 * (e - 1)))
				return pith_term_fail(t, err, PITH_E_CORRUPT,
				                      t->plane[1].off + 2 * e, "sparse.3",
				                      "entry %zu of list %zu does not ascend", e, l);
			// spec sparse.4: "The row and column that an entry names are below m and n; values are finite."
			if (row >= t->m || column >= t->n)
				return pith_term_fail(t, err, PITH_E_CORRUPT,
				                      t->plane[1].off + 2 * e, "sparse.4",
				                      "entry %zu is at row %zu, column %zu", e, row,
				                      column);
			if ((value & 0x7c00u) == 0x7c00u)
				return pith_term_fail(t, err, PITH_E_CORRUPT,
				                      t->plane[2].off + 2 * e, "sparse.4",
				                      "value of entry %zu is not finite", e);
		}
	}
	return PITH_OK;
}

/* Entries of one list that lie in rows row .. row + count - 1. */
static void scatter_list(const struct pith_term *t, size_t list, size_t row, size_t count,
                         float *out)
{
	const struct pith_sparse *s = &t->u.sparse;
	size_t first_row = list / s->blocks * PITH_TILE_ROWS;
	size_t first_column = list % s->blocks * PITH_SPARSE_BLOCK_COLUMNS;
	size_t end = load_le32(s->offsets + 4 * (list + 1));
	for (size_t e = load_le32(s->offsets + 4 * list); e < end; e++) {
		uint16_t at = load_le16(s->index + 2 * e);
		size_t i = first_row + at % PITH_TILE_ROWS;
		size_t j = first_column + at / PITH_TILE_ROWS;
		if (i >= row && i - row < count && j < t->n)
			out[(i - row) * t->n + j] = f32_of_f16(load_le16(s->values + 2 * e));
	}
}

void pith_sparse_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	const struct pith_sparse *s = &t->u.sparse;
	assert(row + count <= t->m);
	if (s->masks != NULL) {
		pith_sparse_mask_unpack_rows(t, row, count, out);
		return;
	}
	for (size_t i = 0; i < count * t->n; i++)
		out[i] = 0;
	if (count == 0)
		return;
	size_t first_tile = row / PITH_TILE_ROWS, last_tile = (row + count - 1) / PITH_TILE_ROWS;
	for (size_t l = first_tile * s->blocks; l < (last_tile + 1) * s->blocks; l++)
		scatter_list(t, l, row, count, out);
}

/* ---- pack ---- */

/* By list, then by index: the order of the file.  Keys fit u64: m * n is at most 2^48. */
static uint64_t entry_key(const struct pith_sparse_source_entry *e, size_t blocks)
{
	uint64_t list = (uint64_t)(e->row / PITH_TILE_ROWS) * blocks +
	                e->column / PITH_SPARSE_BLOCK_COLUMNS;
	return list << 16 | (e->column % PITH_SPARSE_BLOCK_COLUMNS) * PITH_TILE_ROWS |
	       e->row % PITH_TILE_ROWS;
}

struct keyed_entry {
	uint64_t key;
	uint16_t value;
};

static int compare_keys(const void *a, const void *b)
{
	uint64_t x = ((const struct keyed_entry *)a)->key;
	uint64_t y = ((const struct keyed_entry *)b)->key;
	return (x > y) - (x < y);
}

static pith_status key_entries(const struct pith_sparse_source_entry *entries, size_t count,
                               size_t m, size_t n, struct keyed_entry *keyed,
                               struct pith_error *err)
{
	size_t blocks = column_blocks(n);
	for (size_t e = 0; e < count; e++) {
		if (entries[e].row >= m || entries[e].column >= n ||
		    (entries[e].value & 0x7c00u) == 0x7c00u)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "sparse.4",
			                 "entry %zu at row %u, column %u, or its value, is out of "
			                 "range", e, entries[e].row, entries[e].column);
		keyed[e].key = entry_key(&entries[e], blocks);
		keyed[e].value = entries[e].value;
	}
	qsort(keyed, count, sizeof(*keyed), compare_keys);
	for (size_t e = 1; e < count; e++)
		if (keyed[e].key == keyed[e - 1].key)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "sparse.3",
			                 "two entries at one position");
	return PITH_OK;
}

static pith_status pack_lists(const struct keyed_entry *keyed, size_t count, size_t lists,
                              struct pith_packed_term *out, struct pith_error *err)
{
	PITH_TRY(pith_packed_add(out, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                         4 * ((uint64_t)lists + 1), err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U16,
	                         2 * (uint64_t)count, err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_LIST, PITH_DTYPE_F16,
	                         2 * (uint64_t)count, err));
	size_t e = 0;
	for (size_t l = 0; l < lists; l++) {
		for (; e < count && keyed[e].key >> 16 == l; e++) {
			store_le16(out->plane[1].data + 2 * e, (uint16_t)keyed[e].key);
			store_le16(out->plane[2].data + 2 * e, keyed[e].value);
		}
		store_le32(out->plane[0].data + 4 * (l + 1), (uint32_t)e);
	}
	return PITH_OK;
}

pith_status pith_sparse_pack(const struct pith_sparse_source_entry *entries, size_t count, size_t m,
                             size_t n, struct pith_packed_term *out, struct pith_error *err)
{
	size_t tiles = m / PITH_TILE_ROWS + (m % PITH_TILE_ROWS != 0), lists, nbytes;
	memset(out, 0, sizeof(*out));
	if (count == 0 || count > UINT32_MAX || !pith_mul_size(tiles, column_blocks(n), &lists) ||
	    lists > PITH_MAX_ELEMENTS || !pith_mul_size(count, sizeof(struct keyed_entry), &nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "sparse.1",
		                 "cannot store %zu entries of %zu x %zu", count, m, n);
	struct keyed_entry *keyed = malloc(nbytes);
	if (keyed == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to sort %zu entries", count);
	pith_status status = key_entries(entries, count, m, n, keyed, err);
	if (status == PITH_OK)
		status = pack_lists(keyed, count, lists, out, err);
	free(keyed);
	out->kind = PITH_KIND_SPARSE;
	out->param[0] = PITH_SPARSE_LISTS;
	out->param[1] = (uint32_t)count;
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
