/*
 * A weight bound for computing: its terms, its transforms and the kernels.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LINEAR_H
#define PITH_RUNTIME_LINEAR_H

#include "arena.h"
#include "kernels.h"
#include "pithrun.h"

#include <stdatomic.h>

struct pith_linear {
	const struct pith_kernels *kernels;
	struct pith_weight weight; /* the entry it was bound from */
	size_t m, n, tiles;
	struct pith_transform transforms[PITH_MAX_TRANSFORMS]; /* in file order */
	size_t transform_count;
	const uint8_t *bias;    /* [m] f32 that a shift adds to the outputs, or NULL */
	bool integer;           /* a term reads x' as int8 */
	uint64_t nbytes;        /* of all planes */
	size_t h_count;         /* floats of h per token, all lowrank terms */
	size_t tile_work;       /* rough nanoseconds of one row tile and one token */
	size_t term_count;
	struct pith_term terms[]; /* in file order */
};

/* Rows of an input, prepared for weights; memory of an arena.  Columns from n on are zero in every row. */
struct pith_input {
	size_t row_cap, n_cap; /* most rows and columns */
	size_t n;              /* columns in use */
	size_t k;              /* rows in use, set by whoever fills x */
	/* the rule by which q, scale, sum were made of the x of now; float: not made */
	uint32_t activation;
	float activation_scale;
	float *x;              /* [row_cap, ldx] */
	size_t ldx, ldq, lds;
	int8_t *q;             /* [row_cap, ldq] */
	float *scale;          /* [row_cap, lds] */
	int32_t *sum;          /* [row_cap, 2 * lds] */
};
/* Take the arrays from the arena, whose memory is zero. */
void pith_input_layout(struct pith_input *input, struct pith_arena *arena, size_t row_cap,
                       size_t n_cap);
/* Start to fill x with k rows of n columns: clears what a wider input left behind. */
void pith_input_begin(struct pith_input *input, size_t k, size_t n);

/* What runs linears: an executor, room for a transformed input, and the fault flag of a step. */
struct pith_linear_runner {
	const struct pith_kernels *kernels;
	const struct pith_executor *executor;
	struct pith_input transformed;
	float *h; /* [rows, 4 * h_count]: V x' of the lowrank terms of up to 4 jobs */
	atomic_bool not_finite; /* an input of an integer term was not finite */
};

/* One product y = W x of a group that shares an input. */
struct pith_linear_job {
	const struct pith_linear *linear;
	float *y; /* [k, ldy]; whole tiles are written */
	size_t ldy;
};

/*
 * y = W x for every job (at most 4); the input is quantized at most once for all that read it as it
 * is.  Sets runner->not_finite instead of failing.
 */
void pith_linear_run(struct pith_linear_runner *runner, struct pith_input *input,
                     const struct pith_linear_job *jobs, size_t count);

/* Floats of h per token that a term needs: V x' of a lowrank one, whole tiles. */
size_t pith_linear_h_count(const struct pith_term *term);

/*
 * Take the runner's room from the arena: 'n' columns of transformed input (0: no weight has a
 * transform) and h_count floats for the lowrank terms of a weight.
 */
void pith_linear_runner_layout(struct pith_linear_runner *runner, struct pith_arena *arena,
                               size_t rows, size_t n, size_t h_count);

/* One row tile of one weight, on the calling thread; y: [1, 16 * tiles]. */
void pith_linear_run_tile(struct pith_linear_runner *runner, struct pith_input *input,
                          const struct pith_linear *linear, size_t tile, float *y);

/* Work memory for one weight outside a session; release with free(ws->memory). */
struct pith_workspace {
	void *memory;
	struct pith_input input;
	struct pith_linear_runner runner;
	float *y; /* [rows, 16 * tiles] */
};
pith_status pith_workspace_new(struct pith_workspace *ws, const struct pith_linear *linear, size_t rows,
                               const struct pith_executor *executor, struct pith_error *err);

/* Bind with given kernels; verify and compare the canary when asked.  Free with pith_linear_free(). */
pith_status pith_linear_bind(const struct pith_weight *weight, const struct pith_kernels *kernels,
                             bool verify, struct pith_linear **out, struct pith_error *err);

/* Row 'row' of the matrix, terms added in file order, permutation undone.  out, scratch: [n]. */
void pith_linear_row(const struct pith_linear *linear, size_t row, float *out, float *scratch);

/* numerics.md 8 with a bound weight: x: [n] made from 'seed'; outputs of the first and last tile. */
pith_status pith_linear_canary(const struct pith_linear *linear, uint32_t seed, float first[16],
                               float last[16], struct pith_error *err);

/* Compare with the canary the file holds; PITH_OK when it holds none. */
pith_status pith_linear_canary_check(const struct pith_linear *linear, struct pith_error *err);

#endif
