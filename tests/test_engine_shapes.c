/*
 * The engine on models of every shape against a forward pass in f64: grouped heads, windows,
 * branches that are missing, constant or shared, odd sizes; and on weights of every kind, where all kernel
 * sets, thread counts and batches must give the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "engine_support.h"

#include <math.h>
#include <stdlib.h>

#define COUNT 70u /* positions: more than two key blocks of 32 */
#define BOTH (PITH_BLOCK_ATTENTION | PITH_BLOCK_FFN)

/* flags, heads, kv heads, head_dim, ffn, attention_of, ffn_of, window */
#define BLOCK(f, h, k, d, n, a, o, w) {.flags = (f), .head_count = (h), .kv_head_count = (k), \
	.head_dim = (d), .ffn_count = (n), .attention_of = (a), .ffn_of = (o), .window = (w)}

static const struct toy toys[] = {
	{.d = 48, .vocab = 37, .tied = true, .ratio = 0.6, .eps = 1e-5, .block_count = 2,
	 .block = {BLOCK(BOTH, 4, 2, 12, 40, 0, 0, 0), BLOCK(BOTH, 6, 1, 8, 56, 1, 1, 0)}},
	/* odd sizes: nothing is a multiple of a vector */
	{.d = 21, .vocab = 19, .tied = false, .ratio = 0.3, .eps = 1e-6, .block_count = 1,
	 .block = {BLOCK(BOTH, 3, 3, 6, 17, 0, 0, 0)}},
	/* windows inside, across and at the edges of key blocks */
	{.d = 32, .vocab = 24, .tied = false, .ratio = 0.5, .eps = 1e-5, .block_count = 3,
	 .block = {BLOCK(BOTH, 2, 1, 16, 32, 0, 0, 1), BLOCK(BOTH, 2, 2, 16, 32, 1, 1, 5),
	           BLOCK(BOTH, 4, 2, 8, 32, 2, 2, 33)}},
	/* missing, constant and shared branches */
	{.d = 32, .vocab = 24, .tied = true, .ratio = 0.5, .eps = 1e-5, .block_count = 5,
	 .block = {BLOCK(BOTH, 2, 1, 16, 24, 0, 0, 0), BLOCK(PITH_BLOCK_FFN, 0, 0, 0, 24, 1, 0, 0),
	           BLOCK(PITH_BLOCK_ATTENTION, 4, 4, 8, 0, 2, 2, 0), BLOCK(BOTH, 2, 1, 16, 24, 0, 0, 7),
	           BLOCK(0, 0, 0, 0, 0, 4, 4, 0)},
	 .attention_const = {[1] = true, [4] = true}, .ffn_const = {[2] = true}},
};

/* Weights of all kinds, large enough for several tiles and threads. */
static const struct toy mixed = {
	.d = 96, .vocab = 150, .tied = false, .ratio = 0.5, .eps = 1e-5, .mixed = true, .block_count = 3,
	.block = {BLOCK(BOTH, 4, 2, 24, 136, 0, 0, 0), BLOCK(BOTH, 6, 2, 16, 80, 1, 1, 20),
	          BLOCK(BOTH, 4, 2, 24, 136, 0, 0, 0)},
};

struct opened {
	struct pith_file *file;
	struct pith_model *model;
};

static struct opened open_toy(const struct toy *toy, const char *mask)
{
	char path[512];
	struct pith_error err;
	struct opened o;
	struct pith_model_options options = {.kernels = mask};
	toy_write(toy, temporary(path, "toy.pith"));
	require_ok(pith_file_open(path, 0, &o.file, &err), &err);
	require_ok(pith_model_open(o.file, &options, &o.model, &err), &err);
	return o;
}

static void close_toy(struct opened o)
{
	pith_model_close(o.model);
	pith_file_close(o.file);
}

static void random_tokens(uint32_t *tokens, size_t count, size_t vocab, uint64_t seed)
{
	for (size_t i = 0; i < count; i++)
		tokens[i] = random_below(&seed, (uint32_t)vocab);
}

/* Logits of every position, fed 'batch' rows at a time; out: [count, vocab]. */
static void run_model(const struct pith_model *model, const struct pith_executor *executor,
                      const uint32_t *tokens, size_t count, size_t batch, size_t vocab, float *out)
{
	struct pith_session_options options = {.sequence_count = 1, .context_length = count,
	                                       .batch_count = batch, .executor = executor};
	struct pith_session *session;
	struct pith_row rows[COUNT];
	struct pith_error err;
	require_ok(pith_session_new(model, &options, &session, &err), &err);
	for (size_t done = 0; done < count;) {
		size_t k = 0;
		const float *logits;
		for (; k < batch && done + k < count; k++)
			rows[k] = (struct pith_row){0, tokens[done + k], true};
		require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
		for (size_t r = 0; r < k; r++)
			memcpy(out + (done + r) * vocab, logits + r * pith_session_logit_stride(session),
			       vocab * sizeof(float));
		done += k;
	}
	assert_int_equal(pith_session_length(session, 0), count);
	pith_session_free(session);
}

static void test_shapes(void **state)
{
	(void)state;
	for (size_t t = 0; t < sizeof(toys) / sizeof(toys[0]); t++) {
		const struct toy *toy = &toys[t];
		struct opened o = open_toy(toy, NULL);
		uint32_t tokens[COUNT];
		float *logits = calloc(COUNT * toy->vocab, sizeof(*logits));
		double *oracle = calloc(COUNT * toy->vocab, sizeof(*oracle));
		random_tokens(tokens, COUNT, toy->vocab, 77 + t);
		oracle_forward(o.file, toy, tokens, COUNT, oracle);
		for (size_t batch = 1; batch <= 33; batch += 16) {
			run_model(o.model, NULL, tokens, COUNT, batch, toy->vocab, logits);
			double difference = relative_difference(logits, oracle, COUNT * toy->vocab);
			if (!(difference < 1e-5))
				fail_msg("toy %zu, batch %zu: logits off by %g", t, batch, difference);
		}
		free(logits);
		free(oracle);
		close_toy(o);
	}
}

/* The oracle can tell: each of these changes must show. */
static void test_oracle_sees(void **state)
{
	(void)state;
	for (int change = 0; change < 3; change++) {
		struct toy toy = toys[2], other = toys[2];
		if (change == 0)
			other.block[1].window = 6;
		if (change == 1)
			other.eps = 1e-3;
		if (change == 2)
			other.ratio = 0.5001;
		struct opened o = open_toy(&toy, NULL);
		uint32_t tokens[COUNT];
		float *logits = calloc(COUNT * toy.vocab, sizeof(*logits));
		double *oracle = calloc(COUNT * toy.vocab, sizeof(*oracle));
		random_tokens(tokens, COUNT, toy.vocab, 5);
		oracle_forward(o.file, &other, tokens, COUNT, oracle);
		run_model(o.model, NULL, tokens, COUNT, 8, toy.vocab, logits);
		assert_true(relative_difference(logits, oracle, COUNT * toy.vocab) > 1e-5);
		free(logits);
		free(oracle);
		close_toy(o);
	}
}

static void check_same_bits(const struct toy *toy, size_t most_threads, size_t batch_step)
{
	const struct pith_kernels *sets[8];
	size_t set_count = pith_kernels_available(sets), size = COUNT * toy->vocab;
	uint32_t tokens[COUNT];
	float *expected = calloc(size, sizeof(float)), *got = calloc(size, sizeof(float));
	random_tokens(tokens, COUNT, toy->vocab, 3);
	for (size_t k = set_count; k-- > 0;) { /* the reference first */
		char mask[64];
		struct opened o = open_toy(toy, mask_for_set(k, mask));
		struct pith_model_info info;
		pith_model_info(o.model, &info);
		assert_string_equal(info.kernels, sets[k]->name);
		for (size_t threads = 1; threads <= most_threads; threads++) {
			struct pith_team *team;
			struct pith_error err;
			require_ok(pith_team_new(threads, &team, &err), &err);
			for (size_t batch = 1; batch <= 33; batch += threads == 2 ? batch_step : 8) {
				float *to = k == set_count - 1 && threads == 1 && batch == 1 ? expected : got;
				run_model(o.model, pith_team_executor(team), tokens, COUNT, batch, toy->vocab, to);
				if (to == got && memcmp(got, expected, size * sizeof(float)) != 0)
					fail_msg("%s, %zu threads, batch %zu: other bits", sets[k]->name, threads, batch);
			}
			pith_team_free(team);
		}
		close_toy(o);
	}
	/* the logits are not all one number */
	assert_true(memcmp(expected, expected + toy->vocab, toy->vocab * sizeof(float)) != 0);
	free(expected);
	free(got);
}

static void test_same_bits(void **state)
{
	(void)state;
	check_same_bits(&mixed, 4, 1);
}

/* Other types of the KV cache: the same bits everywhere, and near to f32 but not it. */
static void test_kv_types(void **state)
{
	static const struct {
		unsigned dtype;
		double low, high;
	} types[] = {{PITH_DTYPE_F16, 1e-6, 5e-3}, {PITH_DTYPE_I8, 1e-4, 5e-2}};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct toy toy = mixed;
		toy.kv_dtype = types[i].dtype;
		check_same_bits(&toy, 2, 8);
		for (size_t t = 0; t < sizeof(toys) / sizeof(toys[0]); t++) {
			toy = toys[t];
			toy.kv_dtype = types[i].dtype;
			struct opened o = open_toy(&toy, NULL);
			uint32_t tokens[COUNT];
			float *logits = calloc(COUNT * toy.vocab, sizeof(*logits));
			double *oracle = calloc(COUNT * toy.vocab, sizeof(*oracle));
			random_tokens(tokens, COUNT, toy.vocab, 77 + t);
			oracle_forward(o.file, &toy, tokens, COUNT, oracle);
			run_model(o.model, NULL, tokens, COUNT, 9, toy.vocab, logits);
			double difference = relative_difference(logits, oracle, COUNT * toy.vocab);
			if (!(difference > types[i].low && difference < types[i].high))
				fail_msg("kv_dtype %u, toy %zu: logits off by %g", toy.kv_dtype, t, difference);
			free(logits);
			free(oracle);
			close_toy(o);
		}
	}
}

/* A row's logits do not depend on which other rows want some. */
static void test_some_logits(void **state)
{
	(void)state;
	for (size_t t = 0; t < sizeof(toys) / sizeof(toys[0]); t++) {
		const struct toy *toy = &toys[t];
		struct opened o = open_toy(toy, NULL);
		struct pith_session_options options = {.sequence_count = 2, .context_length = COUNT,
		                                       .batch_count = 16};
		struct pith_session *session;
		struct pith_error err;
		uint32_t tokens[COUNT];
		uint64_t random = 4 + t;
		float *all = calloc(COUNT * toy->vocab, sizeof(*all));
		size_t wanted = 0;
		random_tokens(tokens, COUNT, toy->vocab, 3);
		run_model(o.model, NULL, tokens, COUNT, 8, toy->vocab, all);
		require_ok(pith_session_new(o.model, &options, &session, &err), &err);
		for (size_t done = 0; done < COUNT;) {
			struct pith_row rows[16];
			size_t k = 0, count = 1 + random_below(&random, 8), seen = 0;
			const float *logits;
			for (; k < 2 * count && done + k / 2 < COUNT; k += 2)
				for (uint32_t q = 0; q < 2; q++)
					rows[k + q] = (struct pith_row){q, tokens[done + k / 2], random_below(&random, 3) == 0};
			require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
			for (size_t r = 0; r < k; r++) {
				if (!rows[r].want_logits)
					continue;
				assert_memory_equal(logits + seen++ * pith_session_logit_stride(session),
				                    all + (done + r / 2) * toy->vocab, toy->vocab * sizeof(float));
				wanted++;
			}
			assert_true((logits == NULL) == (seen == 0));
			done += k / 2;
			assert_int_equal(pith_session_length(session, 1), done);
		}
		assert_true(wanted > COUNT / 4 && wanted < 2 * COUNT);
		pith_session_free(session);
		free(all);
		close_toy(o);
	}
}

/* Integer kinds: the f64 oracle knows nothing of int8 activations, so only the size of their error is checked. */
static void test_mixed_is_near(void **state)
{
	struct opened o = open_toy(&mixed, NULL);
	uint32_t tokens[COUNT];
	float *logits = calloc(COUNT * mixed.vocab, sizeof(*logits));
	double *oracle = calloc(COUNT * mixed.vocab, sizeof(*oracle));
	(void)state;
	random_tokens(tokens, COUNT, mixed.vocab, 3);
	oracle_forward(o.file, &mixed, tokens, COUNT, oracle);
	run_model(o.model, NULL, tokens, COUNT, 7, mixed.vocab, logits);
	double difference = relative_difference(logits, oracle, COUNT * mixed.vocab);
	if (!(difference < 0.08))
		fail_msg("logits off by %g", difference);
	free(logits);
	free(oracle);
	close_toy(o);
}

/* ---- one weight ---- */

/* numerics.md 4 in f64 division and rint: x as int8 kinds see it. */
static void quantized_input(const float *x, size_t n, double *out)
{
	for (size_t g = 0; g < n; g += 32) {
		float largest = 0;
		for (size_t j = g; j < n && j < g + 32; j++)
			largest = fabsf(x[j]) > largest ? fabsf(x[j]) : largest;
		float inverse = 127.0f / largest, scale = largest / 127.0f;
		for (size_t j = g; j < n && j < g + 32; j++)
			out[j] = rint((double)(x[j] * inverse)) * (double)scale;
	}
}

/* The weight's own sum over terms in f64, terms that are integer kinds reading int8 inputs. */
static void linear_oracle(const struct pith_weight *w, const float *x, double *y)
{
	double *q = calloc(w->n, sizeof(*q));
	float *row = calloc(w->n, sizeof(*row)), *permuted = calloc(w->n, sizeof(*permuted));
	struct pith_error err;
	memcpy(permuted, x, w->n * sizeof(*x));
	for (size_t i = 0; i < w->transform_count; i++) {
		struct pith_transform t;
		require_ok(pith_weight_transform(w, i, &t, &err), &err);
		pith_transform_apply(&t, i == 0 ? x : permuted, permuted);
	}
	quantized_input(permuted, w->n, q);
	for (size_t r = 0; r < w->m; r++)
		y[r] = 0;
	for (size_t i = 0; i < w->term_count; i++) {
		struct pith_term t;
		require_ok(pith_weight_term(w, i, &t, &err), &err);
		for (size_t r = 0; r < w->m; r++) {
			t.kind->unpack_rows(&t, r, 1, row);
			for (size_t j = 0; j < w->n; j++)
				y[r] += (double)row[j] * (t.kind->integer(t.param) ? q[j] : (double)permuted[j]);
		}
	}
	free(q);
	free(row);
	free(permuted);
}

static void test_linear_apply(void **state)
{
	enum { ROWS = 70 };
	struct opened o = open_toy(&mixed, NULL);
	struct pith_file_info info;
	struct pith_error err;
	uint64_t random = 11;
	struct pith_team *team;
	size_t seen = 0;
	(void)state;
	require_ok(pith_team_new(2, &team, &err), &err);
	pith_file_info(o.file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct pith_weight w;
		struct pith_linear *linear;
		require_ok(pith_file_weight_at(o.file, i, &w, &err), &err);
		if (w.rank != 2)
			continue;
		seen++;
		require_ok(pith_linear_new(&w, NULL, &linear, &err), &err);
		float *x = calloc(ROWS * w.n, sizeof(*x)), *y = calloc(ROWS * w.m + 1, sizeof(*y));
		double *oracle = calloc(w.m, sizeof(*oracle));
		for (size_t j = 0; j < ROWS * w.n; j++)
			x[j] = (float)random_unit(&random);
		y[ROWS * w.m] = 42; /* nothing is written behind the end */
		require_ok(pith_linear_apply(linear, x, ROWS, y, pith_team_executor(team), &err), &err);
		assert_true(y[ROWS * w.m] == 42);
		for (size_t r = 0; r < ROWS; r += 23) {
			linear_oracle(&w, x + r * w.n, oracle);
			double difference = relative_difference(y + r * w.m, oracle, w.m);
			if (!(difference < 2e-6))
				fail_msg("%.*s, row %zu: off by %g", (int)w.name_nbytes, w.name, r, difference);
		}
		free(x);
		free(y);
		free(oracle);
		pith_linear_free(linear);
	}
	assert_true(seen > 15);
	pith_team_free(team);
	close_toy(o);
}

static void test_linear_not_finite(void **state)
{
	struct opened o = open_toy(&mixed, NULL);
	struct pith_weight w;
	struct pith_linear *linear;
	struct pith_error err;
	float x[136] = {0}, y[136];
	(void)state;
	require_ok(pith_file_find(o.file, "lm_head.weight", &w, &err), &err);
	assert_int_equal(w.activation, PITH_ACTIVATION_INT8_GROUP32);
	require_ok(pith_linear_new(&w, NULL, &linear, &err), &err);
	x[5] = INFINITY;
	float *big = calloc(w.m, sizeof(*big));
	assert_int_equal(pith_linear_apply(linear, x, 1, big, NULL, &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_linear_apply(linear, x, 0, y, NULL, &err), PITH_E_ARGUMENT);
	free(big);
	pith_linear_free(linear);
	close_toy(o);
}

/* ---- files that are not as they should be ---- */

static void test_not_finite_does_not_advance(void **state)
{
	struct toy toy = toys[0];
	struct pith_session_options options = {.sequence_count = 1, .context_length = 8, .batch_count = 4};
	struct pith_session *session;
	struct pith_row rows[2] = {{0, 1, false}, {0, 2, true}};
	const float *logits;
	struct pith_error err;
	(void)state;
	toy.not_finite = true;
	struct opened o = open_toy(&toy, NULL);
	require_ok(pith_session_new(o.model, &options, &session, &err), &err);
	require_ok(pith_session_step(session, rows, 1, &logits, &err), &err); /* asks for no logits */
	assert_int_equal(pith_session_step(session, rows + 1, 1, &logits, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "numerics");
	assert_null(logits);
	assert_int_equal(pith_session_length(session, 0), 1);
	pith_session_free(session);
	close_toy(o);
}

static pith_status open_status(const struct toy *toy, bool no_verify, struct pith_error *err)
{
	char path[512];
	struct pith_file *file;
	struct pith_model *model;
	struct pith_model_options options = {.no_verify = no_verify};
	toy_write(toy, temporary(path, "toy.pith"));
	require_ok(pith_file_open(path, 0, &file, err), err);
	pith_status status = pith_model_open(file, &options, &model, err);
	pith_model_close(model);
	pith_file_close(file);
	return status;
}

static void test_refusals(void **state)
{
	struct pith_error err;
	struct toy toy = toys[0];
	(void)state;
	toy.bad_canary = true;
	assert_int_equal(open_status(&toy, false, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "canary.1");
	assert_int_equal(open_status(&toy, true, &err), PITH_OK);

	toy = toys[0];
	toy.leave_out = "model.layers.1.mlp.up_proj.weight";
	assert_int_equal(open_status(&toy, false, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "llama.1");
	assert_non_null(strstr(err.msg, toy.leave_out));

	toy = toys[0];
	toy.extra_key = "attention.sinks";
	assert_int_equal(open_status(&toy, false, &err), PITH_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, toy.extra_key));

	toy = toys[0];
	toy.kv_dtype = PITH_DTYPE_BF16;
	assert_int_equal(open_status(&toy, false, &err), PITH_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "kv_dtype 3"));

	toy = toys[0];
	toy.eps = 0;
	assert_int_equal(open_status(&toy, false, &err), PITH_E_CORRUPT);
	toy = toys[0];
	toy.ratio = (double)NAN;
	assert_int_equal(open_status(&toy, false, &err), PITH_E_CORRUPT);

	toy = toys[1];
	toy.block[0].head_dim = 7;
	assert_int_equal(open_status(&toy, false, &err), PITH_E_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),        cmocka_unit_test(test_oracle_sees),
		cmocka_unit_test(test_same_bits), cmocka_unit_test(test_kv_types), cmocka_unit_test(test_some_logits),     cmocka_unit_test(test_mixed_is_near),
		cmocka_unit_test(test_linear_apply),  cmocka_unit_test(test_linear_not_finite),
		cmocka_unit_test(test_not_finite_does_not_advance),
		cmocka_unit_test(test_refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
