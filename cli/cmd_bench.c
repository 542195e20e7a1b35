/*
 * pith bench: how fast a model runs on this machine, and how near to what its memory allows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_model.h"

#include "bytes.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PROBE_CHUNK_NBYTES ((size_t)1 << 16)
#define PROBE_BUFFER_NBYTES ((size_t)1 << 13)
#define MAX_BATCH 256u

struct bench_options {
	uint64_t threads, prompt, count, batch;
	double seconds;
	bool json, no_verify;
};

static const struct bench_options bench_defaults = {
    .prompt = 512, .count = 128, .batch = 64, .seconds = 1};

static const struct cli_option bench_table[] = {
    {"threads", 0, CLI_COUNT, offsetof(struct bench_options, threads), "N",
     "threads; default: all cores"},
    {"prompt", 0, CLI_COUNT, offsetof(struct bench_options, prompt), "N",
     "tokens of the prompt; default 512, at most half the context"},
    {"count", 'n', CLI_COUNT, offsetof(struct bench_options, count), "N",
     "tokens to decode; default 128"},
    {"batch", 0, CLI_COUNT, offsetof(struct bench_options, batch), "N",
     "rows of a prompt step and sequences of the batched decode; default 64"},
    {"seconds", 0, CLI_NUMBER, offsetof(struct bench_options, seconds), "S",
     "least time of each measurement; default 1"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct bench_options, no_verify), NULL,
     "do not check checksums and canaries first"},
    {"json", 0, CLI_FLAG, offsetof(struct bench_options, json), NULL, "print JSON"},
    {0},
};

struct bench {
	struct cli *cli;
	const struct bench_options *options;
	const struct cli_model *m;
	const struct pith_executor *executor;
	size_t prompt, count, batch;
	/* results */
	double bind_seconds, first_token_seconds;
	double read_gb_s, prefill_tok_s, decode_tok_s, batch_tok_s;
};

/* ---- reading ---- */

struct probe {
	const uint8_t *data;
	size_t nbytes;
	atomic_uint_least64_t sum; /* keeps the reads alive */
};

/* Copying into a buffer that stays in the first-level cache is the fastest reading there is in C. */
static void probe_chunk(void *arg, size_t i)
{
	struct probe *p = arg;
	uint8_t buffer[PROBE_BUFFER_NBYTES];
	uint64_t sum = 0;
	size_t begin = i * PROBE_CHUNK_NBYTES;
	size_t end = begin + PROBE_CHUNK_NBYTES < p->nbytes ? begin + PROBE_CHUNK_NBYTES : p->nbytes;
	for (size_t at = begin; at < end; at += sizeof(buffer)) {
		size_t nbytes = end - at < sizeof(buffer) ? end - at : sizeof(buffer);
		memcpy(buffer, p->data + at, nbytes);
		sum += buffer[at % 61 % nbytes];
	}
	atomic_fetch_add_explicit(&p->sum, sum, memory_order_relaxed);
}

/* The bytes between the first and the last plane: what decoding reads, read as fast as can be. */
static int probe_reading(struct bench *b)
{
	struct probe p = {0};
	uint64_t low = UINT64_MAX, high = 0;
	struct pith_file_info info;
	pith_file_info(b->m->file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct pith_weight weight;
		struct pith_plane_info plane;
		if (pith_file_weight_at(b->m->file, i, &weight, NULL) != PITH_OK ||
		    pith_weight_plane(&weight, 0, 0, &plane, NULL) != PITH_OK)
			continue;
		if (plane.off < low)
			p.data = plane.data;
		low = plane.off < low ? plane.off : low;
		high = plane.off + plane.nbytes > high ? plane.off + plane.nbytes : high;
	}
	if (p.data == NULL)
		return CLI_OK;
	p.nbytes = (size_t)(high - low);
	size_t chunks = (p.nbytes + PROBE_CHUNK_NBYTES - 1) / PROBE_CHUNK_NBYTES, rounds = 0;
	b->executor->run(b->executor, probe_chunk, &p, chunks);
	double start = cli_seconds(), end = start;
	for (; end - start < b->options->seconds; rounds++, end = cli_seconds())
		b->executor->run(b->executor, probe_chunk, &p, chunks);
	b->read_gb_s = (double)p.nbytes * (double)rounds / (end - start) / 1e9;
	return CLI_OK;
}

/* ---- the model ---- */

/* Ids without meaning but spread over the vocabulary. */
static uint32_t some_id(const struct bench *b, size_t i)
{
	return (uint32_t)((i * 2654435761u >> 7) % b->m->info.vocab_count);
}

static int feed(struct bench *b, struct pith_session *s, size_t sequence, size_t count, bool last)
{
	struct pith_row rows[MAX_BATCH];
	struct pith_error err;
	for (size_t done = 0; done < count;) {
		size_t k = 0;
		for (; k < b->batch && done < count; k++, done++)
			rows[k] = (struct pith_row){(uint32_t)sequence, some_id(b, done),
			                            last && done + 1 == count};
		if (pith_session_step(s, rows, k, NULL, &err) != PITH_OK)
			return cli_fail(b->cli, b->m->path, &err);
	}
	return CLI_OK;
}

/* One token to each of 'sequences', 'count' times. */
static int decode(struct bench *b, struct pith_session *s, size_t sequences, size_t count)
{
	struct pith_row rows[MAX_BATCH];
	struct pith_error err;
	for (size_t i = 0; i < count; i++) {
		for (size_t q = 0; q < sequences; q++)
			rows[q] = (struct pith_row){(uint32_t)q, some_id(b, i * sequences + q), true};
		if (pith_session_step(s, rows, sequences, NULL, &err) != PITH_OK)
			return cli_fail(b->cli, b->m->path, &err);
	}
	return CLI_OK;
}

static int measure_prefill(struct bench *b, struct pith_session *s)
{
	double start = cli_seconds(), end = start;
	size_t tokens = 0;
	int code = CLI_OK;
	for (; code == CLI_OK && end - start < b->options->seconds; end = cli_seconds()) {
		pith_session_truncate(s, 0, 0);
		code = feed(b, s, 0, b->prompt, true);
		tokens += b->prompt;
		if (b->first_token_seconds == 0)
			b->first_token_seconds = b->bind_seconds + cli_seconds() - start;
	}
	b->prefill_tok_s = (double)tokens / (end - start);
	return code;
}

/* Positions grow from 'base' by count a round; then again from there. */
static int measure_decode(struct bench *b, struct pith_session *s, size_t sequences, size_t base,
                          double *tok_s)
{
	double start = cli_seconds(), end = start;
	size_t tokens = 0;
	int code = CLI_OK;
	for (; code == CLI_OK && end - start < b->options->seconds; end = cli_seconds()) {
		for (size_t q = 0; q < sequences; q++)
			pith_session_truncate(s, q, base);
		code = decode(b, s, sequences, b->count);
		tokens += sequences * b->count;
	}
	*tok_s = (double)tokens / (end - start);
	return code;
}

static int measure(struct bench *b)
{
	struct pith_error err;
	struct pith_session *s;
	struct pith_session_options options = {.sequence_count = b->batch,
	                                       .context_length = b->prompt + b->count,
	                                       .batch_count = b->batch,
	                                       .executor = b->executor};
	double start = cli_seconds();
	if (pith_session_new(b->m->model, &options, &s, &err) != PITH_OK)
		return cli_fail(b->cli, b->m->path, &err);
	b->bind_seconds += cli_seconds() - start;
	int code = measure_prefill(b, s);
	if (code == CLI_OK)
		code = measure_decode(b, s, 1, b->prompt, &b->decode_tok_s);
	if (code == CLI_OK)
		code = measure_decode(b, s, b->batch, 0, &b->batch_tok_s);
	pith_session_free(s);
	return code == CLI_OK ? probe_reading(b) : code;
}

static int print_bench(const struct bench *b)
{
	double gb_s = b->decode_tok_s * (double)b->m->info.weight_nbytes / 1e9;
	double share = b->read_gb_s > 0 ? gb_s / b->read_gb_s : 0;
	if (b->options->json)
		return cli_print_json(json_pack(
		    "{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "kernels", b->m->info.kernels,
		    "threads", (json_int_t)b->executor->width, "batch", (json_int_t)b->batch,
		    "weight_nbytes", (json_int_t)b->m->info.weight_nbytes, "prefill_tok_s",
		    b->prefill_tok_s, "decode_tok_s", b->decode_tok_s, "batch_decode_tok_s", b->batch_tok_s,
		    "gb_s", gb_s, "read_gb_s", b->read_gb_s, "bandwidth_share", share,
		    "first_token_seconds", b->first_token_seconds));
	printf("kernels              %s, %zu threads\n", b->m->info.kernels, b->executor->width);
	printf("prefill              %.0f tokens/s (prompt of %zu)\n", b->prefill_tok_s, b->prompt);
	printf("decode               %.0f tokens/s\n", b->decode_tok_s);
	printf("decode, %3zu at once  %.0f tokens/s\n", b->batch, b->batch_tok_s);
	printf("weights read         %.2f GB/s of %.2f GB/s that this file can be read at (%.0f %%)\n",
	       gb_s, b->read_gb_s, 100 * share);
	printf("first token          %.1f ms after opening\n", 1e3 * b->first_token_seconds);
	return CLI_OK;
}

static int bench_run(struct cli *cli, const void *options)
{
	const struct bench_options *o = options;
	struct bench b = {.cli = cli, .options = o};
	struct cli_model m;
	struct pith_team *team = NULL;
	if (o->batch < 1 || o->batch > MAX_BATCH || o->count < 1 || o->prompt < 1)
		return cli_usage(cli, "--batch is 1 to %u, --count and --prompt at least 1", MAX_BATCH);
	double start = cli_seconds();
	int code = cli_model_open(cli, cli->operand_count > 0 ? cli->operand[0] : NULL,
	                          &(struct cli_model_options){o->no_verify, false}, &m);
	b.bind_seconds = cli_seconds() - start;
	if (code == CLI_OK)
		code = cli_team_new(cli, o->threads, &team);
	if (code == CLI_OK) {
		size_t half = (size_t)(m.info.context_length + 1) / 2;
		b.m = &m;
		b.executor = pith_team_executor(team);
		b.prompt = o->prompt < half ? (size_t)o->prompt : half;
		b.count = o->count < half ? (size_t)o->count : half;
		b.batch = (size_t)o->batch;
		code = measure(&b);
	}
	if (code == CLI_OK)
		code = print_bench(&b);
	pith_team_free(team);
	cli_model_close(&m);
	return code;
}

const struct cli_command cmd_bench = {
    .name = "bench",
    .summary = "measure how fast a model runs here",
    .synopsis = "[FILE] [--threads N] [--json]",
    .description =
        "Measures prompt processing (prefill), decoding of one and of many sequences,\n"
        "the bytes of weights decoding reads a second, and that beside what the same\n"
        "threads reach when they only read the same mapped file.  Without FILE the\n"
        "embedded model is used.\n"
        "\n"
        "JSON keys: kernels, threads, batch, weight_nbytes, prefill_tok_s, decode_tok_s,\n"
        "batch_decode_tok_s, gb_s, read_gb_s, bandwidth_share, first_token_seconds.\n",
    .examples = "pith bench model.pith\n"
                "pith bench model.pith --threads 1 --json\n",
    .options = bench_table,
    .options_nbytes = sizeof(struct bench_options),
    .defaults = &bench_defaults,
    .max_operands = 1,
    .run = bench_run,
};
