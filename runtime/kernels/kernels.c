/*
 * The table of kernel sets and the choice among them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sets.h"

#include <stdlib.h>

static const struct pith_kernels *set_reference(void) { return &pith_kernels_reference; }

/* Best first.  A set runs when all its features are present and none is masked. */
static const struct set_row {
	unsigned features;
	const struct pith_kernels *(*set)(void); /* NULL when the build has it not */
} set_rows[] = {
	{PITH_CPU_AVX2 | PITH_CPU_AVX512 | PITH_CPU_GFNI, pith_set_gfni},
	{PITH_CPU_AVX2 | PITH_CPU_AVX512, pith_set_avx512},
	{PITH_CPU_AVX2, pith_set_avx2},
	{PITH_CPU_NEON, pith_set_neon},
	{0, set_reference},
};

/* Names that PITH_CPU may mask, on every machine, so that one setting serves all. */
static const struct feature_row {
	const char *name;
	unsigned feature;
} feature_rows[] = {
	{"gfni", PITH_CPU_GFNI},
	{"avx512", PITH_CPU_AVX512},
	{"avx2", PITH_CPU_AVX2},
	{"neon", PITH_CPU_NEON},
};

/* Features that 'text' ("-avx512,-avx2", or "") takes away. */
static pith_status parse_mask(const char *text, unsigned *masked, struct pith_error *err)
{
	*masked = 0;
	while (*text != '\0') {
		size_t length = strcspn(text, ",");
		unsigned found = 0;
		for (size_t i = 0; i < PITH_ARRAY_LENGTH(feature_rows); i++) {
			const char *name = feature_rows[i].name;
			if (text[0] == '-' && length == strlen(name) + 1 &&
			    strncmp(text + 1, name, length - 1) == 0)
				found = feature_rows[i].feature;
		}
		if (found == 0)
			return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, "",
			                 "PITH_CPU: '%.*s' is not one of -gfni, -avx512, -avx2, -neon",
			                 (int)(length < 40 ? length : 40), text);
		*masked |= found;
		text += length;
		if (*text == ',')
			text++;
	}
	return PITH_OK;
}

/* The first set that 'features' can run; the reference needs none. */
static const struct pith_kernels *best_set(unsigned features)
{
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(set_rows); i++) {
		const struct set_row *row = &set_rows[i];
		if ((row->features & ~features) == 0 && row->set() != NULL)
			return row->set();
	}
	return &pith_kernels_reference;
}

pith_status pith_kernels_select(const char *mask, const struct pith_kernels **out,
                                struct pith_error *err)
{
	*out = NULL;
	if (mask == NULL)
		mask = getenv("PITH_CPU");
	unsigned masked = 0;
	if (mask != NULL)
		PITH_TRY(parse_mask(mask, &masked, err));
	*out = best_set(pith_cpu_features() & ~masked);
	return PITH_OK;
}

unsigned pith_kernels_features(const struct pith_kernels *kernels)
{
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(set_rows); i++)
		if (set_rows[i].set() == kernels)
			return set_rows[i].features;
	return 0;
}

size_t pith_kernels_available(const struct pith_kernels *sets[8])
{
	_Static_assert(PITH_ARRAY_LENGTH(set_rows) <= 8, "callers hold eight");
	unsigned features = pith_cpu_features();
	size_t count = 0;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(set_rows); i++)
		if ((set_rows[i].features & ~features) == 0 && set_rows[i].set() != NULL)
			sets[count++] = set_rows[i].set();
	return count;
}
