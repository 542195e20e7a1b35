/*
 * The two checksums of the format, XXH3-64 and XXH3-128 with seed 0 and the default
 * secret (spec/container.md), in one piece and as a stream.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_CHECKSUM_H
#define PITH_FORMAT_CHECKSUM_H

#include "bytes.h"

uint64_t pith_xxh3_64(const void *data, size_t nbytes);
/* Canonical form: most significant byte first. */
void pith_xxh3_128(const void *data, size_t nbytes, uint8_t out[16]);

/* A running XXH3 of either width; one thread at a time. */
struct pith_xxh3;
struct pith_xxh3 *pith_xxh3_new(void); /* NULL: no memory; freed with pith_xxh3_free() */
void pith_xxh3_free(struct pith_xxh3 *state);
void pith_xxh3_reset_64(struct pith_xxh3 *state);
void pith_xxh3_reset_128(struct pith_xxh3 *state);
/* After a reset the state takes data for that width only. */
void pith_xxh3_update_64(struct pith_xxh3 *state, const void *data, size_t nbytes);
void pith_xxh3_update_128(struct pith_xxh3 *state, const void *data, size_t nbytes);
uint64_t pith_xxh3_digest_64(const struct pith_xxh3 *state);
void pith_xxh3_digest_128(const struct pith_xxh3 *state, uint8_t out[16]);

#endif
