/*
 * Lowrank terms: a product of two thin matrices in f16 or bf16.
 * Spec: spec/terms/lowrank.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_lowrank.h"

#include <assert.h>
#include <math.h>

enum { PLANE_V = 0, PLANE_U = 1 };

static float widen(uint32_t dtype, const uint8_t *p)
{
	return dtype == PITH_DTYPE_F16 ? f32_of_f16(load_le16(p)) : f32_of_bf16(load_le16(p));
}

static bool half_is_finite(uint32_t dtype, uint16_t h)
{
	uint16_t exponent = dtype == PITH_DTYPE_F16 ? 0x7c00u : 0x7f80u;
	return (h & exponent) != exponent;
}

static bool lowrank_params_are_valid(uint32_t dtype, uint64_t rank)
{
	// spec lowrank.1: "dtype is 2 (f16) or 3 (bf16); rank is 1..1024."
	return (dtype == PITH_DTYPE_F16 || dtype == PITH_DTYPE_BF16) && rank >= 1 &&
	       rank <= PITH_LOWRANK_MAX_RANK;
}

bool pith_lowrank_sizes(uint64_t rank, uint64_t m, uint64_t n, uint64_t *u_nbytes,
                        uint64_t *v_nbytes)
{
	const uint64_t limit = UINT64_MAX / (4 * PITH_LOWRANK_MAX_RANK);
	if (rank < 1 || rank > PITH_LOWRANK_MAX_RANK || m > limit - PITH_TILE_ROWS || n > limit)
		return false;
	*u_nbytes = (m + PITH_TILE_ROWS - 1) / PITH_TILE_ROWS * PITH_TILE_ROWS * rank * 2;
	*v_nbytes = rank * n * 2;
	return *u_nbytes <= SIZE_MAX - PITH_ALIGN && *v_nbytes <= SIZE_MAX - PITH_ALIGN;
}

pith_status pith_lowrank_check(struct pith_term *t, struct pith_error *err)
{
	struct pith_lowrank *l = &t->u.lowrank;
	uint32_t dtype = t->param[0], rank = t->param[1];
	uint64_t u_nbytes, v_nbytes;
	PITH_TRY(pith_term_expect_counts(t, 2, 2, err));
	if (!lowrank_params_are_valid(dtype, rank))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "lowrank.1",
		                      "dtype %u, rank %u", dtype, rank);
	if (!pith_lowrank_sizes(rank, t->m, t->n, &u_nbytes, &v_nbytes))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "rank %u of %zu x %zu does not fit", rank, t->m, t->n);
	PITH_TRY(pith_term_expect_plane(t, PLANE_V, PITH_ROLE_VALUES, PITH_LAYOUT_ROWS, dtype,
	                                v_nbytes, err));
	PITH_TRY(pith_term_expect_plane(t, PLANE_U, PITH_ROLE_VALUES, PITH_LAYOUT_TILE16, dtype,
	                                u_nbytes, err));
	l->v = t->plane[PLANE_V].data;
	l->u = t->plane[PLANE_U].data;
	l->rank = rank;
	l->dtype = dtype;
	return PITH_OK;
}

pith_status pith_lowrank_verify(const struct pith_term *t, struct pith_error *err)
{
	const struct pith_lowrank *l = &t->u.lowrank;
	for (uint32_t p = 0; p < 2; p++) {
		const struct pith_plane *plane = &t->plane[p];
		for (size_t i = 0; i < plane->content_nbytes / 2; i++) {
			uint16_t v = load_le16(plane->data + 2 * i);
			size_t row = i / PITH_TILE_ROWS / l->rank * PITH_TILE_ROWS + i % PITH_TILE_ROWS;
			bool padding = p == PLANE_U && row >= t->m;
			// spec lowrank.2: "Values of U in rows from m on are 0; values are finite."
			if ((padding && v != 0) || !half_is_finite(l->dtype, v))
				return pith_term_fail(t, err, PITH_E_CORRUPT, plane->off + 2 * i,
				                      "lowrank.2", "value %zu of %s is %s", i,
				                      p == PLANE_U ? "U" : "V",
				                      padding ? "padding and not 0" : "not finite");
		}
	}
	return PITH_OK;
}

void pith_lowrank_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	const struct pith_lowrank *l = &t->u.lowrank;
	assert(row + count <= t->m);
	for (size_t i = row; i < row + count; i++, out += t->n) {
		const uint8_t *u = l->u + 2 * (i / PITH_TILE_ROWS * l->rank * PITH_TILE_ROWS +
		                               i % PITH_TILE_ROWS);
		for (size_t j = 0; j < t->n; j++)
			out[j] = 0;
		// spec lowrank: "for k ascending, w = fma(U[i][k], V[k][j], w)"
		for (size_t k = 0; k < l->rank; k++) {
			float factor = widen(l->dtype, u + 2 * PITH_TILE_ROWS * k);
			for (size_t j = 0; j < t->n; j++)
				out[j] = fmaf(factor, widen(l->dtype, l->v + 2 * (k * t->n + j)),
				              out[j]);
		}
	}
}

/* ---- pack ---- */

static pith_status pack_half(float value, uint32_t dtype, uint8_t *at, struct pith_error *err)
{
	uint16_t v = dtype == PITH_DTYPE_F16 ? f16_of_f32(value) : bf16_of_f32(value);
	if (!half_is_finite(dtype, v))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "lowrank.2",
		                 "%g is not finite in %s", (double)value, pith_dtype_name(dtype));
	store_le16(at, v);
	return PITH_OK;
}

static pith_status pack_factors(const float *u, const float *v, size_t rank, size_t m, size_t n,
                                uint32_t dtype, struct pith_packed_term *out,
                                struct pith_error *err)
{
	for (size_t i = 0; i < rank * n; i++)
		PITH_TRY(pack_half(v[i], dtype, out->plane[PLANE_V].data + 2 * i, err));
	for (size_t i = 0; i < m; i++)
		for (size_t k = 0; k < rank; k++) {
			size_t cell = (i / PITH_TILE_ROWS * rank + k) * PITH_TILE_ROWS +
			              i % PITH_TILE_ROWS;
			PITH_TRY(pack_half(u[i * rank + k], dtype,
			                   out->plane[PLANE_U].data + 2 * cell, err));
		}
	return PITH_OK;
}

pith_status pith_lowrank_pack(const float *u, const float *v, size_t rank, size_t m, size_t n,
                              uint32_t dtype, struct pith_packed_term *out, struct pith_error *err)
{
	uint64_t u_nbytes, v_nbytes;
	memset(out, 0, sizeof(*out));
	if (!lowrank_params_are_valid(dtype, rank) || m == 0 || n == 0 ||
	    !pith_lowrank_sizes(rank, m, n, &u_nbytes, &v_nbytes))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "lowrank.1",
		                 "cannot store rank %zu of %zu x %zu as dtype %u", rank, m, n, dtype);
	out->kind = PITH_KIND_LOWRANK;
	out->param[0] = dtype;
	out->param[1] = (uint32_t)rank;
	pith_status status = pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_ROWS, dtype,
	                                     v_nbytes, err);
	if (status == PITH_OK)
		status = pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_TILE16, dtype, u_nbytes,
		                         err);
	if (status == PITH_OK)
		status = pack_factors(u, v, rank, m, n, dtype, out, err);
	if (status != PITH_OK)
		pith_packed_free(out);
	return status;
}
