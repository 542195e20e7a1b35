/*
 * What the coder's plan costs and gains: bits per byte and KB/s both ways, for one
 * model, one text and every window, overlap and stream count asked for: the tables of spec/text_archive.md 16.
 *
 *   bench_text [MODEL TEXT THREADS WINDOW,WINDOW.. OVERLAP,.. STREAMS,.. [recall]]      streams 0: the default
 *
 * Without arguments: the default model on a text of this folder.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "format.h"
#include "text_archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LIMIT ((size_t)1 << 24)

static double seconds_of(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
static double seconds(void) { return seconds_of(CLOCK_MONOTONIC); }
/* Beside other work on the machine the only fair clock; waiting threads of a team count too. */
static double cpu_seconds(void) { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

static void die(const char *what, const struct pith_error *err)
{
	fprintf(stderr, "bench_text: %s: %s\n", what, err != NULL ? err->msg : "failed");
	exit(1);
}

struct bench {
	struct pith_text_coder *coder;
	const struct pith_executor *executor;
	uint8_t *raw, *code, *again;
	size_t nbytes;
	struct pith_model_info info;
};

/* Bytes of keys and values that a prediction reads in the mean. */
static double kv_nbytes(const struct bench *b, const struct segment_plan *plan)
{
	return (double)b->info.kv_nbytes * (1 + plan->overlap + plan->window) / 2;
}

static void measure(const struct bench *b, const struct segment_plan *plan)
{
	struct pith_error err;
	size_t nbytes;
	const struct text_coder *coder = pith_text_coder_segment(b->coder);
	double start = seconds(), start_cpu = cpu_seconds();
	if (segment_model_encode(coder, plan, b->executor, (size_t)4 << 30, NULL, b->raw, b->nbytes, b->code,
	                         2 * b->nbytes + 4096, &nbytes, &err) != PITH_OK)
		die("encode", &err);
	double middle = seconds(), middle_cpu = cpu_seconds();
	if (segment_model_decode(coder, b->executor, (size_t)4 << 30, NULL, b->code, nbytes, 0, b->again,
	                         b->nbytes, &err) != PITH_OK)
		die("decode", &err);
	double end = seconds(), end_cpu = cpu_seconds();
	if (memcmp(b->raw, b->again, b->nbytes) != 0)
		die("decoded text differs", NULL);
	double kb = (double)b->nbytes / 1000;
	printf("%6u %7u %7zu %6.0f %9zu %8.4f %9.1f %9.1f %9.1f %9.1f\n", plan->window, plan->overlap,
	       plan->stream_count, kv_nbytes(b, plan) / 1000,
	       nbytes, 8.0 * (double)nbytes / (double)b->nbytes,
	       kb / (middle - start), kb / (end - middle), kb / (middle_cpu - start_cpu),
	       kb / (end_cpu - middle_cpu));
	fflush(stdout);
}

static size_t parse_list(const char *text, uint32_t list[16])
{
	size_t count = 0;
	char *end;
	do {
		list[count++] = (uint32_t)strtoul(text, &end, 10);
		text = end + 1;
	} while (*end == ',' && count < 16);
	return count;
}

static void load_text(struct bench *b, const char *path)
{
	FILE *f = fopen(path, "rb");
	b->raw = malloc(LIMIT);
	b->code = malloc(2 * LIMIT + 4096);
	b->again = malloc(LIMIT);
	if (f == NULL || b->raw == NULL || b->code == NULL || b->again == NULL)
		die(path, NULL);
	b->nbytes = fread(b->raw, 1, LIMIT, f);
	fclose(f);
}

int main(int argc, char **argv)
{
	static char *defaults[] = {"bench_text", "build/models/default.pith", "bench/texts/speeches-us-gov-00.txt",
	                           "0", "512,256,128", "16,32,64", "32", NULL};
	struct pith_error err;
	struct pith_file *file;
	struct pith_model *model;
	struct pith_tokenizer *tokenizer;
	struct pith_team *team;
	struct bench b = {0};
	const void *blob;
	size_t nbytes;
	if (argc == 1)
		argv = defaults;
	else if (argc != 7 && !(argc == 8 && strcmp(argv[7], "recall") == 0))
		die("usage: bench_text MODEL TEXT THREADS WINDOWS OVERLAPS STREAMS [recall]", NULL);
	if (pith_file_open(argv[1], 0, &file, &err) != PITH_OK ||
	    pith_model_open(file, NULL, &model, &err) != PITH_OK ||
	    pith_file_section(file, PITH_SECTION_TOKN, &blob, &nbytes, &err) != PITH_OK ||
	    pith_tokenizer_open(blob, nbytes, &tokenizer, &err) != PITH_OK ||
	    pith_text_coder_new(model, tokenizer, &b.coder, &err) != PITH_OK ||
	    pith_team_new((size_t)strtoul(argv[3], NULL, 10), &team, &err) != PITH_OK)
		die(argv[1], &err);
	load_text(&b, argv[2]);
	pith_model_info(model, &b.info);
	b.executor = pith_team_executor(team);
	uint32_t windows[16], overlaps[16], streams[16];
	size_t window_count = parse_list(argv[4], windows), overlap_count = parse_list(argv[5], overlaps);
	size_t stream_count = parse_list(argv[6], streams);
	printf("window overlap streams  KV KB     bytes bits/byte  enc KB/s  dec KB/s   per CPU second\n");
	for (size_t i = 0; i < window_count; i++)
		for (size_t j = 0; j < overlap_count; j++)
			for (size_t k = 0; k < stream_count; k++) {
				struct segment_plan plan = {.window = windows[i], .overlap = overlaps[j], .has_overlap = true,
				                            .stream_count = streams[k],
				                            .recall = argc == 8 ? SEGMENT_RECALL : SEGMENT_NO_RECALL};
				measure(&b, &plan);
			}
	pith_text_coder_free(b.coder);
	pith_tokenizer_close(tokenizer);
	pith_model_close(model);
	pith_file_close(file);
	pith_team_free(team);
	free(b.raw);
	free(b.code);
	free(b.again);
	return 0;
}
