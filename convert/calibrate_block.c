/*
 * Spec of the function: spec/models/llama.md.  Of the order of additions nothing is
 * promised here but that it is fixed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_block.h"

#include "quant.h"

#include <cblas.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define TASK_ROWS 128u
#define TASK_QUERIES 64u

static size_t task_count(size_t rows) { return (rows + TASK_ROWS - 1) / TASK_ROWS; }

static size_t task_rows(size_t rows, size_t task)
{
	size_t left = rows - task * TASK_ROWS;
	return left < TASK_ROWS ? left : TASK_ROWS;
}

/* ---- norm ---- */

struct norm_work {
	const float *x, *w;
	double eps;
	size_t k, n;
	float *y;
};

static void norm_rows(void *ctx, size_t task)
{
	const struct norm_work *v = ctx;
	for (size_t i = 0; i < task_rows(v->k, task); i++) {
		size_t at = (task * TASK_ROWS + i) * v->n;
		double sum = 0;
		for (size_t j = 0; j < v->n; j++)
			sum += (double)v->x[at + j] * (double)v->x[at + j];
		float r = (float)(1.0 / sqrt(sum / (double)v->n + v->eps));
		for (size_t j = 0; j < v->n; j++)
			v->y[at + j] = v->x[at + j] * r * v->w[j];
	}
}

void calibration_norm(const float *x, const float *w, double eps, size_t k, size_t n, float *y,
                      unsigned threads)
{
	struct norm_work v = {x, w, eps, k, n, y};
	quant_rows(threads, task_count(k), norm_rows, &v);
}

/* ---- linear ---- */

struct linear_work {
	const float *x, *w;
	size_t k, m, n;
	float beta;
	float *y;
};

static void linear_rows(void *ctx, size_t task)
{
	const struct linear_work *v = ctx;
	size_t first = task * TASK_ROWS;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)task_rows(v->k, task), (int)v->m,
	            (int)v->n, 1.0f, v->x + first * v->n, (int)v->n, v->w, (int)v->n, v->beta,
	            v->y + first * v->m, (int)v->m);
}

void calibration_linear(const float *x, const float *w, size_t k, size_t m, size_t n, bool add,
                        float *y, unsigned threads)
{
	struct linear_work v = {x, w, k, m, n, add ? 1.0f : 0.0f, y};
	quant_rows(threads, task_count(k), linear_rows, &v);
}

/* ---- attention ---- */

struct attention_work {
	const struct calibration_shape *s;
	size_t samples, length;
	float *q, *key;
	const float *value;
	float *out;
	const float *cosine, *sine; /* [length, head_dim / 2] */
	atomic_bool no_memory;
};

/* Rotate pairs (j, j + head_dim / 2) of one head of one sample; stride: floats from token to token. */
static void rotate(const struct attention_work *v, float *x, size_t stride)
{
	size_t half = v->s->head_dim / 2;
	for (size_t t = 0; t < v->length; t++, x += stride) {
		for (size_t j = 0; j < half; j++) {
			float c = v->cosine[t * half + j], s = v->sine[t * half + j];
			float a = x[j], b = x[j + half];
			x[j] = a * c - b * s;
			x[j + half] = b * c + a * s;
		}
	}
}

/* scores: [rows, keys] of queries first .. first+rows-1, to probabilities. */
static void softmax_rows(const struct attention_work *v, float *scores, size_t first, size_t rows,
                         size_t keys)
{
	for (size_t i = 0; i < rows; i++) {
		float *row = scores + i * keys;
		size_t end = first + i + 1;
		size_t begin = v->s->window > 0 && end > v->s->window ? end - v->s->window : 0;
		float most = row[begin];
		double sum = 0;
		for (size_t j = begin; j < end; j++)
			most = row[j] > most ? row[j] : most;
		for (size_t j = 0; j < keys; j++) {
			row[j] = j >= begin && j < end ? expf(row[j] - most) : 0.0f;
			sum += (double)row[j];
		}
		float inverse = (float)(1.0 / sum);
		for (size_t j = begin; j < end; j++)
			row[j] *= inverse;
	}
}

static void attend_head(const struct attention_work *v, const float *q, const float *key,
                        const float *value, float *out, float *scores)
{
	size_t d = v->s->head_dim;
	int ldq = (int)(v->s->head_count * d), ldk = (int)(v->s->kv_head_count * d);
	float scale = (float)(1.0 / sqrt((double)d));
	for (size_t first = 0; first < v->length; first += TASK_QUERIES) {
		size_t rows = v->length - first < TASK_QUERIES ? v->length - first : TASK_QUERIES;
		size_t keys = first + rows;
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)keys, (int)d, scale,
		            q + first * (size_t)ldq, ldq, key, ldk, 0.0f, scores, (int)keys);
		softmax_rows(v, scores, first, rows, keys);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)keys, 1.0f,
		            scores, (int)keys, value, ldk, 0.0f, out + first * (size_t)ldq, ldq);
	}
}

/* One kv head of one sample, with the heads that share it. */
static void attend_task(void *ctx, size_t task)
{
	struct attention_work *v = ctx;
	const struct calibration_shape *s = v->s;
	size_t sample = task / s->kv_head_count, kv = task % s->kv_head_count;
	size_t share = s->head_count / s->kv_head_count, d = s->head_dim;
	size_t ldq = s->head_count * d, ldk = s->kv_head_count * d;
	float *q = v->q + sample * v->length * ldq, *key = v->key + sample * v->length * ldk + kv * d;
	float *scores = malloc(TASK_QUERIES * v->length * sizeof(*scores));
	if (!scores) {
		atomic_store(&v->no_memory, true);
		return;
	}
	rotate(v, key, ldk);
	for (size_t h = kv * share; h < (kv + 1) * share; h++) {
		rotate(v, q + h * d, ldq);
		attend_head(v, q + h * d, key, v->value + sample * v->length * ldk + kv * d,
		            v->out + sample * v->length * ldq + h * d, scores);
	}
	free(scores);
}

pith_status calibration_attention(const struct calibration_shape *s, size_t samples, size_t length,
                                  float *q, float *key, const float *value, float *out,
                                  unsigned threads, struct pith_error *err)
{
	size_t half = s->head_dim / 2;
	float *angle = malloc(2 * length * half * sizeof(*angle));
	if (!angle)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for rotations");
	struct attention_work v = {s, samples, length, q, key, value, out, angle,
	                           angle + length * half, false};
	for (size_t t = 0; t < length; t++) {
		for (size_t j = 0; j < half; j++) {
			double a = (double)t * pow(s->rope_ratio, (double)j);
			angle[t * half + j] = (float)cos(a);
			angle[(length + t) * half + j] = (float)sin(a);
		}
	}
	quant_rows(threads, samples * s->kv_head_count, attend_task, &v);
	free(angle);
	if (atomic_load(&v.no_memory))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for attention scores");
	return PITH_OK;
}

/* ---- gate ---- */

#define GATE_PIECE 16384u

struct gate_work {
	float *gate;
	const float *up;
	size_t count;
};

static void gate_piece(void *ctx, size_t task)
{
	const struct gate_work *v = ctx;
	size_t begin = task * GATE_PIECE;
	size_t end = v->count - begin < GATE_PIECE ? v->count : begin + GATE_PIECE;
	for (size_t i = begin; i < end; i++)
		v->gate[i] = v->gate[i] / (1.0f + expf(-v->gate[i])) * v->up[i];
}

void calibration_gate(float *gate, const float *up, size_t count, unsigned threads)
{
	struct gate_work v = {gate, up, count};
	quant_rows(threads, (count + GATE_PIECE - 1) / GATE_PIECE, gate_piece, &v);
}
