/*
 * What a writer holds between its calls: tables in the order of the calls, references
 * by name that are resolved at the end.  Private to writer.c and writer_finish.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_WRITER_STATE_H
#define PITH_LOADER_WRITER_STATE_H

#include "output_file.h"
#include "writer.h"

/* Bytes that grow; entries of a table or the text of a blob. */
struct pith_buffer {
	uint8_t *data;
	size_t nbytes, cap;
};

/* Grow by nbytes; *at points to the new, zeroed bytes until the next call. */
pith_status pith_buffer_grow(struct pith_buffer *b, size_t nbytes, uint8_t **at,
                             struct pith_error *err);

/* A weight named before it may have been written: its name in 'refs'. */
struct pith_name_ref {
	size_t off, nbytes; /* nbytes 0: none */
};

struct pith_pending_block {
	struct pith_block_entry entry;
	struct pith_name_ref attention_const, ffn_const;
};
struct pith_pending_canary {
	struct pith_canary_entry entry;
	struct pith_name_ref weight;
};
struct pith_pending_lineage {
	struct pith_lineage_entry entry;
	struct pith_name_ref weight;
};

struct pith_writer {
	struct pith_output *output;
	uint32_t tensor_align;
	int zstd_level;
	struct pith_directory_entry directory[PITH_MAX_DIRECTORY_COUNT];
	size_t directory_count;
	struct pith_buffer weights;          /* of struct pith_weight_entry, order of calls */
	struct pith_buffer arch;             /* of struct pith_arch_entry */
	struct pith_buffer blocks;           /* of struct pith_pending_block */
	struct pith_buffer canaries;         /* of struct pith_pending_canary */
	struct pith_buffer lineage;          /* of struct pith_pending_lineage */
	struct pith_buffer term, xfrm, plan; /* encoded entries */
	struct pith_buffer name, text;       /* blobs */
	struct pith_buffer refs;             /* names referred to */
	/* open addressing by name hash: index into weights + 1, 0: free */
	uint32_t *slots;
	size_t slot_count; /* power of two, at least twice the weights */
};

static inline size_t pith_writer_weight_count(const struct pith_writer *w)
{
	return w->weights.nbytes / sizeof(struct pith_weight_entry);
}

/* Index + 1 of the weight with that name (order of calls), 0 when there is none. */
uint32_t pith_writer_lookup(const struct pith_writer *w, const char *name, size_t nbytes);

/* Append a section of any kind; its bytes go to the file now. */
pith_status pith_writer_put_section(struct pith_writer *w, uint32_t id, uint32_t encoding,
                                    const void *data, size_t nbytes, uint64_t raw_nbytes,
                                    struct pith_error *err);

#endif
