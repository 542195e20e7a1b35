/*
 * Opening: preamble, header slots, directory.  Nothing here looks at a table, so the
 * time does not depend on the model.  Spec: spec/container.md, sections 1 to 4 and 7.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "file.h"

#include "checksum.h"
#include "map.h"

#include <stdlib.h>

/* ---- header ---- */

/* Which slot is the header: the valid one with the higher generation.  front: [1536]. */
static pith_status choose_slot(const uint8_t *front, unsigned *slot, struct pith_error *err)
{
	const uint8_t *p[2] = { front + PITH_SLOT_OFF(0), front + PITH_SLOT_OFF(1) };
	bool valid[2] = { pith_slot_state(p[0]) == PITH_SLOT_VALID,
		          pith_slot_state(p[1]) == PITH_SLOT_VALID };
	uint64_t generation[2] = { load_le64(p[0] + 8), load_le64(p[1] + 8) };
	// spec container.3: "At least one slot is valid."
	if (!valid[0] && !valid[1])
		return pith_fail(err, PITH_E_CORRUPT, PITH_SLOT_OFF(0), "container.3",
		                 "header slots, bytes 512..1535: no checksum matches");
	// spec container.3: "two valid slots have different generations"
	if (valid[0] && valid[1] && generation[0] == generation[1])
		return pith_fail(err, PITH_E_CORRUPT, PITH_SLOT_OFF(0), "container.3",
		                 "both header slots have generation %llu",
		                 (unsigned long long)generation[0]);
	*slot = valid[1] && (!valid[0] || generation[1] > generation[0]);
	return PITH_OK;
}

static pith_status read_header(struct pith_file *file, const struct pith_map *map,
                               struct pith_error *err)
{
	uint8_t front[PITH_DATA_OFF];
	size_t nbytes = map->nbytes < sizeof(front) ? map->nbytes : sizeof(front);
	PITH_TRY(pith_map_read(map, 0, nbytes, front, err));
	PITH_TRY(pith_preamble_check(front, nbytes, err));
	PITH_TRY(choose_slot(front, &file->slot, err));
	uint64_t off = PITH_SLOT_OFF(file->slot);
	PITH_TRY(pith_header_decode(front + off, off, &file->header, err));
	// spec container.6: "file_nbytes is at most the real size."
	if (file->header.file_nbytes > file->nbytes)
		return pith_fail(err, PITH_E_CORRUPT, file->nbytes, "container.6",
		                 "the file is cut off: %zu of %llu bytes", file->nbytes,
		                 (unsigned long long)file->header.file_nbytes);
	return PITH_OK;
}

/* ---- directory ---- */

pith_status pith_directory_decode(const uint8_t *directory, const struct pith_header *header,
                                  struct pith_directory_entry *out, struct pith_error *err)
{
	uint8_t root[16];
	size_t nbytes = (size_t)header->directory_count * PITH_DIRECTORY_NBYTES;
	pith_xxh3_128(directory, nbytes, root);
	// spec container.8: "file_root matches the directory's bytes."
	if (memcmp(root, header->file_root, sizeof(root)) != 0)
		return pith_fail(err, PITH_E_CORRUPT, header->directory_off, "container.8",
		                 "directory, bytes %llu..%llu: root does not match",
		                 (unsigned long long)header->directory_off,
		                 (unsigned long long)(header->directory_off + nbytes - 1));
	for (uint32_t i = 0; i < header->directory_count; i++) {
		uint64_t off = header->directory_off + (uint64_t)i * PITH_DIRECTORY_NBYTES;
		PITH_TRY(pith_directory_entry_decode(directory + i * (size_t)PITH_DIRECTORY_NBYTES,
		                                     off, header->file_nbytes, &out[i], err));
		if (i > 0 && out[i].section_id <= out[i - 1].section_id)
			return pith_fail(err, PITH_E_CORRUPT, off, "container.9",
			                 "the directory is not sorted by section id");
	}
	return PITH_OK;
}

size_t pith_file_section_index(const struct pith_file *file, uint32_t id)
{
	size_t low = 0, high = file->header.directory_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (file->directory[middle].section_id < id)
			low = middle + 1;
		else
			high = middle;
	}
	bool found = low < file->header.directory_count && file->directory[low].section_id == id;
	return found ? low : file->header.directory_count;
}

static pith_status locate(struct pith_file *file, uint32_t id, bool always, struct pith_table *t,
                          struct pith_error *err)
{
	char name[5];
	size_t i = pith_file_section_index(file, id);
	pith_section_id_name(id, name);
	*t = (struct pith_table){ 0 };
	if (i == file->header.directory_count) {
		// spec container.10: "WGHT, TERM, PLAN and NAME are present."
		if (always)
			return pith_fail(err, PITH_E_CORRUPT, file->header.directory_off,
			                 "container.10", "section \"%s\" is missing", name);
		return PITH_OK;
	}
	const struct pith_directory_entry *e = &file->directory[i];
	t->data = file->data + e->off;
	t->off = e->off;
	t->nbytes = e->nbytes;
	t->count = e->entry_nbytes != 0 ? e->nbytes / e->entry_nbytes : 0;
	return PITH_OK;
}

static pith_status locate_tables(struct pith_file *file, struct pith_error *err)
{
	struct pith_tables *t = &file->tables;
	PITH_TRY(locate(file, PITH_SECTION_WGHT, true, &t->wght, err));
	PITH_TRY(locate(file, PITH_SECTION_TERM, true, &t->term, err));
	PITH_TRY(locate(file, PITH_SECTION_PLAN, true, &t->plan, err));
	PITH_TRY(locate(file, PITH_SECTION_NAME, true, &t->name, err));
	PITH_TRY(locate(file, PITH_SECTION_XFRM, false, &t->xfrm, err));
	PITH_TRY(locate(file, PITH_SECTION_ARCH, false, &t->arch, err));
	PITH_TRY(locate(file, PITH_SECTION_BLCK, false, &t->blck, err));
	PITH_TRY(locate(file, PITH_SECTION_TOKN, false, &t->tokn, err));
	PITH_TRY(locate(file, PITH_SECTION_CNRY, false, &t->cnry, err));
	PITH_TRY(locate(file, PITH_SECTION_LINE, false, &t->line, err));
	PITH_TRY(locate(file, PITH_SECTION_TEXT, false, &t->text, err));
	if (t->tokn.data != NULL)
		t->tokn_xxh3 = file->directory[pith_file_section_index(file, PITH_SECTION_TOKN)].xxh3;
	// spec container.18: "A table of at most 2^20 entries."
	if (t->blck.count > PITH_MAX_BLOCKS)
		return pith_fail(err, PITH_E_CORRUPT, t->blck.off, "container.18", "%llu blocks",
		                 (unsigned long long)t->blck.count);
	return PITH_OK;
}

/* ---- open and close ---- */

static pith_status read_directory(struct pith_file *file, const struct pith_map *map,
                                  struct pith_error *err)
{
	uint8_t directory[PITH_MAX_DIRECTORY_COUNT * PITH_DIRECTORY_NBYTES];
	size_t nbytes = file->header.directory_count * (size_t)PITH_DIRECTORY_NBYTES;
	PITH_TRY(pith_map_read(map, file->header.directory_off, nbytes, directory, err));
	return pith_directory_decode(directory, &file->header, file->directory, err);
}

static pith_status read_front(struct pith_file *file, const struct pith_map *map,
                              struct pith_error *err)
{
	PITH_TRY(read_header(file, map, err));
	PITH_TRY(read_directory(file, map, err));
	PITH_TRY(locate_tables(file, err));
	file->checked = calloc(file->header.directory_count, sizeof(*file->checked));
	if (file->checked == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to open a file");
	for (uint32_t i = 0; i < file->header.directory_count; i++)
		atomic_init(&file->checked[i], false);
	return PITH_OK;
}

/* Takes over the map, also on failure. */
static pith_status open_map(struct pith_map *map, bool mapped, unsigned flags,
                            struct pith_file **out, struct pith_error *err)
{
	pith_status status;
	struct pith_file *file = calloc(1, sizeof(*file));
	if (file == NULL) {
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                   "no memory to open a file");
	} else {
		file->data = map->data;
		file->nbytes = map->nbytes;
		file->mapped = mapped;
		file->flags = flags;
		status = read_front(file, map, err);
	}
	pith_map_release_handle(map);
	if (status == PITH_OK)
		*out = file;
	else if (file != NULL)
		pith_file_close(file);
	else if (mapped)
		pith_map_close(map);
	return status;
}

pith_status pith_file_open(const char *path, unsigned flags, struct pith_file **out,
                           struct pith_error *err)
{
	struct pith_map map;
	*out = NULL;
	if ((flags & ~(unsigned)PITH_OPEN_NO_VERIFY) != 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "open flags %#x", flags);
	PITH_TRY(pith_map_open(path, &map, err));
	return open_map(&map, true, flags, out, err);
}

pith_status pith_file_open_memory(const void *data, size_t nbytes, unsigned flags,
                                  struct pith_file **out, struct pith_error *err)
{
	struct pith_map map = { data, nbytes, -1 };
	*out = NULL;
	if ((flags & ~(unsigned)PITH_OPEN_NO_VERIFY) != 0 || (uintptr_t)data % PITH_ALIGN != 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "open flags %#x, or memory that is not aligned to 64", flags);
	return open_map(&map, false, flags, out, err);
}

void pith_file_close(struct pith_file *file)
{
	if (file == NULL)
		return;
	struct pith_map map = { file->data, file->nbytes, -1 };
	if (file->mapped)
		pith_map_close(&map);
	free(file->checked);
	free(file);
}

void pith_file_info(const struct pith_file *file, struct pith_file_info *out)
{
	const struct pith_header *h = &file->header;
	*out = (struct pith_file_info){
		.generation = h->generation,
		.container_version = h->container_version,
		.numerics_version = h->numerics_version,
		.incompatible = h->incompatible,
		.read_only_compatible = h->read_only_compatible,
		.compatible = h->compatible,
		.file_nbytes = h->file_nbytes,
		.mapped_nbytes = file->nbytes,
		.weight_count = file->tables.wght.count,
		.term_count = file->tables.term.count,
		.plane_count = file->tables.plan.count,
		.block_count = file->tables.blck.count,
		.tensor_align = h->tensor_align,
		.flags = file->flags,
	};
	memcpy(out->file_root, h->file_root, sizeof(out->file_root));
	memcpy(out->model_identity, h->model_identity, sizeof(out->model_identity));
}

void pith_section_name(uint32_t id, char name[5])
{
	pith_section_id_name(id, name);
}

const char *pith_version(void)
{
	return "0.1.0";
}
