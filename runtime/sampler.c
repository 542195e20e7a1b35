/*
 * Drawing a token from logits: the same choice on every machine.  exp is the standard's formula, sums
 * are f64 in one order, ties go to the lower id.
 *
 * Random numbers: SplitMix64.  state += 0x9e3779b97f4a7c15; z = state; z = (z ^ z >> 30) *
 * 0xbf58476d1ce4e5b9; z = (z ^ z >> 27) * 0x94d049bb133111eb; z ^= z >> 31.  A uniform number is
 * the top 53 bits times 2^-53, in [0, 1).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "fpmode.h"
#include "kernels.h"
#include "pithrun.h"

static double next_uniform(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15u;
	uint64_t z = *state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53;
}

static uint32_t largest(const float *logits, size_t count)
{
	size_t best = 0;
	for (size_t i = 1; i < count; i++)
		if (logits[i] > logits[best])
			best = i;
	return (uint32_t)best;
}

/* Bits that ascend as floats descend.  -0 counts as +0, so that equal values tie. */
static uint32_t descending_key(float v)
{
	uint32_t u = bits_of_f32(v + 0.0f);
	return (u & 0x80000000u) != 0 ? u : ~u & 0x7fffffffu;
}

/*
 * Fill order[0 .. count-1] with key << 32 | id, largest logit first, ties by id: a radix sort, stable,
 * from ascending ids.  order: [2 * count], the upper half is scratch.
 */
static void sort_descending(const float *logits, size_t count, uint64_t *order)
{
	uint64_t *from = order, *to = order + count;
	for (size_t i = 0; i < count; i++)
		from[i] = (uint64_t)descending_key(logits[i]) << 32 | i;
	for (unsigned shift = 32; shift < 64; shift += 8) {
		size_t start[257] = {0};
		for (size_t i = 0; i < count; i++)
			start[(from[i] >> shift & 0xff) + 1]++;
		for (size_t b = 0; b < 256; b++)
			start[b + 1] += start[b];
		for (size_t i = 0; i < count; i++)
			to[start[from[i] >> shift & 0xff]++] = from[i];
		uint64_t *swap = from;
		from = to;
		to = swap;
	}
	/* four passes: the result is back in the lower half */
}

/* exp((logit - max) / temperature) of the token at 'place' of the order. */
static double weight_of(const struct pith_kernels *k, const struct pith_sampler *s,
                        const float *logits, uint64_t place, float max)
{
	float x = (logits[(uint32_t)place] - max) / s->temperature;
	k->exp_array(&x, 1, &x);
	return x;
}

/* How many of the order's first tokens the three cuts leave; *mass is their weight. */
static size_t cut(const struct pith_kernels *k, const struct pith_sampler *s, const float *logits,
                  const uint64_t *order, size_t count, double *mass)
{
	float max = logits[(uint32_t)order[0]];
	if (s->top_k != 0 && s->top_k < count)
		count = s->top_k;
	double total = 0, sum = 0;
	for (size_t i = 0; i < count; i++)
		total += weight_of(k, s, logits, order[i], max);
	size_t kept = 0;
	while (kept < count) {
		double w = weight_of(k, s, logits, order[kept], max);
		/* the largest weight is exactly 1; it is never cut */
		if (kept > 0 && (w < (double)s->min_p || (s->top_p < 1 && sum >= (double)s->top_p * total)))
			break;
		sum += w;
		kept++;
	}
	*mass = sum;
	return kept;
}

static uint32_t draw(struct pith_sampler *s, const float *logits, size_t count, uint64_t *order)
{
	struct pith_kernels k = {0};
	double mass;
	pith_set_reference(&k);
	sort_descending(logits, count, order);
	size_t kept = cut(&k, s, logits, order, count, &mass);
	double target = next_uniform(&s->state) * mass;
	float max = logits[(uint32_t)order[0]];
	size_t i = 0;
	for (double sum = weight_of(&k, s, logits, order[0], max); sum <= target && i + 1 < kept;) {
		i++;
		sum += weight_of(&k, s, logits, order[i], max);
	}
	return (uint32_t)order[i];
}

uint32_t pith_sample(struct pith_sampler *sampler, const float *logits, size_t vocab_count,
                     uint64_t *scratch)
{
	if (!(sampler->temperature > 0))
		return largest(logits, vocab_count);
	uint64_t mode = pith_fpmode_enter();
	uint32_t id = draw(sampler, logits, vocab_count, scratch);
	pith_fpmode_restore(mode);
	return id;
}
