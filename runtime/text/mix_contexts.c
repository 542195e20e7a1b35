/*
 * What the mixer's counters and matches are asked by: spec/text_archive.md, sections 12 and 13.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_state.h"

#define MATCH_HASH_NBITS 18u
#define MATCH_CHECK_MAX 40u

static const uint8_t match_nbytes[MIX_MATCHES] = {6, 24};

static bool is_letter(uint8_t byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte >= 128;
}

static uint32_t grow_word(uint32_t word, uint8_t byte)
{
	return is_letter(byte) ? mix_hash(word, byte >= 'A' && byte <= 'Z' ? byte + 32u : byte) : 0;
}

/* The byte of the line before, 'column' bytes after its start; a line feed when it is shorter. */
static uint32_t byte_above(const struct mix *mix, size_t column)
{
	const struct mix_stream *s = mix->stream;
	return s->line_before + column < s->line ? mix->history[s->line_before + column] : '\n';
}

void mix_contexts(struct mix *mix, size_t depth)
{
	const struct mix_stream *s = mix->stream;
	uint64_t last = s->last;
	uint32_t word = s->word, begun = 0;
	for (size_t i = 0; i < depth; i++) {
		last = last << 8 | mix->prefix[i];
		begun = mix_hash(begun + 1, mix->prefix[i]);
		word = grow_word(word, mix->prefix[i]);
	}
	size_t column = s->at - s->line + depth;
	uint32_t new4 = (uint32_t)last, old4 = (uint32_t)(last >> 32);
	uint32_t above = byte_above(mix, column) << 8 | byte_above(mix, column + 1);
	uint32_t after1 = mix_hash(begun, s->tokens[0]), after2 = mix_hash(after1, s->tokens[1]);
	uint32_t stream = (uint32_t)(s - mix->streams);
	const uint32_t values[MIX_CONTEXTS] = {
		new4 & 0xffffu, new4 & 0xffffffu, new4, mix_hash(new4, old4 & 0xffu), mix_hash(new4, old4 & 0xffffu),
		mix_hash(word, new4 & 0xffu), mix_hash(word, s->word_before),
		mix_hash(above, new4 & 0xffu), mix_hash(s->field, word),
		after1, after2, mix_hash(after2, s->tokens[2]),
		mix_hash(begun, stream), mix_hash(word, stream), mix_hash(after1, stream), mix_hash(after2, stream),
	};
	uint32_t part = depth < 2 ? (uint32_t)depth : 2;
	for (uint32_t i = 0; i < MIX_CONTEXTS; i++) {
		mix->hashes[i] = mix_hash(mix_hash(values[i], i + 1), part);
		mix->lines[i] = mix->slots + (size_t)(mix->hashes[i] >> (32 - mix->line_nbits)) * 16;
	}
	/* counters wait for memory one after the other; read here, all wait together */
	for (uint32_t i = 0; i < MIX_CONTEXTS; i++)
		mix->touched += mix->lines[i]->check;
	mix->depth = depth;
	mix->newest = new4 & 0xffffu;
}

/* ---- matches ---- */

/* Bytes before 'a' and before 'b' that agree, at most MATCH_CHECK_MAX. */
static uint32_t common_before(const uint8_t *history, size_t a, size_t b)
{
	uint32_t n = 0;
	while (n < MATCH_CHECK_MAX && n < a && n < b && history[a - 1 - n] == history[b - 1 - n])
		n++;
	return n;
}

void mix_find_matches(struct mix *mix)
{
	struct mix_stream *s = mix->stream;
	for (size_t k = 0; k < MIX_MATCHES; k++) {
		size_t least = match_nbytes[k];
		if (s->at - s->begin < least)
			continue;
		uint32_t h = 0;
		for (size_t i = 1; i <= least; i++)
			h = mix_hash(h, mix->history[s->at - i]);
		uint32_t *entry = &mix->match_table[k][h >> (32 - MATCH_HASH_NBITS)];
		if (s->match[k].len == 0 && *entry != 0) {
			uint32_t len = common_before(mix->history, *entry, s->at);
			if (len >= least)
				s->match[k] = (struct mix_match){*entry, len, 0};
		}
		*entry = (uint32_t)s->at;
	}
}

/* What a match says of the decision under way: 0 or 1, or 2 for nothing. */
static unsigned match_says(const struct mix *mix, const struct mix_match *match)
{
	const struct mix_node *node = mix->node;
	if (match->at == 0 || match->at + mix->depth >= mix->raw_nbytes ||
	    memcmp(mix->history + match->at, mix->prefix, mix->depth) != 0)
		return 2;
	if (node->kind == MIX_NODE_END)
		return mix->starts[match->at + mix->depth] == 0;
	uint32_t byte = mix->history[match->at + mix->depth] | 256u;
	return byte >> (8 - node->bit) == node->key ? byte >> (7 - node->bit) & 1u : 2;
}

static uint32_t length_class(uint32_t len)
{
	static const uint16_t bounds[] = {1, 2, 4, 6, 8, 12, 16, 32, 64, 128, 512};
	uint32_t n = 0;
	while (n < sizeof(bounds) / sizeof(bounds[0]) && len >= bounds[n])
		n++;
	return n;
}

uint32_t mix_match_inputs(struct mix *mix, int32_t *inputs)
{
	uint32_t row = 0;
	for (size_t k = 0; k < MIX_MATCHES; k++) {
		const struct mix_match *match = &mix->stream->match[k];
		unsigned says = mix->left_out & MIX_PART_MATCH(k) ? 2 : match_says(mix, match);
		inputs[2 * k] = inputs[2 * k + 1] = 0;
		mix->match_at[k] = NULL;
		if (says == 2)
			continue;
		uint32_t class = length_class(match->len);
		uint32_t context = class + 16 * mix_least(match->miss, 7) +
		                   128 * (uint32_t)(mix->node->kind == MIX_NODE_END) +
		                   256 * (uint32_t)(mix->depth > 0);
		mix->match_at[k] = &mix->match_map[k][context];
		mix->match_bit[k] = says == 1;
		int32_t trust = mix->plan->stretch[*mix->match_at[k] >> 20];
		int32_t len = (int32_t)(16 * mix_least(match->len, 32));
		inputs[2 * k] = says == 1 ? trust : -trust;
		inputs[2 * k + 1] = says == 1 ? len : -len;
		row = 1 + class + 12 * (uint32_t)k;
	}
	return row;
}

void mix_match_learn(struct mix *mix, unsigned bit)
{
	for (size_t k = 0; k < MIX_MATCHES; k++)
		if (mix->match_at[k] != NULL)
			mix_map_learn(mix->plan, mix->match_at[k], mix->match_bit[k] == (bit != 0));
}

/* ---- the end of a token ---- */

static void advance_matches(struct mix *mix, const uint8_t *bytes, size_t nbytes)
{
	for (size_t k = 0; k < MIX_MATCHES; k++) {
		struct mix_match *match = &mix->stream->match[k];
		if (match->at == 0)
			continue;
		bool inside = match->at + nbytes < mix->raw_nbytes;
		if (inside && memcmp(mix->history + match->at, bytes, nbytes) == 0) {
			match->len = mix_least(match->len + (uint32_t)nbytes, 65535);
			match->miss = match->len >= 16 ? 0 : match->miss;
		} else {
			match->len = 0;
			match->miss++;
		}
		match->at += (uint32_t)nbytes;
		if (!inside || match->miss > 7)
			*match = (struct mix_match){0};
	}
}

void mix_accept(struct mix *mix, uint32_t id)
{
	struct mix_stream *s = mix->stream;
	const struct text_lm *lm = mix->plan->lm;
	size_t nbytes;
	const uint8_t *bytes = lm->token_bytes(lm->ctx, id, &nbytes);
	advance_matches(mix, bytes, nbytes);
	mix->starts[s->at] = 1;
	for (size_t i = 0; i < nbytes; i++) {
		uint8_t byte = bytes[i];
		mix->history[s->at++] = byte;
		s->last = s->last << 8 | byte;
		if (!is_letter(byte) && s->word != 0)
			s->word_before = s->word;
		s->word = grow_word(s->word, byte);
		if (byte == '\n') {
			s->line_before = s->line;
			s->line = s->at;
			s->field = 0;
		} else if (byte == ' ' || byte == ',' || byte == ';' || byte == '\t') {
			s->field++;
		}
	}
	s->tokens[2] = s->tokens[1];
	s->tokens[1] = s->tokens[0];
	s->tokens[0] = id + 1;
}
