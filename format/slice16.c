/*
 * The layout slice16, row by row.  Drawn in spec/terms/affine.md ("Codes").
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "slice16.h"

enum { COLUMNS = PITH_SLICE16_COLUMNS, LINE_NBYTES = PITH_SLICE16_LINE_NBYTES };

/*
 * Visit the fields of one row of a block: part widths 8 | 4, 2, 1, the first part with
 * the lowest bits.
 */
void pith_slice16_row_decode(const uint8_t *block, unsigned bits, unsigned row,
                             uint8_t code[PITH_SLICE16_COLUMNS])
{
	const uint8_t *line = block + 4 * row;
	unsigned shift = 0;
	memset(code, 0, COLUMNS);
	for (unsigned width = 8; width != 0; width /= 2) {
		if ((bits & width) == 0)
			continue;
		unsigned fields = 8 / width, mask = (1u << width) - 1;
		for (unsigned l = 0; l < width; l++, line += LINE_NBYTES)
			for (unsigned f = 0; f < fields; f++)
				for (unsigned k = 0; k < 4; k++) {
					unsigned q = line[k] >> (f * width) & mask;
					uint8_t *c = &code[4 * (fields * l + f) + k];
					*c = (uint8_t)(*c | q << shift);
				}
		shift += width;
	}
}

void pith_slice16_row_encode(uint8_t *block, unsigned bits, unsigned row,
                             const uint8_t code[PITH_SLICE16_COLUMNS])
{
	uint8_t *line = block + 4 * row;
	unsigned shift = 0;
	for (unsigned width = 8; width != 0; width /= 2) {
		if ((bits & width) == 0)
			continue;
		unsigned fields = 8 / width, mask = (1u << width) - 1;
		for (unsigned l = 0; l < width; l++, line += LINE_NBYTES)
			for (unsigned f = 0; f < fields; f++)
				for (unsigned k = 0; k < 4; k++) {
					unsigned c = code[4 * (fields * l + f) + k];
					unsigned q = c >> shift & mask;
					line[k] = (uint8_t)(line[k] | q << (f * width));
				}
		shift += width;
	}
}

pith_status pith_slice16_pack(const uint8_t *codes, size_t m, size_t n, uint32_t bits, uint8_t *plane,
                              const char *rule, struct pith_error *err)
{
	size_t blocks = (n + COLUMNS - 1) / COLUMNS;
	size_t block_nbytes = (size_t)LINE_NBYTES * bits;
	for (size_t i = 0; i < m; i++) {
		uint8_t *tile = plane + i / PITH_TILE_ROWS * blocks * block_nbytes;
		for (size_t b = 0; b < blocks; b++) {
			uint8_t code[COLUMNS] = { 0 };
			size_t first = b * COLUMNS;
			size_t count = n - first < COLUMNS ? n - first : COLUMNS;
			memcpy(code, codes + i * n + first, count);
			for (size_t j = 0; j < count; j++)
				if (code[j] >> bits != 0)
					return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, rule,
					                 "the code of row %zu, column %zu is "
					                 "out of range", i, first + j);
			pith_slice16_row_encode(tile + b * block_nbytes, bits,
			                        (unsigned)(i % PITH_TILE_ROWS), code);
		}
	}
	return PITH_OK;
}

pith_status pith_slice16_verify(const struct pith_term *t, uint32_t bits, const char *rule,
                                struct pith_error *err)
{
	size_t blocks = (t->n + COLUMNS - 1) / COLUMNS;
	size_t block_nbytes = (size_t)LINE_NBYTES * bits;
	size_t rows_in_last = t->m - (t->tiles - 1) * PITH_TILE_ROWS;
	size_t columns_in_last = t->n - (blocks - 1) * COLUMNS;
	for (size_t tile = 0; tile < t->tiles; tile++) {
		bool last_tile = tile + 1 == t->tiles && rows_in_last < PITH_TILE_ROWS;
		bool short_block = columns_in_last < COLUMNS;
		size_t b = last_tile ? 0 : short_block ? blocks - 1 : blocks;
		for (; b < blocks; b++) {
			size_t at = (tile * blocks + b) * block_nbytes;
			size_t columns = b + 1 == blocks ? columns_in_last : COLUMNS;
			for (unsigned row = 0; row < PITH_TILE_ROWS; row++) {
				uint8_t code[COLUMNS];
				bool real = !last_tile || row < rows_in_last;
				pith_slice16_row_decode(t->plane[0].data + at, bits, row, code);
				for (size_t j = real ? columns : 0; j < COLUMNS; j++)
					if (code[j] != 0)
						return pith_term_fail(
						    t, err, PITH_E_CORRUPT,
						    t->plane[0].off + at, rule,
						    "a code outside the matrix is not 0");
			}
		}
	}
	return PITH_OK;
}
