/*
 * Small floats as codebooks: fp4 (e2m1), fp6 (e2m3 or e3m2), fp8 (e4m3), scaled by the largest
 * magnitude of every group.  i8 entries where 8 bits hold the table's range, else f32.
 *
 * Spec: spec/terms/codebook.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_codebook.h"

enum { FLOAT_GROUP, FLOAT_ENTRIES, FLOAT_FORM };
enum { FORM_E2M3, FORM_E3M2 };
enum { ENTRIES_INT8, ENTRIES_F32 };

static const struct scheme_key fp4_keys[] = {
    [FLOAT_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [FLOAT_ENTRIES] = {"entries", SCHEME_CHOICE, ENTRIES_INT8, 0, 0, "int8|f32"},
    {0},
};
static const struct scheme_key fp6_keys[] = {
    [FLOAT_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [FLOAT_ENTRIES] = {"entries", SCHEME_CHOICE, ENTRIES_INT8, 0, 0, "int8|f32"},
    [FLOAT_FORM] = {"form", SCHEME_CHOICE, FORM_E2M3, 0, 0, "e2m3|e3m2"},
    {0},
};
static const struct scheme_key fp8_keys[] = {
    [FLOAT_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [FLOAT_ENTRIES] = {"entries", SCHEME_CHOICE, ENTRIES_F32, 0, 0, "int8|f32"},
    {0},
};

static void float_rule(const struct scheme_link *link, struct codebook_table *table,
                       struct codebook_rule *rule)
{
	if (link->method == &quant_method_fp4)
		codebook_table_float(table, 2, 1);
	else if (link->method == &quant_method_fp8)
		codebook_table_float(table, 4, 3);
	else if (scheme_u32(link, FLOAT_FORM) == FORM_E2M3)
		codebook_table_float(table, 2, 3);
	else
		codebook_table_float(table, 3, 2);
	*rule = (struct codebook_rule){.table = table,
	                               .real = scheme_u32(link, FLOAT_ENTRIES) == ENTRIES_F32,
	                               .group_size = scheme_u32(link, FLOAT_GROUP)};
}

static pith_status quantize_float(const struct scheme_link *link, const struct quant_job *job,
                                  struct quant_result *out, struct pith_error *err)
{
	struct codebook_table table;
	struct codebook_rule rule;
	float_rule(link, &table, &rule);
	return quant_codebook(&rule, job, out, err);
}

static bool float_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                         uint32_t *plane_count, uint32_t *term_count)
{
	struct codebook_table table;
	struct codebook_rule rule;
	float_rule(link, &table, &rule);
	*term_count = 1;
	return quant_codebook_nbytes(&rule, m, n, nbytes, plane_count);
}

const struct quant_method quant_method_fp4 = {
    .name = "fp4",
    .help = "4-bit floats, e2m1; group=16|32|64|128|256|row (64), entries=int8|f32 (int8)",
    .role = QUANT_QUANTIZE,
    .keys = fp4_keys,
    .nbytes = float_nbytes,
    .quantize = quantize_float,
};
const struct quant_method quant_method_fp6 = {
    .name = "fp6",
    .help = "6-bit floats; form=e2m3|e3m2 (e2m3), group=16|32|64|128|256|row (64),\n"
            "entries=int8|f32 (int8; e3m2 loses its smallest values with it)",
    .role = QUANT_QUANTIZE,
    .keys = fp6_keys,
    .nbytes = float_nbytes,
    .quantize = quantize_float,
};
const struct quant_method quant_method_fp8 = {
    .name = "fp8",
    .help = "8-bit floats, e4m3; group=16|32|64|128|256|row (64), entries=int8|f32 (f32:\n"
            "exact; int8 loses what is small)",
    .role = QUANT_QUANTIZE,
    .keys = fp8_keys,
    .nbytes = float_nbytes,
    .quantize = quantize_float,
};
