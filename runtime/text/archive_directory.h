/*
 * The tables of an archive in memory, for writer, reader and recovery; as bytes they are
 * spec/text_archive.md, section 5.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_DIRECTORY_H
#define PITH_TEXT_ARCHIVE_DIRECTORY_H

#include "archive_format.h"
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
	size_t hard_link_count;
	struct string_block *strings;     /* owns what members point to */
	struct member_links *links;       /* [link_cap], beside members while they are added */
	size_t link_cap;
	uint32_t *slots;                  /* [slot_count]: 1 + member by hash of its name; 0: free */
	size_t slot_count, slot_used;
	uint32_t *by_name;                /* [member_count], after archive_directory_sort() */
};
void archive_directory_free(struct archive_directory *d);

pith_status archive_directory_add_segment(struct archive_directory *d, const struct archive_segment *s,
                                          struct pith_error *err);
/* Append a member, strings copied ([nbytes] of 'strings'); other members are not looked at. */
pith_status archive_directory_push_member(struct archive_directory *d, const struct pith_archive_member *m,
                                          const struct record_strings *strings, struct pith_error *err);
/*
 * The same where names are unique: one that is there is replaced (*replaced, may be NULL), and a hard link needs its
 * target: PITH_E_ARGUMENT, text.23.
 */
pith_status archive_directory_add_member(struct archive_directory *d, const struct pith_archive_member *m,
                                         const struct record_strings *strings, bool *replaced,
                                         struct pith_error *err);
/* The target of hard link i is the name that its file has by now. */
void archive_directory_settle_link(struct archive_directory *d, size_t i);
/* Drop replaced members and settle links; members move. */
void archive_directory_compact(struct archive_directory *d);
/* Deep copy into an empty directory. */
pith_status archive_directory_copy(const struct archive_directory *from, struct archive_directory *to,
                                   struct pith_error *err);

/* Rules text.22 and text.23; makes archive_directory_find() possible. */
pith_status archive_directory_sort(struct archive_directory *d, struct pith_error *err);
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
