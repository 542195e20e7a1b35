/*
 * The forward pass of a Llama block in f32, over many tokens at once: the parts between
 * which a converter exchanges weights.
 *
 * Independent of the engine: no int8 activations, no stored weights.  Work is cut into fixed tasks, so
 * results do not depend on the threads.  All matrices are row-major.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CALIBRATE_BLOCK_H
#define PITH_CONVERT_CALIBRATE_BLOCK_H

#include "pith_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct calibration_shape {
	size_t hidden, ffn, head_count, kv_head_count, head_dim;
	size_t window; /* keys a query sees, itself included; 0: all before it */
	double eps, rope_ratio;
};

/* y = x / rms(x) * w.  x, y: [k, n], w: [n]. */
void calibration_norm(const float *x, const float *w, double eps, size_t k, size_t n, float *y,
                      unsigned threads);

/* y = W x, or y += W x.  x: [k, n], w: [m, n], y: [k, m]. */
void calibration_linear(const float *x, const float *w, size_t k, size_t m, size_t n, bool add,
                        float *y, unsigned threads);

/*
 * Causal attention within each sample.  q: [samples * length, head_count * head_dim], key and
 * value: [.., kv_head_count * head_dim], all changed (rotated); out as q.
 */
pith_status calibration_attention(const struct calibration_shape *s, size_t samples, size_t length,
                                  float *q, float *key, const float *value, float *out,
                                  unsigned threads, struct pith_error *err);

/* gate = silu(gate) * up; both [count]. */
void calibration_gate(float *gate, const float *up, size_t count, unsigned threads);

#endif
