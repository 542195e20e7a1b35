/*
 * Dense terms: a plain row-major matrix of f32, f16 or bf16, so that any runtime can
 * view it without a copy.  Spec: spec/terms/dense.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "term_dense.h"

/* The loops take the dtype apart outside, so that each is a plain widening loop. */
static void widen_f32(const uint8_t *p, size_t count, float *out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = load_f32(p + 4 * i);
}

static void widen_f16(const uint8_t *p, size_t count, float *out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = f32_of_f16(load_le16(p + 2 * i));
}

static void widen_bf16(const uint8_t *p, size_t count, float *out)
{
	for (size_t i = 0; i < count; i++)
		out[i] = f32_of_bf16(load_le16(p + 2 * i));
}

static bool dtype_is_real(uint32_t dtype)
{
	return dtype == PITH_DTYPE_F32 || dtype == PITH_DTYPE_F16 || dtype == PITH_DTYPE_BF16;
}

pith_status pith_dense_check(struct pith_term *t, struct pith_error *err)
{
	uint32_t dtype = t->param[0];
	PITH_TRY(pith_term_expect_counts(t, 1, 1, err));
	// spec dense.1: "dtype is 1 (f32), 2 (f16) or 3 (bf16), and that of the plane."
	if (!dtype_is_real(dtype))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "dense.1",
		                      "dtype %u is not f32, f16 or bf16", dtype);
	size_t value_nbytes = pith_dtype_nbytes(dtype);
	size_t count, nbytes;
	if (!pith_mul_size(t->m, t->n, &count) || !pith_mul_size(count, value_nbytes, &nbytes))
		return pith_term_fail(t, err, PITH_E_CORRUPT, t->off, "container.14",
		                      "%zu x %zu values do not fit", t->m, t->n);
	PITH_TRY(pith_term_expect_plane(t, 0, PITH_ROLE_VALUES, PITH_LAYOUT_ROWS, dtype, nbytes,
	                                err));
	t->u.dense.values = t->plane[0].data;
	t->u.dense.dtype = dtype;
	t->u.dense.value_nbytes = (uint32_t)value_nbytes;
	return PITH_OK;
}

/* Any bit pattern is a value; what a forward pass makes of infinities is its error. */
pith_status pith_dense_verify(const struct pith_term *t, struct pith_error *err)
{
	(void)t;
	(void)err;
	return PITH_OK;
}

void pith_dense_unpack_rows(const struct pith_term *t, size_t row, size_t count, float *out)
{
	const struct pith_dense *dense = &t->u.dense;
	const uint8_t *p = dense->values + row * t->n * dense->value_nbytes;
	if (dense->dtype == PITH_DTYPE_F32)
		widen_f32(p, count * t->n, out);
	else if (dense->dtype == PITH_DTYPE_F16)
		widen_f16(p, count * t->n, out);
	else
		widen_bf16(p, count * t->n, out);
}

static pith_status add_values_plane(size_t m, size_t n, uint32_t dtype,
                                    struct pith_packed_term *out, struct pith_error *err)
{
	size_t count, nbytes;
	memset(out, 0, sizeof(*out));
	if (!dtype_is_real(dtype) || !pith_mul_size(m, n, &count) ||
	    !pith_mul_size(count, pith_dtype_nbytes(dtype), &nbytes) || count == 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "dense.1",
		                 "cannot store %zu x %zu values of dtype %u", m, n, dtype);
	out->kind = PITH_KIND_DENSE;
	out->param[0] = dtype;
	return pith_packed_add(out, PITH_ROLE_VALUES, PITH_LAYOUT_ROWS, dtype, nbytes, err);
}

pith_status pith_dense_pack(const float *values, size_t m, size_t n, uint32_t dtype,
                            struct pith_packed_term *out, struct pith_error *err)
{
	PITH_TRY(add_values_plane(m, n, dtype, out, err));
	uint8_t *p = out->plane[0].data;
	size_t count = m * n;
	for (size_t i = 0; i < count; i++) {
		if (dtype == PITH_DTYPE_F32)
			store_f32(p + 4 * i, values[i]);
		else if (dtype == PITH_DTYPE_F16)
			store_le16(p + 2 * i, f16_of_f32(values[i]));
		else
			store_le16(p + 2 * i, bf16_of_f32(values[i]));
	}
	return PITH_OK;
}

pith_status pith_dense_pack_bytes(const void *values, size_t m, size_t n, uint32_t dtype,
                                  struct pith_packed_term *out, struct pith_error *err)
{
	PITH_TRY(add_values_plane(m, n, dtype, out, err));
	memcpy(out->plane[0].data, values, m * n * pith_dtype_nbytes(dtype));
	return PITH_OK;
}
