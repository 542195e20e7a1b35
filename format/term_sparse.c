/*
 * Sparse terms, and their form 1: tiled lists, one per row tile and block of 4096 columns, whose
 * entries lie as jagged diagonals: layer after layer, at most one entry a row in each.  Bitmasks are in
 * term_sparse_mask.c.  Spec: spec/terms/sparse.md.
 *
 * A reader trusts offsets and counts (checked when bound) but not the columns: one
 * beyond the matrix is skipped here, and found by verification.
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

static size_t row_count(const struct pith_sparse *s, size_t list, size_t row)
{
	return load_le16(s->counts + 2 * (list * PITH_TILE_ROWS + row));
}

/* Offsets are checked. */
static pith_status check_counts(const struct pith_term *t, size_t lists, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	for (size_t l = 0; l < lists; l++) {
		size_t entries = load_le32(s->offsets + 4 * (l + 1)) - load_le32(s->offsets + 4 * l);
		size_t sum = 0, most = 0;
		for (size_t row = 0; row < PITH_TILE_ROWS; row++) {
			size_t count = row_count(s, l, row);
			sum += count;
			most = count > most ? count : most;
		}
		// spec sparse.2: "In form 1 the sixteen counts of a list are at most 4096 each and together its number of entries."
		if (most > PITH_SPARSE_BLOCK_COLUMNS || sum != entries)
			return pith_term_fail(t, err, PITH_E_CORRUPT,
			                      t->plane[1].off + 2 * PITH_TILE_ROWS * l, "sparse.2",
			                      "list %zu has %zu entries, its rows have %zu", l,
			                      entries, sum);
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
	PITH_TRY(pith_term_expect_counts(t, 4, 2, err));
	s->blocks = column_blocks(t->n);
	if (!pith_mul_size(t->tiles, s->blocks, &lists) || lists > SIZE_MAX / 32)
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu lists do not fit", t->tiles, s->blocks);
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                                4 * ((uint64_t)lists + 1), err));
	PITH_TRY(pith_term_expect_plane(t, 1, PITH_ROLE_COUNTS, PITH_LAYOUT_LIST, PITH_DTYPE_U16,
	                                2 * PITH_TILE_ROWS * (uint64_t)lists, err));
	PITH_TRY(pith_term_expect_plane(t, 2, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U16,
	                                2 * (count + PITH_SPARSE_LIST_PADDING), err));
	PITH_TRY(pith_term_expect_plane(t, 3, PITH_ROLE_VALUES, PITH_LAYOUT_LIST, PITH_DTYPE_F16,
	                                2 * (count + PITH_SPARSE_LIST_PADDING), err));
	s->offsets = t->plane[0].data;
	s->counts = t->plane[1].data;
	s->index = t->plane[2].data;
	s->values = t->plane[3].data;
	s->value_count = (size_t)count;
	PITH_TRY(pith_sparse_check_offsets(t, 0, lists, err));
	return check_counts(t, lists, err);
}

/* ---- going through a list ---- */

/* The entries of a list in their order. */
struct list_walk {
	const struct pith_sparse *s;
	size_t list, layer, row; /* of the entry */
	size_t e, end;           /* its number; the list's end */
};

static struct list_walk walk_list(const struct pith_sparse *s, size_t list)
{
	/* 'row' before the first: walk_next() looks behind it */
	return (struct list_walk){ .s = s, .list = list, .row = SIZE_MAX,
		.e = load_le32(s->offsets + 4 * list) - (size_t)1,
		.end = load_le32(s->offsets + 4 * (list + 1)) };
}

/* To the next entry; false: there is none.  Counts are checked, so a layer with none does not come before the end. */
static bool walk_next(struct list_walk *w)
{
	if (++w->e == w->end)
		return false;
	do {
		w->row++;
		if (w->row == PITH_TILE_ROWS) {
			w->row = 0;
			w->layer++;
		}
	} while (row_count(w->s, w->list, w->row) <= w->layer);
	return true;
}

static size_t walk_row(const struct list_walk *w)
{
	return w->list / w->s->blocks * PITH_TILE_ROWS + w->row;
}

/* Column in the block, which may be out of it. */
static size_t walk_column_in_block(const struct list_walk *w)
{
	return load_le16(w->s->index + 2 * w->e);
}

static size_t walk_column(const struct list_walk *w)
{
	return w->list % w->s->blocks * PITH_SPARSE_BLOCK_COLUMNS + walk_column_in_block(w);
}

/* ---- verification ---- */

static pith_status verify_list(const struct pith_term *t, size_t list, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	size_t next[PITH_TILE_ROWS] = { 0 }; /* least column in the block that a row may go on with */
	for (size_t r = 0; r < PITH_TILE_ROWS; r++)
		// spec sparse.4: "counts of rows from m on are 0"
		if (list / s->blocks * PITH_TILE_ROWS + r >= t->m && row_count(s, list, r) != 0)
			return pith_term_fail(t, err, PITH_E_CORRUPT,
			                      t->plane[1].off + 2 * (list * PITH_TILE_ROWS + r),
			                      "sparse.4", "row %zu of list %zu is a padding row, "
			                      "its count is %zu", r, list, row_count(s, list, r));
	for (struct list_walk w = walk_list(s, list); walk_next(&w);) {
		size_t column = walk_column_in_block(&w);
		// spec sparse.4: "The column that an entry names is below n and inside its block"
		if (column >= PITH_SPARSE_BLOCK_COLUMNS || walk_column(&w) >= t->n)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[2].off + 2 * w.e,
			                      "sparse.4", "entry %zu is at row %zu, column %zu", w.e,
			                      walk_row(&w), walk_column(&w));
		// spec sparse.3: "In a list the columns of a row strictly ascend."
		if (column < next[w.row])
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[2].off + 2 * w.e,
			                      "sparse.3", "entry %zu of list %zu does not ascend",
			                      w.e, list);
		next[w.row] = column + 1;
		if ((load_le16(s->values + 2 * w.e) & 0x7c00u) == 0x7c00u)
			return pith_term_fail(t, err, PITH_E_CORRUPT, t->plane[3].off + 2 * w.e,
			                      "sparse.4", "value of entry %zu is not finite", w.e);
	}
	return PITH_OK;
}

pith_status pith_sparse_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_sparse *s = &t->u.sparse;
	if (s->masks != NULL)
		return pith_sparse_mask_verify(t, err);
	for (size_t l = 0; l < t->tiles * s->blocks; l++)
		PITH_TRY(verify_list(t, l, err));
	for (size_t e = s->value_count; e < s->value_count + PITH_SPARSE_LIST_PADDING; e++)
		for (uint32_t plane = 2; plane < 4; plane++)
			// spec sparse.4: "what is behind the last entry is 0"
			if (load_le16(t->plane[plane].data + 2 * e) != 0)
				return pith_term_fail(t, err, PITH_E_CORRUPT,
				                      t->plane[plane].off + 2 * e, "sparse.4",
				                      "number %zu behind the last entry is not 0",
				                      e - s->value_count);
	return PITH_OK;
}

/* Entries of one list that lie in rows row .. row + count - 1. */
static void scatter_list(const struct pith_term *t, size_t list, size_t row, size_t count,
                         float *out)
{
	const struct pith_sparse *s = &t->u.sparse;
	for (struct list_walk w = walk_list(s, list); walk_next(&w);) {
		size_t i = walk_row(&w), j = walk_column(&w);
		if (i >= row && i - row < count && j < t->n)
			out[(i - row) * t->n + j] = f32_of_f16(load_le16(s->values + 2 * w.e));
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

/* By list, row and column.  Keys fit u64: m * n is at most 2^48. */
static uint64_t entry_key(const struct pith_sparse_source_entry *e, size_t blocks)
{
	uint64_t list = (uint64_t)(e->row / PITH_TILE_ROWS) * blocks +
	                e->column / PITH_SPARSE_BLOCK_COLUMNS;
	return list << 16 | (e->row % PITH_TILE_ROWS) * PITH_SPARSE_BLOCK_COLUMNS |
	       e->column % PITH_SPARSE_BLOCK_COLUMNS;
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

/* The entries of a list, sorted by row and column, as entries 'at' .. of the planes. */
static void pack_list(const struct keyed_entry *keyed, size_t count, size_t list, size_t at,
                      struct pith_packed_term *out)
{
	size_t counts[PITH_TILE_ROWS] = { 0 }, first[PITH_TILE_ROWS], sum = 0;
	for (size_t e = 0; e < count; e++)
		counts[(keyed[e].key & 0xffffu) / PITH_SPARSE_BLOCK_COLUMNS]++;
	for (size_t r = 0; r < PITH_TILE_ROWS; r++) {
		first[r] = sum;
		sum += counts[r];
		store_le16(out->plane[1].data + 2 * (list * PITH_TILE_ROWS + r), (uint16_t)counts[r]);
	}
	for (size_t layer = 0, put = 0; put < count; layer++) {
		for (size_t r = 0; r < PITH_TILE_ROWS; r++) {
			if (counts[r] <= layer)
				continue;
			const struct keyed_entry *e = &keyed[first[r] + layer];
			store_le16(out->plane[2].data + 2 * (at + put),
			           (uint16_t)(e->key % PITH_SPARSE_BLOCK_COLUMNS));
			store_le16(out->plane[3].data + 2 * (at + put), e->value);
			put++;
		}
	}
}

static pith_status pack_lists(const struct keyed_entry *keyed, size_t count, size_t lists,
                              struct pith_packed_term *out, struct pith_error *err)
{
	const uint64_t padded = 2 * ((uint64_t)count + PITH_SPARSE_LIST_PADDING);
	PITH_TRY(pith_packed_add(out, PITH_ROLE_OFFSETS, PITH_LAYOUT_LIST, PITH_DTYPE_U32,
	                         4 * ((uint64_t)lists + 1), err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_COUNTS, PITH_LAYOUT_LIST, PITH_DTYPE_U16,
	                         2 * PITH_TILE_ROWS * (uint64_t)lists, err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_INDEX, PITH_LAYOUT_LIST, PITH_DTYPE_U16, padded, err));
	PITH_TRY(pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_LIST, PITH_DTYPE_F16, padded, err));
	size_t begin = 0;
	for (size_t l = 0; l < lists; l++) {
		size_t end = begin;
		while (end < count && keyed[end].key >> 16 == l)
			end++;
		pack_list(keyed + begin, end - begin, l, begin, out);
		store_le32(out->plane[0].data + 4 * (l + 1), (uint32_t)end);
		begin = end;
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
