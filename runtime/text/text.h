/*
 * Text coding and text archives (part of libpithrun): spec/text_archive.md.
 *
 * Nouns: a *text coder* is a model made ready for coding; an *archive writer* takes
 * members in order and gives the archive's bytes to a sink, never seeking; an *archive
 * reader* opens bytes that it can read at any offset.
 *
 * Threading: a coder is immutable and shareable; a writer and a reader belong to one thread at a time and
 * use the caller's executor for segments.  The bytes do not depend on it.
 *
 * Versions of archive, coder and numerics are 0: the format may change until 1.0.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_H
#define PITH_TEXT_H

#include "pithrun.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PITH_ARCHIVE_VERSION 0u
#define PITH_CODER_VERSION 0u
#define PITH_DEFAULT_SEGMENT_NBYTES ((uint32_t)1 << 20)
#define PITH_MIN_SEGMENT_NBYTES ((uint32_t)1 << 12)
#define PITH_MAX_SEGMENT_NBYTES ((uint32_t)1 << 24)

/* ---- coder ---- */

struct pith_text_coder;
/*
 * Model and tokenizer are borrowed until the coder is freed.  PITH_E_UNSUPPORTED when the
 * tokenizer cannot encode every byte sequence; PITH_E_MEMORY.
 */
pith_status pith_text_coder_new(const struct pith_model *model,
                                const struct pith_tokenizer *tokenizer,
                                struct pith_text_coder **out, struct pith_error *err);
void pith_text_coder_free(struct pith_text_coder *coder);

/* ---- members ---- */

enum pith_member_kind { PITH_MEMBER_FILE = 1, PITH_MEMBER_DIRECTORY = 2, PITH_MEMBER_LINK = 3 };

struct pith_archive_member {
	enum pith_member_kind kind;
	uint32_t mode;       /* permission bits, 0 .. 07777 */
	int64_t mtime;       /* seconds since 1970 */
	uint32_t mtime_nsec;
	const char *name;    /* relative path, '/' between components, NUL-terminated; any bytes */
	size_t name_nbytes;
	const char *target;  /* of a symbolic link; else "" */
	size_t target_nbytes;
	/* Set by the library: */
	uint64_t nbytes;
	uint32_t segment, offset; /* where the content starts */
	uint8_t content_xxh3[16];
};

/*
 * Progress in content bytes coded or decoded (and verified).  May be called from a thread of the
 * executor, but never twice at once.
 */
typedef void pith_archive_progress(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes);

/* ---- writing ---- */

struct pith_archive_writer;
struct pith_archive_writer_options {
	const struct pith_text_coder *coder;  /* NULL: zstd only */
	const struct pith_executor *executor; /* NULL: the calling thread */
	uint32_t segment_nbytes;              /* 0: PITH_DEFAULT_SEGMENT_NBYTES */
	size_t memory_limit;                  /* bytes for the sessions of one segment; 0: 1 GiB */
	bool no_mix;                          /* the model's probabilities alone: larger, faster */
	bool no_verify;                       /* do not decode each coded segment and compare */
	/* Plan of the coder, for measurements: 0 means what was measured to be best. */
	uint32_t window, overlap_plus_one, stream_count;
	/* Take nbytes bytes or return PITH_E_IO (in err). */
	pith_status (*sink)(void *ctx, const void *data, size_t nbytes, struct pith_error *err);
	void *sink_ctx;
	pith_archive_progress *progress;      /* may be NULL */
	void *progress_ctx;
};
struct pith_archive_stats {
	uint64_t content_nbytes, archive_nbytes;
	uint64_t segments, model_segments;
	uint64_t model_content_nbytes, model_stored_nbytes;
	uint64_t verify_failures; /* segments that did not decode to themselves and went to zstd */
};
pith_status pith_archive_writer_new(const struct pith_archive_writer_options *options,
                                    struct pith_archive_writer **out, struct pith_error *err);
void pith_archive_writer_free(struct pith_archive_writer *writer); /* NULL is accepted */

/*
 * Begin a member; strings are copied.  A file's bytes follow with pith_archive_writer_data(), to the next
 * member or the end.  PITH_E_ARGUMENT when the name breaks text.15.
 */
pith_status pith_archive_writer_member(struct pith_archive_writer *writer,
                                       const struct pith_archive_member *member,
                                       struct pith_error *err);
/* The size of a member's first piece is a hint: give 4 KiB or more, always cut alike, for archives that are to be alike. */
pith_status pith_archive_writer_data(struct pith_archive_writer *writer, const void *data,
                                     size_t nbytes, struct pith_error *err);
/* Code what is left, write directory and trailer.  'stats' may be NULL. */
pith_status pith_archive_writer_finish(struct pith_archive_writer *writer,
                                       struct pith_archive_stats *stats, struct pith_error *err);

/* ---- reading ---- */

struct pith_archive;
struct pith_archive_source {
	uint64_t nbytes;
	/* Read exactly nbytes bytes at off, inside the source, from any thread; or return PITH_E_IO. */
	pith_status (*read_at)(void *ctx, uint64_t off, void *data, size_t nbytes,
	                       struct pith_error *err);
	void *ctx;
};
/* Header, trailer and directory; the source is copied, its ctx borrowed until close. */
pith_status pith_archive_open(const struct pith_archive_source *source, struct pith_archive **out,
                              struct pith_error *err);
void pith_archive_close(struct pith_archive *archive);

struct pith_archive_info {
	uint32_t numerics_version, segment_nbytes;
	uint8_t model_identity[16]; /* zero: needs no model */
	uint8_t archive_root[16];
	uint64_t segment_count, member_count, content_nbytes, archive_nbytes;
};
void pith_archive_info(const struct pith_archive *archive, struct pith_archive_info *out);
/* Borrowed until close.  i < member_count. */
const struct pith_archive_member *pith_archive_member_at(const struct pith_archive *archive, size_t i);
/* SIZE_MAX when there is none. */
size_t pith_archive_find(const struct pith_archive *archive, const char *name);
/* Bytes of the archive that the content of member i takes: its share of the segments it lies in. */
uint64_t pith_archive_member_stored(const struct pith_archive *archive, size_t i);

struct pith_archive_read_options {
	/* NULL: PITH_E_UNSUPPORTED names the model when a segment needs one, also when it is another one. */
	const struct pith_text_coder *coder;
	const struct pith_executor *executor;
	size_t memory_limit; /* as for writing */
	/* Called from the calling thread in order of members; what is NULL is left out.  Not PITH_OK ends the reading. */
	pith_status (*begin)(void *ctx, size_t member, struct pith_error *err);
	pith_status (*data)(void *ctx, const void *data, size_t nbytes, struct pith_error *err);
	/* The content is complete and its checksum matches. */
	pith_status (*end)(void *ctx, size_t member, struct pith_error *err);
	void *ctx;
	pith_archive_progress *progress;
	void *progress_ctx;
};
/* Content bytes of the segments that hold selected members: what pith_archive_read() will decode. */
uint64_t pith_archive_selected_nbytes(const struct pith_archive *archive, const bool *selected);
/* Does any segment that holds selected members need the model? */
pith_status pith_archive_needs_model(const struct pith_archive *archive, const bool *selected, bool *out,
                                     struct pith_error *err);
/*
 * Decode the members with selected[i] (NULL: all) in order, only the segments needed, each once.
 * Everything is checked against its checksums: what 'data' was given is right once 'end' is called, not before.
 */
pith_status pith_archive_read(const struct pith_archive *archive, const bool *selected,
                              const struct pith_archive_read_options *options,
                              struct pith_error *err);

#ifdef __cplusplus
}
#endif
#endif
