/*
 * The tables of an archive in memory, for writer, reader and recovery; as bytes they are
 * spec/text_archive.md, section 5.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_DIRECTORY_H
#define PITH_TEXT_ARCHIVE_DIRECTORY_H

#include "archive_format.h"
#include "archive_names.h"
#include "archive_record.h"

#define ARCHIVE_MAX_SEGMENTS ((size_t)1 << 24)
#define ARCHIVE_MAX_MEMBERS ((size_t)1 << 23)

struct archive_segment {
	uint64_t off;         /* of the segment header */
	uint64_t content_off; /* sum of raw_nbytes of those before */
	uint32_t method, raw_nbytes, stored_nbytes, records_nbytes;
	uint64_t segment_xxh3;
};

struct archive_directory {
	struct archive_segment *segments; /* [segment_count], ascending */
	struct pith_archive_member *members; /* [member_count], by content_off */
	size_t segment_count, segment_cap, member_count, member_cap;
	uint64_t content_nbytes;
	struct string_block *strings;     /* owns what members point to */
	uint32_t *files;                  /* [file_cap], while members are added: of a hard link its file */
	size_t file_cap;
	struct archive_names names;
};
void archive_directory_free(struct archive_directory *d);

pith_status archive_directory_add_segment(struct archive_directory *d, const struct archive_segment *s,
                                          struct pith_error *err);
/* Append a member, strings copied ([nbytes] of 'strings'); other members are not looked at. */
pith_status archive_directory_push_member(struct archive_directory *d, const struct pith_archive_member *m,
                                          const struct record_strings *strings, struct pith_error *err);
/*
 * The same where names are unique: *replaced (may be NULL) is the member that had the name so far, SIZE_MAX when there
 * is none.  A hard link needs its target, a file or another hard link: PITH_E_ARGUMENT, text.23.  Members keep names
 * and targets as they were added until archive_directory_compact().
 */
pith_status archive_directory_add_member(struct archive_directory *d, const struct pith_archive_member *m,
                                         const struct record_strings *strings, size_t *replaced,
                                         struct pith_error *err);
/* The last member counts as replaced, and what it replaced (SIZE_MAX: nothing) is there again. */
pith_status archive_directory_drop_last(struct archive_directory *d, size_t replaced, struct pith_error *err);
/* The file that a hard link to this name would share, while members are added.  SIZE_MAX: there is none. */
size_t archive_directory_file_of(const struct archive_directory *d, const char *name, size_t nbytes);
/* Drop replaced members and let hard links name their files; members move. */
void archive_directory_compact(struct archive_directory *d);
/* Deep copy into an empty directory, to add to. */
pith_status archive_directory_copy(const struct archive_directory *from, struct archive_directory *to,
                                   struct pith_error *err);

/* Rules text.22 and text.23; makes archive_directory_find() possible. */
pith_status archive_directory_index(struct archive_directory *d, struct pith_error *err);
/* SIZE_MAX when there is none. */
size_t archive_directory_find(const struct archive_directory *d, const char *name, size_t nbytes);
/* First segment that ends behind content_off; segment_count: none. */
size_t archive_directory_segment_at(const struct archive_directory *d, uint64_t content_off);

struct record_strings archive_member_strings(const struct pith_archive_member *m);

/* Bytes of the directory; the caller frees out->data.  'begin': end of header and model. */
pith_status archive_directory_store(const struct archive_directory *d, uint64_t header_xxh3, uint64_t begin,
                                    struct record_bytes *out, struct pith_error *err);
/*
 * Rules text.11 to text.15, text.22, text.23.  'end' is where the directory starts.  Offsets in
 * 'err' count from the start of the decoded directory.
 */
pith_status archive_directory_load(const uint8_t *p, size_t nbytes, uint64_t header_xxh3, uint64_t begin,
                                   uint64_t end, struct archive_directory *d, struct pith_error *err);

#endif
