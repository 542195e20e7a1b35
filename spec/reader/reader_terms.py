# The kinds of term and transform: what planes they have, their rules, their meaning.
#
# One class a kind, after its page in spec/terms/ or spec/transforms/.  A class says which
# planes there must be (planes), proves what a reader needs to stay in range (bind), checks
# the rules on values (check_values), and gives the matrix (values) and the product (apply)
# for a list of rows.
#
# SPDX-License-Identifier: Apache-2.0

import numpy as np

import reader_numerics as numerics
from reader_bytes import ceil_div, need, unsupported

DTYPE_NAMES = {1: "f32", 2: "f16", 3: "bf16", 4: "u8", 5: "u16", 6: "u32", 7: "i8"}
F32, F16, BF16, U8, U16, U32, I8 = range(1, 8)
DTYPE_NBYTES = {F32: 4, F16: 2, BF16: 2, U8: 1, U16: 2, U32: 4, I8: 1}
(VALUES, CODES, SCALES, ZEROS, ZERO_CODES, SECOND_LEVEL, INDEX, OFFSETS,
 SCALE_CODES) = range(1, 10)
ROWS, TILE16, SLICE16, LIST = range(1, 5)


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


class Dense:
	name, kind, used_params, integer = "dense", 1, 1, False

	def __init__(self, param, m, n):
		self.m, self.n, self.dtype = m, n, param[0]
		need(self.dtype in (F32, F16, BF16), "dense.1", f"dtype {self.dtype}")

	def planes(self):
		return [(VALUES, ROWS, self.dtype, self.m * self.n)]

	def bind(self, planes):
		self.matrix = numbers(planes[0], self.dtype, self.m * self.n).reshape(self.m, self.n)

	def check_values(self):
		pass

	def values(self, rows):
		return self.matrix[rows].astype(np.float32)

	def apply(self, rows, x):
		return numerics.apply_dense(self.values(rows), x)


# (bits of the part, lines it takes, fields of a byte, columns a line spans)
_PARTS = {8: (8, 8, 1, 4), 4: (4, 4, 2, 8), 2: (2, 2, 4, 16), 1: (1, 1, 8, 32)}


def _parts_of(bits):
	return [part for part in (8, 4, 2, 1) if bits & part]


class Affine:
	name, kind, used_params, integer = "affine", 2, 6, True

	def __init__(self, param, m, n):
		self.m, self.n = m, n
		self.bits, self.group_size, self.scale_mode, self.zero_mode = param[0:4]
		self.scale_bits, self.zero_bits = param[4:6]
		need(1 <= self.bits <= 8, "affine.1", f"bits {self.bits}")
		g = self.group_size
		need(g in (0, 16) or (g % 32 == 0 and g <= 2 ** 20), "affine.2", f"group_size {g}")
		need((self.scale_mode, self.zero_mode) in ((0, 0), (0, 1), (0, 2), (1, 3)), "affine.3",
		     f"scale_mode {self.scale_mode} with zero_mode {self.zero_mode}")
		if self.scale_mode == 1:
			need(1 <= self.scale_bits <= 8 and 1 <= self.zero_bits <= 8, "affine.4",
			     f"scale_bits {self.scale_bits}, zero_bits {self.zero_bits}")
		else:
			need(self.scale_bits == 0 and self.zero_bits == 0, "affine.4",
			     "scale_bits or zero_bits without two levels")
		self.groups = ceil_div(n, g) if g else 1
		self.blocks, self.tiles = ceil_div(n, 32), ceil_div(m, 16)

	def planes(self):
		cells = self.tiles * self.groups
		wanted = [(CODES, SLICE16, U8, self.tiles * self.blocks * 64 * self.bits)]
		if self.scale_mode == 0:
			wanted.append((SCALES, TILE16, F16, cells * 16))
			if self.zero_mode == 1:
				wanted.append((ZEROS, TILE16, U8, cells * 16))
			elif self.zero_mode == 2:
				wanted.append((ZEROS, TILE16, F16, cells * 16))
		else:
			wanted.append((SCALE_CODES, SLICE16, U16, cells * self.scale_bits))
			wanted.append((ZERO_CODES, SLICE16, U16, cells * self.zero_bits))
			wanted.append((SECOND_LEVEL, TILE16, F16, cells * 4))
		return wanted

	def bind(self, planes):
		self.codes = self._unpack_codes(planes[0])
		shape = (self.tiles, self.groups, 16)
		count = self.tiles * self.groups * 16
		if self.scale_mode == 1:
			self._bind_two_level(planes)
			return
		self.scale_bits_stored = raw_bits(planes[1], F16, count).reshape(shape)
		self.scales = numbers(planes[1], F16, count).reshape(shape)
		if self.zero_mode == 0:
			self.zero_bits_stored = np.zeros(shape, np.uint8)
			self.zeros = np.full(shape, 2 ** (self.bits - 1), np.int64)
		else:
			dtype = U8 if self.zero_mode == 1 else F16
			self.zero_bits_stored = raw_bits(planes[2], dtype, count).reshape(shape)
			self.zeros = numbers(planes[2], dtype, count).reshape(shape)

	def _bind_two_level(self, planes):
		cells = self.tiles * self.groups
		self.scale_bits_stored = self._unpack_masks(planes[1], self.scale_bits)
		self.zero_bits_stored = self._unpack_masks(planes[2], self.zero_bits)
		self.second = numbers(planes[3], F16, cells * 4).reshape(self.tiles, self.groups, 4, 1)
		with np.errstate(invalid="ignore", over="ignore"):
			second = np.moveaxis(self.second, 2, 0)
			q_s = self.scale_bits_stored.astype(np.float32)
			q_z = self.zero_bits_stored.astype(np.float32)
			self.scales = (q_s - second[1]) * second[0]
			self.zeros = (q_z - second[3]) * second[2]

	def _unpack_masks(self, plane, bits):
		cells = self.tiles * self.groups
		masks = numbers(plane, U16, cells * bits).astype(np.int64).reshape(cells, bits, 1)
		row = np.arange(16)
		code = sum(((masks[:, k] >> row) & 1) << k for k in range(bits))
		return code.reshape(self.tiles, self.groups, 16)

	def _unpack_codes(self, plane):
		"""[tiles * 16, blocks * 32] codes, padding included."""
		count = self.tiles * self.blocks * self.bits * 64
		lines = numbers(plane, U8, count).reshape(self.tiles, self.blocks, self.bits, 16, 4)
		codes = np.zeros((self.tiles, self.blocks, 16, 32), np.int64)
		line_first, shift = 0, 0
		for part in _parts_of(self.bits):
			width, line_count, fields, span = _PARTS[part]
			for line in range(line_count):
				for f in range(fields):
					for k in range(4):
						field = (lines[:, :, line_first + line, :, k] >> (f * width)) & (2 ** width - 1)
						codes[..., span * line + 4 * f + k] |= field.astype(np.int64) << shift
			line_first, shift = line_first + line_count, shift + part
		return codes.transpose(0, 2, 1, 3).reshape(self.tiles * 16, self.blocks * 32)

	def check_values(self):
		rule, m, n = "affine.5", self.m, self.n
		need(not self.codes[m:].any() and not self.codes[:, n:].any(), rule, "a padding code is not 0")
		for stored in (self.scale_bits_stored, self.zero_bits_stored):
			by_row = stored.transpose(0, 2, 1).reshape(self.tiles * 16, self.groups)
			need(not by_row[m:].any(), rule, "a scale or zero of a padding row is not 0")
		need(np.isfinite(self.scales).all(), rule, "a scale is not finite")
		need(np.isfinite(self.zeros).all(), rule, "a zero-point is not finite")
		if self.scale_mode == 1:
			need(np.isfinite(self.second).all(), rule, "a second-level scale or zero is not finite")
		if self.zero_mode == 1:
			need((self.zeros <= 2 ** self.bits - 1).all(), rule, "an integer zero-point is above the codes")

	def _by_row(self, table, rows):
		return table.transpose(0, 2, 1).reshape(self.tiles * 16, self.groups)[rows]

	def values(self, rows):
		group = np.arange(self.n) // (self.group_size or self.n)
		scale = self._by_row(self.scales, rows)[:, group].astype(np.float32)
		zero = self._by_row(self.zeros, rows)[:, group].astype(np.float32)
		code = self.codes[rows, :self.n].astype(np.float32)
		with np.errstate(invalid="ignore", over="ignore"):
			return scale * (code - zero)

	def apply(self, rows, x):
		return numerics.apply_affine(self.codes[rows, :self.n], self._by_row(self.scales, rows),
		                             self._by_row(self.zeros, rows), self.zero_mode in (0, 1),
		                             self.group_size, x)


class Sparse:
	name, kind, used_params, integer = "sparse", 5, 2, False

	def __init__(self, param, m, n):
		self.m, self.n, self.count = m, n, param[1]
		if param[0] != 1:
			raise unsupported("sparse.1", f"form {param[0]}")
		need(self.count != 0, "sparse.1", "value_count is 0")
		self.tiles, self.blocks = ceil_div(m, 16), ceil_div(n, 4096)

	def planes(self):
		return [(OFFSETS, LIST, U32, self.tiles * self.blocks + 1),
		        (INDEX, LIST, U16, self.count), (VALUES, LIST, F16, self.count)]

	def bind(self, planes):
		self.offsets = numbers(planes[0], U32, self.tiles * self.blocks + 1).astype(np.int64)
		need(self.offsets[0] == 0 and (np.diff(self.offsets) >= 0).all()
		     and self.offsets[-1] == self.count, "sparse.2", "the offsets do not ascend from 0 to value_count")
		self.index = numbers(planes[1], U16, self.count).astype(np.int64)
		self.value = numbers(planes[2], F16, self.count)
		lists = np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))
		self.lists = lists
		self.row = lists // self.blocks * 16 + self.index % 16
		self.column = lists % self.blocks * 4096 + self.index // 16

	def check_values(self):
		same = np.diff(self.lists) == 0
		need((np.diff(self.index)[same] > 0).all(), "sparse.3", "the index of a list does not ascend")
		need((self.row < self.m).all() and (self.column < self.n).all(), "sparse.4",
		     "an entry lies outside of the matrix")
		need(np.isfinite(self.value).all(), "sparse.4", "a value is not finite")

	def values(self, rows):
		full = np.zeros((self.tiles * 16, self.blocks * 4096), np.float32)
		full[self.row, self.column] = self.value
		return full[rows, :self.n]

	def apply(self, rows, x):
		entries = []
		for i in rows:
			mine = np.flatnonzero(self.row == i)
			mine = mine[np.argsort(self.column[mine], kind="stable")]
			entries.append([(self.column[e], self.value[e]) for e in mine])
		return numerics.apply_sparse(entries, x)


class Columns:
	name, kind, used_params, integer = "columns", 6, 2, False

	def __init__(self, param, m, n):
		self.m, self.n, self.dtype, self.count = m, n, param[0], param[1]
		need(self.dtype in (F16, BF16), "columns.1", f"dtype {self.dtype}")
		need(1 <= self.count <= n, "columns.1", f"column_count {self.count}")
		self.tiles = ceil_div(m, 16)

	def planes(self):
		return [(INDEX, LIST, U32, self.count), (VALUES, TILE16, self.dtype, self.tiles * self.count * 16)]

	def bind(self, planes):
		self.index = numbers(planes[0], U32, self.count).astype(np.int64)
		need((np.diff(self.index) > 0).all() and self.index[-1] < self.n, "columns.2",
		     "the columns do not ascend below n")
		count = self.tiles * self.count * 16
		order = (self.tiles, self.count, 16)
		by_row = lambda a: a.reshape(order).transpose(0, 2, 1).reshape(self.tiles * 16, self.count)
		self.value = by_row(numbers(planes[1], self.dtype, count))
		self.stored_bits = by_row(raw_bits(planes[1], self.dtype, count))

	def check_values(self):
		need(not self.stored_bits[self.m:].any(), "columns.3", "a value of a padding row is not 0")
		need(np.isfinite(self.value).all(), "columns.3", "a value is not finite")

	def values(self, rows):
		out = np.zeros((len(rows), self.n), np.float32)
		out[:, self.index] = self.value[rows]
		return out

	def apply(self, rows, x):
		return numerics.apply_columns(self.value[rows], self.index, x)


class Permute:
	name, kind, used_params = "permute", 1, 0

	def __init__(self, param, m, n):
		self.n = n

	def planes(self):
		return [(INDEX, LIST, U32, self.n)]

	def bind(self, planes):
		self.index = numbers(planes[0], U32, self.n).astype(np.int64)
		need((self.index < self.n).all(), "permute.1", "an index is not below n")

	def check_values(self):
		need(np.unique(self.index).size == self.n, "permute.2", "a number occurs twice")

	def forward(self, x):
		return x[self.index]

	def undo(self, stored):
		"""The columns of the terms' sum -> the columns of the weight."""
		out = np.empty_like(stored)
		out[:, self.index] = stored
		return out


TERMS = {c.kind: c for c in (Dense, Affine, Sparse, Columns)}
TRANSFORMS = {c.kind: c for c in (Permute,)}
RESERVED_TERMS = {3: "codebook", 4: "ternary", 7: "lowrank"}
RESERVED_TRANSFORMS = {2: "scale", 3: "shift"}
