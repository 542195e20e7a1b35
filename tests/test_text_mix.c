/*
 * The mixer and recall against an implementation in Python that follows the prose (tests/oracle_mix.py, oracle_recall.py):
 * the same code to the byte, and that code gives the tokens back.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "avx2_loops.h"
#include "mix.h"
#include "mix_state.h"
#include "recall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_TOKENS = 64, STREAMS = 3, MAX_STEPS = 512, MAX_CODE = 8192, COLUMNS = 70 };

struct vectors {
	uint8_t bytes[MAX_TOKENS][16];
	size_t nbytes[MAX_TOKENS], count;
	uint32_t token[STREAMS][MAX_STEPS];
	size_t steps[STREAMS], begin[STREAMS], streams, text_nbytes;
	struct {
		uint8_t bytes[MAX_CODE];
		size_t nbytes;
	} code[2]; /* the second: with recall */
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
			v.code[0].nbytes = parse_hex(line + 5, v.code[0].bytes, MAX_CODE);
		} else if (strncmp(line, "recall ", 7) == 0) {
			v.code[1].nbytes = parse_hex(line + 7, v.code[1].bytes, MAX_CODE);
		}
	}
	fclose(f);
	v.lm = (struct text_lm){.ctx = &v, .vocab_count = v.count, .token_bytes = vector_bytes};
	*state = &v;
	return v.streams == STREAMS && v.code[0].nbytes > 100 && v.code[1].nbytes > 100 &&
	       vocab_tree_new(&v.lm, &v.tree, NULL) == PITH_OK && mix_plan_new(&v.lm, &v.tree, &v.plan, NULL) == PITH_OK ? 0 : -1;
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

/* State of a stream behind a token: state() of tests/oracle_recall.py. */
static void make_state(uint32_t token, uint32_t *seed, float *h)
{
	for (uint32_t i = 0; i < COLUMNS; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		int32_t here = (int32_t)(mix_hash(token, i) >> 16) - 32768;
		h[i] = (float)(4 * here + (int32_t)(*seed >> 16) - 32768) * 0x1p-14f;
	}
}

/* What a coder or decoder holds. */
struct side {
	struct mix *mix;
	struct recall recall;
	uint32_t seed, state_seed, sums[MAX_TOKENS + 1], recalled[MAX_TOKENS + 1], scratch[RECALL_COUNT + 64];
};

static struct side *open_side(const struct vectors *v, bool has_recall, const struct recall_loops *loops)
{
	static struct side s;
	s = (struct side){.seed = 1, .state_seed = 2};
	assert_int_equal(mix_new(v->plan, v->begin, STREAMS, v->text_nbytes, has_recall, 0, &s.mix, NULL), PITH_OK);
	assert_int_equal(recall_open(&s.recall, loops, STREAMS, COLUMNS, v->text_nbytes, 1, NULL), PITH_OK);
	return &s;
}

static void close_side(struct side *s)
{
	mix_free(s->mix);
	recall_close(&s->recall);
}

/* All that is known before token t of a stream. */
static void advance(const struct vectors *v, struct side *s, size_t stream, size_t t)
{
	float h[COLUMNS];
	noise(v, &s->seed, s->sums);
	make_state(t > 0 ? v->token[stream][t - 1] : 0, &s->state_seed, h);
	recall_add(&s->recall, stream, t, h);
	recall_sums(&s->recall, stream, t, &v->tree, v->token[stream], s->scratch, s->recalled);
}

static void encode_all(const struct vectors *v, bool has_recall, const struct recall_loops *loops)
{
	static uint8_t out[MAX_CODE];
	struct side *side = open_side(v, has_recall, loops);
	struct range_encoder encoder;
	range_encoder_start(&encoder, out, sizeof(out));
	for (size_t t = 0; t < MAX_STEPS; t++) {
		for (size_t s = 0; s < STREAMS; s++) {
			struct decision path[MAX_TOKENS], recalled[MAX_TOKENS];
			if (t >= v->steps[s])
				continue;
			advance(v, side, s, t);
			vocab_tree_path(&v->tree, side->sums, v->token[s][t], path);
			vocab_tree_path(&v->tree, side->recalled, v->token[s][t], recalled);
			mix_encode(side->mix, s, v->token[s][t], path, has_recall ? recalled : NULL, &encoder);
		}
	}
	range_encoder_finish(&encoder);
	close_side(side);
	assert_int_equal(encoder.out_nbytes, v->code[has_recall].nbytes);
	assert_memory_equal(out, v->code[has_recall].bytes, encoder.out_nbytes);
}

static void code_is_that_of_the_prose(void **state)
{
	bool is_wide;
	encode_all(*state, false, &recall_loops_portable);
	encode_all(*state, true, &recall_loops_portable);
	assert_int_equal(text_allows_avx2(&is_wide, NULL), PITH_OK);
	if (is_wide && recall_loops_avx2() != NULL)
		encode_all(*state, true, recall_loops_avx2());
}

static void decode_all(const struct vectors *v, bool has_recall)
{
	struct side *side = open_side(v, has_recall, &recall_loops_portable);
	struct range_decoder decoder;
	range_decoder_start(&decoder, v->code[has_recall].bytes, v->code[has_recall].nbytes);
	for (size_t t = 0; t < MAX_STEPS; t++) {
		for (size_t s = 0; s < STREAMS; s++) {
			if (t >= v->steps[s])
				continue;
			advance(v, side, s, t);
			uint32_t id = mix_decode(side->mix, s, side->sums, has_recall ? side->recalled : NULL, &decoder);
			assert_int_equal(id, v->token[s][t]);
			mix_accept(side->mix, id);
		}
	}
	close_side(side);
}

static void tokens_come_back(void **state)
{
	decode_all(*state, false);
	decode_all(*state, true);
}

/* Keys that are too old say nothing, and where the ring of keys begins anew changes nothing. */
static void old_keys_are_forgotten(void **state)
{
	enum { COUNT = RECALL_COUNT + 900 };
	const struct vectors *v = *state;
	static uint32_t ids[COUNT], scratch[RECALL_COUNT + 64], sums[3][MAX_TOKENS + 1];
	struct recall recall[3];
	uint32_t seed = 7;
	for (size_t k = 0; k < 3; k++)
		assert_int_equal(recall_open(&recall[k], &recall_loops_portable, 1, COLUMNS, COUNT, 1 + 300 * k, NULL), PITH_OK);
	for (size_t t = 0; t < COUNT; t++) {
		float h[COLUMNS];
		/* the first tokens are of a kind and so are their states, which later ones are like at the end */
		uint32_t kind = t < 64 || t % 512 == 511 ? 1 : 2 + (uint32_t)t % 31;
		ids[t] = t < 64 ? 1 : 2;
		make_state(kind, &seed, h);
		for (size_t k = 0; k < 3; k++)
			recall_add(&recall[k], 0, t, h);
		if (t % 512 != 511)
			continue;
		for (size_t k = 0; k < 3; k++)
			recall_sums(&recall[k], 0, t, &v->tree, ids, scratch, sums[k]);
		assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
		assert_memory_equal(sums[0], sums[2], sizeof(sums[0]));
		uint32_t place = v->tree.position[1];
		assert_int_equal(sums[0][place + 1] > sums[0][place], t < RECALL_COUNT + 63);
	}
	for (size_t k = 0; k < 3; k++)
		recall_close(&recall[k]);
}

/* Keys of any bytes: what compilers made of the loops is what they say, also where a count is odd. */
static void loops_are_the_same(void **state)
{
	enum { COUNT = 61, WIDTH = 320 };
	static int8_t keys[COUNT][WIDTH];
	static int16_t query[COUNT][WIDTH];
	static uint64_t signs[COUNT][WIDTH / 64];
	const struct recall_loops *plain = &recall_loops_portable, *wide = recall_loops_avx2();
	uint32_t hits[2][COUNT], seed = 3;
	bool is_wide;
	(void)state;
	assert_int_equal(text_allows_avx2(&is_wide, NULL), PITH_OK);
	if (!is_wide || wide == NULL)
		return;
	for (size_t i = 0; i < COUNT * WIDTH; i++) {
		seed = seed * 1664525u + 1013904223u;
		int8_t q = i < WIDTH ? -127 : i < 2 * WIDTH ? 127 : (int8_t)((int32_t)(seed >> 16) % 255 - 127);
		keys[i / WIDTH][i % WIDTH] = q;
		query[i / WIDTH][i % WIDTH] = q;
		signs[i / WIDTH][i % WIDTH / 64] |= (uint64_t)(q < 0) << i % 64;
	}
	for (size_t a = 0; a < COUNT; a++) {
		for (size_t b = 0; b < COUNT; b++) {
			int32_t sum = 0;
			for (size_t i = 0; i < WIDTH; i++)
				sum += keys[a][i] * keys[b][i];
			assert_int_equal(plain->dot(query[a], keys[b], WIDTH), sum);
			assert_int_equal(wide->dot(query[a], keys[b], WIDTH), sum);
		}
		for (size_t words = 1; words <= WIDTH / 64; words++) {
			size_t n = plain->near(signs[a], signs[0], words, COUNT, (uint32_t)words * 31, 5, hits[0]);
			assert_int_equal(wide->near(signs[a], signs[0], words, COUNT, (uint32_t)words * 31, 5, hits[1]), n);
			assert_memory_equal(hits[0], hits[1], n * sizeof(uint32_t));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(code_is_that_of_the_prose),
		cmocka_unit_test(tokens_come_back),
		cmocka_unit_test(old_keys_are_forgotten),
		cmocka_unit_test(loops_are_the_same),
	};
	return cmocka_run_group_tests(tests, load, unload);
}
