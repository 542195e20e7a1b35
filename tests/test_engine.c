/*
 * The engine on a trained model, converted here: the framework's greedy text, logits and
 * perplexity (models/tiny1m/reference.json), equal bits for all kernel sets, threads, batches and
 * mixtures of sequences, and errors that leave a session as it was.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "convert.h"
#include "engine_support.h"
#include "format.h"
#include "json.h"
#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>

#define SOURCE "models/tiny1m"
#define TEXT "bench/texts/docs-eips-00.txt"
#define VOCAB 1024u
#define MAX_ROWS 64u

struct fixture {
	char path[3][512]; /* bf16, rtn 8 bits, rtn 3 bits */
	struct pith_file *file[3];
	struct pith_tokenizer *tokenizer;
	json_t *reference;
	uint32_t *ids; /* of the text */
	size_t id_count;
	uint32_t *nbytes; /* [VOCAB] */
};

/* ---- setting up ---- */

static void encode_text(struct fixture *f)
{
	struct pith_error err;
	char *text;
	size_t nbytes;
	require_ok(text_file_read(TEXT, (size_t)1 << 24, &text, &nbytes, &err), &err);
	size_t cap = pith_tokenizer_encode_bound(f->tokenizer, nbytes, 0);
	f->ids = calloc(cap, sizeof(*f->ids));
	require_ok(pith_tokenizer_encode(f->tokenizer, text, nbytes, 0, f->ids, cap, &f->id_count, &err),
	           &err);
	free(text);
	f->nbytes = calloc(VOCAB, sizeof(*f->nbytes));
	for (uint32_t id = 0; id < VOCAB; id++) {
		size_t n;
		pith_tokenizer_token_bytes(f->tokenizer, id, &n);
		f->nbytes[id] = pith_tokenizer_is_control(f->tokenizer, id) ? 0 : (uint32_t)n;
	}
}

static int set_up(void **state)
{
	static const char *const schemes[] = {"bf16", "rtn:bits=8,group=32", "rtn:bits=3,group=64"};
	static const char *const names[] = {"bf16.pith", "rtn8.pith", "rtn3.pith"};
	struct fixture *f = calloc(1, sizeof(*f));
	struct pith_error err;
	const void *blob;
	char *text;
	size_t nbytes;
	for (size_t i = 0; i < 3; i++) {
		struct convert_options options = {.scheme = schemes[i], .threads = 1};
		struct convert_result result;
		temporary(f->path[i], names[i]);
		require_ok(convert_model(SOURCE, f->path[i], &options, &result, &err), &err);
		require_ok(pith_file_open(f->path[i], 0, &f->file[i], &err), &err);
	}
	require_ok(pith_file_section(f->file[0], PITH_SECTION_TOKN, &blob, &nbytes, &err), &err);
	require_ok(pith_tokenizer_open(blob, nbytes, &f->tokenizer, &err), &err);
	require_ok(text_file_read(SOURCE "/reference.json", 1 << 20, &text, &nbytes, &err), &err);
	require_ok(jdoc_parse(text, nbytes, "reference.json", &f->reference, &err), &err);
	free(text);
	encode_text(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	json_decref(f->reference);
	pith_tokenizer_close(f->tokenizer);
	for (size_t i = 0; i < 3; i++) {
		pith_file_close(f->file[i]);
		remove(f->path[i]);
	}
	free(f->ids);
	free(f->nbytes);
	free(f);
	return 0;
}

static struct pith_model *open_model(const struct pith_file *file, const char *mask)
{
	struct pith_model_options options = {.kernels = mask};
	struct pith_model *model;
	struct pith_error err;
	require_ok(pith_model_open(file, &options, &model, &err), &err);
	return model;
}

static struct pith_session *open_session(const struct pith_model *model, size_t sequences,
                                         size_t context, size_t batch,
                                         const struct pith_executor *executor)
{
	struct pith_session_options options = {.sequence_count = sequences, .context_length = context,
	                                       .batch_count = batch, .executor = executor};
	struct pith_session *session;
	struct pith_error err;
	require_ok(pith_session_new(model, &options, &session, &err), &err);
	return session;
}

/* Feed ids to one sequence, 'batch' at a time; out: [count, VOCAB] logits, or NULL. */
static void feed(struct pith_session *session, uint32_t sequence, const uint32_t *ids, size_t count,
                 size_t batch, float *out)
{
	struct pith_row rows[MAX_ROWS];
	struct pith_error err;
	for (size_t done = 0; done < count;) {
		size_t k = 0;
		const float *logits;
		for (; k < batch && done + k < count; k++)
			rows[k] = (struct pith_row){sequence, ids[done + k], true};
		require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
		for (size_t r = 0; r < k && out != NULL; r++)
			memcpy(out + (done + r) * VOCAB, logits + r * pith_session_logit_stride(session),
			       VOCAB * sizeof(float));
		done += k;
	}
}

/* ---- against the framework that trained the model ---- */

static void test_reference_text(void **state)
{
	const struct fixture *f = *state;
	const json_t *prompt = json_object_get(f->reference, "prompt_ids");
	const json_t *wanted = json_object_get(f->reference, "last_logits_first_64");
	const json_t *greedy = json_object_get(f->reference, "greedy_ids_48");
	const char *text = json_string_value(json_object_get(f->reference, "prompt"));
	struct pith_model *model = open_model(f->file[0], NULL);
	struct pith_session *session = open_session(model, 1, 128, 32, NULL);
	uint32_t ids[64];
	size_t count;
	struct pith_error err;
	struct pith_sampler sampler = {0};
	float logits[VOCAB];

	require_ok(pith_tokenizer_encode(f->tokenizer, text, strlen(text), 0, ids, 64, &count, &err), &err);
	assert_int_equal(count, json_array_size(prompt));
	for (size_t i = 0; i < count; i++)
		assert_int_equal(ids[i], json_integer_value(json_array_get(prompt, i)));
	feed(session, 0, ids, count - 1, 32, NULL);
	feed(session, 0, ids + count - 1, 1, 1, logits);
	assert_int_equal(json_array_size(wanted), 64);
	for (size_t i = 0; i < 64; i++) {
		double difference = (double)logits[i] - json_number_value(json_array_get(wanted, i));
		if (!(fabs(difference) < 1e-3))
			fail_msg("logit %zu is off by %g", i, difference);
	}
	assert_int_equal(json_array_size(greedy), 48);
	for (size_t i = 0; i < 48; i++) {
		uint32_t id = pith_sample(&sampler, logits, VOCAB, NULL);
		assert_int_equal(id, json_integer_value(json_array_get(greedy, i)));
		feed(session, 0, &id, 1, 1, logits);
	}
	pith_session_free(session);
	pith_model_close(model);
}

/* All sets have the same bits (below), so the best one stands for all here: the text is long. */
static void test_reference_perplexity(void **state)
{
	if (getenv("PITH_SANITIZED") != NULL)
		skip(); /* minutes, of code that the other tests run, too */
	const struct fixture *f = *state;
	const json_t *wanted = json_object_get(json_object_get(f->reference, "texts"), "docs_eips_00");
	struct pith_team *team;
	struct pith_error err;
	struct pith_eval_result result;
	struct pith_model *model = open_model(f->file[0], "");
	require_ok(pith_team_new(2, &team, &err), &err);
	struct pith_eval_options options = {.window = 512, .executor = pith_team_executor(team)};
	require_ok(pith_eval(model, f->ids, f->id_count, f->nbytes, &options, &result, &err), &err);
	assert_int_equal(result.tokens, json_integer_value(json_object_get(wanted, "tokens")));
	assert_int_equal(result.predicted, json_integer_value(json_object_get(wanted, "predicted")));
	double perplexity = json_number_value(json_object_get(wanted, "perplexity"));
	double bits = json_number_value(json_object_get(wanted, "bits_per_byte"));
	assert_true(fabs(result.perplexity / perplexity - 1) < 1e-3);
	assert_true(fabs(result.bits_per_byte / bits - 1) < 1e-3);
	assert_true(result.perplexity_low < result.perplexity &&
	            result.perplexity < result.perplexity_high);
	pith_team_free(team);
	pith_model_close(model);
}

/* Windows side by side or one by one: the same sum.  KL of a model and itself is 0, of a coarser one is not. */
static void test_eval_options(void **state)
{
	const struct fixture *f = *state;
	struct pith_model *model = open_model(f->file[0], NULL), *coarse = open_model(f->file[2], NULL);
	struct pith_eval_result one, many, self, other;
	struct pith_error err;
	struct pith_eval_options options = {.window = 50, .sequences = 1};
	require_ok(pith_eval(model, f->ids, 210, f->nbytes, &options, &one, &err), &err);
	options.sequences = 3;
	require_ok(pith_eval(model, f->ids, 210, f->nbytes, &options, &many, &err), &err);
	assert_int_equal(one.predicted, 205);
	assert_int_equal(many.predicted, one.predicted);
	assert_int_equal(many.bytes, one.bytes);
	assert_true(fabs(many.nll / one.nll - 1) < 1e-12);
	options.against = model;
	require_ok(pith_eval(model, f->ids, 210, f->nbytes, &options, &self, &err), &err);
	assert_true(self.kl == 0 && self.top1_agreement == 1);
	require_ok(pith_eval(coarse, f->ids, 210, f->nbytes, &options, &other, &err), &err);
	assert_true(other.kl > 1e-3 && other.top1_agreement < 1 && other.nll > one.nll);
	options.window = 1;
	assert_int_equal(pith_eval(model, f->ids, 210, f->nbytes, &options, &other, &err),
	                 PITH_E_ARGUMENT);
	assert_int_equal(pith_eval(model, f->ids, 1, f->nbytes, &options, &other, &err), PITH_E_ARGUMENT);
	pith_model_close(model);
	pith_model_close(coarse);
}

static void test_eight_bits_are_enough(void **state)
{
	const struct fixture *f = *state;
	struct pith_model *model = open_model(f->file[0], ""), *rounded = open_model(f->file[1], "");
	struct pith_eval_result exact, result;
	struct pith_error err;
	struct pith_eval_options options = {.window = 256};
	require_ok(pith_eval(model, f->ids, 2048, f->nbytes, &options, &exact, &err), &err);
	require_ok(pith_eval(rounded, f->ids, 2048, f->nbytes, &options, &result, &err), &err);
	assert_true(result.perplexity < exact.perplexity * 1.003);
	assert_true(result.perplexity != exact.perplexity);
	pith_model_close(model);
	pith_model_close(rounded);
}

/* ---- the same bits ---- */

#define SAME 34u /* positions compared */

static void compare_bits(const float *a, const float *b, size_t rows, const char *what)
{
	for (size_t i = 0; i < rows * VOCAB; i++)
		if (bits_of_f32(a[i]) != bits_of_f32(b[i]))
			fail_msg("%s: position %zu, logit %zu: %a and %a", what, i / VOCAB, i % VOCAB,
			         (double)a[i], (double)b[i]);
}

static void test_same_bits(void **state)
{
	const struct fixture *f = *state;
	const struct pith_kernels *sets[8];
	size_t set_count = pith_kernels_available(sets);
	float *expected = calloc(SAME * VOCAB, sizeof(float)), *got = calloc(SAME * VOCAB, sizeof(float));
	for (size_t file = 0; file < 3; file++) {
		for (size_t k = set_count; k-- > 0;) {
			char mask[64], what[96];
			struct pith_model *model = open_model(f->file[file], mask_for_set(k, mask));
			bool first = k == set_count - 1;
			for (size_t threads = 1; threads <= 4; threads++) {
				struct pith_team *team;
				struct pith_error err;
				require_ok(pith_team_new(threads, &team, &err), &err);
				/* the slow reference does fewer */
				for (size_t batch = 1; batch <= 33; batch += first ? 32 : threads == 2 ? 4 : 16) {
					struct pith_session *s =
						open_session(model, 1, SAME, batch, pith_team_executor(team));
					bool base = first && threads == 1 && batch == 1;
					feed(s, 0, f->ids, SAME, batch, base ? expected : got);
					snprintf(what, sizeof(what), "file %zu, %s, %zu threads, batch %zu", file,
					         sets[k]->name, threads, batch);
					if (!base)
						compare_bits(got, expected, SAME, what);
					pith_session_free(s);
					if (first && threads > 1)
						break;
				}
				pith_team_free(team);
			}
			pith_model_close(model);
		}
	}
	free(expected);
	free(got);
}

/* Rows of many sequences in random order and amounts: each sequence as if it were alone. */
static void test_mixed_sequences(void **state)
{
	enum { SEQUENCES = 5, EACH = 30 };
	const struct fixture *f = *state;
	struct pith_model *model = open_model(f->file[1], NULL);
	struct pith_session *alone = open_session(model, 1, EACH, 1, NULL);
	struct pith_session *mixed = open_session(model, SEQUENCES, EACH, 17, NULL);
	float *expected = calloc(SEQUENCES * EACH * VOCAB, sizeof(float));
	size_t fed[SEQUENCES] = {0}, left = SEQUENCES * EACH;
	uint64_t random = 99;
	struct pith_error err;
	for (size_t s = 0; s < SEQUENCES; s++) {
		pith_session_truncate(alone, 0, 0);
		feed(alone, 0, f->ids + 100 * s, EACH, 1, expected + s * EACH * VOCAB);
	}
	while (left > 0) {
		struct pith_row rows[17];
		const float *logits, *wanted[17];
		size_t k = 0, want = 0, cap = 1 + random_below(&random, 17);
		for (; k < cap && left > 0; k++, left--) {
			uint32_t s = random_below(&random, SEQUENCES);
			while (fed[s] == EACH)
				s = (s + 1) % SEQUENCES;
			rows[k] = (struct pith_row){s, f->ids[100 * s + fed[s]], random_below(&random, 3) > 0};
			if (rows[k].want_logits)
				wanted[want++] = expected + (s * EACH + fed[s]) * VOCAB;
			fed[s]++;
		}
		require_ok(pith_session_step(mixed, rows, k, &logits, &err), &err);
		assert_true((logits != NULL) == (want > 0));
		for (size_t r = 0; r < want; r++)
			compare_bits(logits + r * pith_session_logit_stride(mixed), wanted[r], 1, "mixed");
	}
	for (size_t s = 0; s < SEQUENCES; s++)
		assert_int_equal(pith_session_length(mixed, s), EACH);
	free(expected);
	pith_session_free(alone);
	pith_session_free(mixed);
	pith_model_close(model);
}

static void test_truncate_and_replay(void **state)
{
	const struct fixture *f = *state;
	struct pith_model *model = open_model(f->file[1], NULL);
	struct pith_session *s = open_session(model, 2, 80, 64, NULL);
	float *expected = calloc(60 * VOCAB, sizeof(float)), *got = calloc(60 * VOCAB, sizeof(float));
	feed(s, 1, f->ids, 60, 60, expected);
	pith_session_truncate(s, 1, 70); /* beyond: no effect */
	assert_int_equal(pith_session_length(s, 1), 60);
	pith_session_truncate(s, 1, 33);
	feed(s, 1, f->ids + 500, 40, 40, NULL); /* another future, over the same positions */
	pith_session_truncate(s, 1, 33);
	assert_int_equal(pith_session_length(s, 1), 33);
	feed(s, 1, f->ids + 33, 27, 5, got);
	compare_bits(got, expected + 33 * VOCAB, 27, "replay");
	pith_session_truncate(s, 1, 0);
	feed(s, 1, f->ids, 60, 9, got);
	compare_bits(got, expected, 60, "restart");
	free(expected);
	free(got);
	pith_session_free(s);
	pith_model_close(model);
}

/* ---- errors ---- */

static void test_step_errors(void **state)
{
	const struct fixture *f = *state;
	struct pith_model *model = open_model(f->file[0], NULL);
	struct pith_session_options options = {.sequence_count = 2, .context_length = 10,
	                                       .batch_count = 8, .logit_count = 2};
	struct pith_session *s;
	struct pith_error err;
	const float *logits;
	struct pith_row rows[9] = {0};
	require_ok(pith_session_new(model, &options, &s, &err), &err);
	require_ok(pith_session_step(s, rows, 8, &logits, &err), &err);
	assert_null(logits);

	rows[2].token = VOCAB;
	assert_int_equal(pith_session_step(s, rows, 3, &logits, &err), PITH_E_ARGUMENT);
	rows[2] = (struct pith_row){.sequence = 2};
	assert_int_equal(pith_session_step(s, rows, 3, &logits, &err), PITH_E_ARGUMENT);
	rows[2] = (struct pith_row){0};
	assert_int_equal(pith_session_step(s, rows, 3, &logits, &err), PITH_E_ARGUMENT); /* full */
	assert_int_equal(pith_session_step(s, rows, 0, &logits, &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_session_step(s, rows, 9, &logits, &err), PITH_E_ARGUMENT);
	for (size_t i = 0; i < 3; i++)
		rows[i] = (struct pith_row){1, 0, true};
	assert_int_equal(pith_session_step(s, rows, 3, &logits, &err), PITH_E_ARGUMENT); /* logit_count */
	assert_null(logits);
	assert_int_equal(pith_session_length(s, 0), 8);
	assert_int_equal(pith_session_length(s, 1), 0);
	rows[2].want_logits = false;
	require_ok(pith_session_step(s, rows, 3, &logits, &err), &err);
	assert_non_null(logits);
	assert_int_equal(pith_session_length(s, 1), 3);
	pith_session_free(s);

	options.sequence_count = 0;
	assert_int_equal(pith_session_new(model, &options, &s, &err), PITH_E_ARGUMENT);
	assert_null(s);
	options = (struct pith_session_options){.sequence_count = UINT32_MAX,
	                                        .context_length = UINT32_MAX, .batch_count = 1};
	assert_int_equal(pith_session_nbytes(model, &options), 0);
	pith_session_free(NULL);
	pith_model_close(model);
	pith_model_close(NULL);
}

/* A byte of a weight changes: binding says so, and says which weight. */
static void test_damage_is_found(void **state)
{
	const struct fixture *f = *state;
	struct pith_weight w;
	struct pith_plane_info plane;
	struct pith_error err;
	struct pith_file *file;
	struct pith_model *model;
	char *data;
	size_t nbytes;
	require_ok(text_file_read(f->path[1], (size_t)1 << 24, &data, &nbytes, &err), &err);
	uint8_t *copy = aligned_alloc(64, pith_round_up(nbytes, 64));
	memcpy(copy, data, nbytes);
	require_ok(pith_file_find(f->file[1], "model.layers.2.mlp.up_proj.weight", &w, &err), &err);
	require_ok(pith_weight_plane(&w, 0, 0, &plane, &err), &err);
	copy[plane.off + 1234] ^= 16;
	require_ok(pith_file_open_memory(copy, nbytes, 0, &file, &err), &err);
	assert_int_equal(pith_model_open(file, NULL, &model, &err), PITH_E_CORRUPT);
	assert_null(model);
	assert_non_null(strstr(err.msg, "model.layers.2.mlp.up_proj.weight"));
	struct pith_model_options trusting = {.no_verify = true};
	assert_int_equal(pith_model_open(file, &trusting, &model, &err), PITH_OK);
	pith_model_close(model);
	pith_file_close(file);
	free(data);
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference_text),
		cmocka_unit_test(test_reference_perplexity),
		cmocka_unit_test(test_eval_options),
		cmocka_unit_test(test_eight_bits_are_enough),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_mixed_sequences),
		cmocka_unit_test(test_truncate_and_replay),
		cmocka_unit_test(test_step_errors),
		cmocka_unit_test(test_damage_is_found),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
