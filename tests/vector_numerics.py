# Exact binary32 arithmetic for the vectors: every operation on rational numbers, rounded once.
#
# Nothing here trusts the floating-point unit, NumPy or spec/reader; the canaries in the
# vectors come from this, from the prose of spec/numerics.md.
#
# SPDX-License-Identifier: Apache-2.0

import struct
from fractions import Fraction


def fl(value):
	"""The binary32 number nearest to a rational, ties to even, as a Fraction."""
	value = Fraction(value)
	if value == 0:
		return value
	magnitude = abs(value)
	exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
	if Fraction(2) ** exponent > magnitude:
		exponent -= 1
	step = Fraction(2) ** (max(exponent, -126) - 23)
	rounded = round(magnitude / step) * step  # round() of a Fraction: ties to even
	assert rounded < Fraction(2) ** 128
	return rounded if value > 0 else -rounded


def fma(a, b, c):
	return fl(a * b + c)


def bits32(value):
	"""Bit pattern of a Fraction that is a binary32 number."""
	return struct.unpack("<I", struct.pack("<f", float(value)))[0]


def tree16(lanes):
	for half in (8, 4, 2, 1):
		lanes = [fl(lanes[i] + lanes[i + half]) for i in range(half)]
	return lanes[0]


def dot16(u, v):
	lanes = [Fraction(0)] * 16
	for j, (a, b) in enumerate(zip(u, v)):
		lanes[j % 16] = fma(a, b, lanes[j % 16])
	return tree16(lanes)


def quantize(x, rule):
	"""numerics.md section 4: (q of all columns, scale of each column); rule: (activation, activation_scale)."""
	activation, static = rule
	if activation == 3:
		inverse = fl(1 / Fraction(static))
		return [round(min(max(fl(v * inverse), -127), 127)) for v in x], [Fraction(static)] * len(x)
	size = 32 if activation == 1 else len(x)
	all_q, all_scales = [], []
	for first in range(0, len(x), size):
		part = x[first:first + size]
		amax = max(abs(v) for v in part)
		if amax < Fraction(1, 2 ** 100):
			all_q += [0] * len(part)
			all_scales += [Fraction(0)] * len(part)
			continue
		inverse = fl(Fraction(127) / amax)
		all_q += [round(fl(v * inverse)) for v in part]
		all_scales += [fl(amax / 127)] * len(part)
	return all_q, all_scales


def canary_input(n, seed):
	x, state = [], seed
	for _ in range(n):
		state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
		x.append(Fraction((state >> 40) - 2 ** 23, 2 ** 22))
	return x


def affine_row(codes, scales, zeros, group_size, x, rule, longest=32):
	"""One row: codes [n], scales and zeros per group; longest: columns of a run."""
	(q, activation_scale), t = quantize(x, rule), Fraction(0)
	group_size = group_size or len(x)
	first = 0
	while first < len(x):
		group = first // group_size
		end = min(first + longest, (group + 1) * group_size, len(x))
		columns = range(first, end)
		s, z = scales[group], zeros[group]
		u = fl(s * activation_scale[first])
		v = fma(-z, sum(q[j] for j in columns), sum(codes[j] * q[j] for j in columns))
		t = fma(u, v, t)
		first = end
	return t


def listed_row(entries, x):
	"""sparse and columns: (column, value) in ascending order of column."""
	t = Fraction(0)
	for column, value in entries:
		t = fma(value, x[column], t)
	return t
