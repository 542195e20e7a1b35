/*
 * The container's constants and decoded entries: what spec/container.md and
 * spec/weight.md say, in C.  Functions turn bytes into these structs and back and
 * check the rules that one entry can prove about itself; they know no files and no
 * models.  Everything here is private to the libraries (the public view is
 * loader/pith.h).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_FORMAT_H
#define PITH_FORMAT_FORMAT_H

#include "bytes.h"
#include "pith_status.h"

/* ---- spec/container.md 1-3 ---- */
#define PITH_PREAMBLE_NBYTES 64u
#define PITH_SLOT_NBYTES 512u
#define PITH_SLOT_OFF(slot) (512u + 512u * (unsigned)(slot))
#define PITH_DATA_OFF 1536u
#define PITH_ALIGN 64u
#define PITH_BIG_PLANE_NBYTES 65536u
#define PITH_DEFAULT_TENSOR_ALIGN 4096u
#define PITH_CONTAINER_VERSION 0u
#define PITH_NUMERICS_VERSION 1u
#define PITH_MAX_DIRECTORY_COUNT 256u
#define PITH_MAX_RANK 4u
#define PITH_MAX_TERMS 16u
#define PITH_MAX_TRANSFORMS 4u
#define PITH_MAX_PLANES 8u
#define PITH_MAX_TRANSFORM_PLANES 4u
#define PITH_MAX_BLOCKS ((uint64_t)1 << 20)
#define PITH_MAX_NAME_NBYTES 255u
#define PITH_MAX_DIM ((uint64_t)1 << 40)
#define PITH_MAX_ELEMENTS ((uint64_t)1 << 48)
#define PITH_TERM_PARAMS 24u
#define PITH_XFRM_PARAMS 10u

extern const uint8_t pith_magic[8];

enum pith_feature_incompatible {
	PITH_FEATURE_PACKED_PLANES = 1u << 0, /* reserved: refused by name */
	PITH_FEATURE_ENTROPY_BF16 = 1u << 1,  /* reserved: refused by name */
	PITH_FEATURE_SPLIT = 1u << 2          /* reserved: refused by name */
};

/* ---- spec/container.md 4: section ids, first character in the lowest byte ---- */
#define PITH_ID(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define PITH_SECTION_WGHT PITH_ID('W', 'G', 'H', 'T')
#define PITH_SECTION_TERM PITH_ID('T', 'E', 'R', 'M')
#define PITH_SECTION_XFRM PITH_ID('X', 'F', 'R', 'M')
#define PITH_SECTION_PLAN PITH_ID('P', 'L', 'A', 'N')
#define PITH_SECTION_NAME PITH_ID('N', 'A', 'M', 'E')
#define PITH_SECTION_ARCH PITH_ID('A', 'R', 'C', 'H')
#define PITH_SECTION_BLCK PITH_ID('B', 'L', 'C', 'K')
#define PITH_SECTION_TOKN PITH_ID('T', 'O', 'K', 'N')
#define PITH_SECTION_CNRY PITH_ID('C', 'N', 'R', 'Y')
#define PITH_SECTION_LINE PITH_ID('L', 'I', 'N', 'E')
#define PITH_SECTION_TEXT PITH_ID('T', 'E', 'X', 'T')
#define PITH_SECTION_CONFIG PITH_ID('c', 'f', 'g', ' ')
#define PITH_SECTION_TOKENIZER_JSON PITH_ID('t', 'k', 'j', ' ')
#define PITH_SECTION_TOKENIZER_CONFIG PITH_ID('t', 'k', 'c', ' ')
#define PITH_SECTION_GENERATION_CONFIG PITH_ID('g', 'e', 'n', ' ')
#define PITH_SECTION_LICENCE PITH_ID('l', 'i', 'c', ' ')
#define PITH_SECTION_CARD PITH_ID('c', 'a', 'r', 'd')

enum pith_encoding { PITH_ENCODING_RAW = 0, PITH_ENCODING_ZSTD = 1 };
enum { PITH_SECTION_MUST = 1u };
enum { PITH_WEIGHT_FORWARD = 1u }; /* read by the forward pass */

/* ---- spec/weight.md ---- */
enum pith_kind {
	PITH_KIND_DENSE = 1,
	PITH_KIND_AFFINE = 2,
	PITH_KIND_CODEBOOK = 3,
	PITH_KIND_TERNARY = 4,
	PITH_KIND_SPARSE = 5,
	PITH_KIND_COLUMNS = 6,
	PITH_KIND_LOWRANK = 7
};
enum pith_transform_kind {
	PITH_TRANSFORM_PERMUTE = 1,
	PITH_TRANSFORM_SCALE = 2,
	PITH_TRANSFORM_SHIFT = 3
};
#define PITH_KIND_EXPERIMENTAL 0x80000000u

enum pith_dtype {
	PITH_DTYPE_NONE = 0,
	PITH_DTYPE_F32 = 1,
	PITH_DTYPE_F16 = 2,
	PITH_DTYPE_BF16 = 3,
	PITH_DTYPE_U8 = 4,
	PITH_DTYPE_U16 = 5,
	PITH_DTYPE_U32 = 6,
	PITH_DTYPE_I8 = 7
};
enum pith_role {
	PITH_ROLE_VALUES = 1,
	PITH_ROLE_CODES = 2,
	PITH_ROLE_SCALES = 3,
	PITH_ROLE_ZEROS = 4,
	PITH_ROLE_ZERO_CODES = 5,
	PITH_ROLE_SECOND_LEVEL = 6,
	PITH_ROLE_INDEX = 7,
	PITH_ROLE_OFFSETS = 8,
	PITH_ROLE_SCALE_CODES = 9,
	PITH_ROLE_COUNTS = 10
};
enum pith_layout {
	PITH_LAYOUT_ROWS = 1,
	PITH_LAYOUT_TILE16 = 2,
	PITH_LAYOUT_SLICE16 = 3,
	PITH_LAYOUT_LIST = 4,
	PITH_LAYOUT_TRIT16 = 5
};
enum pith_activation {
	PITH_ACTIVATION_FLOAT = 0,
	PITH_ACTIVATION_INT8_GROUP32 = 1,
	PITH_ACTIVATION_INT8_TOKEN = 2,
	PITH_ACTIVATION_INT8_STATIC = 3
};

#define PITH_TILE_ROWS 16u
#define PITH_ACT_GROUP 32u
#define PITH_RUN_COLUMNS 256u /* most columns of a run, spec/numerics.md 4 */

/* Bytes of one value of a dtype; 0 for an unknown one. */
size_t pith_dtype_nbytes(uint32_t dtype);
/* "f32", "bf16", ...; "?" for an unknown one.  Static string. */
const char *pith_dtype_name(uint32_t dtype);
/* "codes", "scales", ...; "?" for an unknown one.  Static string. */
const char *pith_role_name(uint32_t role);

/* ---- decoded entries; comments give the table of spec/container.md ---- */
struct pith_header { /* one header slot */
	uint64_t generation;
	uint32_t container_version, numerics_version;
	uint64_t incompatible, read_only_compatible, compatible;
	uint64_t file_nbytes, directory_off;
	uint32_t directory_count, tensor_align;
	uint8_t file_root[16], model_identity[16];
};
struct pith_directory_entry {
	uint32_t section_id, encoding;
	uint64_t off, nbytes, raw_nbytes, xxh3;
	uint32_t flags, entry_nbytes;
};
struct pith_weight_entry { /* WGHT */
	uint64_t name_hash, name_off;
	uint32_t name_nbytes, flags, rank, term_count;
	uint64_t dim[PITH_MAX_RANK];
	uint32_t first_term, first_transform, transform_count, activation, source_dtype;
	float activation_scale;
};
struct pith_term_entry { /* TERM */
	uint32_t kind, first_plane, plane_count, flags;
	uint32_t param[PITH_TERM_PARAMS];
};
struct pith_transform_entry { /* XFRM */
	uint32_t kind, first_plane, plane_count, flags;
	uint32_t param[PITH_XFRM_PARAMS];
};
struct pith_plane_entry { /* PLAN */
	uint64_t off, nbytes, xxh3;
	uint32_t role, layout, dtype, encoding;
};
struct pith_arch_entry { /* ARCH */
	char key[32];
	uint32_t type, flags;
	uint64_t value, value_nbytes;
};
enum { PITH_ARCH_U64 = 1, PITH_ARCH_F64 = 2, PITH_ARCH_STRING = 3 };
enum { PITH_ARCH_MUST = 1u, PITH_ARCH_NO_IDENTITY = 2u };
struct pith_block_entry { /* BLCK */
	uint32_t flags, head_count, kv_head_count, head_dim, ffn_count;
	uint32_t attention_of, ffn_of, window, attention_const, ffn_const;
};
enum { PITH_BLOCK_ATTENTION = 1u, PITH_BLOCK_FFN = 2u };
struct pith_canary_entry { /* CNRY */
	uint32_t weight, seed;
	float first[PITH_TILE_ROWS], last[PITH_TILE_ROWS];
};
struct pith_lineage_entry { /* LINE */
	uint32_t kind, weight, key_nbytes, value_nbytes;
	uint64_t key_off, value_off;
	double number[2];
	uint8_t digest[32];
};
enum pith_lineage_kind {
	PITH_LINEAGE_SOURCE = 1,
	PITH_LINEAGE_RECIPE = 2,
	PITH_LINEAGE_TOOL = 3,
	PITH_LINEAGE_LIBRARY = 4,
	PITH_LINEAGE_CALIBRATION = 5,
	PITH_LINEAGE_PARENT = 6,
	PITH_LINEAGE_WEIGHT_ERROR = 7,
	PITH_LINEAGE_NOTE = 8
};

#define PITH_WGHT_NBYTES 128u
#define PITH_TERM_NBYTES 128u
#define PITH_XFRM_NBYTES 64u
#define PITH_PLAN_NBYTES 64u
#define PITH_ARCH_NBYTES 64u
#define PITH_BLCK_NBYTES 64u
#define PITH_CNRY_NBYTES 160u
#define PITH_LINE_NBYTES 128u
#define PITH_DIRECTORY_NBYTES 64u

#endif
