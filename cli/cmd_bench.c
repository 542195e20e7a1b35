/*
 * pith bench: how fast a model runs on this machine, and how near to what its memory allows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_model.h"

#include "cli_probe.h"
#include "cli_shape.h"

#include "bytes.h"
#include "format.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS 5u /* of decoding and reading in turn; medians count */
#define MAX_BATCH 256u

struct bench_options {
	uint64_t threads, prompt, count, batch;
	double seconds;
	const char *shape, *scheme, *kv, *output;
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
    {"shape", 0, CLI_STRING, offsetof(struct bench_options, shape), "NAME",
     "make a model of this shape, without meaning, and measure that:\n"
     "tinyllama, smollm-135m, llama-1b, llama-7b, tiny, or\n"
     "BLOCKS,HIDDEN,FFN,HEADS,KV_HEADS,VOCAB"},
    {"scheme", 's', CLI_STRING, offsetof(struct bench_options, scheme), "SCHEME",
     "with --shape: how its weights are stored, as in convert; default bf16"},
    {"kv", 0, CLI_STRING, offsetof(struct bench_options, kv), "f32|f16|int8",
     "with --shape: how keys and values are held; default f32"},
    {"output", 'o', CLI_STRING, offsetof(struct bench_options, output), "FILE",
     "with --shape: keep the model as FILE"},
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
	double start_cold_seconds, start_warm_seconds; /* from opening to the first logits; 0: unknown */
	double read_gb_s, prefill_tok_s, decode_tok_s, batch_tok_s;
	uint64_t resident_nbytes, shared_nbytes;
};

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
                          double seconds, double *tok_s)
{
	double start = cli_seconds(), end = start;
	size_t tokens = 0;
	int code = CLI_OK;
	for (; code == CLI_OK && end - start < seconds; end = cli_seconds()) {
		for (size_t q = 0; q < sequences; q++)
			pith_session_truncate(s, q, base);
		code = decode(b, s, sequences, b->count);
		tokens += sequences * b->count;
	}
	*tok_s = (double)tokens / (end - start);
	return code;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double v[ROUNDS])
{
	qsort(v, ROUNDS, sizeof(*v), ascending);
	return v[ROUNDS / 2];
}

/* In turn, so that what else the machine does meets both. */
static int measure_decode_and_reading(struct bench *b, struct pith_session *s)
{
	const struct cli_probe probe = cli_probe_of(b->m->file);
	double tok_s[ROUNDS], gb_s[CLI_PROBE_WAYS][ROUNDS];
	for (size_t r = 0; r < ROUNDS; r++) {
		int code = measure_decode(b, s, 1, b->prompt, b->options->seconds / ROUNDS, &tok_s[r]);
		if (code != CLI_OK)
			return code;
		for (unsigned way = 0; way < CLI_PROBE_WAYS; way++)
			gb_s[way][r] = probe.data != NULL ? cli_probe_read(&probe, b->executor, way) : 0;
	}
	b->decode_tok_s = median(tok_s);
	for (unsigned way = 0; way < CLI_PROBE_WAYS; way++) {
		double read = median(gb_s[way]);
		b->read_gb_s = read > b->read_gb_s ? read : b->read_gb_s;
	}
	return CLI_OK;
}

/* Open, bind and compute the logits of one token. */
static int start_once(const struct bench *b, const char *path, double *seconds)
{
	struct cli_model m;
	struct pith_session *s = NULL;
	struct pith_error err;
	const struct pith_session_options options = {.sequence_count = 1, .context_length = 1,
	                                             .batch_count = 1, .executor = b->executor};
	const struct pith_row row = {0, 0, true};
	double start = cli_seconds();
	int code = cli_model_open(b->cli, path, &(struct cli_model_options){b->options->no_verify, false},
	                          &m);
	if (code == CLI_OK && (pith_session_new(m.model, &options, &s, &err) != PITH_OK ||
	                       pith_session_step(s, &row, 1, NULL, &err) != PITH_OK))
		code = cli_fail(b->cli, m.path, &err);
	*seconds = cli_seconds() - start;
	pith_session_free(s);
	cli_model_close(&m);
	return code;
}

/* Cold: the file is put out of the page cache first, as far as the system obeys. */
static int measure_start(struct bench *b, const char *path)
{
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return CLI_OK;
	bool cold = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
	close(fd);
	int code = start_once(b, path, &b->start_cold_seconds);
	if (!cold)
		b->start_cold_seconds = 0;
	return code == CLI_OK ? start_once(b, path, &b->start_warm_seconds) : code;
}

/* Of this process, where the system says it (Linux). */
static void measure_memory(struct bench *b)
{
	unsigned long long size, resident, shared;
	FILE *f = fopen("/proc/self/statm", "r");
	long page = sysconf(_SC_PAGESIZE);
	if (f == NULL)
		return;
	if (page > 0 && fscanf(f, "%llu %llu %llu", &size, &resident, &shared) == 3) {
		b->resident_nbytes = resident * (uint64_t)page;
		b->shared_nbytes = shared * (uint64_t)page;
	}
	fclose(f);
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
		code = measure_decode_and_reading(b, s);
	measure_memory(b);
	if (code == CLI_OK)
		code = measure_decode(b, s, b->batch, 0, b->options->seconds, &b->batch_tok_s);
	pith_session_free(s);
	return code;
}

static int print_bench(const struct bench *b)
{
	double gb_s = b->decode_tok_s * (double)b->m->info.weight_nbytes / 1e9;
	double share = b->read_gb_s > 0 ? gb_s / b->read_gb_s : 0;
	if (b->options->json)
		return cli_print_json(json_pack(
		    "{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "kernels", b->m->info.kernels,
		    "threads", (json_int_t)b->executor->width, "batch", (json_int_t)b->batch,
		    "weight_nbytes", (json_int_t)b->m->info.weight_nbytes, "prefill_tok_s",
		    b->prefill_tok_s, "decode_tok_s", b->decode_tok_s, "batch_decode_tok_s", b->batch_tok_s,
		    "gb_s", gb_s, "read_gb_s", b->read_gb_s, "bandwidth_share", share,
		    "first_token_seconds", b->first_token_seconds, "start_cold_seconds",
		    b->start_cold_seconds, "start_warm_seconds", b->start_warm_seconds, "kv_nbytes",
		    (json_int_t)b->m->info.kv_nbytes, "resident_nbytes", (json_int_t)b->resident_nbytes,
		    "shared_nbytes", (json_int_t)b->shared_nbytes));
	printf("kernels              %s, %zu threads\n", b->m->info.kernels, b->executor->width);
	printf("prefill              %.0f tokens/s (prompt of %zu)\n", b->prefill_tok_s, b->prompt);
	printf("decode               %.0f tokens/s\n", b->decode_tok_s);
	printf("decode, %3zu at once  %.0f tokens/s\n", b->batch, b->batch_tok_s);
	printf("weights read         %.2f GB/s of %.2f GB/s that this file can be read at (%.0f %%)\n",
	       gb_s, b->read_gb_s, 100 * share);
	printf("keys and values      %llu bytes a position: %.1f MB read for a token at %zu\n",
	       (unsigned long long)b->m->info.kv_nbytes,
	       (double)b->m->info.kv_nbytes * (double)b->prompt / 1e6, b->prompt);
	printf("after the prompt     %.1f ms from opening to the first token\n", 1e3 * b->first_token_seconds);
	if (b->start_warm_seconds > 0)
		printf("start                %.1f ms to the first token, %.1f ms not in the page cache\n",
		       1e3 * b->start_warm_seconds, 1e3 * b->start_cold_seconds);
	if (b->resident_nbytes > 0)
		printf("memory               %.1f MB resident, %.1f MB of it shared with the page cache\n",
		       (double)b->resident_nbytes / 1e6, (double)b->shared_nbytes / 1e6);
	return CLI_OK;
}

static int bench_file(struct cli *cli, const struct bench_options *o, const char *path)
{
	struct bench b = {.cli = cli, .options = o};
	struct cli_model m = {0};
	struct pith_team *team = NULL;
	int code = cli_team_new(cli, o->threads, &team);
	if (code != CLI_OK)
		return code;
	b.executor = pith_team_executor(team);
	code = measure_start(&b, path);
	if (code == CLI_OK) {
		double start = cli_seconds();
		code = cli_model_open(cli, path, &(struct cli_model_options){o->no_verify, false}, &m);
		b.bind_seconds = cli_seconds() - start;
	}
	if (code == CLI_OK) {
		size_t half = (size_t)(m.info.context_length + 1) / 2;
		b.m = &m;
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

static int bench_shape(struct cli *cli, const struct bench_options *o)
{
	struct cli_shape shape;
	char path[512];
	const char *folder = getenv("TMPDIR");
	unsigned kv = o->kv == NULL || strcmp(o->kv, "f32") == 0 ? PITH_DTYPE_F32
	              : strcmp(o->kv, "f16") == 0 ? PITH_DTYPE_F16
	              : strcmp(o->kv, "int8") == 0 ? PITH_DTYPE_I8 : 0;
	if (!cli_shape_find(o->shape, &shape) || kv == 0)
		return cli_usage(cli, "there is no shape '%s' or no type of KV cache '%s'", o->shape,
		                 o->kv != NULL ? o->kv : "f32");
	if (o->output != NULL && access(o->output, F_OK) == 0) {
		cli_say(cli, "%s exists", o->output);
		return CLI_FAILED;
	}
	snprintf(path, sizeof(path), "%s/pith-bench-%ld.pith",
	         folder != NULL && strlen(folder) < 400 ? folder : "/tmp", (long)getpid());
	const char *target = o->output != NULL ? o->output : path;
	if (o->output == NULL)
		cli_cleanup_add(target);
	int code = cli_shape_make(cli, &shape, o->scheme, kv, target);
	if (code == CLI_OK)
		code = bench_file(cli, o, target);
	if (o->output == NULL) {
		unlink(target);
		cli_cleanup_remove(target);
	}
	return code;
}

static int bench_run(struct cli *cli, const void *options)
{
	const struct bench_options *o = options;
	if (o->batch < 1 || o->batch > MAX_BATCH || o->count < 1 || o->prompt < 1)
		return cli_usage(cli, "--batch is 1 to %u, --count and --prompt at least 1", MAX_BATCH);
	if (o->shape == NULL && (o->scheme != NULL || o->kv != NULL || o->output != NULL))
		return cli_usage(cli, "--scheme, --kv and --output go with --shape");
	if (o->shape != NULL && cli->operand_count > 0)
		return cli_usage(cli, "a file or --shape, not both");
	if (o->shape != NULL)
		return bench_shape(cli, o);
	return bench_file(cli, o, cli->operand_count > 0 ? cli->operand[0] : NULL);
}

const struct cli_command cmd_bench = {
    .name = "bench",
    .summary = "measure how fast a model runs here",
    .synopsis = "[FILE | --shape NAME --scheme SCHEME] [--threads N] [--json]",
    .description =
        "Measures prompt processing (prefill), decoding of one and of many sequences,\n"
        "the bytes of weights decoding reads a second, and that beside what the same\n"
        "threads reach when they only read the same mapped file: the fastest of three\n"
        "ways, in turn with decoding, medians of five.  Without FILE the embedded model\n"
        "is used.  --shape makes a model of a known shape without a meaning, in $TMPDIR,\n"
        "which needs the room of its bf16 weights and of the file.\n"
        "\n"
        "JSON keys: kernels, threads, batch, weight_nbytes, prefill_tok_s, decode_tok_s,\n"
        "batch_decode_tok_s, gb_s, read_gb_s, bandwidth_share, first_token_seconds,\n"
        "start_cold_seconds, start_warm_seconds, kv_nbytes, resident_nbytes, shared_nbytes.\n",
    .examples = "pith bench model.pith\n"
                "pith bench model.pith --threads 1 --json\n"
                "pith bench --shape tinyllama --scheme rtn:bits=4,group=32,search=0\n",
    .options = bench_table,
    .options_nbytes = sizeof(struct bench_options),
    .defaults = &bench_defaults,
    .max_operands = 1,
    .run = bench_run,
};
