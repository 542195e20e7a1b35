/*
 * Storing, loading and checking the fixed records of a text archive.  Loading proves every rule that the bytes can
 * prove alone; what is loaded may be trusted.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"

#include "checksum.h"

static const uint8_t archive_magic[8] = {0x89, 'P', 'T', 'Z', 0x0d, 0x0a, 0x1a, 0x0a};
static const uint8_t archive_segment_sync[ARCHIVE_SYNC_NBYTES] = {'P', 'Z', 'S', 'G'};
const uint8_t archive_trailer_sync[ARCHIVE_SYNC_NBYTES] = {'P', 'Z', 'T', 'R'};

#define FEATURE_MODEL 1u
#define FEATURE_MIXING 2u
#define FEATURE_COUNT 3u
static const char *const feature_names[FEATURE_COUNT] = {"embedded-model", "mixing", "dictionary"};

#define LEAST_DIRECTORY_NBYTES 10u /* checksum of the header and two counts */

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
	store_le32(out + 20, (h->mixing ? FEATURE_MIXING : 0) | (h->model_nbytes > 0 ? FEATURE_MODEL : 0));
	store_le32(out + 24, h->segment_nbytes);
	memcpy(out + 32, h->model_identity, 16);
	store_le64(out + 48, h->model_nbytes);
	h->header_xxh3 = pith_xxh3_64(out, 56);
	store_le64(out + 56, h->header_xxh3);
}

static pith_status check_versions(const uint8_t *p, struct pith_error *err)
{
	// spec text.3: "archive_version is 1, coder_version is 1 and no unknown bit in incompatible is set"
	uint32_t archive = load_le32(p + 8), coder = load_le32(p + 16), features = load_le32(p + 20);
	if (archive != PITH_ARCHIVE_VERSION || coder != PITH_CODER_VERSION)
		return pith_fail(err, PITH_E_UNSUPPORTED, 8, "text.3",
		                 "archive version %u, coder version %u: this program knows 1 and 1",
		                 archive, coder);
	for (unsigned bit = 0; bit < 32; bit++)
		if ((features & ~(FEATURE_MODEL | FEATURE_MIXING)) >> bit & 1u)
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
	h->model_nbytes = load_le64(p + 48);
	bool has_model = (load_le32(p + 20) & FEATURE_MODEL) != 0;
	// spec text.2: "header_xxh3 matches, the reserved bytes are 0 and segment_nbytes is in range."
	if (!is_zero(p + 28, 4) || h->model_nbytes > ARCHIVE_MAX_MODEL_NBYTES ||
	    (h->model_nbytes > 0) != has_model ||
	    h->segment_nbytes < PITH_MIN_SEGMENT_NBYTES || h->segment_nbytes > PITH_MAX_SEGMENT_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, 24, "text.2", "a field of the header is out of range");
	return PITH_OK;
}

/* ---- segment header ---- */

void segment_header_store(const struct segment_header *h, uint8_t out[ARCHIVE_SEGMENT_HEADER_NBYTES])
{
	memset(out, 0, ARCHIVE_SEGMENT_HEADER_NBYTES);
	memcpy(out, archive_segment_sync, ARCHIVE_SYNC_NBYTES);
	out[4] = (uint8_t)h->method;
	out[5] = (uint8_t)h->records_encoding;
	out[6] = h->ends_member ? 1 : 0;
	store_le32(out + 8, h->raw_nbytes);
	store_le32(out + 12, h->stored_nbytes);
	store_le32(out + 16, h->records_nbytes);
	store_le64(out + 20, h->off);
	store_le64(out + 28, h->content_off);
	store_le64(out + 36, h->raw_xxh3);
	store_le64(out + 44, h->stored_xxh3);
	store_le32(out + 52, (uint32_t)pith_xxh3_64(out, 52));
}

static bool segment_sizes_are_sound(const struct segment_header *h)
{
	if (h->raw_nbytes > ARCHIVE_MAX_RAW_NBYTES || h->stored_nbytes > ARCHIVE_MAX_STORED_NBYTES ||
	    h->records_nbytes > ARCHIVE_MAX_RECORDS_NBYTES)
		return false;
	if (h->raw_nbytes == 0 || h->stored_nbytes == 0)
		return h->raw_nbytes == h->stored_nbytes && h->method == SEGMENT_STORED && h->records_nbytes > 0;
	return true;
}

pith_status segment_header_load(const uint8_t p[ARCHIVE_SEGMENT_HEADER_NBYTES], uint64_t at,
                                struct segment_header *h, struct pith_error *err)
{
	// spec text.4: "A segment header has its sync, a matching header_check, known method and encoding, sizes in range and reserved bytes that are 0."
	if (memcmp(p, archive_segment_sync, ARCHIVE_SYNC_NBYTES) != 0 ||
	    load_le32(p + 52) != (uint32_t)pith_xxh3_64(p, 52))
		return pith_fail(err, PITH_E_CORRUPT, at, "text.4", "a segment header is damaged");
	h->method = p[4];
	h->records_encoding = p[5];
	h->ends_member = p[6] == 1;
	h->raw_nbytes = load_le32(p + 8);
	h->stored_nbytes = load_le32(p + 12);
	h->records_nbytes = load_le32(p + 16);
	h->off = load_le64(p + 20);
	h->content_off = load_le64(p + 28);
	h->raw_xxh3 = load_le64(p + 36);
	h->stored_xxh3 = load_le64(p + 44);
	if (h->method > SEGMENT_MODEL || h->records_encoding > 1 || p[6] > 1 || p[7] != 0 ||
	    !segment_sizes_are_sound(h))
		return pith_fail(err, PITH_E_CORRUPT, at, "text.4",
		                 "a field of a segment header is out of range");
	return PITH_OK;
}

const uint8_t *archive_find_sync(const uint8_t *p, size_t nbytes)
{
	const uint8_t *end = p + nbytes;
	while ((size_t)(end - p) >= ARCHIVE_SYNC_NBYTES) {
		p = memchr(p, archive_segment_sync[0], (size_t)(end - p) - (ARCHIVE_SYNC_NBYTES - 1));
		if (p == NULL || memcmp(p, archive_segment_sync, ARCHIVE_SYNC_NBYTES) == 0)
			return p;
		p++;
	}
	return NULL;
}

const uint8_t *archive_find_segment(const uint8_t *p, size_t nbytes)
{
	struct segment_header h;
	struct pith_error ignored;
	const uint8_t *end = p + nbytes;
	while ((p = archive_find_sync(p, (size_t)(end - p))) != NULL) {
		if ((size_t)(end - p) < ARCHIVE_SEGMENT_HEADER_NBYTES)
			return NULL;
		if (segment_header_load(p, 0, &h, &ignored) == PITH_OK)
			return p;
		p++;
	}
	return NULL;
}

/* ---- trailer ---- */

void archive_trailer_store(const struct archive_trailer *t, uint8_t out[ARCHIVE_TRAILER_NBYTES])
{
	memset(out, 0, ARCHIVE_TRAILER_NBYTES);
	memcpy(out, archive_trailer_sync, ARCHIVE_SYNC_NBYTES);
	store_le32(out + 4, t->directory_encoding);
	store_le64(out + 8, t->directory_off);
	store_le64(out + 16, t->directory_stored_nbytes);
	store_le64(out + 24, t->directory_nbytes);
	memcpy(out + 32, t->archive_root, 16);
	store_le64(out + 48, t->archive_nbytes);
	store_le64(out + 56, pith_xxh3_64(out, 56));
}

pith_status archive_trailer_load(const uint8_t p[ARCHIVE_TRAILER_NBYTES], uint64_t begin, uint64_t end,
                                 struct archive_trailer *t, struct pith_error *err)
{
	uint64_t off = end - ARCHIVE_TRAILER_NBYTES;
	// spec text.8: "its sync and trailer_xxh3 match and archive_nbytes is the offset of its end"
	if (memcmp(p, archive_trailer_sync, ARCHIVE_SYNC_NBYTES) != 0 ||
	    load_le64(p + 56) != pith_xxh3_64(p, 56) || load_le64(p + 48) != end)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.8",
		                 "no trailer at the end: the archive is cut off or damaged");
	t->directory_encoding = load_le32(p + 4);
	t->directory_off = load_le64(p + 8);
	t->directory_stored_nbytes = load_le64(p + 16);
	t->directory_nbytes = load_le64(p + 24);
	memcpy(t->archive_root, p + 32, 16);
	t->archive_nbytes = end;
	// spec text.9: "The directory lies directly before the trailer and behind header and model, and its encoding is known."
	if (t->directory_off < begin || t->directory_off > off ||
	    t->directory_stored_nbytes != off - t->directory_off || t->directory_encoding > 1)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.9", "the trailer's directory is not in place");
	if (t->directory_nbytes < LEAST_DIRECTORY_NBYTES ||
	    t->directory_nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES ||
	    t->directory_stored_nbytes > ARCHIVE_MAX_DIRECTORY_NBYTES ||
	    (t->directory_encoding == 0 && t->directory_nbytes != t->directory_stored_nbytes))
		return pith_fail(err, PITH_E_CORRUPT, off + 24, "text.10", "the directory's size is out of range");
	return PITH_OK;
}
