/*
 * The kind affine for one token, whose sums stay in registers over a tile; agrees with
 * kern_affine.c bit for bit.  What binds is memory: every line of codes is read once.
 *
 * Included by kern_affine_tmpl.h.  Parameters: slice16_dot, slice16_two_level and level_3*, or
 * the forms of lanes_slice16.h under these names.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/*
 * How far ahead lines of codes are asked for.  Where little is computed for a line, the loads that
 * wait make the processor's own prefetching run ahead, and one line of a block is enough: the page
 * it is in is known before it is needed.  Asking for all is worse than for none there (on Zen 4 0.7
 * instead of 0.9 of what reading alone reaches from a mapped file): they queue for the few misses
 * that the first-level cache can have open.  Where much is computed, few loads are in flight and all
 * lines must be asked for: with codes cut into parts or small.
 */
#define AFFINE_AHEAD 8192u

/* What one token gives: as struct token_batch. */
struct affine_input {
	const int8_t *q;
	const float *as;
	const int32_t *sum;
};

/* Block 'b' of a tile; scaled: s is s * as. */
LANE_INLINE void affine_token_block(const uint8_t *block, size_t b, unsigned bits, bool half,
                                    bool scaled, const struct affine_scale scale[2],
                                    const struct affine_input *in, vf t[LANE_PARTS])
{
	const int8_t *q = in->q + b * PITH_ACT_GROUP;
	const int32_t *sum = in->sum + 2 * b;
	const vi asum[2] = {vi_set1(half ? sum[0] : sum[0] + sum[1]), vi_set1(sum[1])};
	prefetch_line(block + AFFINE_AHEAD);
	const bool all = bits != 4 && bits != 8;
	for (unsigned line = 1; all && line < bits; line++)
		prefetch_line(block + AFFINE_AHEAD + (size_t)64 * line);
	for (size_t part = 0; part < LANE_PARTS; part++) {
		vi csum[2];
		slice16_dot(block, bits, half, part, q, asum, csum);
		for (unsigned run = 0; run <= half; run++) {
			const vf s = scale[run].s[part];
			const vf u = scaled ? s : vf_mul(s, vf_set1(in->as[b]));
			t[part] = affine_add_scaled_run(t[part], csum[run], vf_from_i32(asum[run]), u,
			                                scale[run].z[part]);
		}
	}
}

/* zero_mode 3 with scale_bits and zero_bits of 3, which SpQR has. */
#define AFFINE_LEVEL_3 4u

/* Parts of LEVEL_3_GROUPS groups that are decoded before they are used: they wait for nothing then. */
#define LEVEL_3_PARTS 8u

/* Scales and zero-points of two groups, those of 16 columns times 'as', which they share. */
LANE_INLINE void level_3_scales(const struct level_3 *l, size_t at, bool two, float as,
                                struct affine_scale scale[2])
{
	for (size_t part = 0; part < LANE_PARTS; part++) {
		vf u[2], z[2];
		level_3_pair(l, at, two, part, as, u, z);
		for (unsigned run = 0; run < 2; run++) {
			scale[run].s[part] = u[run];
			scale[run].z[part] = z[run];
		}
	}
}

/* Groups g .. end - 1 with two-level scales of 3 bits; g is even. */
LANE_INLINE void affine_token_levels(const struct pith_term *term, size_t tile, size_t g, size_t end,
                                     const struct affine_input *in, unsigned bits, bool half,
                                     vf t[LANE_PARTS])
{
	const struct pith_affine *a = &term->u.affine;
	const size_t block_nbytes = (size_t)64 * bits, per_group = half ? 0 : a->group_size / PITH_ACT_GROUP;
	size_t b = half ? g / 2 : g * per_group;
	const uint8_t *block = a->codes + (tile * a->blocks + b) * block_nbytes;
	struct level_3 level[LEVEL_3_PARTS];
	for (size_t i = g; i < end; i += LEVEL_3_GROUPS) {
		const size_t tg = tile * a->groups + i, left = end - i;
		level_3_decode(&level[(i - g) / LEVEL_3_GROUPS], a->scale_codes + 6 * tg,
		               a->zero_codes + 6 * tg, a->second_level + 8 * tg,
		               left < LEVEL_3_GROUPS ? left : LEVEL_3_GROUPS);
	}
	for (size_t i = g; i < end; i += 2) {
		struct affine_scale scale[2];
		level_3_scales(&level[(i - g) / LEVEL_3_GROUPS], (i - g) % LEVEL_3_GROUPS, i + 1 < end,
		               half ? in->as[b] : 1.0f, scale);
		if (half) {
			affine_token_block(block, b++, bits, true, true, scale, in, t);
			block += block_nbytes;
			continue;
		}
		for (size_t run = 0; run < 2 && i + run < end; run++) {
			size_t stop = b + per_group < a->blocks ? b + per_group : a->blocks;
			for (; b < stop; b++, block += block_nbytes)
				affine_token_block(block, b, bits, false, false, scale + run, in, t);
		}
	}
}

/* A whole tile; sums: [16]. */
LANE_INLINE void affine_token_tile(const struct pith_term *term, size_t tile,
                                   const struct affine_input *in, unsigned bits,
                                   unsigned zero_mode, bool half, float *sums)
{
	const struct pith_affine *a = &term->u.affine;
	const size_t block_nbytes = (size_t)64 * bits;
	const uint8_t *block = a->codes + tile * a->blocks * block_nbytes;
	const size_t per_group = half ? 1 : a->group_size / PITH_ACT_GROUP;
	size_t tg = tile * a->groups, b = 0, stop = 0;
	vf t[LANE_PARTS];
	for (size_t part = 0; part < LANE_PARTS; part++)
		t[part] = vf_zero();
	for (size_t g = 0, next; zero_mode == AFFINE_LEVEL_3 && g < a->groups; g = next) {
		next = g + LEVEL_3_PARTS * LEVEL_3_GROUPS;
		next = next < a->groups ? next : a->groups;
		affine_token_levels(term, tile, g, next, in, bits, half, t);
	}
	while (zero_mode != AFFINE_LEVEL_3 && b < a->blocks) {
		struct affine_scale scale[2];
		load_scale_as(a, bits, zero_mode, tg++, &scale[0]);
		if (half && b * PITH_ACT_GROUP + 16 < term->n)
			load_scale_as(a, bits, zero_mode, tg++, &scale[1]);
		else if (half)
			zero_scale(&scale[1]);
		stop = stop + per_group < a->blocks ? stop + per_group : a->blocks;
		for (; b < stop; b++, block += block_nbytes)
			affine_token_block(block, b, bits, half, false, scale, in, t);
	}
	for (size_t part = 0; part < LANE_PARTS; part++)
		vf_store(sums + part * LANE_WIDTH, t[part]);
}

typedef void affine_token_fn(const struct pith_term *term, size_t tile,
                             const struct affine_input *in, float *sums);

/* Functions, not code in a macro: each line below is one instance of affine_token_tile. */
#define AFFINE_TOKEN(bits, zero_mode, half)                                                        \
	static void affine_token_##bits##_##zero_mode##_##half(                                    \
	    const struct pith_term *term, size_t tile, const struct affine_input *in, float *sums) \
	{                                                                                          \
		affine_token_tile(term, tile, in, bits, zero_mode, half, sums);                    \
	}
#define AFFINE_TOKENS(bits)                                                                        \
	AFFINE_TOKEN(bits, 0, 0)                                                                   \
	AFFINE_TOKEN(bits, 0, 1)                                                                   \
	AFFINE_TOKEN(bits, 1, 0)                                                                   \
	AFFINE_TOKEN(bits, 1, 1)                                                                   \
	AFFINE_TOKEN(bits, 2, 0)                                                                   \
	AFFINE_TOKEN(bits, 2, 1)                                                                   \
	AFFINE_TOKEN(bits, 3, 0)                                                                   \
	AFFINE_TOKEN(bits, 3, 1)                                                                   \
	AFFINE_TOKEN(bits, 4, 0)                                                                   \
	AFFINE_TOKEN(bits, 4, 1)
AFFINE_TOKENS(1)
AFFINE_TOKENS(2)
AFFINE_TOKENS(3)
AFFINE_TOKENS(4)
AFFINE_TOKENS(5)
AFFINE_TOKENS(6)
AFFINE_TOKENS(7)
AFFINE_TOKENS(8)

#define AFFINE_TOKEN_ROW(bits)                                                                     \
	{                                                                                          \
		{affine_token_##bits##_0_0, affine_token_##bits##_0_1},                            \
		    {affine_token_##bits##_1_0, affine_token_##bits##_1_1},                        \
		    {affine_token_##bits##_2_0, affine_token_##bits##_2_1},                        \
		    {affine_token_##bits##_3_0, affine_token_##bits##_3_1},                        \
		    {affine_token_##bits##_4_0, affine_token_##bits##_4_1},                        \
	}
/* [bits - 1][zero_mode or AFFINE_LEVEL_3][runs of 16] */
static affine_token_fn *const affine_token_tiles[8][5][2] = {
    AFFINE_TOKEN_ROW(1), AFFINE_TOKEN_ROW(2), AFFINE_TOKEN_ROW(3), AFFINE_TOKEN_ROW(4),
    AFFINE_TOKEN_ROW(5), AFFINE_TOKEN_ROW(6), AFFINE_TOKEN_ROW(7), AFFINE_TOKEN_ROW(8),
};

static void affine_token_apply(const struct pith_term *term, const struct pith_act *act,
                               size_t tile_begin, size_t tile_end, bool add, float *y)
{
	const struct pith_affine *a = &term->u.affine;
	const bool level_3 = a->zero_mode == 3 && a->scale_bits == 3 && a->zero_bits == 3;
	const unsigned zero_mode = level_3 ? AFFINE_LEVEL_3 : a->zero_mode;
	affine_token_fn *fn =
	    affine_token_tiles[a->bits - 1][zero_mode][a->group_size < PITH_ACT_GROUP];
	const struct affine_input in = {act->q, act->scale, act->sum};
	for (size_t tile = tile_begin; tile < tile_end; tile++) {
		float t[PITH_TILE_ROWS];
		fn(term, tile, &in, t);
		pith_tile_store(term, tile, t, add, y + tile * PITH_TILE_ROWS);
	}
}
