/*
 * The table of families, and what they share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "import.h"

#include "bytes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

const struct import_family *const import_families[] = {&import_family_llama, NULL};

static bool takes(const struct import_family *f, const char *model_type)
{
	for (size_t i = 0; f->model_types[i]; i++)
		if (strcmp(f->model_types[i], model_type) == 0)
			return true;
	return false;
}

/* "LlamaForCausalLM" -> "llama", in place of a missing model_type. */
static void type_of_architecture(const json_t *config, char type[32])
{
	const char *name =
	    json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
	snprintf(type, 32, "%.31s", name ? name : "");
	char *tail = strstr(type, "For");
	if (tail)
		*tail = '\0';
	for (char *c = type; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
}

pith_status import_find(const struct source *src, const struct import_family **out,
                        struct pith_error *err)
{
	*out = NULL;
	char fallback[32];
	type_of_architecture(src->config, fallback);
	const char *type = fallback;
	PITH_TRY(jdoc_string(src->config, "model_type", &type, NULL, err));
	for (size_t i = 0; import_families[i]; i++)
		if (takes(import_families[i], type))
			*out = import_families[i];
	if (*out)
		return PITH_OK;
	if (type[0] == '\0')
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "config.json names no model_type; supported: llama, mistral");
	return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
	                 "model_type \"%.60s\" is not supported; supported: llama, mistral", type);
}

pith_status import_plan_make(const struct import_family *family, const struct source *src,
                             struct import_plan *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	pith_status status = family->plan(src, out, err);
	if (status != PITH_OK)
		import_plan_free(out);
	return status;
}

void import_plan_free(struct import_plan *plan)
{
	free(plan->block);
	free(plan->tensor);
	memset(plan, 0, sizeof(*plan));
}

/* "[4096, 256]" */
static void print_shape(const uint64_t *dim, uint32_t rank, char *text, size_t cap)
{
	size_t at = (size_t)snprintf(text, cap, "[");
	for (uint32_t i = 0; i < rank && at < cap; i++)
		at += (size_t)snprintf(text + at, cap - at, "%s%llu", i > 0 ? ", " : "",
		                       (unsigned long long)dim[i]);
	if (at < cap)
		snprintf(text + at, cap - at, "]");
}

static pith_status check_tensor(const struct import_tensor *want, const struct source *src,
                                struct pith_error *err)
{
	const struct source_tensor *have = source_find(src, want->name);
	if (!have)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "tensor %s is missing from the checkpoint", want->name);
	if (have->rank != want->rank ||
	    memcmp(have->dim, want->dim, want->rank * sizeof(want->dim[0])) != 0) {
		char a[48], b[48];
		print_shape(have->dim, have->rank, a, sizeof(a));
		print_shape(want->dim, want->rank, b, sizeof(b));
		return pith_fail(err, PITH_E_CORRUPT, have->off, NULL,
		                 "tensor %s is %s, config.json asks for %s", want->name, a, b);
	}
	if (have->dtype == 0)
		return pith_fail(err, PITH_E_UNSUPPORTED, have->off, NULL,
		                 "tensor %s has dtype %s; supported: BF16, F16, F32", want->name,
		                 have->dtype_name);
	return PITH_OK;
}

pith_status import_check(const struct import_plan *plan, const struct source *src,
                         struct pith_error *err)
{
	for (size_t i = 0; i < plan->tensor_count; i++)
		PITH_TRY(check_tensor(&plan->tensor[i], src, err));
	return PITH_OK;
}

/* ---- for families ---- */

static struct import_key *add_key(struct import_plan *p, const char *key, uint32_t type,
                                  uint32_t flags)
{
	assert(p->key_count < IMPORT_MAX_KEYS);
	struct import_key *k = &p->key[p->key_count++];
	*k = (struct import_key){.key = key, .type = type, .flags = flags};
	return k;
}

void import_key_u64(struct import_plan *p, const char *key, uint64_t value, uint32_t flags)
{
	add_key(p, key, PITH_ARCH_U64, flags)->u64 = value;
}

void import_key_f64(struct import_plan *p, const char *key, double value, uint32_t flags)
{
	add_key(p, key, PITH_ARCH_F64, flags)->f64 = value;
}

void import_key_string(struct import_plan *p, const char *key, const char *value, uint32_t flags)
{
	add_key(p, key, PITH_ARCH_STRING, flags)->string = value;
}

void import_set_u64(struct import_plan *p, const char *key, uint64_t value)
{
	for (size_t i = 0; i < p->key_count; i++)
		if (p->key[i].type == PITH_ARCH_U64 && strcmp(p->key[i].key, key) == 0)
			p->key[i].u64 = value;
}

pith_status import_reserve(struct import_plan *p, size_t blocks, size_t tensors,
                           struct pith_error *err)
{
	p->block = calloc(blocks > 0 ? blocks : 1, sizeof(*p->block));
	p->tensor = calloc(tensors > 0 ? tensors : 1, sizeof(*p->tensor));
	p->tensor_cap = tensors;
	if (!p->block || !p->tensor)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the model's plan");
	return PITH_OK;
}

void import_add(struct import_plan *p, const char *name_fmt, size_t block, uint64_t m, uint64_t n)
{
	assert(p->tensor_count < p->tensor_cap);
	struct import_tensor *t = &p->tensor[p->tensor_count++];
	const char *hole = strstr(name_fmt, "{i}");
	if (hole)
		snprintf(t->name, sizeof(t->name), "%.*s%zu%s", (int)(hole - name_fmt), name_fmt, block,
		         hole + 3);
	else
		snprintf(t->name, sizeof(t->name), "%s", name_fmt);
	t->rank = m == 0 ? 1 : 2;
	t->dim[0] = m == 0 ? n : m;
	t->dim[1] = m == 0 ? 1 : n;
	t->dim[2] = t->dim[3] = 1;
}
