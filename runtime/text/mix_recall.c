/*
 * What is recalled, as inputs and rows of the mixer: spec/text_archive.md, section 15.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "mix_state.h"

/* 256 * log2(v); no more than eleven bits of v matter. */
static int32_t log2_of(const struct mix_plan *plan, uint64_t v)
{
	uint32_t high = (uint32_t)(v >> 32);
	if (high == 0)
		return mix_log2(plan, (uint32_t)v);
	unsigned k = 32 + mix_top_bit(high);
	return (int32_t)(256 * k + plan->log2[v >> (k - 10) & 1023u]);
}

static int32_t logit_of(const struct mix_plan *plan, uint64_t zero, uint64_t one)
{
	return mix_clamp(log2_of(plan, one) - log2_of(plan, zero), MIX_LOGIT_MAX);
}

/* Beside the model, where a key that is the same counts as much as all the model says; and half of each. */
void mix_recall_inputs(struct mix *m, const struct decision *model, const struct decision *recalled)
{
	uint64_t z = model->z, o = model->n - z;
	uint64_t rz = recalled->z * (uint64_t)m->total, ro = (recalled->n - recalled->z) * (uint64_t)m->total;
	uint64_t share = m->recalled_total;
	bool on = share > 0 && (m->left_out & MIX_PART_RECALL) == 0;
	m->inputs[40] = on ? logit_of(m->plan, (z << 16) + rz, (o << 16) + ro) : m->logit;
	m->inputs[41] = on ? logit_of(m->plan, z * share + rz, o * share + ro) : m->logit;
	m->recalled_zero = recalled->z;
	m->recalled_one = recalled->n - recalled->z;
}

/* A difference of -1024 .. 1023 in sixteen steps. */
static uint32_t step_of(int32_t x, int32_t most, unsigned shift)
{
	return (uint32_t)(mix_clamp(x, most) + most + 1) >> shift;
}

void mix_recall_rows(const struct mix *m, uint32_t rows[2])
{
	uint32_t zero = mix_top_bit(m->recalled_zero + 1), one = mix_top_bit(m->recalled_one + 1);
	rows[0] = step_of(m->inputs[41] - m->logit, 1023, 7) + 16 * step_of(m->logit, 2047, 8) +
	          (m->node->kind == MIX_NODE_END ? 256 : 0);
	rows[1] = 16 * (zero > one ? zero : one) + mix_least(zero < one ? zero : one, 15);
}
