/*
 * Fixed codebooks and the quantizer for them.
 *
 * The scale is rounded as the file holds it first and the codes are chosen with the rounded one.  Tiles of
 * 16 rows are independent (coded scales share one second level per tile): results do not depend on the
 * number of threads.  Spec: spec/terms/codebook.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant_codebook.h"

#include "quant_grid.h"
#include "term_codebook.h"

#include <stdlib.h>

/* ---- tables ---- */

static void finish_table(struct codebook_table *t)
{
	size_t count = (size_t)1 << t->bits;
	t->largest = 0;
	for (size_t i = 0; i < count; i++)
		t->largest = fabsf(t->value[i]) > t->largest ? fabsf(t->value[i]) : t->largest;
	for (size_t i = 0; i < count; i++)
		t->small[i] = (int8_t)grid_round(127.0f * (t->value[i] / t->largest));
}

void codebook_table_nf4(struct codebook_table *t)
{
	/* QLoRA (arXiv 2305.14314), appendix E: quantiles of the normal distribution, 0 among them */
	static const float nf4[16] = {
	    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
	    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
	    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
	    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
	};
	memset(t, 0, sizeof(*t));
	t->bits = 4;
	memcpy(t->value, nf4, sizeof(nf4));
	finish_table(t);
}

void codebook_table_float(struct codebook_table *t, unsigned exponent_bits, unsigned mantissa_bits)
{
	/* OCP Microscaling Formats 1.0, section 5.3; e4m3: OCP 8-bit Floating Point 1.0 */
	int bias = (1 << (exponent_bits - 1)) - 1;
	unsigned half = 1u << (exponent_bits + mantissa_bits), steps = 1u << mantissa_bits;
	memset(t, 0, sizeof(*t));
	t->bits = 1 + exponent_bits + mantissa_bits;
	for (unsigned i = 0; i < half; i++) {
		int exponent = (int)(i >> mantissa_bits);
		unsigned mantissa = i % steps;
		unsigned whole = exponent > 0 ? steps + mantissa : mantissa;
		int power = (exponent > 0 ? exponent : 1) - bias - (int)mantissa_bits;
		t->value[i] = ldexpf((float)whole, power);
		if (t->bits == 8 && i + 1 == half)
			t->value[i] = t->value[i - 1];
		t->value[half + i] = -t->value[i];
	}
	finish_table(t);
}

/* ---- nearest entry ---- */

/* Entries as stored, ascending, and the values halfway between them. */
struct nearest {
	size_t count;
	double middle[CODEBOOK_MAX_ENTRIES]; /* below: entry i or a lower one; [count - 1] */
	uint8_t code[CODEBOOK_MAX_ENTRIES];
};

static double stored_entry(const struct codebook_rule *rule, size_t code)
{
	return rule->real ? (double)rule->table->value[code] : rule->table->small[code];
}

/* Insertion sort: equal entries keep the lowest code, and only that one is used. */
static void nearest_make(const struct codebook_rule *rule, struct nearest *near)
{
	double entry[CODEBOOK_MAX_ENTRIES];
	near->count = 0;
	for (size_t code = 0; code < (size_t)1 << rule->table->bits; code++) {
		double e = stored_entry(rule, code);
		size_t at = near->count;
		while (at > 0 && entry[at - 1] >= e)
			at--;
		if (at < near->count && entry[at] == e)
			continue;
		memmove(entry + at + 1, entry + at, (near->count - at) * sizeof(*entry));
		memmove(near->code + at + 1, near->code + at, near->count - at);
		entry[at] = e;
		near->code[at] = (uint8_t)code;
		near->count++;
	}
	for (size_t i = 0; i + 1 < near->count; i++)
		near->middle[i] = (entry[i] + entry[i + 1]) / 2;
}

static uint8_t nearest_code(const struct nearest *near, double v)
{
	size_t low = 0, high = near->count - 1;
	while (low < high) {
		size_t at = (low + high) / 2;
		if (v > near->middle[at])
			low = at + 1;
		else
			high = at;
	}
	return near->code[low];
}

/* ---- scales ---- */

struct codebook_work {
	const struct codebook_rule *rule;
	size_t m, n, group_size, groups;
	float *w; /* [m, n] */
	struct nearest near;
	uint8_t *codes;       /* [m, n] */
	float *largest;       /* [m, groups] scales wanted, then as stored */
	uint16_t *scales;     /* [m, groups] */
	uint8_t *scale_codes; /* [m, groups] */
	uint16_t *level;      /* [tiles, 2] */
};

static void find_scales(struct codebook_work *k, size_t row)
{
	float top = k->rule->real ? k->rule->table->largest : 127.0f;
	for (size_t g = 0; g < k->groups; g++) {
		float most = 0;
		size_t end = (g + 1) * k->group_size < k->n ? (g + 1) * k->group_size : k->n;
		for (size_t j = g * k->group_size; j < end; j++)
			most = fabsf(k->w[row * k->n + j]) > most ? fabsf(k->w[row * k->n + j]) : most;
		k->largest[row * k->groups + g] = most / top;
	}
}

static uint16_t usable_half(float v)
{
	uint16_t h = f16_of_f32(v);
	return h == 0 ? 1 : h; /* the smallest f16: a scale of 0 would lose the group */
}

/* The f16 that is not below v > 0: a step that is too small would cut off the largest scales. */
static uint16_t half_above(float v)
{
	uint16_t h = usable_half(v);
	return f32_of_f16(h) < v ? (uint16_t)(h + 1) : h;
}

static void store_halves(struct codebook_work *k, size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++) {
		k->scales[i] = k->largest[i] > 0 ? usable_half(k->largest[i]) : 0;
		k->largest[i] = f32_of_f16(k->scales[i]);
	}
}

/* Scales first .. first+count-1, those of a tile, as 8-bit codes: s = (q - zero) * step. */
static void store_codes(struct codebook_work *k, size_t first, size_t count, uint16_t level[2])
{
	float low = k->largest[first], high = low;
	for (size_t i = first; i < first + count; i++) {
		low = k->largest[i] < low ? k->largest[i] : low;
		high = k->largest[i] > high ? k->largest[i] : high;
	}
	/* not so fine that an f16 could not tell where it begins */
	float step = (high - low) / 255.0f > high / 4096.0f ? (high - low) / 255.0f : high / 4096.0f;
	level[0] = half_above(step);
	step = f32_of_f16(level[0]);
	level[1] = f16_of_f32(-low / step);
	float zero = f32_of_f16(level[1]);
	for (size_t i = first; i < first + count; i++) {
		float q = grid_round(grid_clamp(k->largest[i] / step + zero, 0.0f, 255.0f));
		k->scale_codes[i] = (uint8_t)q;
		float centred = q - zero;
		k->largest[i] = centred * step;
	}
}

static void quantize_tile(void *ctx, size_t tile)
{
	struct codebook_work *k = ctx;
	size_t first = tile * PITH_TILE_ROWS, left = k->m - first;
	size_t rows = left < PITH_TILE_ROWS ? left : PITH_TILE_ROWS;
	for (size_t r = first; r < first + rows; r++)
		find_scales(k, r);
	if (k->rule->two_level)
		store_codes(k, first * k->groups, rows * k->groups, k->level + 2 * tile);
	else
		store_halves(k, first * k->groups, rows * k->groups);
	for (size_t i = first * k->n; i < (first + rows) * k->n; i++) {
		float s = k->largest[i / k->n * k->groups + i % k->n / k->group_size];
		k->codes[i] = nearest_code(&k->near, s != 0 ? (double)k->w[i] / (double)s : 0);
	}
}

/* ---- the term ---- */

static pith_status check_scales(const struct codebook_work *k, const struct quant_job *job,
                                struct pith_error *err)
{
	for (size_t i = 0; i < k->m * k->groups; i++)
		if (!isfinite(k->largest[i]))
			return quant_grid_overflow(job, i / k->groups, i % k->groups * k->group_size, err);
	return PITH_OK;
}

static pith_status pack(const struct codebook_work *k, struct quant_result *out,
                        struct pith_error *err)
{
	const struct codebook_rule *rule = k->rule;
	struct pith_codebook_source s = {
	    .bits = rule->table->bits,
	    .scale_mode = rule->two_level ? PITH_CODEBOOK_SCALE_TWO_LEVEL : PITH_CODEBOOK_SCALE_F16,
	    .real = rule->real, .group_size = rule->group_size, .codes = k->codes,
	    .entries = rule->real ? (const void *)rule->table->value : (const void *)rule->table->small,
	    .scales = k->scales, .scale_codes = k->scale_codes, .second_level = k->level};
	PITH_TRY(pith_codebook_pack(&s, k->m, k->n, &out->term[out->term_count], err));
	out->term_count++;
	out->activation = rule->real ? PITH_ACTIVATION_FLOAT : PITH_ACTIVATION_INT8_GROUP32;
	return PITH_OK;
}

pith_status quant_codebook(const struct codebook_rule *rule, const struct quant_job *job,
                           struct quant_result *out, struct pith_error *err)
{
	struct codebook_work k = {.rule = rule, .m = job->m, .n = job->n};
	size_t tiles = (job->m + PITH_TILE_ROWS - 1) / PITH_TILE_ROWS;
	PITH_TRY(quant_job_load(job, &k.w, err));
	nearest_make(rule, &k.near);
	k.group_size = rule->group_size ? rule->group_size : job->n;
	k.groups = (job->n + k.group_size - 1) / k.group_size;
	k.codes = malloc(job->m * job->n);
	k.largest = malloc(job->m * k.groups * sizeof(*k.largest));
	k.scales = calloc(job->m * k.groups, sizeof(*k.scales));
	k.scale_codes = calloc(job->m * k.groups, 1);
	k.level = calloc(2 * tiles, sizeof(*k.level));
	pith_status status = PITH_OK;
	if (!k.codes || !k.largest || !k.scales || !k.scale_codes || !k.level)
		status = quant_no_memory(job, err);
	if (status == PITH_OK) {
		quant_rows(job->threads, tiles, quantize_tile, &k);
		status = check_scales(&k, job, err);
	}
	if (status == PITH_OK)
		status = pack(&k, out, err);
	free(k.w);
	free(k.codes);
	free(k.largest);
	free(k.scales);
	free(k.scale_codes);
	free(k.level);
	return status;
}

uint64_t quant_codebook_padded(const struct pith_codebook_sizes *size)
{
	uint64_t sum = 0;
	const uint64_t part[] = {size->codes, size->entries, size->scales, size->scale_codes,
	                         size->second_level};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(part); i++)
		sum += pith_round_up((size_t)part[i], PITH_ALIGN);
	return sum;
}

bool quant_codebook_nbytes(const struct codebook_rule *rule, uint64_t m, uint64_t n, uint64_t *nbytes,
                           uint32_t *plane_count)
{
	struct pith_codebook_sizes size;
	uint32_t mode = rule->two_level ? PITH_CODEBOOK_SCALE_TWO_LEVEL : PITH_CODEBOOK_SCALE_F16;
	if (!pith_codebook_sizes(rule->table->bits, rule->group_size, mode, rule->real, false, m, n,
	                         &size))
		return false;
	*plane_count = rule->two_level ? 4 : 3;
	*nbytes = quant_codebook_padded(&size);
	return true;
}
