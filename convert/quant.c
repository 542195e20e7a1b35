/*
 * What every method is run with: the weight of a job, the chain of a scheme, the measure of
 * what was packed, rows on threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- the weight ---- */

pith_status quant_no_memory(const struct quant_job *job, struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to compress %.100s",
	                 job->tensor->name);
}

pith_status quant_job_read(const struct quant_job *job, uint64_t first, size_t count, float *out,
                           struct pith_error *err)
{
	if (!job->weights)
		return source_read_f32(job->src, job->tensor, first, count, out, err);
	memcpy(out, job->weights + first, count * sizeof(*out));
	return PITH_OK;
}

pith_status quant_job_load(const struct quant_job *job, float **w, struct pith_error *err)
{
	size_t count;
	*w = NULL;
	if (!pith_mul_size(job->m, job->n, &count) || count > SIZE_MAX / 8)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%.100s is too large",
		                 job->tensor->name);
	float *values = malloc(count * sizeof(*values));
	if (!values)
		return quant_no_memory(job, err);
	pith_status status = quant_job_read(job, 0, count, values, err);
	if (status != PITH_OK) {
		free(values);
		return status;
	}
	*w = values;
	return PITH_OK;
}

/* ---- results ---- */

void quant_result_free(struct quant_result *r)
{
	for (size_t i = 0; i < r->term_count; i++)
		pith_packed_free(&r->term[i]);
	free(r->permute);
	free(r->shift);
	free(r->bias);
	memset(r, 0, sizeof(*r));
}

/* Packed terms bound for decoding, with room for one row. */
struct unpacker {
	const struct quant_result *result;
	struct pith_term term[PITH_MAX_TERMS];
	size_t m, n;
	float *row; /* [n] */
};

static pith_status unpacker_open(struct unpacker *u, const struct quant_result *r, size_t m,
                                 size_t n, struct pith_error *err)
{
	u->result = r;
	u->m = m;
	u->n = n;
	u->row = NULL;
	for (size_t i = 0; i < r->term_count; i++)
		PITH_TRY(pith_packed_bind(&r->term[i], m, n, &u->term[i], err));
	u->row = malloc(n * sizeof(*u->row));
	if (!u->row)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a row");
	return PITH_OK;
}

/* Row 'row', terms added in order.  permuted: columns stay as the terms have them. */
static void unpack_row(const struct unpacker *u, size_t row, bool permuted, float *out)
{
	const uint32_t *permute = permuted ? NULL : u->result->permute;
	memset(out, 0, u->n * sizeof(*out));
	for (size_t i = 0; i < u->result->term_count; i++) {
		u->term[i].kind->unpack_rows(&u->term[i], row, 1, u->row);
		for (size_t j = 0; j < u->n; j++)
			out[permute ? permute[j] : j] += u->row[j];
	}
}

pith_status quant_result_unpack(const struct quant_result *r, size_t m, size_t n, float *w,
                                struct pith_error *err)
{
	struct unpacker u;
	PITH_TRY(unpacker_open(&u, r, m, n, err));
	for (size_t row = 0; row < m; row++)
		unpack_row(&u, row, false, w + row * n);
	free(u.row);
	return PITH_OK;
}

/* ---- measure ---- */

/* Sum over rows of x H x^T; product: [rows, n] scratch. */
static double proxy_sum(const float *x, size_t rows, const struct calibration_inputs *in,
                        float *product)
{
	double sum = 0;
	size_t n = in->n;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)n, (int)n, 1.0f, x,
	            (int)n, in->hessian, (int)n, 0.0f, product, (int)n);
	for (size_t i = 0; i < rows * n; i++)
		sum += (double)product[i] * (double)x[i];
	return sum;
}

static void measure_rows(const struct unpacker *u, const struct calibration_inputs *in, size_t row,
                         size_t rows, float *w, float *error, float *product,
                         struct quant_result *out)
{
	size_t count = rows * u->n;
	for (size_t i = 0; i < rows; i++)
		unpack_row(u, row + i, false, error + i * u->n);
	for (size_t i = 0; i < count; i++) {
		double e = (double)w[i] - (double)error[i];
		error[i] = (float)e;
		out->error2 += e * e;
		out->norm2 += (double)w[i] * (double)w[i];
	}
	if (in) {
		out->proxy2 += proxy_sum(error, rows, in, product);
		out->proxy_norm2 += proxy_sum(w, rows, in, product);
	}
}

static pith_status measure(const struct quant_job *job, struct quant_result *out,
                           struct pith_error *err)
{
	struct unpacker u;
	PITH_TRY(unpacker_open(&u, out, job->m, job->n, err));
	size_t step = quant_piece_rows(job);
	float *w = malloc(3 * step * job->n * sizeof(*w));
	pith_status status = w ? PITH_OK : quant_no_memory(job, err);
	out->error2 = out->norm2 = out->proxy2 = out->proxy_norm2 = 0;
	for (size_t row = 0; row < job->m && status == PITH_OK; row += step) {
		size_t rows = job->m - row < step ? job->m - row : step;
		status = quant_job_read(job, (uint64_t)row * job->n, rows * job->n, w, err);
		if (status == PITH_OK)
			measure_rows(&u, job->inputs, row, rows, w, w + step * job->n, w + 2 * step * job->n,
			             out);
	}
	free(w);
	free(u.row);
	return status;
}

/* ---- inputs ---- */

uint32_t scheme_activation(const struct scheme_link *link)
{
	const struct scheme_key *k = link->method->keys;
	for (size_t i = 0; k && k[i].name; i++)
		if (strcmp(k[i].name, QUANT_ACT_KEY) == 0)
			return PITH_ACTIVATION_INT8_GROUP32 + scheme_u32(link, i);
	return PITH_ACTIVATION_INT8_GROUP32;
}

/* By the largest input of the calibration text: nothing of it is clipped. */
static float static_scale(const struct calibration_inputs *in)
{
	float most = 0;
	for (size_t j = 0; j < in->n; j++)
		most = in->absmax[j] > most ? in->absmax[j] : most;
	return most < 0x1p-90f ? 0x1p-97f : most / 127.0f;
}

static void choose_activation(const struct scheme_link *link, const struct quant_job *job,
                              struct quant_result *out)
{
	if (out->activation == PITH_ACTIVATION_FLOAT)
		return;
	out->activation = scheme_activation(link);
	if (out->activation == PITH_ACTIVATION_INT8_STATIC)
		out->activation_scale = static_scale(job->inputs);
}

static pith_status add_shift(const struct quant_job *job, struct quant_result *out,
                             struct pith_error *err)
{
	float *row = malloc(job->n * sizeof(*row));
	out->shift = malloc(job->n * sizeof(*out->shift));
	out->bias = malloc(job->m * sizeof(*out->bias));
	pith_status status = row && out->shift && out->bias ? PITH_OK : quant_no_memory(job, err);
	for (size_t j = 0; j < job->n && status == PITH_OK; j++)
		out->shift[j] = job->shift[out->permute ? out->permute[j] : j];
	for (size_t i = 0; i < job->m && status == PITH_OK; i++) {
		double sum = 0;
		status = quant_job_read(job, (uint64_t)i * job->n, job->n, row, err);
		for (size_t j = 0; j < job->n && status == PITH_OK; j++)
			sum += (double)row[j] * (double)job->shift[j];
		out->bias[i] = (float)sum;
	}
	free(row);
	return status;
}

/* ---- the chain ---- */

/* What out's terms leave of the weight, columns in their order. */
static pith_status remaining_error(const struct quant_job *job, const struct quant_result *out,
                                   float *error, struct pith_error *err)
{
	struct unpacker u;
	PITH_TRY(unpacker_open(&u, out, job->m, job->n, err));
	float *w = malloc(2 * job->n * sizeof(*w));
	pith_status status = w ? PITH_OK : quant_no_memory(job, err);
	for (size_t row = 0; row < job->m && status == PITH_OK; row++) {
		status = quant_job_read(job, (uint64_t)row * job->n, job->n, w, err);
		unpack_row(&u, row, true, w + job->n);
		for (size_t j = 0; j < job->n; j++)
			error[row * job->n + j] = w[out->permute ? out->permute[j] : j] - w[job->n + j];
	}
	free(w);
	free(u.row);
	return status;
}

static pith_status run_after(const struct scheme_link *link, const struct quant_job *job,
                             struct quant_result *out, struct pith_error *err)
{
	float *error = malloc(job->m * job->n * sizeof(*error));
	pith_status status = error ? PITH_OK : quant_no_memory(job, err);
	if (status == PITH_OK)
		status = remaining_error(job, out, error, err);
	if (status == PITH_OK)
		status = link->method->after(link, job, error, out, err);
	free(error);
	return status;
}

static pith_status run_links(const struct scheme_link *link, const struct quant_job *job,
                             struct quant_result *out, struct pith_error *err)
{
	bool stored = false;
	for (; link->method; link++) {
		enum quant_role role = link->method->role;
		if (role == QUANT_ORDER)
			return quant_ordered(link, job, run_links, out, err);
		if (role == QUANT_AFTER)
			PITH_TRY(run_after(link, job, out, err));
		else if (role != QUANT_FOLD && !stored)
			PITH_TRY(link->method->quantize(link, job, out, err));
		if (role == QUANT_PRUNE || role == QUANT_QUANTIZE)
			choose_activation(link, job, out);
		stored = stored || role != QUANT_FOLD;
	}
	return PITH_OK;
}

pith_status scheme_run(const struct scheme *s, const struct quant_job *job, struct quant_result *out,
                       struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	pith_status status = run_links(s->link, job, out, err);
	if (status == PITH_OK && job->shift)
		status = add_shift(job, out, err);
	if (status == PITH_OK && (job->inputs || scheme_quantizes(s)))
		status = measure(job, out, err);
	if (status != PITH_OK)
		quant_result_free(out);
	return status;
}

/* ---- folds ---- */

static bool fold_factors_usable(const float *s, size_t n)
{
	for (size_t c = 0; c < n; c++)
		if (!isfinite(s[c]) || !(s[c] > 0))
			return false;
	return true;
}

bool fold_share(const struct fold_group *g, float *s)
{
	if (g->norm || !g->producer)
		return true;
	double *sum = calloc(2 * g->producer_m, sizeof(*sum));
	if (!sum)
		return false;
	double *count = sum + g->producer_m;
	for (size_t c = 0; c < g->n; c++) {
		sum[g->producer_row[c]] += log((double)s[c]);
		count[g->producer_row[c]] += 1;
	}
	for (size_t c = 0; c < g->n; c++)
		s[c] = (float)exp(sum[g->producer_row[c]] / count[g->producer_row[c]]);
	free(sum);
	return true;
}

/* Divide what makes the input by shared factors; rows that make nothing stay. */
static bool divide_producer(const struct fold_group *g, const float *s)
{
	float *factor = malloc(g->producer_m * sizeof(*factor));
	if (!factor)
		return false;
	for (size_t r = 0; r < g->producer_m; r++)
		factor[r] = 1.0f;
	for (size_t c = 0; c < g->n; c++)
		factor[g->producer_row[c]] = s[c];
	for (size_t r = 0; r < g->producer_m; r++)
		for (size_t j = 0; j < g->producer_n; j++)
			g->producer[r * g->producer_n + j] /= factor[r];
	free(factor);
	return true;
}

bool fold_apply(const struct fold_group *g, float *s)
{
	if ((!g->norm && !g->producer) || !fold_factors_usable(s, g->n))
		return false;
	if (!fold_share(g, s) || (!g->norm && !divide_producer(g, s)))
		return false;
	for (size_t c = 0; c < g->n; c++) {
		g->shift[c] /= s[c];
		if (g->norm)
			g->norm[c] /= s[c];
	}
	for (size_t i = 0; i < g->linear_count; i++)
		for (size_t r = 0; r < g->linear[i].m; r++)
			for (size_t c = 0; c < g->n; c++)
				g->linear[i].w[r * g->n + c] *= s[c];
	return true;
}

/* ---- rows on threads ---- */

#define MAX_THREADS 64u

struct row_share {
	size_t begin, end;
	void (*row)(void *ctx, size_t i);
	void *ctx;
};

static void *run_share(void *arg)
{
	const struct row_share *s = arg;
	for (size_t i = s->begin; i < s->end; i++)
		s->row(s->ctx, i);
	return NULL;
}

void quant_rows(unsigned threads, size_t count, void (*row)(void *ctx, size_t i), void *ctx)
{
	pthread_t id[MAX_THREADS];
	struct row_share share[MAX_THREADS];
	size_t width = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
	width = width < count ? width : count > 0 ? count : 1;
	for (size_t i = 0; i < width; i++)
		share[i] = (struct row_share){count * i / width, count * (i + 1) / width, row, ctx};
	bool running[MAX_THREADS] = {false};
	/* a thread that cannot be had costs time only: its share is done here */
	for (size_t i = 1; i < width; i++)
		running[i] = pthread_create(&id[i], NULL, run_share, &share[i]) == 0;
	for (size_t i = 0; i < width; i++)
		if (!running[i])
			run_share(&share[i]);
	for (size_t i = 1; i < width; i++)
		if (running[i])
			pthread_join(id[i], NULL);
}
