/*
 * Reading a text archive: open, find, decode selected members.  Members are visited in order of
 * content, so segments are needed in ascending order and each is decoded once; a batch of
 * them is decoded side by side, one thread a segment.
 *
 * Nothing is handed out before its segment's checksum matches, and a member is not
 * called complete before its own does.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"

#include "checksum.h"
#include "frame_run.h"
#include "frame_zstd.h"
#include "text_archive.h"

#include <stdio.h>
#include <stdlib.h>

#define SEGMENTS_PER_THREAD 2u

struct pith_archive {
	struct pith_archive_source source;
	struct archive_header header;
	struct archive_trailer trailer;
	struct archive_directory directory;
};

/* ---- opening ---- */

/* *plain: the decoded directory, which the caller frees; it may be 'stored' itself. */
static pith_status unpack_directory(const struct archive_trailer *t, uint8_t *stored, uint8_t **plain,
                                    struct pith_error *err)
{
	size_t stored_nbytes = (size_t)t->directory_stored_nbytes, nbytes = (size_t)t->directory_nbytes;
	uint8_t root[16];
	*plain = stored;
	pith_xxh3_128(stored, stored_nbytes, root);
	// spec text.10: "archive_root matches the stored directory, which decodes to exactly directory_nbytes bytes"
	if (memcmp(root, t->archive_root, sizeof(root)) != 0)
		return pith_fail(err, PITH_E_CORRUPT, t->directory_off, "text.10", "the directory is damaged");
	if (t->directory_encoding == 0)
		return PITH_OK;
	PITH_TRY(pith_frame_check(stored, stored_nbytes, nbytes, t->directory_off, err));
	*plain = malloc(nbytes);
	if (*plain == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	return pith_frame_decode(stored, stored_nbytes, *plain, nbytes, t->directory_off, err);
}

static pith_status load_directory(struct pith_archive *a, struct pith_error *err)
{
	const struct archive_trailer *t = &a->trailer;
	uint8_t *stored = malloc((size_t)t->directory_stored_nbytes + 1), *plain = stored;
	if (stored == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	pith_status status = a->source.read_at(a->source.ctx, t->directory_off, stored,
	                                       (size_t)t->directory_stored_nbytes, err);
	if (status == PITH_OK)
		status = unpack_directory(t, stored, &plain, err);
	if (status == PITH_OK)
		status = archive_directory_load(plain, (size_t)t->directory_nbytes, a->header.header_xxh3,
		                                t->directory_off, &a->directory, err);
	if (plain != stored)
		free(plain);
	free(stored);
	return status;
}

static pith_status load_ends(struct pith_archive *a, struct pith_error *err)
{
	uint8_t bytes[ARCHIVE_HEADER_NBYTES];
	uint64_t nbytes = a->source.nbytes;
	size_t head = nbytes < sizeof(bytes) ? (size_t)nbytes : sizeof(bytes);
	PITH_TRY(a->source.read_at(a->source.ctx, 0, bytes, head, err));
	PITH_TRY(archive_header_load(bytes, head, &a->header, err));
	if (nbytes < ARCHIVE_HEADER_NBYTES + ARCHIVE_TRAILER_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "text.8",
		                 "no trailer at the end: the archive is cut off");
	PITH_TRY(a->source.read_at(a->source.ctx, nbytes - ARCHIVE_TRAILER_NBYTES, bytes,
	                           ARCHIVE_TRAILER_NBYTES, err));
	return archive_trailer_load(bytes, nbytes, &a->trailer, err);
}

pith_status pith_archive_open(const struct pith_archive_source *source, struct pith_archive **out,
                              struct pith_error *err)
{
	*out = NULL;
	struct pith_archive *a = calloc(1, sizeof(*a));
	if (a == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	a->source = *source;
	pith_status status = load_ends(a, err);
	if (status == PITH_OK)
		status = load_directory(a, err);
	if (status != PITH_OK)
		pith_archive_close(a);
	else
		*out = a;
	return status;
}

void pith_archive_close(struct pith_archive *a)
{
	if (a == NULL)
		return;
	archive_directory_free(&a->directory);
	free(a);
}

void pith_archive_info(const struct pith_archive *a, struct pith_archive_info *out)
{
	*out = (struct pith_archive_info){
		.numerics_version = a->header.numerics_version,
		.segment_nbytes = a->header.segment_nbytes,
		.segment_count = a->directory.segment_count,
		.member_count = a->directory.member_count,
		.content_nbytes = a->directory.content_nbytes,
		.archive_nbytes = a->source.nbytes,
	};
	memcpy(out->model_identity, a->header.model_identity, 16);
	memcpy(out->archive_root, a->trailer.archive_root, 16);
}

const struct pith_archive_member *pith_archive_member_at(const struct pith_archive *a, size_t i)
{
	return &a->directory.members[i];
}

size_t pith_archive_find(const struct pith_archive *a, const char *name)
{
	size_t nbytes = strlen(name);
	for (size_t i = 0; i < a->directory.member_count; i++) {
		const struct pith_archive_member *m = &a->directory.members[i];
		if (m->name_nbytes == nbytes && memcmp(m->name, name, nbytes) == 0)
			return i;
	}
	return SIZE_MAX;
}

uint64_t pith_archive_member_stored(const struct pith_archive *a, size_t i)
{
	const struct pith_archive_member *m = &a->directory.members[i];
	uint64_t begin = a->directory.content_off[i], end = begin + m->nbytes, total = 0;
	if (m->nbytes == 0)
		return 0;
	for (size_t s = m->segment; s < a->directory.segment_count; s++) {
		const struct archive_segment *g = &a->directory.segments[s];
		if (g->content_off >= end)
			break;
		uint64_t from = begin > g->content_off ? begin : g->content_off;
		uint64_t until = g->content_off + g->raw_nbytes;
		until = until < end ? until : end;
		total += ((uint64_t)g->stored_nbytes + ARCHIVE_SEGMENT_HEADER_NBYTES) * (until - from) /
		         g->raw_nbytes;
	}
	return total;
}

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
		uint64_t end = d->content_off[i] + m->nbytes;
		for (size_t s = m->segment; s < d->segment_count && d->segments[s].content_off < end; s++)
			needed[s] = true;
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

static pith_status load_segment_header(const struct pith_archive *a, size_t s,
                                       struct segment_header *h, struct pith_error *err)
{
	const struct archive_segment *g = &a->directory.segments[s];
	uint8_t bytes[ARCHIVE_SEGMENT_HEADER_NBYTES];
	PITH_TRY(a->source.read_at(a->source.ctx, g->off, bytes, sizeof(bytes), err));
	PITH_TRY(segment_header_load(bytes, g->off, h, err));
	// spec text.16: "segment_xxh3 matches and sizes and index agree"
	if (pith_xxh3_64(bytes, sizeof(bytes)) != g->segment_xxh3 || h->raw_nbytes != g->raw_nbytes ||
	    h->stored_nbytes != g->stored_nbytes || h->index != s)
		return pith_fail(err, PITH_E_CORRUPT, g->off, "text.16",
		                 "the segment is not the one that the directory names");
	return PITH_OK;
}

pith_status pith_archive_needs_model(const struct pith_archive *a, const bool *selected, bool *out,
                                     struct pith_error *err)
{
	*out = false;
	bool *needed = needed_segments(a, selected);
	if (needed == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to read the archive");
	pith_status status = PITH_OK;
	for (size_t s = 0; s < a->directory.segment_count && status == PITH_OK && !*out; s++) {
		struct segment_header h;
		if (!needed[s])
			continue;
		status = load_segment_header(a, s, &h, err);
		*out = status == PITH_OK && h.method == SEGMENT_MODEL;
	}
	free(needed);
	return status;
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
};

static pith_status check_coder(const struct reading *r, struct pith_error *err)
{
	const struct pith_archive *a = r->archive;
	char wanted[33];
	for (size_t i = 0; i < 16; i++)
		snprintf(wanted + 2 * i, 3, "%02x", (unsigned)a->header.model_identity[i]);
	if (r->options->coder == NULL)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs the model with identity %s", wanted);
	const struct text_lm *lm = pith_text_coder_segment(r->options->coder)->lm;
	if (memcmp(lm->identity, a->header.model_identity, 16) != 0)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs the model with identity %s, not the one given", wanted);
	if (lm->numerics_version != a->header.numerics_version)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs numerics version %u, the model has %u", a->header.numerics_version,
		                 lm->numerics_version);
	return PITH_OK;
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

static pith_status decode_segment(struct reading *r, struct decoded *d, uint8_t *stored,
                                  const struct segment_header *h)
{
	const struct pith_archive *a = r->archive;
	uint64_t off = a->directory.segments[d->index].off + ARCHIVE_SEGMENT_HEADER_NBYTES;
	PITH_TRY(a->source.read_at(a->source.ctx, off, stored, h->stored_nbytes, &d->err));
	// spec text.5: "stored_xxh3 matches the payload, and raw_xxh3 the decoded content"
	if (pith_xxh3_64(stored, h->stored_nbytes) != h->stored_xxh3)
		return pith_fail(&d->err, PITH_E_CORRUPT, off, "text.5", "the payload is damaged");
	PITH_TRY(decode_payload(r, h, stored, off, d->raw, &d->err));
	if (pith_xxh3_64(d->raw, h->raw_nbytes) != h->raw_xxh3)
		return pith_fail(&d->err, PITH_E_CORRUPT, off, "text.5",
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
	uint8_t *stored = malloc(h.stored_nbytes);
	d->raw = malloc(h.raw_nbytes);
	d->status = stored != NULL && d->raw != NULL ?
	                    decode_segment(r, d, stored, &h) :
	                    pith_fail(&d->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
	free(stored);
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
	if (err == NULL)
		return;
	*err = d->err;
	char head[96];
	snprintf(head, sizeof(head), "segment %zu, needed for '%.50s': ", d->index, m->name);
	snprintf(err->msg, sizeof(err->msg), "%.95s%.103s", head, d->err.msg);
}

/* Decoded content of segment s for member i, borrowed until the next call. */
static pith_status get_segment(struct reading *r, size_t s, size_t i, const uint8_t **raw,
                               struct pith_error *err)
{
	for (int tries = 0; tries < 2; tries++) {
		for (size_t k = 0; k < r->batch_count; k++) {
			const struct decoded *d = &r->batch[k];
			if (d->index != s)
				continue;
			*raw = d->raw;
			if (d->status != PITH_OK)
				name_fault(d, &r->archive->directory.members[i], err);
			return d->status;
		}
		load_batch(r, s);
	}
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "segment %zu was not asked for", s);
}

/* ---- members ---- */

static pith_status read_content(struct reading *r, size_t i, struct pith_xxh3 *hash,
                                struct pith_error *err)
{
	const struct archive_directory *d = &r->archive->directory;
	uint64_t at = d->content_off[i], end = at + d->members[i].nbytes;
	for (size_t s = d->members[i].segment; at < end; s++) {
		const struct archive_segment *g = &d->segments[s];
		const uint8_t *raw = NULL;
		PITH_TRY(get_segment(r, s, i, &raw, err));
		size_t skip = (size_t)(at - g->content_off), take = g->raw_nbytes - skip;
		take = take < end - at ? take : (size_t)(end - at);
		pith_xxh3_update_128(hash, raw + skip, take);
		if (r->options->data != NULL)
			PITH_TRY(r->options->data(r->options->ctx, raw + skip, take, err));
		at += take;
	}
	return PITH_OK;
}

static pith_status read_member(struct reading *r, size_t i, struct pith_xxh3 *hash,
                               struct pith_error *err)
{
	const struct pith_archive_member *m = &r->archive->directory.members[i];
	uint8_t digest[16];
	if (r->options->begin != NULL)
		PITH_TRY(r->options->begin(r->options->ctx, i, err));
	pith_xxh3_reset_128(hash);
	PITH_TRY(read_content(r, i, hash, err));
	pith_xxh3_digest_128(hash, digest);
	// spec text.17: "The content of a file matches its content_xxh3."
	if (m->kind == PITH_MEMBER_FILE && memcmp(digest, m->content_xxh3, 16) != 0)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.17",
		                 "the content of '%.100s' does not match its checksum", m->name);
	return r->options->end != NULL ? r->options->end(r->options->ctx, i, err) : PITH_OK;
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
	pith_status status = PITH_OK;
	if (r.needed == NULL || r.batch == NULL || hash == NULL)
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to read the archive");
	for (size_t i = 0; i < a->directory.member_count && status == PITH_OK; i++)
		if (selected == NULL || selected[i])
			status = read_member(&r, i, hash, err);
	if (r.batch != NULL)
		drop_batch(&r);
	free(r.batch);
	free(r.needed);
	pith_xxh3_free(hash);
	return status;
}
