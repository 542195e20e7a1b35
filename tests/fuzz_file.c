/*
 * libFuzzer target: opens a file, asks for everything in it, unpacks some rows, verifies.
 * The mutated bytes are examined as they are and, so that the rules behind the checksums
 * are reached too, with every checksum made right (reseal.h).  Seeds are written into the
 * corpus folder when it starts.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "reseal.h"
#include "sample_file.h"
#include "term.h"
#include "writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t nbytes, size_t cap, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t nbytes, size_t cap);

enum { MOST_WEIGHTS = 64, MOST_ROWS = 3, MOST_COLUMNS = 1 << 16 };

/* The sample file, new and edited once, into the first folder among the arguments. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	for (int i = 1; i < *argc; i++) {
		const char *folder = (*argv)[i];
		struct stat st;
		char path[300];
		if (folder[0] == '-' || stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
			continue;
		snprintf(path, sizeof(path), "%s/seed-new", folder);
		sample_write(path, NULL, NULL);
		snprintf(path, sizeof(path), "%s/seed-edited", folder);
		sample_write(path, NULL, NULL);
		pith_file_append_lineage(path, PITH_LINEAGE_NOTE, "key", "value", NULL);
		break;
	}
	return 0;
}

/* Results flow here so that no read is optimised away. */
static volatile uint64_t sink;

static void read_bytes(const void *data, size_t nbytes)
{
	const uint8_t *p = data;
	uint64_t sum = 0;
	for (size_t i = 0; i < nbytes; i++)
		sum += p[i];
	sink += sum;
}

static void examine_weight(const struct pith_weight *weight)
{
	struct pith_term term;
	struct pith_transform transform;
	struct pith_term_info info;
	struct pith_plane_info plane;
	const void *dense;
	uint32_t dtype;
	read_bytes(weight->name, weight->name_nbytes);
	for (size_t i = 0; i < weight->term_count; i++) {
		pith_weight_term_info(weight, i, &info, NULL);
		for (size_t p = 0; pith_weight_plane(weight, i, p, &plane, NULL) == PITH_OK; p++)
			read_bytes(plane.data, 64);
		if (pith_weight_term(weight, i, &term, NULL) == PITH_OK)
			pith_term_verify(&term, NULL);
	}
	for (size_t i = 0; i < weight->transform_count; i++)
		if (pith_weight_transform(weight, i, &transform, NULL) == PITH_OK)
			pith_transform_verify(&transform, NULL);
	if (pith_weight_dense(weight, &dense, &dtype, NULL) == PITH_OK)
		read_bytes(dense, weight->m * weight->n * pith_dtype_nbytes(dtype));
	pith_weight_verify(weight, NULL);
	if (weight->n > MOST_COLUMNS)
		return;
	float *out = malloc((MOST_ROWS + 1) * weight->n * sizeof(float));
	size_t count = weight->m < MOST_ROWS ? weight->m : MOST_ROWS;
	if (out != NULL &&
	    pith_weight_unpack_rows(weight, weight->m - count, count, out,
	                            out + MOST_ROWS * weight->n, NULL) == PITH_OK)
		read_bytes(out, count * weight->n * sizeof(float));
	free(out);
}

static void examine_sections(const struct pith_file *file)
{
	for (size_t i = 0; i < pith_file_section_count(file); i++) {
		struct pith_section section;
		const void *stored;
		char *decoded;
		size_t nbytes;
		pith_file_section_at(file, i, &section, NULL);
		if (pith_file_section(file, section.id, &stored, &nbytes, NULL) == PITH_OK)
			read_bytes(stored, nbytes);
		if (pith_file_section_read(file, section.id, 1 << 20, &decoded, &nbytes, NULL) ==
		    PITH_OK)
			read_bytes(decoded, nbytes + 1);
		free(decoded);
	}
}

static void examine_tables(const struct pith_file *file)
{
	struct pith_file_info info;
	struct pith_arch_value arch;
	struct pith_block block;
	struct pith_lineage line;
	struct pith_canary canary;
	uint64_t number;
	pith_file_info(file, &info);
	for (size_t i = 0; i < pith_file_arch_count(file); i++)
		if (pith_file_arch_at(file, i, &arch, NULL) == PITH_OK && arch.string != NULL)
			read_bytes(arch.string, (size_t)arch.string_nbytes);
	pith_file_arch_u64(file, "hidden_size", &number, NULL);
	for (size_t i = 0; i < info.block_count; i++)
		pith_file_block(file, i, &block, NULL);
	for (size_t i = 0; i < pith_file_lineage_count(file); i++)
		if (pith_file_lineage_at(file, i, &line, NULL) == PITH_OK) {
			read_bytes(line.key, line.key_nbytes);
			read_bytes(line.value, line.value_nbytes);
		}
	for (size_t i = 0; i < info.weight_count && i < MOST_WEIGHTS; i++) {
		struct pith_weight weight;
		pith_file_canary(file, i, &canary, NULL);
		if (pith_file_weight_at(file, i, &weight, NULL) == PITH_OK)
			examine_weight(&weight);
	}
	struct pith_weight weight;
	pith_file_find(file, "mixed", &weight, NULL);
}

static void examine(const uint8_t *data, size_t nbytes, unsigned flags)
{
	struct pith_verify_options options = { .threads = 1 };
	struct pith_file *file;
	struct pith_error err;
	if (pith_file_open_memory(data, nbytes, flags, &file, &err) != PITH_OK)
		return;
	examine_sections(file);
	examine_tables(file);
	pith_file_verify(file, &options, NULL, &err);
	pith_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
	/* no slack behind the last byte but for the alignment, so that a read there is seen */
	size_t room = (nbytes + 63) / 64 * 64;
	uint8_t *copy = aligned_alloc(64, room != 0 ? room : 64);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, nbytes);
	examine(copy, nbytes, 0);
	reseal(copy, nbytes);
	examine(copy, nbytes, 0);
	examine(copy, nbytes, PITH_OPEN_NO_VERIFY);
	free(copy);
	return 0;
}

/* ---- mutation ---- */

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* A number that a bound may have been forgotten for. */
static uint64_t interesting(uint64_t old, size_t nbytes, uint64_t *state)
{
	switch (next_random(state) % 8) {
	case 0: return old + 1;
	case 1: return old - 1;
	case 2: return old ^ (uint64_t)1 << next_random(state) % 64;
	case 3: return next_random(state) % 32;
	case 4: return nbytes - next_random(state) % 256;
	case 5: return next_random(state) % (nbytes + 1) / 64 * 64;
	case 6: return UINT64_MAX - next_random(state) % 128;
	default: return (uint64_t)1 << next_random(state) % 64;
	}
}

/* Where a field of the header, the directory or a section starts. */
static size_t pick_field(const uint8_t *data, size_t nbytes, uint64_t *state)
{
	uint64_t directory = load_le64(data + 512 + 56), count = load_le32(data + 512 + 64);
	uint64_t begin = 512, size = 112, i = next_random(state) % 20;
	if (i > 0 && count <= 256 && directory <= nbytes && count * 64 <= nbytes - directory) {
		begin = directory;
		size = count * 64;
		if (i > 2 && count != 0) {
			const uint8_t *e = data + directory + next_random(state) % count * 64;
			begin = load_le64(e + 8);
			size = load_le64(e + 16);
		}
	}
	if (begin > nbytes - 8 || size < 8)
		begin = size = 512;
	uint64_t at = begin + next_random(state) % size / 4 * 4;
	return at <= nbytes - 8 ? (size_t)at : 512;
}

/*
 * Bytes inserted or removed shift every offset and end at the header, so most mutations
 * change fields in place.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t nbytes, size_t cap, unsigned seed)
{
	uint64_t state = seed;
	if (nbytes < 2048 || next_random(&state) % 8 == 0)
		return LLVMFuzzerMutate(data, nbytes, cap);
	for (unsigned n = 1 + next_random(&state) % 3; n > 0; n--) {
		uint8_t *field = data + pick_field(data, nbytes, &state);
		if (next_random(&state) % 2 == 0)
			store_le32(field, (uint32_t)interesting(load_le32(field), nbytes, &state));
		else
			store_le64(field, interesting(load_le64(field), nbytes, &state));
	}
	return nbytes;
}
