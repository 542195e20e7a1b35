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


def quantize(x):
	"""numerics.md section 4: [(q of 32 columns, scale)] per group of 32."""
	groups = []
	for first in range(0, len(x), 32):
		part = x[first:first + 32]
		amax = max(abs(v) for v in part)
		if amax < Fraction(1, 2 ** 100):
			groups.append(([0] * len(part), Fraction(0)))
			continue
		inverse = fl(Fraction(127) / amax)
		groups.append(([round(fl(v * inverse)) for v in part], fl(amax / 127)))
	return groups


def canary_input(n, seed):
	x, state = [], seed
	for _ in range(n):
		state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
		x.append(Fraction((state >> 40) - 2 ** 23, 2 ** 22))
	return x


def affine_row(codes, scales, zeros, integer_zero, group_size, x):
	"""One row: codes [n], scales and zeros per group."""
	groups, t = quantize(x), Fraction(0)
	group_size = group_size or len(x)
	run = min(32, group_size)
	for first in range(0, len(x), run):
		columns = range(first, min(first + run, len(x)))
		q, activation_scale = groups[first // 32]
		s, z = scales[first // group_size], zeros[first // group_size]
		u = fl(s * activation_scale)
		if integer_zero:
			t = fma(u, sum((codes[j] - z) * q[j % 32] for j in columns), t)
		else:
			t = fma(u, sum(codes[j] * q[j % 32] for j in columns), t)
			t = fma(-fl(u * z), sum(q[j % 32] for j in columns), t)
	return t


def listed_row(entries, x):
	"""sparse and columns: (column, value) in ascending order of column."""
	t = Fraction(0)
	for column, value in entries:
		t = fma(value, x[column], t)
	return t
