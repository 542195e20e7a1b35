/*
 * Fuzzing the reader of text archives: checksums of whatever the fuzzer made are put right first, so it gets behind
 * them.  A toy model decodes; memory is bounded.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_format.h"
#include "checksum.h"
#include "text_archive.h"
#include "toy_lm.h"

struct input {
	uint8_t *data;
	size_t nbytes;
};

static pith_status read_input(void *ctx, uint64_t off, void *data, size_t nbytes, struct pith_error *err)
{
	const struct input *in = ctx;
	if (off > in->nbytes || nbytes > in->nbytes - off)
		abort(); /* the reader promised to stay inside */
	(void)err;
	memcpy(data, in->data + off, nbytes);
	return PITH_OK;
}

/* Header, trailer, and, where the directory is raw, directory and segments. */
static void reseal(struct input *in)
{
	if (in->nbytes < 128)
		return;
	uint8_t *p = in->data, *trailer = p + in->nbytes - 64;
	static const uint8_t magic[8] = {0x89, 'P', 'T', 'Z', 0x0d, 0x0a, 0x1a, 0x0a};
	memcpy(p, magic, 8);
	store_le64(p + 56, pith_xxh3_64(p, 56));
	memcpy(trailer, "PZTR", 4);
	store_le64(trailer + 48, in->nbytes);
	uint64_t off = load_le64(trailer + 8), end = in->nbytes - 64;
	if (off >= 64 && off <= end && end - off >= 32) {
		uint8_t *directory = p + off;
		store_le64(trailer + 16, end - off);
		if (load_le32(trailer + 4) == 0) {
			uint64_t count = load_le32(directory + 8);
			store_le64(trailer + 24, end - off);
			store_le64(directory, load_le64(p + 56));
			for (uint64_t i = 0; i < count && 32 + 24 * (i + 1) <= end - off; i++) {
				uint8_t *entry = directory + 32 + 24 * i;
				uint64_t at = load_le64(entry);
				uint32_t stored = load_le32(entry + 12);
				if (at < 64 || at > off || off - at < 40 || stored > off - at - 40)
					continue;
				memcpy(p + at, "PZSG", 4);
				store_le64(p + at + 24, pith_xxh3_64(p + at + 40, stored));
				store_le32(p + at + 36, (uint32_t)pith_xxh3_64(p + at, 36));
				store_le64(entry + 16, pith_xxh3_64(p + at, 40));
			}
		}
		pith_xxh3_128(directory, (size_t)(end - off), trailer + 32);
	}
	store_le64(trailer + 56, pith_xxh3_64(trailer, 56));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
	struct pith_text_coder *coder = NULL;
	struct pith_archive *archive = NULL;
	struct input in = {malloc(nbytes + 1), nbytes};
	if (in.data == NULL || nbytes > 1 << 20 ||
	    pith_text_coder_of_lm(&toy_lm, &coder, NULL) != PITH_OK) {
		free(in.data);
		return 0;
	}
	memcpy(in.data, data, nbytes);
	reseal(&in);
	struct pith_archive_source source = {nbytes, read_input, &in};
	if (pith_archive_open(&source, &archive, NULL) == PITH_OK) {
		struct pith_archive_read_options o = {.coder = coder, .memory_limit = (size_t)32 << 20};
		if (pith_archive_selected_nbytes(archive, NULL) <= 1 << 20)
			pith_archive_read(archive, NULL, &o, NULL);
		pith_archive_close(archive);
	}
	pith_text_coder_free(coder);
	free(in.data);
	return 0;
}
