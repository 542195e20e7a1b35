/*
 * Writing a text archive: members come in, content is gathered in chunks of segment_nbytes; a batch of chunks is
 * coded side by side, one thread a chunk, or, when a chunk is left alone, by all threads together; then the chunks go out
 * in order.  What is written depends on the content and the options only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_writer.h"

#include "archive_reader.h"
#include "checksum.h"
#include "frame_run.h"

#include <stdlib.h>

#define CHUNKS_PER_THREAD 2u
/* Text and other content share a chunk only when one of them is smaller than this. */
#define CUT_NBYTES 4096u
#define BLOCK_NBYTES ((uint64_t)1 << 16)
/* All that waits goes out when the records of its members take this much, a quarter of what a segment may have. */
#define RECORDS_NBYTES ((size_t)1 << 22)
#define RECORD_FIELDS_NBYTES 64u /* of a record without its strings, at most */

/* ---- chunks ---- */

/* Code the gathered chunks, side by side as far as they fill the threads, and write them. */
static void code_task(void *arg, size_t i)
{
	struct pith_archive_writer *w = arg;
	chunk_code(w, &w->chunks[i]);
}

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
	}
	w->chunks_done += w->chunk_count;
	w->chunk_count = 0;
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
		bool is_tail = (p[i] & 0xc0) == 0x80;
		bool wants_tail = i > 0 && p[i - 1] >= 0xc0;
		bool after_tail = i > 0 && p[i - 1] >= 0x80;
		odd += archive_is_control(p[i]) || (is_tail && !after_tail) || (wants_tail && !is_tail) ? 1 : 0;
	}
	return odd * ARCHIVE_BINARY_SHARE > nbytes;
}

/* The member whose content is at 'off': from *m on, which advances. */
static uint64_t member_begin(const struct archive_directory *d, uint64_t off, size_t *m)
{
	while (*m + 1 < d->member_count && d->members[*m].content_off + d->members[*m].nbytes <= off)
		++*m;
	return d->members[*m].content_off;
}

/*
 * How many bytes of 'fill' make the next chunk: all, or up to where text borders on what is not, or neither gets its
 * method.
 */
static size_t find_cut(struct pith_archive_writer *w)
{
	const struct archive_directory *d = &w->directory;
	uint64_t end = w->fill_off + w->fill_nbytes, at = w->fill_off;
	member_begin(d, at, &w->cut_member);
	size_t m = w->cut_member;
	bool binary = false;
	while (at < end) {
		uint64_t begin = member_begin(d, at, &m), next = begin + ((at - begin) / BLOCK_NBYTES + 1) * BLOCK_NBYTES;
		uint64_t member_end = begin + d->members[m].nbytes;
		next = next < member_end ? next : member_end;
		next = next < end ? next : end;
		size_t passed = (size_t)(at - w->fill_off), span = (size_t)(next - at);
		bool is_binary = looks_binary(w->fill + passed, span < CUT_NBYTES ? span : CUT_NBYTES);
		if (passed >= CUT_NBYTES && span >= CUT_NBYTES && is_binary != binary)
			return passed;
		if (passed < CUT_NBYTES)
			binary = is_binary;
		at = next;
	}
	return w->fill_nbytes;
}

/* Move the front of 'fill' to a chunk; coding starts when there are enough of them. */
static pith_status push_chunk(struct pith_archive_writer *w, struct pith_error *err)
{
	size_t take = find_cut(w);
	if (w->chunk_count == w->chunk_cap)
		PITH_TRY(code_batch(w, err));
	struct chunk *c = &w->chunks[w->chunk_count];
	c->is_first = w->chunks_done + w->chunk_count == 0 && w->options.append_to == NULL;
	memcpy(c->raw, w->fill, take);
	c->raw_nbytes = take;
	w->chunk_count++;
	w->fill_nbytes -= take;
	w->fill_off += take;
	memmove(w->fill, w->fill + take, w->fill_nbytes);
	return PITH_OK;
}

/* Everything that waits, and the records of members without content behind it. */
static pith_status flush_all(struct pith_archive_writer *w, struct pith_error *err)
{
	while (w->fill_nbytes > 0)
		PITH_TRY(push_chunk(w, err));
	PITH_TRY(code_batch(w, err));
	PITH_TRY(put_run(w, true, err));
	w->records_nbytes = 0;
	return put_records(w, err);
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

pith_status pith_archive_writer_member(struct pith_archive_writer *w,
                                       const struct pith_archive_member *member,
                                       struct pith_error *err)
{
	if (!archive_name_is_valid(member->name, member->name_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.15",
		                 "'%.100s' cannot be the name of a member", member->name);
	if (!archive_member_is_valid(member))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.13",
		                 "mode, time, owner or target of '%.100s' cannot be stored", member->name);
	struct pith_archive_member m = *member;
	struct record_strings strings = archive_member_strings(member);
	m.nbytes = 0;
	m.content_off = w->fill_off + w->fill_nbytes;
	m.is_open_ended = m.is_replaced = m.is_dropped = false;
	memset(m.content_xxh3, 0, sizeof(m.content_xxh3));
	close_member(w);
	if (w->records_nbytes > RECORDS_NBYTES)
		PITH_TRY(flush_all(w, err));
	PITH_TRY(archive_directory_add_member(&w->directory, &m, &strings, &w->replaced, err));
	w->records_nbytes += RECORD_FIELDS_NBYTES + strings.name_nbytes + strings.target_nbytes +
	                     strings.uname_nbytes + strings.gname_nbytes;
	w->stats.members++;
	w->stats.replaced += w->replaced != SIZE_MAX ? 1 : 0;
	w->member_open = true;
	pith_xxh3_reset_128(w->member_hash);
	return PITH_OK;
}

pith_status pith_archive_writer_data(struct pith_archive_writer *w, const void *data, size_t nbytes,
                                     struct pith_error *err)
{
	const uint8_t *p = data;
	struct pith_archive_member *m =
		w->member_open ? &w->directory.members[w->directory.member_count - 1] : NULL;
	if (m == NULL || m->kind != PITH_MEMBER_FILE)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "no file was begun");
	pith_xxh3_update_128(w->member_hash, data, nbytes);
	m->nbytes += nbytes;
	w->stats.content_nbytes += nbytes;
	while (nbytes > 0) {
		if (w->fill_nbytes == w->header.segment_nbytes)
			PITH_TRY(push_chunk(w, err));
		size_t room = w->header.segment_nbytes - w->fill_nbytes;
		size_t take = nbytes < room ? nbytes : room;
		memcpy(w->fill + w->fill_nbytes, p, take);
		w->fill_nbytes += take;
		p += take;
		nbytes -= take;
	}
	return PITH_OK;
}

pith_status pith_archive_writer_drop(struct pith_archive_writer *w, struct pith_error *err)
{
	if (!w->member_open)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "no member was begun");
	close_member(w);
	w->stats.members--;
	w->stats.content_nbytes -= w->directory.members[w->directory.member_count - 1].nbytes;
	w->stats.replaced -= w->replaced != SIZE_MAX ? 1 : 0;
	return archive_directory_drop_last(&w->directory, w->replaced, err);
}

pith_status pith_archive_writer_finish(struct pith_archive_writer *w,
                                       struct pith_archive_stats *stats, struct pith_error *err)
{
	close_member(w);
	PITH_TRY(flush_all(w, err));
	PITH_TRY(put_end(w, err));
	w->stats.archive_nbytes = w->off;
	w->stats.segments = w->directory.segment_count;
	w->stats.segment_memory_nbytes = chunk_memory(w);
	if (stats != NULL)
		*stats = w->stats;
	return PITH_OK;
}

/* ---- making and freeing ---- */

static bool allocate_buffers(struct pith_archive_writer *w)
{
	const struct pith_executor *executor = w->options.executor;
	w->chunk_cap = executor != NULL && executor->width > 1 ? executor->width * CHUNKS_PER_THREAD : 1;
	w->stored_cap = pith_frame_run_bound(w->header.segment_nbytes);
	w->fill = malloc(w->header.segment_nbytes);
	w->run.raw_cap = w->header.segment_nbytes > ARCHIVE_WHOLE_NBYTES ? w->header.segment_nbytes :
	                                                                  ARCHIVE_WHOLE_NBYTES;
	w->run.raw = malloc(w->run.raw_cap);
	w->chunks = calloc(w->chunk_cap, sizeof(*w->chunks));
	for (size_t i = 0; w->chunks != NULL && i < w->chunk_cap; i++) {
		struct chunk *c = &w->chunks[i];
		c->raw = malloc(w->header.segment_nbytes);
		c->stored = malloc(w->stored_cap);
		c->coded = malloc(w->stored_cap);
		if (c->raw == NULL || c->stored == NULL || c->coded == NULL)
			return false;
	}
	w->member_hash = pith_xxh3_new();
	w->payload_hash = pith_xxh3_new();
	return w->fill != NULL && w->run.raw != NULL && w->chunks != NULL && w->member_hash != NULL &&
	       w->payload_hash != NULL;
}

/* Header and directory of the archive that is added to. */
static pith_status continue_archive(struct pith_archive_writer *w, struct pith_error *err)
{
	const struct pith_archive *a = w->options.append_to;
	w->header = a->header;
	w->off = a->trailer.archive_nbytes;
	w->begin = a->begin;
	if (w->options.coder != NULL) {
		const struct text_lm *lm = pith_text_coder_segment(w->options.coder)->lm;
		PITH_TRY(archive_check_model(a, lm->identity, lm->numerics_version, err));
		w->options.no_mix = w->options.no_mix || !w->header.mixing;
	}
	PITH_TRY(archive_directory_copy(&a->directory, &w->directory, err));
	w->fill_off = w->directory.content_nbytes;
	w->next_record = w->cut_member = w->directory.member_count;
	return PITH_OK;
}

static void describe_archive(struct pith_archive_writer *w, uint32_t segment_nbytes)
{
	w->header.segment_nbytes = segment_nbytes;
	w->header.model_nbytes = w->options.embed != NULL ? w->options.embed_nbytes : 0;
	w->begin = ARCHIVE_HEADER_NBYTES + w->header.model_nbytes;
	if (w->options.coder != NULL) {
		const struct text_lm *lm = pith_text_coder_segment(w->options.coder)->lm;
		w->header.numerics_version = lm->numerics_version;
		w->header.mixing = !w->options.no_mix;
		memcpy(w->header.model_identity, lm->identity, 16);
	}
}

static pith_status put_beginning(struct pith_archive_writer *w, struct pith_error *err)
{
	uint8_t bytes[ARCHIVE_HEADER_NBYTES];
	archive_header_store(&w->header, bytes);
	PITH_TRY(put_out(w, bytes, sizeof(bytes), err));
	return w->header.model_nbytes > 0 ? put_out(w, w->options.embed, w->options.embed_nbytes, err) : PITH_OK;
}

static pith_status start_writer(struct pith_archive_writer *w, uint32_t segment_nbytes, struct pith_error *err)
{
	bool appends = w->options.append_to != NULL;
	w->last_file = SIZE_MAX;
	if (appends)
		PITH_TRY(continue_archive(w, err));
	else
		describe_archive(w, segment_nbytes);
	if (!allocate_buffers(w))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	return appends ? PITH_OK : put_beginning(w, err);
}

pith_status pith_archive_writer_new(const struct pith_archive_writer_options *options,
                                    struct pith_archive_writer **out, struct pith_error *err)
{
	*out = NULL;
	uint32_t size = options->level == PITH_LEVEL_SMALL ? PITH_MAX_SEGMENT_NBYTES : PITH_DEFAULT_SEGMENT_NBYTES;
	size = options->segment_nbytes != 0 ? options->segment_nbytes : size;
	if (options->sink == NULL || size < PITH_MIN_SEGMENT_NBYTES || size > PITH_MAX_SEGMENT_NBYTES ||
	    options->embed_nbytes > ARCHIVE_MAX_MODEL_NBYTES)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "text.2",
		                 "segments have %u to %u bytes", PITH_MIN_SEGMENT_NBYTES,
		                 PITH_MAX_SEGMENT_NBYTES);
	struct pith_archive_writer *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	w->options = *options;
	if (w->options.memory_limit == 0)
		w->options.memory_limit = ARCHIVE_DEFAULT_MEMORY;
	archive_tally_start(&w->tally, options->progress, options->progress_ctx, 2);
	pith_status status = start_writer(w, size, err);
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
	free(w->fill);
	free(w->run.raw);
	free(w->run.stored.data);
	free(w->run.pieces);
	free(w->records.data);
	pith_xxh3_free(w->member_hash);
	pith_xxh3_free(w->payload_hash);
	archive_directory_free(&w->directory);
	free(w);
}
