/*
 * An archive that is open, as its readers, the recovery and the appending writer see it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_READER_H
#define PITH_TEXT_ARCHIVE_READER_H

#include "archive_directory.h"

struct pith_archive {
	struct pith_archive_source source;
	struct archive_header header;
	uint64_t begin; /* end of header and model */
	struct archive_trailer trailer;
	struct archive_directory directory;
	bool is_recovered, header_lost;
	uint64_t lost_links;
};

/* Header, its model inside the source. */
pith_status archive_load_header(struct pith_archive *a, struct pith_error *err);
/* Is this the model that segments of method 2 need? */
pith_status archive_check_model(const struct pith_archive *a, const uint8_t identity[16],
                                uint32_t numerics_version, struct pith_error *err);
/* payload: [h->records_nbytes] records as stored.  *plain: freed by the caller, may be 'payload' itself.  text.21. */
pith_status archive_unpack_records(const struct segment_header *h, uint8_t *payload, uint64_t off,
                                   uint8_t **plain, size_t *nbytes, struct pith_error *err);

#endif
