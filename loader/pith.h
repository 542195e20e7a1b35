/*
 * libpith: open a .pith file, find weights, borrow their bytes, verify, unpack.
 *
 * Nouns: a *file* is a read-only mapping; a *weight* is a named matrix, the sum of
 * *terms*; a term's payload lies in *planes*; *sections* are everything else.  The
 * byte format is spec/container.md and spec/weight.md.
 *
 * Lifetime: everything handed out is borrowed from the pith_file and valid until
 * pith_file_close(); nothing is ever freed by the caller unless a function says so.
 * Opening takes the same time for any file: no per-weight work, no allocation that
 * grows with the model.
 *
 * The file must not be cut while it is open: reading a page that is gone raises SIGBUS,
 * which no library can turn into an error.  Replacing it by rename is safe, and so is
 * appending lineage.
 *
 * Threading: a pith_file is immutable after open; every function that takes it const
 * may be called from any thread at once.
 *
 * Needs libc, zstd and xxHash.  Never prints, exits or reads the environment.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_H
#define PITH_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pith_file;
struct pith_term; /* bound term; its fields are private to the libraries */

/* ---- opening ---- */

enum pith_open_flags {
	/* Weights are verified lazily before first use by whoever binds them; this declines it. */
	PITH_OPEN_NO_VERIFY = 1u
};

/*
 * Map 'path' read-only and check the header and the directory (spec container.1-10).
 *
 * 'flags' is 0 or PITH_OPEN_NO_VERIFY.  PITH_E_IO, PITH_E_NOT_OURS,
 * PITH_E_UNSUPPORTED (the feature or version is named), PITH_E_CORRUPT (also for a
 * truncated file), PITH_E_MEMORY.  *out is closed with pith_file_close().
 */
pith_status pith_file_open(const char *path, unsigned flags, struct pith_file **out,
                           struct pith_error *err);

/*
 * The same over memory: 'data' (nbytes bytes, aligned to 64) is borrowed and must
 * outlive the file and not change.
 */
pith_status pith_file_open_memory(const void *data, size_t nbytes, unsigned flags,
                                  struct pith_file **out, struct pith_error *err);

/* Unmap.  Accepts NULL.  Everything borrowed from the file is dead afterwards. */
void pith_file_close(struct pith_file *file);

struct pith_file_info {
	uint64_t generation;
	uint32_t container_version, numerics_version;
	uint64_t incompatible, read_only_compatible, compatible; /* feature bits */
	uint64_t file_nbytes;       /* as the header says */
	uint64_t mapped_nbytes;     /* real size */
	uint8_t file_root[16];      /* XXH3-128, canonical */
	uint8_t model_identity[16]; /* XXH3-128, canonical */
	uint64_t weight_count, term_count, plane_count, block_count;
	uint32_t tensor_align;
	unsigned flags; /* as opened */
};
void pith_file_info(const struct pith_file *file, struct pith_file_info *out);

/* ---- sections ---- */

struct pith_section {
	uint32_t id, encoding, flags, entry_nbytes; /* encoding 0 raw, 1 zstd */
	uint64_t off, nbytes, raw_nbytes, xxh3;
};
/* Sections are numbered 0 .. count-1 in order of id. */
size_t pith_file_section_count(const struct pith_file *file);
pith_status pith_file_section_at(const struct pith_file *file, size_t i, struct pith_section *out,
                                 struct pith_error *err);

/*
 * Borrow the stored bytes of section 'id', after verifying its checksum (unless opened with
 * PITH_OPEN_NO_VERIFY).  PITH_E_NOT_FOUND when absent, PITH_E_CORRUPT.
 */
pith_status pith_file_section(const struct pith_file *file, uint32_t id, const void **data,
                              size_t *nbytes, struct pith_error *err);

/*
 * Decode section 'id' into memory that the caller frees with free().  At most
 * 'limit' bytes (PITH_E_LIMIT above); a NUL is put behind the last byte.
 */
pith_status pith_file_section_read(const struct pith_file *file, uint32_t id, size_t limit,
                                   char **data, size_t *nbytes, struct pith_error *err);

/* ---- architecture keys and blocks ---- */

/* PITH_E_NOT_FOUND when absent or PITH_E_CORRUPT when of another type. */
pith_status pith_file_arch_u64(const struct pith_file *file, const char *key, uint64_t *out,
                               struct pith_error *err);
pith_status pith_file_arch_f64(const struct pith_file *file, const char *key, double *out,
                               struct pith_error *err);
/* *out is borrowed and not NUL-terminated. */
pith_status pith_file_arch_string(const struct pith_file *file, const char *key, const char **out,
                                  size_t *nbytes, struct pith_error *err);

enum { PITH_ARCH_TYPE_U64 = 1, PITH_ARCH_TYPE_F64 = 2, PITH_ARCH_TYPE_STRING = 3 };
struct pith_arch_value {
	char key[32];
	uint32_t type, flags; /* spec container.md, ARCH */
	uint64_t u64;
	double f64;
	const char *string; /* borrowed, not NUL-terminated */
	uint64_t string_nbytes;
};
size_t pith_file_arch_count(const struct pith_file *file);
pith_status pith_file_arch_at(const struct pith_file *file, size_t i, struct pith_arch_value *out,
                              struct pith_error *err);

struct pith_block {
	uint32_t head_count, kv_head_count, head_dim; /* 0 without attention */
	uint32_t ffn_count;                           /* 0 without feed-forward */
	uint32_t attention_of, ffn_of;                /* block whose weights are used */
	uint32_t window;                              /* newest positions seen; 0: all */
	uint32_t attention_const, ffn_const;          /* weight index + 1, or 0 */
	bool has_attention, has_ffn;
};
pith_status pith_file_block(const struct pith_file *file, size_t i, struct pith_block *out,
                            struct pith_error *err);

/* ---- weights ---- */

struct pith_weight { /* a copy of the entry; plain data, no ownership */
	const struct pith_file *file;
	size_t index;     /* in the weight table */
	const char *name; /* borrowed, name_nbytes bytes, not NUL-terminated */
	size_t name_nbytes;
	uint32_t rank;
	uint64_t dim[4];
	size_t m, n; /* as a matrix: m outputs, n inputs */
	uint32_t term_count, transform_count;
	uint32_t activation; /* 0 float, 1 int8 per 32 columns, 2 per token, 3 static */
	float activation_scale; /* of 3; else 0 */
	uint32_t source_dtype, flags;
	uint32_t first_term, first_transform;
};

/* Weight number i (0 .. weight_count-1, order of the table).  PITH_E_CORRUPT. */
pith_status pith_file_weight_at(const struct pith_file *file, size_t i, struct pith_weight *out,
                                struct pith_error *err);
/* Find by name: binary search, one entry checked.  PITH_E_NOT_FOUND, PITH_E_CORRUPT. */
pith_status pith_file_find(const struct pith_file *file, const char *name, struct pith_weight *out,
                           struct pith_error *err);

/*
 * Check and bind term 'i' of 'weight' into *term (a caller's variable; the struct is
 * declared in format/term.h for the libraries).  Proves every bound; reads no plane except small offset
 * and index planes.
 */
pith_status pith_weight_term(const struct pith_weight *weight, size_t i, struct pith_term *term,
                             struct pith_error *err);
struct pith_transform;
pith_status pith_weight_transform(const struct pith_weight *weight, size_t i,
                                  struct pith_transform *transform, struct pith_error *err);

/* What a term is, for programs that do not know term.h. */
struct pith_term_info {
	const char *kind; /* "affine", static */
	uint32_t kind_id, plane_count;
	uint32_t param[24];
	uint64_t nbytes; /* of its planes, as stored */
};
pith_status pith_weight_term_info(const struct pith_weight *weight, size_t i,
                                  struct pith_term_info *out, struct pith_error *err);

struct pith_plane_info {
	const void *data; /* borrowed, read-only, aligned to 64 */
	uint64_t off, nbytes, xxh3;
	uint32_t role, layout, dtype; /* spec weight.md */
};
/* Plane 'p' of term 'i'.  Not verified here: see pith_weight_verify(). */
pith_status pith_weight_plane(const struct pith_weight *weight, size_t i, size_t p,
                              struct pith_plane_info *out, struct pith_error *err);

/*
 * Borrow a weight whose meaning is one dense term: *data is [m, n] of *dtype
 * (spec weight.md: 1 f32, 2 f16, 3 bf16), row-major, no padding.
 * PITH_E_UNSUPPORTED when it is anything else.
 */
pith_status pith_weight_dense(const struct pith_weight *weight, const void **data, uint32_t *dtype,
                              struct pith_error *err);

/*
 * Verify checksums of all planes of the weight (spec container.16).  The fault's message names the
 * weight and the byte range.
 */
pith_status pith_weight_verify(const struct pith_weight *weight, struct pith_error *err);

/*
 * The meaning of rows row .. row+count-1: terms added in file order, transforms
 * undone.  out: [count, n] f32.  scratch: [n] f32, may be NULL when
 * transform_count is 0 and term_count is 1.  Binds the terms anew at each call: ask for many rows at once.
 */
pith_status pith_weight_unpack_rows(const struct pith_weight *weight, size_t row, size_t count,
                                    float *out, float *scratch, struct pith_error *err);

/* ---- lineage and canaries ---- */

struct pith_lineage {
	uint32_t kind; /* spec container.md, LINE */
	uint32_t weight; /* index + 1; 0: the whole model */
	const char *key, *value; /* borrowed, not NUL-terminated */
	size_t key_nbytes, value_nbytes;
	double number[2];
	uint8_t digest[32];
};
size_t pith_file_lineage_count(const struct pith_file *file);
pith_status pith_file_lineage_at(const struct pith_file *file, size_t i, struct pith_lineage *out,
                                 struct pith_error *err);

struct pith_canary {
	uint32_t weight, seed;
	float first[16], last[16];
};
/* Canary of weight number 'weight'.  PITH_E_NOT_FOUND when it has none. */
pith_status pith_file_canary(const struct pith_file *file, size_t weight, struct pith_canary *out,
                             struct pith_error *err);

/* ---- full verification ---- */

struct pith_verify_options {
	unsigned threads; /* 0: all cores online, at most 16 */
	/*
	 * Called from the calling thread, after the work, for the first 64 faults in file order;
	 * may be NULL.  Verification never stops at a fault.
	 */
	void (*fault)(void *ctx, const struct pith_error *fault);
	/* Bytes done of bytes to do; may be NULL.  Called from the calling thread, often. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};
/*
 * spec container.md section 8: every checksum, entry, rule and gap, and the model identity.  Returns PITH_OK or the first fault (in err);
 * *fault_count (may be NULL) counts all.  Canaries need a runtime: pithrun.h.
 */
pith_status pith_file_verify(const struct pith_file *file, const struct pith_verify_options *options,
                             size_t *fault_count, struct pith_error *err);

/* Name of a section id as printable text of 4 characters + NUL. */
void pith_section_name(uint32_t id, char name[5]);

/* "0.1.0" */
const char *pith_version(void);

#ifdef __cplusplus
}
#endif
#endif
