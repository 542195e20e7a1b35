/*
 * libpithrun: run a model from its map.  Sessions of many sequences, logits,
 * "apply this stored weight to x", tokenizer (tokenizer.h) and text coder (text.h).
 *
 * Same file, same tokens: the same logit bits, whatever the machine, instruction set,
 * thread count or batch (spec/numerics.md).
 *
 * Nouns: a *model* binds the weights of an open pith_file (borrowed; it must outlive the
 * model); a *session* holds the KV caches of its sequences in one arena that is
 * allocated at creation; a *step* advances any of them by any number of tokens.
 *
 * Threading: a model is immutable and shareable; a session belongs to one thread at a
 * time.  Work inside a step runs on the caller's executor, or on the calling thread alone when it is NULL.
 *
 * Never prints or exits; reads no environment but PITH_CPU.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITHRUN_H
#define PITHRUN_H

#include "pith.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- executors: who runs the work ---- */

/*
 * run() calls task(arg, i) for every i in 0 .. count-1, each once, on any thread, and
 * returns when all have returned.  'width' is how many run at once.  A host may
 * bring its own.
 */
struct pith_executor {
	size_t width;
	void (*run)(const struct pith_executor *self, void (*task)(void *arg, size_t i), void *arg,
	            size_t count);
	void *ctx;
};

/*
 * A team of threads - 1 workers beside the caller: bounded spin, then futex; a worker whose core
 * another program takes away stays out of the way for a while.  threads 0: the cores this process
 * may use, by its affinity and a container's quota, at most 64.
 */
struct pith_team;
pith_status pith_team_new(size_t threads, struct pith_team **out, struct pith_error *err);
void pith_team_free(struct pith_team *team);
/* Borrowed, valid until the team is freed. */
const struct pith_executor *pith_team_executor(const struct pith_team *team);

/* ---- kernels ---- */

/* Name of the active kernel set: "reference", "avx2", "avx512", "gfni", ... */
const char *pith_kernels_active(void);
/*
 * The sets this build has and this machine can run, best first, ended by NULL.  'mask'
 * is the syntax of PITH_CPU ("-avx512,-avx2"); NULL: the environment's.  PITH_E_ARGUMENT for unknown names.
 */
pith_status pith_kernels_check(const char *mask, struct pith_error *err);

/* ---- models ---- */

struct pith_model;
struct pith_model_options {
	bool no_verify;      /* skip checksums and canaries before first use */
	const char *kernels; /* mask as PITH_CPU; NULL: the environment's PITH_CPU */
};
/*
 * Bind every weight that the forward pass reads: bounds, shapes, checksums and canaries (unless
 * no_verify).  PITH_E_UNSUPPORTED names an unknown architecture or key; PITH_E_CORRUPT a
 * missing or misshapen weight.  'options' may be NULL.
 */
pith_status pith_model_open(const struct pith_file *file, const struct pith_model_options *options,
                            struct pith_model **out, struct pith_error *err);
void pith_model_close(struct pith_model *model);

struct pith_model_info {
	uint64_t vocab_count, hidden_count, block_count, context_length;
	uint32_t bos_id, eos_id;   /* UINT32_MAX: none */
	uint8_t identity[16];
	uint32_t numerics_version;
	uint64_t weight_nbytes;    /* bytes of the planes that one token reads (embedding: one row) */
	uint64_t kv_nbytes;        /* bytes of the KV cache that one position takes */
	uint64_t parameter_count;
	const char *kernels;       /* active set, static string */
};
void pith_model_info(const struct pith_model *model, struct pith_model_info *out);

/* ---- sessions ---- */

struct pith_session;
struct pith_session_options {
	size_t sequence_count; /* independent sequences, >= 1 */
	size_t context_length; /* positions per sequence; 0: the model's */
	size_t batch_count;    /* most rows in one step, >= 1 */
	size_t logit_count;    /* most rows with logits in one step; 0: batch_count */
	const struct pith_executor *executor; /* NULL: the calling thread; must outlive the session */
};
/* Bytes the session will allocate; 0 if the sizes are absurd. */
size_t pith_session_nbytes(const struct pith_model *model,
                           const struct pith_session_options *options);
pith_status pith_session_new(const struct pith_model *model,
                             const struct pith_session_options *options,
                             struct pith_session **out, struct pith_error *err);
void pith_session_free(struct pith_session *session);

/* One token fed to one sequence. Rows of the same sequence are consecutive positions, in order. */
struct pith_row {
	uint32_t sequence;
	uint32_t token;
	bool want_logits;
};
/*
 * Feed 'count' rows (1 .. batch_count).  Rows of different sequences may be mixed; the result
 * of a row depends only on its own sequence.  *logits: [rows that want them, logit_stride] f32 in row
 * order, borrowed until the next call on the session; NULL if none wants them.
 * PITH_E_ARGUMENT (token, sequence, context full), PITH_E_CORRUPT (rule "numerics": a
 * logit is not finite).  On failure no sequence has advanced.
 */
pith_status pith_session_step(struct pith_session *session, const struct pith_row *rows,
                              size_t count, const float **logits, struct pith_error *err);
/* Floats from one row of logits to the next; at least vocab_count. */
size_t pith_session_logit_stride(const struct pith_session *session);
/*
 * What the last step gave the head as input: [rows that wanted logits, *stride] f32 of hidden_count columns, borrowed until
 * the next call on the session; NULL if none wanted them.
 */
const float *pith_session_hidden(const struct pith_session *session, size_t *stride);
/* Positions held by a sequence. */
size_t pith_session_length(const struct pith_session *session, size_t sequence);
/* Forget positions from 'length' on (length <= current).  0 restarts the sequence. */
void pith_session_truncate(struct pith_session *session, size_t sequence, size_t length);

/* ---- one stored weight, for other runtimes ---- */

struct pith_linear;
/* Bind and (unless no_verify) verify a weight.  The file must outlive it. */
pith_status pith_linear_new(const struct pith_weight *weight, const struct pith_model_options *options,
                            struct pith_linear **out, struct pith_error *err);
void pith_linear_free(struct pith_linear *linear);
/*
 * y = W x, bit for bit as the engine computes it.  x: [k, n] f32 finite, y: [k, m] f32.
 * Allocates its work memory per call; thread-safe.  executor may be NULL.
 */
pith_status pith_linear_apply(const struct pith_linear *linear, const float *x, size_t k, float *y,
                              const struct pith_executor *executor, struct pith_error *err);

/* Input of the canary with 'seed' (spec/numerics.md 8): x: [n]. */
void pith_canary_input(uint32_t seed, size_t n, float *x);
/* Outputs of the first and the last row tile of a weight for that input. */
pith_status pith_canary_compute(const struct pith_weight *weight, uint32_t seed, float first[16],
                                float last[16], struct pith_error *err);
/* Compute and compare with the stored one; PITH_OK when the weight has none.  PITH_E_CORRUPT "canary.1". */
pith_status pith_canary_check(const struct pith_weight *weight, struct pith_error *err);

/* ---- sampling ---- */

struct pith_sampler {
	float temperature; /* 0: greedy (lowest id wins ties) */
	uint32_t top_k;    /* 0: all */
	float top_p;       /* (0, 1]; 1: all */
	float min_p;       /* [0, 1); 0: all */
	uint64_t state;    /* random state; set to the seed, advanced by each draw */
};
/*
 * Draw a token: temperature, then top-k, top-p, min-p on the probabilities, then one uniform number.
 * Deterministic on every machine.  scratch: [2 * vocab_count] u64 for sorting.
 */
uint32_t pith_sample(struct pith_sampler *sampler, const float *logits, size_t vocab_count,
                     uint64_t *scratch);

/* ---- evaluation ---- */

struct pith_eval_options {
	size_t window;       /* tokens a window; 0: context_length */
	size_t sequences;    /* windows advanced side by side; 0: 8 */
	const struct pith_model *against; /* for KL and top-1 agreement; NULL: none; same vocabulary */
	const struct pith_executor *executor;
	void (*progress)(void *ctx, uint64_t done, uint64_t total, double nll); /* tokens; may be NULL */
	/* At the end, for every window in order: its predicted tokens and their loss; may be NULL. */
	void (*window_done)(void *ctx, uint64_t predicted, double nll);
	void *ctx;
};
struct pith_eval_result {
	uint64_t tokens, predicted, bytes; /* bytes: covered by the predicted tokens */
	double nll;                        /* nats, summed over predicted tokens */
	double perplexity, bits_per_byte;
	double perplexity_low, perplexity_high; /* 95 % interval over windows */
	double kl, top1_agreement;              /* mean KL(against || model) in nats; with 'against' only */
	double seconds;
};
/*
 * Windows of 'window' consecutive tokens, the last one may be shorter; in each, tokens
 * 1.. are predicted from the ones before.  ids: [count].  token_nbytes: bytes of each id, [vocab_count].
 */
pith_status pith_eval(const struct pith_model *model, const uint32_t *ids, size_t count,
                      const uint32_t *token_nbytes, const struct pith_eval_options *options,
                      struct pith_eval_result *out, struct pith_error *err);

#ifdef __cplusplus
}
#endif
#endif
