/*
 * Builds the sample file; see sample_file.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "sample_file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

uint32_t sample_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* ---- files ---- */

void sample_folder(char path[64])
{
	const char *root = getenv("TMPDIR");
	int used = snprintf(path, 64, "%s/pith-test-XXXXXX", root != NULL ? root : "/tmp");
	if (used >= 64 || mkdtemp(path) == NULL)
		path[0] = '\0';
}

void sample_remove_folder(const char *path)
{
	DIR *folder = opendir(path);
	if (folder == NULL)
		return;
	for (struct dirent *e = readdir(folder); e != NULL; e = readdir(folder)) {
		char name[400];
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		unlink(name);
	}
	closedir(folder);
	rmdir(path);
}

uint8_t *sample_read_file(const char *path, size_t *nbytes)
{
	FILE *f = fopen(path, "rb");
	*nbytes = 0;
	if (f == NULL)
		return NULL;
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	rewind(f);
	uint8_t *data = aligned_alloc(64, ((size_t)size + 127) / 64 * 64);
	if (data != NULL)
		*nbytes = fread(data, 1, (size_t)size, f);
	fclose(f);
	return data;
}

/* ---- weights ---- */

static float *new_matrix(struct sample_weight *w, const char *name, size_t m, size_t n)
{
	w->name = name;
	w->m = m;
	w->n = n;
	w->values = calloc(m * n, sizeof(float));
	return w->values;
}

/* Small integers: exact in every dtype. */
static void fill(struct sample_weight *w, uint64_t seed)
{
	for (size_t i = 0; i < w->m * w->n; i++)
		w->values[i] = (float)((int)(sample_random(&seed) % 201) - 100);
}

static pith_status add_dense(struct pith_writer *writer, struct sample_weight *w, uint32_t dtype,
                             uint32_t rank, uint32_t flags, struct pith_error *err)
{
	struct pith_packed_term term;
	fill(w, dtype);
	PITH_TRY(pith_dense_pack(w->values, w->m, w->n, dtype, &term, err));
	struct pith_writer_weight entry = {
		.name = w->name,
		.flags = flags,
		.rank = rank,
		.dim = { rank == 1 ? w->n : w->m, w->n },
		.source_dtype = PITH_DTYPE_F32,
		.terms = &term,
		.term_count = 1,
	};
	pith_status status = pith_writer_weight(writer, &entry, err);
	pith_packed_free(&term);
	return status;
}

/* affine with 3 bits in groups of 16 and real zeros; values are added to 'stored'. */
static pith_status pack_codes(float *stored, struct pith_packed_term *out, struct pith_error *err)
{
	enum { M = SAMPLE_MIXED_M, N = SAMPLE_MIXED_N, GROUPS = 3 };
	uint8_t codes[M * N];
	uint16_t scales[M * GROUPS], zeros[M * GROUPS];
	uint64_t seed = 7;
	for (size_t i = 0; i < M * N; i++)
		codes[i] = (uint8_t)(sample_random(&seed) & 7);
	for (size_t i = 0; i < M * GROUPS; i++) {
		scales[i] = f16_of_f32((float)(sample_random(&seed) % 64 + 1) / 32);
		zeros[i] = f16_of_f32((float)(sample_random(&seed) % 64) / 8);
	}
	for (size_t i = 0; i < M; i++)
		for (size_t j = 0; j < N; j++) {
			size_t g = i * GROUPS + j / 16;
			float d = (float)codes[i * N + j] - f32_of_f16(zeros[g]);
			stored[i * N + j] += f32_of_f16(scales[g]) * d;
		}
	struct pith_affine_source source = { .bits = 3, .zero_mode = 2, .group_size = 16,
		                             .codes = codes, .scales = scales, .zeros = zeros };
	return pith_affine_pack(&source, M, N, out, err);
}

static pith_status pack_outliers(float *stored, struct pith_packed_term *out,
                                 struct pith_error *err)
{
	struct pith_sparse_source_entry entries[30];
	for (uint32_t e = 0; e < 30; e++) {
		/* 7 and 20 have no common divisor, so no position occurs twice */
		entries[e] = (struct pith_sparse_source_entry){ e * 7 % 20, e, f16_of_f32(40.5f + (float)e) };
		stored[entries[e].row * SAMPLE_MIXED_N + e] += 40.5f + (float)e;
	}
	return pith_sparse_pack(entries, 30, SAMPLE_MIXED_M, SAMPLE_MIXED_N, out, err);
}

static pith_status pack_columns(float *stored, struct pith_packed_term *out,
                                struct pith_error *err)
{
	static const uint32_t index[3] = { 0, 17, 39 };
	float values[SAMPLE_MIXED_M * 3];
	for (size_t i = 0; i < SAMPLE_MIXED_M; i++)
		for (size_t k = 0; k < 3; k++) {
			values[i * 3 + k] = (float)i - 8 * (float)k;
			stored[i * SAMPLE_MIXED_N + index[k]] += values[i * 3 + k];
		}
	return pith_columns_pack(index, values, 3, SAMPLE_MIXED_M, SAMPLE_MIXED_N, PITH_DTYPE_BF16,
	                         out, err);
}

/* Three terms under a permutation: column index[j] of the weight is stored column j. */
static pith_status add_mixed(struct pith_writer *writer, struct sample_weight *w,
                             struct pith_error *err)
{
	enum { M = SAMPLE_MIXED_M, N = SAMPLE_MIXED_N };
	struct pith_packed_term term[3];
	float stored[M * N] = { 0 };
	uint32_t permute[N];
	memset(term, 0, sizeof(term));
	for (uint32_t j = 0; j < N; j++)
		permute[j] = j * 7 % N;
	pith_status status = pack_codes(stored, &term[0], err);
	if (status == PITH_OK)
		status = pack_outliers(stored, &term[1], err);
	if (status == PITH_OK)
		status = pack_columns(stored, &term[2], err);
	for (size_t i = 0; i < M * N; i++)
		w->values[i / N * N + permute[i % N]] = stored[i];
	struct pith_writer_weight entry = {
		.name = w->name, .flags = 1, .rank = 3, .dim = { M, 8, 5 },
		.activation = PITH_ACTIVATION_INT8_GROUP32, .source_dtype = PITH_DTYPE_BF16,
		.terms = term, .term_count = 3, .permute = permute,
	};
	if (status == PITH_OK)
		status = pith_writer_weight(writer, &entry, err);
	for (size_t i = 0; i < 3; i++)
		pith_packed_free(&term[i]);
	return status;
}

/* affine with two-level scales, one group a row. */
static pith_status add_two_level(struct pith_writer *writer, struct sample_weight *w,
                                 struct pith_error *err)
{
	enum { M = 17, N = 33 };
	struct pith_packed_term term;
	uint8_t codes[M * N], scale_codes[M], zero_codes[M];
	uint16_t level[2 * 4];
	uint64_t seed = 9;
	for (size_t i = 0; i < M * N; i++)
		codes[i] = (uint8_t)(sample_random(&seed) & 31);
	for (size_t i = 0; i < 8; i++)
		level[i] = f16_of_f32((float)(i + 1) / 4);
	for (size_t i = 0; i < M; i++) {
		const uint16_t *l = level + i / 16 * 4;
		scale_codes[i] = (uint8_t)(i & 7);
		zero_codes[i] = (uint8_t)(i & 3);
		float s = ((float)scale_codes[i] - f32_of_f16(l[1])) * f32_of_f16(l[0]);
		float z = ((float)zero_codes[i] - f32_of_f16(l[3])) * f32_of_f16(l[2]);
		for (size_t j = 0; j < N; j++)
			w->values[i * N + j] = s * ((float)codes[i * N + j] - z);
	}
	struct pith_affine_source source = {
		.bits = 5, .scale_mode = 1, .zero_mode = 3, .scale_bits = 3, .zero_bits = 2,
		.codes = codes, .scale_codes = scale_codes, .zero_codes = zero_codes,
		.second_level = level,
	};
	PITH_TRY(pith_affine_pack(&source, M, N, &term, err));
	struct pith_writer_weight entry = {
		.name = w->name, .flags = 1, .rank = 2, .dim = { M, N },
		.activation = PITH_ACTIVATION_INT8_GROUP32, .terms = &term, .term_count = 1,
	};
	pith_status status = pith_writer_weight(writer, &entry, err);
	pith_packed_free(&term);
	return status;
}

static pith_status add_weights(struct pith_writer *w, struct sample *s, struct pith_error *err)
{
	new_matrix(&s->weight[0], "norm", 1, 33);
	new_matrix(&s->weight[1], "embedding", 17, 31);
	new_matrix(&s->weight[2], "mixed", SAMPLE_MIXED_M, SAMPLE_MIXED_N);
	new_matrix(&s->weight[3], "two-level", 17, 33);
	new_matrix(&s->weight[4], "constant", 1, 16);
	PITH_TRY(add_dense(w, &s->weight[0], PITH_DTYPE_F32, 1, 1, err));
	PITH_TRY(add_dense(w, &s->weight[1], PITH_DTYPE_BF16, 2, 1, err));
	PITH_TRY(add_mixed(w, &s->weight[2], err));
	PITH_TRY(add_two_level(w, &s->weight[3], err));
	return add_dense(w, &s->weight[4], PITH_DTYPE_F16, 1, 0, err);
}

/* ---- the rest ---- */

static pith_status add_model(struct pith_writer *w, struct pith_error *err)
{
	struct pith_block_entry first = { .flags = 3, .head_count = 4, .kv_head_count = 2,
		                          .head_dim = 8, .ffn_count = 24 };
	struct pith_block_entry second = first, third = { .flags = PITH_BLOCK_FFN };
	second.attention_of = 1; /* its own attention, the first block's feed-forward */
	third.ffn_count = 7;
	third.ffn_of = third.attention_of = 2;
	PITH_TRY(pith_writer_block(w, &first, NULL, NULL, err));
	PITH_TRY(pith_writer_block(w, &second, NULL, NULL, err));
	PITH_TRY(pith_writer_block(w, &third, "constant", NULL, err));
	PITH_TRY(pith_writer_arch_string(w, "arch", "sample", PITH_ARCH_MUST, err));
	PITH_TRY(pith_writer_arch_u64(w, "hidden_size", 33, PITH_ARCH_MUST, err));
	PITH_TRY(pith_writer_arch_f64(w, "rms_norm_eps", 1e-5, PITH_ARCH_MUST, err));
	PITH_TRY(pith_writer_arch_string(w, "name", "Sample", PITH_ARCH_NO_IDENTITY, err));
	PITH_TRY(pith_writer_section(w, PITH_SECTION_TOKN, PITH_ENCODING_RAW, "tokens", 6, err));
	return pith_writer_section(w, PITH_SECTION_CONFIG, PITH_ENCODING_ZSTD,
	                           "{\"a\": 1, \"b\": 1, \"c\": 1}\n", 25, err);
}

static pith_status add_history(struct pith_writer *w, struct pith_error *err)
{
	static const float first[16] = { 1, 2, 3 }, last[16] = { 4, 5, 6 };
	static const double number[2] = { 0.25, 3.5 };
	static const uint8_t digest[32] = { 0xab, 0xcd };
	PITH_TRY(pith_writer_canary(w, "mixed", 11, first, last, err));
	PITH_TRY(pith_writer_canary(w, "embedding", 12, last, first, err));
	PITH_TRY(pith_writer_lineage(w, PITH_LINEAGE_SOURCE, NULL, "model.safetensors", "", NULL,
	                             digest, err));
	return pith_writer_lineage(w, PITH_LINEAGE_WEIGHT_ERROR, "mixed", "rtn", "bits=3", number,
	                           NULL, err);
}

pith_status sample_write(const char *path, struct sample *out, struct pith_error *err)
{
	struct sample local = { 0 };
	struct sample *sample = out != NULL ? out : &local;
	struct pith_writer *w;
	memset(sample, 0, sizeof(*sample));
	PITH_TRY(pith_writer_new(path, NULL, &w, err));
	pith_status status = add_weights(w, sample, err);
	if (status == PITH_OK)
		status = add_model(w, err);
	if (status == PITH_OK)
		status = add_history(w, err);
	if (status == PITH_OK)
		status = pith_writer_finish(w, err);
	else
		pith_writer_abort(w);
	if (out == NULL)
		sample_free(&local);
	return status;
}

void sample_free(struct sample *sample)
{
	for (size_t i = 0; i < SAMPLE_WEIGHTS; i++)
		free(sample->weight[i].values);
	memset(sample, 0, sizeof(*sample));
}
