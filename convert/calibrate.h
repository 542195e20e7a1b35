/*
 * Calibration: what a method may know about the inputs of a linear layer.
 *
 * The driver (calibrate.c) runs a text block by block through the model as compressed so
 * far and gives, for each group of linears that share an input (q k v; o; gate up; down), the statistics below.
 * A method is a pure function of the weight and these statistics.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_H
#define PITH_CONVERT_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>

struct hessian_memo;

/*
 * Inputs of one linear [m, n], over all calibration tokens.  Borrowed by the method, read-only
 * (but for memo, which one thread at a time may use), valid during the call.
 */
struct calibration_inputs {
	size_t n;               /* columns */
	uint64_t token_count;   /* rows that were seen */
	/*
	 * [n, n] f32, symmetric, both halves filled: (2 / token_count) sum of x x^T.  Not damped; dead columns are 0
	 * (GPTQ, section 3; the factor cancels in every method but keeps published thresholds).
	 */
	const float *hessian;
	const float *absmax, *min, *max, *mean, *mean_abs; /* [n] f32 each, per column */
	/* [sample_count, n] f32: rows spread evenly over the calibration text, for searches (<= 512). */
	const float *sample;
	size_t sample_count;
	/* Where methods keep the Hessian's factor for one another (quant_hessian.h), or NULL. */
	struct hessian_memo *memo;
};

#endif
