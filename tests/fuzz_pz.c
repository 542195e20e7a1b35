/*
 * Fuzzing the readers of text archives: checksums of whatever the fuzzer made are put right first, so it gets behind
 * them.  Then it is read as it is, appended to and read again, and recovered as if the directory were lost.  A toy
 * model decodes; memory is bounded.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_memory.h"
#include "archive_reseal.h"
#include "bytes.h"
#include "text_archive.h"
#include "toy_lm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

static pith_status ignore_loss(void *ctx, size_t member, uint64_t off, uint64_t nbytes,
                               const struct pith_error *why, struct pith_error *err)
{
	(void)ctx, (void)member, (void)off, (void)nbytes, (void)why, (void)err;
	return PITH_OK;
}

static void read_archive(const struct pith_archive *archive, const struct pith_text_coder *coder)
{
	struct pith_archive_read_options o = {.coder = coder, .memory_limit = (size_t)32 << 20,
	                                      .every_segment = true, .lost = ignore_loss};
	if (pith_archive_selected_nbytes(archive, NULL) <= 1 << 20)
		pith_archive_read(archive, NULL, &o, NULL);
}

/* A member more, under the name of the first if there is one; the result must open. */
static void append_and_read(const struct pith_archive *archive, const struct archive_memory *in)
{
	struct archive_memory grown = {0};
	struct pith_archive_writer *w = NULL;
	struct pith_archive *again = NULL;
	struct pith_archive_info info;
	pith_archive_info(archive, &info);
	archive_memory_put(&grown, in->data, (size_t)info.archive_nbytes, NULL);
	struct pith_archive_writer_options o = {.append_to = archive, .sink = archive_memory_put,
	                                        .sink_ctx = &grown};
	struct pith_archive_member m = {.kind = PITH_MEMBER_FILE, .name = "n", .name_nbytes = 1, .target = ""};
	if (info.member_count > 0) {
		m.name = pith_archive_member_at(archive, 0)->name;
		m.name_nbytes = strlen(m.name);
	}
	if (pith_archive_writer_new(&o, &w, NULL) == PITH_OK) {
		if (pith_archive_writer_member(w, &m, NULL) != PITH_OK ||
		    pith_archive_writer_data(w, "new", 3, NULL) != PITH_OK ||
		    pith_archive_writer_finish(w, NULL, NULL) != PITH_OK)
			abort();
		struct pith_archive_source source = {grown.nbytes, archive_memory_get, &grown};
		if (pith_archive_open(&source, &again, NULL) != PITH_OK || pith_archive_find(again, m.name) == SIZE_MAX)
			abort();
	}
	pith_archive_writer_free(w);
	pith_archive_close(again);
	free(grown.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
	struct pith_text_coder *coder = NULL;
	struct pith_archive *archive = NULL;
	struct archive_memory in = {.data = malloc(nbytes + 1), .nbytes = nbytes};
	if (in.data == NULL || nbytes > 1 << 20 ||
	    pith_text_coder_of_lm(&toy_lm, &coder, NULL) != PITH_OK) {
		free(in.data);
		return 0;
	}
	memcpy(in.data, data, nbytes);
	archive_reseal(in.data, nbytes);
	struct pith_archive_source source = {nbytes, archive_memory_get, &in};
	if (pith_archive_open(&source, &archive, NULL) == PITH_OK) {
		read_archive(archive, coder);
		if (nbytes % 8 == 0) /* the slow part: every eighth */
			append_and_read(archive, &in);
		pith_archive_close(archive);
	}
	if (pith_archive_recover(&source, NULL, &archive, NULL) == PITH_OK) {
		read_archive(archive, coder);
		pith_archive_close(archive);
	}
	pith_text_coder_free(coder);
	free(in.data);
	return 0;
}
