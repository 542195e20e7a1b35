/*
 * SHA-256 (FIPS 180-4), for lineage: sources are named by it, as Hugging Face does.
 * Not used for secrets.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_SHA256_H
#define PITH_CONVERT_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
	uint32_t state[8];
	uint64_t nbytes;    /* hashed so far */
	uint8_t block[64];  /* nbytes % 64 bytes wait here */
};

void sha256_begin(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t nbytes);
/* The state is spent afterwards. */
void sha256_end(struct sha256 *h, uint8_t digest[32]);

#endif
