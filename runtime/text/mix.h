/*
 * Mixing of the language model with models that learn the segment: spec/text_archive.md, sections 10 to 15.
 *
 * A *mix plan* is what depends on the vocabulary alone: tables and what each decision of the
 * tree means.  Immutable, shareable.  A *mix* is the state of one segment, which all its streams share.  Integers only:
 * the same on every machine.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_MIX_H
#define PITH_TEXT_MIX_H

#include "vocab_tree.h"

#define MIX_PROBABILITY_NBITS 22u

/* Parts that a measurement can leave out; the archive has all of them. */
#define MIX_PART_CONTEXT(i) (1u << (i)) /* i < 16: spec text_archive.md 12 */
#define MIX_PART_MATCH(i) (1u << (16 + (i)))
#define MIX_PART_REFINED (1u << 18)
#define MIX_PART_FINAL (1u << 19)
#define MIX_PART_LM (1u << 20)
#define MIX_PART_RECALL (1u << 21)

struct mix_plan;
/* lm and tree are borrowed until the plan is freed. */
pith_status mix_plan_new(const struct text_lm *lm, const struct vocab_tree *tree,
                         struct mix_plan **out, struct pith_error *err);
void mix_plan_free(struct mix_plan *plan);

struct mix;
/* Memory of a mix for a segment of raw_nbytes bytes. */
size_t mix_nbytes(size_t raw_nbytes, bool has_recall);
/* begins: [stream_count], where each stream starts in the segment.  left_out: parts, 0 but for measurements. */
pith_status mix_new(const struct mix_plan *plan, const size_t *begins, size_t stream_count,
                    size_t raw_nbytes, bool has_recall, uint32_t left_out, struct mix **out, struct pith_error *err);
void mix_free(struct mix *mix);

/*
 * Code token 'id' of a stream, whose decisions have the probabilities of 'path' and, with recall, the weights of 'recalled'
 * (else NULL).
 */
void mix_encode(struct mix *mix, size_t stream, uint32_t id, const struct decision *path,
                const struct decision *recalled, struct range_encoder *coder);
/* Read a token; sums: [V + 1], and, with recall, what is recalled.  The caller checks it, then tells it. */
uint32_t mix_decode(struct mix *mix, size_t stream, const uint32_t *sums, const uint32_t *recalled,
                    struct range_decoder *coder);
/* The token that was just decoded fits its stream. */
void mix_accept(struct mix *mix, uint32_t id);

#endif
