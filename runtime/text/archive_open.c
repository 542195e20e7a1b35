/*
 * Opening a text archive, and what its directory tells.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_reader.h"

#include "bytes.h"
#include "checksum.h"
#include "frame_zstd.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW_NBYTES ((uint64_t)1 << 20)

/* ---- header and trailer ---- */

pith_status archive_load_header(struct pith_archive *a, struct pith_error *err)
{
	uint8_t bytes[ARCHIVE_HEADER_NBYTES];
	uint64_t nbytes = a->source.nbytes;
	size_t head = nbytes < sizeof(bytes) ? (size_t)nbytes : sizeof(bytes);
	PITH_TRY(a->source.read_at(a->source.ctx, 0, bytes, head, err));
	PITH_TRY(archive_header_load(bytes, head, &a->header, err));
	a->begin = ARCHIVE_HEADER_NBYTES + a->header.model_nbytes;
	if (a->begin > nbytes)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "text.2", "the archive ends inside its model");
	return PITH_OK;
}

/* The last trailer in window: [nbytes], which starts at 'off' in the source, with its end at 'limit' or before. */
static bool search_window(struct pith_archive *a, const uint8_t *window, uint64_t off, size_t nbytes)
{
	struct pith_error ignored;
	for (size_t i = nbytes; i-- > 0;)
		if (window[i] == archive_trailer_sync[0] && nbytes - i >= ARCHIVE_TRAILER_NBYTES &&
		    memcmp(window + i, archive_trailer_sync, ARCHIVE_SYNC_NBYTES) == 0 &&
		    archive_trailer_load(window + i, a->begin, off + i + ARCHIVE_TRAILER_NBYTES, &a->trailer,
		                         &ignored) == PITH_OK)
			return true;
	return false;
}

// spec text_archive.md: "the last place in it where there is one (text.8, for its own end) ends the archive"
static bool find_trailer(struct pith_archive *a)
{
	uint8_t *window = malloc((size_t)WINDOW_NBYTES + ARCHIVE_TRAILER_NBYTES);
	uint64_t high = a->source.nbytes;
	bool found = false;
	while (window != NULL && !found && high > a->begin) {
		uint64_t low = high - a->begin > WINDOW_NBYTES ? high - WINDOW_NBYTES : a->begin;
		uint64_t behind = a->source.nbytes - high < ARCHIVE_TRAILER_NBYTES ? a->source.nbytes - high :
		                                                                   ARCHIVE_TRAILER_NBYTES;
		size_t nbytes = (size_t)(high - low + behind);
		if (a->source.read_at(a->source.ctx, low, window, nbytes, NULL) == PITH_OK)
			found = search_window(a, window, low, nbytes);
		high = low;
	}
	free(window);
	return found;
}

static pith_status load_trailer(struct pith_archive *a, struct pith_error *err)
{
	uint8_t bytes[ARCHIVE_TRAILER_NBYTES];
	uint64_t nbytes = a->source.nbytes;
	if (nbytes < a->begin + ARCHIVE_TRAILER_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "text.8",
		                 "no trailer at the end: the archive is cut off");
	PITH_TRY(a->source.read_at(a->source.ctx, nbytes - ARCHIVE_TRAILER_NBYTES, bytes,
	                           ARCHIVE_TRAILER_NBYTES, err));
	struct pith_error fault;
	pith_status status = archive_trailer_load(bytes, a->begin, nbytes, &a->trailer, &fault);
	if (status == PITH_OK || find_trailer(a))
		return PITH_OK;
	if (err != NULL)
		*err = fault;
	return status;
}

/* ---- directory ---- */

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
		status = archive_directory_load(plain, (size_t)t->directory_nbytes, a->header.header_xxh3, a->begin,
		                                t->directory_off, &a->directory, err);
	if (plain != stored)
		free(plain);
	free(stored);
	return status;
}

pith_status pith_archive_open(const struct pith_archive_source *source, struct pith_archive **out,
                              struct pith_error *err)
{
	*out = NULL;
	struct pith_archive *a = calloc(1, sizeof(*a));
	if (a == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the archive");
	a->source = *source;
	pith_status status = archive_load_header(a, err);
	if (status == PITH_OK)
		status = load_trailer(a, err);
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

pith_status archive_check_model(const struct pith_archive *a, const uint8_t identity[16],
                                uint32_t numerics_version, struct pith_error *err)
{
	char wanted[33];
	for (size_t i = 0; i < 16; i++)
		snprintf(wanted + 2 * i, 3, "%02x", (unsigned)a->header.model_identity[i]);
	if (a->header_lost)
		return PITH_OK; /* what it decodes to tells */
	if (identity == NULL)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs the model with identity %s", wanted);
	if (memcmp(identity, a->header.model_identity, 16) != 0)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs the model with identity %s, not the one given", wanted);
	if (numerics_version != a->header.numerics_version)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "needs numerics version %u, the model has %u", a->header.numerics_version,
		                 numerics_version);
	return PITH_OK;
}

/* ---- what the directory tells ---- */

void pith_archive_info(const struct pith_archive *a, struct pith_archive_info *out)
{
	uint64_t archive_nbytes = a->is_recovered ? a->source.nbytes : a->trailer.archive_nbytes;
	*out = (struct pith_archive_info){
		.numerics_version = a->header.numerics_version,
		.segment_nbytes = a->header.segment_nbytes,
		.model_off = a->header.model_nbytes > 0 ? ARCHIVE_HEADER_NBYTES : 0,
		.model_nbytes = a->header.model_nbytes,
		.segment_count = a->directory.segment_count,
		.member_count = a->directory.member_count,
		.content_nbytes = a->directory.content_nbytes,
		.archive_nbytes = archive_nbytes,
		.ignored_nbytes = a->source.nbytes - archive_nbytes,
		.is_recovered = a->is_recovered,
		.header_lost = a->header_lost,
		.lost_links = a->lost_links,
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
	return archive_directory_find(&a->directory, name, strlen(name));
}

uint64_t pith_archive_member_stored(const struct pith_archive *a, size_t i)
{
	const struct archive_directory *d = &a->directory;
	uint64_t begin = d->members[i].content_off, end = begin + d->members[i].nbytes, total = 0;
	for (size_t s = archive_directory_segment_at(d, begin); s < d->segment_count; s++) {
		const struct archive_segment *g = &d->segments[s];
		if (g->content_off >= end)
			break;
		uint64_t from = begin > g->content_off ? begin : g->content_off;
		uint64_t until = g->content_off + g->raw_nbytes;
		until = until < end ? until : end;
		uint64_t nbytes = (uint64_t)g->stored_nbytes + g->records_nbytes + ARCHIVE_SEGMENT_HEADER_NBYTES;
		total += g->raw_nbytes > 0 ? nbytes * (until - from) / g->raw_nbytes : 0;
	}
	return total;
}

unsigned pith_archive_member_methods(const struct pith_archive *a, size_t i)
{
	const struct archive_directory *d = &a->directory;
	uint64_t begin = d->members[i].content_off, end = begin + d->members[i].nbytes;
	unsigned methods = 0;
	for (size_t s = archive_directory_segment_at(d, begin);
	     s < d->segment_count && d->segments[s].content_off < end; s++)
		methods |= d->segments[s].raw_nbytes > 0 ? 1u << d->segments[s].method : 0;
	return methods;
}
