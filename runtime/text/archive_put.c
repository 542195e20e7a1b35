/*
 * Segments, directory and trailer on their way out.  Coded chunks wait in a run of up to 8 MiB: where one zstd frame over
 * all of it is smaller it goes out as one segment, else small frames are joined and others keep a segment each.
 *
 * The limit on size (spec text_archive.md 16) is kept so: a chunk coded by the model saves what pays for the headers
 * beside it, small frames are joined, and each frame lacks 4 bytes or more that the command zstd writes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_writer.h"

#include "checksum.h"
#include "frame_run.h"
#include "frame_zstd.h"

#include <stdlib.h>

#define RECORDS_ZSTD_NBYTES 64u /* fewer bytes of records are not worth a frame */

pith_status put_out(struct pith_archive_writer *w, const void *data, size_t nbytes, struct pith_error *err)
{
	PITH_TRY(w->options.sink(w->options.sink_ctx, data, nbytes, err));
	w->off += nbytes;
	return PITH_OK;
}

/* ---- records ---- */

static pith_status put_record(struct pith_archive_writer *w, size_t i, struct pith_error *err)
{
	const struct archive_directory *d = &w->directory;
	const struct pith_archive_member *m = &d->members[i], *file = m;
	if (m->kind == PITH_MEMBER_HARD_LINK)
		file = &d->members[d->files[i]];
	PITH_TRY(record_put_member(&w->records, m, err));
	return file->kind == PITH_MEMBER_FILE ? record_put_varint(&w->records, file->content_off, err) : PITH_OK;
}

/*
 * w->records: the member that 'begin' lies inside, then those that begin before 'end', or, in the last segment, all
 * that are left.  *ends_member: does the last byte before 'end' end a member?
 */
static pith_status gather_records(struct pith_archive_writer *w, uint64_t begin, uint64_t end, bool is_last,
                                  bool *ends_member, struct pith_error *err)
{
	struct archive_directory *d = &w->directory;
	w->records.nbytes = 0;
	if (w->last_file != SIZE_MAX) {
		const struct pith_archive_member *m = &d->members[w->last_file];
		if (begin < end && m->content_off + m->nbytes > begin)
			PITH_TRY(put_record(w, w->last_file, err));
	}
	for (; w->next_record < d->member_count; w->next_record++) {
		const struct pith_archive_member *m = &d->members[w->next_record];
		if (m->content_off >= end && !is_last)
			break;
		if (m->is_dropped && m->nbytes == 0)
			continue;
		PITH_TRY(put_record(w, w->next_record, err));
		if (m->nbytes > 0)
			w->last_file = w->next_record;
	}
	const struct pith_archive_member *last = w->last_file != SIZE_MAX ? &d->members[w->last_file] : NULL;
	*ends_member = begin == end || last == NULL || last->content_off + last->nbytes == end;
	return PITH_OK;
}

/* As stored: *packed is the caller's to free, NULL when they stay as they are. */
static pith_status pack_records(const struct record_bytes *records, uint8_t **packed, size_t *packed_nbytes,
                                struct pith_error *err)
{
	*packed = NULL;
	if (records->nbytes < RECORDS_ZSTD_NBYTES)
		return PITH_OK;
	PITH_TRY(pith_frame_encode(records->data, records->nbytes, ARCHIVE_ZSTD_LEVEL, packed, packed_nbytes, err));
	if (*packed_nbytes >= records->nbytes) {
		free(*packed);
		*packed = NULL;
	}
	return PITH_OK;
}

/* ---- segments ---- */

/* Content and code of a segment to be. */
struct coded {
	enum segment_method method;
	const uint8_t *raw, *stored;
	size_t raw_nbytes, stored_nbytes;
};

static pith_status put_payload(struct pith_archive_writer *w, struct segment_header *h, const uint8_t *records,
                               const struct coded *c, struct pith_error *err)
{
	struct archive_directory *d = &w->directory;
	uint8_t bytes[ARCHIVE_SEGMENT_HEADER_NBYTES];
	pith_xxh3_reset_64(w->payload_hash);
	pith_xxh3_update_64(w->payload_hash, records, h->records_nbytes);
	pith_xxh3_update_64(w->payload_hash, c->stored, c->stored_nbytes);
	h->stored_xxh3 = pith_xxh3_digest_64(w->payload_hash);
	segment_header_store(h, bytes);
	struct archive_segment s = {
		.off = w->off,
		.content_off = d->content_nbytes,
		.method = h->method,
		.raw_nbytes = h->raw_nbytes,
		.stored_nbytes = h->stored_nbytes,
		.records_nbytes = h->records_nbytes,
		.segment_xxh3 = pith_xxh3_64(bytes, sizeof(bytes)),
	};
	PITH_TRY(archive_directory_add_segment(d, &s, err));
	d->content_nbytes += h->raw_nbytes;
	PITH_TRY(put_out(w, bytes, sizeof(bytes), err));
	PITH_TRY(put_out(w, records, h->records_nbytes, err));
	return put_out(w, c->stored, c->stored_nbytes, err);
}

static pith_status put_segment(struct pith_archive_writer *w, const struct coded *c, bool is_last,
                               struct pith_error *err)
{
	struct segment_header h = {
		.method = (uint32_t)c->method,
		.raw_nbytes = (uint32_t)c->raw_nbytes,
		.stored_nbytes = (uint32_t)c->stored_nbytes,
		.off = w->off,
		.content_off = w->directory.content_nbytes,
		.raw_xxh3 = pith_xxh3_64(c->raw, c->raw_nbytes),
	};
	uint8_t *packed;
	size_t records_nbytes;
	PITH_TRY(gather_records(w, h.content_off, h.content_off + c->raw_nbytes, is_last, &h.ends_member, err));
	PITH_TRY(pack_records(&w->records, &packed, &records_nbytes, err));
	h.records_encoding = packed != NULL ? 1 : 0;
	h.records_nbytes = (uint32_t)(packed != NULL ? records_nbytes : w->records.nbytes);
	pith_status status = put_payload(w, &h, packed != NULL ? packed : w->records.data, c, err);
	free(packed);
	if (c->method == SEGMENT_MODEL) {
		w->stats.model_segments++;
		w->stats.model_content_nbytes += c->raw_nbytes;
		w->stats.model_stored_nbytes += c->stored_nbytes + ARCHIVE_SEGMENT_HEADER_NBYTES;
	}
	archive_tally_stored(&w->tally, w->off);
	return status;
}

/* Frames of zstd, decoded again first unless the user declines: what does not come back is stored. */
static pith_status put_zstd(struct pith_archive_writer *w, struct coded *c, bool is_last, struct pith_error *err)
{
	if (!w->options.no_verify) {
		struct pith_error ignored;
		uint8_t *again = malloc(c->raw_nbytes);
		if (again == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
		bool good = pith_frame_run_decode(c->stored, c->stored_nbytes, again, c->raw_nbytes, 0, &ignored) ==
		                    PITH_OK &&
		            memcmp(again, c->raw, c->raw_nbytes) == 0;
		free(again);
		if (!good) {
			w->stats.verify_failures++;
			*c = (struct coded){SEGMENT_STORED, c->raw, c->raw, c->raw_nbytes, c->raw_nbytes};
		}
	}
	return put_segment(w, c, is_last, err);
}

/*
 * Content that has a segment header in it: each piece ends in the middle of one, so that no code holds any, nor do records
 * and code together: names have no NUL, and the first half of a header has.
 */
static pith_status put_cut(struct pith_archive_writer *w, const struct coded *c, bool is_last,
                           struct pith_error *err)
{
	size_t cap = pith_frame_run_bound(c->raw_nbytes);
	uint8_t *frame = malloc(cap);
	if (frame == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
	pith_status status = PITH_OK;
	for (size_t at = 0; at < c->raw_nbytes && status == PITH_OK;) {
		const uint8_t *raw = c->raw + at, *found = archive_find_segment(raw, c->raw_nbytes - at);
		size_t nbytes = c->raw_nbytes - at, frame_nbytes;
		if (found != NULL)
			nbytes = (size_t)(found - raw) + ARCHIVE_SEGMENT_HEADER_NBYTES / 2;
		struct coded piece = {SEGMENT_STORED, raw, raw, nbytes, nbytes};
		at += nbytes;
		status = pith_frame_run_encode(raw, nbytes, ARCHIVE_ZSTD_LEVEL, frame, cap, &frame_nbytes, err);
		if (status == PITH_OK && frame_nbytes < nbytes && archive_find_segment(frame, frame_nbytes) == NULL)
			piece = (struct coded){SEGMENT_ZSTD, raw, frame, nbytes, frame_nbytes};
		bool last = is_last && at == c->raw_nbytes;
		if (status == PITH_OK)
			status = piece.method == SEGMENT_ZSTD ? put_zstd(w, &piece, last, err) :
			                                        put_segment(w, &piece, last, err);
	}
	free(frame);
	return status;
}

static pith_status put_coded(struct pith_archive_writer *w, struct coded *c, bool is_last, struct pith_error *err)
{
	// spec text_archive: "No code holds a sound segment header"
	if (archive_find_segment(c->stored, c->stored_nbytes) != NULL)
		return put_cut(w, c, is_last, err);
	return c->method == SEGMENT_ZSTD ? put_zstd(w, c, is_last, err) : put_segment(w, c, is_last, err);
}

/* ---- runs ---- */

/* Is one frame over the whole run worth its time?  Judged by a fast setting first. */
static pith_status try_whole(const struct run *r, uint8_t **out, size_t *out_nbytes, struct pith_error *err)
{
	size_t stored_nbytes = 0, fast_nbytes = 0, cap = pith_frame_run_bound(r->raw_nbytes), nbytes;
	*out = NULL;
	for (size_t i = 0; i < r->piece_count; i++) {
		stored_nbytes += r->pieces[i].stored_nbytes;
		fast_nbytes += r->pieces[i].fast_nbytes;
	}
	if (r->piece_count < 2)
		return PITH_OK;
	uint8_t *whole = malloc(cap);
	if (whole == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
	pith_status status = pith_frame_run_encode(r->raw, r->raw_nbytes, FAST_ZSTD_LEVEL, whole, cap, &nbytes, err);
	/* the slow setting takes away a quarter at most, as a rule */
	bool is_promising = nbytes < fast_nbytes - fast_nbytes / 100 && nbytes - nbytes / 4 < stored_nbytes;
	if (status == PITH_OK && is_promising) {
		status = pith_frame_run_encode(r->raw, r->raw_nbytes, ARCHIVE_ZSTD_LEVEL, whole, cap, &nbytes, err);
		// spec text_archive: "where that is more than 1 % smaller than the pieces on their own"
		if (status == PITH_OK && nbytes < stored_nbytes - stored_nbytes / 100) {
			*out = whole;
			*out_nbytes = nbytes;
			return PITH_OK;
		}
	}
	free(whole);
	return status;
}

static bool joins(const struct piece *p)
{
	return p->method == SEGMENT_ZSTD && p->stored_nbytes < SMALL_FRAME_NBYTES;
}

/* One segment a piece, but for small frames. */
static pith_status put_pieces(struct pith_archive_writer *w, bool is_last, struct pith_error *err)
{
	const struct run *r = &w->run;
	const uint8_t *raw = r->raw;
	for (size_t i = 0; i < r->piece_count;) {
		const struct piece *first = &r->pieces[i];
		struct coded c = {first->method, raw, r->stored.data + first->stored_off, 0, 0};
		do {
			c.raw_nbytes += r->pieces[i].raw_nbytes;
			c.stored_nbytes += r->pieces[i].stored_nbytes;
			i++;
		} while (joins(first) && i < r->piece_count && joins(&r->pieces[i]));
		raw += c.raw_nbytes;
		bool last = is_last && i == r->piece_count;
		PITH_TRY(put_coded(w, &c, last, err));
	}
	return PITH_OK;
}

pith_status put_run(struct pith_archive_writer *w, bool is_last, struct pith_error *err)
{
	struct run *r = &w->run;
	uint8_t *whole;
	size_t whole_nbytes;
	if (r->piece_count == 0)
		return PITH_OK;
	PITH_TRY(try_whole(r, &whole, &whole_nbytes, err));
	pith_status status;
	if (whole != NULL) {
		struct coded c = {SEGMENT_ZSTD, r->raw, whole, r->raw_nbytes, whole_nbytes};
		status = put_coded(w, &c, is_last, err);
		free(whole);
	} else {
		status = put_pieces(w, is_last, err);
	}
	r->piece_count = r->raw_nbytes = r->stored.nbytes = 0;
	return status;
}

pith_status put_chunk(struct pith_archive_writer *w, const struct chunk *c, struct pith_error *err)
{
	struct run *r = &w->run;
	if (r->raw_nbytes + c->raw_nbytes > r->raw_cap)
		PITH_TRY(put_run(w, false, err));
	if (r->piece_count == r->piece_cap) {
		size_t cap = 2 * r->piece_cap + 16;
		struct piece *grown = realloc(r->pieces, cap * sizeof(*grown));
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
		r->pieces = grown;
		r->piece_cap = cap;
	}
	r->pieces[r->piece_count++] = (struct piece){c->raw_nbytes, r->stored.nbytes, c->stored_nbytes,
	                                             c->fast_nbytes, c->method};
	memcpy(r->raw + r->raw_nbytes, c->raw, c->raw_nbytes);
	r->raw_nbytes += c->raw_nbytes;
	return record_put_bytes(&r->stored, c->stored, c->stored_nbytes, err);
}

/* ---- the end ---- */

static pith_status put_directory(struct pith_archive_writer *w, const struct record_bytes *plain,
                                 struct pith_error *err)
{
	uint8_t *packed = NULL, bytes[ARCHIVE_TRAILER_NBYTES];
	size_t packed_nbytes;
	PITH_TRY(pith_frame_encode(plain->data, plain->nbytes, ARCHIVE_ZSTD_LEVEL, &packed, &packed_nbytes, err));
	bool is_packed = packed_nbytes < plain->nbytes;
	const uint8_t *stored = is_packed ? packed : plain->data;
	struct archive_trailer t = {
		.directory_encoding = is_packed ? 1 : 0,
		.directory_off = w->off,
		.directory_stored_nbytes = is_packed ? packed_nbytes : plain->nbytes,
		.directory_nbytes = plain->nbytes,
	};
	t.archive_nbytes = t.directory_off + t.directory_stored_nbytes + ARCHIVE_TRAILER_NBYTES;
	pith_xxh3_128(stored, (size_t)t.directory_stored_nbytes, t.archive_root);
	archive_trailer_store(&t, bytes);
	pith_status status = put_out(w, stored, (size_t)t.directory_stored_nbytes, err);
	free(packed);
	if (status == PITH_OK && w->options.barrier != NULL)
		status = w->options.barrier(w->options.sink_ctx, err);
	return status == PITH_OK ? put_out(w, bytes, sizeof(bytes), err) : status;
}

pith_status put_records(struct pith_archive_writer *w, struct pith_error *err)
{
	struct coded nothing = {SEGMENT_STORED, w->run.raw, w->run.raw, 0, 0};
	return w->next_record < w->directory.member_count ? put_segment(w, &nothing, true, err) : PITH_OK;
}

pith_status put_end(struct pith_archive_writer *w, struct pith_error *err)
{
	struct record_bytes plain = {0};
	PITH_TRY(put_records(w, err));
	archive_directory_compact(&w->directory);
	pith_status status = archive_directory_store(&w->directory, w->header.header_xxh3, w->begin, &plain, err);
	if (status == PITH_OK)
		status = put_directory(w, &plain, err);
	free(plain.data);
	return status;
}
