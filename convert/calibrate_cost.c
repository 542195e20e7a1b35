/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_cost.h"

#include "allocate.h"
#include "calibrate_fold.h"
#include "calibrate_stats.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SAMPLES 128u
#define DEFAULT_MAX_LENGTH 2048u
#define DEFAULT_STREAM_MEMORY ((uint64_t)8 << 30)

/* ---- shapes ---- */

double import_plan_f64(const struct import_plan *p, const char *key)
{
	for (size_t i = 0; i < p->key_count; i++)
		if (strcmp(p->key[i].key, key) == 0)
			return p->key[i].f64;
	return 0;
}

uint64_t import_plan_u64(const struct import_plan *p, const char *key)
{
	for (size_t i = 0; i < p->key_count; i++)
		if (strcmp(p->key[i].key, key) == 0)
			return p->key[i].u64;
	return 0;
}

void calibration_shape_of(const struct import_plan *p, size_t block, struct calibration_shape *s)
{
	const struct pith_block_entry *b = &p->block[block];
	*s = (struct calibration_shape){
	    .hidden = (size_t)import_plan_u64(p, "hidden_size"), .ffn = b->ffn_count,
	    .head_count = b->head_count, .kv_head_count = b->kv_head_count, .head_dim = b->head_dim,
	    .window = b->window, .eps = import_plan_f64(p, "rms_norm_eps"),
	    .rope_ratio = import_plan_f64(p, "rope.ratio")};
}

size_t calibration_sample_length(const struct calibration_run *run)
{
	uint64_t context = import_plan_u64(run->plan, "context_length"), length = run->options->calib_length;
	if (length == 0)
		length = context > 0 && context < DEFAULT_MAX_LENGTH ? context : DEFAULT_MAX_LENGTH;
	return (size_t)length;
}

size_t calibration_sample_count(const struct calibration_run *run)
{
	return run->options->calib_samples > 0 ? (size_t)run->options->calib_samples : DEFAULT_SAMPLES;
}

struct calibration_shape calibration_widest(const struct import_plan *p)
{
	struct calibration_shape most = {0};
	for (size_t i = 0; i < p->block_count; i++) {
		struct calibration_shape s;
		calibration_shape_of(p, i, &s);
		most.hidden = s.hidden;
		most.ffn = s.ffn > most.ffn ? s.ffn : most.ffn;
		if (s.head_count * s.head_dim > most.head_count * most.head_dim) {
			most.head_count = s.head_count;
			most.head_dim = s.head_dim;
		}
		if (s.kv_head_count > most.kv_head_count)
			most.kv_head_count = s.kv_head_count;
	}
	return most;
}

size_t calibration_batch_floats(const struct calibration_shape *s)
{
	return s->hidden + 2 * s->head_count * s->head_dim + 2 * s->kv_head_count * s->head_dim +
	       2 * s->ffn;
}

uint64_t calibration_stream_limit(const struct calibration_run *run)
{
	return run->options->memory > 0 ? run->options->memory : DEFAULT_STREAM_MEMORY;
}

/* ---- memory ---- */

static uint64_t block_elements(const struct calibration_shape *s)
{
	uint64_t d = s->hidden, q = s->head_count * s->head_dim, kv = s->kv_head_count * s->head_dim;
	return 2 * d * q + 2 * d * kv + 3 * d * s->ffn + 2 * d;
}

/* The largest solve: factor in f64, its f32 copy, statistics; the weight's copy, codes, planes, pieces. */
static uint64_t solve_memory(uint64_t m, uint64_t n)
{
	return 12 * n * n + calibration_stats_nbytes(n) + 6 * m * n +
	       12 * (uint64_t)QUANT_PIECE_ELEMENTS;
}

static bool measures(const struct calibration_run *run)
{
	return run->options->bits > 0 || run->options->size > 0;
}

/* Weights that may have a stream of their own, and its tokens. */
static uint64_t probe_count(const struct calibration_run *run)
{
	uint64_t count = 0;
	for (size_t i = 0; i < run->recipe->step_count; i++)
		count += run->recipe->step[i].want->rank == 2;
	return count;
}

static uint64_t probe_tokens(const struct calibration_run *run)
{
	uint64_t length = calibration_sample_length(run), count = calibration_sample_count(run);
	uint64_t samples = length < ALLOCATE_PROBE_TOKENS ? ALLOCATE_PROBE_TOKENS / length : 1;
	return (samples < count ? samples : count) * length;
}

/* What choosing schemes holds beside a block and a solve: head, table, streams, a weight as stored. */
static uint64_t measure_memory(const struct calibration_run *run,
                               const struct calibration_shape *s, uint64_t *spilled)
{
	uint64_t vocab = import_plan_u64(run->plan, "vocab_size");
	uint64_t probes = 4 * probe_count(run) * probe_tokens(run) * s->hidden;
	uint64_t heads = 8 * vocab * s->hidden, threads = run->options->threads;
	uint64_t logits = 64 * 4 * (s->hidden + 2 * vocab) * (threads > 0 ? threads : 1);
	bool on_disk = probes > calibration_stream_limit(run);
	*spilled += on_disk ? probes : 0;
	return heads + logits + 4 * s->ffn * s->hidden + (on_disk ? 0 : probes);
}

uint64_t calibrate_memory(const struct calibration_run *run, uint64_t *spilled)
{
	struct calibration_shape s = calibration_widest(run->plan);
	uint64_t length = calibration_sample_length(run);
	uint64_t tokens = length * calibration_sample_count(run);
	uint64_t rows = length < CALIBRATION_BATCH_TOKENS ? CALIBRATION_BATCH_TOKENS : length;
	uint64_t streams = recipe_folds(run->recipe) ? 2 : 1;
	uint64_t one = 4 * tokens * s.hidden, vocab = import_plan_u64(run->plan, "vocab_size");
	uint64_t down = solve_memory(s.hidden, s.ffn), up = solve_memory(s.ffn, s.hidden);
	uint64_t fold = recipe_folds(run->recipe)
	                    ? calibration_fold_nbytes(&s, length, calibration_sample_count(run)) : 0;
	uint64_t solve = down > up ? down : up;
	uint64_t inside = 4 * block_elements(&s) + (solve > fold ? solve : fold);
	uint64_t table = 4 * vocab * s.hidden + solve_memory(vocab, s.hidden);
	rows = rows < tokens ? rows : tokens;
	*spilled = one > calibration_stream_limit(run) ? streams * one : 0;
	uint64_t rest = streams * one - *spilled + 4 * rows * calibration_batch_floats(&s);
	uint64_t head = solve_memory(vocab, s.hidden), widest = inside > head ? inside : head;
	uint64_t choosing = measures(run) ? widest + measure_memory(run, &s, spilled) : 0;
	inside = inside > table ? inside : table;
	return (inside > choosing ? inside : choosing) + rest;
}

/* ---- time ---- */

static double now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds per multiplication of a product in f32 on one thread. */
static double sample_product(void)
{
	enum { SIDE = 384 };
	float *a = calloc(3 * SIDE * SIDE, sizeof(*a));
	if (!a)
		return 0;
	double best = 1;
	for (unsigned i = 0; i < 3; i++) {
		double start = now_seconds();
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIDE, SIDE, SIDE, 1.0f, a, SIDE,
		            a + SIDE * SIDE, SIDE, 0.0f, a + 2 * SIDE * SIDE, SIDE);
		double seconds = now_seconds() - start;
		best = seconds < best ? seconds : best;
	}
	free(a);
	return best / ((double)SIDE * SIDE * SIDE);
}

/*
 * Products of the measurement, over all blocks: nine factors of every matrix (owq's eight and one that
 * is kept) and one a site, 28 candidates, of which 4 look for a threshold, on some rows, and the
 * matrices' own streams through the blocks behind them and the head.
 */
static double measure_products(const struct calibration_run *run, double weights, double attention,
                               double threads)
{
	struct calibration_shape s = calibration_widest(run->plan);
	double d = (double)s.hidden, q = (double)(s.head_count * s.head_dim), ffn = (double)s.ffn;
	double blocks = (double)run->plan->block_count, tokens = (double)probe_tokens(run);
	double count = (double)probe_count(run), rows = 2 * 28 * ALLOCATE_MEASURE_ROWS;
	double vocab = (double)import_plan_u64(run->plan, "vocab_size");
	double factors = 4.0 / 3.0 * ((5 * 9 + 2) * d * d * d + 10 * (q * q * q + ffn * ffn * ffn));
	double solves = rows * (5 * d * d + q * q + ffn * ffn) / 2;
	double streams = count / 2 * tokens * (weights + attention);
	return blocks * factors + (blocks * (solves + streams) + (count + 1) * tokens * vocab * d) / threads;
}

double calibrate_seconds(const struct calibration_run *run)
{
	struct calibration_shape s = calibration_widest(run->plan);
	double length = (double)calibration_sample_length(run), d = (double)s.hidden;
	double tokens = length * (double)calibration_sample_count(run);
	double q = (double)(s.head_count * s.head_dim), ffn = (double)s.ffn;
	double weights = (double)block_elements(&s);
	/* attention and ffn run for the statistics and again for the states; both triangles of a panel count */
	double forward = tokens * (1.8 * weights + 2 * q * length);
	double hessians = tokens * (2 * d * d + q * q + ffn * ffn) / 2;
	/*
	 * one an input, which methods that sort by their own rules do not share, in f64, which takes
	 * twice as long, on one thread: 4/3 n^3 operations of two
	 */
	double factors = 4.0 / 3.0 * (2 * d * d * d + q * q * q + ffn * ffn * ffn);
	double threads = run->options->threads > 1 ? run->options->threads : 1;
	double passes = import_plan_u64(run->plan, "head_tied") ? 1.6 : 1.0;
	double products = (double)run->plan->block_count *
	                  ((passes * forward + hessians + weights * (d + ffn) / 4) / threads + factors);
	if (measures(run)) /* also a pass of its own */
		products += (double)run->plan->block_count * (passes * forward + hessians) / threads +
		            measure_products(run, weights, 2 * q * length, threads);
	openblas_set_num_threads(1);
	return sample_product() * products;
}
