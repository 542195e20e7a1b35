/*
 * SqueezeLLM (arXiv 2306.07629): a table of 2^bits values for every row from weighted k-means, and the values
 * that matter most kept in a sparse term.
 *
 * The paper weighs with the diagonal of the Fisher information, from gradients.  Here the Hessian's diagonal of the
 * layer's inputs stands in for it: it tells columns apart, not rows, so "sensitive" is diagonal * w^2, what leaving the
 * value out would cost.  The k-means is exact (kmeans_line.h), not sampled.
 * Spec: spec/terms/codebook.md, spec/terms/sparse.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kmeans_line.h"
#include "quant_codebook.h"
#include "term_codebook.h"

#include <math.h>
#include <stdlib.h>

enum { SQUEEZE_BITS, SQUEEZE_SENSITIVE, SQUEEZE_OUTLIERS };

static const struct scheme_key squeeze_keys[] = {
    [SQUEEZE_BITS] = {"bits", SCHEME_INTEGER, 4, 2, 8, NULL},
    [SQUEEZE_SENSITIVE] = {"sensitive", SCHEME_NUMBER, 0.0005, 0, 0.1, NULL},
    [SQUEEZE_OUTLIERS] = {"outliers", SCHEME_NUMBER, 0.0045, 0, 0.1, NULL},
    {0},
};

static size_t share_of(double share, uint64_t m, uint64_t n)
{
	return (size_t)floor(share * (double)m * (double)n);
}

struct squeeze_work {
	size_t m, n;
	uint32_t bits;
	float *w;           /* [m, n] */
	float *score;       /* [m, n] scratch for selections */
	float *sensitivity; /* [n] */
	uint8_t *kept;      /* [m, n] 1: goes to the sparse term */
	uint8_t *codes;     /* [m, n] */
	float *tables;      /* [m, 2^bits] */
	unsigned char *failed; /* [m] no memory */
	struct pith_sparse_source_entry *entries;
	size_t entry_count;
};

/* ---- what is kept ---- */

/* The bits of the value that 'count' scores (>= 0) are above or equal to; *above: how many are above. */
static uint32_t score_threshold(const float *score, size_t total, size_t count, uint32_t *histogram,
                                size_t *above)
{
	uint32_t high = 0, low = 0;
	*above = 0;
	for (unsigned pass = 0; pass < 2; pass++) {
		memset(histogram, 0, 65536 * sizeof(*histogram));
		for (size_t i = 0; i < total; i++) {
			uint32_t u = bits_of_f32(score[i]);
			if (pass == 0)
				histogram[u >> 16]++;
			else if (u >> 16 == high)
				histogram[u & 0xffff]++;
		}
		uint32_t at = 65535;
		while (at > 0 && *above + histogram[at] < count)
			*above += histogram[at--];
		if (pass == 0)
			high = at;
		else
			low = at;
	}
	return high << 16 | low;
}

/* Mark the 'count' largest scores that are not kept yet (those have score 0); ties: the first ones. */
static bool keep_largest(struct squeeze_work *k, size_t count)
{
	size_t total = k->m * k->n, above;
	if (count == 0)
		return true;
	uint32_t *histogram = malloc(65536 * sizeof(*histogram));
	if (!histogram)
		return false;
	uint32_t threshold = score_threshold(k->score, total, count, histogram, &above);
	size_t equal = count - above;
	for (size_t i = 0; i < total; i++) {
		uint32_t u = bits_of_f32(k->score[i]);
		bool take = u > threshold || (u == threshold && equal > 0);
		equal -= u == threshold && equal > 0;
		if (take && u != 0)
			k->kept[i] = 1;
	}
	free(histogram);
	return true;
}

static bool choose_kept(struct squeeze_work *k, size_t sensitive, size_t outliers)
{
	for (size_t i = 0; i < k->m * k->n; i++)
		k->score[i] = k->sensitivity[i % k->n] * (k->w[i] * k->w[i]);
	if (!keep_largest(k, sensitive))
		return false;
	for (size_t i = 0; i < k->m * k->n; i++)
		k->score[i] = k->kept[i] ? 0.0f : fabsf(k->w[i]);
	return keep_largest(k, outliers);
}

/* ---- rows ---- */

/* The entry nearest to v among ascending ones. */
static unsigned nearest_entry(const float *table, unsigned count, float v)
{
	unsigned best = 0;
	for (unsigned e = 1; e < count; e++)
		if (fabsf(v - table[e]) < fabsf(v - table[best]))
			best = e;
	return best;
}

static void quantize_row(void *ctx, size_t i)
{
	struct squeeze_work *k = ctx;
	struct kmeans_line line;
	size_t count = 0;
	const unsigned entries = 1u << k->bits;
	float *table = k->tables + i * entries;
	float *values = malloc(2 * k->n * sizeof(*values));
	k->failed[i] = 1;
	if (values && kmeans_line_new(&line, k->n, entries)) {
		for (size_t j = 0; j < k->n; j++) {
			if (k->kept[i * k->n + j])
				continue;
			values[count] = k->w[i * k->n + j];
			values[k->n + count++] = k->sensitivity[j];
		}
		kmeans_line_run(&line, values, values + k->n, count, table);
		for (size_t j = 0; j < k->n; j++)
			k->codes[i * k->n + j] = (uint8_t)nearest_entry(table, entries, k->w[i * k->n + j]);
		kmeans_line_free(&line);
		k->failed[i] = 0;
	}
	free(values);
}

/* ---- terms ---- */

/* What the table leaves of the kept values: the dense part still adds their entry. */
static pith_status list_kept(struct squeeze_work *k, const struct quant_job *job,
                             struct pith_error *err)
{
	for (size_t i = 0; i < k->m * k->n; i++) {
		if (!k->kept[i])
			continue;
		size_t row = i / k->n;
		float rest = k->w[i] - k->tables[(row << k->bits) + k->codes[i]];
		uint16_t half = f16_of_f32(rest);
		if ((half & 0x7c00u) == 0x7c00u)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
			                 "%.80s: the value of row %zu, column %zu is too large for an "
			                 "f16; keep it dense with --rule", job->tensor->name, row, i % k->n);
		k->entries[k->entry_count++] = (struct pith_sparse_source_entry){
		    .row = (uint32_t)row, .column = (uint32_t)(i % k->n), .value = half};
	}
	return PITH_OK;
}

static pith_status pack(struct squeeze_work *k, const struct quant_job *job,
                        struct quant_result *out, struct pith_error *err)
{
	struct pith_codebook_source s = {.bits = k->bits, .scale_mode = PITH_CODEBOOK_SCALE_NONE,
	                                 .real = true, .per_row = true, .codes = k->codes,
	                                 .entries = k->tables};
	PITH_TRY(pith_codebook_pack(&s, k->m, k->n, &out->term[out->term_count], err));
	out->term_count++;
	out->activation = PITH_ACTIVATION_FLOAT;
	PITH_TRY(list_kept(k, job, err));
	if (k->entry_count == 0)
		return PITH_OK;
	PITH_TRY(pith_sparse_pack(k->entries, k->entry_count, k->m, k->n, &out->term[out->term_count],
	                          err));
	out->term_count++;
	return PITH_OK;
}

static pith_status solve(struct squeeze_work *k, const struct scheme_link *link,
                         const struct quant_job *job, struct quant_result *out,
                         struct pith_error *err)
{
	size_t total = k->m * k->n;
	size_t sensitive = share_of(link->value[SQUEEZE_SENSITIVE], k->m, k->n);
	size_t outliers = share_of(link->value[SQUEEZE_OUTLIERS], k->m, k->n);
	PITH_TRY(quant_job_load(job, &k->w, err));
	k->score = malloc(total * sizeof(*k->score));
	k->sensitivity = malloc(k->n * sizeof(*k->sensitivity));
	k->kept = calloc(total, 1);
	k->codes = malloc(total);
	k->tables = malloc((k->m << k->bits) * sizeof(*k->tables));
	k->failed = malloc(k->m);
	k->entries = malloc((sensitive + outliers + 1) * sizeof(*k->entries));
	if (!k->score || !k->sensitivity || !k->kept || !k->codes || !k->tables || !k->failed ||
	    !k->entries)
		return quant_no_memory(job, err);
	for (size_t j = 0; j < k->n; j++)
		k->sensitivity[j] = job->inputs->hessian[j * k->n + j];
	if (!choose_kept(k, sensitive, outliers))
		return quant_no_memory(job, err);
	quant_rows(job->threads, k->m, quantize_row, k);
	for (size_t i = 0; i < k->m; i++)
		if (k->failed[i])
			return quant_no_memory(job, err);
	return pack(k, job, out, err);
}

static pith_status quantize_squeezellm(const struct scheme_link *link, const struct quant_job *job,
                                       struct quant_result *out, struct pith_error *err)
{
	struct squeeze_work k = {.m = job->m, .n = job->n, .bits = scheme_u32(link, SQUEEZE_BITS)};
	pith_status status = solve(&k, link, job, out, err);
	free(k.w);
	free(k.score);
	free(k.sensitivity);
	free(k.kept);
	free(k.codes);
	free(k.tables);
	free(k.failed);
	free(k.entries);
	return status;
}

static bool squeeze_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                           uint32_t *plane_count, uint32_t *term_count)
{
	struct pith_codebook_sizes size;
	size_t kept = share_of(link->value[SQUEEZE_SENSITIVE], m, n) +
	              share_of(link->value[SQUEEZE_OUTLIERS], m, n);
	if (!pith_codebook_sizes(scheme_u32(link, SQUEEZE_BITS), 0, PITH_CODEBOOK_SCALE_NONE, true, true,
	                         m, n, &size))
		return false;
	*nbytes = quant_codebook_padded(&size);
	*plane_count = 2;
	*term_count = 1;
	if (kept == 0)
		return true;
	uint64_t lists = (m + PITH_TILE_ROWS - 1) / PITH_TILE_ROWS *
	                 ((n + PITH_SPARSE_BLOCK_COLUMNS - 1) / PITH_SPARSE_BLOCK_COLUMNS);
	*nbytes += pith_round_up(4 * ((size_t)lists + 1), PITH_ALIGN) +
	           2 * pith_round_up(2 * kept, PITH_ALIGN);
	*plane_count += 3;
	*term_count = 2;
	return true;
}

const struct quant_method quant_method_squeezellm = {
    .name = "squeezellm",
    .help = "a table per row by exact k-means, and sparse values (needs --calib);\n"
            "bits=2..8 (4), sensitive=SHARE (0.05%), outliers=SHARE (0.45%).  Weighed with the\n"
            "Hessian's diagonal, which stands in for the paper's Fisher information",
    .role = QUANT_QUANTIZE,
    .needs_inputs = true,
    .keys = squeeze_keys,
    .nbytes = squeeze_nbytes,
    .quantize = quantize_squeezellm,
};
