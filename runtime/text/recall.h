/*
 * Recall: which tokens came after earlier states of the model that were like this one: spec/text_archive.md, section 15.
 *
 * Each stream keeps a *key* for each of its last RECALL_COUNT tokens, the state that predicted it in 8-bit integers; what
 * a state recalls are weights of tokens.  A lane has one of these; different streams of it may be used at once.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_RECALL_H
#define PITH_TEXT_RECALL_H

#include "recall_search.h"
#include "vocab_tree.h"

#define RECALL_COUNT 4096u /* keys of a stream that are looked at */
#define RECALL_MAX_HIDDEN 65536u /* the square of a key has 31 bits */

struct recall {
	const struct recall_loops *loops;
	size_t hidden_count, width; /* of a state; of a key: a multiple of 64 */
	size_t cap;                 /* keys of a stream */
	int8_t *keys;               /* [streams, cap, width] */
	uint64_t *signs;            /* [streams, cap, width / 64] */
	float *inverse;             /* [streams, cap] 1 / length of a key; 0: of no length */
	float *mean;                /* [streams, hidden_count] of the states so far */
};

/* Has the model states that can be recalled? */
static inline bool recall_fits(const struct text_lm *lm)
{
	return lm->hidden_count >= 1 && lm->hidden_count <= RECALL_MAX_HIDDEN;
}

/* Memory for streams of at most token_count tokens, 'ahead' of whose keys are made before the first is used; 0: too much. */
size_t recall_nbytes(size_t stream_count, size_t hidden_count, size_t token_count, size_t ahead);
pith_status recall_open(struct recall *recall, const struct recall_loops *loops, size_t stream_count,
                        size_t hidden_count, size_t token_count, size_t ahead, struct pith_error *err);
void recall_close(struct recall *recall);

/* Of numbers of keys and a key in 16 bits. */
static inline size_t recall_scratch_words(size_t hidden_count) { return RECALL_COUNT + (hidden_count + 63) / 64 * 32; }

/* Make the key of token t, in order.  hidden: [hidden_count] f32, the state that predicts it. */
void recall_add(struct recall *recall, size_t stream, size_t t, const float *hidden);
/*
 * Weights of what followed the keys before t that are like that of t, as prefix sums over the order of the tree.
 * ids: [t] of the stream; scratch: [recall_scratch_words()]; sums: [V + 1].
 */
void recall_sums(const struct recall *recall, size_t stream, size_t t, const struct vocab_tree *tree,
                 const uint32_t *ids, uint32_t *scratch, uint32_t *sums);

#endif
