/*
 * The scales of a codebook term on vector lanes.
 * Parameters: a lanes_<isa>.h included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_KERN_CODEBOOK_SCALE_H
#define PITH_RUNTIME_KERN_CODEBOOK_SCALE_H

#include "kern_reference.h"

/* Of the rows of vector 'part' in a group; the term has scales. */
LANE_INLINE vf codebook_scales(const struct pith_codebook *c, size_t tile, size_t group, size_t part)
{
	const size_t at = (tile * c->groups + group) * PITH_TILE_ROWS + part * LANE_WIDTH;
	if (c->scales != NULL)
		return vf_from_f16(c->scales + 2 * at);
	// spec codebook: "s = fl( fl(q_s - scale_zero) * scale_scale )"
	const uint8_t *level = c->second_level + 4 * tile;
	vf centred = vf_sub(vf_from_u8(c->scale_codes + at),
	                    vf_set1(f32_of_f16(load_le16(level + 2))));
	return vf_mul(centred, vf_set1(f32_of_f16(load_le16(level))));
}

#endif
