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
from reader_codes import Codebook, Ternary
from reader_planes import (BF16, CODES, COUNTS, DTYPE_NBYTES, F16, F32, INDEX, LIST, OFFSETS, ROWS, SCALE_CODES,
                           SCALES, SECOND_LEVEL, SLICE16, TILE16, U16, U32, U8, VALUES, ZERO_CODES, ZEROS, numbers,
                           raw_bits, unpack_slices)

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
		self.codes = unpack_slices(planes[0], self.bits, self.tiles, self.blocks)
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
		                             self._by_row(self.zeros, rows), self.group_size, x, self.rule)


class SparseLists:
	name, kind, used_params, integer = "sparse", 5, 2, False

	def __init__(self, param, m, n):
		self.m, self.n, self.count = m, n, param[1]
		self.tiles, self.blocks = ceil_div(m, 16), ceil_div(n, 4096)

	def planes(self):
		lists = self.tiles * self.blocks
		return [(OFFSETS, LIST, U32, lists + 1), (COUNTS, LIST, U16, lists * 16),
		        (INDEX, LIST, U16, self.count + 32), (VALUES, LIST, F16, self.count + 32)]

	def bind(self, planes):
		lists = self.tiles * self.blocks
		offsets = numbers(planes[0], U32, lists + 1).astype(np.int64)
		need(offsets[0] == 0 and (np.diff(offsets) >= 0).all()
		     and offsets[-1] == self.count, "sparse.2", "the offsets do not ascend from 0 to value_count")
		counts = numbers(planes[1], U16, lists * 16).astype(np.int64).reshape(lists, 16)
		need((counts <= 4096).all() and (counts.sum(1) == np.diff(offsets)).all(), "sparse.2",
		     "the counts of a list do not add up")
		index = numbers(planes[2], U16, self.count + 32).astype(np.int64)
		value = numbers(planes[3], F16, self.count + 32)
		self.counts, self.behind = counts, index[self.count:].any() or np.frombuffer(value[self.count:].tobytes(), np.uint8).any()
		self.index, self.value = index[:self.count], value[:self.count]
		# of every entry: its list, and its row in the tile
		self.lists = np.repeat(np.arange(lists), np.diff(offsets))
		in_tile = [row for l in range(lists) for layer in range(counts[l].max())
		           for row in range(16) if counts[l, row] > layer]
		self.row = self.lists // self.blocks * 16 + np.array(in_tile, np.int64)
		self.column = self.lists % self.blocks * 4096 + self.index

	def check_values(self):
		order = np.lexsort((np.arange(self.count), self.row, self.lists))
		same = (np.diff(self.row[order]) == 0) & (np.diff(self.lists[order]) == 0)
		need((self.index < 4096).all() and (self.column < self.n).all()
		     and (self.row < self.m).all(), "sparse.4", "an entry lies outside of the matrix")
		need((np.diff(self.index[order])[same] > 0).all(), "sparse.3", "the columns of a row do not ascend")
		need(np.isfinite(self.value).all(), "sparse.4", "a value is not finite")
		need(not self.behind, "sparse.4", "something behind the last entry")

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


class SparseMask:
	"""Forms 2 and 3."""
	name, kind, used_params = "sparse", 5, 7

	def __init__(self, param, m, n):
		self.m, self.n = m, n
		self.form, self.count, self.bits, self.group_size, self.zero_mode = param[:5]
		self.keep, self.pattern = param[5:7]
		g = self.group_size
		need(self.bits <= 8 and g % 32 == 0 and g <= 2 ** 20 and self.zero_mode <= 1, "sparse.5", "bits, group_size or zero_mode")
		need(self.bits or (g == 0 and self.zero_mode == 0), "sparse.5", "f16 values have no groups")
		if self.form == 2:
			need(self.keep == 0 and self.pattern == 0, "sparse.6", "a pattern in form 2")
		else:
			need(2 <= self.pattern <= 32 and n % self.pattern == 0 and 1 <= self.keep < self.pattern
			     and self.count == m * (n // self.pattern) * self.keep, "sparse.6", "the pattern")
		self.integer = self.bits != 0
		self.groups = ceil_div(n, g) if g else 1
		self.tiles, self.blocks = ceil_div(m, 16), ceil_div(n, 32)

	def planes(self):
		wanted = [(INDEX, SLICE16, U8, self.tiles * self.blocks * 64)]
		if self.form == 2:
			wanted.append((OFFSETS, LIST, U32, self.tiles + 1))
		if not self.bits:
			return wanted + [(VALUES, LIST, F16, self.count + 640)]
		cells = self.tiles * self.groups * 16
		wanted += [(CODES, LIST, U8, (self.count // 64 + 10) * 8 * self.bits), (SCALES, TILE16, F16, cells)]
		return wanted + ([(ZEROS, TILE16, U8, cells)] if self.zero_mode else [])

	def bind(self, planes):
		masks = np.frombuffer(planes[0], "u1", self.tiles * self.blocks * 64)
		bits = np.unpackbits(masks, bitorder="little").reshape(self.tiles, self.blocks * 8, 64)
		rest = planes[1:]
		if self.form == 2:
			self.offsets = numbers(rest.pop(0), U32, self.tiles + 1).astype(np.int64)
			need(self.offsets[0] == 0 and (np.diff(self.offsets) >= 0).all()
			     and self.offsets[-1] == self.count, "sparse.2", "the offsets do not ascend from 0 to value_count")
		else:
			rows = np.minimum(np.arange(self.tiles + 1) * 16, self.m)
			self.offsets = rows * (self.n // self.pattern) * self.keep
		self.bits_by_tile = bits.reshape(self.tiles, -1).sum(axis=1, dtype=np.int64)
		# the number of the value of every bit, counted from its tile's first
		flat = bits.reshape(self.tiles, -1).astype(np.int64)
		number = (np.cumsum(flat, axis=1) - 1 + self.offsets[:-1, None]).reshape(bits.shape)
		shape = (self.tiles, self.blocks * 8, 16, 4)
		def by_place(a):
			"""[tiles, lines, 64 bits] -> [tiles * 16, columns]"""
			a = a.reshape(shape) if self.bits else a.reshape(self.tiles, self.blocks * 8, 4, 16).transpose(0, 1, 3, 2)
			return a.transpose(0, 2, 1, 3).reshape(self.tiles * 16, self.blocks * 32)
		self.present, self.number = by_place(bits).astype(bool), by_place(number)
		self.unpacked = self._bind_codes(rest) if self.bits else self._bind_values(rest[0])

	def _bind_values(self, plane):
		self.behind = raw_bits(plane, F16, self.count + 640)[self.count:]
		self.finite = np.isfinite(numbers(plane, F16, self.count)).all()
		return numbers(plane, F16, self.count + 640)

	def _bind_codes(self, planes):
		sections, cells = self.count // 64 + 10, (self.tiles, self.groups, 16)
		words = np.frombuffer(planes[0], "u1", sections * 8 * self.bits).reshape(sections, self.bits, 8)
		by_bit = np.unpackbits(words, axis=2, bitorder="little").astype(np.int64)
		codes = sum(by_bit[:, b] << b for b in range(self.bits)).reshape(-1)
		self.behind = codes[self.count:]
		by_row = lambda a: a.reshape(cells).transpose(0, 2, 1).reshape(self.tiles * 16, self.groups)
		count = self.tiles * self.groups * 16
		self.scales, self.scale_bits = by_row(numbers(planes[1], F16, count)), by_row(raw_bits(planes[1], F16, count))
		self.finite = np.isfinite(self.scales).all()
		self.zeros = (by_row(numbers(planes[2], U8, count)).astype(np.int64) if self.zero_mode
		              else np.full((self.tiles * 16, self.groups), 2 ** (self.bits - 1)))
		return codes

	def check_values(self):
		need(not self.present[self.m:].any() and not self.present[:, self.n:].any(), "sparse.7", "a bit outside of the matrix")
		need((self.bits_by_tile == np.diff(self.offsets)).all(), "sparse.7", "a tile has not as many bits as values")
		if self.form == 3:
			per_pattern = self.present[:self.m, :self.n].reshape(self.m, -1, self.pattern).sum(axis=2)
			need((per_pattern == self.keep).all(), "sparse.7", "the count of a pattern")
		need(self.finite, "sparse.8", "a value or scale is not finite")
		need(not self.behind.any(), "sparse.8", "something behind the last value")
		if self.bits:
			need(not self.scale_bits[self.m:].any(), "sparse.8", "a scale of a padding row is not 0")
			need((self.zeros < 2 ** self.bits).all(), "sparse.8", "a zero-point is above the codes")
			need(self.zero_mode == 0 or not self.zeros[self.m:].any(), "sparse.8", "a zero-point of a padding row is not 0")

	def _spread(self, table, rows):
		return table[rows][:, np.arange(self.n) // (self.group_size or self.n)]

	def _here(self, rows):
		"""(present, stored numbers) of rows, [rows, n]."""
		present = self.present[rows, :self.n]
		return present, self.unpacked[np.where(present, self.number[rows, :self.n], 0)]

	def values(self, rows):
		present, found = self._here(rows)
		if self.bits:
			centred = found.astype(np.float32) - self._spread(self.zeros, rows).astype(np.float32)
			found = self._spread(self.scales, rows).astype(np.float32) * centred
		return np.where(present, found, np.float32(0)).astype(np.float32)

	def apply(self, rows, x):
		present, found = self._here(rows)
		if not self.bits:
			return numerics.apply_sparse([[(j, found[i, j]) for j in np.flatnonzero(present[i])]
			                              for i in range(len(rows))], x)
		# a code equal to the zero-point adds (z - z) q = 0, as an absent one does
		codes = np.where(present, found, self._spread(self.zeros, rows))
		return numerics.apply_affine(codes, self.scales[rows], self.zeros[rows], self.group_size, x,
		                             self.rule, numerics.GROUP32)


def sparse(param, m, n):
	if param[0] not in (1, 2, 3):
		raise unsupported("sparse.1", f"form {param[0]}")
	need(param[1] != 0, "sparse.1", "value_count is 0")
	kind = SparseLists if param[0] == 1 else SparseMask
	need(not any(param[kind.used_params:]), "weight.3", "unused parameters")
	return kind(param, m, n)


sparse.name, sparse.kind, sparse.used_params = "sparse", 5, 7


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


class Lowrank:
	name, kind, used_params, integer = "lowrank", 7, 2, False

	def __init__(self, param, m, n):
		self.m, self.n, self.dtype, self.rank = m, n, param[0], param[1]
		need(self.dtype in (F16, BF16), "lowrank.1", f"dtype {self.dtype}")
		need(1 <= self.rank <= 1024, "lowrank.1", f"rank {self.rank}")
		self.tiles = ceil_div(m, 16)

	def planes(self):
		return [(VALUES, ROWS, self.dtype, self.rank * self.n), (VALUES, TILE16, self.dtype, self.tiles * self.rank * 16)]

	def bind(self, planes):
		count = self.tiles * self.rank * 16
		by_row = lambda a: a.reshape(self.tiles, self.rank, 16).transpose(0, 2, 1).reshape(self.tiles * 16, self.rank)
		self.v = numbers(planes[0], self.dtype, self.rank * self.n).reshape(self.rank, self.n)
		self.u = by_row(numbers(planes[1], self.dtype, count))
		self.stored_bits = by_row(raw_bits(planes[1], self.dtype, count))

	def check_values(self):
		need(not self.stored_bits[self.m:].any(), "lowrank.2", "a value of a padding row is not 0")
		need(np.isfinite(self.u).all() and np.isfinite(self.v).all(), "lowrank.2", "a value is not finite")

	def values(self, rows):
		w = np.zeros((len(rows), self.n), np.float32)
		for k in range(self.rank):
			w = numerics.fma(self.u[rows, k][:, None], self.v[k][None, :], w)
		return w

	def apply(self, rows, x):
		h = numerics.apply_dense(self.v.astype(np.float32), x)
		return numerics.apply_columns(self.u[rows], range(self.rank), h)


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


class Scale:
	name, kind, used_params = "scale", 2, 0

	def __init__(self, param, m, n):
		self.n = n

	def planes(self):
		return [(SCALES, LIST, F32, self.n)]

	def bind(self, planes):
		self.factor = numbers(planes[0], F32, self.n)

	def check_values(self):
		need(np.isfinite(self.factor).all() and (self.factor != 0).all(), "scale.1", "a factor is 0 or not finite")

	def forward(self, x):
		return np.asarray(x, np.float32) * self.factor

	def undo(self, stored):
		return stored * self.factor


class Shift:
	name, kind, used_params = "shift", 3, 0

	def __init__(self, param, m, n):
		self.m, self.n = m, n

	def planes(self):
		return [(ZEROS, LIST, F32, self.n), (VALUES, LIST, F32, self.m)]

	def bind(self, planes):
		self.zero, self.bias = numbers(planes[0], F32, self.n), numbers(planes[1], F32, self.m)

	def check_values(self):
		need(np.isfinite(self.zero).all() and np.isfinite(self.bias).all(), "shift.1", "a number is not finite")

	def forward(self, x):
		return np.asarray(x, np.float32) - self.zero

	def undo(self, stored):
		return stored


TERMS = {c.kind: c for c in (Dense, Affine, Codebook, Ternary, sparse, Columns, Lowrank)}
TRANSFORMS = {c.kind: c for c in (Permute, Scale, Shift)}
RESERVED_TERMS = {}
RESERVED_TRANSFORMS = {}
