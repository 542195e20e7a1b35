/*
 * Checkpoints without a meaning: the shape of a known model and weights made from a seed, so that
 * speed can be studied where there are no weights.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_SHAPE_H
#define PITH_CLI_SHAPE_H

#include "cli.h"

struct cli_shape {
	const char *name;
	uint64_t blocks, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
	bool tied;
};

/* By name, or "BLOCKS,HIDDEN,FFN,HEADS,KV_HEADS,VOCAB"; false when it is neither. */
bool cli_shape_find(const char *text, struct cli_shape *out);
/* Names of the known shapes, ended by an empty one. */
extern const struct cli_shape cli_shapes[];

/*
 * Write a checkpoint of that shape in bf16, with a tokenizer of bytes and a text for schemes that calibrate
 * (where the vocabulary has room for 256 bytes), store it by 'scheme' (NULL: the default) with a KV cache of
 * 'kv_dtype' as 'target', and remove the checkpoint.  It is made in a folder of its own beside 'target'.
 * Says what is wrong; returns an exit code.
 */
int cli_shape_make(struct cli *cli, const struct cli_shape *shape, const char *scheme, unsigned kv_dtype,
                   const char *target);

#endif
