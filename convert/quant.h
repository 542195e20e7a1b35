/*
 * What a method of compression is: a name, its options, a size, and a function that has one of four
 * roles.
 *
 * A *scheme* is a chain of methods with their options, written method:key=value,...+method:...
 * Methods are rows of quant_methods[] in scheme.c, one quant_<method>.c (or prune_<method>.c) each;
 * nothing else knows them.
 *
 * Roles, in the order in which a chain may hold them:
 *   fold      changes, before anything is quantized, the norm or linear that makes an input and the
 *             columns of the linears that read it: the same function, easier to quantize
 *             (smoothquant, os+, awq)
 *   order     chooses the order in which a weight's columns are stored; what follows in the chain
 *             sees weight and inputs in that order (rptq)
 *   prune     a weight to sparse terms; asks the next link, if that quantizes, for the grid of the values it
 *             keeps (sparsegpt:2:4+gptq:bits=4) and that link is then done
 *   quantize  a weight to terms; dense, rtn, gptq, spqr, owq, ...
 *   after     appends a term made from what is still wrong (lorc)
 * A chain has any number of folds, then an order, then a prune or a quantize or both, then afters.
 *
 * A method of role order, prune, quantize or after is a pure function of the job: no state, no I/O
 * but quant_job_load(), the same result for every number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_H
#define PITH_CONVERT_QUANT_H

#include "calibrate.h"
#include "source.h"
#include "term.h"

struct quant_method;
struct quant_grid_rule;

/* ---- schemes ---- */

#define SCHEME_MAX_LINKS 7u
#define SCHEME_MAX_KEYS 16u
#define SCHEME_TEXT_CAP 256u

enum scheme_value {
	SCHEME_INTEGER,  /* low .. high */
	SCHEME_NUMBER,   /* low .. high; "1%" is 0.01 */
	SCHEME_CHOICE,   /* one of 'names', "sym|int|real"; the value is its place, from 0 */
	SCHEME_GROUP,    /* columns that share a grid: 16, 32, 64, 128, 256, or "row", which is 0 */
	SCHEME_SPARSITY  /* "50%" or "0.5" of the values are 0, or n:m (n of m are 0); scheme_sparsity() */
};

/* An option of a method. */
struct scheme_key {
	const char *name; /* NULL ends the table */
	enum scheme_value type;
	double value; /* default */
	double low, high;
	const char *names;
};

/* A method with the values of its options, by their places in the method's keys. */
struct scheme_link {
	const struct quant_method *method; /* NULL: behind the last */
	double value[SCHEME_MAX_KEYS];
};

struct scheme {
	struct scheme_link link[SCHEME_MAX_LINKS + 1];
	size_t link_count;
};

/* The next link of the chain, or NULL. */
static inline const struct scheme_link *scheme_next(const struct scheme_link *link)
{
	return link[1].method ? link + 1 : NULL;
}

/* PITH_E_ARGUMENT quotes the place.  'text' may be freed afterwards. */
pith_status scheme_parse(const char *text, struct scheme *out, struct pith_error *err);
/* As text that parses to itself, with every option.  text: [SCHEME_TEXT_CAP]. */
void scheme_print(const struct scheme *s, char *text, size_t cap);

/* A value that is a whole number (integer, choice, group). */
static inline uint32_t scheme_u32(const struct scheme_link *link, size_t key)
{
	return (uint32_t)link->value[key];
}
/* A SCHEME_SPARSITY value: true and n zeros of every m columns, or false and the share of zeros. */
bool scheme_sparsity(double value, uint32_t *n, uint32_t *m, double *share);

/* Does a link need calibration?  Is there a fold?  Does it quantize or prune (norms take neither)? */
bool scheme_needs_inputs(const struct scheme *s);
bool scheme_folds(const struct scheme *s);
bool scheme_quantizes(const struct scheme *s);

/*
 * The chain for a table that is looked up (the embedding): its dense, quantizing and after links.
 * Folds and pruners are for linears.  link_count 0: nothing is left, keep it as it is.
 */
struct scheme scheme_of_table(const struct scheme *s);

/* Bytes of the planes for [m, n], each rounded up to 64, and their number; false: absurd. */
bool scheme_nbytes(const struct scheme *s, uint64_t m, uint64_t n, uint64_t *nbytes,
                   uint32_t *plane_count, uint32_t *term_count);

/* ---- the work ---- */

/* One weight to compress, as a matrix [m, n]. */
struct quant_job {
	const struct source *src;
	const struct source_tensor *tensor; /* its name and dtype count also when weights is set */
	size_t m, n;
	/*
	 * [m, n] f32: the weight as earlier steps (folds) left it; NULL: as it is in the source.
	 * Borrowed.  Read it with quant_job_read() or quant_job_load().
	 */
	const float *weights;
	/*
	 * [n] or NULL: taken away from every input before it is quantized; 'inputs' are of what is
	 * left.
	 */
	const float *shift;
	/* For methods with needs_inputs never NULL; a table that is looked up has the identity for a Hessian
	 * and no samples.  NULL for others when nobody calibrates. */
	const struct calibration_inputs *inputs;
	unsigned threads;
	/* Elements done, after every piece; may fail with PITH_E_IO to stop.  May be NULL. */
	pith_status (*progress)(void *ctx, uint64_t elements, struct pith_error *err);
	void *ctx;
};

/* Elements first .. first+count-1 of the weight as f32; finite.  out: [count]. */
pith_status quant_job_read(const struct quant_job *job, uint64_t first, size_t count, float *out,
                           struct pith_error *err);
/* The whole weight, [m, n], in memory that the caller owns and changes; free(*w). */
pith_status quant_job_load(const struct quant_job *job, float **w, struct pith_error *err);
/* PITH_E_MEMORY with the weight's name. */
pith_status quant_no_memory(const struct quant_job *job, struct pith_error *err);

struct quant_result {
	struct pith_packed_term term[PITH_MAX_TERMS];
	size_t term_count;
	uint32_t activation;
	float activation_scale; /* of int8_static, else 0 */
	/*
	 * [n] or NULL, malloc'd: column j of the terms is column permute[j] of the weight
	 * (spec/transforms/permute.md: x'[j] = x[permute[j]]).
	 */
	uint32_t *permute;
	/*
	 * The job's shift in the order of the terms, [n], and the weight times it, [m]; or NULL.
	 * malloc'd (spec/transforms/shift.md).
	 */
	float *shift, *bias;
	/*
	 * Measured by scheme_run() on what was packed; E is the error, W the weight, H the Hessian.  Dense methods, which
	 * stream, count the first two themselves.
	 */
	double error2, norm2;        /* sums of squares of E, of W */
	double proxy2, proxy_norm2;  /* tr(E H E^T), tr(W H W^T); 0 without inputs */
};
void quant_result_free(struct quant_result *r);

/* What the terms stand for, summed, in the weight's own order of columns.  w: [m, n] f32. */
pith_status quant_result_unpack(const struct quant_result *r, size_t m, size_t n, float *w,
                                struct pith_error *err);

/*
 * Run the chain on a weight (folds are the caller's, who has the whole group) and measure.  On failure
 * *out is empty.
 */
pith_status scheme_run(const struct scheme *s, const struct quant_job *job, struct quant_result *out,
                       struct pith_error *err);

/* ---- fold ---- */

#define FOLD_MAX_LINEARS 3u

enum fold_site { FOLD_ATTENTION_IN, FOLD_ATTENTION_OUT, FOLD_FFN_IN, FOLD_FFN_OUT };

/*
 * Linears that read one input, and what makes it.  Everything is changed in place: with a factor
 * s[c] per column, linear[i].w[:, c] *= s[c] and the producer's output c is divided by it.
 */
struct fold_group {
	enum fold_site site;
	size_t n; /* columns of the input */
	/* The norm's weight [n], or NULL. */
	float *norm;
	/*
	 * Or the linear whose rows are the input's columns: [producer_m, producer_n]; column c of the
	 * input is row producer_row[c], several columns may share one (heads that share a value head).  NULL where
	 * nothing linear makes the input.
	 */
	float *producer;
	size_t producer_m, producer_n;
	const uint32_t *producer_row; /* [n] */
	struct {
		const char *name;
		float *w; /* [m, n] */
		size_t m;
		/* what will be done to it afterwards, for searches */
		const struct scheme *scheme;
	} linear[FOLD_MAX_LINEARS];
	size_t linear_count;
	const struct calibration_inputs *inputs; /* before the fold; from the uncompressed model */
	/*
	 * For searches: sample: [sample_count, n] inputs, and what the block makes of the linears' outputs
	 * for them, out: [sample_count, made_n] of y[i]: [sample_count, linear[i].m], which it may
	 * change.  NULL: of the one linear's output, nothing.
	 */
	const float *sample;
	size_t sample_count, made_n;
	pith_status (*make)(void *ctx, float *const *y, size_t sample_count, float *out,
	                    struct pith_error *err);
	void *ctx;
	/* [n], zeros at first: taken away from the folded input before it is quantized */
	float *shift;
	unsigned threads;
};

/*
 * Apply factors s: [n] (all positive and finite) to the group as above: columns times s, norm or
 * producer divided by it, and the shift too.  For a producer s is first made equal among columns that share a row (their
 * geometric mean), and s holds what was applied.  false: nothing to fold into; the group is unchanged.
 */
bool fold_apply(const struct fold_group *g, float *s);
/* That mean alone: s as fold_apply() would apply it.  false: no memory. */
bool fold_share(const struct fold_group *g, float *s);

/* ---- methods ---- */

enum quant_role { QUANT_DENSE, QUANT_FOLD, QUANT_ORDER, QUANT_PRUNE, QUANT_QUANTIZE, QUANT_AFTER };

struct quant_method {
	const char *name;
	const char *help; /* what it does and its options with their defaults, for --help */
	enum quant_role role; /* dense is a quantizer that norms take too */
	bool needs_inputs;
	const struct scheme_key *keys; /* NULL: no options */
	const char *plain_key;         /* the key an option without "key=" stands for, or NULL */
	/*
	 * Check values that depend on each other; NULL: none do.  PITH_E_ARGUMENT.
	 */
	pith_status (*validate)(const struct scheme_link *link, struct pith_error *err);
	/*
	 * Bytes of the planes this link adds for [m, n], each rounded up to 64, their number and the terms;
	 * false: absurd.  A pruner counts for the quantizer behind it.  NULL for folds.
	 */
	bool (*nbytes)(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
	               uint32_t *plane_count, uint32_t *term_count);
	/* Dense, prune and quantize: fill *out, zeroed before; on failure the caller frees it. */
	pith_status (*quantize)(const struct scheme_link *link, const struct quant_job *job,
	                        struct quant_result *out, struct pith_error *err);
	/* Fold: change the group in place, or leave it. */
	pith_status (*fold)(const struct scheme_link *link, struct fold_group *g, struct pith_error *err);
	/*
	 * Order: out: [n], column of the weight at place j; a permutation.
	 */
	pith_status (*order)(const struct scheme_link *link, const struct quant_job *job, uint32_t *out,
	                     struct pith_error *err);
	/*
	 * After: append terms to *out.  error: [m, n] f32, the weight less out's terms, its columns in the
	 * order of the terms (permuted if out->permute; job->inputs is not).
	 */
	pith_status (*after)(const struct scheme_link *link, const struct quant_job *job,
	                     const float *error, struct quant_result *out, struct pith_error *err);
	/* The grid of a quantizer whose terms are affine, for pruners (quant_grid.h).  NULL: it has none. */
	void (*grid)(const struct scheme_link *link, struct quant_grid_rule *rule);
};

/*
 * The key of quantizers that choose how a weight's inputs are rounded, by this name and with these
 * choices: int8 with a scale per 32 columns, per token, or one for all.
 */
#define QUANT_ACT_KEY "act"
#define QUANT_ACT_NAMES "8|token|static"
/* enum pith_activation of a link with integer terms. */
uint32_t scheme_activation(const struct scheme_link *link);

extern const struct quant_method *const quant_methods[]; /* ended by NULL */
extern const struct quant_method quant_method_magnitude, quant_method_wanda,
    quant_method_sparsegpt, quant_method_lorc;

/* ---- helpers for methods ---- */

/* Elements read and quantized at a time: bounds memory beside the weight itself. */
#define QUANT_PIECE_ELEMENTS ((size_t)1 << 20)

/* Rows of a piece of [m, n]; at least 1. */
static inline size_t quant_piece_rows(const struct quant_job *job)
{
	size_t rows = QUANT_PIECE_ELEMENTS / job->n;
	return rows == 0 ? 1 : rows < job->m ? rows : job->m;
}

/*
 * Call row(ctx, i) for i in 0 .. count-1 on up to 'threads' threads; rows are independent, so
 * results do not depend on the threads.
 */
void quant_rows(unsigned threads, size_t count, void (*row)(void *ctx, size_t i), void *ctx);

/*
 * Call 'rest' with the links behind 'link', on the weight with its columns in the order of 'link', and
 * put both permutations into out->permute (quant_order.c).
 */
pith_status quant_ordered(const struct scheme_link *link, const struct quant_job *job,
                          pith_status (*rest)(const struct scheme_link *link,
                                              const struct quant_job *job,
                                              struct quant_result *out, struct pith_error *err),
                          struct quant_result *out, struct pith_error *err);

extern const struct quant_method quant_method_bf16, quant_method_f16, quant_method_f32,
    quant_method_rtn, quant_method_gptq, quant_method_owq, quant_method_spqr;
extern const struct quant_method quant_method_llmqat, quant_method_awq,
    quant_method_smoothquant, quant_method_osplus, quant_method_rptq;
extern const struct quant_method quant_method_nf4, quant_method_fp4, quant_method_fp6,
    quant_method_fp8, quant_method_mofq, quant_method_ternary, quant_method_squeezellm;

/* The weight in its own dtype, bit for bit. */
pith_status quant_dense_copy(const struct quant_job *job, struct quant_result *out,
                             struct pith_error *err);

#endif
