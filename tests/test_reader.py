#!/usr/bin/python3
# The spec's second reader against the vectors, and its arithmetic against exact rationals.
#
# SPDX-License-Identifier: Apache-2.0

import pathlib
import subprocess
import sys
import tempfile
import unittest
from fractions import Fraction

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
READER = HERE.parent / "spec" / "reader"
sys.path[:0] = [str(HERE), str(READER)]

import reader_numerics as numerics
import unit_summary
import vector_numerics as exact
from reader_bytes import Fault
from reader_container import PithFile
from reader_verify import verify
from vector_files import ROOT, vector_files
from vector_terms import Random


def faults_of(data):
	try:
		return verify(PithFile(data))
	except Fault as fault:
		return [fault]


class Vectors(unittest.TestCase):
	def test_good(self):
		"""No fault (the canaries included), and every weight decodes to the expected bits."""
		names = 0
		for vector in vector_files():
			if vector.status != "good":
				continue
			names += 1
			with self.subTest(vector.name):
				file = PithFile(vector.data)
				self.assertEqual([], verify(file))
				expected = vector.expected()
				self.assertEqual(sorted(expected), sorted(w.name for w in file.weights()))
				for weight in file.weights():
					bits = file.unpack(weight).astype(np.float32).view(np.uint32)
					self.assertEqual(expected[weight.name], bits.tolist())
		self.assertGreater(names, 60)

	def test_bad(self):
		"""The first fault has the vector's rule and status, and no fault names another rule."""
		seen = 0
		for vector in vector_files():
			if vector.status == "good":
				continue
			seen += 1
			with self.subTest(vector.name):
				faults = faults_of(vector.data)
				self.assertEqual({(vector.rule, vector.status)}, {(f.rule, f.status) for f in faults})
		self.assertGreater(seen, 150)

	def test_generator(self):
		"""The files in the tree are those that make_vectors.py and make_examples.py write."""
		for name in ("make_vectors.py", "make_examples.py"):
			made = subprocess.run([sys.executable, str(HERE / name), "--check"], capture_output=True, text=True)
			self.assertEqual((0, "", ""), (made.returncode, made.stdout, made.stderr))

	def test_every_rule(self):
		"""Every rule of the pages below has a vector that breaks it."""
		pages = list((ROOT.parent.parent / "spec").glob("t*/*.md")) + [
			ROOT.parent.parent / "spec" / name for name in ("container.md", "weight.md", "numerics.md")]
		rules = set()
		for page in pages:
			rules |= {line.split("**")[1] for line in page.read_text().splitlines() if line.startswith("- **")}
		self.assertEqual(set(), rules - {v.rule for v in vector_files()})

	def test_command(self):
		"""Exit codes of --check: 0, 3, 4."""
		for name, code in (("dense/good-f32", 0), ("container/bad-plane-bytes", 3), ("container/not-ours-magic", 4),
		                   ("container/unsupported-split", 4)):
			vector = next(v for v in vector_files() if v.name == name + ".hex")
			with self.subTest(name), tempfile.NamedTemporaryFile(suffix=".pith") as file:
				file.write(vector.data)
				file.flush()
				run = subprocess.run([sys.executable, str(READER / "pith_reader.py"), file.name, "--check"],
				                     capture_output=True, text=True)
				self.assertEqual(code, run.returncode, run.stdout + run.stderr)
				if code:
					self.assertIn(vector.rule, run.stdout)


class Damage(unittest.TestCase):
	def test_every_byte(self):
		"""One flipped byte anywhere in a full file is found; nothing but a Fault comes out."""
		vector = next(v for v in vector_files() if v.name == "container/good-full.hex")
		for at in range(len(vector.data)):
			data = bytearray(vector.data)
			data[at] ^= 0xff
			self.assertNotEqual([], faults_of(bytes(data)), f"byte {at}")

	def test_every_length(self):
		vector = next(v for v in vector_files() if v.name == "dense/good-f32.hex")
		for size in range(0, len(vector.data), 7):
			self.assertNotEqual([], faults_of(vector.data[:size]), f"{size} bytes")


def wide(rng, count):
	"""binary32 numbers over many exponents, some with few bits."""
	out = []
	for _ in range(count):
		mantissa = rng.pick(-2 ** 24, 2 ** 24) if rng.below(3) else rng.pick(-4, 4)
		out.append(exact.fl(Fraction(mantissa) * Fraction(2) ** rng.pick(-90, 30)))
	return out


def floats(values):
	return np.array([float(v) for v in values], np.float32)


class Arithmetic(unittest.TestCase):
	def assertBits(self, expected, got):
		"""Rationals have no zero of negative sign: both zeros are taken as one."""
		got = np.atleast_1d(got) + np.float32(0)
		self.assertEqual([exact.bits32(v) for v in expected], got.view(np.uint32).tolist())

	def test_fma(self):
		rng = Random(11)
		a, b, c = wide(rng, 4000), wide(rng, 4000), wide(rng, 4000)
		for i in range(0, 4000, 2):  # half of them cancel but for a few bits, or fall between two numbers
			c[i] = exact.fl(-a[i] * b[i] * (1 + Fraction(rng.pick(-3, 3), 2 ** rng.pick(20, 50))))
		self.assertBits([exact.fma(*v) for v in zip(a, b, c)], numerics.fma(floats(a), floats(b), floats(c)))

	def test_fma_double_rounding(self):
		"""1 + 2^-24 + 2^-60 is just above the middle of two numbers: rounding twice would lose it."""
		a, c = Fraction(2) ** -30 * (1 + Fraction(1, 2 ** 23)), 1 + Fraction(1, 2 ** 23)
		b = Fraction(2) ** 6 * (1 - Fraction(1, 2 ** 23))
		for sign in (1, -1):
			self.assertBits([exact.fma(a, sign * b, c)], numerics.fma(floats([a]), floats([sign * b]), floats([c])))
		half_ulp, tiny = Fraction(1, 2 ** 12), Fraction(1, 2 ** 12) * (1 + Fraction(1, 2 ** 22))
		got = numerics.fma(floats([half_ulp]), floats([tiny]), floats([1]))
		self.assertBits([exact.fma(half_ulp, tiny, Fraction(1))], got)

	def test_dot16(self):
		rng = Random(12)
		for n in (1, 15, 16, 17, 100):
			u, v = wide(rng, n), wide(rng, n)
			self.assertBits([exact.dot16(u, v)], numerics.dot16(floats(u), floats(v)))

	def test_quantize(self):
		rng = Random(13)
		x = [exact.fl(Fraction(rng.pick(-2 ** 20, 2 ** 20), 2 ** 18)) for _ in range(70)] + [Fraction(0)] * 30
		x[64] = Fraction(2) ** -120
		for rule in ((1, 0), (2, 0), (3, 1 / 16), (3, 2.0 ** -10)):
			q, scale = numerics.quantize_activation(floats(x), *rule)
			exact_q, scales = exact.quantize(x, rule)
			self.assertEqual(exact_q, q[:100].tolist())
			self.assertBits(scales[::32], scale)
			self.assertEqual(rule == (3, 2.0 ** -10), min(exact_q) == -127 and exact_q.count(-127) > 5)

	def test_exp(self):
		"""Against exp in binary64: within 1 unit in the last place; the ends as written."""
		x = np.linspace(-87.3, 88, 200001).astype(np.float32)
		self.assertLess(np.abs(numerics.exp(x) / np.exp(x.astype(np.float64)) - 1).max(), 1.2e-7)
		bits = lambda v: int(np.float32(v).view(np.uint32))
		self.assertEqual(bits(1), bits(numerics.exp(np.float32(0))))
		self.assertEqual(0, bits(numerics.exp(np.float32(-87.34))))
		self.assertEqual(bits(numerics.exp(np.float32(88))), bits(numerics.exp(np.float32(1000))))
		self.assertTrue(np.isnan(numerics.exp(np.float32("nan"))))

	def test_rotation(self):
		for position in (0, 1, 511, 100000):
			cos, sin = numerics.rotation(position, 64, 10000.0 ** (-2 / 64))
			angle = position * np.cumprod(np.r_[1.0, np.full(31, 10000.0 ** (-2 / 64))])
			self.assertLess(np.abs(cos - np.cos(angle)).max(), 4e-8)
			self.assertLess(np.abs(sin - np.sin(angle)).max(), 4e-8)

	def test_attention(self):
		"""The recurrence against the plain formula in binary64."""
		rng = np.random.default_rng(1)
		q, keys, values = rng.normal(size=8), rng.normal(size=(70, 8)), rng.normal(size=(70, 8))
		for window in (0, 40):
			first = max(0, 70 - window) if window else 0
			s = keys[first:] @ q / np.sqrt(8)
			p = np.exp(s - s.max())
			expected = p @ values[first:] / p.sum()
			got = numerics.attention(q, keys, values, 69, window)
			self.assertLess(np.abs(got - expected).max(), 1e-6)


if __name__ == "__main__":
	unit_summary.main()
