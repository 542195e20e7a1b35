#!/usr/bin/python3
# Writes spec/examples.md: small cases worked out in hex.
#
#   make_examples.py            write it
#   make_examples.py --check    exit 1 when the page differs
#
# The numbers come from the vectors' writer and exact arithmetic, not from the C code.
#
# SPDX-License-Identifier: Apache-2.0

import pathlib
import struct
import sys
from fractions import Fraction

import vector_numerics as exact
import vector_terms as t
from vector_files import ROOT, VectorFile
from vector_writer import xxh3_64, xxh3_128

PAGE = ROOT.parent.parent / "spec" / "examples.md"


def spaced(raw):
	return " ".join(f"{b:02x}" for b in raw)


def block(lines):
	return "\n".join("    " + line for line in lines) + "\n"


def whole_file():
	"""The smallest vector, its field listing as it stands in the .hex file."""
	path = ROOT / "container" / "good-one-weight.hex"
	assert VectorFile(path).expected() == {"w": [[0x3f800000, 0xc0200000]]}
	lines = []
	for line in path.read_text().splitlines()[2:]:
		raw, comment = line.split("  # ")
		at, name = comment.split(" ", 1)
		lines.append(f"{at:>5}  {raw:<48}  {name}".rstrip())
	return block(lines)


def hashes():
	name = b"model.norm.weight"
	return block([f'XXH3-64  of ""                   {xxh3_64(b""):016x}   stored {spaced(struct.pack("<Q", xxh3_64(b"")))}',
	              f'XXH3-128 of ""                   {xxh3_128(b"").hex()} (stored in this order)',
	              f'XXH3-64  of "{name.decode()}"  {xxh3_64(name):016x}   stored {spaced(struct.pack("<Q", xxh3_64(name)))}'])


def code_example(bits, codes):
	"""Bytes of row 0 and row 1 of a block whose other rows are 0."""
	raw = t.code_block(lambda row, column: codes[row][column] if row < len(codes) else 0, bits)
	lines = []
	for line in range(bits):
		first = raw[64 * line:64 * line + 4 * len(codes)]
		lines.append(f"line {line}: bytes 0..{4 * len(codes) - 1} are {spaced(first)}, the other {64 - 4 * len(codes)} are 0")
	return block(lines)


def two_level():
	codes, m = [[5], [2], [7]], 3
	masks = t.code_masks(codes, m, 1, 3)
	s = t.f32(t.f32(5 - t.half(0.5)) * t.half(0.0625))
	return block([f"masks, k = 0, 1, 2: {spaced(masks)}",
	              f"second_level, first two halves: scale_scale 0.0625 = {spaced(t.encode(0.0625, t.F16))}, "
	              f"scale_zero 0.5 = {spaced(t.encode(0.5, t.F16))}",
	              f"row 0: s = fl(fl(5 - 0.5) * 0.0625) = {s} = {exact.bits32(Fraction(s)):08x}"])


def sparse_example():
	term = t.sparse(18, 5000, {(0, 3): 1.5, (2, 3): -2.0, (0, 4096): 0.25, (17, 1): 3.0})
	offsets, counts, index, values = (p["content"] for p in term["planes"])
	return block([f"offsets: {spaced(offsets)}"] +
	             [f"counts of list {l}: {spaced(counts[32 * l:32 * l + 32])}" for l in range(4)] +
	             [f"index:   {spaced(index)}", f"values:  {spaced(values)}"])


def quantization():
	x = [Fraction(1), Fraction(-1, 2), exact.fl(Fraction(1, 254)), Fraction(3, 8)]
	q, (scale, *_) = exact.quantize(x, (1, 0))
	inverse = exact.fl(Fraction(127) / 1)
	codes, s = [3, 0, 2, 1], Fraction(1, 4)
	isum = sum((c - 2) * v for c, v in zip(codes, q))
	u = exact.fl(s * scale)
	y = exact.fma(u, isum, Fraction(0))
	return block([f"x = 1, -0.5, fl(1/254), 0.375; then 28 zeros: amax = 1, inv = {exact.bits32(inverse):08x} (127), as = {exact.bits32(scale):08x}",
	              f"q = {', '.join(map(str, q))}, 0, ...",
	              "weight of 2 bits, zero_mode 0 (z = 2), s = 0.25, codes 3, 0, 2, 1",
	              f"isum = {' + '.join(f'({c} - 2) * {v}' for c, v in zip(codes, q))} = {isum}",
	              f"u = fl(s * as) = {exact.bits32(u):08x}, t = fma(u, {isum}, 0) = {exact.bits32(y):08x}"])


def canary():
	x = exact.canary_input(4, 7)
	return block([f"x[{j}] = {exact.bits32(v):08x}  ({v.numerator} / 2^{v.denominator.bit_length() - 1})" for j, v in enumerate(x)])


def tree():
	u = [Fraction(1, 2 ** (j % 7)) + Fraction(j, 2 ** 20) for j in range(20)]
	u = [exact.fl(v) for v in u]
	lanes = exact.dot16(u, u)
	plain = Fraction(0)
	for v in u:
		plain = exact.fma(v, v, plain)
	return block([f"u[j] = fl(2^-(j mod 7) + j * 2^-20), j = 0..19: dot16(u, u) = {exact.bits32(lanes):08x}",
	              f"(in plain ascending order it would be {exact.bits32(plain):08x})"])


def page():
	ramp = [[j % 8 for j in range(32)], [7 - j % 8 for j in range(32)]]
	parts = [
		"# Worked examples\n",
		"Made by `tests/make_examples.py` from the vectors' writer and exact arithmetic; `make test` compares. "
		"`XX*COUNT` is a byte repeated.\n",
		"## A whole file\n",
		"`tests/vectors/container/good-one-weight.hex`: one weight `w` of two f32 numbers, 1 and -2.5 ([container.md](container.md)). "
		"Offset, bytes, field.\n",
		whole_file(),
		"## Hashes\n",
		hashes(),
		"## Codes of 3 bits\n",
		"A block of [affine](terms/affine.md): row 0 holds 0, 1, .. 7, 0, 1, ..; row 1 holds 7, 6, .. 0, 7, ..; the rest is 0. "
		"3 = 2 + 1: the lowest two bits in lines 0 and 1 (4 fields a byte), bit 2 in line 2 (8 fields). Byte 0 of line 0 is row 0, k = 0: "
		"columns 0, 4, 8, 12 with codes 0, 4, 0, 4, whose low two bits are 0.\n",
		code_example(3, ramp),
		"## Two-level scales\n",
		"Three rows, one group, scale codes of 3 bits: 5, 2, 7. Mask k holds bit k of every row's code: bit 0 is set in rows 0 and 2.\n",
		two_level(),
		"## A sparse term\n",
		"18 rows, 5000 columns: two row tiles, two column blocks, four lists. (0, 3) = 1.5, (2, 3) = -2, (0, 4096) = 0.25, (17, 1) = 3 "
		"([sparse](terms/sparse.md)). Lists 0 and 1 are of rows 0..15, lists 2 and 3 of rows 16 and 17.\n",
		sparse_example(),
		"## An affine product\n",
		"[numerics.md](numerics.md), section 4, one run of 32 columns, four of them used.\n",
		quantization(),
		"## Sixteen lanes\n",
		tree(),
		"## Canary input\n",
		"Seed 7 ([numerics.md](numerics.md), section 8).\n",
		canary(),
	]
	return "\n".join(parts)


def main():
	text = page()
	if sys.argv[1:] == ["--check"]:
		if not PAGE.exists() or PAGE.read_text() != text:
			print("spec/examples.md is not what make_examples.py writes")
			return 1
		return 0
	PAGE.write_text(text)
	return 0


if __name__ == "__main__":
	sys.exit(main())
