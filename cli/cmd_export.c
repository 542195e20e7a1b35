/*
 * pith export: a .pith file back to a checkpoint.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "export.h"

#include <jansson.h>

struct cmd_export_options {
	const char *output, *to;
	bool no_verify, json;
};

static const struct cmd_export_options export_defaults = {.to = "safetensors"};

static const struct cli_option export_table[] = {
    {"output", 'o', CLI_STRING, offsetof(struct cmd_export_options, output), "DIR",
     "the folder to make; it must not exist"},
    {"to", 0, CLI_STRING, offsetof(struct cmd_export_options, to), "CONTAINER",
     "safetensors (default); gguf is planned"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct cmd_export_options, no_verify), NULL,
     "do not check checksums"},
    {"json", 0, CLI_FLAG, offsetof(struct cmd_export_options, json), NULL, "print JSON"},
    {0},
};

struct talk {
	struct cli_progress bar;
	bool started;
};

static void show_progress(void *ctx, uint64_t done, uint64_t total, const char *tensor)
{
	struct talk *t = ctx;
	if (!t->started)
		cli_progress_start(&t->bar, "export", "B", total);
	t->started = true;
	cli_progress_update_note(&t->bar, done, tensor);
}

static void track_temporary(void *ctx, const char *path, bool exists)
{
	(void)ctx;
	if (exists)
		cli_cleanup_add(path);
	else
		cli_cleanup_remove(path);
}

static int print_result(struct cli *cli, const struct cmd_export_options *o,
                        const struct export_result *r, double seconds)
{
	if (r->decoded_count > 0)
		cli_say(cli, "note: %llu of %llu tensors are quantized; they were written as floats",
		        (unsigned long long)r->decoded_count, (unsigned long long)r->weight_count);
	if (o->json)
		return cli_print_json(json_pack(
		    "{s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "output", o->output, "container", o->to,
		    "weights", (json_int_t)r->weight_count, "exact", (json_int_t)r->exact_count,
		    "decoded", (json_int_t)r->decoded_count, "nbytes", (json_int_t)r->nbytes, "seconds",
		    seconds));
	char size[16];
	printf("%s: %llu tensors, %s, %llu of them bit for bit, %.1f s\n", o->output,
	       (unsigned long long)r->weight_count, cli_format_size(r->nbytes, size),
	       (unsigned long long)r->exact_count, seconds);
	return CLI_OK;
}

static int export_run(struct cli *cli, const void *options)
{
	const struct cmd_export_options *o = options;
	struct talk talk = {0};
	struct export_options work = {.no_verify = o->no_verify, .progress = show_progress,
	                              .temporary = track_temporary, .ctx = &talk};
	struct export_result result;
	struct pith_file *file;
	struct pith_error err = {.off = PITH_NO_OFF};
	if (o->output == NULL)
		return cli_usage(cli, "where to? -o DIR is missing");
	double start = cli_seconds();
	pith_status status =
	    pith_file_open(cli->operand[0], o->no_verify ? PITH_OPEN_NO_VERIFY : 0, &file, &err);
	if (status != PITH_OK)
		return cli_fail(cli, cli->operand[0], &err);
	status = export_model(file, o->to, o->output, &work, &result, &err);
	pith_file_close(file);
	if (talk.started)
		cli_progress_end(&talk.bar);
	if (status == PITH_E_ARGUMENT)
		return cli_usage(cli, "%s", err.msg);
	if (status != PITH_OK)
		return cli_fail(cli, cli->operand[0], &err);
	return print_result(cli, o, &result, cli_seconds() - start);
}

const struct cli_command cmd_export = {
    .name = "export",
    .summary = "write a .pith file back as a Hugging Face checkpoint",
    .synopsis = "FILE -o DIR [--to safetensors] [--no-verify] [--json]",
    .description =
        "Makes a folder with model.safetensors, config.json and, where the file has them,\n"
        "tokenizer.json, tokenizer_config.json, generation_config.json, LICENSE and\n"
        "README.md.  The texts are those the file was made from, byte for byte.\n"
        "\n"
        "Tensors have the names, shapes and types of the source.  Dense weights stored in\n"
        "that type are bit-exact; quantized ones are decoded and rounded to it.\n"
        "\n"
        "Checksums are verified unless --no-verify is given.  DIR appears when everything\n"
        "is written.\n"
        "\n"
        "JSON: output, container, weights, exact, decoded, nbytes, seconds.\n",
    .examples = "pith export books6m.pith -o books6m-hf\n"
                "pith export small.pith -o small-hf --json",
    .options = export_table,
    .options_nbytes = sizeof(struct cmd_export_options),
    .defaults = &export_defaults,
    .min_operands = 1,
    .max_operands = 1,
    .run = export_run,
};
