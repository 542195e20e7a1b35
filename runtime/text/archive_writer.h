/*
 * The parts of an archive writer: gathering content (archive_write.c), coding a chunk of it (archive_chunk.c),
 * putting segments, directory and trailer (archive_put.c).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_WRITER_H
#define PITH_TEXT_ARCHIVE_WRITER_H

#include "archive_directory.h"
#include "text_archive.h"

#define ARCHIVE_ZSTD_LEVEL 19
#define FAST_ZSTD_LEVEL 3 /* to judge by */
/* A zstd segment that covers a run of chunks: spec text_archive.md 16. */
#define ARCHIVE_WHOLE_NBYTES ((size_t)1 << 23)
#define SMALL_FRAME_NBYTES 65536u /* from here on 0.5 % pays for a header and a name */

/* A control character that no text has: other than white space and ESC. */
static inline bool archive_is_control(uint8_t c) { return c < 0x20 && !(c >= 0x09 && c <= 0x0d) && c != 0x1b; }
#define ARCHIVE_BINARY_SHARE 32u /* one such byte in so many, or more, is no text */

/* Content that is coded on its own. */
struct chunk {
	uint8_t *raw;    /* [segment_nbytes] */
	size_t raw_nbytes;
	uint8_t *stored; /* [stored_cap]: a zstd frame or the model's code */
	size_t stored_nbytes;
	size_t fast_nbytes; /* what a fast setting of zstd makes of it, to judge runs by */
	uint8_t *coded;  /* [stored_cap] work memory */
	enum segment_method method;
	bool is_first;   /* of the archive: its header is paid for */
	bool verify_failed;
	pith_status status;
	struct pith_error err;
};

/* A coded chunk of the run: where it lies in the run's buffers. */
struct piece {
	size_t raw_nbytes, stored_off, stored_nbytes, fast_nbytes;
	enum segment_method method;
};

struct run {
	uint8_t *raw;            /* [raw_cap] */
	size_t raw_nbytes, raw_cap;
	struct record_bytes stored;
	struct piece *pieces;    /* [piece_cap] */
	size_t piece_count, piece_cap;
};

struct pith_archive_writer {
	struct pith_archive_writer_options options;
	struct archive_header header;
	struct archive_directory directory;
	uint64_t off;               /* where the next byte goes, from the archive's start */
	uint64_t begin;             /* end of header and model */
	/* content not yet in a chunk; it begins fill_off bytes into the content */
	uint8_t *fill;              /* [segment_nbytes] */
	size_t fill_nbytes;
	uint64_t fill_off;
	struct chunk *chunks;       /* [chunk_cap] */
	size_t chunk_cap, chunk_count, stored_cap;
	uint64_t chunks_done;       /* chunks of earlier batches */
	const struct pith_executor *inner; /* executor inside a chunk */
	struct run run;             /* coded, not yet written */
	struct record_bytes records; /* of the segment being written */
	size_t cut_member;          /* whose content 'fill' begins with, or one before it */
	size_t records_nbytes;      /* at least, of the members since the last segment */
	size_t next_record;         /* first member whose record is in no segment */
	size_t last_file;           /* last file with content before next_record; SIZE_MAX: none */
	struct pith_xxh3 *member_hash, *payload_hash;
	bool member_open;
	size_t replaced;            /* by the member that is open; SIZE_MAX: none */
	struct archive_tally tally;
	struct pith_archive_stats stats;
};

/* Code c; sets stored, method and status.  Any thread. */
void chunk_code(struct pith_archive_writer *w, struct chunk *c);
/* Bytes that coding a full chunk with the model takes. */
size_t chunk_memory(const struct pith_archive_writer *w);

/* Bytes to the sink. */
pith_status put_out(struct pith_archive_writer *w, const void *data, size_t nbytes, struct pith_error *err);
/* A coded chunk; it is written with its run. */
pith_status put_chunk(struct pith_archive_writer *w, const struct chunk *c, struct pith_error *err);
/* What is left of the run.  is_last: no content follows. */
pith_status put_run(struct pith_archive_writer *w, bool is_last, struct pith_error *err);
/* Records that no segment has, of members without content, in a segment of their own. */
pith_status put_records(struct pith_archive_writer *w, struct pith_error *err);
/* Those, directory and trailer. */
pith_status put_end(struct pith_archive_writer *w, struct pith_error *err);

#endif
