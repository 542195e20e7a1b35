/*
 * From a checkpoint to a .pith file: the whole of 'pith convert' without its talk.
 *
 * Streams: one weight is in memory at a time, in its source form or its packed one, plus
 * pieces of QUANT_PIECE_ELEMENTS.  Same source, same options: same bytes, whatever the number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_CONVERT_H
#define PITH_CONVERT_CONVERT_H

#include "import.h"
#include "quant.h"

struct convert_options {
	const char *scheme;       /* "rtn:bits=4,group=64"; NULL: bf16 */
	const char *const *rules; /* "REGEX=SCHEME" by tensor name; the last that matches wins */
	size_t rule_count;
	/*
	 * Choose the schemes of matrices without a rule so that all weights take this many bits each (as
	 * convert_result counts) or the file this many bytes, and the predictions on 'calib' change least; 0:
	 * 'scheme' is theirs.
	 */
	double bits;
	uint64_t size;
	unsigned kv_dtype; /* PITH_DTYPE of the KV cache: F32, F16 or I8; 0: f32 */
	unsigned threads; /* 0: 1 */
	/*
	 * Text to calibrate with; schemes that need one fail without.  Samples of 'length' tokens; 0: 128, and
	 * the model's context but at most 2048.
	 */
	const char *calib;
	uint64_t calib_samples, calib_length, calib_seed;
	uint64_t memory; /* activations above this go to a file; 0: 8 GiB */
	bool resume;     /* continue what an interrupted run left beside the target */
	bool dry_run;     /* sizes and estimates only; 'target' is not touched and may be NULL */
	/* All may be NULL.  Work done of work to do, in bytes, and the tensor at hand. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *tensor);
	void (*note)(void *ctx, const char *text); /* a warning: one line */
	/* A file that exists only until the conversion is complete; gone again: false. */
	void (*temporary)(void *ctx, const char *path, bool exists);
	/* With 'bits' or 'size': the scheme chosen for a matrix and what it is expected to add to the loss. */
	void (*chosen)(void *ctx, const char *tensor, const char *scheme, double bits, double loss);
	void *ctx;
};

#define CONVERT_MAX_GROUPS 64u

/* Weights stored by one scheme. */
struct convert_group {
	char scheme[SCHEME_TEXT_CAP]; /* with all its options; "as is" for what keeps its dtype */
	uint64_t weight_count, element_count;
	uint64_t nbytes;        /* of planes: spec weight, "Bits per weight" */
	double error2, norm2;   /* squared error and squared weights */
	double proxy2, proxy_norm2; /* the same of outputs on the calibration text, else 0 */
};

struct convert_result {
	uint64_t weight_count, element_count;
	uint64_t weight_nbytes; /* as in convert_group, over all */
	uint64_t file_nbytes;   /* estimated by a dry run */
	uint64_t source_nbytes; /* of the tensors stored */
	uint64_t memory_nbytes; /* most memory needed, estimated */
	uint64_t spilled_nbytes; /* activations on disk while it runs, estimated by a dry run */
	double seconds;         /* estimated by a dry run, else 0 */
	struct convert_group group[CONVERT_MAX_GROUPS]; /* in order of first use */
	size_t group_count;
	bool has_tokenizer;
};

/*
 * Convert 'source' to 'target', which appears when all is done and then replaces any file of that
 * name.  Status as its parts give it; PITH_E_ARGUMENT for a scheme or a rule that is wrong or a rule
 * that no tensor matches.
 */
pith_status convert_model(const char *source, const char *target,
                          const struct convert_options *options, struct convert_result *out,
                          struct pith_error *err);

static inline double convert_bits(uint64_t nbytes, uint64_t elements)
{
	return elements > 0 ? 8.0 * (double)nbytes / (double)elements : 0.0;
}

#endif
