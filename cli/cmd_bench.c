/*
 * pith bench: how fast a model runs on this machine, and how near to what its memory allows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_model.h"

#include "cli_energy.h"
#include "cli_probe.h"
#include "cli_shape.h"
#include "cli_start.h"

#include "bytes.h"
#include "format.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_ROUNDS 99u
#define MAX_BATCH 256u
#define BATCH_STEPS 8u /* of the batched decode at a time: each is long */

struct bench_options {
	uint64_t threads, prompt, count, batch, rounds;
	double seconds;
	const char *shape, *scheme, *kv, *output;
	bool json, no_verify;
};

static const struct bench_options bench_defaults = {
    .prompt = 512, .count = 128, .batch = 64, .rounds = 5, .seconds = 1};

static const struct cli_option bench_table[] = {
    {"threads", 0, CLI_COUNT, offsetof(struct bench_options, threads), "N",
     "threads; default: all cores"},
    {"prompt", 0, CLI_COUNT, offsetof(struct bench_options, prompt), "N",
     "tokens of the prompt; default 512, at most half the context"},
    {"count", 'n', CLI_COUNT, offsetof(struct bench_options, count), "N",
     "tokens to decode; default 128"},
    {"batch", 0, CLI_COUNT, offsetof(struct bench_options, batch), "N",
     "rows of a prompt step and sequences of the batched decode; default 64"},
    {"rounds", 0, CLI_COUNT, offsetof(struct bench_options, rounds), "N",
     "measurements of everything, in turn; medians count; default 5"},
    {"seconds", 0, CLI_NUMBER, offsetof(struct bench_options, seconds), "S",
     "least time of all rounds of a measurement together; default 1"},
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
     "do not check checksums and canaries, and do not measure that"},
    {"json", 0, CLI_FLAG, offsetof(struct bench_options, json), NULL, "print JSON"},
    {0},
};

/* Measurements of one thing; NAN: none. */
struct series {
	double value[MAX_ROUNDS];
	size_t count;
};

struct bench {
	struct cli *cli;
	const struct bench_options *options;
	const struct cli_model *m;
	const struct pith_executor *executor;
	size_t prompt, count, batch;
	struct series prefill_tok_s, decode_tok_s, batch_tok_s, read_gb_s[CLI_PROBE_WAYS];
	struct series start_warm[CLI_STARTS], start_cold[CLI_STARTS]; /* seconds */
	double joules; /* while 'energy_tokens' were decoded; negative: unknown */
	uint64_t energy_tokens;
	uint64_t resident_nbytes, shared_nbytes;
};

static void add(struct series *s, double value)
{
	s->value[s->count++] = value;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(const struct series *s)
{
	struct series sorted = *s;
	qsort(sorted.value, sorted.count, sizeof(sorted.value[0]), ascending);
	return s->count > 0 ? sorted.value[s->count / 2] : (double)NAN;
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

/* Whole prompts, for 'seconds' at least. */
static int measure_prefill(struct bench *b, struct pith_session *s, double seconds)
{
	double start = cli_seconds(), end = start;
	size_t tokens = 0;
	int code = CLI_OK;
	for (; code == CLI_OK && (tokens == 0 || end - start < seconds); end = cli_seconds()) {
		pith_session_truncate(s, 0, 0);
		code = feed(b, s, 0, b->prompt, true);
		tokens += b->prompt;
	}
	add(&b->prefill_tok_s, (double)tokens / (end - start));
	return code;
}

/* Positions grow from 'base' by some a time; then again from there. */
static int measure_decode(struct bench *b, struct pith_session *s, size_t sequences, size_t base,
                          double seconds, struct series *tok_s)
{
	size_t steps = sequences > 1 && b->count > BATCH_STEPS ? BATCH_STEPS : b->count;
	double start = cli_seconds(), end = start;
	size_t tokens = 0;
	int code = CLI_OK;
	for (; code == CLI_OK && (tokens == 0 || end - start < seconds); end = cli_seconds()) {
		for (size_t q = 0; q < sequences; q++)
			pith_session_truncate(s, q, base);
		code = decode(b, s, sequences, steps);
		tokens += sequences * steps;
	}
	add(tok_s, (double)tokens / (end - start));
	return code;
}

static int measure_energy_of_decode(struct bench *b, struct pith_session *s, double seconds)
{
	struct cli_energy before = cli_energy_now();
	double start = cli_seconds();
	int code = measure_decode(b, s, 1, b->prompt, seconds, &b->decode_tok_s);
	double spent = cli_seconds() - start;
	struct cli_energy after = cli_energy_now();
	double joules = cli_energy_between(&before, &after);
	b->joules = joules < 0 || b->joules < 0 ? -1 : b->joules + joules;
	b->energy_tokens += (uint64_t)(b->decode_tok_s.value[b->decode_tok_s.count - 1] * spent + 0.5);
	return code;
}

/* Everything in turn, so that what else the machine does meets all. */
static int measure_speed(struct bench *b, struct pith_session *s)
{
	const struct cli_probe probe = cli_probe_of(b->m->file);
	double seconds = b->options->seconds / (double)b->options->rounds;
	int code = CLI_OK;
	for (size_t r = 0; r < b->options->rounds && code == CLI_OK; r++) {
		code = measure_prefill(b, s, seconds);
		if (code == CLI_OK)
			code = measure_energy_of_decode(b, s, seconds);
		for (unsigned way = 0; way < CLI_PROBE_WAYS && probe.data != NULL; way++)
			add(&b->read_gb_s[way], cli_probe_read(&probe, b->executor, way));
	}
	return code;
}

/* What memory gives: the best of the ways to read. */
static double fastest_read(const struct bench *b)
{
	double best = 0;
	for (unsigned way = 0; way < CLI_PROBE_WAYS; way++)
		best = fmax(best, median(&b->read_gb_s[way]));
	return best;
}

/* Warm as often as all else; cold once, where the system puts the file out of its cache. */
static int measure_start(struct bench *b, const char *path)
{
	double seconds;
	int code = CLI_OK;
	for (size_t r = 0; path != NULL && r <= b->options->rounds; r++) {
		for (unsigned what = b->options->no_verify ? 1 : 0; what < CLI_STARTS; what++) {
			bool cold = r == 0 && cli_start_evict(path);
			code = cli_start_once(b->cli, path, what, b->executor, &seconds);
			if (code != CLI_OK)
				return code;
			if (r > 0 || cold)
				add(r > 0 ? &b->start_warm[what] : &b->start_cold[what], seconds);
		}
	}
	return code;
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
	if (pith_session_new(b->m->model, &options, &s, &err) != PITH_OK)
		return cli_fail(b->cli, b->m->path, &err);
	int code = measure_speed(b, s);
	measure_memory(b);
	for (size_t r = 0; r < b->options->rounds && code == CLI_OK; r++)
		code = measure_decode(b, s, b->batch, 0, b->options->seconds / (double)b->options->rounds,
		                      &b->batch_tok_s);
	pith_session_free(s);
	return code;
}

/* ---- results ---- */

static json_t *number_or_null(double value)
{
	return isnan(value) ? json_null() : json_real(value);
}

static double joules_per_token(const struct bench *b)
{
	return b->joules < 0 || b->energy_tokens == 0 ? (double)NAN : b->joules / (double)b->energy_tokens;
}

static int print_json(const struct bench *b, double gb_s, double read_gb_s)
{
	static const char *const names[CLI_STARTS][2] = {
		{"start_warm_seconds", "start_cold_seconds"},
		{"start_unchecked_warm_seconds", "start_unchecked_cold_seconds"},
		{"map_read_warm_seconds", "map_read_cold_seconds"},
	};
	const struct pith_model_info *info = &b->m->info;
	json_t *json = json_pack(
	    "{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:I, s:I, s:I, s:I}", "kernels",
	    info->kernels, "threads", (json_int_t)b->executor->width, "batch", (json_int_t)b->batch,
	    "weight_nbytes", (json_int_t)info->weight_nbytes, "prefill_tok_s", median(&b->prefill_tok_s),
	    "decode_tok_s", median(&b->decode_tok_s), "batch_decode_tok_s", median(&b->batch_tok_s),
	    "gb_s", gb_s, "read_gb_s", read_gb_s, "bandwidth_share", read_gb_s > 0 ? gb_s / read_gb_s : 0,
	    "joules_per_token", number_or_null(joules_per_token(b)), "kv_nbytes",
	    (json_int_t)info->kv_nbytes, "kv_read_nbytes", (json_int_t)(info->kv_nbytes * b->prompt),
	    "resident_nbytes", (json_int_t)b->resident_nbytes, "shared_nbytes",
	    (json_int_t)b->shared_nbytes);
	for (unsigned what = 0; json != NULL && what < CLI_STARTS; what++) {
		json_object_set_new(json, names[what][0], number_or_null(median(&b->start_warm[what])));
		json_object_set_new(json, names[what][1], number_or_null(median(&b->start_cold[what])));
	}
	return cli_print_json(json);
}

static void print_start(const char *what, const struct series *warm, const struct series *cold)
{
	if (warm->count == 0)
		return;
	printf("%-20s %.1f ms", what, 1e3 * median(warm));
	if (cold->count > 0)
		printf(", %.1f ms when not in the page cache\n", 1e3 * median(cold));
	else
		printf("; the system keeps the file in the page cache\n");
}

static int print_bench(const struct bench *b)
{
	const struct pith_model_info *info = &b->m->info;
	double gb_s = median(&b->decode_tok_s) * (double)info->weight_nbytes / 1e9;
	double read_gb_s = fastest_read(b), joules = joules_per_token(b);
	if (b->options->json)
		return print_json(b, gb_s, read_gb_s);
	printf("kernels              %s, %zu threads\n", info->kernels, b->executor->width);
	printf("prefill              %.1f tokens/s (prompt of %zu)\n", median(&b->prefill_tok_s),
	       b->prompt);
	printf("decode               %.1f tokens/s\n", median(&b->decode_tok_s));
	printf("decode, %3zu at once  %.1f tokens/s\n", b->batch, median(&b->batch_tok_s));
	printf("weights read         %.2f GB/s of %.2f GB/s that this file can be read at (%.0f %%)\n",
	       gb_s, read_gb_s, read_gb_s > 0 ? 100 * gb_s / read_gb_s : 0);
	printf("keys and values      %llu bytes a position: %.1f MB read for a token at %zu\n",
	       (unsigned long long)info->kv_nbytes, (double)(info->kv_nbytes * b->prompt) / 1e6,
	       b->prompt);
	if (isnan(joules))
		printf("energy               not reported by this machine\n");
	else
		printf("energy               %.3f joules a decoded token, all packages\n", joules);
	print_start("first token", &b->start_warm[CLI_START_VERIFIED], &b->start_cold[CLI_START_VERIFIED]);
	print_start("  without checks", &b->start_warm[CLI_START_UNCHECKED],
	            &b->start_cold[CLI_START_UNCHECKED]);
	print_start("  reading the map", &b->start_warm[CLI_START_READ], &b->start_cold[CLI_START_READ]);
	if (b->resident_nbytes > 0)
		printf("memory               %.1f MB resident, %.1f MB of it shared with the page cache\n",
		       (double)b->resident_nbytes / 1e6, (double)b->shared_nbytes / 1e6);
	return CLI_OK;
}

static int bench_file(struct cli *cli, const struct bench_options *o, const char *path)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct cli_model m = {0};
	struct pith_team *team = NULL;
	int code = b != NULL ? cli_team_new(cli, o->threads, &team) : cli_fail_errno(cli, "memory");
	if (code == CLI_OK) {
		b->cli = cli;
		b->options = o;
		b->executor = pith_team_executor(team);
		code = measure_start(b, path);
	}
	if (code == CLI_OK)
		code = cli_model_open(cli, path, &(struct cli_model_options){.no_verify = o->no_verify}, &m);
	if (code == CLI_OK) {
		size_t half = (size_t)(m.info.context_length + 1) / 2;
		b->m = &m;
		b->prompt = o->prompt < half ? (size_t)o->prompt : half;
		b->count = o->count < half ? (size_t)o->count : half;
		b->batch = (size_t)o->batch;
		code = measure(b);
	}
	if (code == CLI_OK)
		code = print_bench(b);
	pith_team_free(team);
	cli_model_close(&m);
	free(b);
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
	if (o->rounds < 1 || o->rounds > MAX_ROUNDS || !(o->seconds >= 0 && o->seconds <= 1e6))
		return cli_usage(cli, "--rounds is 1 to %u, --seconds 0 or more", MAX_ROUNDS);
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
        "the bytes of weights that decoding reads a second, and that beside what the same\n"
        "threads reach when they only read the same mapped file: the fastest of a plain\n"
        "sum, one with prefetches and one of four streams, in turn with the rest.  Then\n"
        "the time from opening to the first token with and without checksums and\n"
        "canaries, beside a plain sum over a new map of the file; energy, where the\n"
        "machine shows it (powercap); and memory.  Figures are medians of --rounds, but\n"
        "those of a file that is not in the page cache, which are measured once.\n"
        "\n"
        "Without FILE the embedded model is used.  --shape makes a model of a known shape\n"
        "without a meaning, in $TMPDIR, which needs the room of its bf16 weights and of\n"
        "the file.  Schemes that need a calibration text get one without a meaning.\n"
        "\n"
        "JSON keys: kernels, threads, batch, weight_nbytes, prefill_tok_s, decode_tok_s,\n"
        "batch_decode_tok_s, gb_s, read_gb_s, bandwidth_share, joules_per_token,\n"
        "kv_nbytes (of a position), kv_read_nbytes (for a token behind the prompt),\n"
        "resident_nbytes, shared_nbytes; and in seconds start_warm_seconds,\n"
        "start_cold_seconds, start_unchecked_warm_seconds, start_unchecked_cold_seconds,\n"
        "map_read_warm_seconds, map_read_cold_seconds.  What is not known here is null.\n",
    .examples = "pith bench model.pith\n"
                "pith bench model.pith --threads 1 --json\n"
                "pith bench --shape tinyllama --scheme rtn:bits=4,group=32,search=0\n"
                "pith bench --shape tinyllama --scheme bf16 --kv int8 -o tinyllama.pith\n",
    .options = bench_table,
    .options_nbytes = sizeof(struct bench_options),
    .defaults = &bench_defaults,
    .max_operands = 1,
    .run = bench_run,
};
