/*
 * Building and walking the vocabulary tree.  Building is linear in the bytes of the vocabulary but
 * for sorting; walking costs one step a decision and touches nothing but the two arrays.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "vocab_tree.h"

#include <stdlib.h>

struct entry {
	const uint8_t *bytes;
	size_t nbytes;
	uint32_t id;
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	size_t common = x->nbytes < y->nbytes ? x->nbytes : y->nbytes;
	int order = common > 0 ? memcmp(x->bytes, y->bytes, common) : 0;
	if (order != 0)
		return order;
	if (x->nbytes != y->nbytes)
		return x->nbytes < y->nbytes ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Does the token lie right of a split at 'depth' bytes?  mask 0: longer than that; else: has a bit. */
static bool is_right(const struct entry *e, size_t depth, unsigned mask)
{
	return e->nbytes > depth && (mask == 0 || (e->bytes[depth] & mask) != 0);
}

/* Where [lo, hi) with at least two tokens splits. */
static size_t split_of(const struct entry *sorted, size_t lo, size_t hi)
{
	const struct entry *first = &sorted[lo], *last = &sorted[hi - 1];
	size_t common = 0;
	while (common < first->nbytes && common < last->nbytes &&
	       first->bytes[common] == last->bytes[common])
		common++;
	if (common == first->nbytes && common == last->nbytes)
		return lo + (hi - lo) / 2;
	unsigned mask = 0;
	if (first->nbytes > common) {
		mask = 128;
		while (((first->bytes[common] ^ last->bytes[common]) & mask) == 0)
			mask >>= 1;
	}
	/* sorted and equal in all higher bits, so what lies right is one run at the end */
	size_t left = lo, right = hi - 1;
	while (right - left > 1) {
		size_t middle = left + (right - left) / 2;
		if (is_right(&sorted[middle], common, mask))
			right = middle;
		else
			left = middle;
	}
	return right;
}

struct pending {
	uint32_t lo, hi, depth;
	uint32_t *link; /* where the split of [lo, hi) belongs */
};

/* An explicit stack: the vocabulary decides the depth.  Taking the larger half last bounds it by log2(V). */
static void build_tree(struct vocab_tree *tree, const struct entry *sorted)
{
	struct pending stack[64];
	size_t used = 0;
	struct pending now = {0, (uint32_t)tree->count, 0, &tree->root};
	for (;;) {
		if (now.depth > tree->depth_max)
			tree->depth_max = now.depth;
		if (now.hi - now.lo < 2) {
			*now.link = 0;
			if (used == 0)
				return;
			now = stack[--used];
			continue;
		}
		uint32_t x = (uint32_t)split_of(sorted, now.lo, now.hi);
		*now.link = x;
		struct pending zero = {now.lo, x, now.depth + 1, &tree->zero[x]};
		struct pending one = {x, now.hi, now.depth + 1, &tree->one[x]};
		bool zero_is_larger = x - now.lo > now.hi - x;
		stack[used++] = zero_is_larger ? zero : one;
		now = zero_is_larger ? one : zero;
	}
}

pith_status vocab_tree_new(const struct text_lm *lm, struct vocab_tree *tree,
                           struct pith_error *err)
{
	*tree = (struct vocab_tree){.count = lm->vocab_count};
	if (tree->count < 1 || tree->count > (size_t)1 << 24)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "a vocabulary of %zu tokens cannot code text", tree->count);
	size_t count = tree->count;
	struct entry *sorted = calloc(count, sizeof(*sorted));
	uint32_t *arrays = calloc(4 * count, sizeof(*arrays));
	if (sorted == NULL || arrays == NULL) {
		free(sorted);
		free(arrays);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for the vocabulary tree");
	}
	tree->order = arrays;
	tree->position = arrays + count;
	tree->zero = arrays + 2 * count;
	tree->one = arrays + 3 * count;
	for (size_t i = 0; i < count; i++) {
		sorted[i].id = (uint32_t)i;
		sorted[i].bytes = lm->token_bytes(lm->ctx, (uint32_t)i, &sorted[i].nbytes);
		if (sorted[i].bytes == NULL)
			sorted[i].nbytes = 0;
	}
	qsort(sorted, count, sizeof(*sorted), compare_entries);
	for (size_t j = 0; j < count; j++) {
		tree->order[j] = sorted[j].id;
		tree->position[sorted[j].id] = (uint32_t)j;
	}
	build_tree(tree, sorted);
	free(sorted);
	return PITH_OK;
}

void vocab_tree_free(struct vocab_tree *tree)
{
	free(tree->order);
	*tree = (struct vocab_tree){0};
}

size_t vocab_tree_depth(const struct vocab_tree *tree, uint32_t id)
{
	uint32_t position = tree->position[id];
	size_t depth = 0;
	for (uint32_t x = tree->root; x != 0; depth++)
		x = position >= x ? tree->one[x] : tree->zero[x];
	return depth;
}

void vocab_tree_path(const struct vocab_tree *tree, const uint32_t *sums, uint32_t id,
                     struct decision *out)
{
	uint32_t position = tree->position[id];
	size_t lo = 0, hi = tree->count;
	for (uint32_t x = tree->root; x != 0; out++) {
		*out = (struct decision){sums[x] - sums[lo], sums[hi] - sums[lo], position >= x};
		if (out->bit) {
			lo = x;
			x = tree->one[x];
		} else {
			hi = x;
			x = tree->zero[x];
		}
	}
}

uint32_t vocab_tree_decode(const struct vocab_tree *tree, const uint32_t *sums,
                           struct range_decoder *coder)
{
	size_t lo = 0, hi = tree->count;
	for (uint32_t x = tree->root; x != 0;) {
		if (range_decode(coder, sums[x] - sums[lo], sums[hi] - sums[lo])) {
			lo = x;
			x = tree->one[x];
		} else {
			hi = x;
			x = tree->zero[x];
		}
	}
	return tree->order[lo];
}
