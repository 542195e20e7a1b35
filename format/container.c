/*
 * The container's frame: names, preamble, header slots, directory.  The tables' entries
 * are in container_tables.c.  Spec: spec/container.md, sections 2 to 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "container.h"

#include "checksum.h"

const uint8_t pith_magic[8] = { 0x89, 0x50, 0x54, 0x48, 0x0d, 0x0a, 0x1a, 0x0a };

/* ---- names ---- */

/* Bytes of the UTF-8 character at p (1..4), 0 when it is not one (overlong, surrogate, cut). */
static size_t utf8_length(const uint8_t *p, size_t nbytes)
{
	uint32_t c = p[0];
	size_t length = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	if (length < 2 || length > nbytes)
		return length == 1 ? 1 : 0;
	c &= 0x7fu >> length;
	for (size_t i = 1; i < length; i++) {
		if (p[i] >> 6 != 2)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	bool surrogate = c >= 0xd800 && c <= 0xdfff;
	return c < least[length] || c > 0x10ffff || surrogate ? 0 : length;
}

/* Control characters would let a file's names write on a terminal. */
static bool is_control(const uint8_t *p, size_t length)
{
	return p[0] < 0x20 || p[0] == 0x7f || (length == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

void pith_show_name(const char *name, size_t nbytes, char out[PITH_SHOWN_NAME_NBYTES])
{
	const uint8_t *p = (const uint8_t *)name;
	size_t used = 0;
	for (size_t i = 0; i < nbytes;) {
		size_t length = utf8_length(p + i, nbytes - i);
		bool printable = length != 0 && !is_control(p + i, length);
		size_t step = printable ? length : 1;
		if (used + step > PITH_SHOWN_NAME_NBYTES - 4 && i + step < nbytes) {
			memcpy(out + used, "...", 3);
			used += 3;
			break;
		}
		if (used + step > PITH_SHOWN_NAME_NBYTES - 1)
			break;
		if (printable)
			memcpy(out + used, p + i, step);
		else
			out[used] = '?';
		used += step;
		i += step;
	}
	out[used] = '\0';
}

bool pith_name_is_valid(const char *name, size_t nbytes)
{
	const uint8_t *p = (const uint8_t *)name;
	if (nbytes == 0 || nbytes > PITH_MAX_NAME_NBYTES)
		return false;
	for (size_t i = 0; i < nbytes;) {
		size_t length = utf8_length(p + i, nbytes - i);
		if (length == 0 || p[i] < 0x20 || p[i] == 0x7f)
			return false;
		i += length;
	}
	return true;
}

void pith_section_id_name(uint32_t id, char name[5])
{
	for (unsigned i = 0; i < 4; i++) {
		uint8_t c = (uint8_t)(id >> 8 * i);
		name[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
	}
	name[4] = '\0';
}

/* Offset of the first byte that is not 0, or nbytes. */
static size_t first_nonzero(const uint8_t *p, size_t nbytes)
{
	size_t i = 0;
	while (i < nbytes && p[i] == 0)
		i++;
	return i;
}

/* ---- preamble ---- */

enum { PREAMBLE_SLOT_NBYTES = 8, PREAMBLE_RESERVED = 12, PREAMBLE_XXH3 = 56 };

pith_status pith_preamble_check(const uint8_t *p, uint64_t nbytes, struct pith_error *err)
{
	// spec container.1: "A file whose first 8 bytes are not the magic is not a Pith file."
	if (nbytes < sizeof(pith_magic) || memcmp(p, pith_magic, sizeof(pith_magic)) != 0)
		return pith_fail(err, PITH_E_NOT_OURS, 0, "container.1", "not a Pith file");
	if (nbytes < PITH_DATA_OFF)
		return pith_fail(err, PITH_E_CORRUPT, nbytes, "container.2",
		                 "the file is cut off inside its header");
	// spec container.2: "preamble_xxh3 matches, slot_nbytes is 512, the reserved bytes and bytes 64..511 are 0."
	if (load_le64(p + PREAMBLE_XXH3) != pith_xxh3_64(p, PREAMBLE_XXH3))
		return pith_fail(err, PITH_E_CORRUPT, 0, "container.2",
		                 "preamble, bytes 0..63: checksum does not match");
	size_t reserved = first_nonzero(p + PREAMBLE_RESERVED, PREAMBLE_XXH3 - PREAMBLE_RESERVED);
	if (load_le32(p + PREAMBLE_SLOT_NBYTES) != PITH_SLOT_NBYTES ||
	    reserved != PREAMBLE_XXH3 - PREAMBLE_RESERVED)
		return pith_fail(err, PITH_E_CORRUPT, PREAMBLE_SLOT_NBYTES, "container.2",
		                 "preamble: slot_nbytes is not 512 or reserved bytes are not 0");
	size_t behind = PITH_SLOT_OFF(0) - PITH_PREAMBLE_NBYTES;
	size_t zero = first_nonzero(p + PITH_PREAMBLE_NBYTES, behind);
	if (zero != behind)
		return pith_fail(err, PITH_E_CORRUPT, PITH_PREAMBLE_NBYTES + zero, "container.2",
		                 "byte behind the preamble is not 0");
	return PITH_OK;
}

void pith_preamble_encode(uint8_t p[PITH_PREAMBLE_NBYTES])
{
	memset(p, 0, PITH_PREAMBLE_NBYTES);
	memcpy(p, pith_magic, sizeof(pith_magic));
	store_le32(p + PREAMBLE_SLOT_NBYTES, PITH_SLOT_NBYTES);
	store_le64(p + PREAMBLE_XXH3, pith_xxh3_64(p, PREAMBLE_XXH3));
}

/* ---- header slots ---- */

enum pith_slot_state pith_slot_state(const uint8_t p[PITH_SLOT_NBYTES])
{
	// spec container.3: "A slot is *empty* (512 zero bytes), or *valid* (slot_xxh3 matches and generation is not 0), or *damaged*."
	if (first_nonzero(p, PITH_SLOT_NBYTES) == PITH_SLOT_NBYTES)
		return PITH_SLOT_EMPTY;
	bool valid = load_le64(p) == pith_xxh3_64(p + 8, PITH_SLOT_NBYTES - 8) &&
	             load_le64(p + 8) != 0;
	return valid ? PITH_SLOT_VALID : PITH_SLOT_DAMAGED;
}

/* Names of the incompatible features this version knows of and refuses, by bit. */
static const char *const reserved_features[] = { "packed-planes", "entropy-bf16", "split" };

static pith_status refuse_feature(uint64_t incompatible, uint64_t off, struct pith_error *err)
{
	unsigned bit = 0;
	while ((incompatible >> bit & 1) == 0)
		bit++;
	const char *name = bit < PITH_ARRAY_LENGTH(reserved_features) ? reserved_features[bit] :
	                                                                "unknown";
	return pith_fail(err, PITH_E_UNSUPPORTED, off + 24, "container.5",
	                 "feature %s (incompatible bit %u): needs a newer reader", name, bit);
}

pith_status pith_header_decode(const uint8_t *p, uint64_t off, struct pith_header *out,
                               struct pith_error *err)
{
	struct pith_header h = {
		.generation = load_le64(p + 8),
		.container_version = load_le32(p + 16),
		.numerics_version = load_le32(p + 20),
		.incompatible = load_le64(p + 24),
		.read_only_compatible = load_le64(p + 32),
		.compatible = load_le64(p + 40),
		.file_nbytes = load_le64(p + 48),
		.directory_off = load_le64(p + 56),
		.directory_count = load_le32(p + 64),
		.tensor_align = load_le32(p + 68),
	};
	memcpy(h.file_root, p + 80, 16);
	memcpy(h.model_identity, p + 96, 16);
	// spec container.4: "container_version is 0; a higher one is unsupported, not corrupt."
	if (h.container_version != PITH_CONTAINER_VERSION)
		return pith_fail(err, PITH_E_UNSUPPORTED, off + 16, "container.4",
		                 "container version %u: needs a newer reader",
		                 h.container_version);
	// spec container.5: "No unknown bit in `incompatible` is set"
	if (h.incompatible != 0)
		return refuse_feature(h.incompatible, off, err);
	// spec container.7: "The reserved bytes are 0, tensor_align and directory_count are in range"
	if (load_le64(p + 72) != 0 || first_nonzero(p + 112, 400) != 400)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.7",
		                 "header slot: reserved bytes are not 0");
	if (h.tensor_align < 64 || h.tensor_align > 65536 ||
	    (h.tensor_align & (h.tensor_align - 1)) != 0)
		return pith_fail(err, PITH_E_CORRUPT, off + 68, "container.7",
		                 "tensor_align %u is not a power of two from 64 to 65536",
		                 h.tensor_align);
	if (h.directory_count == 0 || h.directory_count > PITH_MAX_DIRECTORY_COUNT)
		return pith_fail(err, PITH_E_CORRUPT, off + 64, "container.7",
		                 "directory_count %u is not 1..256", h.directory_count);
	uint64_t nbytes = (uint64_t)h.directory_count * PITH_DIRECTORY_NBYTES;
	if (h.directory_off % PITH_ALIGN != 0 || h.directory_off < PITH_DATA_OFF ||
	    h.directory_off > h.file_nbytes || nbytes > h.file_nbytes - h.directory_off)
		return pith_fail(err, PITH_E_CORRUPT, off + 56, "container.7",
		                 "the directory at %llu does not lie inside the file",
		                 (unsigned long long)h.directory_off);
	*out = h;
	return PITH_OK;
}

void pith_header_encode(const struct pith_header *h, uint8_t p[PITH_SLOT_NBYTES])
{
	memset(p, 0, PITH_SLOT_NBYTES);
	store_le64(p + 8, h->generation);
	store_le32(p + 16, h->container_version);
	store_le32(p + 20, h->numerics_version);
	store_le64(p + 24, h->incompatible);
	store_le64(p + 32, h->read_only_compatible);
	store_le64(p + 40, h->compatible);
	store_le64(p + 48, h->file_nbytes);
	store_le64(p + 56, h->directory_off);
	store_le32(p + 64, h->directory_count);
	store_le32(p + 68, h->tensor_align);
	memcpy(p + 80, h->file_root, 16);
	memcpy(p + 96, h->model_identity, 16);
	store_le64(p, pith_xxh3_64(p + 8, PITH_SLOT_NBYTES - 8));
}

/* ---- directory ---- */

static const struct {
	uint32_t id, entry_nbytes;
	bool raw; /* used in place, so never compressed */
} known_sections[] = {
	{ PITH_SECTION_WGHT, PITH_WGHT_NBYTES, true },
	{ PITH_SECTION_TERM, PITH_TERM_NBYTES, true },
	{ PITH_SECTION_XFRM, PITH_XFRM_NBYTES, true },
	{ PITH_SECTION_PLAN, PITH_PLAN_NBYTES, true },
	{ PITH_SECTION_NAME, 0, true },
	{ PITH_SECTION_ARCH, PITH_ARCH_NBYTES, true },
	{ PITH_SECTION_BLCK, PITH_BLCK_NBYTES, true },
	{ PITH_SECTION_TOKN, 0, true },
	{ PITH_SECTION_CNRY, PITH_CNRY_NBYTES, true },
	{ PITH_SECTION_LINE, PITH_LINE_NBYTES, true },
	{ PITH_SECTION_TEXT, 0, true },
	{ PITH_SECTION_CONFIG, 0, false },
	{ PITH_SECTION_TOKENIZER_JSON, 0, false },
	{ PITH_SECTION_TOKENIZER_CONFIG, 0, false },
	{ PITH_SECTION_GENERATION_CONFIG, 0, false },
	{ PITH_SECTION_LICENCE, 0, false },
	{ PITH_SECTION_CARD, 0, false },
};

static size_t known_index(uint32_t id)
{
	size_t i = 0;
	while (i < PITH_ARRAY_LENGTH(known_sections) && known_sections[i].id != id)
		i++;
	return i;
}

bool pith_section_is_known(uint32_t section_id)
{
	return known_index(section_id) < PITH_ARRAY_LENGTH(known_sections);
}

uint32_t pith_section_entry_nbytes(uint32_t section_id)
{
	size_t i = known_index(section_id);
	return i < PITH_ARRAY_LENGTH(known_sections) ? known_sections[i].entry_nbytes : 0;
}

/* container.10, for a section this version knows or may ignore. */
static pith_status check_use(const struct pith_directory_entry *e, uint64_t off,
                             struct pith_error *err)
{
	char name[5];
	size_t i = known_index(e->section_id);
	pith_section_id_name(e->section_id, name);
	if (i == PITH_ARRAY_LENGTH(known_sections)) {
		// spec container.10: "An unknown section with flag bit 0 is unsupported; without it, it is ignored."
		if ((e->flags & PITH_SECTION_MUST) != 0)
			return pith_fail(err, PITH_E_UNSUPPORTED, off, "container.10",
			                 "section \"%s\": needs a newer reader", name);
		return PITH_OK;
	}
	uint32_t entry_nbytes = known_sections[i].entry_nbytes;
	// spec container.10: "A table is raw, its nbytes is a multiple of entry_nbytes, and entry_nbytes is that of section 5"
	if (e->entry_nbytes != entry_nbytes ||
	    (known_sections[i].raw && e->encoding != PITH_ENCODING_RAW))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.10",
		                 "section \"%s\": entries of %u bytes, encoding %u", name,
		                 e->entry_nbytes, e->encoding);
	if (entry_nbytes != 0 &&
	    (e->nbytes % entry_nbytes != 0 || e->nbytes / entry_nbytes > UINT32_MAX))
		return pith_fail(err, PITH_E_CORRUPT, off + 16, "container.10",
		                 "section \"%s\": %llu bytes are no table of entries of %u", name,
		                 (unsigned long long)e->nbytes, entry_nbytes);
	return PITH_OK;
}

pith_status pith_directory_entry_decode(const uint8_t *p, uint64_t off, uint64_t file_nbytes,
                                        struct pith_directory_entry *out, struct pith_error *err)
{
	char name[5];
	struct pith_directory_entry e = {
		.section_id = load_le32(p),
		.encoding = load_le32(p + 4),
		.off = load_le64(p + 8),
		.nbytes = load_le64(p + 16),
		.raw_nbytes = load_le64(p + 24),
		.xxh3 = load_le64(p + 32),
		.flags = load_le32(p + 40),
		.entry_nbytes = load_le32(p + 44),
	};
	pith_section_id_name(e.section_id, name);
	// spec container.9: "entry_xxh3 matches; reserved is 0; encoding is known"
	if (load_le64(p + 56) != pith_xxh3_64(p, 56))
		return pith_fail(err, PITH_E_CORRUPT, off, "container.9",
		                 "directory entry, bytes %llu..%llu: checksum does not match",
		                 (unsigned long long)off, (unsigned long long)off + 63);
	if (load_le64(p + 48) != 0 || (e.flags & ~(uint32_t)PITH_SECTION_MUST) != 0)
		return pith_fail(err, PITH_E_CORRUPT, off + 40, "container.9",
		                 "section \"%s\": reserved flags or bytes are not 0", name);
	if (e.encoding > PITH_ENCODING_ZSTD)
		return pith_fail(err, PITH_E_UNSUPPORTED, off + 4, "container.9",
		                 "section \"%s\": encoding %u: needs a newer reader", name,
		                 e.encoding);
	if (e.encoding == PITH_ENCODING_RAW && e.raw_nbytes != e.nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off + 24, "container.9",
		                 "section \"%s\": raw, but raw_nbytes differs", name);
	// spec container.9: "the section with its padding lies inside [1536, file_nbytes)"
	if (e.off % PITH_ALIGN != 0 || e.off < PITH_DATA_OFF || e.off > file_nbytes ||
	    e.nbytes > file_nbytes - e.off ||
	    pith_round_up((size_t)e.nbytes, PITH_ALIGN) > file_nbytes - e.off)
		return pith_fail(err, PITH_E_CORRUPT, off + 8, "container.9",
		                 "section \"%s\" at %llu, %llu bytes, does not lie inside the file",
		                 name, (unsigned long long)e.off, (unsigned long long)e.nbytes);
	PITH_TRY(check_use(&e, off, err));
	*out = e;
	return PITH_OK;
}

void pith_directory_entry_encode(const struct pith_directory_entry *e,
                                 uint8_t p[PITH_DIRECTORY_NBYTES])
{
	memset(p, 0, PITH_DIRECTORY_NBYTES);
	store_le32(p, e->section_id);
	store_le32(p + 4, e->encoding);
	store_le64(p + 8, e->off);
	store_le64(p + 16, e->nbytes);
	store_le64(p + 24, e->raw_nbytes);
	store_le64(p + 32, e->xxh3);
	store_le32(p + 40, e->flags);
	store_le32(p + 44, e->entry_nbytes);
	store_le64(p + 56, pith_xxh3_64(p, 56));
}
