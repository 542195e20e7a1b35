/*
 * The probe adds up the words of the planes in three ways; the fastest is what the memory gives.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_probe.h"

#include "bytes.h"
#include "cli.h"

#include <stdatomic.h>

#define CHUNK_NBYTES ((size_t)1 << 20)
#define LINE_NBYTES 64u
#define PREFETCH_NBYTES 2048u /* ahead; within what is readable because the last chunk reads plainly */

/* The widest loads the processor has: with narrow ones the core is the limit before the memory is. */
#if defined(__x86_64__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

typedef uint64_t line __attribute__((vector_size(LINE_NBYTES)));

struct reading {
	const struct cli_probe *probe;
	unsigned way;
	atomic_uint_least64_t sum; /* keeps the reads alive */
};

/* Add the lines of four streams, which lie 'apart' bytes apart.  prefetch: ask for what is PREFETCH_NBYTES ahead. */
static inline uint64_t add_streams(const uint8_t *p, size_t apart, size_t nbytes, size_t step, bool prefetch)
{
	line sum[4] = {{0}}, next;
	uint64_t total = 0;
	for (size_t at = 0; at < nbytes; at += step)
		for (size_t s = 0; s < 4; s++) {
			const uint8_t *from = p + s * apart + at;
			if (prefetch)
				__builtin_prefetch(from + PREFETCH_NBYTES);
			memcpy(&next, from, sizeof(next));
			sum[s] += next;
		}
	sum[0] += sum[1] + sum[2] + sum[3];
	for (size_t w = 0; w < LINE_NBYTES / sizeof(total); w++)
		total += sum[0][w];
	return total;
}

WIDEST static uint64_t add_chunk(const uint8_t *p, unsigned way)
{
	if (way == CLI_PROBE_STREAMS)
		return add_streams(p, CHUNK_NBYTES / 4, CHUNK_NBYTES / 4, LINE_NBYTES, false);
	return add_streams(p, LINE_NBYTES, CHUNK_NBYTES, 4 * LINE_NBYTES, way == CLI_PROBE_PREFETCH);
}

static void read_chunk(void *arg, size_t i)
{
	struct reading *r = arg;
	const uint8_t *p = r->probe->data + i * CHUNK_NBYTES;
	size_t left = r->probe->nbytes - i * CHUNK_NBYTES;
	size_t step = 4 * LINE_NBYTES, whole = (left < CHUNK_NBYTES ? left : CHUNK_NBYTES) / step * step;
	uint64_t total = left >= CHUNK_NBYTES + PREFETCH_NBYTES
	                     ? add_chunk(p, r->way)
	                     : add_streams(p, LINE_NBYTES, whole, step, false);
	atomic_fetch_add_explicit(&r->sum, total, memory_order_relaxed);
}

double cli_probe_read(const struct cli_probe *probe, const struct pith_executor *executor, unsigned way)
{
	struct reading r = {.probe = probe, .way = way};
	double start = cli_seconds();
	executor->run(executor, read_chunk, &r, (probe->nbytes + CHUNK_NBYTES - 1) / CHUNK_NBYTES);
	double seconds = cli_seconds() - start;
	return seconds > 0 ? (double)probe->nbytes / seconds / 1e9 : 0;
}

struct cli_probe cli_probe_of(const struct pith_file *file)
{
	struct cli_probe probe = {0};
	uint64_t low = UINT64_MAX, high = 0;
	struct pith_file_info info;
	pith_file_info(file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct pith_weight weight;
		struct pith_plane_info plane;
		if (pith_file_weight_at(file, i, &weight, NULL) != PITH_OK ||
		    pith_weight_plane(&weight, 0, 0, &plane, NULL) != PITH_OK)
			continue;
		if (plane.off < low)
			probe.data = plane.data;
		low = plane.off < low ? plane.off : low;
		high = plane.off + plane.nbytes > high ? plane.off + plane.nbytes : high;
	}
	probe.nbytes = probe.data != NULL ? (size_t)(high - low) : 0;
	return probe;
}
