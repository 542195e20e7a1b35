/*
 * The directory as bytes.  Loading proves every rule that the bytes can prove alone; what is loaded may be trusted.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_directory.h"

#include "bytes.h"

#include <stdlib.h>

#define LEAST_SEGMENT_NBYTES 13u /* five varints, a checksum */

/* ---- writing ---- */

static pith_status put_segments(const struct archive_directory *d, uint64_t begin, struct record_bytes *out,
                                struct pith_error *err)
{
	uint64_t at = begin;
	for (size_t i = 0; i < d->segment_count; i++) {
		const struct archive_segment *s = &d->segments[i];
		const uint64_t fields[] = {s->off - at, s->method, s->raw_nbytes, s->stored_nbytes, s->records_nbytes};
		uint8_t checksum[8];
		for (size_t k = 0; k < PITH_ARRAY_LENGTH(fields); k++)
			PITH_TRY(record_put_varint(out, fields[k], err));
		store_le64(checksum, s->segment_xxh3);
		PITH_TRY(record_put_bytes(out, checksum, sizeof(checksum), err));
		at = s->off + ARCHIVE_SEGMENT_HEADER_NBYTES + s->records_nbytes + s->stored_nbytes;
	}
	return PITH_OK;
}

static pith_status put_members(const struct archive_directory *d, struct record_bytes *out,
                               struct pith_error *err)
{
	uint64_t content_end = 0;
	for (size_t i = 0; i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		PITH_TRY(record_put_member(out, m, err));
		if (m->kind != PITH_MEMBER_FILE)
			continue;
		PITH_TRY(record_put_varint(out, m->nbytes > 0 ? m->content_off - content_end : 0, err));
		PITH_TRY(record_put_varint(out, m->nbytes, err));
		PITH_TRY(record_put_bytes(out, m->content_xxh3, sizeof(m->content_xxh3), err));
		content_end = m->nbytes > 0 ? m->content_off + m->nbytes : content_end;
	}
	return PITH_OK;
}

pith_status archive_directory_store(const struct archive_directory *d, uint64_t header_xxh3, uint64_t begin,
                                    struct record_bytes *out, struct pith_error *err)
{
	uint8_t checksum[8];
	store_le64(checksum, header_xxh3);
	PITH_TRY(record_put_bytes(out, checksum, sizeof(checksum), err));
	PITH_TRY(record_put_varint(out, d->segment_count, err));
	PITH_TRY(record_put_varint(out, d->member_count, err));
	PITH_TRY(put_segments(d, begin, out, err));
	PITH_TRY(put_members(d, out, err));
	if (out->nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "text.10", "too many members for one archive (%zu)",
		                 d->member_count);
	return PITH_OK;
}

/* ---- reading ---- */

static bool take_segment(struct record_cursor *in, uint64_t at, uint64_t end, struct archive_segment *s)
{
	uint64_t gap, method, raw, stored, records;
	if (!record_take_varint(in, &gap) || !record_take_varint(in, &method) || !record_take_varint(in, &raw) ||
	    !record_take_varint(in, &stored) || !record_take_varint(in, &records))
		return false;
	const uint8_t *checksum = record_take_bytes(in, 8);
	if (checksum == NULL || gap > end - at || method > SEGMENT_MODEL || raw > ARCHIVE_MAX_RAW_NBYTES ||
	    stored > ARCHIVE_MAX_STORED_NBYTES || records > ARCHIVE_MAX_RECORDS_NBYTES ||
	    ARCHIVE_SEGMENT_HEADER_NBYTES + records + stored > end - at - gap)
		return false;
	s->off = at + gap;
	s->method = (uint32_t)method;
	s->raw_nbytes = (uint32_t)raw;
	s->stored_nbytes = (uint32_t)stored;
	s->records_nbytes = (uint32_t)records;
	s->segment_xxh3 = load_le64(checksum);
	return true;
}

static pith_status load_segments(struct record_cursor *in, uint64_t count, uint64_t begin, uint64_t end,
                                 struct archive_directory *d, struct pith_error *err)
{
	uint64_t at = begin;
	for (uint64_t i = 0; i < count; i++) {
		struct archive_segment s = {.content_off = d->content_nbytes};
		// spec text.12: "Segments lie behind each other between header and directory, without overlap."
		if (!take_segment(in, at, end, &s))
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.12", "segment %llu is not in its place",
			                 (unsigned long long)i);
		PITH_TRY(archive_directory_add_segment(d, &s, err));
		d->content_nbytes += s.raw_nbytes;
		at = s.off + ARCHIVE_SEGMENT_HEADER_NBYTES + s.records_nbytes + s.stored_nbytes;
	}
	return PITH_OK;
}

/* What a file has behind its record; *content_end: of the files before. */
static pith_status load_place(struct record_cursor *in, size_t i, uint64_t content_nbytes,
                              uint64_t *content_end, struct pith_archive_member *m, struct pith_error *err)
{
	uint64_t gap = 0;
	bool whole = record_take_varint(in, &gap) && record_take_varint(in, &m->nbytes);
	const uint8_t *digest = whole ? record_take_bytes(in, sizeof(m->content_xxh3)) : NULL;
	if (digest == NULL)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.11", "the directory ends in member %zu", i);
	memcpy(m->content_xxh3, digest, sizeof(m->content_xxh3));
	uint64_t room = content_nbytes - *content_end;
	// spec text.14: "Members with content follow each other in the content without overlap and end inside it."
	if (gap > room || m->nbytes > room - gap || (m->nbytes == 0 && gap > 0))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.14", "member %zu is not in its place", i);
	m->content_off = *content_end + gap;
	*content_end = m->content_off + m->nbytes;
	return PITH_OK;
}

static pith_status load_members(struct record_cursor *in, uint64_t count, struct archive_directory *d,
                                struct pith_error *err)
{
	uint64_t content_end = 0;
	for (size_t i = 0; i < count; i++) {
		struct pith_archive_member m;
		struct record_strings strings;
		PITH_TRY(record_take_member(in, "text.11", i, &m, &strings, err));
		m.content_off = content_end;
		if (m.kind == PITH_MEMBER_FILE)
			PITH_TRY(load_place(in, i, d->content_nbytes, &content_end, &m, err));
		PITH_TRY(archive_directory_push_member(d, &m, &strings, err));
	}
	return PITH_OK;
}

static pith_status load_tables(struct record_cursor *in, uint64_t header_xxh3, uint64_t begin, uint64_t end,
                               struct archive_directory *d, struct pith_error *err)
{
	uint64_t segments, members;
	const uint8_t *checksum = record_take_bytes(in, 8);
	// spec text.11: "The directory is exactly as long as its counts say, and header_xxh3 is that of the header."
	if (checksum == NULL || load_le64(checksum) != header_xxh3 || !record_take_varint(in, &segments) ||
	    !record_take_varint(in, &members) || segments > ARCHIVE_MAX_SEGMENTS || members > ARCHIVE_MAX_MEMBERS ||
	    segments * LEAST_SEGMENT_NBYTES + members * ARCHIVE_LEAST_RECORD_NBYTES > (uint64_t)(in->end - in->p))
		return pith_fail(err, PITH_E_CORRUPT, 0, "text.11", "the directory is not that of this archive");
	PITH_TRY(load_segments(in, segments, begin, end, d, err));
	PITH_TRY(load_members(in, members, d, err));
	if (in->p != in->end)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.11", "the directory is longer than its tables");
	return archive_directory_index(d, err);
}

pith_status archive_directory_load(const uint8_t *p, size_t nbytes, uint64_t header_xxh3, uint64_t begin,
                                   uint64_t end, struct archive_directory *d, struct pith_error *err)
{
	struct record_cursor in = {p, p + nbytes};
	*d = (struct archive_directory){0};
	pith_status status = load_tables(&in, header_xxh3, begin, end, d, err);
	if (status != PITH_OK)
		archive_directory_free(d);
	return status;
}
