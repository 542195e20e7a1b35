/*
 * Metadata edits in place: append sections and a directory, sync, write the header slot
 * that is not in use, sync.  Until the last step the old generation is the file; what it
 * names is never touched.  Spec: spec/container.md, section 1.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "checksum.h"
#include "file.h"
#include "output_file.h"
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* What is appended behind the old file's end, and the header that names it. */
struct edit {
	struct pith_header header;
	struct pith_directory_entry directory[PITH_MAX_DIRECTORY_COUNT];
	uint8_t *data; /* starts at 'off' in the file */
	size_t nbytes, cap;
	uint64_t off;
};

/* Where the section 'id' of 'nbytes' bytes goes; its bytes are the caller's to fill. */
static pith_status place_section(struct edit *edit, uint32_t id, uint64_t nbytes, uint8_t **at,
                                 struct pith_error *err)
{
	uint32_t i = 0, count = edit->header.directory_count;
	while (i < count && edit->directory[i].section_id < id)
		i++;
	if (i == count || edit->directory[i].section_id != id) {
		if (count == PITH_MAX_DIRECTORY_COUNT)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, "container.7",
			                 "no room in the directory for another section");
		memmove(&edit->directory[i + 1], &edit->directory[i],
		        (count - i) * sizeof(edit->directory[0]));
		edit->header.directory_count++;
	}
	edit->directory[i] = (struct pith_directory_entry){
		.section_id = id,
		.encoding = PITH_ENCODING_RAW,
		.off = edit->off + edit->nbytes,
		.nbytes = nbytes,
		.raw_nbytes = nbytes,
		.entry_nbytes = pith_section_entry_nbytes(id),
	};
	*at = edit->data + edit->nbytes;
	edit->nbytes += pith_round_up((size_t)nbytes, PITH_ALIGN);
	return PITH_OK;
}

static void seal_sections(struct edit *edit)
{
	uint8_t *directory = edit->data + edit->nbytes;
	size_t nbytes = edit->header.directory_count * (size_t)PITH_DIRECTORY_NBYTES;
	edit->header.directory_off = edit->off + edit->nbytes;
	for (uint32_t i = 0; i < edit->header.directory_count; i++) {
		struct pith_directory_entry *e = &edit->directory[i];
		if (e->off >= edit->off)
			e->xxh3 = pith_xxh3_64(edit->data + (e->off - edit->off),
			                       pith_round_up((size_t)e->nbytes, PITH_ALIGN));
		pith_directory_entry_encode(e, directory + i * (size_t)PITH_DIRECTORY_NBYTES);
	}
	edit->nbytes += nbytes;
	edit->header.file_nbytes = edit->off + edit->nbytes;
	pith_xxh3_128(directory, nbytes, edit->header.file_root);
}

/* Old LINE and TEXT with one entry and its strings behind them. */
static pith_status append_entry(struct edit *edit, const struct pith_file *file,
                                struct pith_lineage_entry *entry, const char *key,
                                const char *value, struct pith_error *err)
{
	const struct pith_table *line = &file->tables.line, *text = &file->tables.text;
	uint8_t *at;
	entry->key_off = text->nbytes;
	entry->value_off = text->nbytes + entry->key_nbytes;
	PITH_TRY(place_section(edit, PITH_SECTION_TEXT,
	                       entry->value_off + entry->value_nbytes, &at, err));
	if (text->nbytes != 0)
		memcpy(at, text->data, (size_t)text->nbytes);
	memcpy(at + entry->key_off, key, entry->key_nbytes);
	memcpy(at + entry->value_off, value, entry->value_nbytes);
	PITH_TRY(place_section(edit, PITH_SECTION_LINE, line->nbytes + PITH_LINE_NBYTES, &at, err));
	if (line->nbytes != 0)
		memcpy(at, line->data, (size_t)line->nbytes);
	pith_lineage_entry_encode(entry, at + line->nbytes);
	seal_sections(edit);
	return PITH_OK;
}

static pith_status build_edit(struct edit *edit, const struct pith_file *file, uint32_t kind,
                              const char *key, const char *value, struct pith_error *err)
{
	size_t key_nbytes = strlen(key), value_nbytes = strlen(value);
	size_t old_nbytes = (size_t)(file->tables.line.nbytes + file->tables.text.nbytes);
	if (key_nbytes > UINT32_MAX || value_nbytes > UINT32_MAX || kind < PITH_LINEAGE_SOURCE ||
	    kind > PITH_LINEAGE_NOTE)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "container.19",
		                 "lineage of kind %u", kind);
	struct pith_lineage_entry entry = {
		.kind = kind,
		.key_nbytes = (uint32_t)key_nbytes,
		.value_nbytes = (uint32_t)value_nbytes,
	};
	edit->cap = old_nbytes + key_nbytes + value_nbytes + PITH_LINE_NBYTES + 3 * PITH_ALIGN +
	            PITH_MAX_DIRECTORY_COUNT * PITH_DIRECTORY_NBYTES;
	edit->data = calloc(edit->cap, 1);
	if (edit->data == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for %zu bytes",
		                 edit->cap);
	edit->header = file->header;
	edit->header.generation++;
	edit->off = pith_round_up((size_t)file->header.file_nbytes, PITH_ALIGN);
	memcpy(edit->directory, file->directory, sizeof(edit->directory));
	return append_entry(edit, file, &entry, key, value, err);
}

/* Data first, then the slot, each synced before the next step. */
static pith_status write_edit(const struct edit *edit, const struct pith_file *file, int fd,
                              const char *path, struct pith_error *err)
{
	uint8_t slot[PITH_SLOT_NBYTES];
	uint64_t end = file->header.file_nbytes, slot_off = PITH_SLOT_OFF(1 - file->slot);
	pith_header_encode(&edit->header, slot);
	/* bytes behind the end are an interrupted edit's; the cut also zeroes up to edit->off */
	if (ftruncate(fd, (off_t)end) != 0)
		return pith_fail_errno(err, end, "write", path, errno);
	int errnum = pith_write_at(fd, edit->data, edit->nbytes, edit->off);
	if (errnum == 0 && fsync(fd) != 0 && errno != EINVAL)
		errnum = errno;
	if (errnum != 0) {
		if (ftruncate(fd, (off_t)end) != 0)
			errno = 0; /* the old generation does not mind what lies behind it */
		return pith_fail_errno(err, edit->off, "write", path, errnum);
	}
	errnum = pith_write_at(fd, slot, sizeof(slot), slot_off);
	if (errnum == 0 && fsync(fd) != 0 && errno != EINVAL)
		errnum = errno;
	return errnum == 0 ? PITH_OK : pith_fail_errno(err, slot_off, "write", path, errnum);
}

/* One editor at a time; the mapping is shared, so it shows an edit made since it was opened. */
static pith_status lock_file(const struct pith_file *file, int fd, const char *path,
                             struct pith_error *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	const uint8_t *slots = file->data + PITH_SLOT_OFF(0);
	if (fcntl(fd, F_SETLK, &lock) != 0)
		return pith_fail_errno(err, PITH_NO_OFF, "lock", path, errno);
	for (unsigned i = 0; i < 2; i++, slots += PITH_SLOT_NBYTES)
		if (pith_slot_state(slots) == PITH_SLOT_VALID &&
		    load_le64(slots + 8) > file->header.generation)
			return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL,
			                 "%.100s was edited by another process: try again", path);
	return PITH_OK;
}

static pith_status edit_file(const struct pith_file *file, const char *path, struct edit *edit,
                             struct pith_error *err)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return pith_fail_errno(err, PITH_NO_OFF, "open", path, errno);
	pith_status status = lock_file(file, fd, path, err);
	if (status == PITH_OK)
		status = write_edit(edit, file, fd, path, err);
	if (close(fd) != 0 && status == PITH_OK)
		status = pith_fail_errno(err, PITH_NO_OFF, "close", path, errno);
	return status;
}

pith_status pith_file_append_lineage(const char *path, uint32_t kind, const char *key,
                                     const char *value, struct pith_error *err)
{
	struct pith_file *file;
	PITH_TRY(pith_file_open(path, 0, &file, err));
	struct edit *edit = calloc(1, sizeof(*edit));
	pith_status status = PITH_OK;
	// spec container.md: "a reader that lacks one may read but not edit"
	if (file->header.read_only_compatible != 0)
		status = pith_fail(err, PITH_E_UNSUPPORTED, PITH_SLOT_OFF(file->slot) + 32,
		                   "container.5", "read-only-compatible features %#llx: needs a "
		                   "newer version to edit",
		                   (unsigned long long)file->header.read_only_compatible);
	else if (edit == NULL)
		status = pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to edit");
	/* a damaged table must not get a fresh checksum */
	if (status == PITH_OK)
		status = pith_file_section_check(file, PITH_SECTION_TEXT, err);
	if (status == PITH_OK)
		status = pith_file_section_check(file, PITH_SECTION_LINE, err);
	if (status == PITH_OK)
		status = build_edit(edit, file, kind, key, value, err);
	if (status == PITH_OK)
		status = edit_file(file, path, edit, err);
	if (edit != NULL)
		free(edit->data);
	free(edit);
	pith_file_close(file);
	return status;
}
