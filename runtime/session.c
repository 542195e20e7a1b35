/*
 * Sessions: the arena, the caches, and a step over rows of many sequences.  All rows go through a
 * layer together: keys and values of the step are appended first, then every row attends up to
 * its own position, so a row sees earlier rows of its sequence and nothing else.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model.h"

#include "map_pages.h"

#include <stdlib.h>

/* Up to here keys of a head are some tens of KiB. */
#define LARGE_PAGE_POSITIONS 1024u

struct pith_session {
	void *memory; /* of the arena */
	size_t memory_nbytes;
	const struct pith_model *model;
	size_t sequence_count, context_length, batch_count, logit_cap;
	size_t *length;  /* [sequence_count] positions held */
	size_t *pending; /* [sequence_count] rows of the step so far */
	struct pith_step step;
};

static size_t rows_ld(size_t columns)
{
	return pith_round_up(columns, PITH_TILE_ROWS);
}

static void layout_rows(struct pith_rows *rows, struct pith_arena *arena, size_t count, size_t columns)
{
	rows->ld = rows_ld(columns);
	rows->v = pith_arena_take(arena, count, rows->ld, sizeof(float));
}

/* The cache of one block; cache->type is set. */
static void layout_cache(const struct pith_session *s, struct pith_arena *arena,
                         const struct pith_block *b, size_t positions, struct pith_cache *cache)
{
	size_t heads, values;
	cache->head_count = b->head_count;
	cache->kv_head_count = b->kv_head_count;
	cache->head_dim = b->head_dim;
	cache->positions = positions;
	cache->window = b->window;
	cache->scale = b->has_attention ? pith_nn_score_scale(b->head_dim) : 0;
	if (!pith_mul_size(s->sequence_count, b->kv_head_count, &heads) ||
	    !pith_mul_size(positions, b->head_dim, &values) ||
	    !pith_mul_size(values, pith_kv_nbytes(cache->type), &cache->head_nbytes))
		arena->overflow = true;
	/* fewer than values: no overflow */
	cache->head_scales = cache->type == PITH_KV_I8 ? positions * pith_kv_groups(b->head_dim) : 0;
	cache->keys = pith_arena_take(arena, heads, cache->head_nbytes, 1);
	cache->values = pith_arena_take(arena, heads, cache->head_nbytes, 1);
	cache->key_scale = pith_arena_take(arena, heads, cache->head_scales, sizeof(float));
	cache->value_scale = pith_arena_take(arena, heads, cache->head_scales, sizeof(float));
}

static void layout_caches(struct pith_session *s, struct pith_arena *arena)
{
	const struct pith_model *model = s->model;
	struct pith_step *step = &s->step;
	size_t count = (size_t)model->info.block_count;
	size_t positions = pith_round_up(s->context_length, PITH_KV_BLOCK);
	step->cache = pith_arena_take(arena, count, 1, sizeof(*step->cache));
	for (size_t i = 0; i < count; i++) {
		struct pith_cache cache = {.type = model->kv_type};
		layout_cache(s, arena, &model->blocks[i], positions, &cache);
		if (arena->base != NULL)
			step->cache[i] = cache;
	}
}

/* Everything the session holds, in one arena. */
static void layout_session(struct pith_session *s, struct pith_arena *arena)
{
	const struct pith_model *model = s->model;
	const struct pith_widths *w = &model->widths;
	struct pith_step *step = &s->step;
	size_t batch = s->batch_count, d = (size_t)model->info.hidden_count;
	s->length = pith_arena_take(arena, s->sequence_count, 1, sizeof(*s->length));
	s->pending = pith_arena_take(arena, s->sequence_count, 1, sizeof(*s->pending));
	step->d = d;
	step->token = pith_arena_take(arena, batch, 1, sizeof(*step->token));
	step->place = pith_arena_take(arena, batch, 1, sizeof(*step->place));
	step->logit_row = pith_arena_take(arena, s->logit_cap, 1, sizeof(*step->logit_row));
	layout_rows(&step->x, arena, batch, d);
	layout_rows(&step->y, arena, batch, d);
	layout_rows(&step->q, arena, batch, w->q);
	layout_rows(&step->key, arena, batch, w->key);
	layout_rows(&step->value, arena, batch, w->key);
	layout_rows(&step->gate, arena, batch, w->ffn);
	layout_rows(&step->up, arena, batch, w->ffn);
	layout_rows(&step->logits, arena, s->logit_cap, (size_t)model->info.vocab_count);
	pith_input_layout(&step->n, arena, batch, d);
	pith_input_layout(&step->a, arena, batch, w->q);
	pith_input_layout(&step->h, arena, batch, w->ffn);
	size_t widest = w->q > w->ffn ? w->q : w->ffn;
	size_t h_count = 0;
	for (size_t i = 0; i < model->linear_count; i++)
		if (model->linears[i]->h_count > h_count)
			h_count = model->linears[i]->h_count;
	pith_linear_runner_layout(&step->run, arena, batch, d > widest ? d : widest, h_count);
	step->rotary_half = w->rotary_half;
	step->cosine = pith_arena_take(arena, s->context_length, w->rotary_half, sizeof(float));
	step->sine = pith_arena_take(arena, s->context_length, w->rotary_half, sizeof(float));
	layout_caches(s, arena);
}

static struct pith_session shape_session(const struct pith_model *model,
                                         const struct pith_session_options *options)
{
	struct pith_session s = {.model = model,
	                         .sequence_count = options->sequence_count,
	                         .context_length = options->context_length,
	                         .batch_count = options->batch_count,
	                         .logit_cap = options->logit_count};
	if (s.context_length == 0)
		s.context_length = (size_t)model->info.context_length;
	if (s.logit_cap == 0 || s.logit_cap > s.batch_count)
		s.logit_cap = s.batch_count;
	return s;
}

size_t pith_session_nbytes(const struct pith_model *model,
                           const struct pith_session_options *options)
{
	struct pith_session s = shape_session(model, options);
	struct pith_arena arena = {0};
	if (s.sequence_count < 1 || s.context_length < 1 || s.batch_count < 1 ||
	    s.sequence_count > UINT32_MAX || s.context_length > UINT32_MAX)
		return 0;
	pith_arena_take(&arena, 1, 1, sizeof(s));
	layout_session(&s, &arena);
	return arena.overflow ? 0 : arena.used + PITH_ARENA_ALIGN;
}

/* Is the cache of a sequence in use all over after few positions?  Then large pages cost no memory. */
static bool has_short_heads(const struct pith_model *model, const struct pith_session_options *options)
{
	return shape_session(model, options).context_length <= LARGE_PAGE_POSITIONS;
}

pith_status pith_session_new(const struct pith_model *model,
                             const struct pith_session_options *options,
                             struct pith_session **out, struct pith_error *err)
{
	size_t nbytes = pith_session_nbytes(model, options);
	*out = NULL;
	if (nbytes == 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "a session of %zu sequences, %zu positions, %zu rows cannot be",
		                 options->sequence_count, options->context_length, options->batch_count);
	void *memory = pith_pages_new(nbytes, has_short_heads(model, options));
	struct pith_session *s = calloc(1, sizeof(*s));
	if (memory == NULL || s == NULL) {
		pith_pages_free(memory, nbytes);
		free(s);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory for a session of %zu bytes", nbytes);
	}
	struct pith_arena arena = {.base = pith_arena_align(memory)};
	*s = shape_session(model, options);
	s->memory = memory;
	s->memory_nbytes = nbytes;
	layout_session(s, &arena);
	s->step.run.kernels = model->kernels;
	s->step.run.executor = options->executor;
	pith_nn_rotary_table(model->rotary_ratio, s->context_length, s->step.rotary_half,
	                     s->step.cosine, s->step.sine);
	*out = s;
	return PITH_OK;
}

void pith_session_free(struct pith_session *session)
{
	if (session == NULL)
		return;
	pith_pages_free(session->memory, session->memory_nbytes);
	free(session);
}

/* ---- stepping ---- */

/* Check the rows and find their places; nothing advances. */
static pith_status place_rows(struct pith_session *s, const struct pith_row *rows, size_t count,
                              struct pith_error *err)
{
	struct pith_step *step = &s->step;
	if (count < 1 || count > s->batch_count)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "%zu rows in a step of 1 to %zu", count, s->batch_count);
	step->k = count;
	step->logit_count = 0;
	memset(s->pending, 0, s->sequence_count * sizeof(*s->pending));
	for (size_t r = 0; r < count; r++) {
		uint32_t sequence = rows[r].sequence;
		if (sequence >= s->sequence_count || rows[r].token >= s->model->info.vocab_count)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "row %zu: there is no sequence %u or no token %u", r, sequence,
			                 rows[r].token);
		size_t position = s->length[sequence] + s->pending[sequence]++;
		if (position >= s->context_length)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "row %zu: sequence %u is full (%zu positions)", r, sequence,
			                 s->context_length);
		step->token[r] = rows[r].token;
		step->place[r] = (struct pith_place){sequence, position};
		if (!rows[r].want_logits)
			continue;
		if (step->logit_count == s->logit_cap)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "more than %zu rows want logits", s->logit_cap);
		step->logit_row[step->logit_count++] = r;
	}
	return PITH_OK;
}

static pith_status check_finite(struct pith_session *s, struct pith_error *err)
{
	struct pith_step *step = &s->step;
	bool finite = !atomic_load(&step->run.not_finite);
	for (size_t r = 0; r < step->logit_count && finite; r++)
		finite = pith_nn_finite(step->logits.v + r * step->logits.ld, (size_t)s->model->info.vocab_count);
	/* also what no logit shows yet must not get into a cache unseen */
	for (size_t r = 0; r < step->k && finite; r++)
		finite = pith_nn_finite(step->x.v + r * step->x.ld, step->d);
	// spec numerics: "A logit that is not finite is an error."
	return finite ? PITH_OK
	              : pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "numerics",
	                          "the model computes a value that is not finite, or none its KV cache can hold");
}

pith_status pith_session_step(struct pith_session *session, const struct pith_row *rows,
                              size_t count, const float **logits, struct pith_error *err)
{
	struct pith_step *step = &session->step;
	if (logits != NULL)
		*logits = NULL;
	PITH_TRY(place_rows(session, rows, count, err));
	atomic_store(&step->run.not_finite, false);
	session->model->architecture->forward(session->model, step);
	PITH_TRY(check_finite(session, err));
	for (size_t r = 0; r < count; r++)
		session->length[rows[r].sequence]++;
	if (logits != NULL && step->logit_count > 0)
		*logits = step->logits.v;
	return PITH_OK;
}

size_t pith_session_logit_stride(const struct pith_session *session)
{
	return session->step.logits.ld;
}

const float *pith_session_hidden(const struct pith_session *session, size_t *stride)
{
	*stride = session->step.n.ldx;
	return session->step.logit_count > 0 ? session->step.n.x : NULL;
}

size_t pith_session_length(const struct pith_session *session, size_t sequence)
{
	return session->length[sequence];
}

void pith_session_truncate(struct pith_session *session, size_t sequence, size_t length)
{
	if (length < session->length[sequence])
		session->length[sequence] = length;
}
