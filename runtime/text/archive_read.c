/*
 * Decoding members of a text archive.  Members are visited in order of content, so segments are needed in ascending
 * order and each is decoded once; a batch of them is decoded side by side, one thread a segment.
 *
 * Nothing is handed out before its segment's checksum matches, and a member is not
 * called complete before its own does.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_reader.h"

#include "bytes.h"
#include "checksum.h"
#include "frame_run.h"
#include "text_archive.h"

#include <stdio.h>
#include <stdlib.h>

#define SEGMENTS_PER_THREAD 2u

/* ---- which segments ---- */

/* needed[s]: does segment s hold content of a selected member?  Caller frees. */
static bool *needed_segments(const struct pith_archive *a, const bool *selected)
{
	const struct archive_directory *d = &a->directory;
	bool *needed = calloc(d->segment_count + 1, sizeof(*needed));
	for (size_t i = 0; needed != NULL && i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		if (m->nbytes == 0 || (selected != NULL && !selected[i]))
			continue;
		uint64_t end = m->content_off + m->nbytes;
		for (size_t s = archive_directory_segment_at(d, m->content_off);
		     s < d->segment_count && d->segments[s].content_off < end; s++)
			needed[s] = d->segments[s].raw_nbytes > 0;
	}
	return needed;
}

uint64_t pith_archive_selected_nbytes(const struct pith_archive *a, const bool *selected)
{
	bool *needed = needed_segments(a, selected);
	uint64_t total = 0;
	for (size_t s = 0; needed != NULL && s < a->directory.segment_count; s++)
		total += needed[s] ? a->directory.segments[s].raw_nbytes : 0;
	free(needed);
	return total;
}

bool pith_archive_needs_model(const struct pith_archive *a, const bool *selected)
{
	bool *needed = selected != NULL ? needed_segments(a, selected) : NULL, found = false;
	for (size_t s = 0; s < a->directory.segment_count && !found; s++)
		found = a->directory.segments[s].method == SEGMENT_MODEL && (needed == NULL || needed[s]);
	free(needed);
	return found;
}

/* ---- decoding segments ---- */

struct decoded {
	size_t index;
	uint8_t *raw; /* [raw_nbytes] */
	pith_status status;
	struct pith_error err;
};

struct reading {
	const struct pith_archive *archive;
	const struct pith_archive_read_options *options;
	size_t memory_limit;
	const bool *selected;
	bool *needed;
	struct decoded *batch; /* [batch_cap] */
	size_t batch_count, batch_cap;
	const struct pith_executor *inner;
	struct archive_tally tally;
	bool lost; /* something of the member being read */
};

static pith_status load_segment_header(const struct pith_archive *a, size_t s,
                                       struct segment_header *h, struct pith_error *err)
{
	const struct archive_segment *g = &a->directory.segments[s];
	uint8_t bytes[ARCHIVE_SEGMENT_HEADER_NBYTES];
	PITH_TRY(a->source.read_at(a->source.ctx, g->off, bytes, sizeof(bytes), err));
	PITH_TRY(segment_header_load(bytes, g->off, h, err));
	/* recovery takes segments from where they came to lie after a loss */
	bool moved = h->off != g->off && !a->is_recovered;
	// spec text.16: "segment_xxh3 matches, method, sizes and off agree and content_off is the sum of the raw_nbytes before it"
	if (pith_xxh3_64(bytes, sizeof(bytes)) != g->segment_xxh3 || h->method != g->method ||
	    h->raw_nbytes != g->raw_nbytes || h->stored_nbytes != g->stored_nbytes ||
	    h->records_nbytes != g->records_nbytes || h->content_off != g->content_off || moved)
		return pith_fail(err, PITH_E_CORRUPT, g->off, "text.16",
		                 "the segment is not the one that the directory names");
	return PITH_OK;
}

static pith_status check_coder(const struct reading *r, struct pith_error *err)
{
	const struct text_lm *lm =
		r->options->coder != NULL ? pith_text_coder_segment(r->options->coder)->lm : NULL;
	if (lm == NULL && r->archive->header_lost)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs a model, and the header that names it is lost");
	return archive_check_model(r->archive, lm != NULL ? lm->identity : NULL,
	                           lm != NULL ? lm->numerics_version : 0, err);
}

/* Decode checked payload bytes into raw: [h->raw_nbytes]. */
static pith_status decode_payload(struct reading *r, const struct segment_header *h,
                                  const uint8_t *stored, uint64_t off, uint8_t *raw,
                                  struct pith_error *err)
{
	struct segment_progress progress = {archive_tally_advance, &r->tally};
	if (h->method == SEGMENT_MODEL) {
		PITH_TRY(check_coder(r, err));
		return segment_model_decode(pith_text_coder_segment(r->options->coder), r->inner,
		                            r->memory_limit, &progress, stored, h->stored_nbytes, off, raw,
		                            h->raw_nbytes, err);
	}
	archive_tally_advance(&r->tally, h->raw_nbytes);
	if (h->method == SEGMENT_ZSTD)
		return pith_frame_run_decode(stored, h->stored_nbytes, raw, h->raw_nbytes, off, err);
	// spec text.6: "stored_nbytes equals raw_nbytes"
	if (h->stored_nbytes != h->raw_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.6", "sizes of a stored segment differ");
	memcpy(raw, stored, h->raw_nbytes);
	return PITH_OK;
}

/* payload: records and code. */
static pith_status decode_segment(struct reading *r, struct decoded *d, uint8_t *payload,
                                  const struct segment_header *h)
{
	const struct pith_archive *a = r->archive;
	uint64_t off = a->directory.segments[d->index].off + ARCHIVE_SEGMENT_HEADER_NBYTES;
	size_t nbytes = (size_t)h->records_nbytes + h->stored_nbytes;
	PITH_TRY(a->source.read_at(a->source.ctx, off, payload, nbytes, &d->err));
	// spec text.5: "stored_xxh3 matches the payload, and raw_xxh3 the decoded content"
	if (pith_xxh3_64(payload, nbytes) != h->stored_xxh3)
		return pith_fail(&d->err, PITH_E_CORRUPT, off, "text.5", "the payload is damaged");
	off += h->records_nbytes;
	if (h->raw_nbytes > 0)
		PITH_TRY(decode_payload(r, h, payload + h->records_nbytes, off, d->raw, &d->err));
	if (pith_xxh3_64(d->raw, h->raw_nbytes) != h->raw_xxh3)
		return pith_fail(&d->err, PITH_E_CORRUPT, off, "text.5",
		                 r->archive->header_lost && h->method == SEGMENT_MODEL ?
		                         "another model coded it: the header that names it is lost" :
		                         "the payload is whole, yet decodes to other content: the writer was wrong");
	return PITH_OK;
}

static void decode_task(void *arg, size_t i)
{
	struct reading *r = arg;
	struct decoded *d = &r->batch[i];
	struct segment_header h;
	d->status = load_segment_header(r->archive, d->index, &h, &d->err);
	if (d->status != PITH_OK)
		return;
	uint8_t *payload = malloc((size_t)h.records_nbytes + h.stored_nbytes);
	d->raw = malloc((size_t)h.raw_nbytes + 1);
	d->status = payload != NULL && d->raw != NULL ?
	                    decode_segment(r, d, payload, &h) :
	                    pith_fail(&d->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
	free(payload);
}

static void drop_batch(struct reading *r)
{
	for (size_t i = 0; i < r->batch_count; i++)
		free(r->batch[i].raw);
	r->batch_count = 0;
}

/* Decode segment 'first' and the next ones that are needed. */
static void load_batch(struct reading *r, size_t first)
{
	const struct pith_executor *executor = r->options->executor;
	size_t width = executor != NULL && executor->width > 1 ? executor->width : 1;
	drop_batch(r);
	for (size_t s = first; s < r->archive->directory.segment_count && r->batch_count < r->batch_cap; s++)
		if (r->needed[s])
			r->batch[r->batch_count++] = (struct decoded){.index = s};
	/* what does not fill the threads is decoded by all of them together */
	size_t together = r->batch_count / width * width;
	if (2 * (r->batch_count - together) > width)
		together = r->batch_count;
	r->inner = NULL;
	if (width > 1 && together > 1)
		executor->run(executor, decode_task, r, together);
	else
		together = 0;
	r->inner = executor;
	for (size_t i = together; i < r->batch_count; i++)
		decode_task(r, i);
}

/* The caller has to know what is lost: put segment and member before the message. */
static void name_fault(const struct decoded *d, const struct pith_archive_member *m,
                       struct pith_error *err)
{
	*err = d->err;
	char head[96];
	snprintf(head, sizeof(head), "segment %zu, needed for '%.50s': ", d->index, m->name);
	snprintf(err->msg, sizeof(err->msg), "%.95s%.103s", head, d->err.msg);
}

/* The decoded segment s, which is needed; borrowed until the next call. */
static const struct decoded *get_segment(struct reading *r, size_t s)
{
	for (size_t k = 0; k < r->batch_count; k++)
		if (r->batch[k].index == s)
			return &r->batch[k];
	load_batch(r, s);
	return &r->batch[0];
}

/* ---- members ---- */

/* Members are read on behind a fault when the caller wants to know about each; not when we failed ourselves. */
static bool goes_on(const struct reading *r, pith_status status)
{
	return r->options->lost != NULL && status != PITH_E_MEMORY && status != PITH_E_ARGUMENT &&
	       status != PITH_E_LIMIT;
}

/* 'why' happened to bytes of member i: tell, or fail. */
static pith_status lose(struct reading *r, size_t i, uint64_t off, uint64_t nbytes,
                        const struct pith_error *why, struct pith_error *err)
{
	if (goes_on(r, why->status)) {
		r->lost = true;
		return r->options->lost(r->options->ctx, i, off, nbytes, why, err);
	}
	if (err != NULL)
		*err = *why;
	return why->status;
}

static pith_status read_content(struct reading *r, size_t i, struct pith_xxh3 *hash,
                                struct pith_error *err)
{
	const struct archive_directory *d = &r->archive->directory;
	const struct pith_archive_member *m = &d->members[i];
	uint64_t begin = m->content_off, at = begin, end = begin + m->nbytes;
	while (at < end) {
		struct pith_error why;
		size_t s = archive_directory_segment_at(d, at);
		const struct archive_segment *g = s < d->segment_count ? &d->segments[s] : NULL;
		if (g == NULL || g->content_off > at) {
			uint64_t until = g != NULL && g->content_off < end ? g->content_off : end;
			pith_fail(&why, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "a segment is lost");
			PITH_TRY(lose(r, i, at - begin, until - at, &why, err));
			at = until;
			continue;
		}
		const struct decoded *c = get_segment(r, s);
		size_t skip = (size_t)(at - g->content_off), take = g->raw_nbytes - skip;
		take = take < end - at ? take : (size_t)(end - at);
		if (c->status != PITH_OK) {
			name_fault(c, m, &why);
			PITH_TRY(lose(r, i, at - begin, take, &why, err));
		} else {
			pith_xxh3_update_128(hash, c->raw + skip, take);
			if (r->options->data != NULL)
				PITH_TRY(r->options->data(r->options->ctx, c->raw + skip, take, err));
		}
		at += take;
	}
	return PITH_OK;
}

/* What only the whole member tells: its checksum, and whether more of it is missing. */
static pith_status check_member(struct reading *r, size_t i, const struct pith_xxh3 *hash, struct pith_error *err)
{
	const struct pith_archive_member *m = &r->archive->directory.members[i];
	struct pith_error why;
	uint8_t digest[16];
	if (m->is_open_ended) {
		pith_fail(&why, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "the segment behind it is lost: there may be more of it");
		return lose(r, i, m->nbytes, 0, &why, err);
	}
	pith_xxh3_digest_128(hash, digest);
	bool is_known = !r->archive->is_recovered || memcmp(m->content_xxh3, (uint8_t[16]){0}, 16) != 0;
	bool has_digest = m->kind == PITH_MEMBER_FILE && is_known;
	// spec text.17: "The content of a file matches its content_xxh3."
	if (r->lost || !has_digest || memcmp(digest, m->content_xxh3, 16) == 0)
		return PITH_OK;
	pith_fail(&why, PITH_E_CORRUPT, PITH_NO_OFF, "text.17", "the content of '%.100s' does not match its checksum",
	          m->name);
	return lose(r, i, 0, m->nbytes, &why, err);
}

static pith_status read_member(struct reading *r, size_t i, struct pith_xxh3 *hash,
                               struct pith_error *err)
{
	const struct pith_archive_read_options *o = r->options;
	r->lost = false;
	if (o->begin != NULL)
		PITH_TRY(o->begin(o->ctx, i, err));
	pith_xxh3_reset_128(hash);
	PITH_TRY(read_content(r, i, hash, err));
	PITH_TRY(check_member(r, i, hash, err));
	if (r->lost)
		return o->damaged != NULL ? o->damaged(o->ctx, i, err) : PITH_OK;
	return o->end != NULL ? o->end(o->ctx, i, err) : PITH_OK;
}

/* Segments that no selected member needs. */
static pith_status read_others(struct reading *r, struct pith_error *err)
{
	const struct archive_directory *d = &r->archive->directory;
	for (size_t s = 0; s < d->segment_count; s++)
		r->needed[s] = !r->needed[s];
	for (size_t s = 0; s < d->segment_count; s++) {
		const struct decoded *c = r->needed[s] ? get_segment(r, s) : NULL;
		if (c != NULL && c->status != PITH_OK)
			PITH_TRY(lose(r, SIZE_MAX, d->segments[s].content_off, d->segments[s].raw_nbytes, &c->err, err));
	}
	return PITH_OK;
}

static pith_status read_all(struct reading *r, struct pith_xxh3 *hash, struct pith_error *err)
{
	for (size_t i = 0; i < r->archive->directory.member_count; i++)
		if (r->selected == NULL || r->selected[i])
			PITH_TRY(read_member(r, i, hash, err));
	drop_batch(r);
	return r->options->every_segment ? read_others(r, err) : PITH_OK;
}

pith_status pith_archive_read(const struct pith_archive *a, const bool *selected,
                              const struct pith_archive_read_options *options,
                              struct pith_error *err)
{
	struct reading r = {
		.archive = a,
		.options = options,
		.memory_limit = options->memory_limit != 0 ? options->memory_limit : ARCHIVE_DEFAULT_MEMORY,
		.selected = selected,
	};
	const struct pith_executor *executor = options->executor;
	r.batch_cap = executor != NULL && executor->width > 1 ? executor->width * SEGMENTS_PER_THREAD : 1;
	archive_tally_start(&r.tally, options->progress, options->progress_ctx, 1);
	r.needed = needed_segments(a, selected);
	r.batch = calloc(r.batch_cap, sizeof(*r.batch));
	struct pith_xxh3 *hash = pith_xxh3_new();
	pith_status status = r.needed != NULL && r.batch != NULL && hash != NULL ?
	                             read_all(&r, hash, err) :
	                             pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
	                                       "no memory to read the archive");
	if (r.batch != NULL)
		drop_batch(&r);
	free(r.batch);
	free(r.needed);
	pith_xxh3_free(hash);
	return status;
}
