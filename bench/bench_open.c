/*
 * Time to open a file and to find a weight in it, with 10 and with 10,000 tensors: opening
 * looks at the header and the directory only, so the number of tensors must not show.
 * Warm page cache, one thread.  Usage: bench_open [rounds]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith.h"
#include "writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { FEW = 10, MANY = 10000, BATCH = 50 };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void weight_name(char name[64], unsigned i)
{
	snprintf(name, 64, "model.layers.%u.mlp.up_proj.weight", i);
}

static pith_status write_file(const char *path, unsigned count, struct pith_error *err)
{
	static const float values[64 * 64];
	struct pith_writer *w;
	struct pith_packed_term term;
	PITH_TRY(pith_dense_pack(values, 64, 64, PITH_DTYPE_BF16, &term, err));
	pith_status status = pith_writer_new(path, NULL, &w, err);
	for (unsigned i = 0; i < count && status == PITH_OK; i++) {
		char name[64];
		weight_name(name, i);
		struct pith_writer_weight weight = { .name = name, .flags = 1, .rank = 2,
			                             .dim = { 64, 64 }, .terms = &term,
			                             .term_count = 1 };
		status = pith_writer_weight(w, &weight, err);
	}
	pith_packed_free(&term);
	return status == PITH_OK ? pith_writer_finish(w, err) : status;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/*
 * Median over rounds of the seconds of one call: open and close, or with a find (of another
 * name each time) in between.
 */
static double measure(const char *path, unsigned count, bool find, size_t rounds, double *times)
{
	for (size_t r = 0; r < rounds; r++) {
		double begin = now();
		for (unsigned i = 0; i < BATCH; i++) {
			struct pith_file *file;
			struct pith_weight weight;
			char name[64];
			weight_name(name, (i * 7919u + (unsigned)r) % count);
			if (pith_file_open(path, 0, &file, NULL) != PITH_OK ||
			    (find && pith_file_find(file, name, &weight, NULL) != PITH_OK))
				return -1;
			pith_file_close(file);
		}
		times[r] = (now() - begin) / BATCH;
	}
	qsort(times, rounds, sizeof(*times), compare_doubles);
	return times[rounds / 2];
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 201;
	const char *root = getenv("TMPDIR");
	const unsigned count[2] = { FEW, MANY };
	struct pith_error err = { 0 };
	double *times = calloc(rounds + 1, sizeof(*times));
	double open_seconds[2] = { 0 }, find_seconds[2] = { 0 };
	for (int k = 0; k < 2 && times != NULL; k++) {
		char path[300];
		snprintf(path, sizeof(path), "%s/bench_open.%ld.pith", root != NULL ? root : "/tmp",
		         (long)getpid());
		if (write_file(path, count[k], &err) != PITH_OK) {
			fprintf(stderr, "bench_open: %s\n", err.msg);
			unlink(path);
			return 1;
		}
		measure(path, count[k], true, 3, times); /* warm */
		open_seconds[k] = measure(path, count[k], false, rounds, times);
		find_seconds[k] = measure(path, count[k], true, rounds, times);
		unlink(path);
		printf("%6u tensors: open %6.2f us, open and find %6.2f us\n", count[k],
		       1e6 * open_seconds[k], 1e6 * find_seconds[k]);
	}
	printf("ratio: open %.2f, open and find %.2f\n", open_seconds[1] / open_seconds[0],
	       find_seconds[1] / find_seconds[0]);
	free(times);
	return 0;
}
