/*
 * The vocabulary as a binary tree over its bytes: spec/text_archive.md, section 9.
 *
 * A node is a range of positions in the sorted order and is known by where it splits:
 * between any two neighbours exactly one node splits, so the tree is two arrays of
 * positions.  Immutable once made; shareable.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_VOCAB_TREE_H
#define PITH_TEXT_VOCAB_TREE_H

#include "range_coder.h"
#include "text_lm.h"

struct vocab_tree {
	size_t count;        /* V */
	uint32_t *order;     /* [V] id at a position */
	uint32_t *position;  /* [V] position of an id */
	uint32_t *zero;      /* [V] split of the range left of split x; 0: a leaf */
	uint32_t *one;       /* [V] split of the range right of split x; 0: a leaf */
	uint32_t root;       /* split of [0, V); 0: V is 1 */
	size_t depth_max;    /* decisions of the deepest token */
};

pith_status vocab_tree_new(const struct text_lm *lm, struct vocab_tree *tree,
                           struct pith_error *err);
void vocab_tree_free(struct vocab_tree *tree);

/* One decision: 0 has probability z / n. */
struct decision {
	uint32_t z, n;
	bool bit;
};

/* Decisions of token 'id'. */
size_t vocab_tree_depth(const struct vocab_tree *tree, uint32_t id);
/* Write them.  sums: [V + 1]; out: [depth]. */
void vocab_tree_path(const struct vocab_tree *tree, const uint32_t *sums, uint32_t id,
                     struct decision *out);
/* Read one token. */
uint32_t vocab_tree_decode(const struct vocab_tree *tree, const uint32_t *sums,
                           struct range_decoder *coder);

#endif
