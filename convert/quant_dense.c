/*
 * Dense schemes: bf16, f16, f32.  Values already of that type are copied bit for bit; others
 * are rounded to nearest even, and what does not fit f16 is an error.
 *
 * The plane is filled piece by piece here instead of by pith_dense_pack(), which wants the whole
 * matrix as f32: three times the memory of a bf16 weight.
 *
 * Spec: spec/terms/dense.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include <math.h>
#include <stdlib.h>

/* An empty term of the right size, its values still to be filled. */
static pith_status new_plane(const struct quant_job *job, uint32_t dtype, struct quant_result *out,
                             struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	size_t nbytes;
	if (!pith_mul_size(job->m, job->n, &nbytes) ||
	    !pith_mul_size(nbytes, pith_dtype_nbytes(dtype), &nbytes) || nbytes > SIZE_MAX - 64)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%.100s is too large",
		                 job->tensor->name);
	struct pith_packed_term *t = &out->term[0];
	struct pith_packed_plane *p = &t->plane[0];
	t->kind = PITH_KIND_DENSE;
	t->plane_count = 1;
	t->param[0] = dtype;
	p->nbytes = pith_round_up(nbytes, PITH_ALIGN);
	p->role = PITH_ROLE_VALUES;
	p->layout = PITH_LAYOUT_ROWS;
	p->dtype = dtype;
	p->data = malloc(p->nbytes);
	if (!p->data)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for %.100s (%zu bytes)",
		                 job->tensor->name, p->nbytes);
	memset(p->data + nbytes, 0, p->nbytes - nbytes);
	out->term_count = 1;
	out->activation = PITH_ACTIVATION_FLOAT;
	return PITH_OK;
}

/* Store 'count' values as 'dtype'; the squared error goes to *out.  Returns the first that overflows. */
static size_t narrow(const float *values, size_t count, uint32_t dtype, uint8_t *p,
                     struct quant_result *out)
{
	for (size_t i = 0; i < count; i++) {
		float stored = values[i];
		if (dtype == PITH_DTYPE_F32) {
			store_f32(p + 4 * i, stored);
		} else {
			uint16_t half = dtype == PITH_DTYPE_F16 ? f16_of_f32(stored) : bf16_of_f32(stored);
			store_le16(p + 2 * i, half);
			stored = dtype == PITH_DTYPE_F16 ? f32_of_f16(half) : f32_of_bf16(half);
		}
		if (!isfinite(stored))
			return i;
		double error = (double)stored - (double)values[i];
		out->error2 += error * error;
		out->norm2 += (double)values[i] * (double)values[i];
	}
	return count;
}

static pith_status fill_plane(const struct quant_job *job, uint32_t dtype, float *piece,
                              struct quant_result *out, struct pith_error *err)
{
	uint64_t total = (uint64_t)job->m * job->n;
	size_t value_nbytes = pith_dtype_nbytes(dtype);
	for (uint64_t done = 0; done < total;) {
		uint64_t left = total - done;
		size_t count = left < QUANT_PIECE_ELEMENTS ? (size_t)left : QUANT_PIECE_ELEMENTS;
		uint8_t *p = out->term[0].plane[0].data + (size_t)done * value_nbytes;
		PITH_TRY(quant_job_read(job, done, count, piece, err));
		size_t bad = narrow(piece, count, dtype, p, out);
		if (bad < count)
			return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
			                 "%.80s: value %llu is %g, too large for %s; use another scheme for it",
			                 job->tensor->name, (unsigned long long)(done + bad),
			                 (double)piece[bad], pith_dtype_name(dtype));
		done += count;
		if (job->progress)
			PITH_TRY(job->progress(job->ctx, done, err));
	}
	return PITH_OK;
}

static pith_status store_dense(const struct quant_job *job, uint32_t dtype, struct quant_result *out,
                               struct pith_error *err)
{
	PITH_TRY(new_plane(job, dtype, out, err));
	uint64_t total = (uint64_t)job->m * job->n;
	size_t count = total < QUANT_PIECE_ELEMENTS ? (size_t)total : QUANT_PIECE_ELEMENTS;
	float *piece = malloc(count * sizeof(*piece));
	pith_status status = piece ? fill_plane(job, dtype, piece, out, err)
	                           : pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
	                                       "no memory for %.100s", job->tensor->name);
	free(piece);
	if (status != PITH_OK)
		quant_result_free(out);
	return status;
}

pith_status quant_dense_copy(const struct quant_job *job, struct quant_result *out,
                             struct pith_error *err)
{
	return store_dense(job, job->tensor->dtype, out, err);
}

static uint32_t dtype_of(const struct scheme_link *link)
{
	return link->method == &quant_method_f32   ? PITH_DTYPE_F32
	       : link->method == &quant_method_f16 ? PITH_DTYPE_F16
	                                           : PITH_DTYPE_BF16;
}

static pith_status quantize_dense(const struct scheme_link *link, const struct quant_job *job,
                                  struct quant_result *out, struct pith_error *err)
{
	return store_dense(job, dtype_of(link), out, err);
}

static bool dense_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                         uint32_t *plane_count, uint32_t *term_count)
{
	size_t count;
	*plane_count = *term_count = 1;
	if (!pith_mul_size((size_t)m, (size_t)n, &count) ||
	    !pith_mul_size(count, pith_dtype_nbytes(dtype_of(link)), &count) ||
	    count > SIZE_MAX - PITH_ALIGN)
		return false;
	*nbytes = pith_round_up(count, PITH_ALIGN);
	return true;
}

/* ---- the methods ---- */

const struct quant_method quant_method_bf16 = {.name = "bf16", .help = "16-bit brain floats",
                                               .role = QUANT_DENSE, .nbytes = dense_nbytes,
                                               .quantize = quantize_dense};
const struct quant_method quant_method_f16 = {.name = "f16", .help = "IEEE half floats",
                                              .role = QUANT_DENSE, .nbytes = dense_nbytes,
                                              .quantize = quantize_dense};
const struct quant_method quant_method_f32 = {.name = "f32", .help = "32-bit floats",
                                              .role = QUANT_DENSE, .nbytes = dense_nbytes,
                                              .quantize = quantize_dense};
