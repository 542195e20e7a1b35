/*
 * Binding a weight and running it: the sum of its terms, in file order, over row tiles
 * that the executor shares out.  Kinds differ only in their kernel function.  Spec: spec/weight.md,
 * spec/numerics.md 2 and 4.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "linear.h"

#include "parallel.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_JOBS 4u
/* Rows of one pass of pith_linear_apply: bounds its work memory. */
#define APPLY_ROWS 64u

/* ---- inputs ---- */

/* Rows whose distance is a multiple of the cache's way size would evict each other. */
static size_t unalias(size_t stride, size_t value_nbytes)
{
	return stride * value_nbytes % 1024 == 0 ? stride + 64 / value_nbytes : stride;
}

void pith_input_layout(struct pith_input *input, struct pith_arena *arena, size_t row_cap,
                       size_t n_cap)
{
	*input = (struct pith_input){.row_cap = row_cap, .n_cap = n_cap};
	if (n_cap == 0 || row_cap == 0)
		return;
	input->ldx = unalias(pith_act_ldx(n_cap), sizeof(float));
	input->ldq = unalias(pith_round_up(n_cap, 64), 1);
	input->lds = input->ldq / PITH_ACT_GROUP;
	input->x = pith_arena_take(arena, row_cap, input->ldx, sizeof(float));
	input->q = pith_arena_take(arena, row_cap, input->ldq, 1);
	input->scale = pith_arena_take(arena, row_cap, input->lds, sizeof(float));
	input->sum = pith_arena_take(arena, row_cap, 2 * input->lds, sizeof(int32_t));
}

void pith_input_begin(struct pith_input *input, size_t k, size_t n)
{
	if (n < input->n) {
		for (size_t r = 0; r < input->row_cap; r++) {
			memset(input->x + r * input->ldx + n, 0, (input->n - n) * sizeof(float));
			memset(input->q + r * input->ldq, 0, input->ldq);
		}
	}
	input->n = n;
	input->k = k;
	input->activation = PITH_ACTIVATION_FLOAT;
}

struct quantize_task {
	struct pith_linear_runner *runner;
	struct pith_input *input;
};

static void quantize_rows(void *arg, size_t begin, size_t end)
{
	const struct quantize_task *t = arg;
	const struct pith_kernels *kernels = t->runner->kernels;
	const struct pith_input *in = t->input;
	for (size_t r = begin; r < end; r++) {
		const float *x = in->x + r * in->ldx;
		int8_t *q = in->q + r * in->ldq;
		float *scale = in->scale + r * in->lds;
		int32_t *sum = in->sum + r * 2 * in->lds;
		bool finite =
		    in->activation == PITH_ACTIVATION_INT8_GROUP32 ?
		        kernels->quantize(x, in->n, q, scale, sum) :
		        kernels->quantize_row(x, in->n, in->activation_scale, q, scale, sum);
		if (!finite)
			atomic_store_explicit(&t->runner->not_finite, true, memory_order_relaxed);
	}
}

/* Is the input there as 'linear' wants it, or not there in another form? */
static bool input_suits(const struct pith_input *input, const struct pith_linear *linear)
{
	return !linear->integer || input->activation == PITH_ACTIVATION_FLOAT ||
	       (input->activation == linear->weight.activation &&
	        input->activation_scale == linear->weight.activation_scale);
}

static void quantize_input(struct pith_linear_runner *runner, struct pith_input *input,
                           const struct pith_linear *linear)
{
	if (input->activation != PITH_ACTIVATION_FLOAT && input_suits(input, linear))
		return;
	input->activation = linear->weight.activation;
	input->activation_scale = linear->weight.activation_scale;
	struct quantize_task task = {runner, input};
	pith_parallel(runner->executor, input->k, input->n / 4, quantize_rows, &task);
}

void pith_linear_runner_layout(struct pith_linear_runner *runner, struct pith_arena *arena,
                               size_t rows, size_t n, size_t h_count)
{
	pith_input_layout(&runner->transformed, arena, n != 0 ? rows : 0, n);
	runner->h = pith_arena_take(arena, rows, MAX_JOBS * h_count, sizeof(float));
}

struct transform_task {
	const struct pith_linear *linear;
	const struct pith_input *from;
	struct pith_input *to;
};

static void transform_rows(void *arg, size_t begin, size_t end)
{
	const struct transform_task *t = arg;
	for (size_t r = begin; r < end; r++) {
		const float *x = t->from->x + r * t->from->ldx;
		float *y = t->to->x + r * t->to->ldx;
		/* in place from the second on: a permutation is the first (weight.6) */
		for (size_t i = 0; i < t->linear->transform_count; i++)
			pith_transform_apply(&t->linear->transforms[i], i == 0 ? x : y, y);
	}
}

/* ---- products ---- */

struct product_task {
	struct pith_act act;
	float *h; /* V x' of the lowrank terms, behind each other: [k, ldh] each */
	const struct pith_linear_job *jobs;
	size_t job_count;
};

/* V of a lowrank term as a dense one; its product is h. */
static struct pith_term lowrank_v(const struct pith_term *term)
{
	const struct pith_lowrank *l = &term->u.lowrank;
	struct pith_term v = {.m = l->rank, .n = term->n};
	v.tiles = pith_round_up(l->rank, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	v.u.dense = (struct pith_dense){l->v, l->dtype, 2};
	return v;
}

size_t pith_linear_h_count(const struct pith_term *term)
{
	return term->kind->id == PITH_KIND_LOWRANK ?
	           pith_round_up(term->u.lowrank.rank, PITH_TILE_ROWS) : 0;
}

static void add_bias(const struct pith_linear *w, size_t k, size_t begin, size_t end, float *y,
                     size_t ldy)
{
	for (size_t tile = begin; tile < end; tile++) {
		const size_t row = tile * PITH_TILE_ROWS, left = w->m - row;
		const size_t rows = left < PITH_TILE_ROWS ? left : PITH_TILE_ROWS;
		float bias[PITH_TILE_ROWS];
		for (size_t r = 0; r < rows; r++)
			bias[r] = load_f32(w->bias + 4 * (row + r));
		// spec numerics.2: "A weight with a shift then adds its bias: y = fl(y + bias[i])."
		for (size_t token = 0; token < k; token++)
			w->kernels->add(y + token * ldy + row, bias, rows);
	}
}

static void apply_terms(const struct product_task *p, const struct pith_linear_job *job, float *h,
                        size_t begin, size_t end)
{
	const struct pith_linear *w = job->linear;
	struct pith_act act = p->act;
	for (size_t t = 0; t < w->term_count; t++) {
		const struct pith_term *term = &w->terms[t];
		if (term->kind->id == PITH_KIND_LOWRANK) {
			act.h = h;
			act.ldh = pith_linear_h_count(term);
			h += act.k * act.ldh;
		}
		w->kernels->apply[term->kind->id](term, &act, begin, end, t > 0, job->y, job->ldy);
	}
	if (w->bias != NULL)
		add_bias(w, act.k, begin, end, job->y, job->ldy);
}

/* Items are row tiles, those of the first job first. */
static void multiply_tiles(void *arg, size_t begin, size_t end)
{
	const struct product_task *p = arg;
	float *h = p->h;
	for (size_t i = 0; i < p->job_count && end > 0; i++) {
		const struct pith_linear_job *job = &p->jobs[i];
		const struct pith_linear *w = job->linear;
		size_t stop = end < w->tiles ? end : w->tiles;
		if (begin < stop)
			apply_terms(p, job, h, begin, stop);
		h += p->act.k * w->h_count;
		begin = begin > w->tiles ? begin - w->tiles : 0;
		end = end > w->tiles ? end - w->tiles : 0;
	}
}

static struct pith_act act_of(const struct pith_input *in)
{
	return (struct pith_act){.k = in->k, .n = in->n, .x = in->x, .ldx = in->ldx, .q = in->q,
	                         .ldq = in->ldq, .scale = in->scale, .lds = in->lds, .sum = in->sum,
	                         .one_scale = in->activation >= PITH_ACTIVATION_INT8_TOKEN};
}

struct lowrank_task {
	const struct pith_kernels *kernels;
	const struct pith_term *v;
	const struct pith_act *act;
	float *h;
};

static void multiply_v(void *arg, size_t begin, size_t end)
{
	const struct lowrank_task *t = arg;
	t->kernels->apply[PITH_KIND_DENSE](t->v, t->act, begin, end, false, t->h,
	                                   t->v->tiles * PITH_TILE_ROWS);
}

/* h = V x' for every lowrank term of the jobs. */
static void multiply_lowrank(const struct pith_executor *executor, const struct product_task *p)
{
	float *h = p->h;
	for (size_t i = 0; i < p->job_count; i++) {
		const struct pith_linear *w = p->jobs[i].linear;
		for (size_t t = 0; w->h_count > 0 && t < w->term_count; t++) {
			if (w->terms[t].kind->id != PITH_KIND_LOWRANK)
				continue;
			struct pith_term v = lowrank_v(&w->terms[t]);
			struct lowrank_task task = {w->kernels, &v, &p->act, h};
			pith_parallel(executor, v.tiles, w->n * p->act.k, multiply_v, &task);
			h += p->act.k * pith_linear_h_count(&w->terms[t]);
		}
	}
}

/* The input as 'linear' reads it: transformed and quantized where it asks for that. */
static struct pith_input *prepare(struct pith_linear_runner *runner, struct pith_input *input,
                                  const struct pith_linear *linear)
{
	if (linear->transform_count > 0) {
		struct transform_task task = {linear, input, &runner->transformed};
		pith_input_begin(&runner->transformed, input->k, input->n);
		pith_parallel(runner->executor, input->k, input->n, transform_rows, &task);
		input = &runner->transformed;
	}
	if (linear->integer)
		quantize_input(runner, input, linear);
	return input;
}

/* Jobs that read one prepared input. */
static void multiply(struct pith_linear_runner *runner, const struct pith_input *in,
                     const struct pith_linear_job *jobs, size_t count)
{
	struct product_task task = {
	    .act = act_of(in), .h = runner->h, .jobs = jobs, .job_count = count};
	size_t tiles = 0, work = 0;
	multiply_lowrank(runner->executor, &task);
	for (size_t i = 0; i < count; i++) {
		tiles += jobs[i].linear->tiles;
		work = jobs[i].linear->tile_work > work ? jobs[i].linear->tile_work : work;
	}
	pith_parallel(runner->executor, tiles, work * in->k, multiply_tiles, &task);
}

void pith_linear_run(struct pith_linear_runner *runner, struct pith_input *input,
                     const struct pith_linear_job *jobs, size_t count)
{
	struct pith_linear_job plain[MAX_JOBS];
	size_t plain_count = 0;
	assert(count <= MAX_JOBS);
	for (size_t i = 0; i < count; i++) {
		if (plain_count > 0 && !input_suits(input, jobs[i].linear)) {
			multiply(runner, input, plain, plain_count);
			plain_count = 0;
		}
		const struct pith_input *prepared = prepare(runner, input, jobs[i].linear);
		if (prepared == input)
			plain[plain_count++] = jobs[i];
		else
			multiply(runner, prepared, &jobs[i], 1);
	}
	if (plain_count > 0)
		multiply(runner, input, plain, plain_count);
}

void pith_linear_run_tile(struct pith_linear_runner *runner, struct pith_input *input,
                          const struct pith_linear *linear, size_t tile, float *y)
{
	struct pith_linear_job job = {linear, y, linear->tiles * PITH_TILE_ROWS};
	const struct pith_input *prepared = prepare(runner, input, linear);
	struct product_task task = {
	    .act = act_of(prepared), .h = runner->h, .jobs = &job, .job_count = 1};
	multiply_lowrank(NULL, &task);
	multiply_tiles(&task, tile, tile + 1);
}

void pith_linear_row(const struct pith_linear *linear, size_t row, float *out, float *scratch)
{
	size_t n = linear->n;
	for (size_t t = 0; t < linear->term_count; t++) {
		const struct pith_term *term = &linear->terms[t];
		term->kind->unpack_rows(term, row, 1, t == 0 ? out : scratch);
		if (t > 0)
			linear->kernels->add(out, scratch, n);
	}
	for (size_t i = linear->transform_count; i-- > 0;)
		pith_transform_undo(&linear->transforms[i], out, scratch);
}

/* ---- binding ---- */

/* About the reference machine's speed: integer kinds go four times faster than float ones. */
static size_t estimate_tile_work(const struct pith_linear *w)
{
	return w->n * PITH_TILE_ROWS / (w->integer ? 64 : 16) + 1;
}

static pith_status bind_terms(struct pith_linear *w, struct pith_error *err)
{
	const struct pith_weight *weight = &w->weight;
	for (size_t t = 0; t < w->term_count; t++) {
		struct pith_term *term = &w->terms[t];
		PITH_TRY(pith_weight_term(weight, t, term, err));
		if (term->kind->id >= PITH_KERNEL_KINDS || w->kernels->apply[term->kind->id] == NULL)
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, "weight.1",
			                 "no kernel for kind %s", term->kind->name);
		w->integer = w->integer || term->kind->integer(term->param);
		w->h_count += pith_linear_h_count(term);
		for (size_t p = 0; p < term->plane_count; p++)
			w->nbytes += term->plane[p].nbytes;
	}
	w->transform_count = weight->transform_count;
	for (size_t i = 0; i < weight->transform_count; i++) {
		PITH_TRY(pith_weight_transform(weight, i, &w->transforms[i], err));
		w->nbytes += w->transforms[i].plane.nbytes + w->transforms[i].bias.nbytes;
		w->bias = w->transforms[i].bias.data; /* of the last, which a shift is */
	}
	w->tile_work = estimate_tile_work(w);
	return PITH_OK;
}

pith_status pith_linear_bind(const struct pith_weight *weight, const struct pith_kernels *kernels,
                             bool verify, struct pith_linear **out, struct pith_error *err)
{
	*out = NULL;
	struct pith_linear *w = calloc(1, sizeof(*w) + weight->term_count * sizeof(w->terms[0]));
	if (w == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to bind a weight");
	w->kernels = kernels;
	w->weight = *weight;
	w->m = weight->m;
	w->n = weight->n;
	w->tiles = pith_round_up(weight->m, PITH_TILE_ROWS) / PITH_TILE_ROWS;
	w->term_count = weight->term_count;
	pith_status status = verify ? pith_weight_verify(weight, err) : PITH_OK;
	if (status == PITH_OK)
		status = bind_terms(w, err);
	if (status == PITH_OK && verify && weight->rank == 2)
		status = pith_linear_canary_check(w, err);
	if (status != PITH_OK) {
		free(w);
		return status;
	}
	*out = w;
	return PITH_OK;
}

/* ---- public ---- */

pith_status pith_linear_new(const struct pith_weight *weight, const struct pith_model_options *options,
                            struct pith_linear **out, struct pith_error *err)
{
	const struct pith_kernels *kernels;
	*out = NULL;
	PITH_TRY(pith_kernels_select(options != NULL ? options->kernels : NULL, &kernels, err));
	return pith_linear_bind(weight, kernels, options == NULL || !options->no_verify, out, err);
}

void pith_linear_free(struct pith_linear *linear)
{
	free(linear);
}

pith_status pith_workspace_new(struct pith_workspace *ws, const struct pith_linear *linear, size_t rows,
                               const struct pith_executor *executor, struct pith_error *err)
{
	*ws = (struct pith_workspace){0};
	struct pith_arena arena = {0};
	for (int pass = 0; pass < 2; pass++) {
		pith_input_layout(&ws->input, &arena, rows, linear->n);
		pith_linear_runner_layout(&ws->runner, &arena, rows,
		                          linear->transform_count > 0 ? linear->n : 0,
		                          linear->h_count);
		ws->y = pith_arena_take(&arena, rows, linear->tiles * PITH_TILE_ROWS, sizeof(float));
		if (pass == 0) {
			ws->memory = arena.overflow ? NULL : calloc(1, arena.used + PITH_ARENA_ALIGN);
			if (ws->memory == NULL)
				return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
				                 "no memory for %zu rows of input", rows);
			arena = (struct pith_arena){.base = pith_arena_align(ws->memory)};
		}
	}
	ws->runner.kernels = linear->kernels;
	ws->runner.executor = executor;
	return PITH_OK;
}

pith_status pith_linear_apply(const struct pith_linear *linear, const float *x, size_t k, float *y,
                              const struct pith_executor *executor, struct pith_error *err)
{
	size_t m = linear->m, n = linear->n, ldy = linear->tiles * PITH_TILE_ROWS;
	size_t rows = k < APPLY_ROWS ? k : APPLY_ROWS;
	struct pith_workspace ws;
	if (k == 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "no rows of input");
	PITH_TRY(pith_workspace_new(&ws, linear, rows, executor, err));
	for (size_t done = 0; done < k; done += ws.input.k) {
		pith_input_begin(&ws.input, k - done < rows ? k - done : rows, n);
		for (size_t r = 0; r < ws.input.k; r++)
			memcpy(ws.input.x + r * ws.input.ldx, x + (done + r) * n, n * sizeof(float));
		pith_linear_run(&ws.runner, &ws.input, &(struct pith_linear_job){linear, ws.y, ldy}, 1);
		for (size_t r = 0; r < ws.input.k; r++)
			memcpy(y + (done + r) * m, ws.y + r * ldy, m * sizeof(float));
	}
	free(ws.memory);
	if (atomic_load(&ws.runner.not_finite))
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "numerics", "the input is not finite");
	return PITH_OK;
}
