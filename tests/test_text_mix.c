/*
 * The mixer against an implementation in Python that follows the prose (tests/oracle_mix.py): the same code to the byte,
 * and that code gives the tokens back.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_TOKENS = 64, STREAMS = 3, MAX_STEPS = 512, MAX_CODE = 8192 };

struct vectors {
	uint8_t bytes[MAX_TOKENS][16];
	size_t nbytes[MAX_TOKENS], count;
	uint32_t token[STREAMS][MAX_STEPS];
	size_t steps[STREAMS], begin[STREAMS], streams, text_nbytes;
	uint8_t code[MAX_CODE];
	size_t code_nbytes;
	struct text_lm lm;
	struct vocab_tree tree;
	struct mix_plan *plan;
};

static size_t parse_hex(const char *text, uint8_t *out, size_t cap)
{
	size_t n = 0;
	unsigned byte;
	for (; n < cap && sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static void parse_stream(struct vectors *v, char *text)
{
	size_t s = v->streams++;
	char *end;
	v->begin[s] = v->text_nbytes;
	for (uint32_t id = (uint32_t)strtoul(text, &end, 10); end != text; id = (uint32_t)strtoul(text, &end, 10)) {
		v->token[s][v->steps[s]++] = id;
		v->text_nbytes += v->nbytes[id];
		text = end;
	}
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
	static char line[2 * MAX_CODE];
	FILE *f = fopen("tests/mix_vectors.txt", "r");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "token ", 6) == 0) {
			v.nbytes[v.count] = line[6] == '-' ? 0 : parse_hex(line + 6, v.bytes[v.count], 16);
			v.count++;
		} else if (strncmp(line, "stream ", 7) == 0) {
			parse_stream(&v, line + 7);
		} else if (strncmp(line, "code ", 5) == 0) {
			v.code_nbytes = parse_hex(line + 5, v.code, sizeof(v.code));
		}
	}
	fclose(f);
	v.lm = (struct text_lm){.ctx = &v, .vocab_count = v.count, .token_bytes = vector_bytes};
	*state = &v;
	return v.streams == STREAMS && v.code_nbytes > 100 && vocab_tree_new(&v.lm, &v.tree, NULL) == PITH_OK &&
	       mix_plan_new(&v.lm, &v.tree, &v.plan, NULL) == PITH_OK ? 0 : -1;
}

static int unload(void **state)
{
	struct vectors *v = *state;
	mix_plan_free(v->plan);
	vocab_tree_free(&v->tree);
	return 0;
}

/* Prefix sums of the next token's frequencies: noise() of tests/make_mix_vectors.py. */
static void noise(const struct vectors *v, uint32_t *seed, uint32_t *sums)
{
	uint32_t w[MAX_TOKENS];
	for (size_t i = 0; i < v->count; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		w[i] = 1 + (uint32_t)((uint64_t)(*seed >> 8) * (*seed >> 8) >> 22);
	}
	sums[0] = 0;
	for (size_t j = 0; j < v->count; j++)
		sums[j + 1] = sums[j] + w[v->tree.order[j]];
}

static void code_is_that_of_the_prose(void **state)
{
	const struct vectors *v = *state;
	static uint8_t out[MAX_CODE];
	struct mix *mix;
	struct range_encoder encoder;
	uint32_t seed = 1, sums[MAX_TOKENS + 1];
	assert_int_equal(mix_new(v->plan, v->begin, STREAMS, v->text_nbytes, 0, &mix, NULL), PITH_OK);
	range_encoder_start(&encoder, out, sizeof(out));
	for (size_t t = 0; t < MAX_STEPS; t++) {
		for (size_t s = 0; s < STREAMS; s++) {
			struct decision path[MAX_TOKENS];
			if (t >= v->steps[s])
				continue;
			noise(v, &seed, sums);
			vocab_tree_path(&v->tree, sums, v->token[s][t], path);
			mix_encode(mix, s, v->token[s][t], path, &encoder);
		}
	}
	range_encoder_finish(&encoder);
	mix_free(mix);
	assert_int_equal(encoder.out_nbytes, v->code_nbytes);
	assert_memory_equal(out, v->code, v->code_nbytes);
}

static void tokens_come_back(void **state)
{
	const struct vectors *v = *state;
	struct mix *mix;
	struct range_decoder decoder;
	uint32_t seed = 1, sums[MAX_TOKENS + 1];
	assert_int_equal(mix_new(v->plan, v->begin, STREAMS, v->text_nbytes, 0, &mix, NULL), PITH_OK);
	range_decoder_start(&decoder, v->code, v->code_nbytes);
	for (size_t t = 0; t < MAX_STEPS; t++) {
		for (size_t s = 0; s < STREAMS; s++) {
			if (t >= v->steps[s])
				continue;
			noise(v, &seed, sums);
			assert_int_equal(mix_decode(mix, s, sums, &decoder), v->token[s][t]);
			mix_accept(mix, v->token[s][t]);
		}
	}
	mix_free(mix);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(code_is_that_of_the_prose),
		cmocka_unit_test(tokens_come_back),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
