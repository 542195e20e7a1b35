/*
 * Writing a .pith file: planes stream out as weights are added, tables follow at
 * the end, the header last.
 *
 * The file grows under a temporary name beside the target; finish() writes the
 * tables, syncs the data, writes the header slot, syncs, renames over the target and syncs the
 * folder.  Until then the target is untouched; abort() (or a crash) leaves at most the temporary
 * file, which abort() removes.  Disk full and other errors surface as PITH_E_IO at the call that met
 * them and leave nothing under the final name.
 *
 * A program that wants an error, not a signal, at the limit of a file's size (RLIMIT_FSIZE)
 * ignores SIGXFSZ.
 *
 * One thread at a time per writer.  Private to Pith's tools (linked from libpith,
 * declared here, not installed).  Same calls, same bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_WRITER_H
#define PITH_LOADER_WRITER_H

#include "term.h"

struct pith_writer;

struct pith_writer_options {
	uint32_t tensor_align; /* 0: PITH_DEFAULT_TENSOR_ALIGN */
	int zstd_level;        /* for cold sections; 0: 19 */
};

pith_status pith_writer_new(const char *path, const struct pith_writer_options *options,
                            struct pith_writer **out, struct pith_error *err);

/* Architecture keys; 'flags' as PITH_ARCH_MUST | PITH_ARCH_NO_IDENTITY.  Strings are copied. */
pith_status pith_writer_arch_u64(struct pith_writer *w, const char *key, uint64_t value,
                                 uint32_t flags, struct pith_error *err);
pith_status pith_writer_arch_f64(struct pith_writer *w, const char *key, double value,
                                 uint32_t flags, struct pith_error *err);
pith_status pith_writer_arch_string(struct pith_writer *w, const char *key, const char *value,
                                    uint32_t flags, struct pith_error *err);

/* Per-block shapes, in forward order; *_const are given by weight name (NULL: none). */
pith_status pith_writer_block(struct pith_writer *w, const struct pith_block_entry *block,
                              const char *attention_const, const char *ffn_const,
                              struct pith_error *err);

/* A blob section: TOKN raw, cold ones zstd.  Data is written at once, not kept. */
pith_status pith_writer_section(struct pith_writer *w, uint32_t id, enum pith_encoding encoding,
                                const void *data, size_t nbytes, struct pith_error *err);

struct pith_writer_weight {
	const char *name; /* copied */
	uint32_t flags;   /* bit 0: read by the forward pass */
	uint32_t rank;
	uint64_t dim[PITH_MAX_RANK];
	uint32_t activation, source_dtype;
	float activation_scale; /* of activation int8_static, else 0 */
	const struct pith_packed_term *terms;
	size_t term_count;
	const uint32_t *permute; /* [n] x'[j] = x[permute[j]], or NULL */
	const float *scale;      /* [n] behind it, x'[j] = x[j] * scale[j], or NULL */
	const float *shift;      /* [n] behind them, x'[j] = x[j] - shift[j], or NULL */
	const float *bias;       /* with shift: [m], added to the outputs */
};
/* Append a weight: its planes go to the file now, the entry is kept.  Names are unique. */
pith_status pith_writer_weight(struct pith_writer *w, const struct pith_writer_weight *weight,
                               struct pith_error *err);

/* Canary and lineage name weights by name (NULL in lineage: the whole model). */
pith_status pith_writer_canary(struct pith_writer *w, const char *weight, uint32_t seed,
                               const float first[16], const float last[16], struct pith_error *err);
pith_status pith_writer_lineage(struct pith_writer *w, uint32_t kind, const char *weight,
                                const char *key, const char *value, const double number[2],
                                const uint8_t digest[32], struct pith_error *err);

/* Bytes written so far, planes and sections. */
uint64_t pith_writer_nbytes(const struct pith_writer *w);

/* The temporary name, for programs that remove it when they are interrupted; borrowed. */
const char *pith_writer_temporary(const struct pith_writer *w);

/* Complete the file and free the writer, also on failure (the temporary file is then removed). */
pith_status pith_writer_finish(struct pith_writer *w, struct pith_error *err);

/* Remove the temporary file and free.  Accepts NULL. */
void pith_writer_abort(struct pith_writer *w);

/*
 * Edit metadata of an existing file in place: append a new TEXT and LINE section
 * (old entries kept, one added) and flip the header slot, as spec/container.md 1
 * says.  Weights are not rewritten.
 */
pith_status pith_file_append_lineage(const char *path, uint32_t kind, const char *key,
                                     const char *value, struct pith_error *err);

#endif
