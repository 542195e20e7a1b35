/*
 * The two loops of recall, compiled once for every processor and once for AVX2: integers, so all give the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_RECALL_SEARCH_H
#define PITH_TEXT_RECALL_SEARCH_H

#include "bytes.h"

struct recall_loops {
	/*
	 * Numbers of the keys whose signs differ from those of 'query' in at most 'most' places, plus 'first', in order.
	 * query: [words]; signs: [count, words]; hits: [count].  Returns how many.
	 */
	size_t (*near)(const uint64_t *query, const uint64_t *signs, size_t words, size_t count, uint32_t most,
	               uint32_t first, uint32_t *hits);
	/* Product of two keys, one of them in the form that is multiplied faster; width: a multiple of 64, at most 65536. */
	int32_t (*dot)(const int16_t *query, const int8_t *key, size_t width);
};
extern const struct recall_loops recall_loops_portable;
/* NULL where the compiler does not know AVX2. */
const struct recall_loops *recall_loops_avx2(void);

#endif
