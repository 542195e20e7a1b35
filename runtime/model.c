/*
 * Opening a model: kernels, architecture, blocks, and the binding of weights that all
 * architectures share.  Spec: spec/container.md (ARCH, BLCK), spec/models/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "model.h"

#include <stdlib.h>

#define NO_ID UINT32_MAX

/* ---- binding weights ---- */

/* Room for one more pointer behind 'count'. */
static bool grow(void *array_of_pointers, size_t count)
{
	void **array;
	memcpy(&array, array_of_pointers, sizeof(array));
	if ((count & (count - 1)) != 0)
		return true; /* room is the next power of two */
	void **larger = realloc(array, (count != 0 ? 2 * count : 1) * sizeof(*larger));
	if (larger == NULL)
		return false;
	memcpy(array_of_pointers, &larger, sizeof(larger));
	return true;
}

static pith_status find(const struct pith_model *model, const char *rule, const char *name,
                        struct pith_weight *out, struct pith_error *err)
{
	pith_status status = pith_file_find(model->file, name, out, err);
	if (status == PITH_E_NOT_FOUND)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, rule, "weight %s is missing", name);
	return status;
}

pith_status pith_model_linear(struct pith_model *model, const char *rule, const char *name, uint64_t m,
                              uint64_t n, const struct pith_linear **out, struct pith_error *err)
{
	struct pith_weight weight;
	struct pith_linear *linear;
	PITH_TRY(find(model, rule, name, &weight, err));
	if (weight.rank != 2 || weight.dim[0] != m || weight.dim[1] != n)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, rule,
		                 "weight %s is [%zu, %zu] where [%llu, %llu] is due", name, weight.m,
		                 weight.n, (unsigned long long)m, (unsigned long long)n);
	if (!grow(&model->linears, model->linear_count))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to bind weights");
	PITH_TRY(pith_linear_bind(&weight, model->kernels, model->verify, &linear, err));
	model->linears[model->linear_count++] = linear;
	model->info.parameter_count += m * n;
	*out = linear;
	return PITH_OK;
}

static pith_status bind_vector(struct pith_model *model, const char *rule,
                               const struct pith_weight *weight, uint64_t n, const float **out,
                               struct pith_error *err)
{
	struct pith_term term;
	if (weight->rank != 1 || weight->dim[0] != n || weight->term_count != 1 ||
	    weight->transform_count != 0)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, rule,
		                 "%.*s is not a plain vector of %llu", (int)weight->name_nbytes,
		                 weight->name, (unsigned long long)n);
	if (model->verify)
		PITH_TRY(pith_weight_verify(weight, err));
	PITH_TRY(pith_weight_term(weight, 0, &term, err));
	if (term.kind->id != PITH_KIND_DENSE)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, rule, "%.*s is not dense",
		                 (int)weight->name_nbytes, weight->name);
	float *values = NULL;
	if (!grow(&model->vectors, model->vector_count) ||
	    (values = malloc((size_t)n * sizeof(*values))) == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to bind weights");
	term.kind->unpack_rows(&term, 0, 1, values);
	model->vectors[model->vector_count++] = values;
	model->info.parameter_count += n;
	model->info.weight_nbytes += term.plane[0].nbytes;
	*out = values;
	return PITH_OK;
}

pith_status pith_model_vector(struct pith_model *model, const char *rule, const char *name, uint64_t n,
                              const float **out, struct pith_error *err)
{
	struct pith_weight weight;
	PITH_TRY(find(model, rule, name, &weight, err));
	return bind_vector(model, rule, &weight, n, out, err);
}

static void count_kv(struct pith_model *model)
{
	for (uint64_t i = 0; i < model->info.block_count; i++) {
		const struct pith_block *b = &model->blocks[i];
		uint64_t elements = (uint64_t)b->kv_head_count * b->head_dim;
		uint64_t scales = model->kv_type == PITH_KV_I8 ? b->kv_head_count * pith_kv_groups(b->head_dim) : 0;
		model->info.kv_nbytes += 2 * (elements * pith_kv_nbytes(model->kv_type) + scales * sizeof(float));
	}
}

pith_status pith_model_kv_type(struct pith_model *model, const char *rule, uint64_t kv_dtype,
                               struct pith_error *err)
{
	static const uint64_t dtypes[PITH_KV_TYPE_COUNT] = {
		[PITH_KV_F32] = PITH_DTYPE_F32, [PITH_KV_F16] = PITH_DTYPE_F16, [PITH_KV_I8] = PITH_DTYPE_I8,
	};
	for (unsigned t = 0; t < PITH_KV_TYPE_COUNT; t++)
		if (dtypes[t] == kv_dtype) {
			model->kv_type = (enum pith_kv_type)t;
			count_kv(model);
			return PITH_OK;
		}
	return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, rule, "kv_dtype %llu is not built in",
	                 (unsigned long long)kv_dtype);
}

pith_status pith_model_const(struct pith_model *model, const char *rule, uint32_t index_plus_1,
                             uint64_t n, const float **out, struct pith_error *err)
{
	struct pith_weight weight;
	*out = NULL;
	if (index_plus_1 == 0)
		return PITH_OK;
	PITH_TRY(pith_file_weight_at(model->file, index_plus_1 - 1, &weight, err));
	return bind_vector(model, rule, &weight, n, out, err);
}

/* ---- opening ---- */

static pith_status find_architecture(struct pith_model *model, struct pith_error *err)
{
	const char *name;
	size_t nbytes;
	pith_status status = pith_file_arch_string(model->file, "arch", &name, &nbytes, err);
	if (status == PITH_E_NOT_FOUND)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "the file holds weights but no model (no key 'arch')");
	PITH_TRY(status);
	for (size_t i = 0; pith_architectures[i] != NULL; i++) {
		const struct pith_architecture *a = pith_architectures[i];
		if (strlen(a->name) == nbytes && memcmp(a->name, name, nbytes) == 0)
			model->architecture = a;
	}
	if (model->architecture == NULL)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL, "architecture %.*s is unknown",
		                 (int)(nbytes < 64 ? nbytes : 64), name);
	return PITH_OK;
}

/* container.md: a runtime refuses a key with flag bit 0 that it does not know. */
static pith_status check_keys(const struct pith_model *model, struct pith_error *err)
{
	for (size_t i = 0; i < pith_file_arch_count(model->file); i++) {
		struct pith_arch_value value;
		PITH_TRY(pith_file_arch_at(model->file, i, &value, err));
		const char *const *key = model->architecture->keys;
		while (*key != NULL && strncmp(*key, value.key, sizeof(value.key)) != 0)
			key++;
		if (*key == NULL && (value.flags & PITH_ARCH_MUST) != 0)
			return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
			                 "key %.32s of the model is unknown: it needs a newer version",
			                 value.key);
	}
	return PITH_OK;
}

static pith_status read_blocks(struct pith_model *model, struct pith_error *err)
{
	size_t count = (size_t)model->info.block_count;
	model->blocks = calloc(count != 0 ? count : 1, sizeof(*model->blocks));
	if (model->blocks == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for %zu blocks", count);
	for (size_t i = 0; i < count; i++)
		PITH_TRY(pith_file_block(model->file, i, &model->blocks[i], err));
	return PITH_OK;
}

/* A key that may be absent. */
static pith_status optional_key(const struct pith_file *file, const char *key, uint64_t fallback,
                                uint64_t *out, struct pith_error *err)
{
	pith_status status = pith_file_arch_u64(file, key, out, err);
	if (status != PITH_E_NOT_FOUND)
		return status;
	*out = fallback;
	return PITH_OK;
}

static pith_status read_info(struct pith_model *model, struct pith_error *err)
{
	struct pith_model_info *info = &model->info;
	struct pith_file_info file;
	uint64_t bos, eos;
	pith_file_info(model->file, &file);
	if (file.numerics_version != PITH_NUMERICS_VERSION)
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "numerics version %u is unknown: it needs a newer version",
		                 file.numerics_version);
	info->block_count = file.block_count;
	info->numerics_version = file.numerics_version;
	memcpy(info->identity, file.model_identity, sizeof(info->identity));
	info->kernels = model->kernels->name;
	PITH_TRY(optional_key(model->file, "context_length", 2048, &info->context_length, err));
	PITH_TRY(optional_key(model->file, "bos_id", NO_ID, &bos, err));
	PITH_TRY(optional_key(model->file, "eos_id", NO_ID, &eos, err));
	info->bos_id = bos < NO_ID ? (uint32_t)bos : NO_ID;
	info->eos_id = eos < NO_ID ? (uint32_t)eos : NO_ID;
	return PITH_OK;
}

static pith_status open_model(struct pith_model *model, struct pith_error *err)
{
	PITH_TRY(find_architecture(model, err));
	PITH_TRY(check_keys(model, err));
	PITH_TRY(read_info(model, err));
	PITH_TRY(read_blocks(model, err));
	return model->architecture->bind(model, err);
}

pith_status pith_model_open(const struct pith_file *file, const struct pith_model_options *options,
                            struct pith_model **out, struct pith_error *err)
{
	const struct pith_kernels *kernels;
	*out = NULL;
	PITH_TRY(pith_kernels_select(options != NULL ? options->kernels : NULL, &kernels, err));
	struct pith_model *model = calloc(1, sizeof(*model));
	if (model == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for a model");
	model->file = file;
	model->kernels = kernels;
	model->verify = options == NULL || !options->no_verify;
	pith_status status = open_model(model, err);
	if (status != PITH_OK) {
		pith_model_close(model);
		return status;
	}
	*out = model;
	return PITH_OK;
}

void pith_model_close(struct pith_model *model)
{
	if (model == NULL)
		return;
	for (size_t i = 0; i < model->linear_count; i++)
		pith_linear_free(model->linears[i]);
	for (size_t i = 0; i < model->vector_count; i++)
		free(model->vectors[i]);
	if (model->architecture != NULL)
		model->architecture->release(model->arch_weights);
	free(model->linears);
	free(model->vectors);
	free(model->blocks);
	free(model);
}

void pith_model_info(const struct pith_model *model, struct pith_model_info *out)
{
	*out = model->info;
}
