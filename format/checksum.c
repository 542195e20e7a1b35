/*
 * Checksums by libxxhash.  The state behind 'struct pith_xxh3' is the library's own;
 * the cast keeps its header out of ours.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "checksum.h"

#include <xxhash.h>

uint64_t pith_xxh3_64(const void *data, size_t nbytes)
{
	return XXH3_64bits(data, nbytes);
}

void pith_xxh3_128(const void *data, size_t nbytes, uint8_t out[16])
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, nbytes));
	memcpy(out, canonical.digest, 16);
}

struct pith_xxh3 *pith_xxh3_new(void)
{
	return (struct pith_xxh3 *)XXH3_createState();
}

void pith_xxh3_free(struct pith_xxh3 *state)
{
	XXH3_freeState((XXH3_state_t *)state);
}

void pith_xxh3_reset_64(struct pith_xxh3 *state)
{
	XXH3_64bits_reset((XXH3_state_t *)state);
}

void pith_xxh3_reset_128(struct pith_xxh3 *state)
{
	XXH3_128bits_reset((XXH3_state_t *)state);
}

void pith_xxh3_update_64(struct pith_xxh3 *state, const void *data, size_t nbytes)
{
	XXH3_64bits_update((XXH3_state_t *)state, data, nbytes);
}

void pith_xxh3_update_128(struct pith_xxh3 *state, const void *data, size_t nbytes)
{
	XXH3_128bits_update((XXH3_state_t *)state, data, nbytes);
}

uint64_t pith_xxh3_digest_64(const struct pith_xxh3 *state)
{
	return XXH3_64bits_digest((const XXH3_state_t *)state);
}

void pith_xxh3_digest_128(const struct pith_xxh3 *state, uint8_t out[16])
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest((const XXH3_state_t *)state));
	memcpy(out, canonical.digest, 16);
}
