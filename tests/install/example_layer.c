/*
 * Another runtime runs one layer of its own forward pass from the map: attention and
 * feed-forward over a few positions are its own code, in double; the products with stored weights are
 * pith_linear_apply() on an executor of its own.  Every product is compared with the one in double over
 * pith_weight_unpack_rows().  Knows only what is installed.
 *
 * usage: example_layer FILE LAYER TOLERANCE
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <pithrun.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POSITIONS = 5 };

struct layer {
	const struct pith_file *file;
	size_t index;
	struct pith_block shape;
	size_t d;
	double worst; /* difference of a product from double precision, by the largest output */
};

static void die(const char *what, const struct pith_error *err)
{
	fprintf(stderr, "example_layer: %s: %s\n", what, err != NULL ? err->msg : "");
	exit(1);
}

static void *room(size_t count, size_t size)
{
	void *p = calloc(count, size);
	if (p == NULL)
		die("memory", NULL);
	return p;
}

/* The host's way to run work: here one after the other, last item first. */
static void host_run(const struct pith_executor *self, void (*task)(void *, size_t), void *arg,
                     size_t count)
{
	size_t *calls = self->ctx;
	for (size_t i = count; i-- > 0; ++*calls)
		task(arg, i);
}

static struct pith_weight find(const struct layer *l, const char *suffix)
{
	char name[128];
	struct pith_weight w;
	struct pith_error err;
	snprintf(name, sizeof(name), "model.layers.%zu.%s.weight", l->index, suffix);
	if (pith_file_find(l->file, name, &w, &err) != PITH_OK)
		die(name, &err);
	return w;
}

static float *unpack(const struct pith_weight *w)
{
	struct pith_error err;
	float *rows = room(w->m * w->n, sizeof(*rows)), *scratch = room(w->n, sizeof(*scratch));
	if (pith_weight_unpack_rows(w, 0, w->m, rows, scratch, &err) != PITH_OK)
		die("unpack", &err);
	free(scratch);
	return rows;
}

static void compare(struct layer *l, const struct pith_weight *w, const float *x, const float *y)
{
	float *rows = unpack(w);
	double largest = 0, difference = 0;
	for (size_t t = 0; t < POSITIONS; t++)
		for (size_t i = 0; i < w->m; i++) {
			double sum = 0;
			for (size_t j = 0; j < w->n; j++)
				sum += (double)rows[i * w->n + j] * (double)x[t * w->n + j];
			largest = fmax(largest, fabs(sum));
			difference = fmax(difference, fabs(sum - (double)y[t * w->m + i]));
		}
	l->worst = fmax(l->worst, difference / largest);
	free(rows);
}

/* y = W x for all positions, by Pith; new memory [POSITIONS, m]. */
static float *product(struct layer *l, const char *suffix, const float *x, size_t n)
{
	size_t calls = 0;
	struct pith_executor host = {.width = 3, .run = host_run, .ctx = &calls};
	struct pith_weight w = find(l, suffix);
	struct pith_linear *linear;
	struct pith_error err;
	float *y = room(POSITIONS * w.m, sizeof(*y)), *again = room(POSITIONS * w.m, sizeof(*y));
	if (w.n != n || pith_linear_new(&w, NULL, &linear, &err) != PITH_OK)
		die(suffix, &err);
	if (pith_linear_apply(linear, x, POSITIONS, y, &host, &err) != PITH_OK ||
	    pith_linear_apply(linear, x, POSITIONS, again, NULL, &err) != PITH_OK)
		die(suffix, &err);
	if (memcmp(y, again, POSITIONS * w.m * sizeof(*y)) != 0)
		die("the executor changed the bits", NULL);
	compare(l, &w, x, y);
	pith_linear_free(linear);
	free(again);
	return y;
}

static float *normalize(struct layer *l, const char *suffix, const float *x)
{
	struct pith_weight w = find(l, suffix);
	float *gain = unpack(&w), *y = room(POSITIONS * l->d, sizeof(*y));
	for (size_t t = 0; t < POSITIONS; t++) {
		double sum = 0;
		for (size_t j = 0; j < l->d; j++)
			sum += (double)x[t * l->d + j] * (double)x[t * l->d + j];
		for (size_t j = 0; j < l->d; j++)
			y[t * l->d + j] =
				(float)((double)x[t * l->d + j] / sqrt(sum / (double)l->d + 1e-5) * (double)gain[j]);
	}
	free(gain);
	return y;
}

static void rotate(float *x, size_t heads, size_t h)
{
	for (size_t t = 0; t < POSITIONS; t++)
		for (size_t k = 0; k < heads; k++)
			for (size_t i = 0; i < h / 2; i++) {
				float *v = x + (t * heads + k) * h;
				double angle = (double)t * pow(10000, -2 * (double)i / (double)h);
				double a = (double)v[i], b = (double)v[i + h / 2];
				v[i] = (float)(a * cos(angle) - b * sin(angle));
				v[i + h / 2] = (float)(b * cos(angle) + a * sin(angle));
			}
}

/* One query head: softmax(q k) v over the positions up to t. */
static void attend(const float *q, const float *k, const float *v, size_t stride, size_t h, size_t t,
                   float *out)
{
	double p[POSITIONS], total = 0;
	for (size_t j = 0; j <= t; j++) {
		double s = 0;
		for (size_t i = 0; i < h; i++)
			s += (double)q[i] * (double)k[j * stride + i];
		p[j] = exp(s / sqrt((double)h));
		total += p[j];
	}
	for (size_t i = 0; i < h; i++) {
		double sum = 0;
		for (size_t j = 0; j <= t; j++)
			sum += p[j] / total * (double)v[j * stride + i];
		out[i] = (float)sum;
	}
}

static void run_attention(struct layer *l, float *x)
{
	const struct pith_block *b = &l->shape;
	size_t h = b->head_dim, q_ld = b->head_count * h, kv_ld = b->kv_head_count * h;
	float *n = normalize(l, "input_layernorm", x), *a = room(POSITIONS * q_ld, sizeof(*a));
	float *q = product(l, "self_attn.q_proj", n, l->d);
	float *k = product(l, "self_attn.k_proj", n, l->d);
	float *v = product(l, "self_attn.v_proj", n, l->d);
	rotate(q, b->head_count, h);
	rotate(k, b->kv_head_count, h);
	for (size_t t = 0; t < POSITIONS; t++)
		for (size_t head = 0; head < b->head_count; head++) {
			size_t key = head * b->kv_head_count / b->head_count * h;
			attend(q + t * q_ld + head * h, k + key, v + key, kv_ld, h, t, a + t * q_ld + head * h);
		}
	float *y = product(l, "self_attn.o_proj", a, q_ld);
	for (size_t i = 0; i < POSITIONS * l->d; i++)
		x[i] += y[i];
	free(n), free(a), free(q), free(k), free(v), free(y);
}

static void run_feed_forward(struct layer *l, float *x)
{
	size_t f = l->shape.ffn_count;
	float *n = normalize(l, "post_attention_layernorm", x);
	float *g = product(l, "mlp.gate_proj", n, l->d), *u = product(l, "mlp.up_proj", n, l->d);
	for (size_t i = 0; i < POSITIONS * f; i++)
		g[i] = g[i] / (1 + expf(-g[i])) * u[i];
	float *y = product(l, "mlp.down_proj", g, f);
	for (size_t i = 0; i < POSITIONS * l->d; i++)
		x[i] += y[i];
	free(n), free(g), free(u), free(y);
}

int main(int argc, char **argv)
{
	struct pith_file *file;
	struct pith_error err;
	struct layer l = {0};
	uint64_t hidden;
	if (argc != 4)
		return 2;
	if (pith_file_open(argv[1], 0, &file, &err) != PITH_OK ||
	    pith_file_arch_u64(file, "hidden_size", &hidden, &err) != PITH_OK)
		die(argv[1], &err);
	l.file = file;
	l.d = (size_t)hidden;
	l.index = (size_t)strtoul(argv[2], NULL, 10);
	if (pith_file_block(file, l.index, &l.shape, &err) != PITH_OK)
		die("layer", &err);
	float *x = room(POSITIONS * l.d, sizeof(*x));
	for (size_t i = 0; i < POSITIONS * l.d; i++)
		x[i] = (float)sin(0.37 * (double)i + (double)(i / l.d));
	run_attention(&l, x);
	run_feed_forward(&l, x);
	printf("layer %zu: 7 products, largest difference %.3g\n", l.index, l.worst);
	free(x);
	pith_file_close(file);
	return l.worst > 0 && l.worst < strtod(argv[3], NULL) ? 0 : 1;
}
