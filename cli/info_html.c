/*
 * The page of pith info --html.  Matrices stand in a grid, a row for each block and a
 * column for each role in it ("self_attn.q_proj"): once coloured by bits, once by error.  A matrix
 * outside the blocks has a row for itself.  All text out of the file is escaped.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "info_html.h"

#include "cli_weight.h"
#include "format.h"
#include "output_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NO_BLOCK (-1)

struct entry {
	struct cli_weight w;
	char role[256];   /* name without the prefix up to the block's number */
	long block;       /* or NO_BLOCK */
	size_t position;  /* in the lineage, which is in the model's order */
	size_t column;    /* of the grid */
	double error;     /* relative output error; NAN: not recorded */
	char recipe[192];
};

#define MAX_COLUMNS 64u

struct page {
	struct pith_output *out;
	pith_status status; /* the first failure */
	struct pith_error *err;
	struct entry *entry;
	size_t count;
	const char *column[MAX_COLUMNS];
	size_t column_count;
};

/* ---- output ---- */

static void put(struct page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* At most 2047 bytes at once. */
static void put(struct page *p, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (p->status == PITH_OK && n > 0)
		p->status = pith_output_write(p->out, text,
		                              (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1,
		                              p->err);
}

static void put_escaped(struct page *p, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'' || c < 32)
			put(p, "&#%u;", c < 32 ? 0xfffdu : c);
		else
			put(p, "%c", c);
	}
}

/* ---- what is drawn ---- */

/* "model.layers.12.mlp.up_proj.weight": block 12, role "mlp.up_proj". */
static void split_name(struct entry *e)
{
	const char *name = e->w.name, *role = name;
	e->block = NO_BLOCK;
	for (const char *s = name; e->block == NO_BLOCK && (s = strchr(s, '.')) != NULL; s++) {
		char *end;
		long n = s[1] >= '0' && s[1] <= '9' ? strtol(s + 1, &end, 10) : NO_BLOCK;
		if (n != NO_BLOCK && n < 1000000 && *end == '.') {
			e->block = n;
			role = end + 1;
		}
	}
	snprintf(e->role, sizeof(e->role), "%s", role);
	size_t n = strlen(e->role), tail = strlen(".weight");
	if (n > tail && strcmp(e->role + n - tail, ".weight") == 0)
		e->role[n - tail] = '\0';
}

static pith_status read_errors(const struct pith_file *file, struct entry *by_index, size_t count,
                               struct pith_error *err)
{
	for (size_t i = 0; i < pith_file_lineage_count(file); i++) {
		struct pith_lineage line;
		PITH_TRY(pith_file_lineage_at(file, i, &line, err));
		if (line.kind != PITH_LINEAGE_WEIGHT_ERROR || line.weight == 0 || line.weight > count)
			continue;
		struct entry *e = &by_index[line.weight - 1];
		e->position = i;
		e->error = line.number[0];
		snprintf(e->recipe, sizeof(e->recipe), "%.*s", (int)line.value_nbytes, line.value);
	}
	return PITH_OK;
}

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	if (x->position != y->position)
		return x->position < y->position ? -1 : 1;
	return strcmp(x->w.name, y->w.name);
}

static pith_status read_entries(struct page *p, const struct pith_file *file)
{
	struct pith_file_info info;
	pith_file_info(file, &info);
	p->count = (size_t)info.weight_count;
	p->entry = calloc(p->count + 1, sizeof(*p->entry));
	if (p->entry == NULL)
		return pith_fail(p->err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for %zu weights", p->count);
	for (size_t i = 0; i < p->count; i++) {
		struct entry *e = &p->entry[i];
		PITH_TRY(cli_weight_read(file, i, &e->w, p->err));
		split_name(e);
		e->position = SIZE_MAX;
		e->error = NAN;
	}
	PITH_TRY(read_errors(file, p->entry, p->count, p->err));
	qsort(p->entry, p->count, sizeof(*p->entry), compare_entries);
	return PITH_OK;
}

static bool is_matrix(const struct entry *e)
{
	return e->w.weight.rank == 2;
}

/* Give every matrix in a block its column; those beyond MAX_COLUMNS are only in the list. */
static void find_columns(struct page *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct entry *e = &p->entry[i];
		e->column = MAX_COLUMNS;
		if (!is_matrix(e) || e->block == NO_BLOCK)
			continue;
		size_t c = 0;
		while (c < p->column_count && strcmp(p->column[c], e->role) != 0)
			c++;
		if (c < MAX_COLUMNS && c == p->column_count)
			p->column[p->column_count++] = e->role;
		e->column = c;
	}
}

/* ---- the grids ---- */

struct scale {
	const char *heading, *explanation;
	double (*value)(const struct entry *e);
	double low, high; /* mapped to the palest and the darkest colour */
	bool logarithmic;
	unsigned dark[3]; /* red, green, blue of the darkest */
};

static double bits_of(const struct entry *e)
{
	return cli_bits_per_weight(e->w.nbytes, e->w.elements);
}

static double error_of(const struct entry *e)
{
	return e->error;
}

static const struct scale scales[] = {
    {"Bits per weight", "Planes as stored: codes, scales, zero-points, positions.", bits_of, 1, 9,
     false, {23, 78, 134}},
    {"Relative error", "As measured by convert; <code>pith log</code> says against what.",
     error_of, 1e-3, 1, true, {155, 52, 18}},
};

#define CELL_W 92
#define CELL_H 22
#define LABEL_W 170
#define HEAD_H 26

/* 0 palest .. 1 darkest. */
static double depth_of(const struct scale *s, double value)
{
	double x = s->logarithmic
	               ? log(fmax(value, s->low) / s->low) / log(s->high / s->low)
	               : (value - s->low) / (s->high - s->low);
	return fmin(fmax(x, 0), 1);
}

static void put_cell(struct page *p, const struct scale *s, const struct entry *e, size_t x,
                     size_t y, size_t width)
{
	double value = s->value(e), depth = isfinite(value) ? 0.08 + 0.92 * depth_of(s, value) : 0;
	unsigned rgb[3];
	for (size_t c = 0; c < 3; c++)
		rgb[c] = (unsigned)(255 - depth * (255 - s->dark[c]) + 0.5);
	put(p, "<g><title>");
	put_escaped(p, e->w.name);
	put(p, "\n%s, ", e->w.shape);
	put_escaped(p, e->w.terms);
	put(p, "\n%.3f bits per weight", bits_of(e));
	if (isfinite(e->error))
		put(p, ", relative error %.3e", e->error);
	put(p, "</title><rect x='%zu' y='%zu' width='%zu' height='%d' rx='3' fill='rgb(%u,%u,%u)'/>",
	    x, y, width - 3, CELL_H - 3, rgb[0], rgb[1], rgb[2]);
	put(p, "<text x='%zu' y='%zu' text-anchor='middle' fill='%s'>", x + width / 2, y + 14,
	    depth > 0.55 ? "#fff" : "#111");
	if (!isfinite(value))
		put(p, "–");
	else if (s->logarithmic && value == 0)
		put(p, "0");
	else if (s->logarithmic)
		put(p, "%.1e", value);
	else
		put(p, "%.2f", value);
	put(p, "</text></g>\n");
}

/* The rows of a grid: a matrix outside the blocks, or all of one block. */
static size_t count_rows(const struct page *p)
{
	size_t rows = 0;
	long last = NO_BLOCK;
	for (size_t i = 0; i < p->count; i++) {
		const struct entry *e = &p->entry[i];
		if (!is_matrix(e) || (e->block != NO_BLOCK && e->block == last))
			continue;
		last = e->block;
		rows++;
	}
	return rows;
}

static void put_rows(struct page *p, const struct scale *s)
{
	size_t row = 0, columns = p->column_count > 0 ? p->column_count : 1;
	long last = NO_BLOCK;
	for (size_t i = 0; i < p->count; i++) {
		const struct entry *e = &p->entry[i];
		if (!is_matrix(e))
			continue;
		bool fresh = e->block == NO_BLOCK || e->block != last;
		row += fresh;
		last = e->block;
		size_t y = HEAD_H + (row - 1) * CELL_H;
		if (fresh) {
			put(p, "<text x='0' y='%zu'>", y + 14);
			if (e->block == NO_BLOCK)
				put_escaped(p, e->role);
			else
				put(p, "block %ld", e->block);
			put(p, "</text>");
		}
		if (e->block == NO_BLOCK)
			put_cell(p, s, e, LABEL_W, y, columns * CELL_W);
		else if (e->column < MAX_COLUMNS)
			put_cell(p, s, e, LABEL_W + e->column * CELL_W, y, CELL_W);
	}
}

/* The last part of a role: "self_attn.q_proj" -> "q_proj". */
static const char *short_role(const char *role)
{
	const char *dot = strrchr(role, '.');
	return dot != NULL ? dot + 1 : role;
}

static void put_grid(struct page *p, const struct scale *s)
{
	size_t columns = p->column_count > 0 ? p->column_count : 1;
	size_t width = LABEL_W + columns * CELL_W, height = HEAD_H + count_rows(p) * CELL_H;
	put(p, "<h2>%s</h2><p>%s</p>\n<div class='wide'><svg width='%zu' height='%zu' role='img'>\n",
	    s->heading, s->explanation, width, height);
	for (size_t c = 0; c < p->column_count; c++) {
		put(p, "<text x='%zu' y='16' text-anchor='middle'>",
		    LABEL_W + c * CELL_W + CELL_W / 2);
		put_escaped(p, short_role(p->column[c]));
		put(p, "</text>");
	}
	put_rows(p, s);
	put(p, "</svg></div>\n");
}

/* ---- bytes of every block ---- */

static void put_bytes(struct page *p)
{
	uint64_t most = 1, sum = 0;
	for (size_t i = 0; i < p->count; i++) {
		bool same = i > 0 && p->entry[i].block == p->entry[i - 1].block;
		sum = (same ? sum : 0) + p->entry[i].w.nbytes;
		most = sum > most ? sum : most;
	}
	put(p, "<h2>Bytes</h2>\n<table class='bars'>\n");
	for (size_t i = 0; i < p->count; i++) {
		char size[16];
		sum += p->entry[i].w.nbytes;
		if (i == 0 || p->entry[i].block != p->entry[i - 1].block)
			sum = p->entry[i].w.nbytes;
		if (i + 1 < p->count && p->entry[i + 1].block == p->entry[i].block)
			continue;
		if (p->entry[i].block == NO_BLOCK)
			put(p, "<tr><td>outside the blocks</td>");
		else
			put(p, "<tr><td>block %ld</td>", p->entry[i].block);
		put(p, "<td><div style='width:%.1f%%'></div></td><td>%s</td></tr>\n",
		    100.0 * (double)sum / (double)most, cli_format_size(sum, size));
	}
	put(p, "</table>\n");
}

/* ---- the page ---- */

static const char style[] =
    "<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;"
    "color:#1c1c1c;background:#fff}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .2rem}p{margin:.2rem 0 .6rem}\n"
    "svg text{font:12px system-ui,sans-serif;fill:currentColor}svg g text{fill:inherit}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}\n"
    "td,th{padding:.15rem .8rem .15rem 0;text-align:left;white-space:nowrap}\n"
    "td.n,th.n{text-align:right}.bars{width:100%}.bars td:nth-child(2){width:70%}\n"
    ".bars div{background:#4a7fb5;height:14px;border-radius:3px;min-width:1px}\n"
    "code{font:13px ui-monospace,monospace}\n"
    "@media(prefers-color-scheme:dark){body{background:#16181b;color:#ddd}}\n"
    "</style>\n";

static void put_row_text(struct page *p, const char *key, const char *value)
{
	put(p, "<tr><td>");
	put_escaped(p, key);
	put(p, "</td><td><code>");
	put_escaped(p, value);
	put(p, "</code></td></tr>\n");
}

static void put_summary(struct page *p, const struct pith_file *file, const char *title)
{
	struct pith_file_info info;
	char text[256], size[16];
	pith_file_info(file, &info);
	put(p, "<!doctype html><html lang='en'><meta charset='utf-8'>\n"
	       "<meta name='viewport' content='width=device-width'><title>");
	put_escaped(p, title);
	put(p, "</title>\n");
	put(p, "%s<h1>", style);
	put_escaped(p, title);
	put(p, "</h1>\n<table>\n");
	snprintf(text, sizeof(text), "%s, %.3f bits per weight as stored",
	         cli_format_size(info.file_nbytes, size), cli_stored_bits(file));
	put_row_text(p, "size", text);
	put_row_text(p, "identity", cli_format_digest(info.model_identity, text));
	for (size_t i = 0; i < pith_file_arch_count(file); i++) {
		struct pith_arch_value v;
		if (pith_file_arch_at(file, i, &v, NULL) != PITH_OK)
			continue;
		cli_arch_text(&v, text, sizeof(text));
		put_row_text(p, v.key, text);
	}
	for (size_t i = 0; i < pith_file_lineage_count(file); i++) {
		struct pith_lineage line;
		if (pith_file_lineage_at(file, i, &line, NULL) != PITH_OK ||
		    line.kind != PITH_LINEAGE_RECIPE)
			continue;
		snprintf(text, sizeof(text), "%.*s", (int)line.value_nbytes, line.value);
		put_row_text(p, "recipe", text);
	}
	put(p, "</table>\n");
}

static void put_list(struct page *p)
{
	put(p, "<h2>Weights</h2><div class='wide'><table><tr><th>name<th>shape<th class='n'>bytes"
	       "<th class='n'>bits<th class='n'>error<th>terms<th>recipe</tr>\n");
	for (size_t i = 0; i < p->count; i++) {
		const struct entry *e = &p->entry[i];
		put(p, "<tr><td>");
		put_escaped(p, e->w.name);
		put(p, "</td><td>%s</td><td class='n'>%" PRIu64 "</td><td class='n'>%.3f</td>"
		       "<td class='n'>", e->w.shape, e->w.nbytes, bits_of(e));
		if (isfinite(e->error))
			put(p, "%.2e", e->error);
		put(p, "</td><td>");
		put_escaped(p, e->w.terms);
		put(p, "</td><td>");
		put_escaped(p, e->recipe);
		put(p, "</td></tr>\n");
	}
	put(p, "</table></div>\n");
}

static pith_status write_page(struct page *p, const struct pith_file *file, const char *title)
{
	PITH_TRY(read_entries(p, file));
	find_columns(p);
	put_summary(p, file, title);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(scales); i++)
		put_grid(p, &scales[i]);
	put_bytes(p);
	put_list(p);
	return p->status;
}

pith_status info_html_write(const struct pith_file *file, const char *path, const char *out,
                            struct pith_error *err)
{
	struct page p = {.err = err};
	PITH_TRY(pith_output_new(out, &p.out, err));
	const char *slash = strrchr(path, '/');
	pith_status status = write_page(&p, file, slash != NULL ? slash + 1 : path);
	free(p.entry);
	if (status == PITH_OK)
		return pith_output_commit(p.out, err);
	pith_output_abort(p.out);
	return status;
}
