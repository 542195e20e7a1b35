# The kinds of term codebook and ternary (see reader_terms.py for what a class must have).
#
# SPDX-License-Identifier: Apache-2.0

import numpy as np

import reader_numerics as numerics
from reader_bytes import ceil_div, need
from reader_planes import (CODES, F16, F32, I8, LIST, SCALE_CODES, SCALES, SECOND_LEVEL, SLICE16, TILE16, TRIT16, U8,
                           VALUES, numbers, raw_bits, unpack_slices)


class Codebook:
	name, kind, used_params = "codebook", 3, 5

	def __init__(self, param, m, n):
		self.m, self.n = m, n
		self.bits, self.group_size, self.scale_mode, self.dtype, self.table_mode = param[0:5]
		need(2 <= self.bits <= 8, "codebook.1", f"bits {self.bits}")
		need(self.scale_mode in (0, 2, 3) and self.dtype in (I8, F32) and self.table_mode in (0, 1)
		     and (self.scale_mode != 3 or self.dtype == F32), "codebook.3",
		     f"scale_mode {self.scale_mode}, entry_dtype {self.dtype}, table_mode {self.table_mode}")
		g = self.group_size
		need(g == 0 or (self.scale_mode != 3 and (g == 16 or (g % 32 == 0 and g <= 2 ** 20))), "codebook.2",
		     f"group_size {g}")
		self.integer = self.dtype == I8
		self.groups = ceil_div(n, g) if g else 1
		self.entries = 2 ** self.bits
		self.blocks, self.tiles = ceil_div(n, 32), ceil_div(m, 16)

	def planes(self):
		wanted = [(CODES, SLICE16, U8, self.tiles * self.blocks * 64 * self.bits)]
		if self.table_mode == 0:
			wanted.append((VALUES, LIST, self.dtype, self.entries))
		else:
			wanted.append((VALUES, TILE16, self.dtype, self.tiles * self.entries * 16))
		cells = self.tiles * self.groups * 16
		if self.scale_mode == 0:
			wanted.append((SCALES, TILE16, F16, cells))
		elif self.scale_mode == 2:
			wanted += [(SCALE_CODES, TILE16, U8, cells), (SECOND_LEVEL, TILE16, F16, self.tiles * 2)]
		return wanted

	def _by_row(self, stored, columns):
		return stored.reshape(self.tiles, columns, 16).transpose(0, 2, 1).reshape(self.tiles * 16, columns)

	def bind(self, planes):
		self.codes = unpack_slices(planes[0], self.bits, self.tiles, self.blocks)
		self.padded = []  # bit patterns by row; those from m on must be 0
		if self.table_mode == 0:
			self.tables = np.tile(numbers(planes[1], self.dtype, self.entries), (self.tiles * 16, 1))
		else:
			count = self.tiles * self.entries * 16
			self.tables = self._by_row(numbers(planes[1], self.dtype, count), self.entries)
			self.padded.append(self._by_row(raw_bits(planes[1], self.dtype, count), self.entries))
		self.tables = self.tables.astype(np.float32)
		self.second = np.zeros(0, np.float32)
		if self.scale_mode == 3:
			self.scales = np.ones((self.tiles * 16, 1), np.float32)
			return
		dtype, cells = (F16 if self.scale_mode == 0 else U8), self.tiles * self.groups * 16
		self.scales = self._by_row(numbers(planes[2], dtype, cells), self.groups).astype(np.float32)
		self.padded.append(self._by_row(raw_bits(planes[2], dtype, cells), self.groups))
		if self.scale_mode == 2:
			self.second = numbers(planes[3], F16, self.tiles * 2).reshape(self.tiles, 2)
			level = np.repeat(self.second, 16, axis=0)
			with np.errstate(invalid="ignore", over="ignore"):
				self.scales = (self.scales - level[:, 1:2]) * level[:, 0:1]

	def check_values(self):
		rule, m, n = "codebook.4", self.m, self.n
		need(not self.codes[m:].any() and not self.codes[:, n:].any(), rule, "a padding code is not 0")
		for stored in self.padded:
			need(not stored[m:].any(), rule, "a scale or entry of a padding row is not 0")
		for table in (self.tables[:m], self.scales[:m], self.second):
			need(np.isfinite(table).all(), rule, "a scale or entry is not finite")

	def _entries_of(self, rows):
		return np.take_along_axis(self.tables[rows], self.codes[rows, :self.n], axis=1)

	def values(self, rows):
		if self.scale_mode == 3:
			return self._entries_of(rows)
		group = np.arange(self.n) // (self.group_size or self.n)
		with np.errstate(invalid="ignore", over="ignore"):
			return self.scales[rows][:, group] * self._entries_of(rows)

	def apply(self, rows, x):
		if not self.integer:
			return numerics.apply_columns(self.values(rows), np.arange(self.n), x)
		return numerics.apply_entries(self._entries_of(rows).astype(np.int64), self.scales[rows],
		                              self.group_size, x, self.rule)


class Ternary:
	name, kind, used_params, integer = "ternary", 4, 0, True

	def __init__(self, param, m, n):
		self.m, self.n = m, n
		self.lines, self.tiles = ceil_div(n, 20), ceil_div(m, 16)

	def planes(self):
		return [(CODES, TRIT16, U8, self.tiles * self.lines * 64), (SCALES, TILE16, F32, self.tiles * 16)]

	def bind(self, planes):
		stored = numbers(planes[0], U8, self.tiles * self.lines * 64).astype(np.int64)
		by_tile = stored.reshape(self.tiles, self.lines, 16, 4).transpose(0, 2, 1, 3)
		self.bytes = by_tile.reshape(self.tiles * 16, self.lines * 4)
		byte = by_tile.reshape(self.tiles * 16, self.lines, 1, 4)
		digits = np.concatenate([byte * 3 ** f % 256 * 3 // 256 for f in range(5)], axis=2)  # [row, line, f, k]
		self.trits = digits.reshape(self.tiles * 16, self.lines * 20) - 1
		self.scales = numbers(planes[1], F32, self.tiles * 16)
		self.scale_bits_stored = raw_bits(planes[1], F32, self.tiles * 16)

	def check_values(self):
		m, n = self.m, self.n
		listed = [-(-value * 256 // 243) for value in range(243)]
		need(np.isin(self.bytes[:m], listed).all(), "ternary.1", "a byte codes no five trits")
		need(not self.trits[:m, n:].any(), "ternary.1", "a padding trit is not 0")
		need(not self.bytes[m:].any() and not self.scale_bits_stored[m:].any(), "ternary.2",
		     "a byte or scale of a padding row is not 0")
		need(np.isfinite(self.scales).all(), "ternary.2", "a scale is not finite")

	def values(self, rows):
		return self.scales[rows][:, None] * self.trits[rows, :self.n].astype(np.float32)

	def apply(self, rows, x):
		return numerics.apply_entries(self.trits[rows, :self.n], self.scales[rows][:, None], 0, x, self.rule)
