/*
 * The pretokenizers.  Each function below is one pattern of spec/tokenizer.md section 3,
 * written out; tests hold them against PCRE2.  They assume nothing about the bytes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pretokenize.h"

#include "bytes.h"
#include "unicode_tables.h"

static struct unicode_char char_at(const struct pretokens *p, size_t pos)
{
	return utf8_char(p->text + pos, p->nbytes - pos);
}

static bool in_set(struct unicode_char c, unsigned set)
{
	return (set >> c.class & 1u) != 0;
}

/* End of the longest run from 'pos' to at most 'end' of characters in 'set'. */
static size_t run_end(const struct pretokens *p, size_t pos, size_t end, unsigned set)
{
	while (pos < end) {
		struct unicode_char c = char_at(p, pos);
		if (!in_set(c, set))
			break;
		pos += c.nbytes;
	}
	return pos;
}

/* \s+(?!\S)|\s+ at white space: a run, less its last character if text follows and it has more. */
static size_t space_end(const struct pretokens *p, size_t pos, size_t end)
{
	size_t last = pos, at = pos;
	while (at < end) {
		struct unicode_char c = char_at(p, at);
		if (c.class != UNICODE_SPACE)
			return last > pos ? last : at;
		last = at;
		at += c.nbytes;
	}
	return end;
}

/* Bytes of 's 't 're 've 'm 'll 'd at the apostrophe text[pos], or 0. */
static size_t contraction_nbytes(const struct pretokens *p, size_t pos, size_t end, bool ignore_case)
{
	const uint8_t *s = p->text + pos + 1;
	size_t n = end - pos - 1;
	uint8_t fold = ignore_case ? 0x20 : 0;
	if (n == 0)
		return 0;
	uint8_t a = s[0] | fold;
	if (a == 's' || a == 't' || a == 'm' || a == 'd')
		return 2;
	/* U+017F, the long s, is the only other character that folds to one of these letters */
	if (ignore_case && n >= 2 && s[0] == 0xc5 && s[1] == 0xbf)
		return 3;
	if (n < 2)
		return 0;
	uint8_t b = s[1] | fold;
	return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* gpt2 within [pos, end). */
static size_t gpt2_piece_end(const struct pretokens *p, size_t pos, size_t end)
{
	struct unicode_char c = char_at(p, pos);
	size_t body = pos;
	if (c.cp == '\'') {
		size_t n = contraction_nbytes(p, pos, end, false);
		if (n != 0)
			return pos + n;
	}
	if (c.cp == ' ' && pos + 1 < end) {
		body = pos + 1;
		c = char_at(p, body);
	}
	if (c.class == UNICODE_SPACE)
		return space_end(p, pos, end);
	unsigned set = in_set(c, UNICODE_SET_L)   ? UNICODE_SET_L
	               : in_set(c, UNICODE_SET_N) ? UNICODE_SET_N
	                                          : UNICODE_SET_REST;
	return run_end(p, body + c.nbytes, end, set);
}

static size_t gpt2_end(struct pretokens *p, size_t pos)
{
	return gpt2_piece_end(p, pos, p->nbytes);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at white space. */
static size_t space_or_lines_end(const struct pretokens *p, size_t pos)
{
	size_t end = run_end(p, pos, p->nbytes, UNICODE_SET_SPACE);
	for (size_t at = end; at > pos; at--)
		if (p->text[at - 1] == '\r' || p->text[at - 1] == '\n')
			return at;
	return space_end(p, pos, p->nbytes);
}

static size_t llama3_piece_end(const struct pretokens *p, size_t pos, unsigned max_digits)
{
	size_t end = p->nbytes;
	struct unicode_char c = char_at(p, pos);
	size_t after = pos + c.nbytes;
	if (c.cp == '\'') {
		size_t n = contraction_nbytes(p, pos, end, true);
		if (n != 0)
			return pos + n;
	}
	if (in_set(c, UNICODE_SET_L))
		return run_end(p, after, end, UNICODE_SET_L);
	if (in_set(c, UNICODE_SET_N)) {
		for (unsigned digits = 1; digits < max_digits && after < end; digits++) {
			struct unicode_char d = char_at(p, after);
			if (!in_set(d, UNICODE_SET_N))
				break;
			after += d.nbytes;
		}
		return after;
	}
	struct unicode_char next = {UNICODE_BAD, 0, UNICODE_SPACE};
	if (after < end)
		next = char_at(p, after);
	if (c.cp != '\r' && c.cp != '\n' && in_set(next, UNICODE_SET_L))
		return run_end(p, after, end, UNICODE_SET_L);
	if (in_set(c, UNICODE_SET_REST) || (c.cp == ' ' && in_set(next, UNICODE_SET_REST))) {
		size_t at = run_end(p, after, end, UNICODE_SET_REST);
		while (at < end && (p->text[at] == '\r' || p->text[at] == '\n'))
			at++;
		return at;
	}
	return space_or_lines_end(p, pos);
}

static size_t llama3_end(struct pretokens *p, size_t pos)
{
	return llama3_piece_end(p, pos, 3);
}

static size_t qwen2_end(struct pretokens *p, size_t pos)
{
	return llama3_piece_end(p, pos, 1);
}

static size_t starcoder_end(struct pretokens *p, size_t pos)
{
	struct unicode_char c = char_at(p, pos);
	if (in_set(c, UNICODE_SET_N))
		return pos + c.nbytes;
	if (p->piece_end <= pos)
		p->piece_end = run_end(p, pos, p->nbytes, ~UNICODE_SET_N);
	return gpt2_piece_end(p, pos, p->piece_end);
}

/*
 * deepseek-coder.  The patterns isolate in turn, so a piece is what the first three leave:
 * a line break, an optional space with letters, an optional space with punctuation, or the
 * gap between such; ideographs and numbers then cut any of them, character by character.
 */
static bool is_line_break(struct unicode_char c)
{
	return c.cp == '\r' || c.cp == '\n';
}

static bool is_ideograph(uint32_t cp)
{
	return (cp >= 0x800 && cp <= 0x9fa5) || (cp >= 0xac00 && cp <= 0xd7ff);
}

/* Does \s?set+ match at 'pos', where c is?  Then *body is where the set's run starts. */
static bool spaced_run_at(const struct pretokens *p, size_t pos, struct unicode_char c, unsigned set,
                          size_t *body)
{
	*body = pos;
	if (in_set(c, set))
		return true;
	size_t after = pos + c.nbytes;
	*body = after;
	return c.class == UNICODE_SPACE && after < p->nbytes && in_set(char_at(p, after), set);
}

static size_t deepseek_piece_end(const struct pretokens *p, size_t pos)
{
	struct unicode_char c = char_at(p, pos);
	size_t body;
	if (is_line_break(c))
		return pos + c.nbytes;
	if (spaced_run_at(p, pos, c, UNICODE_SET_L, &body))
		return run_end(p, body, p->nbytes, UNICODE_SET_L);
	if (spaced_run_at(p, pos, c, UNICODE_SET_P, &body))
		return run_end(p, body, p->nbytes, UNICODE_SET_P);
	do {
		pos += c.nbytes;
		if (pos == p->nbytes)
			break;
		c = char_at(p, pos);
	} while (!is_line_break(c) && !spaced_run_at(p, pos, c, UNICODE_SET_L | UNICODE_SET_P, &body));
	return pos;
}

static size_t deepseek_coder_end(struct pretokens *p, size_t pos)
{
	if (p->piece_end <= pos)
		p->piece_end = deepseek_piece_end(p, pos);
	struct unicode_char c = char_at(p, pos);
	bool ideograph = is_ideograph(c.cp);
	if (in_set(c, UNICODE_SET_N))
		return pos + c.nbytes;
	do {
		pos += c.nbytes;
		if (pos >= p->piece_end)
			break;
		c = char_at(p, pos);
	} while (is_ideograph(c.cp) == ideograph && !in_set(c, UNICODE_SET_N));
	return pos;
}

static size_t none_end(struct pretokens *p, size_t pos)
{
	(void)pos;
	return p->nbytes;
}

static size_t space_runs_end(struct pretokens *p, size_t pos)
{
	while (pos < p->nbytes && p->text[pos] == ' ')
		pos++;
	const uint8_t *space = memchr(p->text + pos, ' ', p->nbytes - pos);
	return space ? (size_t)(space - p->text) : p->nbytes;
}

static size_t metaspace_end(struct pretokens *p, size_t pos)
{
	const uint8_t *space = memchr(p->text + pos + 1, ' ', p->nbytes - pos - 1);
	return space ? (size_t)(space - p->text) : p->nbytes;
}

static const struct pretokenizer pretokenizers[] = {
    [PRETOKENIZER_NONE] = {"none", 3, none_end},
    [PRETOKENIZER_GPT2] = {"gpt2", 1, gpt2_end},
    [PRETOKENIZER_LLAMA3] = {"llama3", 1, llama3_end},
    [PRETOKENIZER_QWEN2] = {"qwen2", 1, qwen2_end},
    [PRETOKENIZER_STARCODER] = {"starcoder", 1, starcoder_end},
    [PRETOKENIZER_DEEPSEEK_CODER] = {"deepseek-coder", 1, deepseek_coder_end},
    [PRETOKENIZER_SPACE_RUNS] = {"space-runs", 2, space_runs_end},
    [PRETOKENIZER_METASPACE] = {"metaspace", 2, metaspace_end},
};

const struct pretokenizer *pretokenizer_find(uint32_t id)
{
	return id < PITH_ARRAY_LENGTH(pretokenizers) ? &pretokenizers[id] : NULL;
}
