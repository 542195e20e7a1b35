/*
 * NF4 (QLoRA): the 16 quantiles of a normal distribution, scaled by the largest magnitude of every
 * group.  'double' codes the scales with 8 bits.
 *
 * Spec: spec/terms/codebook.md
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_codebook.h"

enum { NF4_GROUP, NF4_DOUBLE, NF4_ENTRIES };

static const struct scheme_key nf4_keys[] = {
    [NF4_GROUP] = {"group", SCHEME_GROUP, 64, 0, 0, NULL},
    [NF4_DOUBLE] = {"double", SCHEME_INTEGER, 1, 0, 1, NULL},
    [NF4_ENTRIES] = {"entries", SCHEME_CHOICE, 0, 0, 0, "int8|f32"},
    {0},
};

static void nf4_rule(const struct scheme_link *link, struct codebook_table *table,
                     struct codebook_rule *rule)
{
	codebook_table_nf4(table);
	*rule = (struct codebook_rule){.table = table,
	                               .real = scheme_u32(link, NF4_ENTRIES) == 1,
	                               .two_level = scheme_u32(link, NF4_DOUBLE) == 1,
	                               .group_size = scheme_u32(link, NF4_GROUP)};
}

static pith_status quantize_nf4(const struct scheme_link *link, const struct quant_job *job,
                                struct quant_result *out, struct pith_error *err)
{
	struct codebook_table table;
	struct codebook_rule rule;
	nf4_rule(link, &table, &rule);
	return quant_codebook(&rule, job, out, err);
}

static bool nf4_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                       uint32_t *plane_count, uint32_t *term_count)
{
	struct codebook_table table;
	struct codebook_rule rule;
	nf4_rule(link, &table, &rule);
	*term_count = 1;
	return quant_codebook_nbytes(&rule, m, n, nbytes, plane_count);
}

const struct quant_method quant_method_nf4 = {
    .name = "nf4",
    .help = "QLoRA's 4-bit normal floats; group=16|32|64|128|256|row (64), double=0|1\n"
            "(1: scales as 8-bit codes), entries=int8|f32 (int8: fast, f32: exact)",
    .role = QUANT_QUANTIZE,
    .keys = nf4_keys,
    .nbytes = nf4_nbytes,
    .quantize = quantize_nf4,
};
