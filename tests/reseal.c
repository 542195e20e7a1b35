/*
 * Seals from the inside out: planes, entries, sections, directory, slots, preamble.  Works
 * on bytes with numbers restated from spec/container.md, not with the library's decoders.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "reseal.h"

#include "checksum.h"

enum {
	PREAMBLE_NBYTES = 64,
	SLOT_NBYTES = 512,
	DATA_OFF = 1536,
	DIRECTORY_NBYTES = 64,
	MAX_ENTRIES = 4096 /* of one table; more would only make fuzzing slow */
};

static bool is_inside(uint64_t off, uint64_t size, size_t nbytes)
{
	return off <= nbytes && size <= nbytes - off;
}

static void seal_plane(uint8_t *data, size_t nbytes, uint8_t *entry)
{
	uint64_t off = load_le64(entry), size = load_le64(entry + 8);
	if (off >= DATA_OFF && is_inside(off, size, nbytes))
		store_le64(entry + 16, pith_xxh3_64(data + off, (size_t)size));
}

static void seal_name_hash(uint8_t *data, size_t nbytes, uint64_t name_off, uint8_t *entry)
{
	uint64_t at = load_le64(entry + 8);
	uint32_t size = load_le32(entry + 16);
	if (is_inside(name_off, 0, nbytes) && is_inside(at, size, nbytes - (size_t)name_off))
		store_le64(entry, pith_xxh3_64(data + name_off + at, size));
}

/* Entries of one table, by the size and the id that its directory entry gives. */
static void seal_table(uint8_t *data, size_t nbytes, const uint8_t *e, uint64_t name_off)
{
	uint64_t off = load_le64(e + 8), size = load_le64(e + 16);
	uint32_t entry_nbytes = load_le32(e + 44);
	if (entry_nbytes < 64 || entry_nbytes > 160 || off < DATA_OFF ||
	    !is_inside(off, size, nbytes))
		return;
	uint64_t count = size / entry_nbytes < MAX_ENTRIES ? size / entry_nbytes : MAX_ENTRIES;
	for (uint64_t i = 0; i < count; i++) {
		uint8_t *entry = data + off + i * entry_nbytes;
		if (memcmp(e, "PLAN", 4) == 0)
			seal_plane(data, nbytes, entry);
		if (memcmp(e, "WGHT", 4) == 0)
			seal_name_hash(data, nbytes, name_off, entry);
		store_le64(entry + entry_nbytes - 8, pith_xxh3_64(entry, entry_nbytes - 8));
	}
}

static void seal_section(uint8_t *data, size_t nbytes, uint8_t *e)
{
	uint64_t off = load_le64(e + 8), size = load_le64(e + 16);
	if (size < nbytes && is_inside(off, (size + 63) / 64 * 64, nbytes))
		store_le64(e + 32, pith_xxh3_64(data + off, (size_t)(size + 63) / 64 * 64));
	store_le64(e + 56, pith_xxh3_64(e, 56));
}

static void seal_slot(uint8_t *data, size_t nbytes, uint8_t *slot)
{
	uint64_t off = load_le64(slot + 56), count = load_le32(slot + 64), name_off = UINT64_MAX;
	uint64_t size = count * DIRECTORY_NBYTES;
	if (count <= 256 && off >= DATA_OFF && is_inside(off, size, nbytes)) {
		uint8_t *directory = data + off;
		for (uint64_t i = 0; i < count; i++)
			if (memcmp(directory + i * DIRECTORY_NBYTES, "NAME", 4) == 0)
				name_off = load_le64(directory + i * DIRECTORY_NBYTES + 8);
		for (uint64_t i = 0; i < count; i++)
			seal_table(data, nbytes, directory + i * DIRECTORY_NBYTES, name_off);
		for (uint64_t i = 0; i < count; i++)
			seal_section(data, nbytes, directory + i * DIRECTORY_NBYTES);
		pith_xxh3_128(directory, (size_t)size, slot + 80);
	}
	store_le64(slot, pith_xxh3_64(slot + 8, SLOT_NBYTES - 8));
}

void reseal(uint8_t *data, size_t nbytes)
{
	if (nbytes < DATA_OFF)
		return;
	/* a slot whose generation is 0 stays empty or damaged */
	for (unsigned i = 2; i-- > 0;)
		if (load_le64(data + 512 + 512 * i + 8) != 0)
			seal_slot(data, nbytes, data + 512 + 512 * i);
	memcpy(data, "\x89PTH\r\n\x1a\n", 8);
	store_le64(data + 56, pith_xxh3_64(data, 56));
	memset(data + PREAMBLE_NBYTES, 0, 512 - PREAMBLE_NBYTES);
}
