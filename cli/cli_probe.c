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
#define LINE_WORDS 8u
#define PREFETCH_NBYTES 2048u /* ahead; within what is readable because the last chunk reads plainly */

#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define PREFETCH(p) ((void)0)
#endif

struct reading {
	const struct cli_probe *probe;
	unsigned way;
	atomic_uint_least64_t sum; /* keeps the reads alive */
};

static inline void add_line(uint64_t sum[LINE_WORDS], const uint8_t *p)
{
	uint64_t word[LINE_WORDS];
	memcpy(word, p, sizeof(word));
	for (size_t i = 0; i < LINE_WORDS; i++)
		sum[i] += word[i];
}

static void read_chunk(void *arg, size_t i)
{
	struct reading *r = arg;
	const uint8_t *p = r->probe->data + i * CHUNK_NBYTES;
	size_t left = r->probe->nbytes - i * CHUNK_NBYTES;
	size_t nbytes = left < CHUNK_NBYTES ? left / LINE_NBYTES * LINE_NBYTES : CHUNK_NBYTES;
	uint64_t sum[4][LINE_WORDS] = {{0}}, total = 0;
	if (r->way == CLI_PROBE_STREAMS && nbytes == CHUNK_NBYTES) {
		for (size_t at = 0; at < nbytes / 4; at += LINE_NBYTES)
			for (size_t s = 0; s < 4; s++)
				add_line(sum[s], p + s * (nbytes / 4) + at);
	} else if (r->way == CLI_PROBE_PREFETCH && left > CHUNK_NBYTES + PREFETCH_NBYTES) {
		for (size_t at = 0; at < nbytes; at += LINE_NBYTES) {
			PREFETCH(p + at + PREFETCH_NBYTES);
			add_line(sum[at / LINE_NBYTES % 2], p + at);
		}
	} else {
		for (size_t at = 0; at < nbytes; at += LINE_NBYTES)
			add_line(sum[at / LINE_NBYTES % 2], p + at);
	}
	for (size_t s = 0; s < 4; s++)
		for (size_t w = 0; w < LINE_WORDS; w++)
			total += sum[s][w];
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
