/*
 * A small .pith file with every kind of term, a permute, blocks, sections, canaries and
 * lineage, and what its weights unpack to, computed here from the plain arrays and not
 * with the library's decoders.  For the tests of loader/ and the fuzz target.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_SAMPLE_FILE_H
#define PITH_TESTS_SAMPLE_FILE_H

#include "writer.h"

enum { SAMPLE_WEIGHTS = 5, SAMPLE_MIXED_M = 20, SAMPLE_MIXED_N = 40 };

struct sample_weight {
	const char *name;
	size_t m, n;
	float *values; /* [m, n] the meaning */
};
struct sample {
	struct sample_weight weight[SAMPLE_WEIGHTS];
};

/* Write the sample to 'path'; the values of its weights go to *out when it is not NULL. */
pith_status sample_write(const char *path, struct sample *out, struct pith_error *err);
void sample_free(struct sample *sample);

/* A new folder for a test's files, and its removal with the files in it. */
void sample_folder(char path[64]);
void sample_remove_folder(const char *path);

/* A whole file in memory aligned to 64, freed with free(); NULL when it cannot be read. */
uint8_t *sample_read_file(const char *path, size_t *nbytes);

/* Numbers that look random and are the same everywhere. */
uint32_t sample_random(uint64_t *state);

#endif
