/*
 * The kind affine where a token has one scale (int8_token, int8_static): runs as long as the
 * weight's groups, at most 256 columns.  Sums stay integers over the blocks of a run, so that scales
 * and zero-points are applied once in up to eight blocks.  Groups of 16 have the same runs under
 * every rule and stay with kern_affine_tmpl.h.
 *
 * Included by kern_affine_tmpl.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

#define RUN_BLOCKS (PITH_RUN_COLUMNS / PITH_ACT_GROUP)

/* Integer sums of the blocks b .. b + blocks - 1 for all tokens; isum: [count]. */
LANE_INLINE void affine_run_sums(const uint8_t *block, size_t b, size_t blocks, unsigned bits,
                                 size_t part, const struct token_batch *batch, vi *isum)
{
	for (size_t i = 0; i < batch->count; i++)
		isum[i] = vi_zero();
	for (size_t end = b + blocks; b < end; b++, block += (size_t)64 * bits) {
		const int8_t *q = batch->q + b * PITH_ACT_GROUP;
		const int32_t *sum = batch->sum + 2 * b;
		vi code[SLICE16_VECTORS];
		slice16_decode(block, bits, part, code);
		for (size_t i = 0; i < batch->count; i++) {
			vi asum = vi_set1(sum[0] + sum[1]);
			isum[i] = vi_add(isum[i], code_dot(code, SLICE16_VECTORS, bits, q, asum));
			q += batch->ldq;
			sum += 2 * batch->lds;
		}
	}
}

/* A run of all tokens. */
LANE_INLINE void affine_long_run(const uint8_t *block, size_t b, size_t blocks, unsigned bits,
                                 const struct affine_scale *scale,
                                 const struct token_batch *batch)
{
	for (size_t part = 0; part < LANE_PARTS; part++) {
		const vf s = scale->s[part], z = scale->z[part];
		float *t = batch->t + part * LANE_WIDTH;
		vi isum[TOKEN_BATCH];
		affine_run_sums(block, b, blocks, bits, part, batch, isum);
		for (size_t i = 0; i < batch->count; i++, t += PITH_TILE_ROWS) {
			const int32_t *sum = batch->sum + 2 * (i * batch->lds + b);
			int32_t total = 0;
			for (size_t k = 0; k < 2 * blocks; k++)
				total += sum[k];
			vf_store(t, affine_add_run(vf_load(t), isum[i], vf_set1((float)total),
			                           batch->as[i * batch->lds + b], s, z));
		}
	}
}

/* A whole tile; batch->t is zero on entry and has the sums after. */
LANE_INLINE void affine_long_tile(const struct pith_term *term, size_t tile,
                                  const struct token_batch *batch, unsigned bits)
{
	const struct pith_affine *a = &term->u.affine;
	const uint8_t *codes = a->codes + tile * a->blocks * 64 * bits;
	const size_t per_group = a->group_size / PITH_ACT_GROUP;
	for (size_t group = 0, b = 0; group < a->groups; group++) {
		size_t end = b + per_group < a->blocks ? b + per_group : a->blocks;
		struct affine_scale scale;
		load_scale(a, tile * a->groups + group, &scale);
		while (b < end) {
			size_t blocks = end - b < RUN_BLOCKS ? end - b : RUN_BLOCKS;
			affine_long_run(codes + b * 64 * bits, b, blocks, bits, &scale, batch);
			b += blocks;
		}
	}
}

/* Functions, not code in a macro: each line below is one instance of affine_long_tile. */
#define AFFINE_LONG(bits)                                                                          \
	static void affine_long_##bits(const struct pith_term *term, size_t tile,                  \
	                               const struct token_batch *batch)                            \
	{                                                                                          \
		affine_long_tile(term, tile, batch, bits);                                         \
	}
AFFINE_LONG(1)
AFFINE_LONG(2)
AFFINE_LONG(3)
AFFINE_LONG(4)
AFFINE_LONG(5)
AFFINE_LONG(6)
AFFINE_LONG(7)
AFFINE_LONG(8)

/* [bits - 1] */
static token_tile_fn *const affine_long_tiles[8] = {
    affine_long_1, affine_long_2, affine_long_3, affine_long_4,
    affine_long_5, affine_long_6, affine_long_7, affine_long_8,
};
