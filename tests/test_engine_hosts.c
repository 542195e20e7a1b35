/*
 * What a host program does with a session: its own threads in place of a team, and sequences that come
 * and go at any step (continuous batching).  Every sequence has the bits it has alone.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "bytes.h"
#include "engine_support.h"
#include "format.h"

#include <pthread.h>
#include <stdlib.h>

#define VOCAB 150u
#define CLIENTS 14u
#define LONGEST 40u /* tokens of a client */
#define SLOTS 5u    /* sequences of the session */
#define BATCH 11u

struct fixture {
	struct pith_file *file;
	struct pith_model *model;
	uint32_t tokens[CLIENTS][LONGEST];
	float *expected; /* [CLIENTS, LONGEST, VOCAB], each client alone, token by token */
};

static int set_up(void **state)
{
	static const struct pith_block_entry block = {
		.flags = PITH_BLOCK_ATTENTION | PITH_BLOCK_FFN, .head_count = 4, .kv_head_count = 2,
		.head_dim = 24, .ffn_count = 136,
	};
	struct toy toy = {.d = 96, .vocab = VOCAB, .ratio = 0.5, .eps = 1e-5, .mixed = true, .block_count = 2,
	                  .block = {block, block}};
	struct pith_session_options options = {.sequence_count = 1, .context_length = LONGEST, .batch_count = 1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct pith_session *alone;
	struct pith_error err;
	char path[512];
	uint64_t random = 11;
	const float *logits;
	toy.block[1].attention_of = toy.block[1].ffn_of = 1;
	toy_write(&toy, temporary(path, "hosts.pith"));
	require_ok(pith_file_open(path, 0, &f->file, &err), &err);
	require_ok(pith_model_open(f->file, NULL, &f->model, &err), &err);
	require_ok(pith_session_new(f->model, &options, &alone, &err), &err);
	f->expected = calloc(CLIENTS * LONGEST * VOCAB, sizeof(float));
	for (size_t c = 0; c < CLIENTS; c++) {
		pith_session_truncate(alone, 0, 0);
		for (size_t i = 0; i < LONGEST; i++) {
			f->tokens[c][i] = random_below(&random, VOCAB);
			struct pith_row row = {0, f->tokens[c][i], true};
			require_ok(pith_session_step(alone, &row, 1, &logits, &err), &err);
			memcpy(f->expected + (c * LONGEST + i) * VOCAB, logits, VOCAB * sizeof(float));
		}
	}
	pith_session_free(alone);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	pith_model_close(f->model);
	pith_file_close(f->file);
	free(f->expected);
	free(f);
	return 0;
}

static void compare_row(const struct fixture *f, size_t client, size_t position, const float *logits)
{
	const float *expected = f->expected + (client * LONGEST + position) * VOCAB;
	for (size_t i = 0; i < VOCAB; i++)
		if (bits_of_f32(logits[i]) != bits_of_f32(expected[i]))
			fail_msg("client %zu, position %zu, logit %zu: %a, alone %a", client, position, i,
			         (double)logits[i], (double)expected[i]);
}

/* ---- a host's executor: new threads for every call, the last items first ---- */

#define HOST_WIDTH 3u

struct host {
	struct pith_executor executor;
	size_t calls;
};

struct host_thread {
	void (*task)(void *arg, size_t i);
	void *arg;
	size_t first, count;
};

static void *host_main(void *arg)
{
	const struct host_thread *t = arg;
	for (size_t i = t->count; i-- > 0;)
		if (i % HOST_WIDTH == t->first)
			t->task(t->arg, i);
	return NULL;
}

static void host_run(const struct pith_executor *self, void (*task)(void *arg, size_t i), void *arg,
                     size_t count)
{
	struct host *host = self->ctx;
	struct host_thread part[HOST_WIDTH];
	pthread_t thread[HOST_WIDTH];
	host->calls++;
	for (size_t t = 0; t < HOST_WIDTH; t++) {
		part[t] = (struct host_thread){task, arg, t, count};
		assert_int_equal(pthread_create(&thread[t], NULL, host_main, &part[t]), 0);
	}
	for (size_t t = 0; t < HOST_WIDTH; t++)
		pthread_join(thread[t], NULL);
}

static void test_host_threads(void **state)
{
	const struct fixture *f = *state;
	struct host host = {.executor = {.width = HOST_WIDTH, .run = host_run, .ctx = &host}};
	struct pith_session_options options = {.sequence_count = 1, .context_length = LONGEST,
	                                       .batch_count = BATCH, .executor = &host.executor};
	struct pith_session *session;
	struct pith_error err;
	require_ok(pith_session_new(f->model, &options, &session, &err), &err);
	for (size_t done = 0; done < LONGEST;) {
		struct pith_row rows[BATCH];
		const float *logits;
		size_t k = 0;
		for (; k < BATCH && done + k < LONGEST; k++)
			rows[k] = (struct pith_row){0, f->tokens[0][done + k], true};
		require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
		for (size_t r = 0; r < k; r++)
			compare_row(f, 0, done + r, logits + r * pith_session_logit_stride(session));
		done += k;
	}
	assert_true(host.calls > 0);
	pith_session_free(session);

	/* the same for one weight by itself, with rows enough to be worth sharing */
	enum { ROWS = 33 };
	struct pith_weight weight;
	struct pith_linear *linear;
	float x[ROWS * 96], one[ROWS * VOCAB], many[ROWS * VOCAB];
	uint64_t random = 3;
	require_ok(pith_file_find(f->file, "lm_head.weight", &weight, &err), &err);
	require_ok(pith_linear_new(&weight, NULL, &linear, &err), &err);
	for (size_t i = 0; i < ROWS * 96; i++)
		x[i] = (float)random_unit(&random);
	host.calls = 0;
	require_ok(pith_linear_apply(linear, x, ROWS, one, NULL, &err), &err);
	require_ok(pith_linear_apply(linear, x, ROWS, many, &host.executor, &err), &err);
	assert_memory_equal(one, many, sizeof(one));
	assert_true(host.calls > 0);
	pith_linear_free(linear);
}

/* ---- continuous batching ---- */

struct slot {
	size_t client, length, fed; /* length 0: free */
};

/* Clients enter free slots and leave at any step, some before they are done. */
static void test_sequences_come_and_go(void **state)
{
	const struct fixture *f = *state;
	struct pith_session_options options = {.sequence_count = SLOTS, .context_length = LONGEST,
	                                       .batch_count = BATCH};
	struct slot slot[SLOTS] = {{0}};
	struct pith_session *session;
	struct pith_error err;
	struct pith_team *team;
	uint64_t random = 5;
	size_t next = 0, steps = 0, compared = 0, most_active = 0;
	require_ok(pith_team_new(2, &team, &err), &err);
	options.executor = pith_team_executor(team);
	require_ok(pith_session_new(f->model, &options, &session, &err), &err);
	for (size_t active = 1; active > 0; steps++) {
		struct pith_row rows[BATCH];
		struct slot wanted[BATCH];
		const float *logits;
		size_t k = 0;
		active = 0;
		for (uint32_t s = 0; s < SLOTS; s++) {
			if (slot[s].length == 0 && next < CLIENTS && (s == 0 || random_below(&random, 3) == 0)) {
				slot[s] = (struct slot){next++, 1 + random_below(&random, LONGEST), 0};
				pith_session_truncate(session, s, 0);
			}
			active += slot[s].length > 0;
			for (size_t n = random_below(&random, 4); n > 0 && k < BATCH && slot[s].fed < slot[s].length; n--) {
				wanted[k] = slot[s];
				rows[k++] = (struct pith_row){s, f->tokens[slot[s].client][slot[s].fed++], true};
			}
			if (slot[s].fed == slot[s].length)
				slot[s].length = 0;
		}
		most_active = active > most_active ? active : most_active;
		if (k == 0)
			continue;
		require_ok(pith_session_step(session, rows, k, &logits, &err), &err);
		for (size_t r = 0; r < k; r++)
			compare_row(f, wanted[r].client, wanted[r].fed,
			            logits + r * pith_session_logit_stride(session));
		compared += k;
	}
	assert_int_equal(next, CLIENTS);
	assert_true(most_active > 2 && compared > CLIENTS && steps > CLIENTS);
	pith_session_free(session);
	pith_team_free(team);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_threads),
		cmocka_unit_test(test_sequences_come_and_go),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
