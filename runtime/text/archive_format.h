/*
 * The records of a text archive as structs: spec/text_archive.md, sections 2 to 5.
 * Bytes in memory only; no files, no model.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_FORMAT_H
#define PITH_TEXT_ARCHIVE_FORMAT_H

#include "text.h"

#define ARCHIVE_HEADER_NBYTES 64u
#define ARCHIVE_SEGMENT_HEADER_NBYTES 40u
#define ARCHIVE_TRAILER_NBYTES 64u
#define ARCHIVE_DIRECTORY_HEADER_NBYTES 32u
#define ARCHIVE_SEGMENT_ENTRY_NBYTES 24u
#define ARCHIVE_MEMBER_ENTRY_NBYTES 64u
#define ARCHIVE_MAX_RAW_NBYTES (1u << 24)
#define ARCHIVE_MAX_STORED_NBYTES ((1u << 24) + (1u << 16))
#define ARCHIVE_MAX_DIRECTORY_NBYTES ((uint64_t)1 << 29)

enum segment_method { SEGMENT_STORED = 0, SEGMENT_ZSTD = 1, SEGMENT_MODEL = 2 };

struct archive_header {
	uint32_t numerics_version, segment_nbytes;
	bool mixing; /* may segments be mixed? */
	uint8_t model_identity[16];
	uint64_t header_xxh3;
};
void archive_header_store(struct archive_header *h, uint8_t out[ARCHIVE_HEADER_NBYTES]);
/* Rules text.1 to text.3. */
pith_status archive_header_load(const uint8_t *p, size_t nbytes, struct archive_header *h,
                                struct pith_error *err);

struct segment_header {
	uint32_t method, raw_nbytes, stored_nbytes, index;
	uint64_t raw_xxh3, stored_xxh3;
};
void segment_header_store(const struct segment_header *h, uint8_t out[ARCHIVE_SEGMENT_HEADER_NBYTES]);
/* Rule text.4. */
pith_status segment_header_load(const uint8_t p[ARCHIVE_SEGMENT_HEADER_NBYTES], uint64_t off,
                                struct segment_header *h, struct pith_error *err);

struct archive_trailer {
	uint32_t directory_encoding;
	uint64_t directory_off, directory_stored_nbytes, directory_nbytes, archive_nbytes;
	uint8_t archive_root[16];
};
void archive_trailer_store(const struct archive_trailer *t, uint8_t out[ARCHIVE_TRAILER_NBYTES]);
/* Rules text.8 and text.9.  file_nbytes: of the whole archive. */
pith_status archive_trailer_load(const uint8_t p[ARCHIVE_TRAILER_NBYTES], uint64_t file_nbytes,
                                 struct archive_trailer *t, struct pith_error *err);

struct archive_segment { /* entry of the directory */
	uint64_t off;         /* of the segment header */
	uint64_t content_off; /* sum of raw_nbytes of those before */
	uint32_t raw_nbytes, stored_nbytes;
	uint64_t segment_xxh3;
};

struct archive_directory {
	struct archive_segment *segments; /* [segment_count] */
	struct pith_archive_member *members; /* [member_count]; names point into 'names' */
	uint64_t *content_off;            /* [member_count] */
	size_t segment_count, member_count;
	size_t segment_cap, member_cap;   /* writer only */
	uint64_t content_nbytes;
	char *names;                      /* reader: NUL behind each name and target */
};
void archive_directory_free(struct archive_directory *d);
/* Bytes of the directory (caller frees *out) from filled segments and members. */
pith_status archive_directory_store(const struct archive_directory *d, uint64_t header_xxh3,
                                    uint8_t **out, size_t *nbytes, struct pith_error *err);
/*
 * Rules text.11 to text.15.  'segments_end' is where the directory starts.  Offsets in 'err' count from
 * the start of the decoded directory.
 */
pith_status archive_directory_load(const uint8_t *p, size_t nbytes, uint64_t header_xxh3,
                                   uint64_t segments_end, struct archive_directory *d,
                                   struct pith_error *err);

/* text.15: may this be a member's name? */
bool archive_name_is_valid(const char *name, size_t nbytes);

#endif
