/*
 * The fixed records of a text archive as structs: spec/text_archive.md, sections 2 to 4.
 * Bytes in memory only; no files, no model.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_FORMAT_H
#define PITH_TEXT_ARCHIVE_FORMAT_H

#include "text.h"

#define ARCHIVE_HEADER_NBYTES 64u
#define ARCHIVE_SEGMENT_HEADER_NBYTES 56u
#define ARCHIVE_TRAILER_NBYTES 64u
#define ARCHIVE_SYNC_NBYTES 4u
#define ARCHIVE_MAX_RAW_NBYTES (1u << 24)
#define ARCHIVE_MAX_STORED_NBYTES ((1u << 24) + (1u << 16))
#define ARCHIVE_MAX_RECORDS_NBYTES (1u << 24)
#define ARCHIVE_MAX_DIRECTORY_NBYTES ((uint64_t)1 << 28)
#define ARCHIVE_MAX_MODEL_NBYTES ((uint64_t)1 << 40)

/* What starts a trailer. */
extern const uint8_t archive_trailer_sync[ARCHIVE_SYNC_NBYTES];

enum segment_method { SEGMENT_STORED = 0, SEGMENT_ZSTD = 1, SEGMENT_MODEL = 2 };

struct archive_header {
	uint32_t numerics_version, segment_nbytes;
	bool mixing; /* may segments be mixed? */
	uint8_t model_identity[16];
	uint64_t model_nbytes; /* embedded behind the header; 0: none */
	uint64_t header_xxh3;
};
void archive_header_store(struct archive_header *h, uint8_t out[ARCHIVE_HEADER_NBYTES]);
/* Rules text.1 to text.3. */
pith_status archive_header_load(const uint8_t *p, size_t nbytes, struct archive_header *h,
                                struct pith_error *err);

struct segment_header {
	uint32_t method, records_encoding, raw_nbytes, stored_nbytes, records_nbytes;
	bool ends_member;
	uint64_t off, content_off, raw_xxh3, stored_xxh3;
};
void segment_header_store(const struct segment_header *h, uint8_t out[ARCHIVE_SEGMENT_HEADER_NBYTES]);
/* Rule text.4.  'at' is where p lies, for messages. */
pith_status segment_header_load(const uint8_t p[ARCHIVE_SEGMENT_HEADER_NBYTES], uint64_t at,
                                struct segment_header *h, struct pith_error *err);

/* The first place in p: [nbytes] that starts like a segment header, or that is a sound one: text.4.  NULL: there is none. */
const uint8_t *archive_find_sync(const uint8_t *p, size_t nbytes);
const uint8_t *archive_find_segment(const uint8_t *p, size_t nbytes);

struct archive_trailer {
	uint32_t directory_encoding;
	uint64_t directory_off, directory_stored_nbytes, directory_nbytes, archive_nbytes;
	uint8_t archive_root[16];
};
void archive_trailer_store(const struct archive_trailer *t, uint8_t out[ARCHIVE_TRAILER_NBYTES]);
/* Rules text.8 to text.10 of a trailer that ends at 'end'; 'begin': end of header and model. */
pith_status archive_trailer_load(const uint8_t p[ARCHIVE_TRAILER_NBYTES], uint64_t begin, uint64_t end,
                                 struct archive_trailer *t, struct pith_error *err);

#endif
