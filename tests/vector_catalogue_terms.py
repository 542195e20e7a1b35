# The vectors of the kinds: dense, affine, sparse, columns, permute, sums; and of weight.md.
#
# SPDX-License-Identifier: Apache-2.0

import struct

import vector_terms as t
from vector_terms import BF16, F16, F32, Random
from vector_writer import Vector


def with_canaries(weights, seed=7):
	"""Keyword arguments for Vector: a canary for every weight of rank 2."""
	order = [w["name"] for w in Vector(weights).weights]
	canaries = []
	for w in weights:
		if len(w["dim"]) == 2:
			first, last = t.canary(w, seed)
			canaries.append((order.index(w["name"]), seed, first, last))
	return {"canaries": sorted(canaries)}


def good(folder, name, about, weights, canaries=True):
	return {"folder": folder, "name": f"good-{name}", "about": about, "weights": weights,
	        "extra": with_canaries(weights) if canaries else {}}


def bent(folder, name, rule, about, weights, change, stage="layout"):
	"""A vector that 'change(vector)' bends at 'stage'; bad-, unsupported-."""
	def bend(vector, at):
		if at == stage:
			change(vector)
	return {"folder": folder, "name": name, "rule": rule, "about": about, "weights": weights, "bend": bend}


def set_param(table, index, number, value):
	def change(vector):
		vector.tables[table][index]["param"][number] = value
	return change


def set_field(table, index, **values):
	def change(vector):
		vector.tables[table][index].update(values)
	return change


def poked(folder, name, rule, about, weights, plane, at, raw):
	"""One weight whose plane's content is changed before anything is sealed."""
	parts = weights[0]["transforms"] + weights[0]["terms"]
	planes = [p for part in parts for p in part["planes"]]
	content = bytearray(planes[plane]["content"])
	assert at + len(raw) <= len(content)
	content[at:at + len(raw)] = raw
	planes[plane]["content"] = bytes(content)
	return {"folder": folder, "name": name, "rule": rule, "about": about, "weights": weights}


# ---- dense ----

def dense_vectors():
	out, rng = [], Random(1)
	for dtype, name in ((F32, "f32"), (F16, "f16"), (BF16, "bf16")):
		weights = [t.weight("vector", [t.dense(t.random_matrix(rng, 1, 19, dtype), dtype)], dim=[19]),
		           t.weight("matrix", [t.dense(t.random_matrix(rng, 5, 7, dtype), dtype)]),
		           t.weight("tall", [t.dense(t.random_matrix(rng, 18, 3, dtype), dtype)])]
		out.append(good("dense", name, f"Dense {name}: a vector, a matrix, and one of two row tiles.", weights))
	specials = [0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x7f7fffff, 0x00800000, 0x7f800000, 0xff800000]
	w = t.weight("specials", [t.dense([[0.0] * 8], F32)], dim=[8])
	w["terms"][0]["planes"][0]["content"] = struct.pack("<8I", *specials)
	w["bits"] = [specials]
	out.append(good("dense", "f32-specials", "Zeros of both signs, subnormals and infinities come back bit for bit.", [w]))
	specials = [0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0x0400, 0x7c00, 0xfc00]
	widened = [0x00000000, 0x80000000, 0x33800000, 0xb87fc000, 0x477fe000, 0x38800000, 0x7f800000, 0xff800000]
	w = t.weight("specials", [t.dense([[0.0] * 8], F16)], dim=[8])
	w["terms"][0]["planes"][0]["content"] = struct.pack("<8H", *specials)
	w["bits"] = [widened]
	out.append(good("dense", "f16-specials", "Halves: zeros, subnormals, the largest, infinities.", [w]))
	one = lambda: [t.weight("w", [t.dense(t.random_matrix(rng, 2, 3, F32), F32)])]
	out += [
		bent("dense", "bad-dtype-u8", "dense.1", "The dtype parameter is u8.", one(), set_param("TERM", 0, 0, 4)),
		bent("dense", "bad-param", "weight.3", "Parameter 1, which dense does not use, is not 0.", one(), set_param("TERM", 0, 1, 1)),
		bent("dense", "bad-last-param", "weight.3", "The last parameter is not 0.", one(), set_param("TERM", 0, 23, 1)),
		bent("dense", "bad-role", "container.15", "The plane's role is codes.", one(), set_field("PLAN", 0, role=2)),
		bent("dense", "bad-layout", "container.15", "The plane's layout is tile16.", one(), set_field("PLAN", 0, layout=2)),
		bent("dense", "bad-activation", "weight.2", "A weight without an affine term has activation int8_group32.", one(),
		     set_field("WGHT", 0, activation=1)),
	]
	return out


# ---- affine ----

def affine_vectors():
	out, rng = [], Random(2)
	modes = [("symmetric", 0, 0, 0, "zero_mode 0"), ("u8-zeros", 1, 0, 0, "zero_mode 1"),
	         ("f16-zeros", 2, 0, 0, "zero_mode 2"), ("two-level", 3, 3, 4, "two-level scales of 3 bits and zeros of 4")]
	for name, zero_mode, scale_bits, zero_bits, about in modes:
		for bits in range(1, 9):
			w = t.weight("w", [t.affine(rng, 5, 40, bits, 32, zero_mode, scale_bits, zero_bits)])
			out.append(good("affine", f"{name}-{bits}", f"Codes of {bits} bits, {about}, a short last group.", [w]))
	for group_size, n in ((16, 40), (16, 56), (64, 100), (96, 100), (0, 50), (128, 20)):
		w = t.weight("w", [t.affine(rng, 3, n, 4, group_size, 2)])
		out.append(good("affine", f"group-{group_size}-n-{n}", f"Groups of {group_size or 'the whole row'} in {n} columns.", [w]))
	w = t.weight("w", [t.affine(rng, 35, 33, 3, 16, 1)])
	out.append(good("affine", "three-tiles", "35 rows: three row tiles, the last of 3 rows; one column in the second block.", [w]))
	for scale_bits, zero_bits in ((1, 1), (8, 8), (5, 2)):
		w = t.weight("w", [t.affine(rng, 17, 32, 2, 16, 3, scale_bits, zero_bits)])
		out.append(good("affine", f"two-level-{scale_bits}-{zero_bits}",
		                f"Scale codes of {scale_bits} bits and zero codes of {zero_bits}, two row tiles.", [w]))
	return out + affine_bad(rng)


def affine_bad(rng):
	four = lambda zero_mode=0, bits=4: [t.weight("w", [t.affine(rng, 3, 40, bits, 32, zero_mode)])]
	levels = lambda: [t.weight("w", [t.affine(rng, 3, 40, 4, 32, 3, 3, 4)])]
	nan, inf = b"\x00\x7e", b"\x00\x7c"
	param = lambda number, value: set_param("TERM", 0, number, value)
	return [
		bent("affine", "bad-bits-0", "affine.1", "bits is 0.", four(), param(0, 0)),
		bent("affine", "bad-bits-9", "affine.1", "bits is 9.", four(), param(0, 9)),
		bent("affine", "bad-group-8", "affine.2", "group_size is 8.", four(), param(1, 8)),
		bent("affine", "bad-group-48", "affine.2", "group_size is 48, no multiple of 32.", four(), param(1, 48)),
		bent("affine", "bad-group-large", "affine.2", "group_size is 2^20 + 32.", four(), param(1, 2 ** 20 + 32)),
		bent("affine", "bad-modes-0-3", "affine.3", "Two-level zeros with one-level scales.", four(), param(3, 3)),
		bent("affine", "bad-modes-1-0", "affine.3", "Two-level scales without two-level zeros.", levels(), param(3, 0)),
		bent("affine", "bad-scale-mode-2", "affine.3", "scale_mode is 2.", four(), param(2, 2)),
		bent("affine", "bad-scale-bits-unused", "affine.4", "scale_bits is 1 with scale_mode 0.", four(), param(4, 1)),
		bent("affine", "bad-scale-bits-0", "affine.4", "scale_bits is 0 with scale_mode 1.", levels(), param(4, 0)),
		bent("affine", "bad-zero-bits-9", "affine.4", "zero_bits is 9.", levels(), param(5, 9)),
		bent("affine", "bad-plane-count", "weight.5", "The last plane of a two-level term is missing.", levels(),
		     set_field("TERM", 0, plane_count=3)),
		bent("affine", "bad-bits-size", "container.15", "bits says 5 where the codes have 4.", four(), param(0, 5)),
		bent("affine", "bad-activation", "weight.2", "A weight with an affine term has activation float.", four(),
		     set_field("WGHT", 0, activation=0)),
		poked("affine", "bad-code-row", "affine.5", "A code of a padding row is not 0.", four(), 0, 4 * 3, b"\x01"),
		poked("affine", "bad-code-column", "affine.5", "A code of a padding column is not 0.", four(), 0, 256 + 64, b"\x01"),
		poked("affine", "bad-scale-row", "affine.5", "A scale of a padding row is not 0.", four(), 1, 2 * 3, b"\x01"),
		poked("affine", "bad-scale-nan", "affine.5", "A scale is not a number.", four(), 1, 2, nan),
		poked("affine", "bad-zero-row", "affine.5", "A zero-point of a padding row is not 0.", four(1), 2, 3, b"\x01"),
		poked("affine", "bad-zero-infinite", "affine.5", "A real zero-point is infinite.", four(2), 2, 2, inf),
		poked("affine", "bad-zero-large", "affine.5", "An integer zero-point is above 2^bits - 1.", four(1), 2, 1, b"\x10"),
		poked("affine", "bad-scale-code-row", "affine.5", "A scale code of a padding row is not 0.", levels(), 1, 1, b"\x80"),
		poked("affine", "bad-zero-code-row", "affine.5", "A zero code of a padding row is not 0.", levels(), 2, 1, b"\x80"),
		poked("affine", "bad-second-level-infinite", "affine.5", "A scale of the second level is infinite.", levels(), 3, 0, inf),
	]


# ---- codebook ----

def codebook_vectors():
	out, rng = [], Random(8)
	forms = [("i8", dict(), "i8 entries, f16 scales"), ("f32", dict(real=True), "f32 entries, f16 scales"),
	         ("i8-two-level", dict(scale_mode=2), "i8 entries, coded scales"),
	         ("i8-rows", dict(per_row=True), "a table of i8 entries per row")]
	for name, options, about in forms:
		for bits in range(2, 9) if name == "i8" else (2, 4, 5):
			w = t.weight("w", [t.codebook(rng, 5, 40, bits, **options)])
			out.append(good("codebook", f"{name}-{bits}", f"Codes of {bits} bits, {about}, a short last group.", [w]))
	for bits in (3, 6):
		w = t.weight("w", [t.codebook(rng, 18, 33, bits, 3, 0, True, True)])
		out.append(good("codebook", f"f32-rows-{bits}", f"Codes of {bits} bits into a table of values per row, no scales, two row tiles.", [w]))
	for group_size, n, mode in ((16, 56, 0), (0, 50, 2), (96, 100, 2)):
		w = t.weight("w", [t.codebook(rng, 17, n, 4, mode, group_size)])
		out.append(good("codebook", f"group-{group_size}-n-{n}", f"Groups of {group_size or 'the whole row'} in {n} columns, two row tiles.", [w]))
	w = t.weight("w", [t.codebook(rng, 3, 40, 3, 2, 16, True, True)])
	out.append(good("codebook", "f32-rows-two-level", "f32 entries per row times coded scales, groups of 16.", [w]))
	return out + codebook_bad(rng)


def codebook_bad(rng):
	one = lambda *a, **kw: [t.weight("w", [t.codebook(rng, 3, 40, 4, *a, **kw)])]
	levels, rows, real = (lambda: one(2)), (lambda: one(per_row=True)), (lambda: one(real=True))
	plain = lambda: one(3, 0, True)
	param = lambda number, value: set_param("TERM", 0, number, value)
	nan, inf, big = b"\x00\x7e", b"\x00\x7c", struct.pack("<f", float("inf"))
	return [
		bent("codebook", "bad-bits-1", "codebook.1", "bits is 1.", one(), param(0, 1)),
		bent("codebook", "bad-bits-9", "codebook.1", "bits is 9.", one(), param(0, 9)),
		bent("codebook", "bad-group-48", "codebook.2", "group_size is 48, no multiple of 32.", one(), param(1, 48)),
		bent("codebook", "bad-group-large", "codebook.2", "group_size is 2^20 + 32.", one(), param(1, 2 ** 20 + 32)),
		bent("codebook", "bad-group-unscaled", "codebook.2", "group_size is 32 without scales.", plain(), param(1, 32)),
		bent("codebook", "bad-scale-mode-1", "codebook.3", "scale_mode is 1.", one(), param(2, 1)),
		bent("codebook", "bad-scale-mode-4", "codebook.3", "scale_mode is 4.", one(), param(2, 4)),
		bent("codebook", "bad-unscaled-i8", "codebook.3", "i8 entries without scales.", one(), param(2, 3)),
		bent("codebook", "bad-entry-dtype", "codebook.3", "entry_dtype is f16.", real(), param(3, 2)),
		bent("codebook", "bad-table-mode", "codebook.3", "table_mode is 2.", one(), param(4, 2)),
		bent("codebook", "bad-param", "weight.3", "Parameter 5 is not 0.", one(), param(5, 1)),
		bent("codebook", "bad-plane-count", "weight.5", "The second level is missing.", levels(),
		     set_field("TERM", 0, plane_count=3)),
		bent("codebook", "bad-bits-size", "container.15", "bits says 5 where the codes have 4.", one(), param(0, 5)),
		bent("codebook", "bad-activation-i8", "weight.2", "i8 entries with activation float.", one(),
		     set_field("WGHT", 0, activation=0)),
		bent("codebook", "bad-activation-f32", "weight.2", "f32 entries with activation int8_group32.", real(),
		     set_field("WGHT", 0, activation=1)),
		poked("codebook", "bad-code-row", "codebook.4", "A code of a padding row is not 0.", one(), 0, 4 * 3, b"\x01"),
		poked("codebook", "bad-code-column", "codebook.4", "A code of a padding column is not 0.", one(), 0, 256 + 64, b"\x01"),
		poked("codebook", "bad-entry-row", "codebook.4", "An entry of a padding row is not 0.", rows(), 1, 3, b"\x01"),
		poked("codebook", "bad-entry-infinite", "codebook.4", "An entry is infinite.", real(), 1, 4, big),
		poked("codebook", "bad-scale-row", "codebook.4", "A scale of a padding row is not 0.", one(), 2, 2 * 3, b"\x01"),
		poked("codebook", "bad-scale-nan", "codebook.4", "A scale is not a number.", one(), 2, 2, nan),
		poked("codebook", "bad-scale-code-row", "codebook.4", "A scale code of a padding row is not 0.", levels(), 2, 3, b"\x01"),
		poked("codebook", "bad-second-level", "codebook.4", "A value of the second level is infinite.", levels(), 3, 0, inf),
	]


# ---- ternary ----

def ternary_vectors():
	rng = Random(9)
	one = lambda m=3, n=40: [t.weight("w", [t.ternary(rng, m, n)])]
	return [
		good("ternary", "plain", "Two lines, 40 columns: a run and a part of one.", one()),
		good("ternary", "one", "One column: 19 trits of padding.", one(1, 1)),
		good("ternary", "two-tiles", "18 rows, 33 columns: two row tiles, a line of 13 columns.", one(18, 33)),
		good("ternary", "long", "170 columns: five runs in eight lines and one more.", one(2, 170)),
		good("ternary", "sum", "Ternary plus whole columns.",
		     [t.weight("w", [t.ternary(rng, 5, 25), t.columns(5, 25, [3, 20], t.random_matrix(rng, 5, 2, F16), F16)])]),
		bent("ternary", "bad-param", "weight.3", "A parameter is not 0.", one(), set_param("TERM", 0, 0, 1)),
		bent("ternary", "bad-plane-count", "weight.5", "The scales are missing.", one(), set_field("TERM", 0, plane_count=1)),
		bent("ternary", "bad-layout", "container.15", "The layout of the codes is slice16.", one(), set_field("PLAN", 0, layout=3)),
		bent("ternary", "bad-activation", "weight.2", "Ternary with activation float.", one(), set_field("WGHT", 0, activation=0)),
		poked("ternary", "bad-byte", "ternary.1", "A byte that codes no five trits: 20.", one(), 0, 0, bytes([20])),
		poked("ternary", "bad-byte-last", "ternary.1", "A byte that codes no five trits: 237, in the second line.", one(), 0, 64 + 5, bytes([237])),
		poked("ternary", "bad-column", "ternary.1", "A trit of a padding column is +1.", one(3, 39), 0, 64 + 3, bytes([-(-122 * 256 // 243)])),
		poked("ternary", "bad-row", "ternary.2", "A byte of a padding row is not 0.", one(), 0, 4 * 3, b"\x80"),
		poked("ternary", "bad-scale-row", "ternary.2", "The scale of a padding row is not 0.", one(), 1, 4 * 3, b"\x01"),
		poked("ternary", "bad-scale", "ternary.2", "A scale is infinite.", one(), 1, 4, struct.pack("<f", float("inf"))),
	]


# ---- sparse ----

def sparse_vectors():
	rng = Random(3)
	def scattered(m, n, count):
		entries = {(0, 0): 1.5, (m - 1, n - 1): -0.25}
		while len(entries) < count:
			entries[(rng.below(m), rng.below(n))] = rng.half()
		return entries
	small = lambda: [t.weight("w", [t.sparse(18, 20, scattered(18, 20, 12))])]
	zero = {(0, 3): 0.5, (2, 3): -2.0, (2, 4): 1.0}
	out = [
		good("sparse", "two-tiles", "Twelve values in two row tiles.", small()),
		good("sparse", "empty-rows", "Most rows have no value, one has two.",
		     [t.weight("w", [t.sparse(3, 6, zero)])]),
		good("sparse", "two-blocks", "5000 columns: two column blocks, values on both sides of column 4096.",
		     [t.weight("w", [t.sparse(2, 5000, {(0, 4095): 1.0, (0, 4096): -1.0, (1, 4999): 3.0, (1, 0): 0.125})])]),
	]
	param = lambda number, value: set_param("TERM", 0, number, value)
	fixed = lambda: [t.weight("w", [t.sparse(3, 6, zero)])]
	out += [
		bent("sparse", "unsupported-form", "sparse.1", "form is 4.", fixed(), param(0, 4)),
		bent("sparse", "bad-count-0", "sparse.1", "value_count is 0.", fixed(), param(1, 0)),
		bent("sparse", "bad-count-size", "container.15", "value_count is 100, its planes hold 3.", fixed(), param(1, 100)),
		poked("sparse", "bad-offset-first", "sparse.2", "offsets[0] is 1.", fixed(), 0, 0, b"\x01"),
		poked("sparse", "bad-offset-last", "sparse.2", "The last offset is not value_count.", fixed(), 0, 4, b"\x02"),
		poked("sparse", "bad-offset-order", "sparse.2", "The offsets descend.", small(), 0, 4, b"\x0d"),
		poked("sparse", "bad-counts-sum", "sparse.2", "The counts of a list are one less than its entries.", fixed(), 1, 0, b"\x00"),
		poked("sparse", "bad-counts-large", "sparse.2", "A row has 4097 entries in a block.",
		      [t.weight("w", [t.sparse(2, 4098, {(i, j): 0.5 for i in (0, 1) for j in range(2049)})])], 1, 0,
		      struct.pack("<2H", 4097, 1)),
		poked("sparse", "bad-index-order", "sparse.3", "The columns of a row descend.", fixed(), 2, 2, struct.pack("<H", 5)),
		poked("sparse", "bad-index-twice", "sparse.3", "A position occurs twice in a list.", fixed(), 2, 4, struct.pack("<H", 3)),
		poked("sparse", "bad-row", "sparse.4", "Row 3 of 3 has an entry.", fixed(), 1, 4, struct.pack("<2H", 1, 1)),
		poked("sparse", "bad-column", "sparse.4", "An entry names column 6 of 6.", fixed(), 2, 4, struct.pack("<H", 6)),
		poked("sparse", "bad-block", "sparse.4", "An entry names column 4096 of a block.",
		      [t.weight("w", [t.sparse(1, 5000, {(0, 7): 0.5})])], 2, 0, struct.pack("<H", 4096)),
		poked("sparse", "bad-value", "sparse.4", "A value is infinite.", fixed(), 3, 2, b"\x00\x7c"),
		poked("sparse", "bad-index-behind", "sparse.4", "An index behind the last is not 0.", fixed(), 2, 2 * 34, b"\x01"),
		poked("sparse", "bad-value-behind", "sparse.4", "A value behind the last is not 0.", fixed(), 3, 2 * 3, b"\x01"),
	]
	return out


# ---- sparse: bitmasks ----

def chosen(rng, m, n, share):
	return {(i, j) for i in range(m) for j in range(n) if rng.below(100) < share} | {(m - 1, n - 1)}


def pattern_of(rng, m, n, count, columns):
	out = set()
	for i in range(m):
		for first in range(0, n, columns):
			free = list(range(columns))
			out |= {(i, first + free.pop(rng.below(len(free)))) for _ in range(count)}
	return out


def sparse_mask_vectors():
	rng = Random(8)
	def one(m, n, share, *args):
		return [t.weight("w", [t.sparse_mask(rng, m, n, chosen(rng, m, n, share), *args)])]
	def fixed(m, n, count, columns, *args):
		keep = pattern_of(rng, m, n, count, columns)
		return [t.weight("w", [t.sparse_mask(rng, m, n, keep, *(args or (0, 0, 0)), pattern=(count, columns))])]
	out = [good("sparse", "mask-f16", "A bitmask of f16 values: half of the positions, two row tiles, a short block.", one(18, 40, 50)),
	       good("sparse", "mask-full", "Every bit of a tile is set.", one(16, 32, 100)),
	       good("sparse", "mask-f16-2-4", "2:4 with f16 values.", fixed(18, 36, 2, 4)),
	       good("sparse", "mask-codes-2-4", "2:4 with codes of 4 bits.", fixed(18, 64, 2, 4, 4, 32, 1)),
	       good("sparse", "mask-codes-4-8", "4:8 with codes of 3 bits, one group a row.", fixed(5, 40, 4, 8, 3, 0, 0)),
	       good("sparse", "mask-codes-1-3", "1:3: patterns that no line and no block holds whole.", fixed(17, 33, 1, 3, 2, 0, 1))]
	out += [good("sparse", f"mask-codes-{bits}", f"A bitmask of codes of {bits} bits, a short last group.", one(5, 70, 50, bits, 32, bits % 2))
	        for bits in range(1, 9)]
	return out + sparse_mask_bad(rng, one, fixed)


def sparse_mask_bad(rng, one, fixed):
	halves, coded = lambda: one(3, 36, 50), lambda: one(3, 40, 50, 4, 32, 1)
	pattern = lambda: fixed(3, 36, 2, 4)
	param = lambda number, value: set_param("TERM", 0, number, value)
	full = lambda: [t.weight("w", [t.sparse_mask(rng, 3, 4, {(i, j) for i in range(3) for j in range(4)})])]
	def flipped(name, rule, about, weights, at, bit):
		content = bytearray(weights[0]["terms"][0]["planes"][0]["content"])
		return poked("sparse", name, rule, about, weights, 0, at, bytes([content[at] ^ bit]))
	def moved(weights):
		"""The first pattern of row 0 gets three values, the second one."""
		words = bytearray(weights[0]["terms"][0]["planes"][0]["content"])
		first, second = (struct.unpack_from("<Q", words, 8 * l)[0] for l in (0, 1))
		add = next(1 << 16 * k for k in range(4) if not first >> 16 * k & 1)
		drop = next(1 << 16 * k for k in range(4) if second >> 16 * k & 1)
		return poked("sparse", "bad-mask-pattern", "sparse.7", "A row has three values in four columns of 2:4.", weights, 0, 0,
		             struct.pack("<QQ", first ^ add, second ^ drop))
	behind = len(halves()[0]["terms"][0]["planes"][2]["content"]) - 2
	return [
		bent("sparse", "bad-mask-count-0", "sparse.1", "value_count of a bitmask is 0.", halves(), param(1, 0)),
		poked("sparse", "bad-mask-offset", "sparse.2", "The last offset is not value_count.", full(), 1, 4, b"\x0b"),
		bent("sparse", "bad-mask-bits", "sparse.5", "bits is 9.", coded(), param(2, 9)),
		bent("sparse", "bad-mask-group", "sparse.5", "group_size is 16.", coded(), param(3, 16)),
		bent("sparse", "bad-mask-zero-mode", "sparse.5", "zero_mode is 2.", coded(), param(4, 2)),
		bent("sparse", "bad-mask-f16-group", "sparse.5", "f16 values with a group_size.", halves(), param(3, 32)),
		bent("sparse", "bad-mask-unused", "sparse.6", "pattern_count is 1 in form 2.", halves(), param(5, 1)),
		bent("sparse", "bad-mask-pattern-divides", "sparse.6", "pattern_columns does not divide n.", pattern(), param(6, 5)),
		bent("sparse", "bad-mask-pattern-count", "sparse.6", "pattern_count is pattern_columns.", pattern(), param(5, 4)),
		bent("sparse", "bad-mask-pattern-values", "sparse.6", "value_count is not that of the pattern.", pattern(), param(1, 53)),
		bent("sparse", "bad-mask-param", "weight.3", "Parameter 7 is not 0.", halves(), param(7, 1)),
		flipped("bad-mask-row", "sparse.7", "A bit of row 3 of 3 is set.", full(), 0, 8),
		flipped("bad-mask-column", "sparse.7", "A bit of column 4 of 4 is set.", full(), 8, 1),
		flipped("bad-mask-missing", "sparse.7", "A bit is missing: the tile has more values than bits.", full(), 0, 1),
		moved(pattern()),
		poked("sparse", "bad-mask-value", "sparse.8", "A value is infinite.", full(), 2, 2, b"\x00\x7c"),
		poked("sparse", "bad-mask-behind", "sparse.8", "A value behind the last is not 0.", full(), 2, 2 * 12, b"\x01"),
		poked("sparse", "bad-mask-code-behind", "sparse.8", "A code far behind the last is not 0.", coded(), 2, 9 * 32, b"\x01"),
		poked("sparse", "bad-mask-scale-row", "sparse.8", "A scale of a padding row is not 0.", coded(), 3, 2 * 3, b"\x01"),
		poked("sparse", "bad-mask-scale-nan", "sparse.8", "A scale is not a number.", coded(), 3, 0, b"\x00\x7e"),
		poked("sparse", "bad-mask-zero-large", "sparse.8", "A zero-point is above 2^bits - 1.", coded(), 4, 0, b"\x10"),
		poked("sparse", "bad-mask-zero-row", "sparse.8", "A zero-point of a padding row is not 0.", coded(), 4, 3, b"\x01"),
	]


# ---- lowrank ----

def lowrank_vectors():
	rng = Random(9)
	def one(m, n, rank, dtype):
		u, v = t.random_matrix(rng, m, rank, dtype), t.random_matrix(rng, rank, n, dtype)
		return [t.weight("w", [t.lowrank(m, n, u, v, dtype)])]
	param = lambda number, value: set_param("TERM", 0, number, value)
	fixed = lambda: one(3, 9, 2, F16)
	return [
		good("lowrank", "f16", "Rank 2 in f16.", fixed()),
		good("lowrank", "bf16", "Rank 5 in bf16, two row tiles, more columns than lanes.", one(18, 20, 5, BF16)),
		good("lowrank", "rank-17", "More ranks than rows of a tile.", one(2, 3, 17, F16)),
		bent("lowrank", "bad-dtype", "lowrank.1", "dtype is f32.", fixed(), param(0, 1)),
		bent("lowrank", "bad-rank-0", "lowrank.1", "rank is 0.", fixed(), param(1, 0)),
		bent("lowrank", "bad-rank-large", "lowrank.1", "rank is 1025.", fixed(), param(1, 1025)),
		bent("lowrank", "bad-rank-size", "container.15", "rank is 100, its planes hold 2.", fixed(), param(1, 100)),
		poked("lowrank", "bad-padding-row", "lowrank.2", "A value of a padding row of U is not 0.", fixed(), 1, 2 * 3, b"\x01"),
		poked("lowrank", "bad-value", "lowrank.2", "A value of V is infinite.", fixed(), 0, 0, b"\x00\x7c"),
	]


# ---- columns ----

def columns_vectors():
	rng = Random(4)
	def one(m, n, index, dtype):
		return t.weight("w", [t.columns(m, n, index, t.random_matrix(rng, m, len(index), dtype), dtype)])
	param = lambda number, value: set_param("TERM", 0, number, value)
	fixed = lambda: [one(3, 9, [1, 4, 8], F16)]
	return [
		good("columns", "f16", "Three f16 columns of nine.", fixed()),
		good("columns", "bf16", "bf16 columns in two row tiles.", [one(18, 6, [0, 5], BF16)]),
		good("columns", "all", "Every column is listed.", [one(2, 4, [0, 1, 2, 3], F16)]),
		bent("columns", "bad-dtype", "columns.1", "dtype is f32.", fixed(), param(0, 1)),
		bent("columns", "bad-count-0", "columns.1", "column_count is 0.", fixed(), param(1, 0)),
		bent("columns", "bad-count-n", "columns.1", "column_count is n + 1.", fixed(), param(1, 10)),
		poked("columns", "bad-index-order", "columns.2", "The index does not ascend.", fixed(), 0, 0, b"\x04"),
		poked("columns", "bad-index-range", "columns.2", "A column is n.", fixed(), 0, 8, b"\x09"),
		poked("columns", "bad-padding-row", "columns.3", "A value of a padding row is not 0.", fixed(), 1, 2 * 3, b"\x01"),
		poked("columns", "bad-value", "columns.3", "A value is not a number.", fixed(), 1, 0, b"\x00\x7e"),
	]


# ---- permute and sums ----

def permute_vectors():
	rng = Random(5)
	def shuffled(n):
		order = list(range(n))
		for i in range(n - 1, 0, -1):
			j = rng.below(i + 1)
			order[i], order[j] = order[j], order[i]
		return order
	def one():
		return [t.weight("w", [t.dense(t.random_matrix(rng, 3, 7, F32), F32)], [t.permute([3, 0, 6, 1, 5, 2, 4])])]
	twice = t.weight("w", [t.dense(t.random_matrix(rng, 2, 3, F32), F32)], [t.permute([1, 2, 0]), t.permute([2, 0, 1])])
	return [
		good("permute", "dense", "A dense weight whose columns stand in another order.", one()),
		good("permute", "affine", "Act-order: an affine weight behind a permutation, two groups.",
		     [t.weight("w", [t.affine(rng, 5, 40, 4, 32, 2)], [t.permute(shuffled(40))])]),
		good("permute", "identity", "The permutation that changes nothing.",
		     [t.weight("w", [t.dense(t.random_matrix(rng, 2, 4, F16), F16)], [t.permute([0, 1, 2, 3])])]),
		poked("permute", "bad-index", "permute.1", "An index is n.", one(), 0, 4, b"\x07"),
		poked("permute", "bad-twice", "permute.2", "A number occurs twice.", one(), 0, 0, b"\x00"),
		bent("permute", "bad-param", "weight.3", "A parameter is not 0.", one(), set_param("XFRM", 0, 0, 1)),
		bent("permute", "bad-plane-count", "weight.5", "The plane is missing.", one(), set_field("XFRM", 0, plane_count=0)),
		bent("permute", "unsupported-kind-4", "weight.1", "Transform kind 4 is not listed.", one(), set_field("XFRM", 0, kind=4)),
		{"folder": "permute", "name": "bad-two", "rule": "weight.4", "about": "A weight has two permutations.", "weights": [twice]},
	]


def scale_vectors():
	rng = Random(10)
	factors = lambda n: [t.f32(rng.pick(1, 2 ** 20) / 2 ** 18) * (1 if rng.below(4) else -1) for _ in range(n)]
	one = lambda transforms: [t.weight("w", [t.affine(rng, 3, 40, 4)], transforms)]
	order = [(7 * j + 3) % 40 for j in range(40)]
	both = [t.permute(order), t.scale(factors(40))]
	return [
		good("scale", "affine", "Factors of both signs before an affine term.", one([t.scale(factors(40))])),
		good("scale", "permute", "A permutation, then factors: those are of the stored columns.", one(both)),
		good("scale", "lowrank", "Factors before a lowrank term.", [t.weight("w", [t.lowrank(
			3, 5, t.random_matrix(rng, 3, 2, F16), t.random_matrix(rng, 2, 5, F16), F16)], [t.scale(factors(5))])]),
		poked("scale", "bad-zero", "scale.1", "A factor is 0.", one([t.scale(factors(40))]), 0, 4, bytes(4)),
		poked("scale", "bad-infinite", "scale.1", "A factor is infinite.", one([t.scale(factors(40))]), 0, 0, b"\x00\x00\x80\x7f"),
		bent("scale", "bad-dtype", "container.15", "The plane's dtype is u32.", one([t.scale(factors(40))]), set_field("PLAN", 0, dtype=6)),
		{"folder": "scale", "name": "bad-order", "rule": "weight.6", "about": "A scale before a permutation.",
		 "weights": one(both[::-1])},
	]


def shift_vectors():
	rng = Random(12)
	numbers = lambda n: [t.f32(rng.pick(-2 ** 20, 2 ** 20) / 2 ** 19) for _ in range(n)]
	shift = lambda m, n: t.shift(numbers(n), numbers(m))
	one = lambda: [t.weight("w", [t.affine(rng, 18, 40, 4)], [shift(18, 40)])]
	order = [(7 * j + 3) % 40 for j in range(40)]
	three = lambda transforms: [t.weight("w", [t.affine(rng, 3, 40, 5, 16, 2)], transforms)]
	return [
		good("shift", "affine", "A shift before an affine term of two tiles; its bias comes last.", one()),
		good("shift", "dense", "A shift before a dense term.",
		     [t.weight("w", [t.dense(t.random_matrix(rng, 3, 7, BF16), BF16)], [shift(3, 7)])]),
		good("shift", "all-transforms", "A permutation, factors, then a shift.",
		     three([t.permute(order), t.scale([abs(v) + 0.5 for v in numbers(40)]), shift(3, 40)])),
		poked("shift", "bad-infinite", "shift.1", "A number taken away is infinite.", one(), 0, 4, b"\x00\x00\x80\x7f"),
		poked("shift", "bad-bias-nan", "shift.1", "A bias is NaN.", one(), 1, 68, b"\x00\x00\xc0\x7f"),
		bent("shift", "bad-dtype", "container.15", "The plane's dtype is u32.", one(), set_field("PLAN", 0, dtype=6)),
		bent("shift", "bad-role", "container.15", "The bias has the role of scales.", one(), set_field("PLAN", 1, role=3)),
		bent("shift", "bad-plane-count", "weight.5", "The bias is missing.", one(), set_field("XFRM", 0, plane_count=1)),
		{"folder": "shift", "name": "bad-order", "rule": "weight.6", "about": "A shift before factors.",
		 "weights": three([shift(3, 40), t.scale([1.0] * 40)])},
	]


def activation_vectors():
	rng = Random(13)
	rule = {"token": {"activation": 2}, "static": {"activation": 3, "activation_scale": 1 / 128}}
	names = {"token": "one scale per token", "static": "a static scale that clips"}
	affine = lambda n, bits, group, zero_mode=1, **kw: t.affine(rng, 3, n, bits, group, zero_mode, **kw)
	mask = {(i, j) for i in range(3) for j in range(70) if (i + j) % 3}
	static = lambda **values: [t.weight("w", [affine(40, 4, 32)], **{**rule["static"], **values})]
	out = []
	for name, kw in rule.items():
		about = lambda what: f"{what}, {names[name]}."
		out += [
			good("activation", f"{name}-row", about("Codes of 8 bits, a group of a whole row: a run of 256 columns and one of 44"),
			     [t.weight("w", [affine(300, 8, 0)], **kw)]),
			good("activation", f"{name}-320", about("Groups of 320 columns: runs of 256 and 64"),
			     [t.weight("w", [affine(650, 8, 320, 2)], **kw)]),
			good("activation", f"{name}-64", about("Two-level groups of 64"),
			     [t.weight("w", [affine(100, 3, 64, 3, scale_bits=3, zero_bits=4)], **kw)]),
			good("activation", f"{name}-16", about("Groups of 16"), [t.weight("w", [affine(70, 5, 16, 0)], **kw)]),
			good("activation", f"{name}-codebook", about("A codebook, whose runs stay 32 columns"),
			     [t.weight("w", [t.codebook(rng, 3, 100, 4, 0, 64)], **kw)]),
			good("activation", f"{name}-ternary", about("ternary, whose runs stay 32 columns"),
			     [t.weight("w", [t.ternary(rng, 3, 100)], **kw)]),
			good("activation", f"{name}-sparse", about("sparse with codes, whose runs stay 32 columns"),
			     [t.weight("w", [t.sparse_mask(rng, 3, 70, mask, 4, 64)], **kw)]),
		]
	return out + [
		good("activation", "static-small", "The smallest static scale.", static(activation_scale=2.0 ** -100)),
		{"folder": "activation", "name": "bad-token-scale", "rule": "weight.7", "about": "A scale with int8_token.",
		 "weights": static(activation=2)},
		{"folder": "activation", "name": "bad-static-zero", "rule": "weight.7", "about": "The static scale is 0.",
		 "weights": static(activation_scale=0.0)},
		{"folder": "activation", "name": "bad-static-nan", "rule": "weight.7", "about": "The static scale is NaN.",
		 "weights": static(activation_scale=float("nan"))},
		{"folder": "activation", "name": "bad-static-large", "rule": "weight.7", "about": "The static scale is 2^101.",
		 "weights": static(activation_scale=2.0 ** 101)},
		{"folder": "activation", "name": "bad-token-dense", "rule": "weight.2", "about": "A dense weight with int8_token.",
		 "weights": [t.weight("w", [t.dense(t.random_matrix(rng, 2, 3, F32), F32)], activation=2)]},
	]


def sum_vectors():
	rng = Random(6)
	outliers = {(0, 0): 12.0, (3, 39): -9.5, (17, 20): 7.25, (17, 21): 30.0}
	base = lambda zero_mode=2, **kw: t.affine(rng, 18, 40, 3, 16, zero_mode, **kw)
	some = lambda: t.columns(18, 40, [2, 31], t.random_matrix(rng, 18, 2, BF16), BF16)
	order = [(7 * j + 3) % 40 for j in range(40)]
	return [
		good("sums", "affine-sparse", "Affine plus sparse outliers.", [t.weight("w", [base(), t.sparse(18, 40, outliers)])]),
		good("sums", "affine-columns", "Affine plus whole columns.", [t.weight("w", [base(0), some()])]),
		good("sums", "spqr", "Two-level affine plus sparse behind a permutation.",
		     [t.weight("w", [base(3, scale_bits=3, zero_bits=3), t.sparse(18, 40, outliers)], [t.permute(order)])]),
		good("sums", "four-terms", "Dense, affine, sparse and columns: every addition rounds once, in file order.",
		     [t.weight("w", [t.dense(t.random_matrix(rng, 18, 40, BF16), BF16), base(1), t.sparse(18, 40, outliers), some()])]),
	]


# ---- weight.md ----

def weight_vectors():
	rng = Random(7)
	one = lambda: [t.weight("w", [t.dense(t.random_matrix(rng, 2, 3, F32), F32)])]
	kind = lambda value: set_field("TERM", 0, kind=value)
	out = [bent("weight", f"unsupported-{name}", "weight.1", f"Kind {value}, {name}.", one(), kind(value))
	       for name, value in (("kind-8", 8), ("experimental", 0x80000001))]
	return out + [
		bent("weight", "bad-kind-0", "weight.1", "Kind 0 is no kind.", one(), kind(0)),
		bent("weight", "bad-role-0", "container.15", "Role 0 is no role.", one(), set_field("PLAN", 0, role=0)),
		bent("weight", "bad-layout-0", "container.15", "Layout 0 is no layout.", one(), set_field("PLAN", 0, layout=0)),
		bent("weight", "bad-dtype-0", "container.15", "Dtype 0 is no dtype.", one(), set_field("PLAN", 0, dtype=0)),
		bent("weight", "unsupported-role", "weight.1", "Role 11 is not listed.", one(), set_field("PLAN", 0, role=11)),
		bent("weight", "unsupported-layout", "weight.1", "An experimental layout.", one(), set_field("PLAN", 0, layout=0x80000000)),
		bent("weight", "unsupported-dtype", "weight.1", "Dtype 8 is not listed.", one(), set_field("PLAN", 0, dtype=8)),
		bent("weight", "unsupported-activation", "weight.1", "Activation 4 is reserved.", one(), set_field("WGHT", 0, activation=4)),
	]


def term_vectors():
	return (dense_vectors() + affine_vectors() + codebook_vectors() + ternary_vectors() + sparse_vectors() + sparse_mask_vectors() + lowrank_vectors() + columns_vectors() + permute_vectors() + scale_vectors() + shift_vectors() + activation_vectors()
	        + sum_vectors() + weight_vectors())
