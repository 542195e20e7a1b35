/*
 * FIPS 180-4, sections 4.1.2, 5 and 6.2; names are those of the standard.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sha256.h"

#include <string.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static uint32_t load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static void compress_block(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64];
	for (size_t t = 0; t < 16; t++)
		w[t] = load_be32(block + 4 * t);
	for (size_t t = 16; t < 64; t++) {
		uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
		uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
		w[t] = w[t - 16] + s0 + w[t - 7] + s1;
	}
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	for (size_t t = 0; t < 64; t++) {
		uint32_t sum1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
		uint32_t t1 = h + sum1 + ((e & f) ^ (~e & g)) + round_constants[t] + w[t];
		uint32_t sum0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
		uint32_t t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	const uint32_t add[8] = {a, b, c, d, e, f, g, h};
	for (size_t i = 0; i < 8; i++)
		state[i] += add[i];
}

void sha256_begin(struct sha256 *h)
{
	static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	memset(h, 0, sizeof(*h));
	memcpy(h->state, initial, sizeof(initial));
}

void sha256_add(struct sha256 *h, const void *data, size_t nbytes)
{
	const uint8_t *p = data;
	size_t held = (size_t)(h->nbytes % 64);
	h->nbytes += nbytes;
	if (held > 0) {
		size_t take = nbytes < 64 - held ? nbytes : 64 - held;
		memcpy(h->block + held, p, take);
		p += take;
		nbytes -= take;
		if (held + take < 64)
			return;
		compress_block(h->state, h->block);
	}
	for (; nbytes >= 64; p += 64, nbytes -= 64)
		compress_block(h->state, p);
	if (nbytes > 0)
		memcpy(h->block, p, nbytes);
}

void sha256_end(struct sha256 *h, uint8_t digest[32])
{
	uint64_t nbits = h->nbytes * 8;
	size_t held = (size_t)(h->nbytes % 64);
	h->block[held++] = 0x80;
	if (held > 56) {
		memset(h->block + held, 0, 64 - held);
		compress_block(h->state, h->block);
		held = 0;
	}
	memset(h->block + held, 0, 56 - held);
	store_be32(h->block + 56, (uint32_t)(nbits >> 32));
	store_be32(h->block + 60, (uint32_t)nbits);
	compress_block(h->state, h->block);
	for (size_t i = 0; i < 8; i++)
		store_be32(digest + 4 * i, h->state[i]);
}
