# Numbers in planes: dtypes, roles and layouts of spec/weight.md, and the bit slices of affine.md.
#
# SPDX-License-Identifier: Apache-2.0

import numpy as np

F32, F16, BF16, U8, U16, U32, I8 = range(1, 8)
DTYPE_NBYTES = {F32: 4, F16: 2, BF16: 2, U8: 1, U16: 2, U32: 4, I8: 1}
(VALUES, CODES, SCALES, ZEROS, ZERO_CODES, SECOND_LEVEL, INDEX, OFFSETS,
 SCALE_CODES, COUNTS) = range(1, 11)
ROWS, TILE16, SLICE16, LIST, TRIT16 = range(1, 6)


def numbers(data, dtype, count):
	"""'count' stored numbers as integers (u8, u16, u32, i8) or widened to f32."""
	raw = {F32: "<f4", F16: "<f2", BF16: "<u2", U8: "u1", U16: "<u2", U32: "<u4", I8: "i1"}[dtype]
	stored = np.frombuffer(data, raw, count)
	if dtype == BF16:
		return (stored.astype(np.uint32) << 16).view(np.float32)
	with np.errstate(invalid="ignore"):
		return stored.astype(np.float32) if dtype == F16 else stored


def raw_bits(data, dtype, count):
	"""The same as unsigned bit patterns."""
	return np.frombuffer(data, {1: "u1", 2: "<u2", 4: "<u4"}[DTYPE_NBYTES[dtype]], count)


# (bits of the part, lines it takes, fields of a byte, columns a line spans)
_PARTS = {8: (8, 8, 1, 4), 4: (4, 4, 2, 8), 2: (2, 2, 4, 16), 1: (1, 1, 8, 32)}


def _parts_of(bits):
	return [part for part in (8, 4, 2, 1) if bits & part]


def unpack_slices(plane, bits, tiles, blocks):
	"""[tiles * 16, blocks * 32] codes of layout slice16, padding included."""
	lines = numbers(plane, U8, tiles * blocks * bits * 64).reshape(tiles, blocks, bits, 16, 4)
	codes = np.zeros((tiles, blocks, 16, 32), np.int64)
	line_first, shift = 0, 0
	for part in _parts_of(bits):
		width, line_count, fields, span = _PARTS[part]
		for line in range(line_count):
			for f in range(fields):
				for k in range(4):
					field = (lines[:, :, line_first + line, :, k] >> (f * width)) & (2 ** width - 1)
					codes[..., span * line + 4 * f + k] |= field.astype(np.int64) << shift
		line_first, shift = line_first + line_count, shift + part
	return codes.transpose(0, 2, 1, 3).reshape(tiles * 16, blocks * 32)
