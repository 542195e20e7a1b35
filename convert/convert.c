/*
 * The conversion: open, plan, write weight by weight, then say where everything came
 * from.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "convert.h"

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

/* ---- state of one conversion ---- */

struct conversion {
	const struct convert_options *options;
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
	if (c->options->calib || !recipe_needs_inputs(&c->recipe))
		return PITH_OK;
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

/* Bytes the weight takes, counted as convert_group says, go to *nbytes. */
static pith_status write_planes(struct conversion *c, const struct recipe_step *step,
                                const struct quant_result *q, uint64_t *nbytes,
                                struct pith_error *err)
{
	struct pith_writer_weight w = {
	    .name = step->want->name, .flags = 1u, .rank = step->want->rank,
	    .activation = q->activation, .source_dtype = step->have->dtype,
	    .activation_scale = q->activation_scale, .terms = q->term,
	    .term_count = q->term_count, .permute = q->permute, .shift = q->shift, .bias = q->bias};
	memcpy(w.dim, step->want->dim, sizeof(w.dim));
	uint64_t before = pith_writer_nbytes(c->writer);
	PITH_TRY(pith_writer_weight(c->writer, &w, err));
	uint32_t planes = 0;
	for (size_t i = 0; i < q->term_count; i++)
		planes += q->term[i].plane_count;
	*nbytes = pith_writer_nbytes(c->writer) - before +
	          recipe_entry_nbytes(step, (uint32_t)q->term_count, planes);
	return PITH_OK;
}

static double relative_error(double error2, double norm2)
{
	return norm2 > 0 ? sqrt(error2 / norm2) : 0.0;
}

static pith_status write_quantized(struct conversion *c, const struct recipe_step *step,
                                   const struct quant_result *q, struct pith_error *err)
{
	uint64_t nbytes;
	PITH_TRY(write_planes(c, step, q, &nbytes, err));
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
	PITH_TRY(pith_writer_new(target, NULL, &c->writer, err));
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
	if (status == PITH_OK)
		status = options->dry_run ? estimate(&c, err) : write_file(&c, target, err);
	if (status == PITH_OK && !options->dry_run)
		status = measure_file(&c, target, err);
	free(c.tokenizer);
	recipe_free(&c.recipe);
	import_plan_free(&c.plan);
	source_close(c.src);
	return status;
}
