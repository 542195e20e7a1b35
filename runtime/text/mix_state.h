/*
 * What the files mix*.c share: tables, records and sizes of spec/text_archive.md, sections 10 to 15.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_MIX_STATE_H
#define PITH_TEXT_MIX_STATE_H

#include "mix.h"
#include "mix_sum.h"

#define MIX_CONTEXTS 16u
#define MIX_MATCHES 2u
#define MIX_REFINED 2u
#define MIX_FINALS 2u
#define MIX_SET_ROWS 512u
#define MIX_FINAL_ROWS 64u
#define MIX_LOGIT_MAX 4095    /* of an input */
#define MIX_DOT_MAX 5119      /* of a sum */
#define MIX_WEIGHT_ONE 65536
#define MIX_BUCKETS 33u       /* of an interpolated map */
#define MIX_AGES 8192u        /* of a row of weights */
#define MIX_NODE_ROWS 4096u
#define MIX_BYTE_ROWS 4096u

enum mix_node_kind { MIX_NODE_BIT = 0, MIX_NODE_END = 1 };

struct mix_node { /* what a decision of the vocabulary tree is about */
	uint32_t depth;  /* bytes that all its tokens begin with */
	uint16_t key;    /* 1 .. 255: bits of the next byte so far; 256 ..: not about a bit */
	uint8_t kind;
	uint8_t bit;     /* 0 .. 7 from the highest; 8: not about a bit */
};

struct mix_plan {
	const struct text_lm *lm;
	const struct vocab_tree *tree;
	struct mix_node *nodes; /* [V], by split */
	uint32_t exp2[256];
	uint8_t log2[1024];
	uint32_t squash[2 * MIX_DOT_MAX + 1];
	int16_t stretch[4096];
	const struct mix_loops *loops; /* [2] */
	uint32_t rate[1024];    /* 65536 / (n + 1.5) */
	int32_t gain[29];       /* of a bias, by what its counter has seen */
	uint8_t pace[MIX_AGES]; /* of weights, in 16ths */
};

struct mix_slot { /* an adaptive counter */
	int16_t bias;   /* what the model's logit lacks here, in quarters */
	uint8_t state;  /* zeros seen << 4 | ones seen; 0: never used */
	uint8_t check;
};

struct mix_match {
	uint32_t at;   /* where the history goes on; 0: nowhere */
	uint32_t len;  /* bytes that agree; 0: the last token did not */
	uint32_t miss;
};

struct mix_stream {
	size_t begin, at;          /* in the segment */
	uint64_t last;             /* last eight bytes, the newest lowest */
	uint32_t tokens[3];        /* id + 1 of the last tokens, the newest first; 0: none */
	uint32_t word, word_before;
	size_t line, line_before;  /* where this line and the one before start */
	uint32_t field;
	struct mix_match match[MIX_MATCHES];
};

struct mix {
	const struct mix_plan *plan;
	uint32_t left_out;
	size_t raw_nbytes;
	struct mix_stream *streams;
	uint8_t *history;          /* [raw_nbytes + MIX_SLACK]: bytes coded so far, 0 elsewhere */
	uint8_t *starts;           /* same: 1 where a token begins */
	uint32_t *match_table[MIX_MATCHES];
	unsigned line_nbits;
	struct mix_slot *slots;    /* [16 << line_nbits], in pages */
	uint32_t (*state_map)[256];                 /* [MIX_CONTEXTS] */
	uint32_t (*match_map)[1024];                /* [MIX_MATCHES] */
	uint16_t (*node_map)[MIX_BUCKETS];          /* [MIX_NODE_ROWS] */
	uint16_t (*byte_map)[MIX_BUCKETS];          /* [MIX_BYTE_ROWS] */
	uint16_t (*final_map[MIX_FINALS])[MIX_BUCKETS];
	const struct mix_loops *loops;              /* of the plan's, those of the right size */
	bool has_recall;
	int32_t *weights;                           /* [loops->sets, MIX_SET_ROWS, loops->inputs] */
	uint16_t (*ages)[MIX_SET_ROWS];             /* [loops->sets] how often a row has learned */
	int32_t (*final_weights)[MIX_MAX_SETS];     /* [MIX_FINAL_ROWS] */

	/* the token under way */
	struct mix_stream *stream;
	const uint8_t *prefix;
	size_t depth;              /* bytes of it that are known; SIZE_MAX: no contexts yet */
	uint32_t hashes[MIX_CONTEXTS];
	struct mix_slot *lines[MIX_CONTEXTS];
	uint32_t total, recalled_total; /* of the frequencies, of the weights recalled */
	uint32_t touched;          /* no meaning: keeps the reads that fetch memory early */
	uint32_t newest;           /* last two bytes */

	/* the decision under way */
	const struct mix_node *node;
	struct mix_slot *slot[MIX_CONTEXTS];
	uint8_t state[MIX_CONTEXTS];
	uint32_t *match_at[MIX_MATCHES];
	bool match_bit[MIX_MATCHES];
	uint16_t *refined_at[MIX_REFINED], *final_maps[MIX_FINALS], *final_at[MIX_FINALS];
	int32_t logit;             /* the model's */
	uint32_t recalled_zero, recalled_one;
	int32_t inputs[MIX_MAX_INPUTS];
	int32_t *row[MIX_MAX_SETS], *final_row;
	uint16_t *age[MIX_MAX_SETS];
	int32_t dots[MIX_MAX_SETS];
	uint32_t p_set[MIX_MAX_SETS], p_mixed;
};

#define MIX_SLACK 512u

static inline uint32_t mix_hash(uint32_t a, uint32_t b)
{
	uint32_t h = (a ^ b * 0x9e3779b1u) * 0x85ebca6bu;
	return (h ^ h >> 15) * 0xc2b2ae35u;
}

static inline uint32_t mix_least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static inline int32_t mix_clamp(int32_t x, int32_t max) { return x > max ? max : x < -max ? -max : x; }

/* Position of the highest bit; v > 0. */
static inline unsigned mix_top_bit(uint32_t v)
{
	unsigned n = 0;
	for (unsigned half = 16; half > 0; half /= 2)
		if (v >> half != 0) {
			v >>= half;
			n += half;
		}
	return n;
}

/* 256 * log2(v) */
static inline int32_t mix_log2(const struct mix_plan *plan, uint32_t v)
{
	unsigned k = mix_top_bit(v);
	uint32_t mantissa = (k >= 10 ? v >> (k - 10) : v << (10 - k)) & 1023u;
	return (int32_t)(256 * k + plan->log2[mantissa]);
}

/* Contexts of the stream for the token's first 'depth' bytes. */
void mix_contexts(struct mix *mix, size_t depth);
/* Look for matches at the start of a token. */
void mix_find_matches(struct mix *mix);
/* Predictions of the matches for the decision under way: inputs[0 .. 4).  Returns the row of weights. */
uint32_t mix_match_inputs(struct mix *mix, int32_t *inputs);
void mix_match_learn(struct mix *mix, unsigned bit);
/* With recall: inputs[40 .. 42), then the rows of the last two sets. */
void mix_recall_inputs(struct mix *mix, const struct decision *model, const struct decision *recalled);
void mix_recall_rows(const struct mix *mix, uint32_t rows[2]);
/* Adaptive probability of 22 bits over a count of 10. */
void mix_map_learn(const struct mix_plan *plan, uint32_t *entry, unsigned bit);

#endif
