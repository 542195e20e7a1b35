#!/usr/bin/env python3
# nf4, fp4, fp6, fp8, mofq, ternary and squeezellm against what NumPy makes of the same weights: scales and
# nearest entries from the definitions, best formats, mean magnitudes, and the optimum of k-means by plain
# dynamic programming.  The files are decoded by spec/reader.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD", TOP / "build"))
MODEL = TOP / "models" / "tiny1m"
sys.path.insert(0, str(TOP / "spec" / "reader"))

from reader_container import PithFile  # noqa: E402

F32, F64 = np.float32, np.float64
LINEAR = "model.layers.0.mlp.down_proj.weight"
TABLE = "model.embed_tokens.weight"

NF4 = [-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1]
E2M1 = [0, .5, 1, 1.5, 2, 3, 4, 6]


def floats(exponent_bits, mantissa_bits, drop=0):
	"""Magnitudes of a small float format, without its last 'drop' codes."""
	bias, steps = 2 ** (exponent_bits - 1) - 1, 2 ** mantissa_bits
	out = [m / steps * 2.0 ** (1 - bias) for m in range(steps)]
	for e in range(1, 2 ** exponent_bits):
		out += [(1 + m / steps) * 2.0 ** (e - bias) for m in range(steps)]
	return out[:len(out) - drop]


def both_signs(magnitudes):
	return sorted({s * v for v in magnitudes for s in (-1, 1)})


def source(name):
	raw = (MODEL / "model.safetensors").read_bytes()
	size = struct.unpack("<Q", raw[:8])[0]
	entry = json.loads(raw[8:8 + size])[name]
	begin, end = entry["data_offsets"]
	assert entry["dtype"] == "BF16"
	bits = np.frombuffer(raw[8 + size + begin:8 + size + end], "<u2").astype(np.uint32) << 16
	return bits.view(F32).reshape(entry["shape"])


def nearest(entries, v):
	"""The entry nearest to each v, the lower one in the middle."""
	entries = np.asarray(entries, F64)
	return entries[np.searchsorted((entries[1:] + entries[:-1]) / 2, v, side="left")]


def scaled(w, group, entries, top, small):
	"""W as f16 scales of groups times entries; small: entries rounded to 127ths of the largest."""
	entries = np.unique(np.rint(127 * np.asarray(entries) / top)) if small else np.asarray(entries, F64)
	m, n = w.shape
	out = np.empty((m, n), F32)
	for first in range(0, n, group or n):
		part = w[:, first:first + (group or n)]
		scale = (np.abs(part).max(axis=1) / F32(127 if small else top)).astype(np.float16).astype(F32)[:, None]
		out[:, first:first + (group or n)] = scale * nearest(entries, part.astype(F64) / scale).astype(F32)
	return out


def symmetric(w, top):
	"""Per row: the end with the larger magnitude is code 0 or its mirror image, zero-point in the middle."""
	low, high = np.minimum(w.min(axis=1), 0), np.maximum(w.max(axis=1), 0)
	end = np.where(np.abs(low) >= high, low, high)
	scale = (-end / F32((top + 1) / 2)).astype(np.float16).astype(F32)[:, None]
	code = np.clip(np.rint(w / scale + F32((top + 1) / 2)), 0, top)
	return (scale * (code - F32((top + 1) / 2))).astype(F32)


class Quantizers(unittest.TestCase):
	def setUp(self):
		self.folder = tempfile.TemporaryDirectory()
		self.at = pathlib.Path(self.folder.name)
		self.addCleanup(self.folder.cleanup)

	def stored(self, scheme, *options):
		out = self.at / "m.pith"
		run = subprocess.run([str(BUILD / "pith"), "convert", str(MODEL), "-o", str(out), "-f", "-s", scheme,
		                      *options], capture_output=True, text=True)
		self.assertEqual(run.returncode, 0, run.stderr)
		return PithFile(out.read_bytes())

	def decoded(self, scheme, name=LINEAR, *options):
		file = self.stored(scheme, *options)
		return file.unpack(next(w for w in file.weights() if w.name == name)).astype(F32)

	def test_fixed_tables(self):
		w = source(LINEAR)
		cases = [("nf4:double=0,group=64", 64, NF4, 1, True),
		         ("nf4:double=0,group=32,entries=f32", 32, np.array(NF4, F32), 1, False),
		         ("fp4:group=row", 0, both_signs(E2M1), 6, True),
		         ("fp6:group=128", 128, both_signs(floats(2, 3)), 7.5, True),
		         ("fp6:group=16,form=e3m2,entries=f32", 16, both_signs(floats(3, 2)), 28, False),
		         ("fp8", 64, both_signs(floats(4, 3, 1)), 448, False)]
		for scheme, group, entries, top, small in cases:
			with self.subTest(scheme=scheme):
				np.testing.assert_array_equal(self.decoded(scheme), scaled(w, group, entries, top, small))

	def test_coded_scales(self):
		"""The scale of every group is within a step of the one wanted, and codes are nearest for it."""
		w = source(LINEAR)
		file = self.stored("nf4:double=1,group=64")
		weight = next(x for x in file.weights() if x.name == LINEAR)
		term = file.bind(weight)[0][0]
		entries = np.unique(np.rint(127 * np.array(NF4)))
		got = file.unpack(weight).astype(F32)
		for g, first in enumerate(range(0, w.shape[1], 64)):
			part = w[:, first:first + 64]
			scale = term.scales[:w.shape[0], g:g + 1]
			step = np.repeat(term.second[:, 0], 16)[:w.shape[0]]
			wanted = np.abs(part).max(axis=1) / F32(127)
			self.assertTrue((np.abs(scale[:, 0] - wanted) <= 1.01 * step).all())
			self.assertTrue((step < 0.01 * wanted.max()).all())
			np.testing.assert_array_equal(got[:, first:first + 64],
			                              scale * nearest(entries, part.astype(F64) / scale).astype(F32))

	def test_mixed_formats(self):
		"""mofq takes for every weight the format with the smaller error."""
		file = self.stored("mofq:bits=4")
		kinds = set()
		for weight in file.weights():
			if len(weight.name) == 0 or "proj" not in weight.name:
				continue
			w = source(weight.name)
			integer, floating = symmetric(w, 15), scaled(w, 0, both_signs(E2M1), 6, True)
			errors = [((w.astype(F64) - v) ** 2).sum() for v in (integer, floating)]
			kinds.add(errors[1] < errors[0])
			np.testing.assert_array_equal(file.unpack(weight), floating if errors[1] < errors[0] else integer)
		self.assertTrue(kinds)

	def test_ternary(self):
		w = source(LINEAR)
		for scheme, axis in (("ternary", None), ("ternary:scale=row", 1)):
			mean = np.abs(w.astype(F64)).mean(axis=axis, keepdims=True).astype(F32)
			want = mean * np.clip(np.rint(w / mean), -1, 1).astype(F32)
			np.testing.assert_array_equal(self.decoded(scheme), want)

	def test_squeezellm(self):
		"""
		Every row has at most 2^bits values, each where it is nearest, and comes close to the optimum of equal
		weights (test_kmeans_line.c has the exact one); the values kept are the largest and are exact but for f16.
		"""
		text = self.at / "text.txt"
		text.write_text("the old man and the sea had a boat with one sail that was patched " * 400)
		options = ("--calib", str(text), "--calib-samples", "4", "--calib-length", "64")
		w = source(TABLE).astype(F64)
		got = self.decoded("squeezellm:bits=2,sensitive=0,outliers=0", TABLE, *options).astype(F64)
		for i in range(0, len(w), len(w) // 8):
			self.assertLessEqual(len(np.unique(got[i])), 4)
			np.testing.assert_array_equal(np.abs(w[i] - got[i]),
			                              np.abs(w[i][:, None] - np.unique(got[i])).min(axis=1))
			ratio = ((w[i] - got[i]) ** 2).sum() / least_error(np.sort(w[i]), 4)
			self.assertTrue(1 - 1e-6 <= ratio < 1.1, ratio)
		got = self.decoded("squeezellm:bits=2,sensitive=0,outliers=1%", TABLE, *options).astype(F64)
		count = int(np.floor(0.01 * w.size))
		kept = np.argsort(-np.abs(w), axis=None, kind="stable")[:count]
		error = np.abs(w - got).flat[kept]
		self.assertTrue((error <= 2.0 ** -10 * np.abs(w).flat[kept]).all())


def least_error(v, k):
	"""k-means of sorted numbers, all weights 1: every cut is tried."""
	n = len(v)
	s1, s2 = np.concatenate([[0], np.cumsum(v)]), np.concatenate([[0], np.cumsum(v * v)])
	cost = np.full(n + 1, np.inf)
	cost[0] = 0
	for _ in range(k):
		new = np.full(n + 1, np.inf)
		new[0] = 0
		for j in range(1, n + 1):
			i = np.arange(j)
			new[j] = (cost[:j] + (s2[j] - s2[i]) - (s1[j] - s1[i]) ** 2 / (j - i)).min()
		cost = new
	return cost[n]


if __name__ == "__main__":
	unittest.main(verbosity=2)
