/*
 * Descriptions of stored weights.  The words for a kind's parameters are in one table here;
 * their meaning is that of spec/terms/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_weight.h"

#include "term.h"

#include <inttypes.h>
#include <string.h>

static void describe_dense(const struct pith_term *t, char *text, size_t cap)
{
	snprintf(text, cap, "%s", pith_dtype_name(t->u.dense.dtype));
}

static void describe_affine(const struct pith_term *t, char *text, size_t cap)
{
	const struct pith_affine *a = &t->u.affine;
	char group[32] = "row";
	if (t->param[1] != 0)
		snprintf(group, sizeof(group), "%" PRIu32, t->param[1]);
	snprintf(text, cap, "affine %" PRIu32 " bits group %s%s", a->bits, group,
	         a->scale_mode != 0 ? " two-level" : "");
}

static void describe_codebook(const struct pith_term *t, char *text, size_t cap)
{
	const struct pith_codebook *c = &t->u.codebook;
	char group[32] = "row";
	if (t->param[1] != 0)
		snprintf(group, sizeof(group), "%" PRIu32, t->param[1]);
	snprintf(text, cap, "codebook %" PRIu32 " bits %s%s%s%s%s", c->bits, c->real ? "f32" : "i8",
	         c->per_row ? " per row" : "", c->scale_mode != 3 ? " group " : "",
	         c->scale_mode != 3 ? group : "", c->scale_mode == 2 ? " two-level" : "");
}

static void describe_sparse(const struct pith_term *t, char *text, size_t cap)
{
	const struct pith_sparse *s = &t->u.sparse;
	char form[48] = "", bits[32] = "";
	if (s->masks != NULL && s->offsets == NULL)
		snprintf(form, sizeof(form), " %" PRIu32 ":%" PRIu32, t->param[6] - t->param[5],
		         t->param[6]);
	else if (s->masks != NULL)
		snprintf(form, sizeof(form), " bitmask");
	if (s->bits != 0)
		snprintf(bits, sizeof(bits), " of %" PRIu32 " bits", s->bits);
	snprintf(text, cap, "sparse%s %zu values%s", form, s->value_count, bits);
}

static void describe_lowrank(const struct pith_term *t, char *text, size_t cap)
{
	snprintf(text, cap, "lowrank %zu", t->u.lowrank.rank);
}

static void describe_columns(const struct pith_term *t, char *text, size_t cap)
{
	snprintf(text, cap, "columns %zu", t->u.columns.column_count);
}

static const struct {
	uint32_t kind;
	void (*describe)(const struct pith_term *t, char *text, size_t cap);
} descriptions[] = {
    {PITH_KIND_DENSE, describe_dense},
    {PITH_KIND_AFFINE, describe_affine},
    {PITH_KIND_CODEBOOK, describe_codebook},
    {PITH_KIND_SPARSE, describe_sparse},
    {PITH_KIND_COLUMNS, describe_columns},
    {PITH_KIND_LOWRANK, describe_lowrank},
};

static void describe_term(const struct pith_term *t, char *text, size_t cap)
{
	snprintf(text, cap, "%s", t->kind->name);
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(descriptions); i++)
		if (descriptions[i].kind == t->kind->id)
			descriptions[i].describe(t, text, cap);
}

/* Append "SEPARATOR text" to the description, cut where it is full. */
static void append_text(struct cli_weight *out, const char *separator, const char *text)
{
	size_t used = strlen(out->terms);
	snprintf(out->terms + used, sizeof(out->terms) - used, "%s%s", used > 0 ? separator : "",
	         text);
}

static void format_shape(const struct pith_weight *w, char *text, size_t cap)
{
	size_t used = 0;
	for (uint32_t d = 0; d < w->rank && used < cap; d++)
		used += (size_t)snprintf(text + used, cap - used, "%s%" PRIu64, d > 0 ? "x" : "",
		                         w->dim[d]);
}

pith_status cli_weight_read(const struct pith_file *file, size_t i, struct cli_weight *out,
                            struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	PITH_TRY(pith_file_weight_at(file, i, &out->weight, err));
	const struct pith_weight *w = &out->weight;
	snprintf(out->name, sizeof(out->name), "%.*s", (int)w->name_nbytes, w->name);
	format_shape(w, out->shape, sizeof(out->shape));
	out->elements = (uint64_t)w->m * w->n;
	for (uint32_t t = 0; t < w->transform_count; t++) {
		struct pith_transform transform;
		PITH_TRY(pith_weight_transform(w, t, &transform, err));
		out->nbytes += transform.plane.nbytes + transform.bias.nbytes;
		append_text(out, ", ", pith_transform_name(transform.kind));
	}
	for (uint32_t t = 0; t < w->term_count; t++) {
		struct pith_term term;
		char text[64];
		PITH_TRY(pith_weight_term(w, t, &term, err));
		for (uint32_t p = 0; p < term.plane_count; p++)
			out->nbytes += term.plane[p].nbytes;
		describe_term(&term, text, sizeof(text));
		append_text(out, t > 0 ? " + " : ", ", text);
	}
	return PITH_OK;
}

uint64_t cli_tables_nbytes(const struct pith_file *file)
{
	static const uint32_t counted[] = {PITH_SECTION_WGHT, PITH_SECTION_TERM, PITH_SECTION_XFRM,
	                                   PITH_SECTION_PLAN, PITH_SECTION_NAME, PITH_SECTION_CNRY};
	uint64_t nbytes = 0;
	for (size_t i = 0; i < pith_file_section_count(file); i++) {
		struct pith_section section;
		if (pith_file_section_at(file, i, &section, NULL) != PITH_OK)
			continue;
		for (size_t k = 0; k < PITH_ARRAY_LENGTH(counted); k++)
			if (section.id == counted[k])
				nbytes += section.nbytes;
	}
	return nbytes;
}

double cli_stored_bits(const struct pith_file *file)
{
	uint64_t nbytes = 0, elements = 0;
	struct pith_file_info info;
	pith_file_info(file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct cli_weight w;
		if (cli_weight_read(file, i, &w, NULL) != PITH_OK)
			return 0;
		nbytes += w.nbytes;
		elements += w.elements;
	}
	return cli_bits_per_weight(nbytes, elements);
}

double cli_bits_per_weight(uint64_t nbytes, uint64_t elements)
{
	return elements > 0 ? 8.0 * (double)nbytes / (double)elements : 0;
}

void cli_arch_text(const struct pith_arch_value *value, char *text, size_t cap)
{
	if (value->type == PITH_ARCH_TYPE_U64)
		snprintf(text, cap, "%" PRIu64, value->u64);
	else if (value->type == PITH_ARCH_TYPE_F64)
		snprintf(text, cap, "%.10g", value->f64);
	else
		snprintf(text, cap, "%.*s",
		         (int)(value->string_nbytes < 255 ? value->string_nbytes : 255),
		         value->string);
}

const char *cli_activation_name(uint32_t activation)
{
	static const char *const names[] = {
	    [PITH_ACTIVATION_FLOAT] = "float",
	    [PITH_ACTIVATION_INT8_GROUP32] = "int8 per 32 columns",
	    [PITH_ACTIVATION_INT8_TOKEN] = "int8 per token",
	    [PITH_ACTIVATION_INT8_STATIC] = "int8, static scale",
	};
	return activation < PITH_ARRAY_LENGTH(names) ? names[activation] : "unknown";
}
