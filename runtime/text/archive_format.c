/*
 * Storing, loading and checking the records of a text archive.  Loading proves every rule that the bytes can
 * prove alone; what is loaded may be trusted.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"

#include "checksum.h"

#include <stdlib.h>

static const uint8_t archive_magic[8] = {0x89, 'P', 'T', 'Z', 0x0d, 0x0a, 0x1a, 0x0a};
static const uint8_t segment_sync[4] = {'P', 'Z', 'S', 'G'};
static const uint8_t trailer_sync[4] = {'P', 'Z', 'T', 'R'};

#define FEATURE_MIXING 2u
#define FEATURE_COUNT 3u
static const char *const feature_names[FEATURE_COUNT] = {"embedded-model", "mixing", "dictionary"};

#define MAX_NAME_NBYTES 4095u

static bool is_zero(const uint8_t *p, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* ---- header ---- */

void archive_header_store(struct archive_header *h, uint8_t out[ARCHIVE_HEADER_NBYTES])
{
	memset(out, 0, ARCHIVE_HEADER_NBYTES);
	memcpy(out, archive_magic, sizeof(archive_magic));
	store_le32(out + 8, PITH_ARCHIVE_VERSION);
	store_le32(out + 12, h->numerics_version);
	store_le32(out + 16, PITH_CODER_VERSION);
	store_le32(out + 20, h->mixing ? FEATURE_MIXING : 0);
	store_le32(out + 24, h->segment_nbytes);
	memcpy(out + 32, h->model_identity, 16);
	h->header_xxh3 = pith_xxh3_64(out, 56);
	store_le64(out + 56, h->header_xxh3);
}

static pith_status check_versions(const uint8_t *p, struct pith_error *err)
{
	// spec text.3: "archive_version is 0, coder_version is 0 and no unknown bit in incompatible is set"
	uint32_t archive = load_le32(p + 8), coder = load_le32(p + 16), features = load_le32(p + 20);
	if (archive != PITH_ARCHIVE_VERSION || coder != PITH_CODER_VERSION)
		return pith_fail(err, PITH_E_UNSUPPORTED, 8, "text.3",
		                 "archive version %u, coder version %u: this program knows 0 and 0",
		                 archive, coder);
	for (unsigned bit = 0; bit < 32; bit++)
		if ((features & ~FEATURE_MIXING) >> bit & 1u)
			return pith_fail(err, PITH_E_UNSUPPORTED, 20, "text.3",
			                 "the archive needs feature %u (%s), which this program lacks", bit,
			                 bit < FEATURE_COUNT ? feature_names[bit] : "unknown");
	return PITH_OK;
}

pith_status archive_header_load(const uint8_t *p, size_t nbytes, struct archive_header *h,
                                struct pith_error *err)
{
	// spec text.1: "A file whose first 8 bytes are not the magic is not a text archive."
	size_t magic_nbytes = nbytes < sizeof(archive_magic) ? nbytes : sizeof(archive_magic);
	if (nbytes == 0 || memcmp(p, archive_magic, magic_nbytes) != 0)
		return pith_fail(err, PITH_E_NOT_OURS, 0, "text.1", "not a Pith text archive");
	if (nbytes < ARCHIVE_HEADER_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "text.2",
		                 "the archive ends inside its header");
	h->header_xxh3 = load_le64(p + 56);
	if (pith_xxh3_64(p, 56) != h->header_xxh3)
		return pith_fail(err, PITH_E_CORRUPT, 0, "text.2", "the header is damaged");
	PITH_TRY(check_versions(p, err));
	h->numerics_version = load_le32(p + 12);
	h->mixing = (load_le32(p + 20) & FEATURE_MIXING) != 0;
	h->segment_nbytes = load_le32(p + 24);
	memcpy(h->model_identity, p + 32, 16);
	// spec text.2: "header_xxh3 matches, the reserved bytes are 0 and segment_nbytes is in range."
	if (!is_zero(p + 28, 4) || !is_zero(p + 48, 8) ||
	    h->segment_nbytes < PITH_MIN_SEGMENT_NBYTES || h->segment_nbytes > PITH_MAX_SEGMENT_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, 24, "text.2", "a field of the header is out of range");
	return PITH_OK;
}

/* ---- segment header ---- */

void segment_header_store(const struct segment_header *h, uint8_t out[ARCHIVE_SEGMENT_HEADER_NBYTES])
{
	memset(out, 0, ARCHIVE_SEGMENT_HEADER_NBYTES);
	memcpy(out, segment_sync, 4);
	out[4] = (uint8_t)h->method;
	store_le32(out + 8, h->raw_nbytes);
	store_le32(out + 12, h->stored_nbytes);
	store_le64(out + 16, h->raw_xxh3);
	store_le64(out + 24, h->stored_xxh3);
	store_le32(out + 32, h->index);
	store_le32(out + 36, (uint32_t)pith_xxh3_64(out, 36));
}

pith_status segment_header_load(const uint8_t p[ARCHIVE_SEGMENT_HEADER_NBYTES], uint64_t off,
                                struct segment_header *h, struct pith_error *err)
{
	// spec text.4: "A segment header has its sync, a matching header_check, a known method, sizes in range and reserved bytes that are 0."
	if (memcmp(p, segment_sync, 4) != 0 || load_le32(p + 36) != (uint32_t)pith_xxh3_64(p, 36))
		return pith_fail(err, PITH_E_CORRUPT, off, "text.4", "a segment header is damaged");
	h->method = p[4];
	h->raw_nbytes = load_le32(p + 8);
	h->stored_nbytes = load_le32(p + 12);
	h->raw_xxh3 = load_le64(p + 16);
	h->stored_xxh3 = load_le64(p + 24);
	h->index = load_le32(p + 32);
	if (h->method > SEGMENT_MODEL || !is_zero(p + 5, 3) || h->raw_nbytes < 1 ||
	    h->raw_nbytes > ARCHIVE_MAX_RAW_NBYTES || h->stored_nbytes < 1 ||
	    h->stored_nbytes > ARCHIVE_MAX_STORED_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.4",
		                 "a field of a segment header is out of range");
	return PITH_OK;
}

/* ---- trailer ---- */

void archive_trailer_store(const struct archive_trailer *t, uint8_t out[ARCHIVE_TRAILER_NBYTES])
{
	memset(out, 0, ARCHIVE_TRAILER_NBYTES);
	memcpy(out, trailer_sync, 4);
	store_le32(out + 4, t->directory_encoding);
	store_le64(out + 8, t->directory_off);
	store_le64(out + 16, t->directory_stored_nbytes);
	store_le64(out + 24, t->directory_nbytes);
	memcpy(out + 32, t->archive_root, 16);
	store_le64(out + 48, t->archive_nbytes);
	store_le64(out + 56, pith_xxh3_64(out, 56));
}

pith_status archive_trailer_load(const uint8_t p[ARCHIVE_TRAILER_NBYTES], uint64_t file_nbytes,
                                 struct archive_trailer *t, struct pith_error *err)
{
	uint64_t off = file_nbytes - ARCHIVE_TRAILER_NBYTES;
	// spec text.8: "The last 64 bytes of the file are a trailer"
	if (memcmp(p, trailer_sync, 4) != 0 || load_le64(p + 56) != pith_xxh3_64(p, 56))
		return pith_fail(err, PITH_E_CORRUPT, off, "text.8",
		                 "no trailer at the end: the archive is cut off or damaged");
	t->directory_encoding = load_le32(p + 4);
	t->directory_off = load_le64(p + 8);
	t->directory_stored_nbytes = load_le64(p + 16);
	t->directory_nbytes = load_le64(p + 24);
	memcpy(t->archive_root, p + 32, 16);
	t->archive_nbytes = load_le64(p + 48);
	if (t->archive_nbytes != file_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off + 48, "text.8",
		                 "the trailer is not that of this archive: parts are missing or added");
	// spec text.9: "The directory lies directly before the trailer and behind the header, and its encoding is known."
	if (t->directory_off < ARCHIVE_HEADER_NBYTES || t->directory_off > off ||
	    t->directory_stored_nbytes != off - t->directory_off || t->directory_encoding > 1)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.9", "the trailer's directory is not in place");
	if (t->directory_nbytes < ARCHIVE_DIRECTORY_HEADER_NBYTES ||
	    t->directory_nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES ||
	    (t->directory_encoding == 0 && t->directory_nbytes != t->directory_stored_nbytes))
		return pith_fail(err, PITH_E_CORRUPT, off + 24, "text.10", "the directory's size is out of range");
	return PITH_OK;
}

/* ---- directory ---- */

bool archive_name_is_valid(const char *name, size_t nbytes)
{
	// spec text.15: "components separated by single `/`, none empty, `.` or `..`, no NUL byte"
	size_t begin = 0;
	if (nbytes < 1 || nbytes > MAX_NAME_NBYTES || memchr(name, 0, nbytes) != NULL)
		return false;
	for (size_t i = 0; i <= nbytes; i++) {
		if (i < nbytes && name[i] != '/')
			continue;
		size_t size = i - begin;
		if (size == 0 || (name[begin] == '.' && (size == 1 || (size == 2 && name[begin + 1] == '.'))))
			return false;
		begin = i + 1;
	}
	return true;
}

void archive_directory_free(struct archive_directory *d)
{
	free(d->segments);
	free(d->members);
	free(d->content_off);
	free(d->names);
	*d = (struct archive_directory){0};
}

static void store_member(const struct pith_archive_member *m, uint8_t *p)
{
	store_le32(p, (uint32_t)m->kind);
	store_le32(p + 4, m->mode);
	store_le64(p + 8, (uint64_t)m->mtime);
	store_le32(p + 16, m->mtime_nsec);
	store_le32(p + 20, (uint32_t)m->name_nbytes);
	store_le32(p + 24, (uint32_t)m->target_nbytes);
	store_le64(p + 32, m->nbytes);
	store_le32(p + 40, m->segment);
	store_le32(p + 44, m->offset);
	memcpy(p + 48, m->content_xxh3, 16);
}

pith_status archive_directory_store(const struct archive_directory *d, uint64_t header_xxh3,
                                    uint8_t **out, size_t *nbytes, struct pith_error *err)
{
	*out = NULL;
	*nbytes = 0;
	uint64_t names_nbytes = 0;
	for (size_t i = 0; i < d->member_count; i++)
		names_nbytes += d->members[i].name_nbytes + d->members[i].target_nbytes;
	uint64_t total = ARCHIVE_DIRECTORY_HEADER_NBYTES + names_nbytes +
	                 (uint64_t)d->segment_count * ARCHIVE_SEGMENT_ENTRY_NBYTES +
	                 (uint64_t)d->member_count * ARCHIVE_MEMBER_ENTRY_NBYTES;
	if (total > ARCHIVE_MAX_DIRECTORY_NBYTES || d->segment_count > UINT32_MAX)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "text.10",
		                 "too many members for one archive (%zu)", d->member_count);
	uint8_t *p = calloc(1, (size_t)total);
	if (p == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	*out = p;
	*nbytes = (size_t)total;
	store_le64(p, header_xxh3);
	store_le32(p + 8, (uint32_t)d->segment_count);
	store_le32(p + 12, (uint32_t)d->member_count);
	store_le64(p + 16, d->content_nbytes);
	store_le64(p + 24, names_nbytes);
	p += ARCHIVE_DIRECTORY_HEADER_NBYTES;
	for (size_t i = 0; i < d->segment_count; i++, p += ARCHIVE_SEGMENT_ENTRY_NBYTES) {
		store_le64(p, d->segments[i].off);
		store_le32(p + 8, d->segments[i].raw_nbytes);
		store_le32(p + 12, d->segments[i].stored_nbytes);
		store_le64(p + 16, d->segments[i].segment_xxh3);
	}
	for (size_t i = 0; i < d->member_count; i++, p += ARCHIVE_MEMBER_ENTRY_NBYTES)
		store_member(&d->members[i], p);
	for (size_t i = 0; i < d->member_count; i++) {
		const struct pith_archive_member *m = &d->members[i];
		memcpy(p, m->name, m->name_nbytes);
		p += m->name_nbytes;
		if (m->target_nbytes > 0)
			memcpy(p, m->target, m->target_nbytes);
		p += m->target_nbytes;
	}
	return PITH_OK;
}

/* Segments: [count] entries at p. */
static pith_status load_segments(const uint8_t *p, uint64_t segments_end, struct archive_directory *d,
                                 struct pith_error *err)
{
	uint64_t free_from = ARCHIVE_HEADER_NBYTES, content = 0;
	for (size_t i = 0; i < d->segment_count; i++, p += ARCHIVE_SEGMENT_ENTRY_NBYTES) {
		struct archive_segment *s = &d->segments[i];
		s->off = load_le64(p);
		s->raw_nbytes = load_le32(p + 8);
		s->stored_nbytes = load_le32(p + 12);
		s->segment_xxh3 = load_le64(p + 16);
		s->content_off = content;
		uint64_t nbytes = (uint64_t)ARCHIVE_SEGMENT_HEADER_NBYTES + s->stored_nbytes;
		// spec text.12: "Segments lie behind each other between header and directory, without overlap"
		if (s->off < free_from || s->off > segments_end || nbytes > segments_end - s->off ||
		    s->raw_nbytes < 1 || s->raw_nbytes > ARCHIVE_MAX_RAW_NBYTES || s->stored_nbytes < 1 ||
		    s->stored_nbytes > ARCHIVE_MAX_STORED_NBYTES)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.12",
			                 "segment %zu is not in its place", i);
		free_from = s->off + nbytes;
		content += s->raw_nbytes;
	}
	if (content != d->content_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.12",
		                 "the segments' sizes do not add up");
	return PITH_OK;
}

/* text.13 of one entry, but for its position. */
static bool member_is_sound(const struct pith_archive_member *m, const uint8_t *p)
{
	bool is_link = m->kind == PITH_MEMBER_LINK, is_file = m->kind == PITH_MEMBER_FILE;
	return m->kind >= PITH_MEMBER_FILE && m->kind <= PITH_MEMBER_LINK && m->mode <= 07777 &&
	       m->mtime_nsec < 1000000000u && m->name_nbytes >= 1 &&
	       m->name_nbytes <= MAX_NAME_NBYTES && m->target_nbytes <= MAX_NAME_NBYTES &&
	       (m->target_nbytes > 0) == is_link && is_zero(p + 28, 4) &&
	       (is_file || (m->nbytes == 0 && is_zero(p + 48, 16))) &&
	       (m->nbytes > 0 || (m->segment == 0 && m->offset == 0));
}

/* Entry i at p, its strings at 'names'; both are inside the directory as far as the sum of names allows. */
static pith_status load_member(const uint8_t *p, size_t i, struct archive_directory *d,
                               uint64_t *content_end, struct pith_error *err)
{
	struct pith_archive_member *m = &d->members[i];
	uint32_t kind = load_le32(p);
	m->kind = kind <= 3 ? (enum pith_member_kind)kind : (enum pith_member_kind)0;
	m->mode = load_le32(p + 4);
	uint64_t mtime = load_le64(p + 8);
	memcpy(&m->mtime, &mtime, sizeof(mtime));
	m->mtime_nsec = load_le32(p + 16);
	m->name_nbytes = load_le32(p + 20);
	m->target_nbytes = load_le32(p + 24);
	m->nbytes = load_le64(p + 32);
	m->segment = load_le32(p + 40);
	m->offset = load_le32(p + 44);
	memcpy(m->content_xxh3, p + 48, 16);
	// spec text.13: "Every field of a member is in range and reserved bytes are 0."
	if (!member_is_sound(m, p))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.13",
		                 "a field of member %zu is out of range", i);
	d->content_off[i] = *content_end;
	if (m->nbytes == 0)
		return PITH_OK;
	// spec text.14: "Members with content follow each other in the content without overlap and end inside it."
	bool inside = m->segment < d->segment_count && m->offset < d->segments[m->segment].raw_nbytes;
	uint64_t begin = inside ? d->segments[m->segment].content_off + m->offset : 0;
	if (!inside || begin < *content_end || m->nbytes > d->content_nbytes - begin)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.14",
		                 "member %zu is not in its place", i);
	d->content_off[i] = begin;
	*content_end = begin + m->nbytes;
	return PITH_OK;
}

/* Copy strings, a NUL behind each.  'names' has names_nbytes bytes; the sum of the sizes was checked. */
static pith_status load_names(const uint8_t *names, struct archive_directory *d, struct pith_error *err)
{
	char *out = d->names;
	for (size_t i = 0; i < d->member_count; i++) {
		struct pith_archive_member *m = &d->members[i];
		m->name = memcpy(out, names, m->name_nbytes);
		out += m->name_nbytes + 1;
		names += m->name_nbytes;
		m->target = memcpy(out, names, m->target_nbytes);
		out += m->target_nbytes + 1;
		names += m->target_nbytes;
		// spec text.15: "A name is a relative path"
		if (!archive_name_is_valid(m->name, m->name_nbytes) ||
		    memchr(m->target, 0, m->target_nbytes) != NULL)
			return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.15",
			                 "the name of member %zu is not a relative path inside the archive", i);
	}
	return PITH_OK;
}

static pith_status load_members(const uint8_t *p, uint64_t names_nbytes, struct archive_directory *d,
                                struct pith_error *err)
{
	const uint8_t *names = p + d->member_count * ARCHIVE_MEMBER_ENTRY_NBYTES;
	uint64_t content_end = 0, used = 0;
	for (size_t i = 0; i < d->member_count; i++) {
		PITH_TRY(load_member(p + i * ARCHIVE_MEMBER_ENTRY_NBYTES, i, d, &content_end, err));
		used += d->members[i].name_nbytes + d->members[i].target_nbytes;
	}
	// spec text.11: "names_nbytes is the sum of all names and targets"
	if (used != names_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.11",
		                 "the names of the directory do not add up");
	return load_names(names, d, err);
}

pith_status archive_directory_load(const uint8_t *p, size_t nbytes, uint64_t header_xxh3,
                                   uint64_t segments_end, struct archive_directory *d,
                                   struct pith_error *err)
{
	*d = (struct archive_directory){0};
	if (nbytes < ARCHIVE_DIRECTORY_HEADER_NBYTES || nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.11", "the directory is too short");
	uint32_t segment_count = load_le32(p + 8), member_count = load_le32(p + 12);
	uint64_t names_nbytes = load_le64(p + 24);
	uint64_t entries = (uint64_t)segment_count * ARCHIVE_SEGMENT_ENTRY_NBYTES +
	                   (uint64_t)member_count * ARCHIVE_MEMBER_ENTRY_NBYTES;
	uint64_t body = nbytes - ARCHIVE_DIRECTORY_HEADER_NBYTES;
	// spec text.11: "The directory is exactly as long as its counts say"
	if (entries > body || names_nbytes != body - entries || load_le64(p) != header_xxh3)
		return pith_fail(err, PITH_E_CORRUPT, 0, "text.11",
		                 "the directory is not that of this archive");
	d->segment_count = segment_count;
	d->member_count = member_count;
	d->content_nbytes = load_le64(p + 16);
	/* counts are bounded by the directory's size, at most 2^29 */
	d->segments = calloc((size_t)segment_count + 1, sizeof(*d->segments));
	d->members = calloc((size_t)member_count + 1, sizeof(*d->members));
	d->content_off = calloc((size_t)member_count + 1, sizeof(*d->content_off));
	d->names = calloc(1, (size_t)names_nbytes + 2 * (size_t)member_count + 1);
	pith_status status;
	if (d->segments == NULL || d->members == NULL || d->content_off == NULL || d->names == NULL) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
	} else {
		p += ARCHIVE_DIRECTORY_HEADER_NBYTES;
		status = load_segments(p, segments_end, d, err);
		if (status == PITH_OK)
			status = load_members(p + (size_t)segment_count * ARCHIVE_SEGMENT_ENTRY_NBYTES,
			                      names_nbytes, d, err);
	}
	if (status != PITH_OK)
		archive_directory_free(d);
	return status;
}
