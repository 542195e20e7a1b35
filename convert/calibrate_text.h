/*
 * The calibration text: from a file to samples of token ids.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_TEXT_H
#define PITH_CONVERT_CALIBRATE_TEXT_H

#include "pith_status.h"

#include <stddef.h>
#include <stdint.h>

struct calibration_text {
	uint32_t *id;        /* [sample_count, length] */
	size_t sample_count, length;
	size_t token_count;  /* of the whole text */
	uint8_t digest[32];  /* SHA-256 of the file */
};

/*
 * Read 'path' (plain text, or one JSON object a line with a string "text"), tokenize it with the
 * tokenizer blob and take samples of 'length' tokens: one from each of 'samples' equal parts of the
 * text, where in its part 'seed' says.  A text with fewer tokens than samples * length gives fewer
 * samples; one with fewer than 'length' is PITH_E_ARGUMENT.  vocab: ids at or above it are PITH_E_CORRUPT.
 */
pith_status calibration_text_read(const char *path, const void *tokenizer, size_t tokenizer_nbytes,
                                  size_t samples, size_t length, uint64_t seed, uint64_t vocab,
                                  struct calibration_text *out, struct pith_error *err);
void calibration_text_free(struct calibration_text *t);

#endif
