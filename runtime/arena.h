/*
 * One allocation for everything: a layout function takes its arrays from an arena, once
 * with no memory to learn the size and once to place them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_ARENA_H
#define PITH_RUNTIME_ARENA_H

#include "bytes.h"

#define PITH_ARENA_ALIGN 64u

struct pith_arena {
	uint8_t *base; /* aligned to PITH_ARENA_ALIGN; NULL: only count */
	size_t used;
	bool overflow; /* a size did not fit: 'used' means nothing */
};

/* Room for [a, b] values of 'size' bytes, aligned; NULL when only counting. */
static inline void *pith_arena_take(struct pith_arena *arena, size_t a, size_t b, size_t size)
{
	size_t nbytes;
	if (!pith_mul_size(a, b, &nbytes) || !pith_mul_size(nbytes, size, &nbytes) ||
	    nbytes > SIZE_MAX / 2 - PITH_ARENA_ALIGN - arena->used) {
		arena->overflow = true;
		return NULL;
	}
	size_t start = arena->used;
	arena->used = pith_round_up(start + nbytes, PITH_ARENA_ALIGN);
	return arena->base != NULL && !arena->overflow ? arena->base + start : NULL;
}

/* Where to start in memory that has PITH_ARENA_ALIGN bytes to spare. */
static inline uint8_t *pith_arena_align(void *memory)
{
	return (uint8_t *)memory + (PITH_ARENA_ALIGN - (uintptr_t)memory % PITH_ARENA_ALIGN);
}

#endif
