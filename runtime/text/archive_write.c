/*
 * Writing a text archive.  Content is gathered in chunks of segment_nbytes; a batch of chunks is coded side by
 * side, one thread a chunk, or, when a chunk is left alone, by all threads together; then the chunks go out in order.
 * What is written depends on the content and the options only.
 *
 * The limit on size (spec text_archive.md 15) is kept so: a chunk coded by the model must save
 * MODEL_MARGIN bytes, which pays for the headers beside it; chunks that zstd makes small
 * are joined, and each frame lacks 4 bytes or more that the command zstd writes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"

#include "checksum.h"
#include "frame_run.h"
#include "frame_zstd.h"
#include "text_archive.h"

#include <stdlib.h>

#define ZSTD_LEVEL 19
#define MODEL_MARGIN 64u
#define SMALL_FRAME_NBYTES 65536u /* from here on 0.5 % pays for a header */
#define CHUNKS_PER_THREAD 2u
/* Text and other content share a chunk only when one of them is smaller than this. */
#define CUT_NBYTES 4096u

struct chunk {
	uint8_t *raw;    /* [segment_nbytes] */
	size_t raw_nbytes;
	uint8_t *stored; /* [stored_cap]: a zstd frame or the model's code */
	size_t stored_nbytes;
	uint8_t *coded;  /* [stored_cap] work memory: code, then what it decodes to */
	enum segment_method method;
	bool verify_failed;
	pith_status status;
	struct pith_error err;
};

struct pith_archive_writer {
	struct pith_archive_writer_options options;
	struct archive_header header;
	struct archive_directory directory;
	uint64_t off;               /* bytes given to the sink */
	struct chunk *chunks;       /* [chunk_cap] */
	size_t chunk_cap, chunk_count, stored_cap;
	size_t chunks_done;         /* chunks of earlier batches */
	const struct pith_executor *inner; /* executor inside a chunk */
	struct run {                /* small zstd frames not yet written */
		uint8_t *stored;
		size_t stored_nbytes, stored_cap, raw_nbytes;
		struct pith_xxh3 *raw_hash;
	} run;
	struct pith_xxh3 *member_hash;
	bool member_open;
	bool cut;                   /* the next byte starts a chunk */
	bool binary;                /* what the current chunk holds */
	struct archive_tally tally;
	struct pith_archive_stats stats;
};

/* ---- one chunk ---- */

static pith_status try_model(struct pith_archive_writer *w, struct chunk *c, size_t index)
{
	const struct pith_archive_writer_options *o = &w->options;
	size_t margin = index > 0 ? MODEL_MARGIN : 0, nbytes = 0;
	size_t cap = c->stored_nbytes < c->raw_nbytes ? c->stored_nbytes : c->raw_nbytes;
	struct segment_plan plan = {
		.window = o->window, .overlap = o->overlap_plus_one - 1, .has_overlap = o->overlap_plus_one > 0,
		.stream_count = o->stream_count, .no_mix = o->no_mix,
	};
	struct segment_progress progress = {archive_tally_advance, &w->tally};
	if (cap <= margin + 1) {
		archive_tally_advance(&w->tally, 2 * c->raw_nbytes);
		return PITH_OK;
	}
	PITH_TRY(segment_model_encode(pith_text_coder_segment(o->coder), &plan, w->inner, o->memory_limit,
	                              &progress, c->raw, c->raw_nbytes, c->coded, cap - margin - 1,
	                              &nbytes, &c->err));
	if (nbytes == 0 || o->no_verify) {
		archive_tally_advance(&w->tally, c->raw_nbytes);
	} else {
		uint8_t *again = malloc(c->raw_nbytes);
		if (again == NULL)
			return pith_fail(&c->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
		struct pith_error ignored;
		c->verify_failed = segment_model_decode(pith_text_coder_segment(o->coder), w->inner,
		                                        o->memory_limit, &progress, c->coded, nbytes, 0,
		                                        again, c->raw_nbytes, &ignored) != PITH_OK ||
		                   memcmp(again, c->raw, c->raw_nbytes) != 0;
		free(again);
	}
	if (nbytes == 0 || c->verify_failed)
		return PITH_OK;
	uint8_t *swap = c->stored;
	c->stored = c->coded;
	c->coded = swap;
	c->stored_nbytes = nbytes;
	c->method = SEGMENT_MODEL;
	return PITH_OK;
}

static pith_status code_chunk(struct pith_archive_writer *w, struct chunk *c, size_t index)
{
	c->verify_failed = false;
	PITH_TRY(pith_frame_run_encode(c->raw, c->raw_nbytes, ZSTD_LEVEL, c->stored, w->stored_cap,
	                               &c->stored_nbytes, &c->err));
	c->method = SEGMENT_ZSTD;
	if (w->options.coder != NULL)
		PITH_TRY(try_model(w, c, index));
	else
		archive_tally_advance(&w->tally, 2 * c->raw_nbytes);
	bool worth_a_header = c->raw_nbytes >= SMALL_FRAME_NBYTES || index == 0;
	if (c->method == SEGMENT_ZSTD && c->stored_nbytes >= c->raw_nbytes && worth_a_header) {
		c->method = SEGMENT_STORED;
		memcpy(c->stored, c->raw, c->raw_nbytes);
		c->stored_nbytes = c->raw_nbytes;
	}
	return PITH_OK;
}

static void code_task(void *arg, size_t i)
{
	struct pith_archive_writer *w = arg;
	w->chunks[i].status = code_chunk(w, &w->chunks[i], w->chunks_done + i);
}

/* ---- writing ---- */

static pith_status put(struct pith_archive_writer *w, const void *data, size_t nbytes,
                       struct pith_error *err)
{
	PITH_TRY(w->options.sink(w->options.sink_ctx, data, nbytes, err));
	w->off += nbytes;
	return PITH_OK;
}

static pith_status put_segment(struct pith_archive_writer *w, enum segment_method method,
                               const uint8_t *stored, size_t stored_nbytes, size_t raw_nbytes,
                               uint64_t raw_xxh3, struct pith_error *err)
{
	struct archive_directory *d = &w->directory;
	if (d->segment_count == d->segment_cap) {
		size_t cap = d->segment_cap * 2 + 16;
		struct archive_segment *grown = realloc(d->segments, cap * sizeof(*grown));
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
		d->segments = grown;
		d->segment_cap = cap;
	}
	struct segment_header h = {
		.method = (uint32_t)method,
		.raw_nbytes = (uint32_t)raw_nbytes,
		.stored_nbytes = (uint32_t)stored_nbytes,
		.index = (uint32_t)d->segment_count,
		.raw_xxh3 = raw_xxh3,
		.stored_xxh3 = pith_xxh3_64(stored, stored_nbytes),
	};
	uint8_t bytes[ARCHIVE_SEGMENT_HEADER_NBYTES];
	segment_header_store(&h, bytes);
	d->segments[d->segment_count++] = (struct archive_segment){
		.off = w->off,
		.content_off = d->content_nbytes,
		.raw_nbytes = h.raw_nbytes,
		.stored_nbytes = h.stored_nbytes,
		.segment_xxh3 = pith_xxh3_64(bytes, sizeof(bytes)),
	};
	d->content_nbytes += raw_nbytes;
	PITH_TRY(put(w, bytes, sizeof(bytes), err));
	PITH_TRY(put(w, stored, stored_nbytes, err));
	archive_tally_stored(&w->tally, w->off);
	return PITH_OK;
}

static pith_status flush_run(struct pith_archive_writer *w, struct pith_error *err)
{
	struct run *run = &w->run;
	if (run->raw_nbytes == 0)
		return PITH_OK;
	size_t raw_nbytes = run->raw_nbytes;
	run->raw_nbytes = 0;
	return put_segment(w, SEGMENT_ZSTD, run->stored, run->stored_nbytes, raw_nbytes,
	                   pith_xxh3_digest_64(run->raw_hash), err);
}

static pith_status join_run(struct pith_archive_writer *w, const struct chunk *c,
                            struct pith_error *err)
{
	struct run *run = &w->run;
	if (run->raw_nbytes + c->raw_nbytes > ARCHIVE_MAX_RAW_NBYTES)
		PITH_TRY(flush_run(w, err));
	if (run->raw_nbytes == 0) {
		run->stored_nbytes = 0;
		pith_xxh3_reset_64(run->raw_hash);
	}
	if (run->stored_nbytes + c->stored_nbytes > run->stored_cap) {
		size_t cap = 2 * (run->stored_nbytes + c->stored_nbytes);
		uint8_t *grown = realloc(run->stored, cap);
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a segment");
		run->stored = grown;
		run->stored_cap = cap;
	}
	memcpy(run->stored + run->stored_nbytes, c->stored, c->stored_nbytes);
	run->stored_nbytes += c->stored_nbytes;
	run->raw_nbytes += c->raw_nbytes;
	pith_xxh3_update_64(run->raw_hash, c->raw, c->raw_nbytes);
	return PITH_OK;
}

static pith_status put_chunk(struct pith_archive_writer *w, const struct chunk *c,
                             struct pith_error *err)
{
	if (c->method == SEGMENT_ZSTD && c->stored_nbytes < SMALL_FRAME_NBYTES)
		return join_run(w, c, err);
	PITH_TRY(flush_run(w, err));
	if (c->method == SEGMENT_MODEL) {
		w->stats.model_segments++;
		w->stats.model_content_nbytes += c->raw_nbytes;
		w->stats.model_stored_nbytes += c->stored_nbytes + ARCHIVE_SEGMENT_HEADER_NBYTES;
	}
	return put_segment(w, c->method, c->stored, c->stored_nbytes, c->raw_nbytes,
	                   pith_xxh3_64(c->raw, c->raw_nbytes), err);
}

/* Code the gathered chunks, side by side as far as they fill the threads, and write them. */
static pith_status code_batch(struct pith_archive_writer *w, struct pith_error *err)
{
	const struct pith_executor *executor = w->options.executor;
	size_t width = executor != NULL && executor->width > 1 ? executor->width : 1;
	size_t together = w->chunk_count / width * width;
	if (2 * (w->chunk_count - together) > width)
		together = w->chunk_count;
	if (width > 1 && together > 1) {
		w->inner = NULL;
		executor->run(executor, code_task, w, together);
	} else {
		together = 0;
	}
	w->inner = executor;
	for (size_t i = together; i < w->chunk_count; i++)
		code_task(w, i);
	for (size_t i = 0; i < w->chunk_count; i++) {
		struct chunk *c = &w->chunks[i];
		if (c->status != PITH_OK) {
			if (err != NULL)
				*err = c->err;
			return c->status;
		}
		w->stats.verify_failures += c->verify_failed ? 1 : 0;
		PITH_TRY(put_chunk(w, c, err));
		c->raw_nbytes = 0;
	}
	w->chunks_done += w->chunk_count;
	w->chunk_count = 0;
	return PITH_OK;
}

/* ---- members ---- */

static void close_member(struct pith_archive_writer *w)
{
	if (w->member_open) {
		struct pith_archive_member *m = &w->directory.members[w->directory.member_count - 1];
		if (m->kind == PITH_MEMBER_FILE)
			pith_xxh3_digest_128(w->member_hash, m->content_xxh3);
	}
	w->member_open = false;
}

static pith_status grow_members(struct archive_directory *d, struct pith_error *err)
{
	if (d->member_count < d->member_cap)
		return PITH_OK;
	size_t cap = d->member_cap * 2 + 16;
	struct pith_archive_member *members = realloc(d->members, cap * sizeof(*members));
	if (members != NULL)
		d->members = members;
	uint64_t *offs = realloc(d->content_off, cap * sizeof(*offs));
	if (offs != NULL)
		d->content_off = offs;
	if (members == NULL || offs == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	d->member_cap = cap;
	return PITH_OK;
}

/* One block for both strings; freed through 'name'. */
static pith_status copy_strings(struct pith_archive_member *m, struct pith_error *err)
{
	char *copy = malloc(m->name_nbytes + m->target_nbytes + 2);
	if (copy == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	memcpy(copy, m->name, m->name_nbytes);
	copy[m->name_nbytes] = '\0';
	if (m->target_nbytes > 0)
		memcpy(copy + m->name_nbytes + 1, m->target, m->target_nbytes);
	copy[m->name_nbytes + 1 + m->target_nbytes] = '\0';
	m->name = copy;
	m->target = copy + m->name_nbytes + 1;
	return PITH_OK;
}

pith_status pith_archive_writer_member(struct pith_archive_writer *w,
                                       const struct pith_archive_member *member,
                                       struct pith_error *err)
{
	struct archive_directory *d = &w->directory;
	bool is_link = member->kind == PITH_MEMBER_LINK;
	if (!archive_name_is_valid(member->name, member->name_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.15",
		                 "'%.100s' cannot be the name of a member", member->name);
	if (member->mode > 07777 || member->mtime_nsec > 999999999u || member->target_nbytes > 4095 ||
	    (member->target_nbytes > 0) != is_link)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.13",
		                 "mode, time or target of '%.100s' cannot be stored", member->name);
	close_member(w);
	PITH_TRY(grow_members(d, err));
	struct pith_archive_member m = *member;
	m.nbytes = 0;
	m.segment = 0;
	m.offset = 0;
	memset(m.content_xxh3, 0, sizeof(m.content_xxh3));
	PITH_TRY(copy_strings(&m, err));
	d->members[d->member_count] = m;
	d->content_off[d->member_count] = w->stats.content_nbytes;
	d->member_count++;
	w->member_open = true;
	pith_xxh3_reset_128(w->member_hash);
	return PITH_OK;
}

/*
 * Is this the beginning of something that no text model will like?  One byte in 32 that is a control character or
 * not UTF-8 says so.  A wrong guess costs size, never correctness: it only decides where a chunk ends.
 */
static bool looks_binary(const uint8_t *p, size_t nbytes)
{
	size_t odd = 0;
	for (size_t i = 0; i < nbytes; i++) {
		bool is_control = p[i] < 0x20 && !(p[i] >= 0x09 && p[i] <= 0x0d) && p[i] != 0x1b;
		bool is_tail = (p[i] & 0xc0) == 0x80;
		bool wants_tail = i > 0 && p[i - 1] >= 0xc0;
		bool after_tail = i > 0 && p[i - 1] >= 0x80;
		odd += is_control || (is_tail && !after_tail) || (wants_tail && !is_tail) ? 1 : 0;
	}
	return odd * 32 > nbytes;
}

/* At the start of a member: text and binary content do not share a segment, or neither gets its method. */
static void choose_cut(struct pith_archive_writer *w, const uint8_t *p, size_t nbytes)
{
	const struct chunk *c = w->chunk_count > 0 ? &w->chunks[w->chunk_count - 1] : NULL;
	bool binary = looks_binary(p, nbytes < CUT_NBYTES ? nbytes : CUT_NBYTES);
	bool is_new = c == NULL || c->raw_nbytes == w->header.segment_nbytes;
	if (!is_new && (nbytes < CUT_NBYTES || c->raw_nbytes < CUT_NBYTES || binary == w->binary))
		return;
	w->cut = !is_new;
	w->binary = binary;
}

pith_status pith_archive_writer_data(struct pith_archive_writer *w, const void *data, size_t nbytes,
                                     struct pith_error *err)
{
	const uint8_t *p = data;
	if (!w->member_open || w->directory.members[w->directory.member_count - 1].kind != PITH_MEMBER_FILE)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "no file was begun");
	if (w->directory.members[w->directory.member_count - 1].nbytes == 0 && nbytes > 0)
		choose_cut(w, p, nbytes);
	pith_xxh3_update_128(w->member_hash, data, nbytes);
	w->directory.members[w->directory.member_count - 1].nbytes += nbytes;
	w->stats.content_nbytes += nbytes;
	while (nbytes > 0) {
		/* coded only when more comes: the end of the content may be coded otherwise */
		struct chunk *c = w->chunk_count > 0 ? &w->chunks[w->chunk_count - 1] : NULL;
		if (c == NULL || c->raw_nbytes == w->header.segment_nbytes || w->cut) {
			w->cut = false;
			if (w->chunk_count == w->chunk_cap)
				PITH_TRY(code_batch(w, err));
			c = &w->chunks[w->chunk_count++];
			c->raw_nbytes = 0;
		}
		size_t room = w->header.segment_nbytes - c->raw_nbytes;
		size_t take = nbytes < room ? nbytes : room;
		memcpy(c->raw + c->raw_nbytes, p, take);
		c->raw_nbytes += take;
		p += take;
		nbytes -= take;
	}
	return PITH_OK;
}

/* Positions in segments, which are known only now. */
static void place_members(struct archive_directory *d)
{
	size_t s = 0;
	for (size_t i = 0; i < d->member_count; i++) {
		struct pith_archive_member *m = &d->members[i];
		if (m->nbytes == 0)
			continue;
		while (d->segments[s].content_off + d->segments[s].raw_nbytes <= d->content_off[i])
			s++;
		m->segment = (uint32_t)s;
		m->offset = (uint32_t)(d->content_off[i] - d->segments[s].content_off);
	}
}

static pith_status put_directory(struct pith_archive_writer *w, struct pith_error *err)
{
	uint8_t *plain, *packed = NULL, bytes[ARCHIVE_TRAILER_NBYTES];
	size_t plain_nbytes, packed_nbytes;
	place_members(&w->directory);
	PITH_TRY(archive_directory_store(&w->directory, w->header.header_xxh3, &plain, &plain_nbytes, err));
	pith_status status = pith_frame_encode(plain, plain_nbytes, ZSTD_LEVEL, &packed, &packed_nbytes, err);
	if (status == PITH_OK) {
		bool is_packed = packed_nbytes < plain_nbytes;
		struct archive_trailer t = {
			.directory_encoding = is_packed ? 1 : 0,
			.directory_off = w->off,
			.directory_stored_nbytes = is_packed ? packed_nbytes : plain_nbytes,
			.directory_nbytes = plain_nbytes,
		};
		t.archive_nbytes = t.directory_off + t.directory_stored_nbytes + ARCHIVE_TRAILER_NBYTES;
		const uint8_t *stored = is_packed ? packed : plain;
		pith_xxh3_128(stored, (size_t)t.directory_stored_nbytes, t.archive_root);
		archive_trailer_store(&t, bytes);
		status = put(w, stored, (size_t)t.directory_stored_nbytes, err);
	}
	free(plain);
	free(packed);
	return status == PITH_OK ? put(w, bytes, sizeof(bytes), err) : status;
}

pith_status pith_archive_writer_finish(struct pith_archive_writer *w,
                                       struct pith_archive_stats *stats, struct pith_error *err)
{
	close_member(w);
	if (w->chunk_count > 0)
		PITH_TRY(code_batch(w, err));
	PITH_TRY(flush_run(w, err));
	PITH_TRY(put_directory(w, err));
	w->stats.archive_nbytes = w->off;
	w->stats.segments = w->directory.segment_count;
	if (stats != NULL)
		*stats = w->stats;
	return PITH_OK;
}

/* ---- making and freeing ---- */

static bool allocate_chunks(struct pith_archive_writer *w)
{
	const struct pith_executor *executor = w->options.executor;
	w->chunk_cap = executor != NULL && executor->width > 1 ? executor->width * CHUNKS_PER_THREAD : 1;
	w->stored_cap = pith_frame_run_bound(w->header.segment_nbytes);
	w->chunks = calloc(w->chunk_cap, sizeof(*w->chunks));
	for (size_t i = 0; w->chunks != NULL && i < w->chunk_cap; i++) {
		struct chunk *c = &w->chunks[i];
		c->raw = malloc(w->header.segment_nbytes);
		c->stored = malloc(w->stored_cap);
		c->coded = malloc(w->stored_cap);
		if (c->raw == NULL || c->stored == NULL || c->coded == NULL)
			return false;
	}
	w->run.raw_hash = pith_xxh3_new();
	w->member_hash = pith_xxh3_new();
	return w->chunks != NULL && w->run.raw_hash != NULL && w->member_hash != NULL;
}

pith_status pith_archive_writer_new(const struct pith_archive_writer_options *options,
                                    struct pith_archive_writer **out, struct pith_error *err)
{
	*out = NULL;
	uint32_t size = options->segment_nbytes != 0 ? options->segment_nbytes : PITH_DEFAULT_SEGMENT_NBYTES;
	if (options->sink == NULL || size < PITH_MIN_SEGMENT_NBYTES || size > PITH_MAX_SEGMENT_NBYTES)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.2",
		                 "segments have %u to %u bytes", PITH_MIN_SEGMENT_NBYTES,
		                 PITH_MAX_SEGMENT_NBYTES);
	struct pith_archive_writer *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	w->options = *options;
	if (w->options.memory_limit == 0)
		w->options.memory_limit = ARCHIVE_DEFAULT_MEMORY;
	w->header.segment_nbytes = size;
	archive_tally_start(&w->tally, options->progress, options->progress_ctx, 2);
	if (options->coder != NULL) {
		const struct text_lm *lm = pith_text_coder_segment(options->coder)->lm;
		w->header.numerics_version = lm->numerics_version;
		w->header.mixing = !w->options.no_mix;
		memcpy(w->header.model_identity, lm->identity, 16);
	}
	uint8_t bytes[ARCHIVE_HEADER_NBYTES];
	archive_header_store(&w->header, bytes);
	pith_status status = allocate_chunks(w) ? put(w, bytes, sizeof(bytes), err) :
	                                          pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
	                                                    "no memory for the archive");
	if (status != PITH_OK)
		pith_archive_writer_free(w);
	else
		*out = w;
	return status;
}

void pith_archive_writer_free(struct pith_archive_writer *w)
{
	if (w == NULL)
		return;
	for (size_t i = 0; w->chunks != NULL && i < w->chunk_cap; i++) {
		free(w->chunks[i].raw);
		free(w->chunks[i].stored);
		free(w->chunks[i].coded);
	}
	free(w->chunks);
	free(w->run.stored);
	pith_xxh3_free(w->run.raw_hash);
	pith_xxh3_free(w->member_hash);
	for (size_t i = 0; i < w->directory.member_count; i++) {
		char *name;
		memcpy(&name, &w->directory.members[i].name, sizeof(name)); /* ours: copy_strings() */
		free(name);
	}
	archive_directory_free(&w->directory);
	free(w);
}
