/*
 * A directory made from what is left of an archive: the source is searched for segments, and the records in
 * them give the members.  Spec: text_archive.md, section 3, "Records serve only recovery".
 *
 * Segments are taken in ascending order of content, so neither overlap nor an archive inside the archive can add
 * anything twice.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_reader.h"

#include "bytes.h"
#include "checksum.h"
#include "frame_zstd.h"

#include <stdlib.h>

#define WINDOW_NBYTES ((size_t)1 << 20)
#define NONE SIZE_MAX
#define MAX_CONTENT_NBYTES ((uint64_t)1 << 60)

struct recovery {
	struct pith_archive *archive;
	uint8_t *window;         /* [WINDOW_NBYTES], bytes of the source from window_off on */
	uint64_t window_off;
	size_t window_nbytes;
	uint64_t content_end;    /* of the segments taken */
	uint64_t known_end;      /* up to here it is known which member content belongs to */
	bool ends_member;        /* a member ends at known_end */
	size_t open;             /* the member whose end is not known yet; NONE */
	uint64_t wasted_nbytes;  /* of payloads that were damaged */
	uint64_t records_nbytes; /* unpacked so far */
};

/* ---- segments ---- */

/* Bytes of the source at 'off', nbytes or fewer at its end; borrowed until the next call. */
static pith_status look_at(struct recovery *r, uint64_t off, size_t nbytes, const uint8_t **p, size_t *got,
                           struct pith_error *err)
{
	const struct pith_archive_source *source = &r->archive->source;
	uint64_t left = source->nbytes - off;
	nbytes = left < nbytes ? (size_t)left : nbytes;
	if (off < r->window_off || off + nbytes > r->window_off + r->window_nbytes) {
		r->window_off = off;
		r->window_nbytes = left < WINDOW_NBYTES ? (size_t)left : WINDOW_NBYTES;
		pith_status status = source->read_at(source->ctx, off, r->window, r->window_nbytes, err);
		if (status != PITH_OK)
			r->window_nbytes = 0;
		PITH_TRY(status);
	}
	*p = r->window + (off - r->window_off);
	*got = (size_t)(r->window_nbytes - (off - r->window_off));
	return PITH_OK;
}

/* The next place from *off on that starts like a segment header; false: there is none. */
static bool find_sync(struct recovery *r, uint64_t *off)
{
	const uint8_t *p;
	size_t got;
	uint64_t nbytes = r->archive->source.nbytes;
	struct pith_error ignored;
	while (*off + ARCHIVE_SEGMENT_HEADER_NBYTES <= nbytes) {
		/* a place that cannot be read is as lost as one that is damaged */
		if (look_at(r, *off, ARCHIVE_SYNC_NBYTES, &p, &got, &ignored) != PITH_OK) {
			*off += WINDOW_NBYTES;
			continue;
		}
		const uint8_t *found = archive_find_sync(p, got);
		*off += found != NULL ? (size_t)(found - p) : got - (ARCHIVE_SYNC_NBYTES - 1);
		if (found != NULL)
			return true;
	}
	return false;
}

/* The payload at 'off', NULL when it is not what the header says; the caller frees it. */
static uint8_t *load_payload(const struct pith_archive *a, const struct segment_header *h, uint64_t off)
{
	size_t nbytes = (size_t)h->records_nbytes + h->stored_nbytes;
	struct pith_error ignored;
	if (nbytes > a->source.nbytes - off)
		return NULL;
	uint8_t *payload = malloc(nbytes);
	if (payload == NULL || a->source.read_at(a->source.ctx, off, payload, nbytes, &ignored) != PITH_OK ||
	    pith_xxh3_64(payload, nbytes) != h->stored_xxh3) {
		free(payload);
		return NULL;
	}
	return payload;
}

pith_status archive_unpack_records(const struct segment_header *h, uint8_t *payload, uint64_t off,
                                   uint8_t **plain, size_t *nbytes, struct pith_error *err)
{
	*plain = payload;
	*nbytes = h->records_nbytes;
	if (h->records_encoding == 0)
		return PITH_OK;
	// spec text.21: "The records decode to whole records and at most 2^24 bytes; a zstd frame gives its content size."
	uint64_t size = pith_frame_content_nbytes(payload, h->records_nbytes);
	if (size > ARCHIVE_MAX_RECORDS_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.21", "the records of a segment are not in order");
	*plain = malloc((size_t)size + 1);
	if (*plain == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	*nbytes = (size_t)size;
	return pith_frame_decode(payload, h->records_nbytes, *plain, *nbytes, off, err);
}

/* ---- members ---- */

/* The open member ends at 'end', or, when what is behind it is lost, nobody knows. */
static void close_open(struct recovery *r, uint64_t end, bool is_known)
{
	if (r->open == NONE)
		return;
	struct pith_archive_member *m = &r->archive->directory.members[r->open];
	m->nbytes = end - m->content_off;
	m->is_open_ended = !is_known;
	r->open = NONE;
}

static pith_status add_member(struct recovery *r, struct pith_archive_member *m,
                              const struct record_strings *strings, struct pith_error *err)
{
	struct archive_directory *d = &r->archive->directory;
	PITH_TRY(archive_directory_add_member(d, m, strings, NULL, err));
	if (m->kind == PITH_MEMBER_FILE)
		r->open = d->member_count - 1;
	return PITH_OK;
}

/* Its target is that file, not one of the same name before or after it: the file's position, behind the record, tells. */
static pith_status add_hard_link(struct recovery *r, struct pith_archive_member *m,
                                 const struct record_strings *strings, uint64_t file_off, struct pith_error *err)
{
	const struct archive_directory *d = &r->archive->directory;
	size_t file = archive_directory_file_of(d, strings->target, strings->target_nbytes);
	if (file != SIZE_MAX && d->members[file].content_off == file_off)
		return add_member(r, m, strings, err);
	r->archive->lost_links++;
	return PITH_OK;
}

/* A file's record in the segment of header h: the open member goes on in it, or it ends and another begins. */
static pith_status add_file(struct recovery *r, const struct segment_header *h, struct pith_archive_member *m,
                            const struct record_strings *strings, struct pith_error *err)
{
	const struct pith_archive_member *open =
		r->open != NONE ? &r->archive->directory.members[r->open] : NULL;
	bool hole = r->known_end < h->content_off;
	if (open != NULL && m->content_off == open->content_off && m->content_off < h->content_off &&
	    open->name_nbytes == strings->name_nbytes &&
	    memcmp(open->name, strings->name, strings->name_nbytes) == 0) {
		r->known_end = h->content_off;
		return PITH_OK;
	}
	if (m->content_off < r->known_end || m->content_off > h->content_off + h->raw_nbytes)
		return PITH_OK; /* a wrong writer */
	if (hole)
		close_open(r, r->known_end, r->ends_member);
	else
		close_open(r, m->content_off, true);
	r->known_end = m->content_off > h->content_off ? m->content_off : h->content_off;
	return add_member(r, m, strings, err);
}

static pith_status add_records(struct recovery *r, const struct segment_header *h, const uint8_t *p, size_t nbytes,
                               struct pith_error *err)
{
	struct record_cursor in = {p, p + nbytes};
	struct pith_error ignored;
	while (in.p < in.end) {
		struct pith_archive_member m;
		struct record_strings strings;
		if (record_take_member(&in, "text.21", 0, &m, &strings, &ignored) != PITH_OK)
			return PITH_OK; /* a wrong writer: what follows is not to be had */
		bool is_link = m.kind == PITH_MEMBER_HARD_LINK, is_file = m.kind == PITH_MEMBER_FILE;
		uint64_t file_off = h->content_off;
		if ((is_file || is_link) && !record_take_varint(&in, &file_off))
			return PITH_OK;
		m.content_off = is_file ? file_off : h->content_off;
		PITH_TRY(is_file ? add_file(r, h, &m, &strings, err) :
		         is_link ? add_hard_link(r, &m, &strings, file_off, err) :
		                   add_member(r, &m, &strings, err));
	}
	return PITH_OK;
}

/* ---- all of it ---- */

/* A segment whose header is sound, at 'off'; *next: where to look on. */
static pith_status take_segment(struct recovery *r, const struct segment_header *h, const uint8_t *header,
                                uint64_t off, uint64_t *next, struct pith_error *err)
{
	struct pith_archive *a = r->archive;
	uint64_t nbytes = (uint64_t)h->records_nbytes + h->stored_nbytes;
	uint64_t left = a->source.nbytes - off - ARCHIVE_SEGMENT_HEADER_NBYTES;
	struct archive_segment s = {off,           h->content_off,    h->method,
	                            h->raw_nbytes, h->stored_nbytes,  h->records_nbytes,
	                            pith_xxh3_64(header, ARCHIVE_SEGMENT_HEADER_NBYTES)};
	uint8_t *payload = load_payload(a, h, off + ARCHIVE_SEGMENT_HEADER_NBYTES), *plain = payload;
	size_t plain_nbytes;
	struct pith_error ignored;
	r->content_end = h->content_off + h->raw_nbytes;
	*next = off + ARCHIVE_SEGMENT_HEADER_NBYTES + (payload != NULL ? nbytes : 0);
	if (nbytes <= left)
		PITH_TRY(archive_directory_add_segment(&a->directory, &s, err));
	if (payload == NULL) {
		r->wasted_nbytes += nbytes <= left ? nbytes : 0;
		return PITH_OK;
	}
	pith_status status = PITH_OK;
	if (archive_unpack_records(h, payload, off, &plain, &plain_nbytes, &ignored) == PITH_OK) {
		r->records_nbytes += plain_nbytes;
		status = r->records_nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES ?
			pith_fail(err, PITH_E_LIMIT, off, NULL, "more records than a directory has room for") :
			add_records(r, h, plain, plain_nbytes, err);
	}
	if (plain != payload)
		free(plain);
	free(payload);
	if (r->known_end >= h->content_off) { /* else nobody knows whose content this is */
		r->known_end = r->content_end;
		r->ends_member = h->ends_member;
	}
	return status;
}

static pith_status scan_segments(struct recovery *r, const struct pith_archive *known, struct pith_error *err)
{
	struct pith_archive *a = r->archive;
	if (known != NULL) {
		PITH_TRY(archive_directory_copy(&known->directory, &a->directory, err));
		r->content_end = r->known_end = known->directory.content_nbytes;
		r->ends_member = true;
	}
	for (uint64_t off = known != NULL ? known->trailer.archive_nbytes : a->begin; find_sync(r, &off);) {
		uint8_t bytes[ARCHIVE_SEGMENT_HEADER_NBYTES];
		const uint8_t *p;
		size_t got;
		struct segment_header h;
		struct pith_error ignored;
		bool sound = look_at(r, off, sizeof(bytes), &p, &got, &ignored) == PITH_OK;
		if (sound) {
			memcpy(bytes, p, sizeof(bytes));
			sound = segment_header_load(bytes, off, &h, &ignored) == PITH_OK;
		}
		// spec text_archive.md: "One whose `off` is less than its place is inside an archive that is stored in this one"
		if (!sound || h.off < off || h.content_off < r->content_end || h.content_off > MAX_CONTENT_NBYTES) {
			off++;
			continue;
		}
		PITH_TRY(take_segment(r, &h, bytes, off, &off, err));
		if (r->wasted_nbytes > 4 * (a->source.nbytes + ARCHIVE_MAX_STORED_NBYTES))
			return pith_fail(err, PITH_E_LIMIT, off, NULL, "more damaged segments than the archive has room for");
	}
	close_open(r, r->known_end, r->ends_member);
	a->directory.content_nbytes = r->content_end;
	archive_directory_compact(&a->directory);
	return archive_directory_index(&a->directory, err);
}

pith_status pith_archive_recover(const struct pith_archive_source *source, const struct pith_archive *known,
                                 struct pith_archive **out, struct pith_error *err)
{
	struct recovery r = {.open = NONE, .window = malloc(WINDOW_NBYTES)};
	struct pith_error fault;
	*out = NULL;
	r.archive = calloc(1, sizeof(*r.archive));
	pith_status status = PITH_OK, header = PITH_OK;
	if (r.archive == NULL || r.window == NULL) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	} else {
		r.archive->source = *source;
		r.archive->is_recovered = true;
		header = archive_load_header(r.archive, &fault);
		r.archive->header_lost = header != PITH_OK;
		if (r.archive->header_lost)
			r.archive->begin = 0;
		status = header == PITH_E_UNSUPPORTED ? header : scan_segments(&r, known, err);
	}
	bool nothing = status == PITH_OK && r.archive->directory.segment_count == 0 && header != PITH_OK;
	if (nothing || (status != PITH_OK && status == header)) {
		status = header;
		if (err != NULL)
			*err = fault;
	}
	free(r.window);
	if (status != PITH_OK)
		pith_archive_close(r.archive);
	else
		*out = r.archive;
	return status;
}
