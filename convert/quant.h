/*
 * What a method of quantization is: a name, a parser for its options, a size, and a
 * function from the rows of a weight to packed terms.
 *
 * A *scheme* is a method with its options, written method:key=value,...  Methods are rows of
 * quant_methods[] in scheme.c, one quant_<method>.c each.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_QUANT_H
#define PITH_CONVERT_QUANT_H

#include "source.h"
#include "term.h"

struct quant_method;

/* ---- options of the methods ---- */

struct quant_dense_options {
	uint32_t dtype;
};

struct quant_rtn_options {
	uint32_t bits;
	uint32_t group_size; /* 0: row */
	uint32_t zero_mode;  /* spec/terms/affine.md, param 3: 0, 1, 2 */
	bool search;         /* choose the scale by squared error */
};

struct scheme {
	const struct quant_method *method;
	union {
		struct quant_dense_options dense;
		struct quant_rtn_options rtn;
	} u;
};

/* ---- the work ---- */

/* One weight to quantize, as a matrix [m, n]. */
struct quant_job {
	const struct source *src;
	const struct source_tensor *tensor;
	size_t m, n;
	unsigned threads;
	/* Elements done, after every piece; may fail with PITH_E_IO to stop.  May be NULL. */
	pith_status (*progress)(void *ctx, uint64_t elements, struct pith_error *err);
	void *ctx;
};

struct quant_result {
	struct pith_packed_term term[PITH_MAX_TERMS];
	size_t term_count;
	uint32_t activation;
	double error2, norm2; /* sums of squares: of the error, of the weights */
};
void quant_result_free(struct quant_result *r);

/* One option of a scheme: "key=value" at 'off' of the scheme's text. */
struct scheme_option {
	const char *key, *value; /* not NUL-terminated */
	size_t key_nbytes, value_nbytes;
	size_t key_off, value_off;
};

struct quant_method {
	const char *name;
	const char *help; /* its options, for --help */
	bool quantizes;   /* false: dense; the only one that norms take */
	/* Defaults; then once per option.  PITH_E_ARGUMENT with err->off in the scheme's text. */
	void (*defaults)(struct scheme *s);
	pith_status (*option)(struct scheme *s, const struct scheme_option *o, struct pith_error *err);
	/* The scheme as text that parses to itself, with every option; text: [96]. */
	void (*print)(const struct scheme *s, char *text, size_t cap);
	/* Bytes of the planes for [m, n], each rounded up to 64, and their number; false: absurd. */
	bool (*nbytes)(const struct scheme *s, uint64_t m, uint64_t n, uint64_t *nbytes,
	               uint32_t *plane_count);
	/* On failure *out is empty. */
	pith_status (*quantize)(const struct scheme *s, const struct quant_job *job,
	                        struct quant_result *out, struct pith_error *err);
};

/* ---- scheme.c ---- */

extern const struct quant_method *const quant_methods[]; /* ended by NULL */

/* PITH_E_ARGUMENT quotes the place.  'text' may be freed afterwards. */
pith_status scheme_parse(const char *text, struct scheme *out, struct pith_error *err);

/* Does the option's key read 'name'?  Its value as a decimal number; false: it is none. */
bool scheme_option_is(const struct scheme_option *o, const char *name);
bool scheme_option_reads(const struct scheme_option *o, const char *value);
bool scheme_option_u32(const struct scheme_option *o, uint32_t *out);

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

extern const struct quant_method quant_method_bf16, quant_method_f16, quant_method_f32,
    quant_method_rtn;

/* The weight in its own dtype, bit for bit. */
pith_status quant_dense_copy(const struct quant_job *job, struct quant_result *out,
                             struct pith_error *err);

#endif
