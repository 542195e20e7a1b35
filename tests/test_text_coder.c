/*
 * The coder against an implementation in Python that follows the prose (tests/make_text_vectors.py): frequencies, tree
 * and arithmetic coder give the same code to the byte; and against log2 in binary64.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "avx2_loops.h"
#include "frequencies.h"
#include "vocab_tree.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_TOKENS = 64, MAX_STEPS = 512, MAX_CODE = 4096 };

struct vectors {
	uint8_t bytes[MAX_TOKENS][16];
	size_t nbytes[MAX_TOKENS];
	size_t count, steps, code_nbytes;
	uint32_t token[MAX_STEPS], sum[MAX_STEPS];
	float logits[MAX_STEPS][MAX_TOKENS];
	uint8_t code[MAX_CODE];
};

static size_t parse_hex(const char *text, uint8_t *out, size_t cap)
{
	size_t n = 0;
	unsigned byte;
	for (; n < cap && sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static void parse_step(struct vectors *v, char *text)
{
	char *p = text;
	v->token[v->steps] = (uint32_t)strtoul(p, &p, 10);
	v->sum[v->steps] = (uint32_t)strtoul(p, &p, 10);
	for (size_t i = 0; i < v->count; i++)
		v->logits[v->steps][i] = f32_of_bits((uint32_t)strtoul(p, &p, 16));
	v->steps++;
}

static const uint8_t *vector_bytes(const void *ctx, uint32_t id, size_t *nbytes)
{
	const struct vectors *v = ctx;
	*nbytes = v->nbytes[id];
	return v->nbytes[id] > 0 ? v->bytes[id] : NULL;
}

static int load(void **state)
{
	static struct vectors v;
	static char line[8192];
	FILE *f = fopen("tests/text_vectors.txt", "r");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "token ", 6) == 0 && v.count < MAX_TOKENS) {
			v.nbytes[v.count] = line[6] == '-' ? 0 : parse_hex(line + 6, v.bytes[v.count], 16);
			v.count++;
		} else if (strncmp(line, "step ", 5) == 0 && v.steps < MAX_STEPS) {
			parse_step(&v, line + 5);
		} else if (strncmp(line, "code ", 5) == 0) {
			v.code_nbytes = parse_hex(line + 5, v.code, sizeof(v.code));
		}
	}
	fclose(f);
	*state = &v;
	return v.count > 20 && v.steps > 100 && v.code_nbytes > 100 ? 0 : -1;
}

static void code_is_that_of_the_prose(void **state)
{
	const struct vectors *v = *state;
	struct text_lm lm = {.ctx = v, .vocab_count = v->count, .token_bytes = vector_bytes};
	struct vocab_tree tree;
	static uint32_t scratch[MAX_TOKENS], sums[MAX_STEPS][MAX_TOKENS + 1];
	static uint8_t out[MAX_CODE];
	struct range_encoder encoder;
	struct range_decoder decoder;
	assert_int_equal(vocab_tree_new(&lm, &tree, NULL), PITH_OK);
	range_encoder_start(&encoder, out, sizeof(out));
	for (size_t s = 0; s < v->steps; s++) {
		struct decision path[MAX_TOKENS];
		assert_true(text_frequencies(v->logits[s], v->count, tree.order, scratch, sums[s]));
		assert_int_equal(sums[s][v->count], v->sum[s]);
		size_t depth = vocab_tree_depth(&tree, v->token[s]);
		assert_true(depth <= tree.depth_max && depth < MAX_TOKENS);
		vocab_tree_path(&tree, sums[s], v->token[s], path);
		for (size_t d = 0; d < depth; d++)
			range_encode(&encoder, path[d].z, path[d].n, path[d].bit);
	}
	range_encoder_finish(&encoder);
	assert_int_equal(encoder.out_nbytes, v->code_nbytes);
	assert_memory_equal(out, v->code, v->code_nbytes);
	range_decoder_start(&decoder, v->code, v->code_nbytes);
	for (size_t s = 0; s < v->steps; s++)
		assert_int_equal(vocab_tree_decode(&tree, sums[s], &decoder), v->token[s]);
	vocab_tree_free(&tree);
}

/* Frequencies are the model's probabilities: relative error below 3e-4 where they are not tiny. */
static void frequencies_are_probabilities(void **state)
{
	enum { COUNT = 5000 };
	static float logits[COUNT];
	static uint32_t order[COUNT], scratch[COUNT], sums[COUNT + 1];
	uint32_t h = 1;
	(void)state;
	for (uint32_t i = 0; i < COUNT; i++) {
		h = h * 1664525u + 1013904223u;
		logits[i] = (float)(h >> 8) * 0x1p-20f; /* 0 .. 16 */
		order[i] = i;
	}
	double total = 0;
	for (size_t i = 0; i < COUNT; i++)
		total += exp((double)logits[i]);
	assert_true(text_frequencies(logits, COUNT, order, scratch, sums));
	for (size_t i = 0; i < COUNT; i++) {
		double p = exp((double)logits[i]) / total;
		double q = (double)(sums[i + 1] - sums[i]) / (double)sums[COUNT];
		assert_true(fabs(q / p - 1) < 3e-4 || fabs(q - p) < 4e-9);
	}
	bool is_wide;
	static uint32_t again[COUNT + 1];
	assert_int_equal(text_allows_avx2(&is_wide, NULL), PITH_OK);
	if (is_wide && text_frequencies_avx2() != NULL) {
		assert_true(text_frequencies_avx2()(logits, COUNT, order, scratch, again));
		assert_memory_equal(sums, again, sizeof(sums));
	}
	logits[7] = (float)INFINITY;
	assert_false(text_frequencies(logits, COUNT, order, scratch, sums));
}

/* Sure decisions must cost next to nothing and unlikely ones stay possible, in any order. */
static void extreme_decisions_come_back(void **state)
{
	enum { COUNT = 20000 };
	static uint8_t out[1 << 17];
	static const uint32_t n[4] = {2, 1u << 30, UINT32_MAX, 3};
	struct range_encoder encoder;
	struct range_decoder decoder;
	(void)state;
	range_encoder_start(&encoder, out, sizeof(out));
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t m = n[i % 4], z = i % 3 == 0 ? 1 : m - 1;
		range_encode(&encoder, z, m, i % 7 == 0);
	}
	range_encoder_finish(&encoder);
	assert_true(encoder.out_nbytes <= sizeof(out));
	range_decoder_start(&decoder, out, encoder.out_nbytes);
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t m = n[i % 4], z = i % 3 == 0 ? 1 : m - 1;
		assert_int_equal(range_decode(&decoder, z, m), i % 7 == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(code_is_that_of_the_prose),
		cmocka_unit_test(frequencies_are_probabilities),
		cmocka_unit_test(extreme_decisions_come_back),
	};
	return cmocka_run_group_tests(tests, load, NULL);
}
