/*
 * pith run: continue a prompt, streaming text as it is made.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_model.h"

#include "bytes.h"

#include <stdlib.h>

/* Rows of one step while the prompt is read. */
#define PROMPT_ROWS 64u

struct run_options {
	const char *prompt;
	uint64_t count, top_k, seed, threads;
	double temperature, top_p, min_p;
	bool ids, no_verify, special;
};

static const struct run_options run_defaults = {.prompt = "", .count = 128, .top_p = 1};

static const struct cli_option run_table[] = {
    {"prompt", 'p', CLI_STRING, offsetof(struct run_options, prompt), "TEXT",
     "the text to continue"},
    {"count", 'n', CLI_COUNT, offsetof(struct run_options, count), "N",
     "tokens to make at most; default 128"},
    {"temp", 0, CLI_NUMBER, offsetof(struct run_options, temperature), "T",
     "temperature; default 0: always the most likely token"},
    {"top-k", 0, CLI_COUNT, offsetof(struct run_options, top_k), "K",
     "draw from the K most likely tokens only"},
    {"top-p", 0, CLI_NUMBER, offsetof(struct run_options, top_p), "P",
     "draw from the most likely tokens that together have probability P"},
    {"min-p", 0, CLI_NUMBER, offsetof(struct run_options, min_p), "P",
     "draw from tokens with at least P times the probability of the likeliest"},
    {"seed", 's', CLI_COUNT, offsetof(struct run_options, seed), "S",
     "seed of the random numbers; the same seed gives the same text; default 0"},
    {"ids", 0, CLI_FLAG, offsetof(struct run_options, ids), NULL,
     "print token ids, one a line, instead of text"},
    {"special", 0, CLI_FLAG, offsetof(struct run_options, special), NULL,
     "read control tokens such as <|im_end|> in the prompt"},
    {"threads", 0, CLI_COUNT, offsetof(struct run_options, threads), "N",
     "threads; default: all cores.  The text does not depend on it"},
    {"no-verify", 0, CLI_FLAG, offsetof(struct run_options, no_verify), NULL,
     "do not check checksums and canaries first"},
    {0},
};

struct generation {
	struct cli *cli;
	const struct run_options *options;
	const struct cli_model *m;
	struct pith_session *session;
	struct pith_text_stream stream;
	uint8_t *text; /* [decode bound] */
	size_t text_cap;
	uint64_t *scratch; /* [2 * vocabulary] */
};

/* Print one token; false when it cannot be. */
static int show(struct generation *g, uint32_t id)
{
	struct pith_error err;
	size_t nbytes;
	if (g->options->ids) {
		printf("%u\n", id);
		return CLI_OK;
	}
	if (id >= pith_tokenizer_vocab_count(g->m->tokenizer))
		return CLI_OK; /* a row of the model without text */
	if (pith_tokenizer_decode(g->m->tokenizer, &g->stream, id, g->text, g->text_cap, &nbytes,
	                          &err) != PITH_OK)
		return cli_fail(g->cli, g->m->path, &err);
	fwrite(g->text, 1, nbytes, stdout);
	fflush(stdout);
	return CLI_OK;
}

/* Feed the prompt; *logits of its last token. */
static int feed_prompt(struct generation *g, const uint32_t *ids, size_t count, const float **logits)
{
	struct pith_error err;
	struct pith_row rows[PROMPT_ROWS];
	for (size_t done = 0; done < count;) {
		size_t k = 0;
		for (; k < PROMPT_ROWS && done < count; k++, done++)
			rows[k] = (struct pith_row){0, ids[done], done + 1 == count};
		if (pith_session_step(g->session, rows, k, logits, &err) != PITH_OK)
			return cli_fail(g->cli, g->m->path, &err);
	}
	return CLI_OK;
}

static int generate(struct generation *g, const uint32_t *ids, size_t count, size_t total)
{
	const struct run_options *o = g->options;
	struct pith_sampler sampler = {.temperature = (float)o->temperature,
	                               .top_k = o->top_k < UINT32_MAX ? (uint32_t)o->top_k : 0,
	                               .top_p = (float)o->top_p,
	                               .min_p = (float)o->min_p,
	                               .state = o->seed};
	const float *logits = NULL;
	int code = feed_prompt(g, ids, count, &logits);
	for (size_t made = 0; code == CLI_OK && count + made < total; made++) {
		struct pith_error err;
		uint32_t id = pith_sample(&sampler, logits, (size_t)g->m->info.vocab_count, g->scratch);
		if (id == g->m->info.eos_id)
			break;
		code = show(g, id);
		struct pith_row row = {0, id, true};
		if (code == CLI_OK && count + made + 1 < total &&
		    pith_session_step(g->session, &row, 1, &logits, &err) != PITH_OK)
			code = cli_fail(g->cli, g->m->path, &err);
	}
	return code;
}

/* Prompt and continuation in one session that is just long enough. */
static int run_prompt(struct cli *cli, const struct run_options *o, const struct cli_model *m,
                      const struct pith_executor *executor, const uint32_t *ids, size_t count)
{
	struct pith_error err;
	struct generation g = {.cli = cli, .options = o, .m = m};
	uint64_t context = m->info.context_length;
	if (count > context)
		return cli_usage(cli, "the prompt has %zu tokens, the model's context %llu", count,
		                 (unsigned long long)context);
	size_t total = o->count < context - count ? count + (size_t)o->count : (size_t)context;
	struct pith_session_options options = {.sequence_count = 1, .context_length = total,
	                                       .batch_count = PROMPT_ROWS, .logit_count = 1,
	                                       .executor = executor};
	if (pith_session_new(m->model, &options, &g.session, &err) != PITH_OK)
		return cli_fail(cli, m->path, &err);
	g.text_cap = pith_tokenizer_decode_bound(m->tokenizer);
	g.text = malloc(g.text_cap);
	g.scratch = calloc((size_t)m->info.vocab_count, 2 * sizeof(*g.scratch));
	int code = CLI_OK;
	if (g.text == NULL || g.scratch == NULL)
		code = cli_fail_errno(cli, "memory");
	for (size_t i = 0; i < count && code == CLI_OK && !o->ids; i++)
		code = show(&g, ids[i]);
	if (code == CLI_OK)
		code = generate(&g, ids, count, total);
	if (!o->ids && g.text != NULL) {
		uint8_t rest[12];
		fwrite(rest, 1, pith_tokenizer_decode_end(&g.stream, rest), stdout);
		putchar('\n');
	}
	free(g.text);
	free(g.scratch);
	pith_session_free(g.session);
	return code;
}

static int run_model(struct cli *cli, const struct run_options *o, const struct cli_model *m)
{
	struct pith_team *team;
	size_t count;
	unsigned flags = PITH_ENCODE_BOS | (o->special ? PITH_ENCODE_SPECIAL : 0);
	uint32_t *ids = cli_encode(cli, m, o->prompt, strlen(o->prompt), flags, &count);
	if (ids == NULL)
		return CLI_FAILED;
	if (count == 0 && m->info.bos_id < m->info.vocab_count)
		ids[count++] = m->info.bos_id; /* something to start from; the array has one id to spare */
	int code = count > 0 ? cli_team_new(cli, o->threads, &team)
	                     : cli_usage(cli, "-p TEXT is needed: this model has no BOS to start from");
	if (code == CLI_OK) {
		code = run_prompt(cli, o, m, pith_team_executor(team), ids, count);
		pith_team_free(team);
	}
	free(ids);
	return code;
}

static int run_run(struct cli *cli, const void *options)
{
	const struct run_options *o = options;
	struct cli_model m;
	if (!(o->temperature >= 0) || !(o->top_p > 0 && o->top_p <= 1) ||
	    !(o->min_p >= 0 && o->min_p < 1))
		return cli_usage(cli, "--temp is 0 or more, --top-p above 0 up to 1, --min-p from 0 to below 1");
	int code = cli_model_open(cli, cli->operand_count > 0 ? cli->operand[0] : NULL,
	                          &(struct cli_model_options){
	                              .no_verify = o->no_verify, .tokenizer = true}, &m);
	if (code == CLI_OK)
		code = run_model(cli, o, &m);
	cli_model_close(&m);
	return code;
}

const struct cli_command cmd_run = {
    .name = "run",
    .summary = "continue a prompt with a model",
    .synopsis = "[FILE] -p PROMPT [-n N] [--temp T --seed S]",
    .description =
        "Prints the prompt and its continuation as it is made.  The same file, prompt,\n"
        "options and seed give the same text on every machine.  Without FILE the embedded\n"
        "model is used.  Ends at the model's end-of-text token, after N tokens or at the\n"
        "end of its context.\n",
    .examples = "pith run model.pith -p \"The history of the city\" -n 100\n"
                "pith run model.pith -p \"Once\" --temp 0.8 --top-p 0.95 --seed 7\n",
    .options = run_table,
    .options_nbytes = sizeof(struct run_options),
    .defaults = &run_defaults,
    .max_operands = 1,
    .run = run_run,
};
