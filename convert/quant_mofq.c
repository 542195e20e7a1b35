/*
 * Mixture of formats ("Integer or Floating Point?", arXiv 2305.12356): every weight takes the integer or the
 * float format of the same width, whichever leaves the smaller squared error.
 *
 * Formats: 4 bits: int4, e2m1; 6: int6, e2m3, e3m2; 8: int8, e4m3.  Integers are symmetric, scales come from
 * the largest magnitude, as the paper has it: no search on either side.
 * Spec: spec/terms/affine.md, spec/terms/codebook.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_codebook.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOFQ_BITS, MOFQ_GROUP };

static const struct scheme_key mofq_keys[] = {
    [MOFQ_BITS] = {"bits", SCHEME_CHOICE, 0, 0, 0, "4|6|8"},
    [MOFQ_GROUP] = {"group", SCHEME_GROUP, 0, 0, 0, NULL},
    {0},
};

#define MAX_CANDIDATES 3u

/* Schemes of the formats of a width, ended by NULL; %s: the group. */
static const char *const candidates[3][MAX_CANDIDATES + 1] = {
    {"rtn:bits=4,group=%s,zero=sym,search=0", "fp4:group=%s", NULL},
    {"rtn:bits=6,group=%s,zero=sym,search=0", "fp6:group=%s", "fp6:group=%s,form=e3m2,entries=f32",
     NULL},
    {"rtn:bits=8,group=%s,zero=sym,search=0", "fp8:group=%s", NULL},
};

static pith_status candidate_scheme(const struct scheme_link *link, size_t i, struct scheme *out,
                                    struct pith_error *err)
{
	char group[16] = "row", text[SCHEME_TEXT_CAP];
	const char *form = candidates[scheme_u32(link, MOFQ_BITS)][i];
	const char *place = strstr(form, "%s");
	if (scheme_u32(link, MOFQ_GROUP) != 0)
		snprintf(group, sizeof(group), "%u", scheme_u32(link, MOFQ_GROUP));
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(place - form), form, group, place + 2);
	return scheme_parse(text, out, err);
}

/* scheme_run() measures; the inputs are left out, since only the weight's own error counts. */
static pith_status quantize_mofq(const struct scheme_link *link, const struct quant_job *job,
                                 struct quant_result *out, struct pith_error *err)
{
	struct quant_job plain = *job;
	plain.inputs = NULL;
	plain.progress = NULL;
	for (size_t i = 0; candidates[scheme_u32(link, MOFQ_BITS)][i]; i++) {
		struct scheme s;
		struct quant_result result;
		PITH_TRY(candidate_scheme(link, i, &s, err));
		PITH_TRY(scheme_run(&s, &plain, &result, err));
		if (i > 0 && !(result.error2 < out->error2)) {
			quant_result_free(&result);
			continue;
		}
		quant_result_free(out);
		*out = result;
	}
	return PITH_OK;
}

/* The largest of the formats. */
static bool mofq_nbytes(const struct scheme_link *link, uint64_t m, uint64_t n, uint64_t *nbytes,
                        uint32_t *plane_count, uint32_t *term_count)
{
	*nbytes = 0;
	*plane_count = 0;
	*term_count = 1;
	for (size_t i = 0; candidates[scheme_u32(link, MOFQ_BITS)][i]; i++) {
		struct scheme s;
		uint64_t more;
		uint32_t planes, terms;
		if (candidate_scheme(link, i, &s, NULL) != PITH_OK ||
		    !scheme_nbytes(&s, m, n, &more, &planes, &terms))
			return false;
		*nbytes = more > *nbytes ? more : *nbytes;
		*plane_count = planes > *plane_count ? planes : *plane_count;
	}
	return true;
}

const struct quant_method quant_method_mofq = {
    .name = "mofq",
    .help = "per weight integers or floats, by squared error; bits=4|6|8 (4),\n"
            "group=16|32|64|128|256|row (row)",
    .role = QUANT_QUANTIZE,
    .keys = mofq_keys,
    .nbytes = mofq_nbytes,
    .quantize = quantize_mofq,
};
