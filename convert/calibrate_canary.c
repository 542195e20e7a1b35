/*
 * Packed terms are bound in memory just as the loader binds them in a file and run by the
 * reference kernels: whoever opens the file compares its own kernels with the definition.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_canary.h"

#include "linear.h"

#include <stdlib.h>

pith_status canary_of_terms(const struct pith_packed_term *terms, size_t term_count,
                            const uint32_t *permute, size_t m, size_t n, uint32_t seed,
                            float first[16], float last[16], struct pith_error *err)
{
	struct pith_kernels kernels = {0};
	struct pith_linear *w = calloc(1, sizeof(*w) + term_count * sizeof(w->terms[0]));
	if (!w)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a canary");
	pith_set_reference(&kernels);
	w->kernels = &kernels;
	w->m = m;
	w->n = n;
	w->tiles = pith_round_up(m, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	w->tile_work = 1;
	w->term_count = term_count;
	w->transform_count = permute != NULL;
	w->transforms[0] = (struct pith_transform){.kind = PITH_TRANSFORM_PERMUTE, .n = n};
	w->transforms[0].plane.data = (const uint8_t *)permute; /* convert is for little-endian hosts */
	pith_status status = PITH_OK;
	for (size_t i = 0; i < term_count && status == PITH_OK; i++) {
		status = pith_packed_bind(&terms[i], m, n, &w->terms[i], err);
		const struct pith_term *t = &w->terms[i];
		w->integer = w->integer || (status == PITH_OK && t->kind->integer(t->param));
		w->h_count += status == PITH_OK ? pith_linear_h_count(t) : 0;
	}
	if (status == PITH_OK)
		status = pith_linear_canary(w, seed, first, last, err);
	free(w);
	return status;
}
