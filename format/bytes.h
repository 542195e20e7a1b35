/*
 * Reading and writing little-endian integers, checked size arithmetic and the
 * half-width float conversions.  Bytes are read with these, never by casting a
 * struct.  No state, no dependency, header only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_BYTES_H
#define PITH_FORMAT_BYTES_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Return on the first failure; the callee has filled the error record. */
#define PITH_TRY(expr)                          \
	do {                                    \
		pith_status try_status_ = (expr); \
		if (try_status_ != PITH_OK)     \
			return try_status_;     \
	} while (0)

#define PITH_ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static inline uint16_t load_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static inline uint32_t load_le32(const uint8_t *p)
{
	return (uint32_t)load_le16(p) | (uint32_t)load_le16(p + 2) << 16;
}

static inline uint64_t load_le64(const uint8_t *p)
{
	return (uint64_t)load_le32(p) | (uint64_t)load_le32(p + 4) << 32;
}

static inline void store_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void store_le32(uint8_t *p, uint32_t v)
{
	store_le16(p, (uint16_t)v);
	store_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void store_le64(uint8_t *p, uint64_t v)
{
	store_le32(p, (uint32_t)v);
	store_le32(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t bits_of_f32(float v)
{
	uint32_t u;
	memcpy(&u, &v, sizeof(u));
	return u;
}

static inline float f32_of_bits(uint32_t u)
{
	float v;
	memcpy(&v, &u, sizeof(v));
	return v;
}

static inline float load_f32(const uint8_t *p) { return f32_of_bits(load_le32(p)); }
static inline void store_f32(uint8_t *p, float v) { store_le32(p, bits_of_f32(v)); }

static inline double load_f64(const uint8_t *p)
{
	uint64_t u = load_le64(p);
	double v;
	memcpy(&v, &u, sizeof(v));
	return v;
}

static inline void store_f64(uint8_t *p, double v)
{
	uint64_t u;
	memcpy(&u, &v, sizeof(u));
	store_le64(p, u);
}

/* bfloat16 <-> float: widening is exact, narrowing rounds to nearest even, NaN stays NaN. */
static inline float f32_of_bf16(uint16_t h) { return f32_of_bits((uint32_t)h << 16); }

static inline uint16_t bf16_of_f32(float v)
{
	uint32_t u = bits_of_f32(v);
	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40u);
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* IEEE 754 binary16 -> float, exact, subnormals kept. */
static inline float f32_of_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t exponent = h >> 10 & 0x1fu;
	uint32_t fraction = h & 0x3ffu;
	if (exponent == 0x1f)
		return f32_of_bits(sign | 0x7f800000u | fraction << 13);
	if (exponent != 0)
		return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
	/* zero or subnormal: fraction * 2^-24, exact in float */
	float magnitude = (float)fraction * 0x1p-24f;
	return f32_of_bits(sign | bits_of_f32(magnitude));
}

/* float -> IEEE 754 binary16, nearest even; overflow gives infinity, NaN stays NaN. */
static inline uint16_t f16_of_f32(float v)
{
	uint32_t u = bits_of_f32(v);
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
	uint32_t mag = u & 0x7fffffffu;
	if (mag > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u | (mag >> 13 & 0x1ffu));
	if (mag >= 0x477ff000u) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00u);
	if (mag < 0x38800000u) {
		/* subnormal half: adding 0.5 leaves the value in units of 2^-24, rounded to even */
		float shifted = f32_of_bits(mag) + 0.5f;
		return (uint16_t)(sign | (bits_of_f32(shifted) - 0x3f000000u));
	}
	uint32_t rounded = mag + 0xfffu + (mag >> 13 & 1u);
	return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

/* *out = a * b; false (and *out = 0) when the product does not fit. */
static inline bool pith_mul_size(size_t a, size_t b, size_t *out)
{
	*out = 0;
	if (a != 0 && b > SIZE_MAX / a)
		return false;
	*out = a * b;
	return true;
}

/* v rounded up to a multiple of 'multiple' (> 0); the caller knows that it fits. */
static inline size_t pith_round_up(size_t v, size_t multiple)
{
	return (v + multiple - 1) / multiple * multiple;
}

#endif
