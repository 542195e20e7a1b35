/*
 * Terms and transforms bound to their planes, and the one table of kinds.
 *
 * A 'struct pith_term' is what a kernel sees: sizes, decoded parameters and
 * pointers into the mapping, all proved in range by the kind's check().  After
 * that nothing can fail: unpack_rows() is void.  Adding a kind is one term_<kind>
 * pair and one row in term.c; nothing else switches on a kind.
 *
 * Shapes: m rows (outputs), n columns (inputs), tiles = ceil(m / 16).  All plane
 * pointers are 64-byte aligned in the file; in memory they are aligned as the
 * mapping is (at least 64).  Little-endian data: kernels on big-endian hosts must
 * convert.  Spec: spec/weight.md and spec/terms/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_TERM_H
#define PITH_FORMAT_TERM_H

#include "format.h"

/* A plane of a term as mapped: 'nbytes' bytes at 'data', borrowed from the file. */
struct pith_plane {
	const uint8_t *data;
	uint64_t off;    /* in the file, for error messages */
	uint64_t nbytes; /* as in the plane table: content rounded up to 64 */
	uint64_t content_nbytes; /* set by check: what the kind's page computes */
	uint32_t role, layout, dtype;
};

struct pith_dense { /* spec/terms/dense.md */
	const uint8_t *values; /* [m, n] of dtype, row-major */
	uint32_t dtype;        /* f32, f16, bf16 */
	uint32_t value_nbytes;
};

struct pith_affine { /* spec/terms/affine.md */
	const uint8_t *codes;        /* [tiles][blocks][64 * bits] */
	const uint8_t *scales;       /* [tiles][groups][16] f16, or NULL (two-level) */
	const uint8_t *zeros;        /* [tiles][groups][16] u8 or f16, or NULL */
	const uint8_t *scale_codes;  /* [tiles][groups][scale_bits] u16, or NULL */
	const uint8_t *zero_codes;   /* [tiles][groups][zero_bits] u16, or NULL */
	const uint8_t *second_level; /* [tiles][groups][4] f16, or NULL */
	uint32_t bits, scale_mode, zero_mode, scale_bits, zero_bits;
	size_t group_size; /* columns; the whole row is given as 32 * blocks */
	size_t groups;     /* per row */
	size_t blocks;     /* of 32 columns per row */
};

struct pith_codebook { /* spec/terms/codebook.md */
	const uint8_t *codes;        /* [tiles][blocks][64 * bits] as affine's */
	const uint8_t *entries;      /* [2^bits], or per row [tiles][2^bits][16]; i8 or f32 */
	const uint8_t *scales;       /* [tiles][groups][16] f16, or NULL */
	const uint8_t *scale_codes;  /* [tiles][groups][16] u8, or NULL */
	const uint8_t *second_level; /* [tiles][2] f16: scale, zero; or NULL */
	uint32_t bits, scale_mode;
	bool real;         /* f32 entries; else i8 */
	bool per_row;      /* a table for each row */
	size_t group_size; /* columns; the whole row is given as 32 * blocks */
	size_t groups;     /* per row */
	size_t blocks;     /* of 32 columns per row */
};

struct pith_ternary { /* spec/terms/ternary.md */
	const uint8_t *codes;  /* [tiles][lines][64] */
	const uint8_t *scales; /* [tiles][16] f32 */
	size_t lines;          /* of 20 columns per row */
};
#define PITH_TERNARY_LINE_COLUMNS 20u

struct pith_sparse { /* spec/terms/sparse.md */
	const uint8_t *offsets; /* lists: [tiles * blocks + 1] u32; bitmask: [tiles + 1]; n:m: NULL */
	const uint8_t *counts;  /* lists: [lists][16] u16, entries of each row; else NULL */
	const uint8_t *index;   /* lists: [value_count + 32] u16, column in block; else NULL */
	const uint8_t *values;  /* [value_count and more] f16, or with 'bits' sections of 64 codes */
	size_t value_count;
	size_t blocks; /* of 4096 columns, of 32 for masks */
	/* forms 2 and 3; masks is NULL in form 1 */
	const uint8_t *masks;  /* [tiles][blocks][8] u64 */
	const uint8_t *scales; /* [tiles][groups][16] f16, or NULL */
	const uint8_t *zeros;  /* [tiles][groups][16] u8, or NULL */
	uint32_t bits;         /* 0: f16 values */
	uint32_t zero_mode;
	size_t group_size; /* columns; the whole row is given as 32 * blocks */
	size_t groups;     /* per row */
	size_t tile_values; /* n:m: of a whole tile */
};
#define PITH_SPARSE_BLOCK_COLUMNS 4096u
#define PITH_SPARSE_LIST_PADDING 32u /* entries behind the last, so that whole vectors can be loaded */

/* Forms 2 and 3: the number of the first value of a tile. */
static inline size_t pith_sparse_first(const struct pith_sparse *s, size_t tile)
{
	return s->offsets != NULL ? load_le32(s->offsets + 4 * tile) : tile * s->tile_values;
}

struct pith_columns { /* spec/terms/columns.md */
	const uint8_t *index;  /* [column_count] u32 */
	const uint8_t *values; /* [tiles][column_count][16] f16 or bf16 */
	size_t column_count;
	uint32_t dtype;
};

struct pith_lowrank { /* spec/terms/lowrank.md */
	const uint8_t *v; /* [rank, n] f16 or bf16, row-major */
	const uint8_t *u; /* [tiles][rank][16] f16 or bf16 */
	size_t rank;
	uint32_t dtype;
};
#define PITH_LOWRANK_MAX_RANK 1024u

struct pith_term_kind;

/* A bound term: immutable, valid as long as the file. */
struct pith_term {
	const struct pith_term_kind *kind;
	size_t m, n, tiles;
	uint32_t plane_count;
	struct pith_plane plane[PITH_MAX_PLANES];
	uint32_t param[PITH_TERM_PARAMS];
	/* for error messages only: offset of the TERM entry, number in the weight, its name or NULL */
	uint64_t off;
	uint32_t index;
	const char *weight_name; /* borrowed, weight_name_nbytes bytes */
	size_t weight_name_nbytes;
	union {
		struct pith_dense dense;
		struct pith_affine affine;
		struct pith_codebook codebook;
		struct pith_ternary ternary;
		struct pith_sparse sparse;
		struct pith_columns columns;
		struct pith_lowrank lowrank;
	} u;
};

/* A row of the table of kinds. */
struct pith_term_kind {
	uint32_t id;
	const char *name; /* as in spec/weight.md */
	/* Does a term with these parameters see x' as int8 per 32 columns (weight.2), or as f32? */
	bool (*integer)(const uint32_t param[PITH_TERM_PARAMS]);
	/*
	 * Prove parameters and plane extents and fill t->u.  On entry m, n, tiles, plane[],
	 * plane_count and param[] are set and every plane is inside the file.  Cheap: no pass
	 * over values, except over offset and index planes where a reader would leave its range
	 * without it.  PITH_E_CORRUPT with the rule, or PITH_E_UNSUPPORTED.
	 */
	pith_status (*check)(struct pith_term *t, struct pith_error *err);
	/* Rules about values (padding, finiteness, order): full verification only. */
	pith_status (*verify)(const struct pith_term *t, struct pith_error *err);
	/*
	 * The term's meaning: out[r * n + j] for rows row .. row + count - 1 (all below m).
	 * out: [count, n] f32, overwritten.
	 */
	void (*unpack_rows)(const struct pith_term *t, size_t row, size_t count, float *out);
};

/*
 * weight.2 and weight.7 for a weight that has an integer kind, or none, among its terms: the
 * number of the broken rule, or NULL.  Static string.
 */
const char *pith_activation_fault(uint32_t activation, float scale, bool integer);

/* The kinds this library knows, ended by a row with name NULL. */
extern const struct pith_term_kind pith_term_kinds[];

/*
 * Find the row of kind 'id'.  NULL for one that is not known; then
 * pith_kind_name(id) still gives a name to tell the user.
 */
const struct pith_term_kind *pith_term_kind_find(uint32_t id);
/* "affine", "codebook (reserved)", "experimental", "unknown".  Static string. */
const char *pith_kind_name(uint32_t id);

/*
 * For check functions.  expect_counts: exactly 'plane_count' planes (weight.5), parameters
 * from 'param_count' on are 0 (weight.3).  expect_plane: plane 'i' has the role, layout,
 * dtype and content size given (nbytes = content rounded up to 64; container.15), and its
 * content_nbytes is set.  PITH_E_CORRUPT; PITH_E_UNSUPPORTED for an unlisted id (weight.1).
 */
pith_status pith_term_expect_counts(const struct pith_term *t, uint32_t plane_count,
                                    uint32_t param_count, struct pith_error *err);
pith_status pith_term_expect_plane(struct pith_term *t, uint32_t i, uint32_t role, uint32_t layout,
                                   uint32_t dtype, uint64_t content_nbytes,
                                   struct pith_error *err);
/*
 * weight.1 for a plane's role, layout and dtype, of terms and transforms alike: PITH_OK, or
 * PITH_E_UNSUPPORTED and which field has which id that is not listed.  (0 is not listed
 * either, but breaks container.15, which the caller checks next.)
 */
pith_status pith_plane_expect_listed(const struct pith_plane *plane, const char **what,
                                     uint32_t *id);
/* pith_fail() with "weight NAME: term I (KIND): " in front of the message. */
pith_status pith_term_fail(const struct pith_term *t, struct pith_error *err, pith_status status,
                           uint64_t off, const char *rule, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 6, 7)))
#endif
    ;

/*
 * Bind a term: on entry m, n, plane[], plane_count, param[] and the fields for messages are
 * set; finds the kind, sets tiles, runs its check.  PITH_E_UNSUPPORTED names an unknown kind.
 */
pith_status pith_term_bind(struct pith_term *t, uint32_t kind, struct pith_error *err);
/* Every rule about the bytes of a bound term: padding of its planes, then kind->verify. */
pith_status pith_term_verify(const struct pith_term *t, struct pith_error *err);

/* A bound transform (spec/transforms/): x' from x.  Its kind is one of the table in transform.c. */
struct pith_transform {
	uint32_t kind;
	size_t m, n;
	struct pith_plane plane; /* [n] u32 (permute: each below n) or f32 (scale, shift) */
	struct pith_plane bias;  /* [m] f32, of a shift; else empty */
	/* for error messages only: offset of the XFRM entry, the weight's name or NULL */
	uint64_t off;
	const char *weight_name;
	size_t weight_name_nbytes;
};
/* pith_fail() with "weight NAME: transform KIND: " in front of the message. */
pith_status pith_transform_fail(const struct pith_transform *t, struct pith_error *err,
                                pith_status status, uint64_t off, const char *rule,
                                const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 6, 7)))
#endif
    ;
/* "permute", "shift (reserved)", "experimental", "unknown".  Static string. */
const char *pith_transform_name(uint32_t id);
/* Prove a transform whose kind, m, n and planes are set.  PITH_E_UNSUPPORTED names an unknown kind. */
pith_status pith_transform_bind(struct pith_transform *t, struct pith_error *err);
/* Rules about values and the planes' padding.  May allocate n bits: PITH_E_MEMORY. */
pith_status pith_transform_verify(const struct pith_transform *t, struct pith_error *err);
/* x: [n] -> x' in y: [n]; y is not x. */
void pith_transform_apply(const struct pith_transform *t, const float *x, float *y);
/* A row of the terms' sum -> that row of the weight, in place; scratch: [n]. */
void pith_transform_undo(const struct pith_transform *t, float *row, float *scratch);

/* ---- packing: from plain arrays to planes; used by convert and tests ---- */

/* A plane to be written: owned by the caller, freed with pith_packed_free(). */
struct pith_packed_plane {
	uint8_t *data;   /* nbytes bytes, a multiple of 64, padding zero */
	size_t nbytes;
	uint32_t role, layout, dtype;
};
struct pith_packed_term {
	uint32_t kind, plane_count;
	uint32_t param[PITH_TERM_PARAMS];
	struct pith_packed_plane plane[PITH_MAX_PLANES];
};
void pith_packed_free(struct pith_packed_term *t); /* frees planes, zeroes *t */
/*
 * Bind a packed term as if it came from a file; 'out' borrows its planes.  For kernels' tests
 * and for convert, which measures what it packed.
 */
pith_status pith_packed_bind(const struct pith_packed_term *packed, size_t m, size_t n,
                             struct pith_term *out, struct pith_error *err);
/*
 * For pack functions: append a zeroed plane of 'content_nbytes' rounded up to 64 to 'out';
 * its data is aligned to 64.  PITH_E_MEMORY.
 */
pith_status pith_packed_add(struct pith_packed_term *out, uint32_t role, uint32_t layout,
                            uint32_t dtype, uint64_t content_nbytes, struct pith_error *err);

/*
 * Pack a dense matrix.  values: [m, n] f32, rounded to 'dtype' (nearest even; exact when
 * they came from it).
 */
pith_status pith_dense_pack(const float *values, size_t m, size_t n, uint32_t dtype,
                            struct pith_packed_term *out, struct pith_error *err);

/* The same from values that are of 'dtype' already: copied bit for bit (little-endian). */
pith_status pith_dense_pack_bytes(const void *values, size_t m, size_t n, uint32_t dtype,
                                  struct pith_packed_term *out, struct pith_error *err);

/* What an affine term is made of, in plain row-major arrays. */
struct pith_affine_source {
	uint32_t bits, scale_mode, zero_mode, scale_bits, zero_bits;
	size_t group_size;          /* 0: row */
	const uint8_t *codes;       /* [m, n], each < 2^bits */
	const uint16_t *scales;     /* [m, groups] f16 bits (scale_mode 0) */
	const void *zeros;          /* [m, groups] u8 (zero_mode 1) or u16 f16 bits (2) */
	const uint8_t *scale_codes; /* [m, groups] (scale_mode 1) */
	const uint8_t *zero_codes;  /* [m, groups] (zero_mode 3) */
	const uint16_t *second_level; /* [tiles, groups, 4] f16 bits (scale_mode 1) */
};
pith_status pith_affine_pack(const struct pith_affine_source *s, size_t m, size_t n,
                             struct pith_packed_term *out, struct pith_error *err);

/* What a codebook term is made of, in plain row-major arrays. */
struct pith_codebook_source {
	uint32_t bits, scale_mode;
	bool real, per_row;
	size_t group_size;          /* 0: row */
	const uint8_t *codes;       /* [m, n], each < 2^bits */
	const void *entries;        /* [2^bits] or, per row, [m, 2^bits]; int8_t, or float with 'real' */
	const uint16_t *scales;     /* [m, groups] f16 bits (scale_mode 0) */
	const uint8_t *scale_codes; /* [m, groups] (scale_mode 2) */
	const uint16_t *second_level; /* [tiles, 2] f16 bits (scale_mode 2) */
};
pith_status pith_codebook_pack(const struct pith_codebook_source *s, size_t m, size_t n,
                               struct pith_packed_term *out, struct pith_error *err);
/* Content size of the codebook planes; used by check, pack and size estimates. */
struct pith_codebook_sizes {
	uint64_t groups, blocks;
	uint64_t codes, entries, scales, scale_codes, second_level; /* bytes, unpadded */
};
/* false when a product does not fit or the parameters are out of range. */
bool pith_codebook_sizes(uint32_t bits, uint64_t group_size, uint32_t scale_mode, bool real,
                         bool per_row, uint64_t m, uint64_t n, struct pith_codebook_sizes *out);

/* trits: [m, n], each -1, 0 or 1; scales: [m], finite. */
pith_status pith_ternary_pack(const int8_t *trits, const float *scales, size_t m, size_t n,
                              struct pith_packed_term *out, struct pith_error *err);
/* Bytes of the planes, unpadded; false when they do not fit. */
bool pith_ternary_sizes(uint64_t m, uint64_t n, uint64_t *codes, uint64_t *scales);

/* entries in any order, unique positions; row < m, column < n; value f16 bits. */
struct pith_sparse_source_entry {
	uint32_t row, column;
	uint16_t value;
};
pith_status pith_sparse_pack(const struct pith_sparse_source_entry *entries, size_t count, size_t m,
                             size_t n, struct pith_packed_term *out, struct pith_error *err);

/* What a bitmask is made of, in plain row-major arrays; values and codes count where present is not 0. */
struct pith_sparse_mask_source {
	const uint8_t *present; /* [m, n] 0 or 1, at least one 1 */
	uint32_t pattern_count, pattern_columns; /* n:m, which 'present' keeps to; or 0, 0 */
	uint32_t bits;          /* 0: f16 values */
	const float *values;    /* [m, n], rounded to f16 (bits 0) */
	const uint8_t *codes;   /* [m, n], each < 2^bits */
	size_t group_size;      /* 0: row */
	uint32_t zero_mode;     /* 0 or 1 */
	const uint16_t *scales; /* [m, groups] f16 bits */
	const uint8_t *zeros;   /* [m, groups] (zero_mode 1) */
};
pith_status pith_sparse_mask_pack(const struct pith_sparse_mask_source *s, size_t m, size_t n,
                                  struct pith_packed_term *out, struct pith_error *err);

/* Content size of the planes of forms 2 and 3; used by check, pack and size estimates. */
struct pith_sparse_mask_sizes {
	uint64_t groups, blocks;
	uint64_t masks, offsets, values, scales, zeros; /* bytes, unpadded; 0: no such plane */
};
/* false when a product does not fit or a parameter is out of range.  form: 2 or 3. */
bool pith_sparse_mask_sizes(uint32_t form, uint64_t value_count, uint32_t bits, uint64_t group_size,
                            uint32_t zero_mode, uint64_t m, uint64_t n,
                            struct pith_sparse_mask_sizes *out);

/* u: [m, rank], v: [rank, n] f32, rounded to dtype (f16, bf16). */
pith_status pith_lowrank_pack(const float *u, const float *v, size_t rank, size_t m, size_t n,
                              uint32_t dtype, struct pith_packed_term *out, struct pith_error *err);
/* Content sizes of the planes; false when they do not fit or the rank is out of range. */
bool pith_lowrank_sizes(uint64_t rank, uint64_t m, uint64_t n, uint64_t *u_nbytes,
                        uint64_t *v_nbytes);

/* index: [c] ascending columns; values: [m, c] f32, rounded to dtype (f16, bf16). */
pith_status pith_columns_pack(const uint32_t *index, const float *values, size_t c, size_t m,
                              size_t n, uint32_t dtype, struct pith_packed_term *out,
                              struct pith_error *err);

/* Content size of the affine planes; used by check, pack and size estimates. */
struct pith_affine_sizes {
	uint64_t groups, blocks;
	uint64_t codes, scales, zeros, scale_codes, zero_codes, second_level; /* bytes, unpadded */
};
/* false when a product does not fit or the parameters are out of range. */
bool pith_affine_sizes(uint32_t bits, uint64_t group_size, uint32_t scale_mode, uint32_t zero_mode,
                       uint32_t scale_bits, uint32_t zero_bits, uint64_t m, uint64_t n,
                       struct pith_affine_sizes *out);

#endif
