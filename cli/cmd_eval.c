/*
 * pith eval: how well a model predicts a text, and how far it is from another model.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_model.h"
#include "cli_weight.h"
#include "eval_llmzip.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_NBYTES ((size_t)1 << 30)

struct eval_options {
	const char *text, *against, *dump;
	uint64_t window, limit, threads;
	bool json, no_verify, llmzip, windows;
};

static const struct cli_option eval_table[] = {
    {"text", 't', CLI_STRING, offsetof(struct eval_options, text), "FILE",
     "the text to predict; - is standard input"},
    {"window", 'w', CLI_COUNT, offsetof(struct eval_options, window), "N",
     "tokens a window; default: the model's context"},
    {"limit", 'l', CLI_COUNT, offsetof(struct eval_options, limit), "TOKENS",
     "use the first TOKENS tokens of the text only"},
    {"against", 'a', CLI_STRING, offsetof(struct eval_options, against), "REF",
     "compare with the model REF: divergence and agreement"},
    {"dump-logits", 0, CLI_STRING, offsetof(struct eval_options, dump), "OUT.f32",
     "write the logits of the first window to OUT.f32\n(f32, little-endian, [tokens, vocabulary]) "
     "and stop"},
    {"llmzip", 0, CLI_FLAG, offsetof(struct eval_options, llmzip), NULL,
     "count the three codes of the LLMZip paper instead: a window of N - 1\ntokens is fed anew for "
     "every token, so give a --limit"},
    {"threads", 0, CLI_COUNT, offsetof(struct eval_options, threads), "N",
     "threads; default: all cores.  Results do not depend on it"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct eval_options, no_verify), NULL,
     "do not check checksums and canaries first"},
    {"json", 0, CLI_FLAG, offsetof(struct eval_options, json), NULL, "print JSON"},
    {"windows", 0, CLI_FLAG, offsetof(struct eval_options, windows), NULL,
     "with --json: the loss of every window, to compare models in pairs"},
    {0},
};

struct talk {
	struct cli_progress bar;
	bool started;
	json_t *windows; /* list of [predicted, nll], or NULL */
};

static void show_progress(void *ctx, uint64_t done, uint64_t total, double nll)
{
	struct talk *t = ctx;
	char note[48];
	(void)nll;
	if (!t->started)
		cli_progress_start(&t->bar, "eval", "tokens", total);
	t->started = true;
	snprintf(note, sizeof(note), "%.3f bits/token", nll / 0.69314718055994530942 / (double)done);
	cli_progress_update_note(&t->bar, done, note);
}

static void add_window(void *ctx, uint64_t predicted, double nll)
{
	struct talk *t = ctx;
	json_array_append_new(t->windows, json_pack("[I, f]", (json_int_t)predicted, nll));
}

/* All rows of the first window in one session, raw to a file. */
static int dump_logits(struct cli *cli, const struct cli_model *m, const struct pith_executor *executor,
                       const uint32_t *ids, size_t count, const char *path)
{
	struct pith_session_options options = {.sequence_count = 1, .context_length = count,
	                                       .batch_count = 1, .executor = executor};
	struct pith_session *session;
	struct pith_error err;
	if (pith_session_new(m->model, &options, &session, &err) != PITH_OK)
		return cli_fail(cli, m->path, &err);
	size_t vocab = (size_t)m->info.vocab_count;
	uint8_t *raw = malloc(4 * vocab);
	FILE *out = fopen(path, "wb");
	int code = out != NULL && raw != NULL ? CLI_OK : cli_fail_errno(cli, path);
	for (size_t i = 0; i < count && code == CLI_OK; i++) {
		struct pith_row row = {0, ids[i], true};
		const float *logits;
		if (pith_session_step(session, &row, 1, &logits, &err) != PITH_OK) {
			code = cli_fail(cli, m->path, &err);
			break;
		}
		for (size_t j = 0; j < vocab; j++)
			store_f32(raw + 4 * j, logits[j]);
		if (fwrite(raw, 4, vocab, out) != vocab)
			code = cli_fail_errno(cli, path);
	}
	if (out != NULL && fclose(out) != 0 && code == CLI_OK)
		code = cli_fail_errno(cli, path);
	free(raw);
	pith_session_free(session);
	return code;
}

static int print_result(const struct eval_options *o, const struct cli_model *m,
                        const struct pith_eval_result *r, json_t *windows)
{
	double bits = cli_stored_bits(m->file);
	if (o->json) {
		json_t *json = json_pack(
		    "{s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:f}", "perplexity", r->perplexity,
		    "perplexity_low", r->perplexity_low, "perplexity_high", r->perplexity_high,
		    "bits_per_byte", r->bits_per_byte, "bits_per_weight", bits, "tokens",
		    (json_int_t)r->tokens, "predicted", (json_int_t)r->predicted, "bytes",
		    (json_int_t)r->bytes, "nll", r->nll, "seconds", r->seconds);
		if (json != NULL && windows != NULL)
			json_object_set(json, "windows", windows);
		if (json != NULL && o->against != NULL) {
			json_object_set_new(json, "kl", json_real(r->kl));
			json_object_set_new(json, "top1_agreement", json_real(r->top1_agreement));
		}
		return cli_print_json(json);
	}
	printf("perplexity       %.4f  (95 %% over windows: %.3f to %.3f)\n", r->perplexity,
	       r->perplexity_low, r->perplexity_high);
	printf("bits per byte    %.4f\n", r->bits_per_byte);
	printf("bits per weight  %.3f\n", bits);
	if (o->against != NULL) {
		printf("KL divergence    %.6f nats a token\n", r->kl);
		printf("top-1 agreement  %.3f %%\n", 100 * r->top1_agreement);
	}
	printf("tokens           %llu, %.0f a second\n", (unsigned long long)r->tokens,
	       r->seconds > 0 ? (double)r->tokens / r->seconds : 0);
	return CLI_OK;
}

/* Bytes of every id's text; control tokens stand for no text. */
static uint32_t *token_sizes(const struct cli_model *m)
{
	uint32_t *sizes = calloc((size_t)m->info.vocab_count, sizeof(*sizes));
	for (uint32_t id = 0; sizes != NULL && id < pith_tokenizer_vocab_count(m->tokenizer); id++) {
		size_t nbytes;
		pith_tokenizer_token_bytes(m->tokenizer, id, &nbytes);
		sizes[id] = pith_tokenizer_is_control(m->tokenizer, id) ? 0 : (uint32_t)nbytes;
	}
	return sizes;
}

static int evaluate(struct cli *cli, const struct eval_options *o, const struct cli_model *m,
                    const struct cli_model *against, const struct pith_executor *executor,
                    const uint32_t *ids, size_t count)
{
	struct talk talk = {.windows = o->windows ? json_array() : NULL};
	struct pith_eval_options options = {.window = (size_t)o->window,
	                                    .against = against->model,
	                                    .executor = executor,
	                                    .progress = show_progress,
	                                    .window_done = o->windows ? add_window : NULL,
	                                    .ctx = &talk};
	struct pith_eval_result result;
	struct pith_error err;
	uint32_t *sizes = token_sizes(m);
	if (sizes == NULL)
		return cli_fail_errno(cli, "memory");
	pith_status status = pith_eval(m->model, ids, count, sizes, &options, &result, &err);
	if (talk.started)
		cli_progress_end(&talk.bar);
	free(sizes);
	int code = status == PITH_OK ? print_result(o, m, &result, talk.windows)
	                             : cli_fail(cli, m->path, &err);
	json_decref(talk.windows);
	return code;
}

static int evaluate_llmzip(struct cli *cli, const struct eval_options *o, const struct cli_model *m,
                           const struct pith_executor *executor, const uint32_t *ids, size_t count,
                           size_t window)
{
	struct eval_llmzip result;
	int code = eval_llmzip_run(cli, m, ids, count, window, executor, &result);
	return code == CLI_OK ? eval_llmzip_print(&result, o->json) : code;
}

static int run_eval(struct cli *cli, const struct eval_options *o, const struct cli_model *m,
                    const struct cli_model *against)
{
	size_t nbytes, count;
	struct pith_team *team;
	char *text = cli_read_file(cli, o->text, MAX_TEXT_NBYTES, &nbytes);
	if (text == NULL)
		return CLI_FAILED;
	uint32_t *ids = cli_encode(cli, m, text, nbytes, 0, &count);
	free(text);
	if (ids == NULL)
		return CLI_FAILED;
	if (o->limit != 0 && o->limit < count)
		count = (size_t)o->limit;
	int code = cli_team_new(cli, o->threads, &team);
	if (code == CLI_OK) {
		const struct pith_executor *executor = pith_team_executor(team);
		size_t window = o->window != 0 ? (size_t)o->window : (size_t)m->info.context_length;
		code = o->dump != NULL
		           ? dump_logits(cli, m, executor, ids, count < window ? count : window, o->dump)
		       : o->llmzip ? evaluate_llmzip(cli, o, m, executor, ids, count, window - 1)
		                   : evaluate(cli, o, m, against, executor, ids, count);
	}
	pith_team_free(team);
	free(ids);
	return code;
}

static int eval_run(struct cli *cli, const void *options)
{
	const struct eval_options *o = options;
	struct cli_model m, against = {0};
	if (o->text == NULL)
		return cli_usage(cli, "--text FILE is needed");
	int code = cli_model_open(cli, cli->operand_count > 0 ? cli->operand[0] : NULL,
	                          &(struct cli_model_options){
	                              .no_verify = o->no_verify, .tokenizer = true}, &m);
	if (code == CLI_OK && o->against != NULL)
		code = cli_model_open(cli, o->against, &(struct cli_model_options){.no_verify = o->no_verify},
		                      &against);
	if (code == CLI_OK)
		code = run_eval(cli, o, &m, &against);
	cli_model_close(&against);
	cli_model_close(&m);
	return code;
}

const struct cli_command cmd_eval = {
    .name = "eval",
    .summary = "perplexity of a text under a model",
    .synopsis = "[FILE] --text TEXT [--against REF] [--json]\n[FILE] --text TEXT --llmzip [--limit TOKENS] [--json]",
    .description =
        "Cuts the text into windows of consecutive tokens and predicts, in each, every\n"
        "token but the first from the ones before.  Prints the perplexity, bits per byte\n"
        "of text and bits per weight as stored; with --against also how far the model's\n"
        "predictions are from those of REF: the mean Kullback-Leibler divergence\n"
        "KL(REF || FILE) and how often both have the same most likely token.\n"
        "\n"
        "--llmzip counts what the three codes of LLMZip (arXiv 2306.04050) need: ranks\n"
        "under a general compressor, whole bits token by token, arithmetic coding.\n"
        "\n"
        "Without FILE the embedded model is used.\n"
        "\n"
        "JSON keys: perplexity, perplexity_low, perplexity_high, bits_per_byte,\n"
        "bits_per_weight, kl, top1_agreement, tokens, predicted, bytes, nll, seconds; with\n"
        "--windows: windows, of each its predicted tokens and their nll; with --llmzip:\n"
        "tokens, bytes, characters, entropy_bits, rank_bits, token_bits, arithmetic_bits,\n"
        "seconds.\n",
    .examples = "pith eval model.pith --text wiki.txt\n"
                "pith eval small.pith --text wiki.txt --against model.pith --json\n"
                "pith eval model.pith --text wiki.txt --llmzip --limit 5000\n",
    .options = eval_table,
    .options_nbytes = sizeof(struct eval_options),
    .max_operands = 1,
    .run = eval_run,
};
