/*
 * exp of spec/numerics.md 5 on lanes; a lanes_<isa>.h is included before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_RUNTIME_LANES_EXP_H
#define PITH_RUNTIME_LANES_EXP_H

LANE_INLINE vf vf_exp(vf x)
{
	const vf magic = vf_set1(12582912.0f);
	vf v = vf_min(x, vf_set1(88.0f));
	vf n = vf_sub(vf_add(vf_mul(v, vf_set1(1.44269504f)), magic), magic);
	vf r = vf_fnma(n, vf_set1(0.693145752f), v);
	r = vf_fnma(n, vf_set1(1.42860677e-6f), r);
	vf p = vf_set1(1.98756915e-4f);
	p = vf_fma(p, r, vf_set1(1.39819994e-3f));
	p = vf_fma(p, r, vf_set1(8.33345205e-3f));
	p = vf_fma(p, r, vf_set1(4.16657962e-2f));
	p = vf_fma(p, r, vf_set1(1.66666657e-1f));
	p = vf_fma(p, r, vf_set1(0.5f));
	p = vf_fma(p, vf_mul(r, r), r);
	p = vf_add(p, vf_set1(1.0f));
	vf y = vf_mul(p, vf_exp2i(vi_from_f32(n)));
	y = vf_select(vf_less(x, vf_set1(-87.33654f)), vf_zero(), y);
	return vf_select(vf_is_nan(x), x, y);
}

#endif
