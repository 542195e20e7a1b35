/*
 * pith info: what a .pith file holds.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_weight.h"
#include "info_html.h"

#include "term.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

struct info_options {
	bool json, verbose;
	const char *html;
};

static const struct cli_option info_table[] = {
    {"json", 0, CLI_FLAG, offsetof(struct info_options, json), NULL, "print JSON"},
    {"verbose", 'v', CLI_FLAG, offsetof(struct info_options, verbose), NULL,
     "list every weight, section and block too"},
    {"html", 0, CLI_STRING, offsetof(struct info_options, html), "OUT",
     "write a page that draws bits and error of every matrix"},
    {0},
};

#define MAX_KINDS 16u

/* What one pass over the weights finds. */
struct totals {
	uint64_t elements, nbytes; /* of all weights and their tables */
	struct {
		const char *name;
		uint64_t terms, nbytes;
	} kind[MAX_KINDS];
	size_t kind_count;
	json_t *list; /* with --json --verbose, else NULL */
};

static void count_kind(struct totals *totals, const char *name, uint64_t nbytes)
{
	size_t k = 0;
	while (k < totals->kind_count && strcmp(totals->kind[k].name, name) != 0)
		k++;
	if (k == MAX_KINDS)
		return;
	if (k == totals->kind_count)
		totals->kind[totals->kind_count++].name = name;
	totals->kind[k].terms++;
	totals->kind[k].nbytes += nbytes;
}

static pith_status count_weight(struct totals *totals, const struct cli_weight *w,
                                struct pith_error *err)
{
	totals->elements += w->elements;
	totals->nbytes += w->nbytes;
	uint64_t in_terms = 0;
	for (uint32_t t = 0; t < w->weight.term_count; t++) {
		struct pith_term_info term;
		PITH_TRY(pith_weight_term_info(&w->weight, t, &term, err));
		count_kind(totals, term.kind, term.nbytes);
		in_terms += term.nbytes;
	}
	if (w->nbytes > in_terms)
		count_kind(totals, "transforms", w->nbytes - in_terms);
	return PITH_OK;
}

static json_t *weight_json(const struct cli_weight *w)
{
	json_t *shape = json_array();
	for (uint32_t d = 0; d < w->weight.rank; d++)
		json_array_append_new(shape, json_integer((json_int_t)w->weight.dim[d]));
	return json_pack("{s:s, s:o, s:s, s:s, s:I, s:f}", "name", w->name, "shape", shape, "terms",
	                 w->terms, "activation", cli_activation_name(w->weight.activation), "bytes",
	                 (json_int_t)w->nbytes, "bits_per_weight",
	                 cli_bits_per_weight(w->nbytes, w->elements));
}

/* One pass over all weights; prints the list when asked for. */
static pith_status read_weights(const struct pith_file *file, bool print, struct totals *totals,
                                struct pith_error *err)
{
	struct pith_file_info info;
	pith_file_info(file, &info);
	if (print)
		printf("\n%-48s %-14s %6s %10s  %s\n", "weight", "shape", "bits", "bytes", "terms");
	for (size_t i = 0; i < info.weight_count; i++) {
		struct cli_weight w;
		PITH_TRY(cli_weight_read(file, i, &w, err));
		PITH_TRY(count_weight(totals, &w, err));
		if (totals->list != NULL)
			json_array_append_new(totals->list, weight_json(&w));
		if (print)
			printf("%-48s %-14s %6.2f %10" PRIu64 "  %s\n", w.name, w.shape,
			       cli_bits_per_weight(w.nbytes, w.elements), w.nbytes, w.terms);
	}
	count_kind(totals, "tables", cli_tables_nbytes(file));
	return PITH_OK;
}

static json_t *arch_json(const struct pith_file *file)
{
	json_t *object = json_object();
	for (size_t i = 0; i < pith_file_arch_count(file); i++) {
		struct pith_arch_value v;
		if (pith_file_arch_at(file, i, &v, NULL) != PITH_OK)
			continue;
		json_t *value = v.type == PITH_ARCH_TYPE_U64   ? json_integer((json_int_t)v.u64)
		                : v.type == PITH_ARCH_TYPE_F64 ? json_real(v.f64)
		                                               : json_stringn(v.string, v.string_nbytes);
		json_object_set_new(object, v.key, value);
	}
	return object;
}

static json_t *blocks_json(const struct pith_file *file, uint64_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++) {
		struct pith_block b;
		if (pith_file_block(file, i, &b, NULL) != PITH_OK)
			continue;
		json_array_append_new(
		    list, json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "heads", (int)b.head_count,
		                    "kv_heads", (int)b.kv_head_count, "head_dim", (int)b.head_dim,
		                    "ffn", (int)b.ffn_count, "attention_of", (int)b.attention_of,
		                    "ffn_of", (int)b.ffn_of, "window", (int)b.window));
	}
	return list;
}

static json_t *sections_json(const struct pith_file *file)
{
	json_t *list = json_array();
	for (size_t i = 0; i < pith_file_section_count(file); i++) {
		struct pith_section s;
		char name[5];
		if (pith_file_section_at(file, i, &s, NULL) != PITH_OK)
			continue;
		pith_section_name(s.id, name);
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "id", name, "offset",
		                                      (json_int_t)s.off, "bytes",
		                                      (json_int_t)s.nbytes, "raw_bytes",
		                                      (json_int_t)s.raw_nbytes));
	}
	return list;
}

static int print_json(const struct pith_file *file, const char *path, const struct totals *totals)
{
	struct pith_file_info info;
	char identity[33], root[33];
	pith_file_info(file, &info);
	json_t *kinds = json_array();
	for (size_t k = 0; k < totals->kind_count; k++)
		json_array_append_new(kinds, json_pack("{s:s, s:I, s:I}", "kind",
		                                       totals->kind[k].name, "terms",
		                                       (json_int_t)totals->kind[k].terms, "bytes",
		                                       (json_int_t)totals->kind[k].nbytes));
	json_t *out = json_pack(
	    "{s:s, s:I, s:i, s:i, s:I, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o}",
	    "file", path, "file_bytes", (json_int_t)info.file_nbytes, "container_version",
	    (int)info.container_version, "numerics_version", (int)info.numerics_version,
	    "generation", (json_int_t)info.generation, "identity",
	    cli_format_digest(info.model_identity, identity), "file_root",
	    cli_format_digest(info.file_root, root), "weights", (json_int_t)info.weight_count,
	    "parameters", (json_int_t)totals->elements, "weight_bytes",
	    (json_int_t)totals->nbytes, "bits_per_weight",
	    cli_bits_per_weight(totals->nbytes, totals->elements), "file_bits_per_weight",
	    cli_bits_per_weight(info.file_nbytes, totals->elements), "kinds", kinds,
	    "architecture", arch_json(file), "blocks", blocks_json(file, info.block_count),
	    "sections", sections_json(file));
	if (out != NULL && totals->list != NULL)
		json_object_set(out, "weight_list", totals->list);
	return cli_print_json(out);
}

/* One line when all blocks have one shape (and unless asked for), else one a block. */
static void print_blocks(const struct pith_file *file, uint64_t count, bool verbose)
{
	struct pith_block first = {0}, b;
	bool same = count > 0 && pith_file_block(file, 0, &first, NULL) == PITH_OK;
	for (size_t i = 1; i < count && same; i++)
		same = pith_file_block(file, i, &b, NULL) == PITH_OK &&
		       b.head_count == first.head_count &&
		       b.kv_head_count == first.kv_head_count && b.head_dim == first.head_dim &&
		       b.ffn_count == first.ffn_count && b.window == first.window &&
		       b.attention_of == i && b.ffn_of == i;
	if (same && !verbose)
		printf("blocks        %" PRIu64 ", each %u heads (%u key-value) of %u, "
		       "feed-forward %u\n",
		       count, first.head_count, first.kv_head_count, first.head_dim,
		       first.ffn_count);
	for (size_t i = 0; i < count && (!same || verbose); i++)
		if (pith_file_block(file, i, &b, NULL) == PITH_OK)
			printf("block %-7zu %u heads (%u key-value) of %u, feed-forward %u, window %u, "
			       "weights of %u/%u\n",
			       i, b.head_count, b.kv_head_count, b.head_dim, b.ffn_count, b.window,
			       b.attention_of, b.ffn_of);
}

static void print_summary(const struct pith_file *file, const char *path, bool verbose)
{
	struct pith_file_info info;
	char digest[33], size[16];
	pith_file_info(file, &info);
	printf("file          %s, %s (%" PRIu64 " bytes)\n", path,
	       cli_format_size(info.file_nbytes, size), info.file_nbytes);
	printf("format        container %u, numerics %u, generation %" PRIu64 "\n",
	       info.container_version, info.numerics_version, info.generation);
	printf("identity      %s\n", cli_format_digest(info.model_identity, digest));
	printf("file root     %s\n", cli_format_digest(info.file_root, digest));
	for (size_t i = 0; i < pith_file_arch_count(file); i++) {
		struct pith_arch_value v;
		char text[256];
		if (pith_file_arch_at(file, i, &v, NULL) != PITH_OK)
			continue;
		cli_arch_text(&v, text, sizeof(text));
		printf("%-13s %s\n", v.key, text);
	}
	print_blocks(file, info.block_count, verbose);
}

static void print_totals(const struct pith_file *file, const struct totals *totals, bool verbose)
{
	struct pith_file_info info;
	char size[16];
	pith_file_info(file, &info);
	printf("\nweights       %" PRIu64 ", %.3f M parameters, %s, %.3f bits per weight "
	       "(whole file %.3f)\n",
	       info.weight_count, 1e-6 * (double)totals->elements,
	       cli_format_size(totals->nbytes, size),
	       cli_bits_per_weight(totals->nbytes, totals->elements),
	       cli_bits_per_weight(info.file_nbytes, totals->elements));
	for (size_t k = 0; k < totals->kind_count; k++)
		printf("  %-11s %5" PRIu64 "  %10s  %5.1f %%\n", totals->kind[k].name,
		       totals->kind[k].terms, cli_format_size(totals->kind[k].nbytes, size),
		       100.0 * (double)totals->kind[k].nbytes / (double)totals->nbytes);
	for (size_t i = 0; verbose && i < pith_file_section_count(file); i++) {
		struct pith_section s;
		char name[5];
		if (pith_file_section_at(file, i, &s, NULL) != PITH_OK)
			continue;
		pith_section_name(s.id, name);
		printf("section %-5s %" PRIu64 " bytes at %" PRIu64 "%s\n", name, s.nbytes, s.off,
		       s.encoding != 0 ? ", zstd" : "");
	}
}

static int info_run(struct cli *cli, const void *options)
{
	const struct info_options *o = options;
	const char *path = cli->operand[0];
	struct pith_file *file;
	struct pith_error err;
	struct totals totals = {0};
	if (pith_file_open(path, 0, &file, &err) != PITH_OK)
		return cli_fail(cli, path, &err);
	int code = CLI_OK;
	if (o->html != NULL) {
		if (info_html_write(file, path, o->html, &err) != PITH_OK)
			code = cli_fail(cli, path, &err);
		pith_file_close(file);
		return code;
	}
	if (o->json && o->verbose)
		totals.list = json_array();
	if (!o->json)
		print_summary(file, path, o->verbose);
	if (read_weights(file, o->verbose && !o->json, &totals, &err) != PITH_OK)
		code = cli_fail(cli, path, &err);
	else if (o->json)
		code = print_json(file, path, &totals);
	else
		print_totals(file, &totals, o->verbose);
	json_decref(totals.list);
	pith_file_close(file);
	return code;
}

const struct cli_command cmd_info = {
    .name = "info",
    .summary = "what a .pith file holds: architecture, sizes, bits per weight",
    .synopsis = "FILE [-v] [--json]\nFILE --html OUT",
    .description =
        "Prints architecture, sizes, bits per weight as stored (scales, zero-points,\n"
        "positions, padding and table entries counted) and the share of each kind of term.  Reads the\n"
        "tables only; damage in the weights themselves is found by 'pith verify'.\n"
        "--html writes the same as one page that opens in any browser.\n"
        "\n"
        "JSON keys: file, file_bytes, container_version, numerics_version, generation,\n"
        "identity, file_root, weights, parameters, weight_bytes, bits_per_weight,\n"
        "file_bits_per_weight, kinds, architecture, blocks, sections; with -v also\n"
        "weight_list.\n",
    .examples = "pith info model.pith\npith info -v model.pith\n"
                "pith info --json model.pith | jq .bits_per_weight\n"
                "pith info --html model.html model.pith",
    .options = info_table,
    .options_nbytes = sizeof(struct info_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = info_run,
};
