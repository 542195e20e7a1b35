/*
 * Packed terms are bound in memory just as the loader binds them in a file and run by the
 * reference kernels: whoever opens the file compares its own kernels with the definition.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_canary.h"

#include "linear.h"

#include <stdlib.h>

/* convert is for little-endian hosts: numbers in memory are a plane's */
static void bind_transforms(const struct quant_result *q, struct pith_linear *w)
{
	const struct {
		uint32_t kind;
		const void *numbers;
	} part[] = {{PITH_TRANSFORM_PERMUTE, q->permute}, {PITH_TRANSFORM_SHIFT, q->shift}};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(part); i++) {
		if (!part[i].numbers)
			continue;
		struct pith_transform *t = &w->transforms[w->transform_count++];
		*t = (struct pith_transform){.kind = part[i].kind, .m = w->m, .n = w->n};
		t->plane.data = part[i].numbers;
	}
	w->bias = (const uint8_t *)q->bias;
}

pith_status canary_of_result(const struct quant_result *q, size_t m, size_t n, uint32_t seed,
                             float first[16], float last[16], struct pith_error *err)
{
	struct pith_kernels kernels = {0};
	struct pith_linear *w = calloc(1, sizeof(*w) + q->term_count * sizeof(w->terms[0]));
	if (!w)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a canary");
	pith_set_reference(&kernels);
	w->kernels = &kernels;
	w->m = m;
	w->n = n;
	w->tiles = pith_round_up(m, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	w->tile_work = 1;
	w->term_count = q->term_count;
	w->weight.activation = q->activation;
	w->weight.activation_scale = q->activation_scale;
	bind_transforms(q, w);
	pith_status status = PITH_OK;
	for (size_t i = 0; i < q->term_count && status == PITH_OK; i++) {
		status = pith_packed_bind(&q->term[i], m, n, &w->terms[i], err);
		const struct pith_term *t = &w->terms[i];
		w->integer = w->integer || (status == PITH_OK && t->kind->integer(t->param));
		w->h_count += status == PITH_OK ? pith_linear_h_count(t) : 0;
	}
	if (status == PITH_OK)
		status = pith_linear_canary(w, seed, first, last, err);
	free(w);
	return status;
}
