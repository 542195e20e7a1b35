/*
 * Helpers of the engine tests.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "engine_support.h"

#include <math.h>
#include <stdlib.h>

void require_ok(pith_status status, const struct pith_error *err)
{
	if (status != PITH_OK)
		fail_msg("%s: %s (rule %s)", pith_status_name(status), err->msg, err->rule);
}

const char *temporary(char path[512], const char *name)
{
	const char *folder = getenv("TMPDIR");
	snprintf(path, 512, "%s/%s", folder != NULL ? folder : "/tmp", name);
	return path;
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1du;
}

double random_unit(uint64_t *state)
{
	return (double)(int64_t)random_next(state) * 0x1p-63;
}

uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(random_next(state) >> 33) % n;
}

const char *mask_for_set(size_t set, char mask[64])
{
	const struct pith_kernels *sets[8];
	size_t count = pith_kernels_available(sets), used = 0;
	mask[0] = '\0';
	for (size_t i = 0; i < set && i < count; i++)
		used += (size_t)snprintf(mask + used, 64 - used, "%s-%s", used > 0 ? "," : "", sets[i]->name);
	return mask;
}

/* ---- writing ---- */

struct toy_writer {
	struct pith_writer *w;
	const struct toy *toy;
	uint64_t random;
	size_t written;
};

static float *random_values(struct toy_writer *t, size_t count, double scale, double offset)
{
	float *v = malloc(count * sizeof(*v));
	assert_non_null(v);
	for (size_t i = 0; i < count; i++)
		v[i] = (float)(offset + scale * random_unit(&t->random));
	return v;
}

static void pack_affine(struct toy_writer *t, size_t m, size_t n, struct pith_packed_term *out)
{
	static const uint32_t bits_of[] = {8, 4, 3, 2, 6, 5};
	struct pith_affine_source s = {.bits = bits_of[t->written % 6], .zero_mode = (uint32_t)(t->written % 3),
	                               .group_size = t->written % 2 ? 32 : 16};
	size_t groups = (n + s.group_size - 1) / s.group_size;
	uint8_t *codes = malloc(m * n), *zeros8 = malloc(m * groups);
	uint16_t *scales = malloc(m * groups * 2), *zeros16 = malloc(m * groups * 2);
	struct pith_error err;
	assert_true(codes != NULL && scales != NULL && zeros8 != NULL && zeros16 != NULL);
	for (size_t i = 0; i < m * n; i++)
		codes[i] = (uint8_t)random_below(&t->random, 1u << s.bits);
	double middle = (double)(1u << s.bits) / 2;
	for (size_t i = 0; i < m * groups; i++) {
		scales[i] = f16_of_f32((float)((1.5 + random_unit(&t->random)) / middle / sqrt((double)n)));
		zeros8[i] = (uint8_t)((1u << s.bits) / 2);
		zeros16[i] = f16_of_f32((float)(middle * (1 + 0.1 * random_unit(&t->random))));
	}
	s.codes = codes;
	s.scales = scales;
	s.zeros = s.zero_mode == 1 ? (const void *)zeros8 : s.zero_mode == 2 ? (const void *)zeros16 : NULL;
	require_ok(pith_affine_pack(&s, m, n, out, &err), &err);
	free(codes);
	free(scales);
	free(zeros8);
	free(zeros16);
}

static void pack_dense(struct toy_writer *t, size_t m, size_t n, uint32_t dtype, double scale,
                       double offset, struct pith_packed_term *out)
{
	struct pith_error err;
	float *v = random_values(t, m * n, scale, offset);
	require_ok(pith_dense_pack(v, m, n, dtype, out, &err), &err);
	free(v);
}

static void pack_sparse(struct toy_writer *t, size_t m, size_t n, struct pith_packed_term *out)
{
	size_t count = 0;
	struct pith_error err;
	struct pith_sparse_source_entry *e = calloc(m * n, sizeof(*e));
	assert_non_null(e);
	for (size_t i = 0; i < m * n; i++)
		if (i == 0 || random_below(&t->random, 20) == 0)
			e[count++] = (struct pith_sparse_source_entry){
				(uint32_t)(i / n), (uint32_t)(i % n),
				f16_of_f32((float)random_unit(&t->random))};
	require_ok(pith_sparse_pack(e, count, m, n, out, &err), &err);
	free(e);
}

static void pack_columns(struct toy_writer *t, size_t m, size_t n, struct pith_packed_term *out)
{
	uint32_t index[2] = {0, (uint32_t)n - 1};
	struct pith_error err;
	float *v = random_values(t, m * 2, 0.5, 0);
	require_ok(pith_columns_pack(index, v, n > 1 ? 2 : 1, m, n,
	                             t->written % 2 ? PITH_DTYPE_F16 : PITH_DTYPE_BF16, out, &err), &err);
	free(v);
}

/* A canary that no weight gives: all zero. */
static void add_canary(struct toy_writer *t, const char *name)
{
	float zero[16] = {0};
	struct pith_error err;
	require_ok(pith_writer_canary(t->w, name, 1, zero, zero, &err), &err);
}

static void write_matrix(struct toy_writer *t, const char *name, size_t m, size_t n)
{
	static const uint32_t dtypes[] = {PITH_DTYPE_F32, PITH_DTYPE_F16, PITH_DTYPE_BF16};
	struct pith_packed_term terms[3] = {0};
	struct pith_writer_weight w = {.name = name, .flags = 1, .rank = 2, .dim = {m, n, 1, 1},
	                               .terms = terms, .term_count = 1};
	uint32_t *permute = NULL;
	struct pith_error err;
	if (t->toy->leave_out != NULL && strcmp(name, t->toy->leave_out) == 0)
		return;
	size_t style = t->toy->mixed ? 1 + t->written % 4 : 0;
	if (style == 0 || style == 4) {
		pack_dense(t, m, n, style == 0 ? PITH_DTYPE_F32 : dtypes[t->written % 3],
		           1.7 / sqrt((double)n), 0, &terms[0]);
	} else {
		w.activation = PITH_ACTIVATION_INT8_GROUP32;
		pack_affine(t, m, n, &terms[0]);
	}
	if (style == 2) {
		pack_sparse(t, m, n, &terms[w.term_count++]);
		pack_columns(t, m, n, &terms[w.term_count++]);
	}
	if (style == 3) {
		permute = malloc(n * sizeof(*permute));
		assert_non_null(permute);
		for (size_t j = 0; j < n; j++)
			permute[j] = (uint32_t)j;
		for (size_t j = n - 1; j > 0; j--) {
			size_t k = random_below(&t->random, (uint32_t)j + 1);
			uint32_t swap = permute[j];
			permute[j] = permute[k];
			permute[k] = swap;
		}
		w.permute = permute;
	}
	require_ok(pith_writer_weight(t->w, &w, &err), &err);
	if (t->toy->bad_canary && t->written == 0)
		add_canary(t, name);
	for (size_t i = 0; i < w.term_count; i++)
		pith_packed_free(&terms[i]);
	free(permute);
	t->written++;
}

static void write_vector(struct toy_writer *t, const char *name, size_t n, double scale, double offset)
{
	struct pith_packed_term term = {0};
	struct pith_error err;
	pack_dense(t, 1, n, t->toy->mixed ? PITH_DTYPE_BF16 : PITH_DTYPE_F32, scale, offset, &term);
	struct pith_writer_weight w = {.name = name, .flags = 1, .rank = 1, .dim = {n, 1, 1, 1},
	                               .terms = &term, .term_count = 1};
	require_ok(pith_writer_weight(t->w, &w, &err), &err);
	pith_packed_free(&term);
}

static const char *name_of(char name[128], size_t i, const char *suffix)
{
	snprintf(name, 128, "model.layers.%zu.%s.weight", i, suffix);
	return name;
}

static void write_block(struct toy_writer *t, size_t i)
{
	const struct pith_block_entry *b = &t->toy->block[i];
	size_t d = t->toy->d, rows = (size_t)b->head_count * b->head_dim;
	size_t kv = (size_t)b->kv_head_count * b->head_dim;
	char name[128], attention_const[128] = "", ffn_const[128] = "";
	struct pith_error err;
	if (b->flags & PITH_BLOCK_ATTENTION)
		write_vector(t, name_of(name, i, "input_layernorm"), d, 0.3, 1);
	if (b->flags & PITH_BLOCK_ATTENTION && b->attention_of == i) {
		write_matrix(t, name_of(name, i, "self_attn.q_proj"), rows, d);
		write_matrix(t, name_of(name, i, "self_attn.k_proj"), kv, d);
		write_matrix(t, name_of(name, i, "self_attn.v_proj"), kv, d);
		write_matrix(t, name_of(name, i, "self_attn.o_proj"), d, rows);
	}
	if (b->flags & PITH_BLOCK_FFN)
		write_vector(t, name_of(name, i, "post_attention_layernorm"), d, 0.3, 1);
	if (b->flags & PITH_BLOCK_FFN && b->ffn_of == i) {
		write_matrix(t, name_of(name, i, "mlp.gate_proj"), b->ffn_count, d);
		write_matrix(t, name_of(name, i, "mlp.up_proj"), b->ffn_count, d);
		write_matrix(t, name_of(name, i, "mlp.down_proj"), d, b->ffn_count);
	}
	if (t->toy->attention_const[i])
		write_vector(t, name_of(attention_const, i, "attention_const"), d, 1, 0);
	if (t->toy->ffn_const[i])
		write_vector(t, name_of(ffn_const, i, "ffn_const"), d, 1, 0);
	require_ok(pith_writer_block(t->w, b, attention_const[0] ? attention_const : NULL,
	                             ffn_const[0] ? ffn_const : NULL, &err), &err);
}

void toy_write(const struct toy *toy, const char *path)
{
	struct toy_writer t = {.toy = toy, .random = 0x9e3779b97f4a7c15u};
	struct pith_error err;
	require_ok(pith_writer_new(path, NULL, &t.w, &err), &err);
	require_ok(pith_writer_arch_string(t.w, "arch", "llama", PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_u64(t.w, "hidden_size", toy->d, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_u64(t.w, "vocab_size", toy->vocab, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_f64(t.w, "rms_norm_eps", toy->eps, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_f64(t.w, "rope.ratio", toy->ratio, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_u64(t.w, "head_tied", toy->tied, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_u64(t.w, "kv_dtype", toy->kv_dtype > 0 ? toy->kv_dtype : 1, PITH_ARCH_MUST, &err), &err);
	require_ok(pith_writer_arch_u64(t.w, "context_length", 128, 0, &err), &err);
	if (toy->extra_key != NULL)
		require_ok(pith_writer_arch_u64(t.w, toy->extra_key, 1, PITH_ARCH_MUST, &err), &err);
	write_matrix(&t, "model.embed_tokens.weight", toy->vocab, toy->d);
	if (!toy->tied)
		write_matrix(&t, "lm_head.weight", toy->vocab, toy->d);
	write_vector(&t, "model.norm.weight", toy->d, 0.3, toy->not_finite ? (double)INFINITY : 1);
	for (size_t i = 0; i < toy->block_count; i++)
		write_block(&t, i);
	require_ok(pith_writer_finish(t.w, &err), &err);
}

/* ---- the oracle ---- */

static double *load(const struct pith_file *file, const char *name, size_t *m, size_t *n)
{
	struct pith_weight w;
	struct pith_error err;
	require_ok(pith_file_find(file, name, &w, &err), &err);
	float *rows = malloc(w.m * w.n * sizeof(*rows)), *scratch = malloc(w.n * sizeof(*scratch));
	double *out = malloc(w.m * w.n * sizeof(*out));
	assert_true(rows != NULL && scratch != NULL && out != NULL);
	require_ok(pith_weight_unpack_rows(&w, 0, w.m, rows, scratch, &err), &err);
	for (size_t i = 0; i < w.m * w.n; i++)
		out[i] = rows[i];
	free(rows);
	free(scratch);
	*m = w.m;
	*n = w.n;
	return out;
}

/* y = W x for all rows; returns new memory [count, m]. */
static double *apply(const struct pith_file *file, const char *name, const double *x, size_t count)
{
	size_t m, n;
	double *w = load(file, name, &m, &n), *y = calloc(count * m, sizeof(*y));
	assert_non_null(y);
	for (size_t t = 0; t < count; t++)
		for (size_t i = 0; i < m; i++)
			for (size_t j = 0; j < n; j++)
				y[t * m + i] += w[i * n + j] * x[t * n + j];
	free(w);
	return y;
}

static double *normalize(const struct pith_file *file, const char *name, const struct toy *toy,
                         const double *x, size_t count)
{
	size_t m, n;
	double *w = load(file, name, &m, &n), *y = calloc(count * n, sizeof(*y));
	assert_non_null(y);
	for (size_t t = 0; t < count; t++) {
		double sum = 0;
		for (size_t j = 0; j < n; j++)
			sum += x[t * n + j] * x[t * n + j];
		for (size_t j = 0; j < n; j++)
			y[t * n + j] = x[t * n + j] / sqrt(sum / (double)n + toy->eps) * w[j];
	}
	free(w);
	return y;
}

static void rotate_heads(double *x, size_t count, size_t heads, size_t h, double ratio)
{
	for (size_t t = 0; t < count; t++)
		for (size_t k = 0; k < heads; k++)
			for (size_t i = 0; i < h / 2; i++) {
				double *v = x + (t * heads + k) * h, a = v[i], b = v[i + h / 2];
				double angle = (double)t * pow(ratio, (double)i);
				v[i] = a * cos(angle) - b * sin(angle);
				v[i + h / 2] = b * cos(angle) + a * sin(angle);
			}
}

static double *attend_all(const struct pith_block_entry *b, const double *q, const double *k,
                          const double *v, size_t count)
{
	size_t h = b->head_dim, group = b->head_count / b->kv_head_count;
	double *out = calloc(count * b->head_count * h, sizeof(*out));
	double *p = calloc(count, sizeof(*p));
	assert_true(out != NULL && p != NULL);
	for (size_t t = 0; t < count; t++)
		for (size_t head = 0; head < b->head_count; head++) {
			size_t first = b->window != 0 && t + 1 > b->window ? t + 1 - b->window : 0;
			double sum = 0;
			for (size_t j = first; j <= t; j++) {
				double s = 0;
				for (size_t i = 0; i < h; i++)
					s += q[(t * b->head_count + head) * h + i] *
					     k[(j * b->kv_head_count + head / group) * h + i];
				p[j] = exp(s / sqrt((double)h));
				sum += p[j];
			}
			for (size_t j = first; j <= t; j++)
				for (size_t i = 0; i < h; i++)
					out[(t * b->head_count + head) * h + i] +=
						p[j] / sum * v[(j * b->kv_head_count + head / group) * h + i];
		}
	free(p);
	return out;
}

/* x += y and free y; a vector is added to every row. */
static void accumulate(double *x, double *y, size_t count, size_t d, bool vector)
{
	for (size_t i = 0; i < count * d; i++)
		x[i] += y[vector ? i % d : i];
	free(y);
}

static void oracle_attention(const struct pith_file *file, const struct toy *toy, size_t i, double *x,
                             size_t count)
{
	const struct pith_block_entry *b = &toy->block[i];
	size_t of = b->attention_of, d = toy->d;
	char name[128];
	double *n = normalize(file, name_of(name, i, "input_layernorm"), toy, x, count);
	double *q = apply(file, name_of(name, of, "self_attn.q_proj"), n, count);
	double *k = apply(file, name_of(name, of, "self_attn.k_proj"), n, count);
	double *v = apply(file, name_of(name, of, "self_attn.v_proj"), n, count);
	rotate_heads(q, count, b->head_count, b->head_dim, toy->ratio);
	rotate_heads(k, count, b->kv_head_count, b->head_dim, toy->ratio);
	double *a = attend_all(b, q, k, v, count);
	accumulate(x, apply(file, name_of(name, of, "self_attn.o_proj"), a, count), count, d, false);
	free(n);
	free(q);
	free(k);
	free(v);
	free(a);
}

static void oracle_ffn(const struct pith_file *file, const struct toy *toy, size_t i, double *x,
                       size_t count)
{
	const struct pith_block_entry *b = &toy->block[i];
	size_t of = b->ffn_of;
	char name[128];
	double *n = normalize(file, name_of(name, i, "post_attention_layernorm"), toy, x, count);
	double *g = apply(file, name_of(name, of, "mlp.gate_proj"), n, count);
	double *u = apply(file, name_of(name, of, "mlp.up_proj"), n, count);
	for (size_t j = 0; j < count * b->ffn_count; j++)
		g[j] = g[j] / (1 + exp(-g[j])) * u[j];
	accumulate(x, apply(file, name_of(name, of, "mlp.down_proj"), g, count), count, toy->d, false);
	free(n);
	free(g);
	free(u);
}

void oracle_forward(const struct pith_file *file, const struct toy *toy, const uint32_t *tokens,
                    size_t count, double *out)
{
	size_t m, n, d = toy->d;
	char name[128];
	double *embedding = load(file, "model.embed_tokens.weight", &m, &n);
	double *x = malloc(count * d * sizeof(*x));
	assert_non_null(x);
	for (size_t t = 0; t < count; t++)
		memcpy(x + t * d, embedding + tokens[t] * d, d * sizeof(*x));
	free(embedding);
	for (size_t i = 0; i < toy->block_count; i++) {
		if (toy->block[i].flags & PITH_BLOCK_ATTENTION)
			oracle_attention(file, toy, i, x, count);
		if (toy->attention_const[i])
			accumulate(x, load(file, name_of(name, i, "attention_const"), &m, &n), count, d, true);
		if (toy->block[i].flags & PITH_BLOCK_FFN)
			oracle_ffn(file, toy, i, x, count);
		if (toy->ffn_const[i])
			accumulate(x, load(file, name_of(name, i, "ffn_const"), &m, &n), count, d, true);
	}
	double *last = normalize(file, "model.norm.weight", toy, x, count);
	double *logits = apply(file, toy->tied ? "model.embed_tokens.weight" : "lm_head.weight", last, count);
	memcpy(out, logits, count * toy->vocab * sizeof(*out));
	free(x);
	free(last);
	free(logits);
}

double relative_difference(const float *a, const double *b, size_t count)
{
	double difference = 0, largest = 0;
	for (size_t i = 0; i < count; i++) {
		if (!(fabs((double)a[i] - b[i]) <= difference))
			difference = fabs((double)a[i] - b[i]);
		largest = fabs(b[i]) > largest ? fabs(b[i]) : largest;
	}
	return difference / largest;
}
