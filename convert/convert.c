/*
 * The conversion: open, plan, write weight by weight, then say where everything came
 * from.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "convert.h"

#include "allocate.h"
#include "bytes.h"
#include "calibrate_canary.h"
#include "calibrate_model.h"
#include "import_tokenizer.h"
#include "pith.h"
#include "recipe.h"
#include "sha256.h"
#include "writer.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zstd.h>

#define CANARY_SEED 1u
#define HASH_PIECE_NBYTES ((size_t)1 << 20)
/* For --size: tables of a file that do not grow with it, and texts of a weight in its lineage. */
#define REST_NBYTES 1536u
#define ERROR_TEXT_NBYTES 16u
#define RULE_TEXT_NBYTES 180u

/* ---- state of one conversion ---- */

struct conversion {
	const struct convert_options *options;
	struct convert_options allocated; /* 'options' with the rules that were chosen */
	const char **rules;
	struct allocate_rules chosen;
	struct convert_result *result;
	struct source *src;
	const struct import_family *family;
	struct import_plan plan;
	struct recipe recipe;
	struct pith_writer *writer;
	uint8_t *tokenizer; /* blob of TOKN, or NULL */
	size_t tokenizer_nbytes;
	uint64_t done, total; /* bytes of work */
	const struct recipe_step *step; /* at hand */
	struct sha256 fingerprint;      /* of sources and recipe, for a journal */
	char doing[160];                /* the tensor at hand and the error so far */
};

static void report(const struct conversion *c, uint64_t more, const char *tensor)
{
	if (c->options->progress)
		c->options->progress(c->options->ctx, c->done + more, c->total, tensor);
}

static void note(const struct conversion *c, const char *text)
{
	if (c->options->note)
		c->options->note(c->options->ctx, text);
}

/* ---- before writing ---- */

/* Say which tensors of the source the model has no place for. */
static pith_status note_extra_tensors(const struct conversion *c, struct pith_error *err)
{
	bool *wanted = calloc(c->src->tensor_count + 1, sizeof(*wanted));
	if (!wanted)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for names");
	for (size_t i = 0; i < c->recipe.step_count; i++)
		wanted[c->recipe.step[i].have - c->src->tensor] = true;
	const char *first = NULL;
	size_t count = 0;
	for (size_t i = 0; i < c->src->tensor_count; i++) {
		if (wanted[i] || c->family->is_spare(c->src->tensor[i].name))
			continue;
		first = first ? first : c->src->tensor[i].name;
		count++;
	}
	free(wanted);
	char text[240];
	if (count == 1)
		snprintf(text, sizeof(text), "the tensor %.120s is not part of this model: left out",
		         first);
	else if (count > 1)
		snprintf(text, sizeof(text),
		         "%zu tensors are not part of this model and are left out, among them %.120s",
		         count, first);
	if (count > 0)
		note(c, text);
	return PITH_OK;
}

static pith_status import_texts(struct conversion *c, struct pith_error *err)
{
	const struct source_text *t = c->src->text;
	if (!t[SOURCE_TOKENIZER].data) {
		note(c, "there is no tokenizer.json: the file will hold a model without a tokenizer");
		return PITH_OK;
	}
	struct import_tokenizer_files files = {
	    .tokenizer_json = t[SOURCE_TOKENIZER].data,
	    .tokenizer_nbytes = t[SOURCE_TOKENIZER].nbytes,
	    .tokenizer_config = t[SOURCE_TOKENIZER_CONFIG].data,
	    .tokenizer_config_nbytes = t[SOURCE_TOKENIZER_CONFIG].nbytes,
	    .model_config = t[SOURCE_CONFIG].data,
	    .model_config_nbytes = t[SOURCE_CONFIG].nbytes,
	};
	c->result->has_tokenizer = true;
	return import_tokenizer(&files, &c->tokenizer, &c->tokenizer_nbytes, err);
}

static pith_status need_text(const struct conversion *c, struct pith_error *err)
{
	bool chooses = c->options->bits > 0 || c->options->size > 0;
	if (c->options->calib || (!recipe_needs_inputs(&c->recipe) && !chooses))
		return PITH_OK;
	if (chooses)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "to choose schemes needs a calibration text: --calib TEXT");
	return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
	                 "the scheme needs a calibration text: --calib TEXT");
}

static pith_status prepare(struct conversion *c, const char *source, struct pith_error *err)
{
	PITH_TRY(source_open(source, &c->src, err));
	PITH_TRY(import_find(c->src, &c->family, err));
	PITH_TRY(import_plan_make(c->family, c->src, &c->plan, err));
	if (c->options->kv_dtype != 0)
		import_set_u64(&c->plan, "kv_dtype", c->options->kv_dtype);
	PITH_TRY(import_check(&c->plan, c->src, err));
	PITH_TRY(recipe_make(c->options, &c->plan, c->src, &c->recipe, c->result, err));
	PITH_TRY(import_texts(c, err));
	PITH_TRY(note_extra_tensors(c, err));
	PITH_TRY(need_text(c, err));
	c->total = c->result->source_nbytes;
	for (size_t i = 0; i < c->src->file_count; i++)
		c->total += c->src->file[i].nbytes;
	return PITH_OK;
}

/* ---- sections ---- */

static const struct {
	enum source_text_id text;
	uint32_t section;
} text_sections[] = {
    {SOURCE_CONFIG, PITH_SECTION_CONFIG},
    {SOURCE_TOKENIZER, PITH_SECTION_TOKENIZER_JSON},
    {SOURCE_TOKENIZER_CONFIG, PITH_SECTION_TOKENIZER_CONFIG},
    {SOURCE_GENERATION_CONFIG, PITH_SECTION_GENERATION_CONFIG},
    {SOURCE_LICENCE, PITH_SECTION_LICENCE},
    {SOURCE_CARD, PITH_SECTION_CARD},
};

static pith_status write_key(struct conversion *c, const struct import_key *k,
                             struct pith_error *err)
{
	if (k->type == PITH_ARCH_U64)
		return pith_writer_arch_u64(c->writer, k->key, k->u64, k->flags, err);
	if (k->type == PITH_ARCH_F64)
		return pith_writer_arch_f64(c->writer, k->key, k->f64, k->flags, err);
	return pith_writer_arch_string(c->writer, k->key, k->string, k->flags, err);
}

static pith_status write_description(struct conversion *c, struct pith_error *err)
{
	for (size_t i = 0; i < c->plan.key_count; i++)
		PITH_TRY(write_key(c, &c->plan.key[i], err));
	for (size_t i = 0; i < c->plan.block_count; i++)
		PITH_TRY(pith_writer_block(c->writer, &c->plan.block[i], NULL, NULL, err));
	if (c->tokenizer)
		PITH_TRY(pith_writer_section(c->writer, PITH_SECTION_TOKN, PITH_ENCODING_RAW, c->tokenizer,
		                             c->tokenizer_nbytes, err));
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(text_sections); i++) {
		const struct source_text *t = &c->src->text[text_sections[i].text];
		if (t->data && t->nbytes > 0)
			PITH_TRY(pith_writer_section(c->writer, text_sections[i].section,
			                             PITH_ENCODING_ZSTD, t->data, t->nbytes, err));
	}
	return PITH_OK;
}

/* ---- weights ---- */

static pith_status step_progress(void *ctx, uint64_t elements, struct pith_error *err)
{
	const struct conversion *c = ctx;
	(void)err;
	uint64_t all = (uint64_t)c->step->m * c->step->n;
	report(c, elements * (c->step->have->nbytes / all), c->step->want->name);
	return PITH_OK;
}

static pith_status write_canary(struct conversion *c, const struct recipe_step *step,
                                const struct quant_result *q, struct pith_error *err)
{
	/* spec numerics: "Every weight with rank 2 that" the forward pass reads has one */
	if (step->want->rank != 2)
		return PITH_OK;
	float first[16], last[16];
	PITH_TRY(canary_of_result(q, step->m, step->n, CANARY_SEED, first, last, err));
	return pith_writer_canary(c->writer, step->want->name, CANARY_SEED, first, last, err);
}

/* spec weight: "the bytes of all planes of its weights, those of terms and of transforms" */
static uint64_t planes_nbytes(const struct recipe_step *step, const struct quant_result *q)
{
	uint64_t row = pith_round_up(4 * step->n, PITH_ALIGN);
	uint64_t nbytes = (q->permute ? row : 0) + (q->shift ? row : 0) +
	                  (q->bias ? pith_round_up(4 * step->m, PITH_ALIGN) : 0);
	for (size_t t = 0; t < q->term_count; t++)
		for (uint32_t i = 0; i < q->term[t].plane_count; i++)
			nbytes += q->term[t].plane[i].nbytes;
	return nbytes;
}

static pith_status write_planes(struct conversion *c, const struct recipe_step *step,
                                const struct quant_result *q, struct pith_error *err)
{
	struct pith_writer_weight w = {
	    .name = step->want->name, .flags = 1u, .rank = step->want->rank,
	    .activation = q->activation, .source_dtype = step->have->dtype,
	    .activation_scale = q->activation_scale, .terms = q->term,
	    .term_count = q->term_count, .permute = q->permute, .shift = q->shift, .bias = q->bias};
	memcpy(w.dim, step->want->dim, sizeof(w.dim));
	return pith_writer_weight(c->writer, &w, err);
}

static double relative_error(double error2, double norm2)
{
	return norm2 > 0 ? sqrt(error2 / norm2) : 0.0;
}

static pith_status write_quantized(struct conversion *c, const struct recipe_step *step,
                                   const struct quant_result *q, struct pith_error *err)
{
	uint64_t nbytes = planes_nbytes(step, q);
	PITH_TRY(write_planes(c, step, q, err));
	PITH_TRY(write_canary(c, step, q, err));
	struct convert_group *g = &c->result->group[step->group];
	g->nbytes += nbytes;
	g->error2 += q->error2;
	g->norm2 += q->norm2;
	c->result->weight_nbytes += nbytes;
	double number[2] = {relative_error(q->error2, q->norm2),
	                    convert_bits(nbytes, (uint64_t)step->m * step->n)};
	bool output = q->proxy_norm2 > 0; /* what the error does on the calibration text says more */
	g->proxy2 += q->proxy2;
	g->proxy_norm2 += q->proxy_norm2;
	if (output)
		number[0] = relative_error(q->proxy2, q->proxy_norm2);
	return pith_writer_lineage(c->writer, PITH_LINEAGE_WEIGHT_ERROR, step->want->name,
	                           output ? "output" : "frobenius", g->scheme, number, NULL, err);
}

static pith_status write_weight(struct conversion *c, const struct recipe_step *step,
                                struct pith_error *err)
{
	c->step = step;
	report(c, 0, step->want->name);
	struct quant_job job = {.src = c->src, .tensor = step->have, .m = step->m, .n = step->n,
	                        .threads = c->options->threads, .progress = step_progress, .ctx = c};
	struct quant_result q;
	PITH_TRY(recipe_step_run(step, &job, &q, err));
	pith_status status = write_quantized(c, step, &q, err);
	quant_result_free(&q);
	c->done += step->have->nbytes;
	return status;
}

/* ---- calibration ---- */

static void begin_step(void *ctx, const struct recipe_step *step)
{
	struct conversion *c = ctx;
	const struct convert_group *g = &c->result->group[step->group];
	c->step = step;
	snprintf(c->doing, sizeof(c->doing), "%.100s", step->want->name);
	if (g->proxy_norm2 > 0)
		snprintf(c->doing, sizeof(c->doing), "%.100s (output error %.3g%% so far)", step->want->name,
		         100 * relative_error(g->proxy2, g->proxy_norm2));
	report(c, 0, c->doing);
}

static pith_status emit_step(void *ctx, const struct recipe_step *step, const struct quant_result *q,
                             struct pith_error *err)
{
	struct conversion *c = ctx;
	PITH_TRY(write_quantized(c, step, q, err));
	c->done += step->have->nbytes;
	report(c, 0, c->doing);
	return PITH_OK;
}

static void pass_note(void *ctx, const char *text)
{
	note(ctx, text);
}

static struct calibration_run calibration_of(struct conversion *c, const char *target)
{
	return (struct calibration_run){
	    .options = c->options, .src = c->src, .plan = &c->plan, .recipe = &c->recipe,
	    .tokenizer = c->tokenizer, .tokenizer_nbytes = c->tokenizer_nbytes, .target = target,
	    .emit = emit_step, .begin = begin_step, .note = pass_note, .ctx = c};
}

/* ---- schemes for a size ---- */

static void measured_step(void *ctx, const struct recipe_step *step)
{
	struct conversion *c = ctx;
	c->done += step->have->nbytes;
	report(c, 0, c->doing);
}

static void begin_measure(void *ctx, const struct recipe_step *step)
{
	struct conversion *c = ctx;
	snprintf(c->doing, sizeof(c->doing), "measuring %.100s", step->want->name);
	report(c, 0, c->doing);
}

static pith_status emit_nothing(void *ctx, const struct recipe_step *step,
                                const struct quant_result *q, struct pith_error *err)
{
	(void)ctx, (void)step, (void)q, (void)err;
	return PITH_OK;
}

/* A text of the file as it will be stored. */
static uint64_t compressed_nbytes(const void *text, size_t nbytes)
{
	size_t cap = ZSTD_compressBound(nbytes);
	void *out = malloc(cap);
	size_t size = out ? ZSTD_compress(out, cap, text, nbytes, ZSTD_CLEVEL_DEFAULT) : nbytes;
	free(out);
	return ZSTD_isError(size) ? nbytes : size;
}

/* What planes and their entries may take in a file of the asked size: the rest is known or bounded. */
static pith_status size_goal(struct conversion *c, struct allocate_goal *goal,
                             struct pith_error *err)
{
	uint64_t rest = PITH_DATA_OFF + c->tokenizer_nbytes + REST_NBYTES;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(text_sections); i++) {
		const struct source_text *t = &c->src->text[text_sections[i].text];
		if (t->data)
			rest += compressed_nbytes(t->data, t->nbytes);
	}
	/* lineage: of every weight its error, of every one that is chosen a rule */
	rest += c->recipe.step_count * (PITH_LINE_NBYTES + ERROR_TEXT_NBYTES);
	for (size_t i = 0; i < c->recipe.step_count; i++)
		if (c->recipe.step[i].want->rank == 2 && !c->recipe.step[i].by_rule)
			rest += PITH_LINE_NBYTES + RULE_TEXT_NBYTES;
	rest += c->options->size / 1000; /* gaps, as recipe_tensor_align() bounds them */
	if (rest >= c->options->size)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "too small: without its weights the file takes %llu bytes",
		                 (unsigned long long)rest);
	goal->nbytes = c->options->size - rest;
	goal->with_tables = true;
	return PITH_OK;
}

/* The recipe again, with what was chosen. */
static pith_status use_chosen(struct conversion *c, struct pith_error *err)
{
	const struct convert_options *asked = c->options;
	size_t count = asked->rule_count + c->chosen.count;
	struct convert_result fresh = {.has_tokenizer = c->result->has_tokenizer};
	c->rules = malloc((count + 1) * sizeof(*c->rules));
	if (!c->rules)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for rules");
	for (size_t i = 0; i < count; i++)
		c->rules[i] = i < asked->rule_count ? asked->rules[i]
		                                    : c->chosen.rule[i - asked->rule_count];
	c->allocated = *asked;
	c->allocated.rules = c->rules;
	c->allocated.rule_count = count;
	c->options = &c->allocated;
	recipe_free(&c->recipe);
	*c->result = fresh;
	return recipe_make(c->options, &c->plan, c->src, &c->recipe, c->result, err);
}

/* Of what a choice depends on; the sources themselves are in the journal's key. */
static void allocation_key(const struct conversion *c, uint8_t key[32])
{
	const struct convert_options *o = c->options;
	const uint64_t number[] = {(uint64_t)(o->bits * 1e6), o->size,        o->calib_samples,
	                           o->calib_length,           o->calib_seed, c->result->source_nbytes};
	struct sha256 h;
	sha256_begin(&h);
	sha256_add(&h, number, sizeof(number));
	sha256_add(&h, o->calib, strlen(o->calib) + 1);
	for (size_t i = 0; i < o->rule_count; i++)
		sha256_add(&h, o->rules[i], strlen(o->rules[i]) + 1);
	for (size_t i = 0; i < c->plan.tensor_count; i++)
		sha256_add(&h, c->plan.tensor[i].name, strlen(c->plan.tensor[i].name) + 1);
	sha256_end(&h, key);
}

static pith_status measure_and_choose(struct conversion *c, const char *target,
                                      struct pith_error *err)
{
	struct calibration_run run = calibration_of(c, target);
	struct allocate_goal goal = {
	    .nbytes = (uint64_t)(c->options->bits * (double)c->result->element_count / 8)};
	if (c->options->size > 0)
		PITH_TRY(size_goal(c, &goal, err));
	run.emit = emit_nothing;
	run.begin = begin_measure;
	c->total += c->result->source_nbytes;
	return allocate_make_rules(&run, &goal, measured_step, &c->chosen, err);
}

static pith_status allocate(struct conversion *c, const char *target, struct pith_error *err)
{
	uint8_t key[32];
	allocation_key(c, key);
	if (!target || !c->options->resume ||
	    !allocate_kept(target, key, c->plan.tensor_count, &c->chosen)) {
		PITH_TRY(measure_and_choose(c, target, err));
		if (target)
			allocate_keep(target, key, &c->chosen);
	}
	return use_chosen(c, err);
}

/* ---- lineage ---- */

static pith_status add_lineage(struct conversion *c, uint32_t kind, const char *key,
                               const char *value, struct pith_error *err)
{
	sha256_add(&c->fingerprint, key, strlen(key) + 1);
	sha256_add(&c->fingerprint, value, strlen(value) + 1);
	return pith_writer_lineage(c->writer, kind, NULL, key, value, NULL, NULL, err);
}

static pith_status hash_file(struct conversion *c, size_t file, uint8_t *piece, uint8_t digest[32],
                             struct pith_error *err)
{
	const struct source_file *f = &c->src->file[file];
	struct source_tensor whole = {.name = f->name, .nbytes = f->nbytes, .file = file};
	struct sha256 h;
	sha256_begin(&h);
	for (uint64_t off = 0; off < f->nbytes;) {
		uint64_t left = f->nbytes - off;
		size_t take = left < HASH_PIECE_NBYTES ? (size_t)left : HASH_PIECE_NBYTES;
		PITH_TRY(source_read(c->src, &whole, off, piece, take, err));
		sha256_add(&h, piece, take);
		off += take;
		c->done += take;
		report(c, 0, f->name);
	}
	sha256_end(&h, digest);
	return PITH_OK;
}

static pith_status write_source(struct conversion *c, size_t file, struct pith_error *err)
{
	uint8_t digest[32];
	uint8_t *piece = malloc(HASH_PIECE_NBYTES);
	if (!piece)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to hash sources");
	pith_status status = hash_file(c, file, piece, digest, err);
	free(piece);
	PITH_TRY(status);
	sha256_add(&c->fingerprint, digest, sizeof(digest));
	return pith_writer_lineage(c->writer, PITH_LINEAGE_SOURCE, NULL, c->src->container,
	                           c->src->file[file].name, NULL, digest, err);
}

static pith_status write_origin(struct conversion *c, struct pith_error *err)
{
	sha256_begin(&c->fingerprint);
	for (size_t i = 0; i < c->src->file_count; i++)
		PITH_TRY(write_source(c, i, err));
	char text[SCHEME_TEXT_CAP];
	scheme_print(&c->recipe.scheme, text, sizeof(text));
	PITH_TRY(add_lineage(c, PITH_LINEAGE_RECIPE, "scheme", text, err));
	for (size_t i = 0; i < c->recipe.rule_count; i++)
		PITH_TRY(add_lineage(c, PITH_LINEAGE_RECIPE, "rule", c->recipe.rule[i].text, err));
	PITH_TRY(add_lineage(c, PITH_LINEAGE_TOOL, "pith convert", pith_version(), err));
	snprintf(text, sizeof(text), "%u", XXH_versionNumber());
	PITH_TRY(add_lineage(c, PITH_LINEAGE_LIBRARY, "xxhash", text, err));
	PITH_TRY(add_lineage(c, PITH_LINEAGE_LIBRARY, "zstd", ZSTD_versionString(), err));
	return add_lineage(c, PITH_LINEAGE_LIBRARY, "jansson", JANSSON_VERSION, err);
}

/* ---- the whole ---- */

static pith_status write_calibration(struct conversion *c, const struct calibration_facts *f,
                                     struct pith_error *err)
{
	char text[200];
	snprintf(text, sizeof(text), "%zu samples of %zu tokens, seed %llu, of %zu tokens",
	         f->sample_count, f->length, (unsigned long long)f->seed, f->token_count);
	PITH_TRY(pith_writer_lineage(c->writer, PITH_LINEAGE_CALIBRATION, NULL, "text", text, NULL,
	                             f->digest, err));
	/* the processor and the threads are named although only the library's choice of code matters */
	snprintf(text, sizeof(text), "%.100s, code for %.40s, %u threads", openblas_get_config(),
	         openblas_get_corename(), c->options->threads);
	return add_lineage(c, PITH_LINEAGE_LIBRARY, "openblas", text, err);
}

static pith_status write_calibrated(struct conversion *c, const char *target,
                                    struct pith_error *err)
{
	struct calibration_run run = calibration_of(c, target);
	struct calibration_facts facts;
	sha256_end(&c->fingerprint, run.fingerprint);
	PITH_TRY(calibrate_model(&run, &facts, err));
	PITH_TRY(write_calibration(c, &facts, err));
	report(c, 0, "tables");
	return PITH_OK;
}

static pith_status write_all(struct conversion *c, const char *target, struct pith_error *err)
{
	PITH_TRY(write_description(c, err));
	PITH_TRY(write_origin(c, err));
	if (c->options->calib)
		return write_calibrated(c, target, err);
	for (size_t i = 0; i < c->recipe.step_count; i++)
		PITH_TRY(write_weight(c, &c->recipe.step[i], err));
	report(c, 0, "tables");
	return PITH_OK;
}

/* Write and complete the temporary file, which bears the target's name afterwards. */
static pith_status write_temporary(struct conversion *c, const char *target,
                                   struct pith_error *err)
{
	pith_status status = write_all(c, target, err);
	if (status == PITH_OK)
		return pith_writer_finish(c->writer, err);
	pith_writer_abort(c->writer);
	return status;
}

static pith_status write_file(struct conversion *c, const char *target, struct pith_error *err)
{
	struct pith_writer_options writer = {.tensor_align = recipe_tensor_align(&c->recipe)};
	PITH_TRY(pith_writer_new(target, &writer, &c->writer, err));
	const char *borrowed = pith_writer_temporary(c->writer);
	char *temporary = malloc(strlen(borrowed) + 1);
	if (!temporary) {
		pith_writer_abort(c->writer);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a name");
	}
	memcpy(temporary, borrowed, strlen(borrowed) + 1);
	if (c->options->temporary)
		c->options->temporary(c->options->ctx, temporary, true);
	pith_status status = write_temporary(c, target, err);
	if (c->options->temporary)
		c->options->temporary(c->options->ctx, temporary, false);
	free(temporary);
	return status;
}

/* Open what was written, as a user would, for its size. */
static pith_status measure_file(struct conversion *c, const char *target, struct pith_error *err)
{
	struct pith_file *file;
	struct pith_file_info info;
	PITH_TRY(pith_file_open(target, 0, &file, err));
	pith_file_info(file, &info);
	c->result->file_nbytes = info.file_nbytes;
	pith_file_close(file);
	return PITH_OK;
}

/* Texts shrink to about a quarter; the tokenizer's tables are stored as they are. */
static pith_status estimate(struct conversion *c, struct pith_error *err)
{
	PITH_TRY(recipe_estimate(&c->recipe, c->src, c->options->threads, c->result, err));
	uint64_t cold = c->tokenizer_nbytes;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(text_sections); i++)
		cold += c->src->text[text_sections[i].text].nbytes / 4;
	c->result->file_nbytes += cold;
	if (c->options->calib) {
		struct calibration_run run = calibration_of(c, NULL);
		c->result->memory_nbytes = calibrate_memory(&run, &c->result->spilled_nbytes);
		c->result->seconds += calibrate_seconds(&run);
	}
	return PITH_OK;
}

pith_status convert_model(const char *source, const char *target,
                          const struct convert_options *options, struct convert_result *out,
                          struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	struct conversion c = {.options = options, .result = out};
	pith_status status = prepare(&c, source, err);
	if (status == PITH_OK && (options->bits > 0 || options->size > 0))
		status = allocate(&c, options->dry_run ? NULL : target, err);
	if (status == PITH_OK)
		status = options->dry_run ? estimate(&c, err) : write_file(&c, target, err);
	if (status == PITH_OK && !options->dry_run)
		status = measure_file(&c, target, err);
	if (status == PITH_OK && c.chosen.count > 0 && !options->dry_run)
		allocate_forget(target);
	free(c.tokenizer);
	free(c.rules);
	allocate_rules_free(&c.chosen);
	recipe_free(&c.recipe);
	import_plan_free(&c.plan);
	source_close(c.src);
	return status;
}
