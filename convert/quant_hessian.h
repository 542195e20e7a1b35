/*
 * The inverse of a Hessian as methods of the GPTQ family need it: damped, permuted, factored.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_HESSIAN_H
#define PITH_CONVERT_QUANT_HESSIAN_H

#include "quant.h"

enum hessian_order {
	HESSIAN_NATURAL,
	HESSIAN_ACTIVATION /* largest diagonal first; equal ones in their order */
};

struct hessian_factor {
	size_t n;
	uint32_t *order; /* [n] column of the weight at place j */
	/*
	 * [n, n] f32, upper triangle U with U^T U = (P H P^T + damping)^-1, in the order above; what lies
	 * below the diagonal is not to be read.  The solve is done in f64.
	 */
	float *upper;
	double damping;  /* what was added to the diagonal */
	bool borrowed;   /* 'upper' is the memo's */
	bool *dead;      /* [n] by place: the column was 0 in all inputs; its diagonal counts as 1 */
};

/*
 * The last factor that hessian_factor_make() made of these inputs: linears that share an input, and
 * methods that are tried on one, factor it once.  All zero at first.  Not for several threads.
 */
struct hessian_memo {
	const float *hessian; /* NULL: empty */
	enum hessian_order order;
	double damp;
	struct hessian_factor factor;
};
void hessian_memo_clear(struct hessian_memo *m); /* accepts NULL */

/*
 * damp: share of the mean diagonal that is added to the diagonal, and ten times more as
 * often as the factorization fails.  PITH_E_CORRUPT for a Hessian that is not finite.
 * Free with hessian_factor_free(), not needed after a failure, before the inputs.  The
 * factor may be the inputs' memo's.
 */
pith_status hessian_factor_make(const struct quant_job *job, enum hessian_order order, double damp,
                                struct hessian_factor *out, struct pith_error *err);
/* The same in an order of the caller's: order: [n] column at place j.  Clears the memo, for its memory. */
pith_status hessian_factor_make_in(const struct quant_job *job, const uint32_t *order, double damp,
                                   struct hessian_factor *out, struct pith_error *err);
void hessian_factor_free(struct hessian_factor *f);

/* The order alone: out: [n]. */
pith_status hessian_sort(const struct quant_job *job, enum hessian_order order, uint32_t *out,
                         struct pith_error *err);

#endif
