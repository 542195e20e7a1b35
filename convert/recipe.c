/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "recipe.h"

#include "bytes.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- rules ---- */

/* "REGEX=SCHEME": cut at the first '=', since schemes hold more of them. */
static pith_status parse_rule(const char *text, struct recipe_rule *rule, struct pith_error *err)
{
	const char *equals = strchr(text, '=');
	if (!equals || equals == text)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "rule \"%.100s\" is not REGEX=SCHEME", text);
	PITH_TRY(scheme_parse(equals + 1, &rule->scheme, err));
	size_t nbytes = (size_t)(equals - text);
	char *pattern = malloc(nbytes + 1);
	if (!pattern)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a rule");
	memcpy(pattern, text, nbytes);
	pattern[nbytes] = '\0';
	int code = regcomp(&rule->pattern, pattern, REG_EXTENDED | REG_NOSUB);
	free(pattern);
	if (code != 0) {
		char why[80];
		regerror(code, &rule->pattern, why, sizeof(why));
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL, "rule \"%.80s\": %s", text, why);
	}
	rule->text = text;
	return PITH_OK;
}

static pith_status parse_rules(const struct convert_options *options, struct recipe *r,
                               struct pith_error *err)
{
	r->rule = calloc(options->rule_count + 1, sizeof(*r->rule));
	if (!r->rule)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for rules");
	for (size_t i = 0; i < options->rule_count; i++) {
		PITH_TRY(parse_rule(options->rules[i], &r->rule[i], err));
		r->rule_count++; /* has a compiled pattern to free */
	}
	return PITH_OK;
}

bool recipe_folds(const struct recipe *r)
{
	bool folds = scheme_folds(&r->scheme);
	for (size_t i = 0; i < r->rule_count; i++)
		folds = folds || scheme_folds(&r->rule[i].scheme);
	return folds;
}

bool recipe_needs_inputs(const struct recipe *r)
{
	for (size_t i = 0; i < r->step_count; i++)
		if (r->step[i].scheme &&
		    (scheme_needs_inputs(r->step[i].scheme) || scheme_folds(r->step[i].scheme)))
			return true;
	return false;
}

static const struct scheme *choose_scheme(struct recipe *r, const struct import_tensor *t,
                                          bool *by_rule)
{
	const struct scheme *chosen = &r->scheme;
	if (t->rank == 1) /* a folded norm has no short dtype any more */
		chosen = recipe_folds(r) ? &r->norm : NULL;
	for (size_t i = 0; i < r->rule_count; i++) {
		if (regexec(&r->rule[i].pattern, t->name, 0, NULL, 0) != 0)
			continue;
		/* spec llama.1: "norms are a single dense term" */
		if (t->rank == 1 && scheme_quantizes(&r->rule[i].scheme)) {
			if (!r->rule[i].vector)
				r->rule[i].vector = t->name;
			continue;
		}
		r->rule[i].used = true;
		chosen = &r->rule[i].scheme;
		*by_rule = true;
	}
	return chosen;
}

/* Embedding and head: matrices outside the blocks. */
static void use_table_scheme(struct recipe_step *step)
{
	if (!step->scheme || step->want->rank == 1 || strncmp(step->want->name, "model.layers.", 13) == 0)
		return;
	step->table = scheme_of_table(step->scheme);
	step->scheme = step->table.link_count > 0 ? &step->table : NULL;
}

/* ---- groups: weights of one scheme ---- */

static void print_scheme(const struct scheme *s, char text[SCHEME_TEXT_CAP])
{
	if (s)
		scheme_print(s, text, SCHEME_TEXT_CAP);
	else
		snprintf(text, SCHEME_TEXT_CAP, "as is");
}

static pith_status find_group(const struct scheme *s, struct convert_result *result, size_t *group,
                              struct pith_error *err)
{
	char text[SCHEME_TEXT_CAP];
	print_scheme(s, text);
	for (*group = 0; *group < result->group_count; (*group)++)
		if (strcmp(result->group[*group].scheme, text) == 0)
			return PITH_OK;
	if (result->group_count == CONVERT_MAX_GROUPS)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "more than %u schemes",
		                 CONVERT_MAX_GROUPS);
	memcpy(result->group[result->group_count++].scheme, text, sizeof(text));
	return PITH_OK;
}

static pith_status make_step(struct recipe *r, const struct import_tensor *want,
                             const struct source *src, struct convert_result *result,
                             struct pith_error *err)
{
	struct recipe_step *step = &r->step[r->step_count];
	*step = (struct recipe_step){.want = want, .have = source_find(src, want->name)};
	step->scheme = choose_scheme(r, want, &step->by_rule);
	use_table_scheme(step);
	uint64_t m = want->rank == 1 ? 1 : want->dim[0], n = want->dim[want->rank - 1];
	if (m > PITH_MAX_DIM || n > PITH_MAX_DIM || m > PITH_MAX_ELEMENTS / n)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%s is too large", want->name);
	step->m = (size_t)m;
	step->n = (size_t)n;
	PITH_TRY(find_group(step->scheme, result, &step->group, err));
	struct convert_group *g = &result->group[step->group];
	g->weight_count++;
	g->element_count += m * n;
	result->weight_count++;
	result->element_count += m * n;
	result->source_nbytes += step->have->nbytes;
	r->step_count++;
	return PITH_OK;
}

pith_status recipe_make(const struct convert_options *options, const struct import_plan *plan,
                        const struct source *src, struct recipe *out,
                        struct convert_result *result, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	PITH_TRY(scheme_parse(options->scheme ? options->scheme : "bf16", &out->scheme, err));
	PITH_TRY(scheme_parse("f32", &out->norm, err));
	PITH_TRY(parse_rules(options, out, err));
	out->step = calloc(plan->tensor_count + 1, sizeof(*out->step));
	if (!out->step)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the recipe");
	for (size_t i = 0; i < plan->tensor_count; i++)
		PITH_TRY(make_step(out, &plan->tensor[i], src, result, err));
	for (size_t i = 0; i < out->rule_count; i++) {
		if (!out->rule[i].used && out->rule[i].vector)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "llama.1",
			                 "rule \"%.100s\" matches no matrix, only vectors such as %s, which "
			                 "are stored dense (rule llama.1)",
			                 out->rule[i].text, out->rule[i].vector);
		if (!out->rule[i].used)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
			                 "rule \"%.100s\" matches no tensor; names are like %s",
			                 out->rule[i].text, plan->tensor[plan->tensor_count / 2].name);
	}
	return PITH_OK;
}

void recipe_free(struct recipe *r)
{
	for (size_t i = 0; i < r->rule_count; i++)
		regfree(&r->rule[i].pattern);
	free(r->rule);
	free(r->step);
	memset(r, 0, sizeof(*r));
}

/* ---- cost ---- */

/* "as is", as the dense scheme it amounts to. */
static struct scheme scheme_as_is(const struct recipe_step *step)
{
	uint32_t dtype = step->have->dtype;
	struct scheme s = {.link_count = 1};
	s.link[0].method = dtype == PITH_DTYPE_F32   ? &quant_method_f32
	                   : dtype == PITH_DTYPE_F16 ? &quant_method_f16
	                                             : &quant_method_bf16;
	return s;
}

pith_status recipe_step_nbytes(const struct recipe_step *step, uint64_t *nbytes,
                               uint32_t *plane_count, uint32_t *term_count, struct pith_error *err)
{
	struct scheme s = step->scheme ? *step->scheme : scheme_as_is(step);
	if (!scheme_nbytes(&s, step->m, step->n, nbytes, plane_count, term_count))
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%s is too large",
		                 step->want->name);
	return PITH_OK;
}

uint32_t recipe_tensor_align(const struct recipe *r)
{
	uint64_t all = 0, large = 0;
	uint32_t align = PITH_DEFAULT_TENSOR_ALIGN;
	for (size_t i = 0; i < r->step_count; i++) {
		uint64_t nbytes;
		uint32_t planes, terms;
		if (recipe_step_nbytes(&r->step[i], &nbytes, &planes, &terms, NULL) != PITH_OK)
			continue;
		all += nbytes;
		large += nbytes >= PITH_BIG_PLANE_NBYTES;
	}
	while (align > PITH_ALIGN && large * align / 2 > all / 1000)
		align /= 2;
	return align;
}

uint64_t recipe_entry_nbytes(const struct recipe_step *step, uint32_t term_count,
                             uint32_t plane_count)
{
	/* a matrix has a canary, and may have a permutation */
	uint64_t matrix = PITH_CNRY_NBYTES + PITH_XFRM_NBYTES + PITH_PLAN_NBYTES;
	return PITH_WGHT_NBYTES + (uint64_t)PITH_TERM_NBYTES * term_count +
	       (uint64_t)PITH_PLAN_NBYTES * plane_count + strlen(step->want->name) +
	       (step->want->rank == 2 ? matrix : 0);
}

pith_status recipe_step_run(const struct recipe_step *step, const struct quant_job *job,
                            struct quant_result *out, struct pith_error *err)
{
	if (!step->scheme)
		return quant_dense_copy(job, out, err);
	return scheme_run(step->scheme, job, out, err);
}

static double now_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds per byte of hashing. */
static double sample_hash(void)
{
	static const uint8_t block[4096];
	struct sha256 h;
	uint8_t digest[32];
	double start = now_seconds();
	sha256_begin(&h);
	for (size_t i = 0; i < 512; i++)
		sha256_add(&h, block, sizeof(block));
	sha256_end(&h, digest);
	return (now_seconds() - start) / (512 * sizeof(block));
}

/* Seconds per element of the step's method, on the weight's first rows. */
static pith_status sample_step(const struct recipe_step *step, const struct source *src,
                               unsigned threads, double *seconds, struct pith_error *err)
{
	size_t rows = QUANT_PIECE_ELEMENTS / 4 / step->n + 1;
	rows = rows < step->m ? rows : step->m;
	struct quant_job job = {.src = src, .tensor = step->have, .m = rows, .n = step->n,
	                        .threads = threads};
	struct quant_result q;
	double start = now_seconds();
	pith_status status = recipe_step_run(step, &job, &q, err);
	*seconds = (now_seconds() - start) / ((double)rows * (double)step->n);
	if (status == PITH_OK)
		quant_result_free(&q);
	return status;
}

/* Codes or pieces beside the packed planes, and the planes. */
static uint64_t step_memory(const struct recipe_step *step, uint64_t nbytes)
{
	uint64_t elements = (uint64_t)step->m * step->n;
	uint64_t piece = elements < QUANT_PIECE_ELEMENTS ? elements : QUANT_PIECE_ELEMENTS;
	bool codes = step->scheme && scheme_quantizes(step->scheme);
	return nbytes + 4 * piece + (codes ? elements + nbytes / 4 : 0);
}

static pith_status add_step(const struct recipe_step *step, uint32_t align,
                            struct convert_result *result, struct pith_error *err)
{
	uint64_t nbytes;
	uint32_t planes, terms;
	PITH_TRY(recipe_step_nbytes(step, &nbytes, &planes, &terms, err));
	uint64_t memory = step_memory(step, nbytes);
	/* a large plane starts at the next multiple of the tensor alignment: half of it on average */
	uint64_t gap = nbytes >= PITH_BIG_PLANE_NBYTES ? align / 2 : 0;
	result->group[step->group].nbytes += nbytes;
	result->weight_nbytes += nbytes;
	result->file_nbytes += nbytes + gap + recipe_entry_nbytes(step, terms, planes);
	if (memory > result->memory_nbytes)
		result->memory_nbytes = memory;
	return PITH_OK;
}

pith_status recipe_estimate(const struct recipe *r, const struct source *src, unsigned threads,
                            struct convert_result *result, struct pith_error *err)
{
	uint32_t align = recipe_tensor_align(r);
	result->file_nbytes = PITH_DATA_OFF;
	for (size_t i = 0; i < r->step_count; i++)
		PITH_TRY(add_step(&r->step[i], align, result, err));
	for (size_t i = 0; i < src->file_count; i++)
		result->seconds += sample_hash() * (double)src->file[i].nbytes;
	for (size_t g = 0; g < result->group_count; g++) {
		const struct recipe_step *largest = NULL;
		for (size_t i = 0; i < r->step_count; i++)
			if (r->step[i].group == g &&
			    (!largest || r->step[i].have->nbytes > largest->have->nbytes))
				largest = &r->step[i];
		double seconds = 0;
		/* a method with a factorization costs no fixed time per element: calibrate_seconds() has it */
		if (largest && !(largest->scheme && scheme_needs_inputs(largest->scheme)))
			PITH_TRY(sample_step(largest, src, threads, &seconds, err));
		result->seconds += seconds * (double)result->group[g].element_count;
	}
	return PITH_OK;
}
