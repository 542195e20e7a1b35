/*
 * Decoding a block of the layout slice16 (16 rows by 32 columns of codes of 1..8 bits, spec/terms/affine.md,
 * "Codes") into vectors of 4 columns.  Shared by the kinds affine and codebook.
 *
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_SLICE16_H
#define PITH_RUNTIME_LANES_SLICE16_H

#define SLICE16_VECTORS 8u /* of 4 columns in a block */
#define LEVEL_3_GROUPS 4u  /* whose two-level scales are decoded at a time */

/*
 * Move the field that starts at bit 'from' of every byte to bit 'to'; bits around it are left for
 * the mask.  from + width <= 8, so what a 16-bit shift brings in from the other byte misses it.
 */
LANE_INLINE vi move_field(vi v, unsigned from, unsigned to)
{
	switch ((int)from - (int)to) {
	case -6: return LANE_SHIFT_LEFT(v, 6);
	case -5: return LANE_SHIFT_LEFT(v, 5);
	case -4: return LANE_SHIFT_LEFT(v, 4);
	case -3: return LANE_SHIFT_LEFT(v, 3);
	case -2: return LANE_SHIFT_LEFT(v, 2);
	case -1: return LANE_SHIFT_LEFT(v, 1);
	case 1: return LANE_SHIFT_RIGHT(v, 1);
	case 2: return LANE_SHIFT_RIGHT(v, 2);
	case 3: return LANE_SHIFT_RIGHT(v, 3);
	case 4: return LANE_SHIFT_RIGHT(v, 4);
	case 5: return LANE_SHIFT_RIGHT(v, 5);
	case 6: return LANE_SHIFT_RIGHT(v, 6);
	case 7: return LANE_SHIFT_RIGHT(v, 7);
	default: return v;
	}
}

/* OR the part of 'width' bits (4, 2 or 1), stored from 'lines' on, into the codes at bit 'to'. */
LANE_INLINE void decode_part(const uint8_t *lines, unsigned width, unsigned to,
                             vi code[SLICE16_VECTORS])
{
	const unsigned fields = 8 / width; /* vectors that one line holds */
	const vi mask = vi_set1_u8(((1u << width) - 1u) << to);
	for (unsigned l = 0; l < width; l++) {
		vi line = vi_load(lines + (size_t)64 * l);
		for (unsigned f = 0; f < fields; f++) {
			unsigned i = l * fields + f;
			vi moved = move_field(line, f * width, to);
			code[i] = to == 0 ? vi_and(moved, mask) : vi_or_and(code[i], moved, mask);
		}
	}
}

/* Codes of one block, rows of vector 'part': code[i] holds columns 4 i .. 4 i + 3. */
LANE_INLINE void slice16_decode(const uint8_t *block, unsigned bits, size_t part,
                              vi code[SLICE16_VECTORS])
{
	const uint8_t *lines = block + part * 4 * LANE_WIDTH;
	unsigned to = 0;
	if (bits == 8) {
		for (unsigned i = 0; i < SLICE16_VECTORS; i++)
			code[i] = vi_load(lines + (size_t)64 * i);
		return;
	}
	if (bits & 4) {
		decode_part(lines, 4, 0, code);
		to = 4;
	}
	if (bits & 2) {
		decode_part(lines + (size_t)64 * to, 2, to, code);
		to += 2;
	}
	if (bits & 1)
		decode_part(lines + (size_t)64 * to, 1, to, code);
}

/*
 * Σ code * q of one token with the columns of a block, rows of vector 'part': csum[0] of all, or with
 * 'half' csum[0] and csum[1] of 16 each; asum: the sums of those q.
 */
LANE_INLINE void slice16_decoded_dot(const uint8_t *block, unsigned bits, bool half, size_t part,
                                     const int8_t *q, const vi asum[2], vi csum[2])
{
	vi code[SLICE16_VECTORS];
	slice16_decode(block, bits, part, code);
	csum[0] = code_dot(code, half ? 4 : 8, bits, q, asum[0]);
	if (half)
		csum[1] = code_dot(code + 4, 4, bits, q + 16, asum[1]);
}

/*
 * Two-level scales and zero-points of a group, rows of vector 'part': fl( fl(code - zero) * scale ).
 * level: scale_scale, scale_zero, zero_scale, zero_zero.
 */
LANE_INLINE void slice16_two_level_masks(const uint8_t *scale_codes, unsigned scale_bits,
                                         const uint8_t *zero_codes, unsigned zero_bits,
                                         const uint8_t *level, size_t part, vf *s, vf *z)
{
	float l[4];
	widen_four_f16(level, l);
	vf qs = vf_from_masks(scale_codes, scale_bits, part);
	vf qz = vf_from_masks(zero_codes, zero_bits, part);
	*s = vf_mul(vf_sub(qs, vf_set1(l[1])), vf_set1(l[0]));
	*z = vf_mul(vf_sub(qz, vf_set1(l[3])), vf_set1(l[2]));
}

/*
 * The same with 3 bits for both, a few groups in succession: level_3_decode() is called for every
 * LEVEL_3_GROUPS of them, level_3_pair() for each two, which is a block with one activation scale:
 * u = fl(s * as).  This form has nothing to decode ahead.
 */
struct level_3_masks {
	const uint8_t *scale_codes, *zero_codes, *level;
};

LANE_INLINE void level_3_masks_decode(struct level_3_masks *l, const uint8_t *scale_codes,
                                      const uint8_t *zero_codes, const uint8_t *level,
                                      size_t groups)
{
	(void)groups;
	*l = (struct level_3_masks){scale_codes, zero_codes, level};
}

/* Groups i and, with 'two', i + 1, else 0; u, z: [2]. */
LANE_INLINE void level_3_masks_pair(const struct level_3_masks *l, size_t i, bool two, size_t part,
                                    float as, vf *u, vf *z)
{
	u[1] = z[1] = vf_zero();
	for (size_t g = 0; g < (two ? 2 : 1); g++) {
		vf s;
		slice16_two_level_masks(l->scale_codes + 6 * (i + g), 3, l->zero_codes + 6 * (i + g), 3,
		                        l->level + 8 * (i + g), part, &s, &z[g]);
		u[g] = vf_mul(s, vf_set1(as));
	}
}

#endif
