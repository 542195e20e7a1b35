/*
 * pith diff: how two .pith files differ: architecture, weights, and the values that
 * the weights stand for.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_weight.h"

#include "bytes.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

struct diff_options {
	bool json, verbose;
};

static const struct cli_option diff_table[] = {
    {"verbose", 'v', CLI_FLAG, offsetof(struct diff_options, verbose), NULL,
     "list the weights that are equal too"},
    {"json", 0, CLI_FLAG, offsetof(struct diff_options, json), NULL, "print JSON"},
    {0},
};

struct side {
	const char *path;
	struct pith_file *file;
	struct pith_file_info info;
};

struct comparison {
	struct side a, b;
	bool json, verbose;
	json_t *architecture, *only_a, *only_b, *weights;
	size_t equal_count, differing_count;
	struct cli_progress progress;
};

/* ---- architecture ---- */

/* The text of key 'key' in 'file', or "" when it has none. */
static void key_text(const struct pith_file *file, const char *key, char text[256])
{
	struct pith_arch_value v;
	text[0] = '\0';
	for (size_t i = 0; i < pith_file_arch_count(file); i++)
		if (pith_file_arch_at(file, i, &v, NULL) == PITH_OK && strcmp(v.key, key) == 0)
			cli_arch_text(&v, text, 256);
}

static void report_key(struct comparison *c, const char *key, const char *a, const char *b)
{
	json_array_append_new(c->architecture,
	                      json_pack("{s:s, s:s, s:s}", "key", key, "a", a, "b", b));
	if (!c->json)
		printf("%s: %s | %s\n", key, a[0] != '\0' ? a : "(absent)",
		       b[0] != '\0' ? b : "(absent)");
}

static void compare_architecture(struct comparison *c)
{
	struct pith_arch_value v;
	char a[256], b[256];
	for (size_t i = 0; i < pith_file_arch_count(c->a.file); i++) {
		if (pith_file_arch_at(c->a.file, i, &v, NULL) != PITH_OK)
			continue;
		cli_arch_text(&v, a, sizeof(a));
		key_text(c->b.file, v.key, b);
		if (strcmp(a, b) != 0)
			report_key(c, v.key, a, b);
	}
	for (size_t i = 0; i < pith_file_arch_count(c->b.file); i++) {
		if (pith_file_arch_at(c->b.file, i, &v, NULL) != PITH_OK)
			continue;
		cli_arch_text(&v, b, sizeof(b));
		key_text(c->a.file, v.key, a);
		if (a[0] == '\0')
			report_key(c, v.key, a, b);
	}
}

/* ---- weights ---- */

/* True when both hold the same terms with the same bytes, by parameters and checksums. */
static bool same_planes(const struct pith_weight *a, const struct pith_weight *b)
{
	if (a->term_count != b->term_count || a->transform_count != 0 || b->transform_count != 0)
		return false;
	for (uint32_t t = 0; t < a->term_count; t++) {
		struct pith_term_info ta, tb;
		if (pith_weight_term_info(a, t, &ta, NULL) != PITH_OK ||
		    pith_weight_term_info(b, t, &tb, NULL) != PITH_OK ||
		    ta.kind_id != tb.kind_id || ta.plane_count != tb.plane_count ||
		    memcmp(ta.param, tb.param, sizeof(ta.param)) != 0)
			return false;
		for (uint32_t p = 0; p < ta.plane_count; p++) {
			struct pith_plane_info pa, pb;
			if (pith_weight_plane(a, t, p, &pa, NULL) != PITH_OK ||
			    pith_weight_plane(b, t, p, &pb, NULL) != PITH_OK ||
			    pa.xxh3 != pb.xxh3 || pa.nbytes != pb.nbytes)
				return false;
		}
	}
	return true;
}

struct distance {
	double largest;  /* max |a - b| */
	double relative; /* ||a - b|| / ||a||, Frobenius */
};

#define CHUNK_FLOATS ((size_t)1 << 18)

static void accumulate(const float *a, const float *b, size_t count, double sums[2],
                       double *largest)
{
	for (size_t i = 0; i < count; i++) {
		double d = fabs((double)a[i] - (double)b[i]);
		sums[0] += d * d;
		sums[1] += (double)a[i] * (double)a[i];
		if (d > *largest)
			*largest = d;
	}
}

static pith_status measure(const struct pith_weight *a, const struct pith_weight *b,
                           struct distance *out, struct pith_error *err)
{
	size_t n = a->n, rows = CHUNK_FLOATS / n + 1, total;
	double sums[2] = {0, 0};
	*out = (struct distance){0};
	rows = rows < a->m ? rows : a->m;
	if (!pith_mul_size(2 * rows + 1, n, &total) || total > SIZE_MAX / sizeof(float))
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "a row is too long");
	float *memory = malloc(total * sizeof(float));
	if (memory == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for %zu floats",
		                 total);
	float *va = memory, *vb = memory + rows * n, *scratch = vb + rows * n;
	pith_status status = PITH_OK;
	for (size_t row = 0; row < a->m && status == PITH_OK; row += rows) {
		size_t count = a->m - row < rows ? a->m - row : rows;
		status = pith_weight_unpack_rows(a, row, count, va, scratch, err);
		if (status == PITH_OK)
			status = pith_weight_unpack_rows(b, row, count, vb, scratch, err);
		if (status == PITH_OK)
			accumulate(va, vb, count * n, sums, &out->largest);
	}
	free(memory);
	out->relative = sums[1] > 0 ? sqrt(sums[0] / sums[1]) : sums[0] > 0 ? INFINITY : 0;
	return status;
}

static void report_weight(struct comparison *c, const struct cli_weight *a,
                          const struct cli_weight *b, const struct distance *d, bool same)
{
	bool shape = strcmp(a->shape, b->shape) == 0;
	if (same)
		c->equal_count++;
	else
		c->differing_count++;
	if (same && !c->verbose)
		return;
	json_t *row = json_pack("{s:s, s:b, s:s, s:s, s:s, s:s, s:f, s:f}", "name", a->name, "equal",
	                        same, "shape_a", a->shape, "shape_b", b->shape, "terms_a", a->terms,
	                        "terms_b", b->terms, "bits_per_weight_a",
	                        cli_bits_per_weight(a->nbytes, a->elements), "bits_per_weight_b",
	                        cli_bits_per_weight(b->nbytes, b->elements));
	if (shape) {
		json_object_set_new(row, "max_difference", json_real(d->largest));
		json_object_set_new(row, "relative_difference",
		                    isfinite(d->relative) ? json_real(d->relative) : json_null());
	}
	json_array_append_new(c->weights, row);
	if (c->json)
		return;
	if (same)
		printf("%s: equal (%s)\n", a->name, a->terms);
	else if (!shape)
		printf("%s: shape %s | %s\n", a->name, a->shape, b->shape);
	else
		printf("%s: %s | %s: largest difference %.3e, relative %.3e\n", a->name, a->terms,
		       b->terms, d->largest, d->relative);
}

static pith_status compare_weight(struct comparison *c, size_t i, struct pith_error *err)
{
	struct cli_weight a, b;
	struct distance d = {0};
	struct pith_weight found;
	PITH_TRY(cli_weight_read(c->a.file, i, &a, err));
	pith_status status = pith_file_find(c->b.file, a.name, &found, err);
	if (status == PITH_E_NOT_FOUND) {
		json_array_append_new(c->only_a, json_string(a.name));
		if (!c->json)
			printf("%s: only in %s\n", a.name, c->a.path);
		return PITH_OK;
	}
	PITH_TRY(status);
	PITH_TRY(cli_weight_read(c->b.file, found.index, &b, err));
	bool same = strcmp(a.shape, b.shape) == 0;
	if (same && !same_planes(&a.weight, &b.weight)) {
		PITH_TRY(pith_weight_verify(&a.weight, err));
		PITH_TRY(pith_weight_verify(&b.weight, err));
		PITH_TRY(measure(&a.weight, &b.weight, &d, err));
		same = d.largest == 0 && strcmp(a.terms, b.terms) == 0;
	}
	report_weight(c, &a, &b, &d, same);
	return PITH_OK;
}

static pith_status compare_weights(struct comparison *c, struct pith_error *err)
{
	cli_progress_start(&c->progress, "diff", "weights", c->a.info.weight_count);
	for (size_t i = 0; i < c->a.info.weight_count; i++) {
		PITH_TRY(compare_weight(c, i, err));
		cli_progress_update(&c->progress, i + 1);
	}
	cli_progress_end(&c->progress);
	for (size_t i = 0; i < c->b.info.weight_count; i++) {
		struct cli_weight b;
		struct pith_weight found;
		PITH_TRY(cli_weight_read(c->b.file, i, &b, err));
		pith_status status = pith_file_find(c->a.file, b.name, &found, err);
		if (status == PITH_OK)
			continue;
		if (status != PITH_E_NOT_FOUND)
			return status;
		json_array_append_new(c->only_b, json_string(b.name));
		if (!c->json)
			printf("%s: only in %s\n", b.name, c->b.path);
	}
	return PITH_OK;
}

static int print_end(const struct comparison *c)
{
	char a[33], b[33];
	bool same = memcmp(c->a.info.model_identity, c->b.info.model_identity, 16) == 0;
	cli_format_digest(c->a.info.model_identity, a);
	cli_format_digest(c->b.info.model_identity, b);
	if (c->json)
		return cli_print_json(json_pack(
		    "{s:s, s:s, s:b, s:s, s:s, s:I, s:I, s:O, s:O, s:O, s:O}", "a", c->a.path, "b",
		    c->b.path, "same_model", same, "identity_a", a, "identity_b", b, "equal",
		    (json_int_t)c->equal_count, "differing", (json_int_t)c->differing_count,
		    "architecture", c->architecture, "only_a", c->only_a, "only_b", c->only_b,
		    "weights", c->weights));
	printf("%zu weights equal, %zu differ, %zu only in the first, %zu only in the second\n",
	       c->equal_count, c->differing_count, json_array_size(c->only_a),
	       json_array_size(c->only_b));
	if (same)
		printf("the same model: identity %s\n", a);
	else
		printf("different models: identity %s | %s\n", a, b);
	return CLI_OK;
}

static int open_side(struct cli *cli, const char *path, struct side *side)
{
	struct pith_error err;
	side->path = path;
	if (pith_file_open(path, 0, &side->file, &err) != PITH_OK)
		return cli_fail(cli, path, &err);
	pith_file_info(side->file, &side->info);
	return CLI_OK;
}

static int diff_run(struct cli *cli, const void *options)
{
	const struct diff_options *o = options;
	struct comparison c = {.json = o->json, .verbose = o->verbose};
	struct pith_error err;
	int code = open_side(cli, cli->operand[0], &c.a);
	if (code == CLI_OK)
		code = open_side(cli, cli->operand[1], &c.b);
	if (code == CLI_OK) {
		c.architecture = json_array();
		c.only_a = json_array();
		c.only_b = json_array();
		c.weights = json_array();
		compare_architecture(&c);
		if (compare_weights(&c, &err) != PITH_OK)
			code = cli_fail(cli, NULL, &err);
		else
			code = print_end(&c);
		json_decref(c.architecture);
		json_decref(c.only_a);
		json_decref(c.only_b);
		json_decref(c.weights);
	}
	pith_file_close(c.a.file);
	pith_file_close(c.b.file);
	return code;
}

const struct cli_command cmd_diff = {
    .name = "diff",
    .summary = "compare two .pith files weight by weight",
    .synopsis = "A B [-v] [--json]",
    .description =
        "Prints what differs: architecture keys, weights that only one file has, shapes,\n"
        "kinds of terms, and for weights of one shape the largest and the relative\n"
        "difference (||A-B|| / ||A||) of the values they stand for.  Two files are the\n"
        "same model when their identities agree, whatever their names, lineage or\n"
        "packing.  Differences are no failure: the exit code is 0.\n"
        "\n"
        "JSON keys: a, b, same_model, identity_a, identity_b, equal, differing,\n"
        "architecture, only_a, only_b, weights.\n",
    .examples = "pith diff model-bf16.pith model-q4.pith\n"
                "pith diff --json a.pith b.pith | jq .same_model",
    .options = diff_table,
    .options_nbytes = sizeof(struct diff_options),
    .min_operands = 2,
    .max_operands = 2,
    .run = diff_run,
};
