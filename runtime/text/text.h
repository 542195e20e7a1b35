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
 * Versions of archive, coder and numerics are 1: what they write stays readable.
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

#define PITH_ARCHIVE_VERSION 1u
#define PITH_CODER_VERSION 1u
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

enum pith_member_kind {
	PITH_MEMBER_FILE = 1,
	PITH_MEMBER_DIRECTORY = 2,
	PITH_MEMBER_LINK = 3,     /* symbolic */
	PITH_MEMBER_HARD_LINK = 4 /* its target is the name of a file member before it */
};

struct pith_archive_member {
	enum pith_member_kind kind;
	uint32_t mode;       /* permission bits, 0 .. 07777 */
	int64_t mtime;       /* seconds since 1970 */
	uint32_t mtime_nsec;
	bool has_owner;
	uint32_t uid, gid;
	const char *uname, *gname; /* at most 255 bytes; "" or NULL: unknown */
	const char *name;    /* relative path, '/' between components, NUL-terminated; any bytes */
	size_t name_nbytes;
	const char *target;  /* of a link; else "" */
	size_t target_nbytes;
	/* Set by the library: */
	uint64_t nbytes;      /* of a file */
	uint64_t content_off; /* content bytes of the archive before its first one */
	bool is_open_ended;   /* recovered: more than nbytes may have been in it */
	bool is_replaced, is_dropped; /* never in an archive that was opened */
	uint8_t content_xxh3[16]; /* zero when not in a directory, but recovered */
};

/*
 * Progress in content bytes coded or decoded (and verified).  May be called from a thread of the
 * executor, but never twice at once.
 */
typedef void pith_archive_progress(void *ctx, uint64_t content_nbytes, uint64_t stored_nbytes);

/* ---- writing ---- */

/* How much time may go into size; figures: spec/text_archive.md 16.  Reading takes as long as writing. */
enum pith_text_level { PITH_LEVEL_DEFAULT = 0, PITH_LEVEL_FAST, PITH_LEVEL_SMALL };

struct pith_archive_writer;
struct pith_archive_writer_options {
	const struct pith_text_coder *coder;  /* NULL: zstd only */
	const struct pith_executor *executor; /* NULL: the calling thread */
	enum pith_text_level level;
	uint32_t segment_nbytes;              /* 0: PITH_DEFAULT_SEGMENT_NBYTES; PITH_LEVEL_SMALL: the most */
	size_t memory_limit;                  /* bytes for sessions and mixer of one segment; 0: 1 GiB */
	bool no_mix;                          /* the model's probabilities alone: larger, faster */
	bool no_verify;                       /* do not decode each coded segment and compare */
	/* Plan of the coder, for measurements: 0 means the level's. */
	uint32_t window, overlap_plus_one, stream_count;
	/*
	 * Append to this archive, which stays open until the writer is freed: the sink's bytes belong behind the
	 * info's archive_nbytes bytes of it.  Its coder is that of the header (or NULL: zstd only, which is
	 * PITH_E_UNSUPPORTED's remedy), and segment_nbytes is not used.  NULL: a new archive.
	 */
	const struct pith_archive *append_to;
	/* Bytes of the .pith file behind 'coder' to put inside; NULL: none.  Borrowed until pith_archive_writer_new() returns. */
	const void *embed;
	size_t embed_nbytes;
	/* Called before the trailer is given to the sink: all before it should be on the disk by then.  May be NULL. */
	pith_status (*barrier)(void *ctx, struct pith_error *err);
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
	uint64_t segment_memory_nbytes; /* what coding a segment takes, and decoding; each thread that has one of its own */
	uint64_t verify_failures; /* segments that did not decode to themselves and were coded otherwise */
	uint64_t members, replaced; /* of this run; members that took the place of earlier ones */
};
pith_status pith_archive_writer_new(const struct pith_archive_writer_options *options,
                                    struct pith_archive_writer **out, struct pith_error *err);
void pith_archive_writer_free(struct pith_archive_writer *writer); /* NULL is accepted */

/*
 * Begin a member; strings are copied.  A file's bytes follow with pith_archive_writer_data(), to the next
 * member or the end.  A member that has the same name is replaced.  PITH_E_ARGUMENT, and nothing is
 * changed, when the member cannot be stored: its name breaks text.15, a hard link has no file before it.
 */
pith_status pith_archive_writer_member(struct pith_archive_writer *writer,
                                       const struct pith_archive_member *member,
                                       struct pith_error *err);
pith_status pith_archive_writer_data(struct pith_archive_writer *writer, const void *data,
                                     size_t nbytes, struct pith_error *err);
/*
 * The file that was begun is left out after all, as when it cannot be read to its end, and what it replaced is there
 * again.  Its content stays in the archive, unused; recovery without the directory finds it where there is any.
 */
pith_status pith_archive_writer_drop(struct pith_archive_writer *writer, struct pith_error *err);
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
/*
 * Header, trailer and directory; the source is copied, its ctx borrowed until close.  Where the file does not end with a
 * trailer the last complete one in it counts: see ignored_nbytes.
 */
pith_status pith_archive_open(const struct pith_archive_source *source, struct pith_archive **out,
                              struct pith_error *err);
/*
 * The same for an archive that pith_archive_open() refuses: the whole source is searched for segments, and the
 * directory made of their records.  Checksums of members are lost; those of segments hold.
 * known: what pith_archive_open() made of the same source: all of that is kept, and only the bytes behind it, of an
 * append that lost its end, are searched; NULL: nothing is known.  PITH_E_LIMIT: more damage or records than any archive has.
 */
pith_status pith_archive_recover(const struct pith_archive_source *source, const struct pith_archive *known,
                                 struct pith_archive **out, struct pith_error *err);
void pith_archive_close(struct pith_archive *archive);

struct pith_archive_info {
	uint32_t numerics_version, segment_nbytes;
	uint8_t model_identity[16]; /* zero: needs no model */
	uint64_t model_off, model_nbytes; /* the embedded .pith file in the source; 0: none */
	uint8_t archive_root[16];
	uint64_t segment_count, member_count, content_nbytes;
	uint64_t archive_nbytes;    /* from the start of the source to the trailer's end */
	uint64_t ignored_nbytes;    /* behind it: an append that was interrupted, or damage */
	bool is_recovered;          /* by pith_archive_recover(), without the directory */
	bool header_lost;           /* recovered: identity and versions are not known */
	uint64_t lost_links;        /* recovered: hard links whose file is lost */
};
void pith_archive_info(const struct pith_archive *archive, struct pith_archive_info *out);
/* Borrowed until close.  i < member_count. */
const struct pith_archive_member *pith_archive_member_at(const struct pith_archive *archive, size_t i);
/* SIZE_MAX when there is none. */
size_t pith_archive_find(const struct pith_archive *archive, const char *name);
/* Bytes of the archive that the content of member i takes: its share of the segments it lies in. */
uint64_t pith_archive_member_stored(const struct pith_archive *archive, size_t i);
/* How the segments that member i lies in are coded: a bit 1 << method for each (spec text_archive.md 3). */
unsigned pith_archive_member_methods(const struct pith_archive *archive, size_t i);

struct pith_archive_read_options {
	/* NULL: PITH_E_UNSUPPORTED names the model when a segment needs one, also when it is another one. */
	const struct pith_text_coder *coder;
	const struct pith_executor *executor;
	size_t memory_limit; /* as for writing */
	bool every_segment;  /* decode those without content of a selected member, too */
	/* Called from the calling thread in order of members; what is NULL is left out.  Not PITH_OK ends the reading. */
	pith_status (*begin)(void *ctx, size_t member, struct pith_error *err);
	pith_status (*data)(void *ctx, const void *data, size_t nbytes, struct pith_error *err);
	/* The content is complete and its checksum matches. */
	pith_status (*end)(void *ctx, size_t member, struct pith_error *err);
	/*
	 * NULL: the first fault ends the reading.  Else reading goes on: 'nbytes' bytes of the member from 'off' on are
	 * lost, 'data' is not called for them, and 'damaged' is called in place of 'end'.  A member that is open-ended
	 * loses 0 bytes from its end on; a segment without selected content is member SIZE_MAX, 'off' in the content.
	 */
	pith_status (*lost)(void *ctx, size_t member, uint64_t off, uint64_t nbytes,
	                    const struct pith_error *why, struct pith_error *err);
	pith_status (*damaged)(void *ctx, size_t member, struct pith_error *err);
	void *ctx;
	pith_archive_progress *progress;
	void *progress_ctx;
};
/* Content bytes of the segments that hold selected members: what pith_archive_read() will decode. */
uint64_t pith_archive_selected_nbytes(const struct pith_archive *archive, const bool *selected);
/* Does any segment that holds selected members (NULL: any segment) need the model? */
bool pith_archive_needs_model(const struct pith_archive *archive, const bool *selected);
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
