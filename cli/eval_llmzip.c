/*
 * The three codes of LLMZip.  Ranks are positions in the descending order of probabilities (ties by id); the arithmetic coder
 * is the one of the authors' code: 32-bit bounds, cumulative sums of 10^7 p + 1 rounded down.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "eval_llmzip.h"

#include "bytes.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Windows side by side, and tokens of each in one step: enough for the batched kernels. */
#define WINDOWS 8u
#define CHUNK 32u

/* ---- arithmetic coder: only its length is wanted ---- */

struct arithmetic {
	uint64_t low, high, pending, bits;
};

static void arithmetic_encode(struct arithmetic *a, uint64_t begin, uint64_t end, uint64_t total)
{
	uint64_t range = a->high - a->low + 1;
	a->high = a->low + end * range / total - 1;
	a->low = a->low + begin * range / total;
	while (((a->low ^ a->high) & 0x80000000u) == 0) {
		a->bits += 1 + a->pending;
		a->pending = 0;
		a->low = (a->low << 1) & 0xffffffffu;
		a->high = ((a->high << 1) & 0xffffffffu) | 1;
	}
	while ((a->low & ~a->high & 0x40000000u) != 0) {
		a->pending++;
		a->low = (a->low << 1) & 0x7fffffffu;
		a->high = ((a->high << 1) & 0x7fffffffu) | 0x80000001u;
	}
}

/* ---- one token ---- */

struct counting {
	struct eval_llmzip *out;
	struct arithmetic coder;
	double *p;   /* [vocab] */
	size_t vocab;
	char *ranks; /* the text of the ranks */
	size_t ranks_nbytes, ranks_cap;
};

static bool append_rank(struct counting *c, size_t rank)
{
	if (c->ranks_cap - c->ranks_nbytes < 24) {
		size_t cap = 2 * c->ranks_cap + 4096;
		char *grown = realloc(c->ranks, cap);
		if (grown == NULL)
			return false;
		c->ranks = grown;
		c->ranks_cap = cap;
	}
	c->ranks_nbytes += (size_t)snprintf(c->ranks + c->ranks_nbytes, 24, "%zu ", rank);
	return true;
}

static bool count_token(struct counting *c, const float *logits, uint32_t target)
{
	float max = logits[0];
	double sum = 0, cumulative = 0;
	uint64_t begin = 0, end = 0;
	size_t rank = 0;
	for (size_t i = 1; i < c->vocab; i++)
		max = logits[i] > max ? logits[i] : max;
	for (size_t i = 0; i < c->vocab; i++)
		sum += c->p[i] = exp((double)logits[i] - (double)max);
	for (size_t i = 0; i < c->vocab; i++) {
		rank += logits[i] > logits[target] || (logits[i] == logits[target] && i < target);
		begin = i == target ? (uint64_t)cumulative : begin;
		cumulative += c->p[i] / sum * 1e7 + 1;
		end = i == target ? (uint64_t)cumulative : end;
	}
	double bits = -log2(c->p[target] / sum);
	/* a probability that underflows still has a place in the coder; count the largest finite size */
	bits = isfinite(bits) ? bits : 1075;
	c->out->tokens++;
	c->out->entropy_bits += bits;
	c->out->token_bits += bits > 1 ? (uint64_t)ceil(bits) : 1;
	arithmetic_encode(&c->coder, begin, end, (uint64_t)cumulative);
	return append_rank(c, rank);
}

/* Bytes of gzip -9; 0 on failure. */
static size_t deflated_nbytes(const void *data, size_t nbytes)
{
	size_t cap = nbytes + nbytes / 8 + 65536, used = 0;
	struct archive *a = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	void *buffer = malloc(cap);
	bool good = a != NULL && entry != NULL && buffer != NULL &&
	            archive_write_add_filter_gzip(a) == ARCHIVE_OK &&
	            archive_write_set_filter_option(a, "gzip", "compression-level", "9") == ARCHIVE_OK &&
	            archive_write_set_filter_option(a, "gzip", "timestamp", NULL) == ARCHIVE_OK &&
	            archive_write_set_format_raw(a) == ARCHIVE_OK &&
	            archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&
	            archive_write_open_memory(a, buffer, cap, &used) == ARCHIVE_OK;
	if (good) {
		archive_entry_set_filetype(entry, AE_IFREG);
		good = archive_write_header(a, entry) == ARCHIVE_OK &&
		       archive_write_data(a, data, nbytes) == (la_ssize_t)nbytes;
	}
	good = a != NULL && archive_write_close(a) == ARCHIVE_OK && good;
	archive_write_free(a);
	archive_entry_free(entry);
	free(buffer);
	return good ? used : 0;
}

/* ---- the windows ---- */

struct run {
	const struct cli_model *m;
	struct pith_session *session;
	const uint32_t *ids;
	size_t count, window;
	struct counting *counting;
	struct cli_progress bar;
};

static pith_status score(struct run *r, const float *logits, uint32_t target, struct pith_error *err)
{
	if (!count_token(r->counting, logits, target))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the ranks");
	cli_progress_update(&r->bar, r->counting->out->tokens);
	return PITH_OK;
}

static uint32_t start_token(const struct cli_model *m)
{
	return m->info.bos_id != UINT32_MAX   ? m->info.bos_id
	       : m->info.eos_id != UINT32_MAX ? m->info.eos_id
	                                      : 0;
}

/* The first tokens, as long as the start token and what precedes them fit. */
static pith_status run_beginning(struct run *r, struct pith_error *err)
{
	for (size_t i = 0; i < r->count && i < r->window; i++) {
		struct pith_row row = {0, i == 0 ? start_token(r->m) : r->ids[i - 1], true};
		const float *logits;
		PITH_TRY(pith_session_step(r->session, &row, 1, &logits, err));
		PITH_TRY(score(r, logits, r->ids[i], err));
	}
	return PITH_OK;
}

/* Tokens first .. first + windows - 1, each from its own window. */
static pith_status run_windows(struct run *r, size_t first, size_t windows, struct pith_error *err)
{
	for (size_t w = 0; w < windows; w++)
		pith_session_truncate(r->session, w, 0);
	for (size_t start = 0; start < r->window; start += CHUNK) {
		struct pith_row rows[WINDOWS * CHUNK];
		size_t k = 0, end = start + CHUNK < r->window ? start + CHUNK : r->window;
		const float *logits;
		for (size_t w = 0; w < windows; w++)
			for (size_t i = start; i < end; i++)
				rows[k++] = (struct pith_row){(uint32_t)w, r->ids[first + w - r->window + i],
				                              i + 1 == r->window};
		PITH_TRY(pith_session_step(r->session, rows, k, &logits, err));
		for (size_t w = 0; end == r->window && w < windows; w++)
			PITH_TRY(score(r, logits + w * pith_session_logit_stride(r->session),
			               r->ids[first + w], err));
	}
	return PITH_OK;
}

static void count_text(const struct run *r, struct eval_llmzip *out)
{
	for (size_t i = 0; i < r->count; i++) {
		size_t nbytes;
		const uint8_t *bytes = pith_tokenizer_token_bytes(r->m->tokenizer, r->ids[i], &nbytes);
		out->bytes += nbytes;
		for (size_t j = 0; j < nbytes; j++)
			out->characters += (bytes[j] & 0xc0u) != 0x80;
	}
}

static int finish(struct cli *cli, const struct run *r)
{
	struct eval_llmzip *out = r->counting->out;
	size_t nbytes = deflated_nbytes(r->counting->ranks, r->counting->ranks_nbytes);
	if (nbytes == 0)
		return cli_fail_errno(cli, "ranks");
	out->rank_bits = 8 * (uint64_t)nbytes;
	out->arithmetic_bits = r->counting->coder.bits + 1; /* a last 1 bit ends the code */
	out->seconds = cli_seconds() - r->bar.start;
	count_text(r, out);
	return CLI_OK;
}

int eval_llmzip_run(struct cli *cli, const struct cli_model *m, const uint32_t *ids, size_t count,
                    size_t window, const struct pith_executor *executor, struct eval_llmzip *out)
{
	struct counting counting = {.out = out, .coder = {.high = 0xffffffffu},
	                            .vocab = (size_t)m->info.vocab_count};
	struct run r = {.m = m, .ids = ids, .count = count, .window = window, .counting = &counting};
	struct pith_session_options options = {.sequence_count = WINDOWS, .context_length = window,
	                                       .batch_count = WINDOWS * CHUNK, .logit_count = WINDOWS,
	                                       .executor = executor};
	struct pith_error err;
	*out = (struct eval_llmzip){0};
	if (count == 0 || window == 0 || window > m->info.context_length)
		return cli_usage(cli, "--llmzip needs a text and a window of 1 .. %" PRIu64 " tokens",
		                 m->info.context_length);
	counting.p = calloc(counting.vocab, sizeof(*counting.p));
	if (counting.p == NULL)
		return cli_fail_errno(cli, "memory");
	cli_progress_start(&r.bar, "llmzip", "tokens", count);
	pith_status status = pith_session_new(m->model, &options, &r.session, &err);
	if (status == PITH_OK)
		status = run_beginning(&r, &err);
	for (size_t i = window; status == PITH_OK && i < count; i += WINDOWS)
		status = run_windows(&r, i, count - i < WINDOWS ? count - i : WINDOWS, &err);
	cli_progress_end(&r.bar);
	int code = status == PITH_OK ? finish(cli, &r) : cli_fail(cli, m->path, &err);
	pith_session_free(r.session);
	free(counting.ranks);
	free(counting.p);
	return code;
}

/* ---- the result ---- */

int eval_llmzip_print(const struct eval_llmzip *r, bool json)
{
	double characters = (double)(r->characters != 0 ? r->characters : 1);
	if (json)
		return cli_print_json(json_pack(
		    "{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:f}", "tokens", (json_int_t)r->tokens, "bytes",
		    (json_int_t)r->bytes, "characters", (json_int_t)r->characters, "entropy_bits",
		    r->entropy_bits, "rank_bits", (json_int_t)r->rank_bits, "token_bits",
		    (json_int_t)r->token_bits, "arithmetic_bits", (json_int_t)r->arithmetic_bits,
		    "seconds", r->seconds));
	printf("%-28s %12s %16s\n", "code", "bytes", "bits/character");
	const struct {
		const char *name;
		double bits;
	} rows[] = {
	    {"ranks, gzip -9", (double)r->rank_bits},
	    {"token by token", (double)r->token_bits},
	    {"arithmetic coding", (double)r->arithmetic_bits},
	    {"entropy (lower bound)", r->entropy_bits},
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(rows); i++)
		printf("%-28s %12.0f %16.4f\n", rows[i].name, rows[i].bits / 8, rows[i].bits / characters);
	printf("%" PRIu64 " tokens, %" PRIu64 " bytes, %" PRIu64 " characters; %.0f tokens a second\n",
	       r->tokens, r->bytes, r->characters,
	       r->seconds > 0 ? (double)r->tokens / r->seconds : 0);
	return CLI_OK;
}
