/*
 * Packed terms are bound in memory just as the loader binds them in a file and run by the
 * reference kernels: whoever opens the file compares its own kernels with the definition.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_canary.h"

#include "linear.h"

#include <stdlib.h>

static pith_status bind_packed(const struct pith_packed_term *packed, size_t m, size_t n,
                               struct pith_term *t, struct pith_error *err)
{
	memset(t, 0, sizeof(*t));
	t->kind = pith_term_kind_find(packed->kind);
	if (!t->kind)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, "weight.1", "term kind %s",
		                 pith_kind_name(packed->kind));
	t->m = m;
	t->n = n;
	t->tiles = pith_round_up(m, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	t->plane_count = packed->plane_count;
	memcpy(t->param, packed->param, sizeof(t->param));
	for (uint32_t i = 0; i < packed->plane_count; i++) {
		const struct pith_packed_plane *p = &packed->plane[i];
		t->plane[i] = (struct pith_plane){.data = p->data, .nbytes = p->nbytes, .role = p->role,
		                                  .layout = p->layout, .dtype = p->dtype};
	}
	return t->kind->check(t, err);
}

pith_status canary_of_terms(const struct pith_packed_term *terms, size_t term_count, size_t m,
                            size_t n, uint32_t seed, float first[16], float last[16],
                            struct pith_error *err)
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
	pith_status status = PITH_OK;
	for (size_t i = 0; i < term_count && status == PITH_OK; i++) {
		status = bind_packed(&terms[i], m, n, &w->terms[i], err);
		const struct pith_term *t = &w->terms[i];
		w->integer = w->integer || (status == PITH_OK && t->kind->integer(t->param));
	}
	if (status == PITH_OK)
		status = pith_linear_canary(w, seed, first, last, err);
	free(w);
	return status;
}
