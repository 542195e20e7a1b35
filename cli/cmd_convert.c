/*
 * pith convert: a checkpoint to a .pith file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cmd_convert_options {
	const char *output, *scheme, *kv, *rule_file;
	struct cli_list rules;
	const char *calib;
	uint64_t calib_samples, calib_length, calib_seed, memory;
	uint64_t threads, size;
	double bits;
	bool dry_run, force, json, resume;
};

static const struct cli_option convert_table[] = {
    {"output", 'o', CLI_STRING, offsetof(struct cmd_convert_options, output), "FILE",
     "the file to write; needed unless --dry-run"},
    {"scheme", 's', CLI_STRING, offsetof(struct cmd_convert_options, scheme), "SCHEME",
     "how weights are stored, see below; default bf16"},
    {"rule", 'r', CLI_LIST, offsetof(struct cmd_convert_options, rules), "REGEX=SCHEME",
     "another scheme for the tensors whose name matches;\nmay be repeated, the last match wins"},
    {"rules", 0, CLI_STRING, offsetof(struct cmd_convert_options, rule_file), "FILE",
     "rules from a file, one a line, before those of --rule"},
    {"bits", 'b', CLI_NUMBER, offsetof(struct cmd_convert_options, bits), "B",
     "choose a scheme for every matrix so that a weight takes B bits\non average; needs --calib"},
    {"size", 0, CLI_SIZE, offsetof(struct cmd_convert_options, size), "SIZE",
     "the same so that the file takes SIZE"},
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
	json_t *choices; /* what --bits or --size chose, as JSON has it */
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

/* For "convert --dry-run" with --bits or --size. */
static void list_choice(void *ctx, const char *tensor, const char *scheme, double bits, double loss)
{
	struct talk *t = ctx;
	if (t->choices)
		json_array_append_new(t->choices,
		                      json_pack("{s:s, s:s, s:f, s:f}", "tensor", tensor, "scheme", scheme,
		                                "bits_per_weight", bits, "loss", loss));
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
                      json_t *choices, double seconds)
{
	json_t *json = json_pack(
	    "{s:b, s:s?, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:b, s:o}", "dry_run", (int)o->dry_run,
	    "output", o->dry_run ? NULL : o->output, "nbytes", (json_int_t)r->file_nbytes,
	    "weight_nbytes", (json_int_t)r->weight_nbytes, "weights", (json_int_t)r->weight_count,
	    "parameters", (json_int_t)r->element_count, "bits_per_weight",
	    convert_bits(r->weight_nbytes, r->element_count), "seconds", seconds, "memory_nbytes",
	    (json_int_t)r->memory_nbytes, "tokenizer", (int)r->has_tokenizer, "schemes",
	    groups_json(r));
	if (json != NULL && choices != NULL)
		json_object_set(json, "choices", choices);
	return cli_print_json(json);
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

static void print_choices(const json_t *choices)
{
	size_t i;
	const json_t *c;
	json_array_foreach(choices, i, c)
		printf("%-44s %6.3f bits  loss %.2e  %s\n", json_string_value(json_object_get(c, "tensor")),
		       json_real_value(json_object_get(c, "bits_per_weight")),
		       json_real_value(json_object_get(c, "loss")),
		       json_string_value(json_object_get(c, "scheme")));
}

/* Words of 'text' in lines of at most 78 columns behind the method's name. */
static void print_method(const struct quant_method *method, FILE *out)
{
	enum { INDENT = 15, WIDTH = 78 };
	int column = fprintf(out, "  %-*s", INDENT - 2, method->name);
	for (const char *p = method->help; *p != '\0';) {
		int length = (int)strcspn(p, " \n");
		if (column > INDENT && column + 1 + length > WIDTH)
			column = fprintf(out, "\n%*s", INDENT, "") - 1;
		else if (column > INDENT)
			column += fprintf(out, " ");
		column += fprintf(out, "%.*s", length, p);
		p += length;
		p += strspn(p, " \n");
	}
	fputc('\n', out);
}

static void print_methods(FILE *out)
{
	fputs("\nMethods, defaults in brackets:\n\n", out);
	for (size_t i = 0; quant_methods[i]; i++)
		print_method(quant_methods[i], out);
}

/* ---- rules of a file ---- */

struct rule_list {
	char *text;         /* of the file, cut into lines */
	const char **rule;
	size_t count;
};

static void rule_list_free(struct rule_list *r)
{
	free(r->text);
	free(r->rule);
}

/* Cut off the first line of *text; blank ones and those that start with # count as well. */
static char *next_line(char **text)
{
	char *line = *text;
	size_t length = strcspn(line, "\n");
	*text += length + (line[length] == '\n');
	line[length] = '\0';
	return line;
}

/* The file's text, NUL-terminated; NULL: errno says why. */
static char *read_text(const char *path)
{
	FILE *in = fopen(path, "rb");
	char *text = NULL;
	size_t nbytes = 0, cap = 0;
	while (in != NULL && !feof(in) && !ferror(in)) {
		if (nbytes + 1 >= cap) {
			char *more = realloc(text, cap += 65536);
			if (more == NULL)
				break;
			text = more;
		}
		nbytes += fread(text + nbytes, 1, cap - nbytes - 1, in);
	}
	bool complete = in != NULL && feof(in) && text != NULL;
	if (in != NULL)
		fclose(in);
	if (complete)
		text[nbytes] = '\0';
	else
		free(text);
	return complete ? text : NULL;
}

/* The file's rules, then those of --rule. */
static int collect_rules(struct cli *cli, const struct cmd_convert_options *o,
                         struct rule_list *out)
{
	size_t lines = o->rules.count + 1;
	memset(out, 0, sizeof(*out));
	if (o->rule_file != NULL && (out->text = read_text(o->rule_file)) == NULL)
		return cli_fail_errno(cli, o->rule_file);
	for (const char *p = out->text; p != NULL && *p != '\0'; p++)
		lines += *p == '\n';
	out->rule = malloc((lines + 1) * sizeof(*out->rule));
	if (out->rule == NULL)
		return cli_fail_errno(cli, "rules");
	for (char *p = out->text; p != NULL && *p != '\0';) {
		const char *line = next_line(&p);
		if (*line != '\0' && *line != '#')
			out->rule[out->count++] = line;
	}
	for (size_t i = 0; i < o->rules.count; i++)
		out->rule[out->count++] = o->rules.item[i];
	return CLI_OK;
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

/* --bits and --size, in one place: an exit code. */
static int check_goal(struct cli *cli, const struct cmd_convert_options *o)
{
	if (o->bits == 0 && o->size == 0)
		return CLI_OK;
	if (o->bits != 0 && o->size != 0)
		return cli_usage(cli, "--bits and --size exclude each other");
	if (o->bits < 0 || o->bits > 16)
		return cli_usage(cli, "--bits takes 2 to 16, not %g", o->bits);
	if (o->scheme != NULL)
		return cli_usage(cli, "--bits and --size choose the schemes; --rule names exceptions");
	return CLI_OK;
}

static int convert(struct cli *cli, const struct cmd_convert_options *o,
                   const struct rule_list *rules, struct talk *talk)
{
	struct convert_options work = {
	    .scheme = o->scheme, .rules = rules->rule, .rule_count = rules->count, .bits = o->bits,
	    .size = o->size, .calib = o->calib, .calib_samples = o->calib_samples,
	    .calib_length = o->calib_length, .calib_seed = o->calib_seed, .memory = o->memory,
	    .resume = o->resume, .kv_dtype = kv_dtype(o->kv), .threads = thread_count(o->threads),
	    .dry_run = o->dry_run, .progress = show_progress, .note = show_note,
	    .temporary = track_temporary, .chosen = list_choice, .ctx = talk};
	struct convert_result result;
	struct pith_error err = {.off = PITH_NO_OFF};
	double start = cli_seconds();
	pith_status status = convert_model(cli->operand[0], o->output, &work, &result, &err);
	if (talk->started)
		cli_progress_end(&talk->bar);
	if (status == PITH_E_ARGUMENT)
		return cli_usage(cli, "%s", err.msg);
	if (status != PITH_OK)
		return cli_fail(cli, cli->operand[0], &err);
	double seconds = o->dry_run ? result.seconds : cli_seconds() - start;
	if (o->json)
		return print_json(o, &result, talk->choices, seconds);
	if (o->dry_run)
		print_choices(talk->choices);
	print_text(o, &result, seconds);
	return CLI_OK;
}

static int convert_run(struct cli *cli, const void *options)
{
	const struct cmd_convert_options *o = options;
	struct talk talk = {.cli = cli, .choices = NULL};
	struct rule_list rules;
	if (kv_dtype(o->kv) == 0)
		return cli_usage(cli, "--kv is f32, f16 or int8, not '%s'", o->kv);
	int code = check_goal(cli, o);
	if (code == CLI_OK)
		code = check_target(cli, o);
	if (code != CLI_OK)
		return code;
	code = collect_rules(cli, o, &rules);
	if (o->bits != 0 || o->size != 0)
		talk.choices = json_array();
	if (code == CLI_OK)
		code = convert(cli, o, &rules, &talk);
	json_decref(talk.choices);
	rule_list_free(&rules);
	return code;
}

const struct cli_command cmd_convert = {
    .name = "convert",
    .summary = "make a .pith file from a Hugging Face checkpoint",
    .synopsis = "SRC -o FILE [--scheme SCHEME] [--rule 'REGEX=SCHEME']...\n"
                "SRC -o FILE --bits B|--size SIZE --calib TEXT [--rule 'REGEX=SCHEME']...\n"
                "SRC --dry-run [--scheme SCHEME] [--rule 'REGEX=SCHEME']...",
    .description =
        "SRC is a folder with config.json, tokenizer.json and model.safetensors (or\n"
        "model.safetensors.index.json and its shards), or one .safetensors file that\n"
        "lies beside its config.json.  Tensors are BF16, F16 or F32.\n"
        "\n"
        "A SCHEME is a method, or method:key=value,..., or a chain METHOD+METHOD: what\n"
        "prepares inputs and weights, then a pruner, a quantizer or both, then what\n"
        "corrects them.  The methods are listed below.\n"
        "\n"
        "The scheme applies to all matrices: linear layers, embedding and head.  Use\n"
        "rules for exceptions.  REGEX is a POSIX extended expression, looked for in the\n"
        "tensor's name, up to the first '='; a rule that matches nothing is an error.\n"
        "Vectors (norms) keep their type, or become f32 for folds; a rule can choose another.\n"
        "\n"
        "--bits and --size choose the scheme of every matrix that no rule names.  A pass\n"
        "over the calibration text measures what each candidate does to the matrix's outputs,\n"
        "and what an error in each matrix does to the predictions; the choice loses least at the\n"
        "size.  The schemes become rules of the recipe: pith log --rules prints them, and\n"
        "--rules makes the same file again without measuring.\n"
        "\n"
        "Bits per weight count the planes of all weights, not gaps and tables.\n"
        "JSON: nbytes, weight_nbytes, weights, parameters, bits_per_weight, seconds,\n"
        "memory_nbytes (an estimate), tokenizer, and the same per scheme in schemes with\n"
        "relative_error, the Frobenius norm of the error over that of the weights; with\n"
        "--bits or --size choices: tensor, scheme, bits_per_weight, loss (nats a token).\n"
        "\n"
        "Calibration runs a text block by block through the model as compressed so far.  Its\n"
        "state is kept in FILE.resume* until FILE is complete: --resume goes on from there\n"
        "and writes the same bytes as an uninterrupted run with the same source, scheme,\n"
        "text and libraries.  Without --resume a new run starts over.\n"
        "\n"
        "FILE appears when everything is written; an interrupted run leaves none.\n",
    .details = print_methods,
    .examples =
        "pith convert models/books6m -o books6m.pith\n"
        "pith convert models/books6m -o small.pith --scheme rtn:bits=4,group=64\n"
        "pith convert m -o m.pith -s rtn:bits=3,group=32 -r 'embed_tokens|lm_head=rtn:bits=8'\n"
        "pith convert models/books6m -o g.pith -s gptq:bits=3,group=64 --calib text.txt\n"
        "pith convert models/books6m -o b.pith --bits 3.5 --calib text.txt\n"
        "pith convert models/books6m --dry-run --scheme rtn:bits=2,group=16 --json",
    .options = convert_table,
    .options_nbytes = sizeof(struct cmd_convert_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = convert_run,
};
