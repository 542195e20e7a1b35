#!/usr/bin/env python3
# Folds and orders: the function stays (binary64 oracle), and what each method chose is what its paper's
# formulas give in NumPy.  The twin with planted outliers is the same function.
#
# SPDX-License-Identifier: Apache-2.0

import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD", TOP / "build"))
MODEL = TOP / "models" / "tiny1m"
for folder in ("tests", "spec/reader", "bench"):
	sys.path.insert(0, str(TOP / folder))

from make_twin import make_twin, times_power
from oracle_bpe import Encoder
from oracle_llama import Llama
from reader_container import PithFile

TEXT = ("It was late when the two of them came down from the hills, and the road to the harbour was "
        "empty. \"There will be 12 boats,\" she said, \"or none at all.\" He counted the lights: three, "
        "four; the rest had gone out with the tide. A dog barked. The old house stood where it had always "
        "stood, its windows dark, and behind it the mill, the church and the long wall of the garden in "
        "which nothing had grown for years. They did not stop. ") * 2
SITES = {  # of a block: the linears that read it
	"attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
	"context": ("self_attn.o_proj",),
	"ffn": ("mlp.gate_proj", "mlp.up_proj"),
	"gated": ("mlp.down_proj",),
}
NORMS = {"attention": "input_layernorm", "ffn": "post_attention_layernorm"}


class Watched(Llama):
	"""Keeps the inputs of all linears."""

	def with_identity(self, name, run, x, prefix):
		weights = self.weights
		self.weights = dict(weights) | {name: np.eye(weights[name].shape[1])}
		out = run(x, prefix)
		self.weights = weights
		return out

	def attention(self, x, prefix):
		name = f"{prefix}.o_proj.weight"
		out = self.with_identity(name, super().attention, x, prefix)
		self.seen[prefix.split(".")[2], "attention"], self.seen[prefix.split(".")[2], "context"] = x, out
		return out @ self.weights[name].T

	def feed_forward(self, x, prefix):
		name = f"{prefix}.down_proj.weight"
		out = self.with_identity(name, super().feed_forward, x, prefix)
		self.seen[prefix.split(".")[2], "ffn"], self.seen[prefix.split(".")[2], "gated"] = x, out
		return out @ self.weights[name].T


def run(*args):
	return subprocess.run([str(a) for a in args], capture_output=True, text=True)


def grid_rows(w, bits, group, sym):
	"""Round to nearest on grids over the ends of each group's range, which holds 0; f16 scales."""
	out, top = np.empty_like(w), 2 ** bits - 1
	for first in range(0, w.shape[1], group):
		g = w[:, first:first + group]
		low, high = np.minimum(g.min(axis=1), 0), np.maximum(g.max(axis=1), 0)
		if sym:
			zero = np.full(len(g), (top + 1) / 2)
			scale = np.where(-low >= high, low, high) / -zero
		else:
			scale = (high - low) / top
		scale = scale.astype(np.float16).astype(np.float64)
		scale = np.where(scale == 0, 2.0 ** -24, scale)
		if not sym:
			zero = np.rint(np.clip(-low / scale, 0, top))
		codes = np.clip(np.rint(g / scale[:, None] + zero[:, None]), 0, top)
		out[:, first:first + group] = scale[:, None] * (codes - zero[:, None])
	return out


def round_tokens(x):
	scale = np.abs(x).max(axis=1, keepdims=True) / 127
	return np.rint(x / scale) * scale


class Folds(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.folder = tempfile.TemporaryDirectory()
		cls.at = pathlib.Path(cls.folder.name)
		cls.text = cls.at / "text.txt"
		cls.text.write_text(TEXT)
		# one sample of all tokens: every position is seen, by both
		out = run(BUILD / "pith", "convert", MODEL, "-o", cls.at / "x.pith", "-s", "gptq", "--calib", cls.text,
		          "--calib-length", "100000")
		cls.length = int(re.search(r"has (\d+) tokens", out.stderr).group(1))
		ids = Encoder(MODEL).encode(TEXT)
		cls.ids = [0] * (cls.length - len(ids)) + ids
		assert len(cls.ids) == cls.length and cls.length - len(ids) <= 1
		cls.model = Watched(MODEL)
		cls.model.seen = {}
		cls.logits = cls.model.logits(cls.ids)

	@classmethod
	def tearDownClass(cls):
		cls.folder.cleanup()

	def convert(self, scheme, *options):
		out = self.at / (re.sub(r"\W", "_", scheme) + "_".join(options).replace("-", "") + ".pith")
		done = run(BUILD / "pith", "convert", MODEL, "-o", out, "-s", scheme, "--calib", self.text,
		           "--calib-length", self.length, "--calib-samples", 1, "--force", *options)
		self.assertEqual(done.returncode, 0, done.stderr)
		return out

	def weights(self, path):
		file = PithFile(path.read_bytes())
		w = {weight.name: file.unpack(weight).astype(np.float64) for weight in file.weights()}
		return {name: x.reshape(self.model.weights[name].shape) for name, x in w.items()}

	def identity(self, path):
		return json.loads(run(BUILD / "pith", "info", "--json", path).stdout)["identity"]

	def blocks(self, *sites):
		return ((b, s) for b in range(self.model.blocks) for s in sites)

	def factors(self, new, block, site):
		"""What the fold multiplied the columns of a site by."""
		p, old = f"model.layers.{block}.", self.model.weights
		if site in NORMS:
			name = f"{p}{NORMS[site]}.weight"
			return old[name] / new[name]
		name = f"{p}{SITES[site][0]}.weight"
		return np.median(new[name] / old[name], axis=0)

	def columns(self, block, site):
		return [self.model.weights[f"model.layers.{block}.{name}.weight"] for name in SITES[site]]

	def output(self, block, site, x, weights):
		"""What the block makes of x with these weights in the place of the site's."""
		p = f"model.layers.{block}."
		part = {"attention": (Llama.attention, "self_attn"), "ffn": (Llama.feed_forward, "mlp")}
		if site not in part:
			return x @ weights[0].T
		model = copy.copy(self.model)
		model.weights = self.model.weights | {f"{p}{name}.weight": w for name, w in zip(SITES[site], weights)}
		return part[site][0](model, x, p + part[site][1])

	def loss(self, block, site, s, round_weights, round_inputs):
		x, w = self.model.seen[str(block), site], self.columns(block, site)
		exact = self.output(block, site, x, w)
		rounded = self.output(block, site, round_inputs(x / s), [round_weights(v * s) for v in w])
		return ((rounded - exact) ** 2).sum() / (exact ** 2).sum()

	def test_function_stays(self):
		for scheme in ("awq:clip=0+f32", "smoothquant:sites=all+f32", "os+:sites=all,steps=8+f32"):
			new = self.weights(self.convert(scheme))
			model = Llama(MODEL)
			changed = sum(not np.array_equal(new[name], w) for name, w in model.weights.items())
			self.assertGreater(changed, 20, scheme)
			model.weights = new
			model.head = new["model.embed_tokens.weight"]
			error = np.abs(model.logits(self.ids) - self.logits).max() / np.abs(self.logits).max()
			self.assertLess(error, 1e-6, scheme)

	def test_smoothquant(self):
		new = self.weights(self.convert("smoothquant:alpha=0.6+f32"))
		for block, site in self.blocks("attention", "ffn"):
			a = np.abs(self.model.seen[str(block), site]).max(axis=0)
			m = np.max([np.abs(w).max(axis=0) for w in self.columns(block, site)], axis=0)
			s = np.maximum(a ** 0.6 / np.maximum(m, 1e-5) ** 0.4, 1e-5)
			np.testing.assert_allclose(self.factors(new, block, site), s, rtol=1e-4)
			for name in SITES[site]:
				name = f"model.layers.{block}.{name}.weight"
				np.testing.assert_allclose(new[name], self.model.weights[name] * s, rtol=1e-4, atol=1e-9)
		for block, site in self.blocks("context", "gated"):
			self.assertTrue(np.array_equal(*[w[f"model.layers.{block}.{SITES[site][0]}.weight"]
			                                 for w in (new, self.model.weights)]))

	def check_awq_scales(self, scheme, duo):
		new = self.weights(self.convert(scheme))
		rounded = lambda w: grid_rows(w, 4, 128, False)
		moved = 0
		for block, site in self.blocks("attention", "ffn", "gated"):
			mean = np.abs(self.model.seen[str(block), site]).mean(axis=0)
			share = self.share_of_group(np.concatenate(self.columns(block, site)), 128)
			candidates = []
			for i in range(20):
				s = mean ** (i / 20) / (share ** (1 - i / 20) + 1e-4 if duo else 1)
				s = np.maximum(s, 1e-4)
				candidates.append(s / np.sqrt(s.max() * s.min()))
			s = self.factors(new, block, site)
			near = [np.abs(s / c - 1).max() for c in candidates]
			chosen = int(np.argmin(near))
			self.assertLess(near[chosen], 1e-3, (block, site))
			losses = [self.loss(block, site, c, rounded, lambda x: x) for c in candidates]
			self.assertLess(losses[chosen], min(losses) * 1.01, (block, site))
			moved += chosen > 0
		self.assertGreater(moved, 4)

	@staticmethod
	def share_of_group(w, group):
		"""Mean over the rows of |w| relative to the largest of its group."""
		w = np.abs(w)
		return np.concatenate([(g / (g.max(axis=1, keepdims=True) + 1e-6)).mean(axis=0)
		                       for g in np.split(w, range(group, w.shape[1], group), axis=1)])

	def test_awq_scales(self):
		self.check_awq_scales("awq:clip=0+f32", True)
		self.check_awq_scales("awq:clip=0,scale=inputs+f32", False)

	def test_osplus(self):
		new = self.weights(self.convert("os+:steps=24+f32"))
		rounded = lambda w: grid_rows(w, 8, w.shape[1], True)
		moved = 0
		for block, site in self.blocks("attention", "ffn", "gated"):
			absmax = np.abs(self.model.seen[str(block), site]).max(axis=0)
			most = absmax.max()
			steps = max(24, int(most / 0.5))
			candidates = [np.maximum(1, absmax / (most - (most - 0.1) * i / steps)) for i in range(steps)]
			s = self.factors(new, block, site)
			near = [np.abs(s / c - 1).max() for c in candidates]
			chosen = int(np.argmin(near))
			self.assertLess(near[chosen], 1e-3, (block, site))
			losses = [self.loss(block, site, c, rounded, round_tokens) for c in candidates]
			self.assertLess(losses[chosen], min(losses) * 1.02, (block, site))
			moved += chosen > 0
		self.assertGreater(moved, 4)

	def test_shift(self):
		"""Every column is centred, and the bias gives back what the weight loses by it."""
		path = self.convert("os+:steps=3,shift=1+f32")
		file, new = PithFile(path.read_bytes()), self.weights(path)
		for block, site in self.blocks("attention", "ffn", "gated"):
			x, s = self.model.seen[str(block), site], self.factors(new, block, site)
			z = (x.max(axis=0) + x.min(axis=0)) / 2
			for name in (f"model.layers.{block}.{name}.weight" for name in SITES[site]):
				shift, = file.bind(file.find(name))[1]
				bias = new[name] @ shift.zero.astype(np.float64)
				self.assertEqual(shift.name, "shift")
				self.assertLess(np.abs(shift.zero * s - z).max(), 1e-4 * np.abs(z).max())
				self.assertLess(np.abs(shift.bias - bias).max(), 1e-5 * np.abs(bias).max())
		self.assertEqual(file.bind(file.find("model.layers.0.self_attn.o_proj.weight"))[1], [])
		# float weights: what comes out is the model, in the engine too
		run(BUILD / "pith", "convert", MODEL, "-o", self.at / "exact.pith", "-s", "f32", "--force")
		done = run(BUILD / "pith", "eval", path, "--text", self.text, "--against", self.at / "exact.pith", "--json")
		self.assertLess(json.loads(done.stdout)["kl"], 1e-6, done.stderr)

	def test_activations(self):
		"""act=: the rule of every matrix, and a static scale that the largest input of the text just fits."""
		largest = {s: np.abs(self.model.seen["0", s]).max() for s in SITES}
		for name, rule in (("8", 1), ("token", 2), ("static", 3)):
			path = self.convert(f"rtn:bits=8,group=row,act={name}")
			file = PithFile(path.read_bytes())
			for site in SITES if rule == 3 else ():
				weight = file.find(f"model.layers.0.{SITES[site][0]}.weight")
				# stages before it are quantized, so only near
				self.assertAlmostEqual(weight.activation_scale * 127 / largest[site], 1, delta=0.02)
			rules = {w.activation for w in file.weights() if w.rank == 2}
			self.assertEqual(rules, {rule})
			self.assertEqual(run(BUILD / "pith", "verify", path).returncode, 0)
		done = run(BUILD / "pith", "convert", MODEL, "-o", self.at / "bad.pith", "-s", "rtn:act=static")
		self.assertEqual(done.returncode, 2)
		self.assertIn("--calib", done.stderr)

	def test_awq_clamps(self):
		new = self.weights(self.convert("awq:scale=none+rtn:bits=3,group=32,search=0"))
		for name, site, clamped in (("self_attn.v_proj", "attention", True), ("mlp.up_proj", "ffn", True),
		                            ("self_attn.q_proj", "attention", False)):
			name = f"model.layers.0.{name}.weight"
			x, w = self.model.seen["0", site], self.model.weights[name]
			better = 0
			for first in range(0, w.shape[1], 32):
				g, h = w[:, first:first + 32], x[:, first:first + 32].T @ x[:, first:first + 32]
				most = np.abs(g).max(axis=1, keepdims=True)
				error = lambda q: np.einsum("ri,ij,rj->r", q - g, h, q - g)
				errors = np.array([error(grid_rows(np.clip(g, -most * (1 - i / 20), most * (1 - i / 20)), 3, 32, False))
				                   for i in range(10 if clamped else 1)])
				stored = error(new[name][:, first:first + 32])
				# all but a few, which a tie of the rounding decides
				self.assertGreater((np.abs(stored / errors.min(axis=0) - 1) < 1e-3).mean(), 0.95, name)
				self.assertAlmostEqual(stored.sum() / errors.min(axis=0).sum(), 1, delta=0.01)
				better += (stored < errors[0] * 0.99).sum()
			self.assertEqual(better > w.size / 32 / 4, clamped, name)

	def test_rptq(self):
		path = self.convert("rptq:clusters=64+f32")
		new, file = self.weights(path), PithFile(path.read_bytes())
		for block, site in self.blocks(*SITES):
			x = self.model.seen[str(block), site]
			ranges = np.abs(x).max(axis=0)
			spread = lambda r: sum(r[i:i + 32].max() for i in range(0, len(r), 32))
			for name in SITES[site]:
				name = f"model.layers.{block}.{name}.weight"
				self.assertTrue(np.array_equal(new[name], self.model.weights[name]))
				transform = file.bind(file.find(name))[1]
				self.assertEqual([t.name for t in transform], ["permute"])
				order = np.asarray(transform[0].index)
				self.assertEqual(sorted(order), list(range(len(ranges))))
				self.assertLess(spread(ranges[order]), spread(np.sort(ranges)) * 1.15)
				self.assertLess(spread(ranges[order]), spread(ranges) * 0.95)

	def test_llm_qat(self):
		new = self.weights(self.convert("llm-qat:bits=4"))
		for name, w in self.model.weights.items():
			if w.ndim == 1:
				continue
			scale = (np.abs(w).max(axis=1, keepdims=True) + 1e-6) / 7
			codes = np.rint(w / scale)
			stored = scale.astype(np.float32).astype(np.float16).astype(np.float64)
			off = np.abs(new[name] - codes * stored) > 1e-7
			self.assertLess(off.mean(), 1e-3, name)  # ties that f32 decides otherwise
			self.assertLessEqual(np.abs(new[name] / stored).max(), 7.001)

	def test_schemes(self):
		pairs = (("awq:clip=0,bits=3", "awq:clip=0+rtn:bits=3"), ("os+:steps=3,bits=8", "os+:steps=3+rtn:bits=8"))
		for short, long in pairs:
			self.assertEqual(self.identity(self.convert(short)), self.identity(self.convert(long)))
		self.assertEqual(self.identity(self.convert("awq:bits=3", "-t", "1")),
		                 self.identity(self.convert("awq:bits=3", "-t", "3")))
		for bad in ("awq:nonsense=1", "rtn+awq", "rptq+awq:bits=4", "smoothquant:alpha=2", "os"):
			done = run(BUILD / "pith", "convert", MODEL, "-o", self.at / "bad.pith", "-s", bad, "--calib", self.text)
			self.assertEqual(done.returncode, 2, bad)


class Twin(unittest.TestCase):
	def test_same_function(self):
		with tempfile.TemporaryDirectory() as folder:
			planted = make_twin(MODEL, folder)
			one, two = Llama(MODEL), Llama(folder)
			ids = [1, 17, 400, 23, 23, 901, 5, 64]
			a, b = one.logits(ids), two.logits(ids)
			self.assertLess(np.abs(a - b).max(), 1e-12 * np.abs(a).max())
			for name, channels in planted.items():
				ratio = two.weights[name] / one.weights[name]
				self.assertEqual(len(channels), round(0.02 * len(ratio)))
				self.assertTrue(np.array_equal(np.flatnonzero(ratio == 32), channels))
				self.assertEqual((ratio == 1).sum(), len(ratio) - len(channels))

	def test_refuses_what_is_not_exact(self):
		self.assertEqual(times_power(np.array([0x3f80, 0, 0x8000], "<u2"), "BF16", -5).tolist(), [0x3d00, 0, 0x8000])
		for bits, power in ((0x7f00, 5), (0x0100, -5), (0x0001, 1), (0x7f80, 1)):
			with self.assertRaises(SystemExit):
				times_power(np.array([bits], "<u2"), "BF16", power)


if __name__ == "__main__":
	unittest.main(verbosity=2)
