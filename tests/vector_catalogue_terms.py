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
		good("sparse", "empty-rows", "Most rows have no value, one list has two values of one column.",
		     [t.weight("w", [t.sparse(3, 6, zero)])]),
		good("sparse", "two-blocks", "5000 columns: two column blocks, values on both sides of column 4096.",
		     [t.weight("w", [t.sparse(2, 5000, {(0, 4095): 1.0, (0, 4096): -1.0, (1, 4999): 3.0, (1, 0): 0.125})])]),
	]
	param = lambda number, value: set_param("TERM", 0, number, value)
	fixed = lambda: [t.weight("w", [t.sparse(3, 6, zero)])]
	out += [
		bent("sparse", "unsupported-form", "sparse.1", "form is 2, a bitmask.", fixed(), param(0, 2)),
		bent("sparse", "bad-count-0", "sparse.1", "value_count is 0.", fixed(), param(1, 0)),
		bent("sparse", "bad-count-size", "container.15", "value_count is 100, its planes hold 3.", fixed(), param(1, 100)),
		poked("sparse", "bad-offset-first", "sparse.2", "offsets[0] is 1.", fixed(), 0, 0, b"\x01"),
		poked("sparse", "bad-offset-last", "sparse.2", "The last offset is not value_count.", fixed(), 0, 4, b"\x02"),
		poked("sparse", "bad-offset-order", "sparse.2", "The offsets descend.", small(), 0, 4, b"\x0d"),
		poked("sparse", "bad-index-order", "sparse.3", "The index of a list descends.", fixed(), 1, 0, struct.pack("<H", 5 * 16 + 1)),
		poked("sparse", "bad-index-twice", "sparse.3", "A position occurs twice in a list.", fixed(), 1, 2, struct.pack("<H", 48)),
		poked("sparse", "bad-row", "sparse.4", "An entry names row 3 of 3.", fixed(), 1, 4, struct.pack("<H", 4 * 16 + 3)),
		poked("sparse", "bad-column", "sparse.4", "An entry names column 6 of 6.", fixed(), 1, 4, struct.pack("<H", 6 * 16 + 1)),
		poked("sparse", "bad-value", "sparse.4", "A value is infinite.", fixed(), 2, 2, b"\x00\x7c"),
	]
	return out


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
		bent("permute", "unsupported-scale", "weight.1", "Transform kind 2, scale, is reserved.", one(), set_field("XFRM", 0, kind=2)),
		{"folder": "permute", "name": "bad-two", "rule": "weight.4", "about": "A weight has two permutations.", "weights": [twice]},
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
	       for name, value in (("codebook", 3), ("ternary", 4), ("lowrank", 7), ("kind-8", 8), ("experimental", 0x80000001))]
	return out + [
		bent("weight", "bad-kind-0", "weight.1", "Kind 0 is no kind.", one(), kind(0)),
		bent("weight", "bad-role-0", "container.15", "Role 0 is no role.", one(), set_field("PLAN", 0, role=0)),
		bent("weight", "bad-layout-0", "container.15", "Layout 0 is no layout.", one(), set_field("PLAN", 0, layout=0)),
		bent("weight", "bad-dtype-0", "container.15", "Dtype 0 is no dtype.", one(), set_field("PLAN", 0, dtype=0)),
		bent("weight", "unsupported-role", "weight.1", "Role 10 is not listed.", one(), set_field("PLAN", 0, role=10)),
		bent("weight", "unsupported-layout", "weight.1", "An experimental layout.", one(), set_field("PLAN", 0, layout=0x80000000)),
		bent("weight", "unsupported-dtype", "weight.1", "Dtype 8 is not listed.", one(), set_field("PLAN", 0, dtype=8)),
		bent("weight", "unsupported-activation", "weight.1", "Activation 2 is reserved.", one(), set_field("WGHT", 0, activation=2)),
	]


def term_vectors():
	return (dense_vectors() + affine_vectors() + sparse_vectors() + columns_vectors() + permute_vectors()
	        + sum_vectors() + weight_vectors())
