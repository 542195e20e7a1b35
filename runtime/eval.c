/*
 * Perplexity of a text in windows, and how far a model is from another one.  Windows run side
 * by side as sequences of one session; one that is done gives way to the next at once.  What is
 * reported is computed in f64 and rounded for people: only the logits are exact.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "bytes.h"
#include "parallel.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#define DEFAULT_SEQUENCES 8u
/* Rows of one step: enough to use batched kernels well. */
#define STEP_ROWS 64u

/* What one predicted token adds. */
struct score {
	double nll, kl;
	bool agree; /* both models have the same most likely token */
};

/* A sequence: ids 'next' .. 'end' - 1 of the text predict the ids after them. */
struct slot {
	size_t window, next, end;
};

struct evaluation {
	const uint32_t *ids;
	size_t count, window, sequences, row_cap;
	size_t vocab_count;
	struct pith_session *session, *against;
	struct slot *slots;        /* [sequences] */
	size_t next_window;
	struct pith_row *rows;     /* [row_cap], all with logits */
	uint32_t *target;          /* the id that a row predicts */
	size_t *target_window;     /* and its window */
	struct score *scores;
	double *window_nll;        /* [windows] */
	size_t *window_predicted;  /* [windows] */
	size_t window_count;
	const float *logits, *against_logits; /* of the step */
	size_t stride, against_stride;
};

static double log_sum_exp(const float *logits, size_t count, float *max)
{
	double sum = 0;
	*max = logits[0];
	for (size_t i = 1; i < count; i++)
		*max = logits[i] > *max ? logits[i] : *max;
	for (size_t i = 0; i < count; i++)
		sum += exp((double)logits[i] - (double)*max);
	return (double)*max + log(sum);
}

static size_t most_likely(const float *logits, size_t count, float max)
{
	for (size_t i = 0; i < count; i++)
		if (logits[i] == max)
			return i;
	return 0;
}

static void score_rows(void *arg, size_t begin, size_t end)
{
	const struct evaluation *e = arg;
	size_t n = e->vocab_count;
	for (size_t r = begin; r < end; r++) {
		const float *logits = e->logits + r * e->stride;
		float max, against_max;
		double norm = log_sum_exp(logits, n, &max);
		struct score score = {.nll = norm - (double)logits[e->target[r]]};
		if (e->against != NULL) {
			const float *other = e->against_logits + r * e->against_stride;
			double other_norm = log_sum_exp(other, n, &against_max);
			for (size_t i = 0; i < n; i++) {
				double log_p = (double)other[i] - other_norm;
				score.kl += exp(log_p) * (log_p - ((double)logits[i] - norm));
			}
			score.agree = most_likely(logits, n, max) == most_likely(other, n, against_max);
		}
		e->scores[r] = score;
	}
}

/* Sequences that are done take the next windows.  Returns how many have something to do. */
static size_t fill_slots(struct evaluation *e)
{
	size_t active = 0;
	for (size_t s = 0; s < e->sequences; s++) {
		struct slot *slot = &e->slots[s];
		while (slot->next == slot->end && e->next_window < e->window_count) {
			size_t begin = e->next_window * e->window;
			size_t size = e->count - begin < e->window ? e->count - begin : e->window;
			/* the last token of a window predicts nothing and is not fed */
			*slot = (struct slot){e->next_window++, begin, begin + size - 1};
			pith_session_truncate(e->session, s, 0);
			if (e->against != NULL)
				pith_session_truncate(e->against, s, 0);
		}
		active += slot->next < slot->end;
	}
	return active;
}

/* Rows of a step, shared out to the sequences; 0: all is done. */
static size_t gather_rows(struct evaluation *e)
{
	size_t k = 0, active = fill_slots(e);
	if (active == 0)
		return 0;
	size_t share = e->row_cap / active;
	for (size_t s = 0; s < e->sequences; s++) {
		struct slot *slot = &e->slots[s];
		for (size_t i = 0; i < share && slot->next < slot->end; i++, slot->next++) {
			e->rows[k] = (struct pith_row){(uint32_t)s, e->ids[slot->next], true};
			e->target[k] = e->ids[slot->next + 1];
			e->target_window[k++] = slot->window;
		}
	}
	return k;
}

static pith_status run_step(struct evaluation *e, const struct pith_eval_options *options, size_t k,
                            struct pith_eval_result *out, const uint32_t *token_nbytes,
                            struct pith_error *err)
{
	PITH_TRY(pith_session_step(e->session, e->rows, k, &e->logits, err));
	if (e->against != NULL)
		PITH_TRY(pith_session_step(e->against, e->rows, k, &e->against_logits, err));
	pith_parallel(options->executor, k, e->vocab_count * 8, score_rows, e);
	for (size_t r = 0; r < k; r++) {
		out->nll += e->scores[r].nll;
		out->kl += e->scores[r].kl;
		out->top1_agreement += e->scores[r].agree ? 1 : 0;
		out->bytes += token_nbytes[e->target[r]];
		e->window_nll[e->target_window[r]] += e->scores[r].nll;
		e->window_predicted[e->target_window[r]]++;
	}
	out->predicted += k;
	if (options->progress != NULL)
		options->progress(options->ctx, out->predicted, e->count - e->window_count, out->nll);
	return PITH_OK;
}

static pith_status run_windows(struct evaluation *e, const struct pith_eval_options *options,
                               struct pith_eval_result *out, const uint32_t *token_nbytes,
                               struct pith_error *err)
{
	for (size_t k; (k = gather_rows(e)) > 0;)
		PITH_TRY(run_step(e, options, k, out, token_nbytes, err));
	return PITH_OK;
}

/* 95 % interval of the mean nll as a ratio over windows (windows differ in size). */
static void finish_result(const struct evaluation *e, struct pith_eval_result *out)
{
	double n = out->predicted != 0 ? (double)out->predicted : 1;
	double mean = out->nll / n, squares = 0, error = 0;
	for (size_t w = 0; w < e->window_count; w++) {
		double residual = e->window_nll[w] - mean * (double)e->window_predicted[w];
		squares += residual * residual;
	}
	if (e->window_count > 1) {
		double windows = (double)e->window_count;
		error = 1.96 * sqrt(squares * windows / (windows - 1)) / n;
	}
	out->perplexity = exp(mean);
	out->perplexity_low = exp(mean - error);
	out->perplexity_high = exp(mean + error);
	out->bits_per_byte = out->bytes != 0 ? out->nll / (0.69314718055994530942 * (double)out->bytes) : 0;
	out->kl /= n;
	out->top1_agreement /= n;
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static pith_status new_sessions(struct evaluation *e, const struct pith_model *model,
                                const struct pith_eval_options *options, struct pith_error *err)
{
	struct pith_session_options session = {
		.sequence_count = e->sequences,
		.context_length = e->window,
		.batch_count = e->row_cap,
		.executor = options->executor,
	};
	PITH_TRY(pith_session_new(model, &session, &e->session, err));
	e->stride = pith_session_logit_stride(e->session);
	if (options->against == NULL)
		return PITH_OK;
	PITH_TRY(pith_session_new(options->against, &session, &e->against, err));
	e->against_stride = pith_session_logit_stride(e->against);
	return PITH_OK;
}

static void free_evaluation(struct evaluation *e)
{
	pith_session_free(e->session);
	pith_session_free(e->against);
	free(e->slots);
	free(e->rows);
	free(e->target);
	free(e->target_window);
	free(e->scores);
	free(e->window_nll);
	free(e->window_predicted);
}

static pith_status new_evaluation(struct evaluation *e, const struct pith_model *model,
                                  const struct pith_eval_options *options, struct pith_error *err)
{
	size_t cap = e->row_cap;
	e->slots = calloc(e->sequences, sizeof(*e->slots));
	e->rows = calloc(cap, sizeof(*e->rows));
	e->target = calloc(cap, sizeof(*e->target));
	e->target_window = calloc(cap, sizeof(*e->target_window));
	e->scores = calloc(cap, sizeof(*e->scores));
	e->window_nll = calloc(e->window_count, sizeof(*e->window_nll));
	e->window_predicted = calloc(e->window_count, sizeof(*e->window_predicted));
	if (e->slots == NULL || e->rows == NULL || e->target == NULL || e->target_window == NULL ||
	    e->scores == NULL || e->window_nll == NULL || e->window_predicted == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for an evaluation");
	return new_sessions(e, model, options, err);
}

pith_status pith_eval(const struct pith_model *model, const uint32_t *ids, size_t count,
                      const uint32_t *token_nbytes, const struct pith_eval_options *options,
                      struct pith_eval_result *out, struct pith_error *err)
{
	struct pith_model_info info, other;
	double start = seconds_now();
	*out = (struct pith_eval_result){.tokens = count};
	pith_model_info(model, &info);
	if (options->against != NULL) {
		pith_model_info(options->against, &other);
		if (other.vocab_count != info.vocab_count)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "the models have %llu and %llu tokens: they cannot be compared",
			                 (unsigned long long)info.vocab_count,
			                 (unsigned long long)other.vocab_count);
	}
	struct evaluation e = {.ids = ids, .count = count, .vocab_count = (size_t)info.vocab_count};
	e.window = options->window != 0 ? options->window : (size_t)info.context_length;
	if (count < 2 || e.window < 2)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "%zu tokens in windows of %zu: nothing to predict", count, e.window);
	e.window = e.window < count ? e.window : count;
	e.window_count = (count + e.window - 1) / e.window;
	e.sequences = options->sequences != 0 ? options->sequences : DEFAULT_SEQUENCES;
	e.sequences = e.sequences < e.window_count ? e.sequences : e.window_count;
	e.row_cap = e.sequences < STEP_ROWS ? STEP_ROWS : e.sequences;
	pith_status status = new_evaluation(&e, model, options, err);
	if (status == PITH_OK)
		status = run_windows(&e, options, out, token_nbytes, err);
	if (status == PITH_OK)
		finish_result(&e, out);
	for (size_t w = 0; status == PITH_OK && options->window_done != NULL && w < e.window_count; w++)
		options->window_done(options->ctx, e.window_predicted[w], e.window_nll[w]);
	free_evaluation(&e);
	out->seconds = seconds_now() - start;
	return status;
}
