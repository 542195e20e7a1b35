# Terms and transforms for the vectors: from plain numbers to planes, from the prose of spec/terms/.
#
# Every maker returns a dict for vector_writer.Vector with two extras: 'values', the matrix it
# stands for (Python floats that are binary32 numbers), and 'row', a function (i, x) that
# gives output i exactly by spec/numerics.md.
#
# SPDX-License-Identifier: Apache-2.0

import struct
from fractions import Fraction

import vector_numerics as exact

F32, F16, BF16, U8, U16, U32, I8 = range(1, 8)
VALUES, CODES, SCALES, ZEROS, ZERO_CODES, SECOND_LEVEL, INDEX, OFFSETS, SCALE_CODES, COUNTS = range(1, 11)
ROWS, TILE16, SLICE16, LIST, TRIT16 = range(1, 6)


class Random:
	"""Small and the same everywhere for ever."""

	def __init__(self, seed):
		self.state = seed * 2654435761 + 12345

	def below(self, limit):
		self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
		return (self.state >> 33) % limit

	def pick(self, low, high):
		return low + self.below(high - low + 1)

	def half(self, magnitude=1.0):
		"""A f16 number, never 0."""
		return half((self.pick(1, 2000)) / 1024 * magnitude * (1 if self.below(2) else -1))


def f32(value):
	"""A double, rounded once to binary32 (signs of zero kept)."""
	return struct.unpack("<f", struct.pack("<f", value))[0]


def half(value):
	return struct.unpack("<e", struct.pack("<e", value))[0]


def brain(value):
	"""A bf16 number near value (the low half of binary32 cut off)."""
	return struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0] & 0xffff0000))[0]


def encode(value, dtype):
	if dtype == F32:
		return struct.pack("<f", value)
	if dtype == F16:
		return struct.pack("<e", value)
	return struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0])[2:4]


def plane(role, layout, dtype, content):
	return {"role": role, "layout": layout, "dtype": dtype, "content": bytes(content)}


def random_matrix(rng, m, n, dtype):
	make = {F32: lambda: f32(rng.pick(-2 ** 23, 2 ** 23) / 2 ** 21), F16: rng.half,
	        BF16: lambda: brain(rng.pick(-2 ** 23, 2 ** 23) / 2 ** 21)}[dtype]
	return [[make() for _ in range(n)] for _ in range(m)]


def dense(matrix, dtype):
	content = b"".join(encode(v, dtype) for row in matrix for v in row)
	return {"kind": 1, "param": [dtype], "planes": [plane(VALUES, ROWS, dtype, content)], "values": matrix,
	        "row": lambda i, x, rule: exact.dot16([Fraction(v) for v in matrix[i]], x)}


# part: (lines, fields of a byte, columns a line spans), affine.md "Codes"
PARTS = {8: (8, 1, 4), 4: (4, 2, 8), 2: (2, 4, 16), 1: (1, 8, 32)}


def code_block(code, bits):
	"""64 * bits bytes of a block; code(row, column) gives the code, 0 in the padding."""
	out, shift = bytearray(), 0
	for part in (8, 4, 2, 1):
		if not bits & part:
			continue
		lines, fields, span = PARTS[part]
		for l in range(lines):
			for row in range(16):
				for k in range(4):
					out.append(sum((code(row, span * l + 4 * f + k) >> shift & (1 << part) - 1) << part * f
					               for f in range(fields)))
		shift += part
	return bytes(out)


def tiles_of(m):
	return range((m + 15) // 16)


def tile16(table, m, columns, encode_one):
	"""Plane content (tile, column, row) of table[row][column]; rows from m on are zero bits."""
	out = b""
	for tile in tiles_of(m):
		for column in range(columns):
			for row in range(16 * tile, 16 * tile + 16):
				out += encode_one(table[row][column]) if row < m else bytes(len(encode_one(0)))
	return out


def code_masks(table, m, groups, bits):
	"""Masks of u16: bit 'row' of mask k is bit k of the code of that row."""
	out = b""
	for tile in tiles_of(m):
		for group in range(groups):
			for k in range(bits):
				rows = range(16 * tile, min(16 * tile + 16, m))
				out += struct.pack("<H", sum((table[r][group] >> k & 1) << r - 16 * tile for r in rows))
	return out


def affine(rng, m, n, bits, group_size=32, zero_mode=0, scale_bits=0, zero_bits=0):
	groups = -(-n // group_size) if group_size else 1
	codes = [[rng.below(2 ** bits) for _ in range(n)] for _ in range(m)]
	for i, row in enumerate(codes):  # both ends of the range occur
		row[i % n], row[(i + 1) % n] = 0, 2 ** bits - 1
	code = lambda i, j: codes[i][j] if i < m and j < n else 0
	content = b"".join(code_block(lambda row, column: code(16 * t + row, 32 * b + column), bits)
	                   for t in tiles_of(m) for b in range((n + 31) // 32))
	planes = [plane(CODES, SLICE16, U8, content)]
	if zero_mode == 3:
		scales, zeros, more = two_level(rng, m, groups, scale_bits, zero_bits, bits)
	else:
		scales, zeros, more = one_level(rng, m, groups, zero_mode, bits)
	planes += more
	group_of = lambda j: j // group_size if group_size else 0
	values = [[f32(scales[i][group_of(j)] * f32(codes[i][j] - zeros[i][group_of(j)])) for j in range(n)]
	          for i in range(m)]
	rational = lambda row: [Fraction(v) for v in row]
	return {"kind": 2, "param": [bits, group_size, 1 if zero_mode == 3 else 0, zero_mode, scale_bits, zero_bits],
	        "planes": planes, "values": values,
	        "row": lambda i, x, rule: exact.affine_row(codes[i], rational(scales[i]), rational(zeros[i]),
	                                             group_size, x, rule, 32 if rule[0] == 1 else 256)}


def one_level(rng, m, groups, zero_mode, bits):
	scales = [[rng.half(0.125) for _ in range(groups)] for _ in range(m)]
	planes = [plane(SCALES, TILE16, F16, tile16(scales, m, groups, lambda v: encode(v, F16)))]
	if zero_mode == 0:
		return scales, [[2 ** (bits - 1)] * groups for _ in range(m)], planes
	if zero_mode == 1:
		zeros = [[rng.below(2 ** bits) for _ in range(groups)] for _ in range(m)]
		planes.append(plane(ZEROS, TILE16, U8, tile16(zeros, m, groups, lambda v: bytes([v]))))
	else:
		zeros = [[rng.half(2.0 ** bits) for _ in range(groups)] for _ in range(m)]
		planes.append(plane(ZEROS, TILE16, F16, tile16(zeros, m, groups, lambda v: encode(v, F16))))
	return scales, zeros, planes


def two_level(rng, m, groups, scale_bits, zero_bits, bits):
	scale_codes = [[rng.below(2 ** scale_bits) for _ in range(groups)] for _ in range(m)]
	zero_codes = [[rng.below(2 ** zero_bits) for _ in range(groups)] for _ in range(m)]
	second = [[(abs(rng.half(0.01)), rng.half(2.0), abs(rng.half(0.5)), rng.half(2.0)) for _ in range(groups)]
	          for _ in tiles_of(m)]
	scales = [[f32(f32(scale_codes[i][g] - second[i // 16][g][1]) * second[i // 16][g][0])
	           for g in range(groups)] for i in range(m)]
	zeros = [[f32(f32(zero_codes[i][g] - second[i // 16][g][3]) * second[i // 16][g][2])
	          for g in range(groups)] for i in range(m)]
	content = b"".join(encode(v, F16) for tile in second for group in tile for v in group)
	return scales, zeros, [
		plane(SCALE_CODES, SLICE16, U16, code_masks(scale_codes, m, groups, scale_bits)),
		plane(ZERO_CODES, SLICE16, U16, code_masks(zero_codes, m, groups, zero_bits)),
		plane(SECOND_LEVEL, TILE16, F16, content)]


def codebook(rng, m, n, bits, scale_mode=0, group_size=32, real=False, per_row=False):
	groups = -(-n // group_size) if group_size else 1
	codes = [[rng.below(2 ** bits) for _ in range(n)] for _ in range(m)]
	for i, row in enumerate(codes):  # both ends of the range occur
		row[i % n], row[(i + 1) % n] = 0, 2 ** bits - 1
	code = lambda i, j: codes[i][j] if i < m and j < n else 0
	content = b"".join(code_block(lambda row, column: code(16 * t + row, 32 * b + column), bits)
	                   for t in tiles_of(m) for b in range((n + 31) // 32))
	entry = (lambda: f32(rng.pick(-2 ** 23, 2 ** 23) / 2 ** 22)) if real else lambda: rng.pick(-128, 127)
	pack_entry = (lambda v: encode(v, F32)) if real else lambda v: struct.pack("<b", v)
	tables = [[entry() for _ in range(2 ** bits)] for _ in range(m if per_row else 1)]
	dtype = F32 if real else I8
	planes = [plane(CODES, SLICE16, U8, content),
	          plane(VALUES, TILE16, dtype, tile16(tables, m, 2 ** bits, pack_entry)) if per_row else
	          plane(VALUES, LIST, dtype, b"".join(map(pack_entry, tables[0])))]
	scales = [[1.0] * groups for _ in range(m)]
	if scale_mode == 0:
		scales = [[rng.half(0.125) for _ in range(groups)] for _ in range(m)]
		planes.append(plane(SCALES, TILE16, F16, tile16(scales, m, groups, lambda v: encode(v, F16))))
	elif scale_mode == 2:
		scale_codes = [[rng.below(256) for _ in range(groups)] for _ in range(m)]
		level = [(abs(rng.half(0.01)), rng.half(100.0)) for _ in tiles_of(m)]
		scales = [[f32(f32(q - level[i // 16][1]) * level[i // 16][0]) for q in row]
		          for i, row in enumerate(scale_codes)]
		planes.append(plane(SCALE_CODES, TILE16, U8, tile16(scale_codes, m, groups, lambda v: bytes([v]))))
		planes.append(plane(SECOND_LEVEL, TILE16, F16, b"".join(encode(v, F16) for pair in level for v in pair)))
	e = [[tables[i if per_row else 0][codes[i][j]] for j in range(n)] for i in range(m)]
	group_of = lambda j: j // group_size if group_size else 0
	values = [[f32(scales[i][group_of(j)] * e[i][j]) for j in range(n)] for i in range(m)]
	if real:
		row = lambda i, x, rule: exact.listed_row([(j, Fraction(v)) for j, v in enumerate(values[i])], x)
	else:
		row = lambda i, x, rule: exact.affine_row(e[i], [Fraction(v) for v in scales[i]], [0] * groups, group_size, x, rule)
	return {"kind": 3, "integer": not real, "planes": planes, "values": values, "row": row,
	        "param": [bits, group_size, scale_mode, dtype, int(per_row)]}


def trit_lines(trit, lines):
	"""Lines of one tile; trit(row, column) gives None for a row that is not there."""
	out = bytearray()
	for l in range(lines):
		for row in range(16):
			for k in range(4):
				five = [trit(row, 20 * l + 4 * f + k) for f in range(5)]
				value = None if five[0] is None else sum((d + 1) * 3 ** (4 - f) for f, d in enumerate(five))
				out.append(0 if value is None else -(-value * 256 // 243))
	return bytes(out)


def ternary(rng, m, n):
	trits = [[rng.below(3) - 1 for _ in range(n)] for _ in range(m)]
	scales = [f32(rng.pick(1, 2 ** 23) / 2 ** 25) for _ in range(m)]
	content = b"".join(trit_lines(lambda row, j: None if 16 * t + row >= m else trits[16 * t + row][j] if j < n else 0,
	                              (n + 19) // 20) for t in tiles_of(m))
	return {"kind": 4, "integer": True, "param": [],
	        "planes": [plane(CODES, TRIT16, U8, content),
	                   plane(SCALES, TILE16, F32, tile16([[s] for s in scales], m, 1, lambda v: encode(v, F32)))],
	        "values": [[f32(scales[i] * d) for d in row] for i, row in enumerate(trits)],
	        "row": lambda i, x, rule: exact.affine_row(trits[i], [Fraction(scales[i])], [0], 0, x, rule)}


def sparse(m, n, entries):
	"""entries: {(row, column): f16 value}."""
	blocks = (n + 4095) // 4096
	offsets, counts, index, values = [0], b"", b"", b""
	for tile in tiles_of(m):
		for block in range(blocks):
			rows = [sorted((j - 4096 * block, v) for (i, j), v in entries.items()
			               if i == 16 * tile + row and j // 4096 == block) for row in range(16)]
			counts += struct.pack("<16H", *map(len, rows))
			for layer in range(max(map(len, rows))):
				for column, value in (row[layer] for row in rows if len(row) > layer):
					index += struct.pack("<H", column)
					values += encode(value, F16)
			offsets.append(offsets[-1] + sum(map(len, rows)))
	matrix = [[entries.get((i, j), 0.0) for j in range(n)] for i in range(m)]
	in_row = lambda i: sorted((j, Fraction(v)) for (r, j), v in entries.items() if r == i)
	return {"kind": 5, "param": [1, len(entries)], "values": matrix,
	        "planes": [plane(OFFSETS, LIST, U32, struct.pack(f"<{len(offsets)}I", *offsets)), plane(COUNTS, LIST, U16, counts),
	                   plane(INDEX, LIST, U16, index + bytes(64)), plane(VALUES, LIST, F16, values + bytes(64))],
	        "row": lambda i, x, rule: exact.listed_row(in_row(i), x)}


def mask_bit(coded, row, k):
	return 4 * row + k if coded else 16 * k + row


def mask_planes(m, n, present, put, coded):
	"""
	(masks, offsets): lines of 16 rows by 4 columns; put(i, j) is called for every value in the
	order of the file.
	"""
	masks, offsets, count = b"", [0], 0
	for tile in tiles_of(m):
		for line in range((n + 31) // 32 * 8):
			at = {mask_bit(coded, row, k): (16 * tile + row, 4 * line + k) for row in range(16) for k in range(4)}
			bits = 0
			for bit in range(64):
				if at[bit] in present:
					bits |= 1 << bit
					put(*at[bit])
					count += 1
			masks += struct.pack("<Q", bits)
		offsets.append(count)
	return masks, offsets


def mask_codes(codes, bits):
	"""Sections of 64 codes, 'bits' words each, 10 more than floor(count / 64)."""
	out = b""
	for section in range(len(codes) // 64 + 10):
		part = codes[64 * section:64 * section + 64]
		for b in range(bits):
			out += struct.pack("<Q", sum((code >> b & 1) << i for i, code in enumerate(part)))
	return out


def sparse_mask(rng, m, n, present, bits=0, group_size=0, zero_mode=0, pattern=None):
	"""present: set of (row, column); pattern: (count, columns) for form 3."""
	groups = -(-n // group_size) if group_size else 1
	group_of = lambda j: j // group_size if group_size else 0
	value, code, stored = {}, {}, []
	for i, j in sorted(present):
		value[i, j], code[i, j] = rng.half(), rng.below(2 ** bits)
	masks, offsets = mask_planes(m, n, present, lambda i, j: stored.append((i, j)), bits != 0)
	planes = [plane(INDEX, SLICE16, U8, masks)]
	if not pattern:
		planes.append(plane(OFFSETS, LIST, U32, struct.pack(f"<{len(offsets)}I", *offsets)))
	param = [3 if pattern else 2, len(present), bits, group_size, zero_mode] + list(pattern or ())
	if not bits:
		content = b"".join(encode(value[at], F16) for at in stored) + bytes(2 * 640)
		planes.append(plane(VALUES, LIST, F16, content))
		in_row = lambda i: [(j, Fraction(value[i, j])) for j in range(n) if (i, j) in present]
		row = lambda i, x, rule: exact.listed_row(in_row(i), x)
	else:
		planes.append(plane(CODES, LIST, U8, mask_codes([code[at] for at in stored], bits)))
		scales, zeros, more = one_level(rng, m, groups, zero_mode, bits)
		planes += more
		for i, j in present:
			value[i, j] = f32(scales[i][group_of(j)] * f32(code[i, j] - zeros[i][group_of(j)]))
		# an absent position is a code equal to the zero-point: its part of the sum is 0
		whole = lambda i: [code.get((i, j), zeros[i][group_of(j)]) for j in range(n)]
		row = lambda i, x, rule: exact.affine_row(whole(i), [Fraction(s) for s in scales[i]], zeros[i], group_size, x, rule)
	matrix = [[value.get((i, j), 0.0) for j in range(n)] for i in range(m)]
	return {"kind": 5, "param": param, "planes": planes, "values": matrix, "row": row, "integer": bits != 0}


def lowrank(m, n, u, v, dtype):
	"""u: [m][r], v: [r][n]."""
	rank = len(v)
	def cell(i, j):
		w = Fraction(0)
		for k in range(rank):
			w = exact.fma(Fraction(u[i][k]), Fraction(v[k][j]), w)
		return float(w)
	def row(i, x, rule):
		h = [exact.dot16([Fraction(value) for value in v[k]], x) for k in range(rank)]
		return exact.listed_row([(k, Fraction(u[i][k])) for k in range(rank)], h)
	content = b"".join(encode(value, dtype) for line in v for value in line)
	return {"kind": 7, "param": [dtype, rank], "values": [[cell(i, j) for j in range(n)] for i in range(m)],
	        "planes": [plane(VALUES, ROWS, dtype, content),
	                   plane(VALUES, TILE16, dtype, tile16(u, m, rank, lambda value: encode(value, dtype)))],
	        "row": row}


def columns(m, n, index, table, dtype):
	"""table[row][k] is the value in column index[k]."""
	matrix = [[0.0] * n for _ in range(m)]
	for i in range(m):
		for k, j in enumerate(index):
			matrix[i][j] = table[i][k]
	return {"kind": 6, "param": [dtype, len(index)], "values": matrix,
	        "planes": [plane(INDEX, LIST, U32, struct.pack(f"<{len(index)}I", *index)),
	                   plane(VALUES, TILE16, dtype, tile16(table, m, len(index), lambda v: encode(v, dtype)))],
	        "row": lambda i, x, rule: exact.listed_row([(j, Fraction(table[i][k])) for k, j in enumerate(index)], x)}


def permute(order):
	order = list(order)
	return {"kind": 1, "param": [], "forward": lambda x: [x[j] for j in order],
	        "undo": lambda row: [row[order.index(j)] for j in range(len(row))],
	        "planes": [plane(INDEX, LIST, U32, struct.pack(f"<{len(order)}I", *order))]}


def scale(factors):
	"""factors: f32 numbers."""
	return {"kind": 2, "param": [], "forward": lambda x: [exact.fl(v * Fraction(s)) for v, s in zip(x, factors)],
	        "undo": lambda row: [f32(v * s) for v, s in zip(row, factors)],
	        "planes": [plane(SCALES, LIST, F32, struct.pack(f"<{len(factors)}f", *factors))]}


def shift(zeros, bias):
	"""zeros, bias: f32 numbers."""
	numbers = lambda role, values: plane(role, LIST, F32, struct.pack(f"<{len(values)}f", *values))
	return {"kind": 3, "param": [], "forward": lambda x: [exact.fl(v - Fraction(z)) for v, z in zip(x, zeros)],
	        "undo": lambda row: row, "bias": bias, "planes": [numbers(ZEROS, zeros), numbers(VALUES, bias)]}


def weight(name, terms, transforms=(), dim=None, flags=1, activation=None, activation_scale=0.0):
	m, n = len(terms[0]["values"]), len(terms[0]["values"][0])
	if activation is None:
		activation = int(any(t.get("integer", t["kind"] == 2) for t in terms))
	return {"name": name.encode(), "dim": dim or [m, n], "flags": flags, "terms": list(terms),
	        "transforms": list(transforms), "activation": activation, "activation_scale": activation_scale}


def meaning(w):
	"""The matrix of a weight: terms added in file order, the transforms undone."""
	total = [list(row) for row in w["terms"][0]["values"]]
	for term in w["terms"][1:]:
		total = [[f32(a + b) for a, b in zip(*rows)] for rows in zip(total, term["values"])]
	for transform in reversed(w["transforms"]):
		total = [transform["undo"](row) for row in total]
	return total


def canary(w, seed):
	"""(first, last): 16 + 16 bit patterns, numerics.md section 8."""
	m, n = len(w["terms"][0]["values"]), len(w["terms"][0]["values"][0])
	x = exact.canary_input(n, seed)
	for transform in w["transforms"]:
		x = transform["forward"](x)
	outputs = []
	for tile_first in (0, (m - 1) // 16 * 16):
		lanes = [0] * 16
		for i in range(tile_first, min(tile_first + 16, m)):
			y = None
			for term in w["terms"]:
				t = term["row"](i, x, (w["activation"], w["activation_scale"]))
				y = t if y is None else exact.fl(y + t)
			for transform in w["transforms"]:
				y = exact.fl(y + Fraction(transform["bias"][i])) if "bias" in transform else y
			lanes[i - tile_first] = exact.bits32(y)
		outputs.append(lanes)
	return outputs
