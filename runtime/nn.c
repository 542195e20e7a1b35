/*
 * The shared steps of forward passes.  Owns how a step is split over threads; the arithmetic is
 * the kernels' (spec/numerics.md 5-7), except the rotary table, which is f64 and made once a session.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "nn.h"

#include "fpmode.h"
#include "parallel.h"

#include <math.h>

/* ---- rotary table ---- */

static void sincos_of(double a, float *cosine, float *sine)
{
	double n = a * 0.63661977236758138243;
	n = n + 6755399441055744.0;
	n = n - 6755399441055744.0;
	double r = ((a - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) -
	           n * 2.02226624879595063154e-21;
	double z = r * r;
	double s = r + (z * r) * (-1.66666666666666324348e-1 +
	           z * (8.33333333332248946124e-3 + z * (-1.98412698298579493134e-4 +
	           z * (2.75573137070700676789e-6 + z * (-2.50507602534068634195e-8 +
	           z * 1.58969099521155010221e-10)))));
	double c = (1 - 0.5 * z) + (z * z) * (4.16666666666666019037e-2 +
	           z * (-1.38888888888741095749e-3 + z * (2.48015872894767294178e-5 +
	           z * (-2.75573143513906633035e-7 + z * (2.08757232129817482790e-9 +
	           z * -1.13596475577881948265e-11)))));
	// spec numerics.7: "0: cos = C, sin = S    1: cos = -S, sin = C    2: cos = -C, sin = -S    3: cos = S, sin = -C"
	double cos_of[4] = {c, -s, -c, s}, sin_of[4] = {s, c, -s, -c};
	size_t quadrant = (size_t)((int64_t)n & 3);
	*cosine = (float)cos_of[quadrant];
	*sine = (float)sin_of[quadrant];
}

void pith_nn_rotary_table(double ratio, size_t positions, size_t half, float *cosine, float *sine)
{
	uint64_t mode = pith_fpmode_enter();
	for (size_t p = 0; p < positions; p++) {
		double f = 1;
		for (size_t i = 0; i < half; i++) {
			sincos_of((double)p * f, &cosine[p * half + i], &sine[p * half + i]);
			f = f * ratio;
		}
	}
	pith_fpmode_restore(mode);
}

float pith_nn_score_scale(size_t d)
{
	uint64_t mode = pith_fpmode_enter();
	float scale = (float)(1 / sqrt((double)d));
	pith_fpmode_restore(mode);
	return scale;
}

/* ---- embedding, norms, element-wise steps ---- */

struct row_task {
	struct pith_step *s;
	const struct pith_linear *w;
	const struct pith_cache *cache;
	const float *v;
	float eps;
	size_t f;
	const size_t *row; /* NULL: row i is row i */
};

static void embed_rows(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	struct pith_step *s = t->s;
	for (size_t r = begin; r < end; r++)
		pith_linear_row(t->w, s->token[r], s->x.v + r * s->x.ld, s->y.v + r * s->y.ld);
}

void pith_nn_embed(struct pith_step *s, const struct pith_linear *embedding)
{
	struct row_task task = {.s = s, .w = embedding};
	pith_parallel(s->run.executor, s->k, s->d, embed_rows, &task);
}

static void norm_rows(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	struct pith_step *s = t->s;
	for (size_t r = begin; r < end; r++) {
		size_t from = t->row != NULL ? t->row[r] : r;
		s->run.kernels->rmsnorm(s->x.v + from * s->x.ld, t->v, t->eps, s->d,
		                        s->n.x + r * s->n.ldx);
	}
}

void pith_nn_norm(struct pith_step *s, const float *w, float eps)
{
	struct row_task task = {.s = s, .v = w, .eps = eps};
	pith_input_begin(&s->n, s->k, s->d);
	pith_parallel(s->run.executor, s->k, s->d / 4, norm_rows, &task);
}

void pith_nn_norm_last(struct pith_step *s, const float *w, float eps)
{
	struct row_task task = {.s = s, .v = w, .eps = eps, .row = s->logit_row};
	pith_input_begin(&s->n, s->logit_count, s->d);
	pith_parallel(s->run.executor, s->logit_count, s->d / 4, norm_rows, &task);
}

static void silu_rows(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	struct pith_step *s = t->s;
	for (size_t r = begin; r < end; r++)
		s->run.kernels->silu_mul(s->gate.v + r * s->gate.ld, s->up.v + r * s->up.ld, t->f,
		                         s->h.x + r * s->h.ldx);
}

void pith_nn_silu_gate(struct pith_step *s, size_t f)
{
	struct row_task task = {.s = s, .f = f};
	pith_input_begin(&s->h, s->k, f);
	pith_parallel(s->run.executor, s->k, f, silu_rows, &task);
}

static void add_rows(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	struct pith_step *s = t->s;
	for (size_t r = begin; r < end; r++)
		s->run.kernels->add(s->x.v + r * s->x.ld, t->v != NULL ? t->v : s->y.v + r * s->y.ld,
		                    s->d);
}

void pith_nn_add(struct pith_step *s)
{
	struct row_task task = {.s = s};
	pith_parallel(s->run.executor, s->k, s->d / 8, add_rows, &task);
}

void pith_nn_add_const(struct pith_step *s, const float *c)
{
	struct row_task task = {.s = s, .v = c};
	pith_parallel(s->run.executor, s->k, s->d / 8, add_rows, &task);
}

void pith_nn_linear(struct pith_step *s, struct pith_input *in, const struct pith_nn_product *products,
                    size_t count)
{
	struct pith_linear_job jobs[3];
	for (size_t i = 0; i < count; i++)
		jobs[i] = (struct pith_linear_job){products[i].w, products[i].out->v, products[i].out->ld};
	pith_linear_run(&s->run, in, jobs, count);
}

/* ---- attention ---- */

static struct pith_kv kv_head(const struct pith_cache *c, size_t sequence, size_t h)
{
	size_t head = sequence * c->kv_head_count + h;
	return (struct pith_kv){.keys = c->keys + head * c->head_nbytes,
	                        .values = c->values + head * c->head_nbytes,
	                        .key_scale = c->key_scale + head * c->head_scales,
	                        .value_scale = c->value_scale + head * c->head_scales};
}

/* Rows from r on, below end, that are of one sequence: consecutive positions. */
static size_t same_sequence(const struct pith_step *s, size_t r, size_t end)
{
	size_t to = r + 1;
	while (to < end && s->place[to].sequence == s->place[r].sequence)
		to++;
	return to - r;
}

static void rotate_append_rows(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	struct pith_step *s = t->s;
	const struct pith_cache *c = t->cache;
	size_t d = c->head_dim;
	bool fits = true;
	for (size_t r = begin; r < end; r++) {
		size_t angle = s->place[r].position * s->rotary_half;
		s->run.kernels->rotate(s->q.v + r * s->q.ld, c->head_count, d, s->cosine + angle,
		                       s->sine + angle);
		s->run.kernels->rotate(s->key.v + r * s->key.ld, c->kv_head_count, d, s->cosine + angle,
		                       s->sine + angle);
	}
	for (size_t r = begin, count; r < end; r += count) {
		count = same_sequence(s, r, end);
		for (size_t h = 0; h < c->kv_head_count; h++) {
			struct pith_kv kv = kv_head(c, s->place[r].sequence, h);
			fits &= s->run.kernels->append[c->type](
			    &kv, d, s->place[r].position, count, s->key.v + r * s->key.ld + h * d,
			    s->key.ld, s->value.v + r * s->value.ld + h * d, s->value.ld);
		}
	}
	if (!fits)
		atomic_store(&s->run.not_finite, true);
}

void pith_nn_rotate_append(struct pith_step *s, const struct pith_cache *cache)
{
	struct row_task task = {.s = s, .cache = cache};
	size_t work = (cache->head_count + 2 * cache->kv_head_count) * cache->head_dim / 2;
	pith_parallel(s->run.executor, s->k, work, rotate_append_rows, &task);
}

bool pith_nn_finite(const float *v, size_t count)
{
	enum { LANES = 16 }; /* a count that compilers make vectors of */
	uint32_t seen[LANES] = {0}, any = 0;
	size_t j = 0;
	/* the top bit shows where the exponent is all ones */
	for (; j + LANES <= count; j += LANES)
		for (size_t l = 0; l < LANES; l++)
			seen[l] |= (bits_of_f32(v[j + l]) & 0x7fffffffu) + 0x00800000u;
	for (; j < count; j++)
		any |= (bits_of_f32(v[j]) & 0x7fffffffu) + 0x00800000u;
	for (size_t l = 0; l < LANES; l++)
		any |= seen[l];
	return any >> 31 == 0;
}

size_t pith_nn_keep_logit_rows(struct pith_step *s)
{
	size_t kept = 0;
	for (size_t r = 0; r < s->k; r++) {
		const float *x = s->x.v + r * s->x.ld;
		if (kept == s->logit_count || s->logit_row[kept] != r) {
			if (!pith_nn_finite(x, s->d))
				atomic_store(&s->run.not_finite, true);
			continue;
		}
		if (kept < r) {
			memcpy(s->x.v + kept * s->x.ld, x, s->x.ld * sizeof(float));
			memcpy(s->q.v + kept * s->q.ld, s->q.v + r * s->q.ld, s->q.ld * sizeof(float));
			s->place[kept] = s->place[r];
		}
		s->logit_row[kept] = kept;
		kept++;
	}
	s->k = kept;
	return kept;
}

/* First position that a query at 'position' sees. */
static size_t first_visible(const struct pith_cache *c, size_t position)
{
	// spec numerics.7: "max(0, p - window + 1) .. p (window 0: from 0)"
	return c->window == 0 || position < c->window ? 0 : position + 1 - c->window;
}

#define MAX_QUERIES 32u /* handed to a kernel at once */

/* Queries of key head h in rows r .. r + count - 1, of one sequence. */
static void attend_rows(const struct row_task *t, size_t h, size_t r, size_t count)
{
	struct pith_step *s = t->s;
	const struct pith_cache *c = t->cache;
	struct pith_query query[MAX_QUERIES];
	struct pith_kv kv = kv_head(c, s->place[r].sequence, h);
	size_t d = c->head_dim, group = c->head_count / c->kv_head_count, filled = 0;
	for (size_t i = 0; i < count * group; i++) {
		size_t row = r + i / group, at = (h * group + i % group) * d;
		size_t position = s->place[row].position;
		query[filled++] = (struct pith_query){s->q.v + row * s->q.ld + at,
		                                      s->a.x + row * s->a.ldx + at,
		                                      first_visible(c, position), position};
		if (filled < MAX_QUERIES && i + 1 < count * group)
			continue;
		s->run.kernels->attention[c->type](&kv, d, query, filled, c->scale);
		filled = 0;
	}
}

/* Items are (key head, row), rows of one head in succession: those of one sequence share its cache. */
static void attend(void *arg, size_t begin, size_t end)
{
	const struct row_task *t = arg;
	for (size_t item = begin, count; item < end; item += count) {
		size_t h = item / t->s->k, r = item % t->s->k;
		size_t stop = end - item < t->s->k - r ? r + (end - item) : t->s->k;
		count = same_sequence(t->s, r, stop);
		attend_rows(t, h, r, count);
	}
}

void pith_nn_attention(struct pith_step *s, const struct pith_cache *cache)
{
	struct row_task task = {.s = s, .cache = cache};
	size_t visible = 0;
	for (size_t r = 0; r < s->k; r++)
		visible += s->place[r].position + 1 - first_visible(cache, s->place[r].position);
	size_t work = visible / s->k * cache->head_dim * (cache->head_count / cache->kv_head_count) / 8;
	pith_input_begin(&s->a, s->k, cache->head_count * cache->head_dim);
	pith_parallel(s->run.executor, s->k * cache->kv_head_count, work, attend, &task);
}
