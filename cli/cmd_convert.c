/*
 * pith convert: a checkpoint to a .pith file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "convert.h"

#include <math.h>
#include <unistd.h>

struct cmd_convert_options {
	const char *output, *scheme, *kv;
	struct cli_list rules;
	const char *calib;
	uint64_t calib_samples, calib_length, calib_seed, memory;
	uint64_t threads;
	bool dry_run, force, json, resume;
};

static const struct cli_option convert_table[] = {
    {"output", 'o', CLI_STRING, offsetof(struct cmd_convert_options, output), "FILE",
     "the file to write; needed unless --dry-run"},
    {"scheme", 's', CLI_STRING, offsetof(struct cmd_convert_options, scheme), "SCHEME",
     "how weights are stored, see below; default bf16"},
    {"rule", 'r', CLI_LIST, offsetof(struct cmd_convert_options, rules), "REGEX=SCHEME",
     "another scheme for the tensors whose name matches;\nmay be repeated, the last match wins"},
    {"kv", 0, CLI_STRING, offsetof(struct cmd_convert_options, kv), "f32|f16|int8",
     "how keys and values of past tokens are held when the model\nruns; default f32"},
    {"calib", 'c', CLI_STRING, offsetof(struct cmd_convert_options, calib), "TEXT",
     "calibrate with this text: plain, or JSON lines with a member \"text\""},
    {"calib-samples", 0, CLI_COUNT, offsetof(struct cmd_convert_options, calib_samples), "N",
     "samples taken from it; default 128"},
    {"calib-length", 0, CLI_COUNT, offsetof(struct cmd_convert_options, calib_length), "N",
     "tokens of a sample; default the model's context, at most 2048"},
    {"calib-seed", 0, CLI_COUNT, offsetof(struct cmd_convert_options, calib_seed), "N",
     "which samples; default 0"},
    {"memory", 0, CLI_SIZE, offsetof(struct cmd_convert_options, memory), "SIZE",
     "activations above this size go to a file beside FILE; default 8G"},
    {"resume", 0, CLI_FLAG, offsetof(struct cmd_convert_options, resume), NULL,
     "continue a calibrated conversion that was interrupted"},
    {"threads", 't', CLI_COUNT, offsetof(struct cmd_convert_options, threads), "N",
     "threads; default: the cores at hand.  Results do not depend on it"},
    {"dry-run", 'n', CLI_FLAG, offsetof(struct cmd_convert_options, dry_run), NULL,
     "print size, memory and time, write nothing"},
    {"force", 'f', CLI_FLAG, offsetof(struct cmd_convert_options, force), NULL,
     "replace FILE if it exists"},
    {"json", 0, CLI_FLAG, offsetof(struct cmd_convert_options, json), NULL, "print JSON"},
    {0},
};

/* ---- talk ---- */

struct talk {
	struct cli *cli;
	struct cli_progress bar;
	bool started;
};

static void show_progress(void *ctx, uint64_t done, uint64_t total, const char *tensor)
{
	struct talk *t = ctx;
	if (!t->started)
		cli_progress_start(&t->bar, "convert", "B", total);
	t->started = true;
	cli_progress_update_note(&t->bar, done, tensor);
}

static void show_note(void *ctx, const char *text)
{
	struct talk *t = ctx;
	cli_say(t->cli, "note: %s", text);
}

static void track_temporary(void *ctx, const char *path, bool exists)
{
	(void)ctx;
	if (exists)
		cli_cleanup_add(path);
	else
		cli_cleanup_remove(path);
}

/* ---- results ---- */

static double group_error(const struct convert_group *g)
{
	return g->norm2 > 0 ? sqrt(g->error2 / g->norm2) : 0.0;
}

static json_t *groups_json(const struct convert_result *r)
{
	json_t *list = json_array();
	for (size_t i = 0; i < r->group_count; i++) {
		const struct convert_group *g = &r->group[i];
		json_array_append_new(
		    list, json_pack("{s:s, s:I, s:I, s:I, s:f, s:f}", "scheme", g->scheme, "weights",
		                    (json_int_t)g->weight_count, "parameters",
		                    (json_int_t)g->element_count, "nbytes", (json_int_t)g->nbytes,
		                    "bits_per_weight", convert_bits(g->nbytes, g->element_count),
		                    "relative_error", group_error(g)));
	}
	return list;
}

static int print_json(const struct cmd_convert_options *o, const struct convert_result *r,
                      double seconds)
{
	return cli_print_json(json_pack(
	    "{s:b, s:s?, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:b, s:o}", "dry_run", (int)o->dry_run,
	    "output", o->dry_run ? NULL : o->output, "nbytes", (json_int_t)r->file_nbytes,
	    "weight_nbytes", (json_int_t)r->weight_nbytes, "weights", (json_int_t)r->weight_count,
	    "parameters", (json_int_t)r->element_count, "bits_per_weight",
	    convert_bits(r->weight_nbytes, r->element_count), "seconds", seconds, "memory_nbytes",
	    (json_int_t)r->memory_nbytes, "tokenizer", (int)r->has_tokenizer, "schemes",
	    groups_json(r)));
}

static void print_groups(const struct convert_result *r, bool dry_run)
{
	char size[16];
	printf("%-40s %8s %12s %12s %10s %s\n", "scheme", "weights", "parameters", "size",
	       "bits/weight", dry_run ? "" : "error");
	for (size_t i = 0; i < r->group_count; i++) {
		const struct convert_group *g = &r->group[i];
		printf("%-40s %8llu %12llu %12s %10.3f", g->scheme, (unsigned long long)g->weight_count,
		       (unsigned long long)g->element_count, cli_format_size(g->nbytes, size),
		       convert_bits(g->nbytes, g->element_count));
		if (dry_run)
			printf("\n");
		else
			printf("  %.3g%%\n", 100 * group_error(g));
	}
}

static void print_text(const struct cmd_convert_options *o, const struct convert_result *r,
                       double seconds)
{
	char size[16], memory[16];
	print_groups(r, o->dry_run);
	cli_format_size(r->file_nbytes, size);
	double bits = convert_bits(r->weight_nbytes, r->element_count);
	if (o->dry_run)
		printf("about %s, %.3f bits per weight, %.1f s, %s of memory\n", size, bits, seconds,
		       cli_format_size(r->memory_nbytes, memory));
	if (o->dry_run && r->spilled_nbytes > 0)
		printf("%s of activations in a file while it runs\n",
		       cli_format_size(r->spilled_nbytes, size));
	if (!o->dry_run)
		printf("%s: %s, %.3f bits per weight, %.1f s\n", o->output, size, bits, seconds);
}

/* ---- the command ---- */

static unsigned thread_count(uint64_t asked)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	if (asked == 0)
		asked = online > 0 ? (uint64_t)online : 1;
	return asked > 64 ? 64 : (unsigned)asked;
}

/* 0: not a type a KV cache can have */
static unsigned kv_dtype(const char *name)
{
	if (name == NULL || strcmp(name, "f32") == 0)
		return PITH_DTYPE_F32;
	return strcmp(name, "f16") == 0 ? PITH_DTYPE_F16 : strcmp(name, "int8") == 0 ? PITH_DTYPE_I8 : 0;
}

static int check_target(struct cli *cli, const struct cmd_convert_options *o)
{
	if (o->dry_run)
		return CLI_OK;
	if (o->output == NULL)
		return cli_usage(cli, "where to? -o FILE is missing");
	if (o->force || access(o->output, F_OK) != 0)
		return CLI_OK;
	cli_say(cli, "%s exists; --force replaces it", o->output);
	return CLI_FAILED;
}

static int convert_run(struct cli *cli, const void *options)
{
	const struct cmd_convert_options *o = options;
	struct talk talk = {.cli = cli};
	struct convert_options work = {
	    .scheme = o->scheme, .rules = o->rules.item, .rule_count = o->rules.count,
	    .calib = o->calib, .calib_samples = o->calib_samples, .calib_length = o->calib_length,
	    .calib_seed = o->calib_seed, .memory = o->memory, .resume = o->resume,
	    .kv_dtype = kv_dtype(o->kv), .threads = thread_count(o->threads), .dry_run = o->dry_run, .progress = show_progress,
	    .note = show_note, .temporary = track_temporary, .ctx = &talk};
	struct convert_result result;
	struct pith_error err = {.off = PITH_NO_OFF};
	if (work.kv_dtype == 0)
		return cli_usage(cli, "--kv is f32, f16 or int8, not '%s'", o->kv);
	int code = check_target(cli, o);
	if (code != CLI_OK)
		return code;
	double start = cli_seconds();
	pith_status status = convert_model(cli->operand[0], o->output, &work, &result, &err);
	if (talk.started)
		cli_progress_end(&talk.bar);
	if (status == PITH_E_ARGUMENT)
		return cli_usage(cli, "%s", err.msg);
	if (status != PITH_OK)
		return cli_fail(cli, cli->operand[0], &err);
	double seconds = o->dry_run ? result.seconds : cli_seconds() - start;
	if (o->json)
		return print_json(o, &result, seconds);
	print_text(o, &result, seconds);
	return CLI_OK;
}

const struct cli_command cmd_convert = {
    .name = "convert",
    .summary = "make a .pith file from a Hugging Face checkpoint",
    .synopsis = "SRC -o FILE [--scheme SCHEME] [--rule 'REGEX=SCHEME']...\n"
                "SRC --dry-run [--scheme SCHEME] [--rule 'REGEX=SCHEME']...",
    .description =
        "SRC is a folder with config.json, tokenizer.json and model.safetensors (or\n"
        "model.safetensors.index.json and its shards), or one .safetensors file that\n"
        "lies beside its config.json.  Tensors are BF16, F16 or F32.\n"
        "\n"
        "A SCHEME is a method, or method:key=value,...\n"
        "\n"
        "  bf16, f16, f32   dense; exact when the source has that type or a smaller one\n"
        "  rtn              round to nearest, int8 activations:\n"
        "                     bits=2..8                      default 4\n"
        "                     group=16|32|64|128|256|row     default 64\n"
        "                     zero=int|real|sym              default int\n"
        "                     search=0|1                     default 1: each scale is\n"
        "                       the one with the least squared error found\n"
        "  gptq             round with error feedback, needs --calib:\n"
        "                     bits, group (128), zero as rtn\n"
        "                     order=natural|act|static       default static\n"
        "                     grid=minmax|mse|hessian        default mse\n"
        "                     damp=SHARE                     default 1%\n"
        "  spqr             small groups with two-level scales, outliers apart, needs --calib:\n"
        "                     bits (3), group (16)\n"
        "                     outliers=SHARE                 default 1%; or threshold=T\n"
        "                     scale_bits, zero_bits=1..8     default 3\n"
        "                     order=identity|act             default act\n"
        "                     detect=plain|leave1out         default leave1out\n"
        "                     grid=minmax|search             default search\n"
        "                     damp=SHARE                     default 1%\n"
        "  owq              round with error feedback, keep sensitive columns, needs --calib:\n"
        "                     bits=B.F                       default 4.01: codes of B bits,\n"
        "                       columns for F more; or columns=N\n"
        "                     group (row), zero=int|sym\n"
        "                     order=natural|act              default act\n"
        "                     grid=minmax|mse|hessian|power  default power\n"
        "                     dtype=f16|bf16                 default f16\n"
        "                     damp=SHARE                     default 1%\n"
        "  llm-qat          weights trained for it: a symmetric grid per row; bits (4)\n"
        "\n"
        "METHOD+METHOD is a chain.  These go before another method, by default rtn, which\n"
        "takes the options they do not know; all need --calib:\n"
        "\n"
        "  awq              scale columns by their inputs, clamp weights:\n"
        "                     scale=none|inputs|duo, clip=0|1\n"
        "  smoothquant      move outliers of the inputs into the weights:\n"
        "                     alpha (0.5), sites=norms|ffn|all\n"
        "  os+              scale inputs back to a searched threshold:\n"
        "                     steps (100), sites=norms|ffn|all\n"
        "  rptq             put columns with inputs of similar range side by side:\n"
        "                     clusters (32)\n"
        "\n"
        "The scheme applies to all matrices: linear layers, embedding and head.  Use\n"
        "rules for exceptions.  REGEX is a POSIX extended expression, looked for in the\n"
        "tensor's name, up to the first '='; a rule that matches nothing is an error.\n"
        "Vectors (norms) keep their type, or become f32 for folds; a rule can choose another.\n"
        "\n"
        "The result counts everything a weight takes: planes, padding, table entries.\n"
        "JSON: nbytes, weight_nbytes, weights, parameters, bits_per_weight, seconds,\n"
        "memory_nbytes (an estimate), tokenizer, and the same per scheme in schemes with\n"
        "relative_error, the Frobenius norm of the error over that of the weights.\n"
        "\n"
        "Calibration runs a text block by block through the model as compressed so far.  Its\n"
        "state is kept in FILE.resume* until FILE is complete: --resume goes on from there\n"
        "and writes the same bytes as an uninterrupted run with the same source, scheme,\n"
        "text and libraries.  Without --resume a new run starts over.\n"
        "\n"
        "FILE appears when everything is written; an interrupted run leaves none.\n",
    .examples =
        "pith convert models/books6m -o books6m.pith\n"
        "pith convert models/books6m -o small.pith --scheme rtn:bits=4,group=64\n"
        "pith convert m -o m.pith -s rtn:bits=3,group=32 -r 'embed_tokens|lm_head=rtn:bits=8'\n"
        "pith convert models/books6m -o g.pith -s gptq:bits=3,group=64 --calib text.txt\n"
        "pith convert models/books6m --dry-run --scheme rtn:bits=2,group=16 --json",
    .options = convert_table,
    .options_nbytes = sizeof(struct cmd_convert_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = convert_run,
};
