/*
 * Canaries: the outputs of a weight's first and last row tile for an input made from a seed.
 * Spec: spec/numerics.md 8.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fpmode.h"
#include "linear.h"

#include <stdlib.h>

void pith_canary_input(uint32_t seed, size_t n, float *x)
{
	uint64_t state = seed;
	for (size_t j = 0; j < n; j++) {
		// spec numerics.8: "state = state * 6364136223846793005 + 1442695040888963407"
		state = state * 6364136223846793005u + 1442695040888963407u;
		x[j] = (float)((int32_t)(state >> 40) - (1 << 23)) * 0x1p-22f;
	}
}

pith_status pith_linear_canary(const struct pith_linear *linear, uint32_t seed, float first[16],
                               float last[16], struct pith_error *err)
{
	struct pith_workspace ws;
	PITH_TRY(pith_workspace_new(&ws, linear, 1, NULL, err));
	uint64_t mode = pith_fpmode_enter();
	pith_input_begin(&ws.input, 1, linear->n);
	pith_canary_input(seed, linear->n, ws.input.x);
	/* rows beyond m are 0: y is, and padded rows of a weight are zero */
	size_t end = linear->tiles - 1;
	pith_linear_run_tile(&ws.runner, &ws.input, linear, 0, ws.y);
	memcpy(first, ws.y, PITH_TILE_ROWS * sizeof(float));
	pith_linear_run_tile(&ws.runner, &ws.input, linear, end, ws.y);
	memcpy(last, ws.y + end * PITH_TILE_ROWS, PITH_TILE_ROWS * sizeof(float));
	pith_fpmode_restore(mode);
	free(ws.memory);
	return PITH_OK;
}

pith_status pith_canary_compute(const struct pith_weight *weight, uint32_t seed, float first[16],
                                float last[16], struct pith_error *err)
{
	const struct pith_kernels *kernels;
	struct pith_linear *linear;
	PITH_TRY(pith_kernels_select(NULL, &kernels, err));
	PITH_TRY(pith_linear_bind(weight, kernels, false, &linear, err));
	pith_status status = pith_linear_canary(linear, seed, first, last, err);
	pith_linear_free(linear);
	return status;
}

pith_status pith_linear_canary_check(const struct pith_linear *linear, struct pith_error *err)
{
	const struct pith_weight *weight = &linear->weight;
	struct pith_canary stored;
	float first[16], last[16];
	pith_status status = pith_file_canary(weight->file, weight->index, &stored, err);
	if (status == PITH_E_NOT_FOUND)
		return PITH_OK;
	PITH_TRY(status);
	PITH_TRY(pith_linear_canary(linear, stored.seed, first, last, err));
	// spec canary.1: "The stored bits are those that the stored weight gives"
	if (memcmp(first, stored.first, sizeof(first)) != 0 ||
	    memcmp(last, stored.last, sizeof(last)) != 0)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "canary.1",
		                 "%.*s: its outputs are not those the converter stored",
		                 (int)weight->name_nbytes, weight->name);
	return PITH_OK;
}

pith_status pith_canary_check(const struct pith_weight *weight, struct pith_error *err)
{
	const struct pith_kernels *kernels;
	struct pith_linear *linear;
	PITH_TRY(pith_kernels_select(NULL, &kernels, err));
	PITH_TRY(pith_linear_bind(weight, kernels, false, &linear, err));
	pith_status status = pith_linear_canary_check(linear, err);
	pith_linear_free(linear);
	return status;
}
