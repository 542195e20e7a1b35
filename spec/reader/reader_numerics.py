# numerics.md in NumPy: binary32 operations one at a time, in the order written there.
#
# Slow and literal on purpose: the C kernels are compared with this bit for bit.  NumPy's
# float32 add, subtract, multiply, divide and sqrt round once to nearest even; only fma has
# to be built.  Vectors run over rows (or elements) that do not depend on each other.
#
# SPDX-License-Identifier: Apache-2.0

import numpy as np

F32 = np.float32
F64 = np.float64


def fma(a, b, c):
	"""
	fl(a * b + c) with one rounding.  The product of two binary32 numbers is exact in
	binary64; the sum is rounded to odd there (the error of the sum says whether it was
	exact), and a number rounded to odd with 53 bits rounds to 24 bits as if it were exact.
	"""
	product = np.asarray(a, F32).astype(F64) * np.asarray(b, F32).astype(F64)
	addend = np.asarray(c, F32).astype(F64)
	product, addend = np.broadcast_arrays(product, addend)
	with np.errstate(over="ignore", invalid="ignore", under="ignore"):
		total = product + addend
		virtual = total - product
		error = (product - (total - virtual)) + (addend - virtual)
		even = (np.ascontiguousarray(total).view(np.uint64) & 1) == 0
		bump = even & (error != 0) & np.isfinite(total)
		toward = np.where(error > 0, np.inf, -np.inf)
		odd = np.where(bump, np.nextafter(total, toward), total)
		return odd.astype(F32)


def tree16(lanes):
	"""Section 1's tree over lanes [..., 16]."""
	a = lanes[..., 0:8] + lanes[..., 8:16]
	b = a[..., 0:4] + a[..., 4:8]
	c = b[..., 0:2] + b[..., 2:4]
	return c[..., 0] + c[..., 1]


def _padded16(v):
	v = np.asarray(v, F32)
	short = -v.shape[-1] % 16
	return np.concatenate([v, np.zeros(v.shape[:-1] + (short,), F32)], axis=-1) if short else v


def sum16(v):
	v = _padded16(v)
	lanes = np.zeros(v.shape[:-1] + (16,), F32)
	for j in range(0, v.shape[-1], 16):
		lanes = lanes + v[..., j:j + 16]
	return tree16(lanes)


def dot16(u, v):
	"""u: [..., n] f32, v: [n] f32."""
	u, v = _padded16(u), _padded16(v)
	lanes = np.zeros(u.shape[:-1] + (16,), F32)
	for j in range(0, u.shape[-1], 16):
		lanes = fma(u[..., j:j + 16], v[j:j + 16], lanes)
	return tree16(lanes)


GROUP32, TOKEN, STATIC = 1, 2, 3  # weight.md, activation


def quantize_activation(x, activation=GROUP32, activation_scale=0):
	"""Section 4: x [n] f32 -> (q [blocks * 32] int64, scale [blocks] f32, the same for each 32 columns if there is one)."""
	x = np.asarray(x, F32)
	blocks = -(-x.size // 32)
	padded = np.zeros(blocks * 32, F32)
	padded[:x.size] = x
	padded = padded.reshape(blocks, 32)
	if not np.isfinite(padded).all():
		raise ValueError("an activation is not finite")
	if activation == STATIC:
		scale = F32(activation_scale)
		with np.errstate(over="ignore"):
			scaled = padded * (F32(1) / scale)
		q = np.rint(np.minimum(np.maximum(scaled, F32(-127)), F32(127))).astype(np.int64)
		return q.reshape(-1), np.full(blocks, scale)
	amax = np.abs(padded).max(axis=1)
	if activation == TOKEN:
		amax[:] = amax.max()
	small = amax < F32(2.0 ** -100)
	divisor = np.where(small, F32(1), amax)
	inv = F32(127) / divisor
	q = np.rint(padded * inv[:, None]).astype(np.int64)
	q[small] = 0
	scale = np.where(small, F32(0), amax / F32(127)).astype(F32)
	return q.reshape(-1), scale


def apply_dense(rows, x):
	"""rows: [r, n] f32, the values of some rows."""
	return dot16(rows, x)


def runs(n, group_size, activation):
	"""(first, end) of the runs of a row, by section 4."""
	group_size = group_size or n
	longest = 32 if activation == GROUP32 else 256
	for group in range(0, n, group_size):
		end = min(group + group_size, n)
		for first in range(group, end, longest):
			yield first, min(first + longest, end)


def apply_affine(codes, scales, zeros, group_size, x, rule, run_rule=None):
	"""
	codes: [r, n] integers; scales, zeros: [r, groups] f32.  group_size 0: one group.  rule: (activation,
	activation_scale); run_rule: the activation whose runs are taken, if it is another.
	"""
	rows, n = codes.shape
	q, activation_scale = quantize_activation(x, *rule)
	q = q[:n]
	t = np.zeros(rows, F32)
	for first, end in runs(n, group_size, run_rule or rule[0]):
		part = slice(first, end)
		group = first // (group_size or n)
		u = (scales[:, group] * activation_scale[first // 32]).astype(F32)
		isum = (codes[:, part].astype(np.int64) * q[part]).sum(axis=1)
		v = fma(-zeros[:, group].astype(F32), F32(q[part].sum()), isum.astype(F32))
		t = fma(u, v, t)
	return t


def apply_entries(entries, scales, group_size, x, rule):
	"""ternary, codebook with i8 entries.  entries: [r, n] integers; scales: [r, groups] f32."""
	return apply_affine(entries, scales, np.zeros(scales.shape, F32), group_size, x, rule, GROUP32)


def apply_sparse(entries, x):
	"""entries: per row a list of (column, value), columns ascending."""
	x = np.asarray(x, F32)
	t = np.zeros(len(entries), F32)
	for i, row in enumerate(entries):
		for column, value in row:
			t[i] = fma(F32(value), x[column], t[i])
	return t


def apply_columns(values, index, x):
	"""values: [r, c] f32; index: [c]."""
	x = np.asarray(x, F32)
	t = np.zeros(values.shape[0], F32)
	for k, column in enumerate(index):
		t = fma(values[:, k], x[column], t)
	return t


def _f32_bits(bits):
	return np.array(bits, np.uint32).view(F32)[()]


_EXP_POLYNOMIAL = [_f32_bits(b) for b in
                   (0x3ab743ce, 0x3c088908, 0x3d2aa9c1, 0x3e2aaaaa, 0x3f000000)]


def exp(x):
	"""Section 5."""
	x = np.asarray(x, F32)
	with np.errstate(invalid="ignore", over="ignore", under="ignore"):
		zero = x < _f32_bits(0xc2aeac4f)
		nan = np.isnan(x)
		safe = np.where(zero | nan, F32(0), np.minimum(x, F32(88))).astype(F32)
		magic = F32(12582912)
		n = (safe * _f32_bits(0x3fb8aa3b) + magic) - magic
		r = fma(-n, _f32_bits(0x3f317200), safe)
		r = fma(-n, _f32_bits(0x35bfbe8e), r)
		p = np.broadcast_to(_f32_bits(0x39506967), r.shape)
		for coefficient in _EXP_POLYNOMIAL:
			p = fma(p, r, coefficient)
		p = fma(p, r * r, r)
		p = p + F32(1)
		power = ((n.astype(np.int64) + 127) << 23).astype(np.uint32).view(F32)
		result = (p * power).astype(F32)
	return np.where(nan, x, np.where(zero, F32(0), result)).astype(F32)


def rmsnorm(x, w, eps):
	"""Section 6; x: [n] f32, w: [n] f32."""
	x, w, eps = np.asarray(x, F32), np.asarray(w, F32), F32(eps)
	m = dot16(x, x) / F32(x.size)
	r = F32(1) / np.sqrt(m + eps)
	return (x * r) * w


def silu_gate(g, u):
	g, u = np.asarray(g, F32), np.asarray(u, F32)
	return (g / (F32(1) + exp(-g))) * u


_SIN = [-1.66666666666666324348e-1, 8.33333333332248946124e-3, -1.98412698298579493134e-4,
        2.75573137070700676789e-6, -2.50507602534068634195e-8, 1.58969099521155010221e-10]
_COS = [4.16666666666666019037e-2, -1.38888888888741095749e-3, 2.48015872894767294178e-5,
        -2.75573143513906633035e-7, 2.08757232129817482790e-9, -1.13596475577881948265e-11]


def _horner(coefficients, z):
	value = np.full_like(z, coefficients[-1])
	for coefficient in reversed(coefficients[:-1]):
		value = coefficient + z * value
	return value


def rotation(position, head_dim, ratio):
	"""Section 7: (cos, sin) f32 [head_dim / 2] of one position; every step in binary64."""
	half = head_dim // 2
	f = np.ones(half, F64)
	for i in range(1, half):
		f[i] = f[i - 1] * F64(ratio)
	a = F64(position) * f
	magic = F64(6755399441055744.0)
	k = (a * F64(0.63661977236758138243) + magic) - magic
	r = ((a - k * 1.57079632673412561417) - k * 6.07710050630396597660e-11) - k * 2.02226624879595063154e-21
	z = r * r
	s = r + (z * r) * _horner(_SIN, z)
	c = (1.0 - 0.5 * z) + (z * z) * _horner(_COS, z)
	quarter = k.astype(np.int64) % 4
	cos = np.choose(quarter, [c, -s, -c, s])
	sin = np.choose(quarter, [s, c, -s, -c])
	return cos.astype(F32), sin.astype(F32)


def rotate(x, cos, sin):
	"""Rotate one head: x [head_dim] f32."""
	x = np.asarray(x, F32)
	half = x.size // 2
	low, high = x[:half], x[half:]
	return np.concatenate([fma(low, cos, -(high * sin)), fma(high, cos, low * sin)])


F32_CACHE, F16_CACHE, I8_CACHE = 1, 2, 7  # kv_dtype


def cached(kv_dtype, x):
	"""
	Section 7, Cache: one position's key or value of one head, [d] f32 -> (values [d] f32, scales [d] f32).
	The scale of an element is that of its group; 1 where the type has none.
	"""
	x = np.asarray(x, F32)
	ones = np.ones(x.size, F32)
	if kv_dtype == F32_CACHE:
		return x, ones
	if kv_dtype == F16_CACHE:
		with np.errstate(over="ignore"):
			half = x.astype(np.float16)
		if not np.isfinite(half).all():
			raise ValueError("the forward pass gives a value that binary16 does not hold")
		return half.astype(F32), ones
	if kv_dtype != I8_CACHE:
		raise ValueError(f"kv_dtype {kv_dtype} is reserved")
	q, scales = quantize_activation(x)[:2]
	return np.asarray(q).reshape(-1)[:x.size].astype(F32), np.repeat(np.asarray(scales, F32), 32)[:x.size]


def attention(q, keys, values, position, window=0, key_scales=None, value_scales=None):
	"""
	One query head: q [d] f32, keys and values [position + 1, d] f32 -> [d] f32.  With an i8 cache
	keys and values are its integers and the scales have the same shape.
	"""
	q, keys, values = (np.asarray(v, F32) for v in (q, keys, values))
	d = q.size
	scale = F32(F64(1) / np.sqrt(F64(d)))
	first = max(0, position - window + 1) if window else 0
	best, lanes, o = F32(-np.inf), np.zeros(16, F32), np.zeros(d, F32)
	for block in range(first // 32 * 32, position + 1, 32):
		seen = range(max(block, first), min(block + 32, position + 1))
		rows = slice(seen.start, seen.stop)
		s = np.zeros(len(seen), F32)
		if key_scales is None:
			for i in range(d):
				s = fma(q[i], keys[rows, i], s)
		else:
			for group in range(0, d, 32):
				u = np.zeros(len(seen), F32)
				for i in range(group, min(group + 32, d)):
					u = fma(q[i], keys[rows, i], u)
				s = fma(key_scales[rows, group], u, s)
		s = (s * scale).astype(F32)
		higher = max(best, s.max())
		c = F32(0) if np.isneginf(best) else exp(best - higher)[()]
		p = exp(s - higher)
		lanes, o = lanes * c, o * c
		for j, weight in zip(seen, p):
			lanes[j % 16] = lanes[j % 16] + weight
			o = fma(weight if value_scales is None else weight * value_scales[j], values[j], o)
		best = higher
	return o / tree16(lanes)


def canary_input(n, seed):
	"""Section 8: n values from a linear congruential state."""
	x, state = np.empty(n, F32), seed
	for j in range(n):
		state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
		x[j] = F32((state >> 40) - 2 ** 23) * F32(2.0 ** -22)
	return x
