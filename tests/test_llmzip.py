#!/usr/bin/python3
# pith eval --llmzip against a binary64 forward pass over every window anew, zlib, and the
# definitions of the paper's codes.
#
# Runs from the root of the tree; BUILD names the folder of the pith command.
#
# SPDX-License-Identifier: Apache-2.0

import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products, shared cores
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PITH = ROOT / os.environ.get("BUILD", "build") / "pith"
MODEL = ROOT / "models" / "tiny1m"
sys.path.insert(0, str(HERE))

import unit_summary
from oracle_bpe import Encoder
from oracle_llama import Llama

WINDOW, TOKENS = 24, 150


class LLMZip(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.folder = tempfile.TemporaryDirectory()
		cls.addClassCleanup(cls.folder.cleanup)
		folder = pathlib.Path(cls.folder.name)
		cls.text = "Naïve façades — " + (ROOT / "bench/texts/docs-eips-00.txt").read_text()[3000:5000]
		(folder / "text").write_text(cls.text, encoding="utf-8")
		cls.ids = Encoder(MODEL).encode(cls.text)[:TOKENS]
		cls.model = folder / "bf16.pith"
		subprocess.run([PITH, "convert", MODEL, "-o", cls.model, "--scheme", "bf16"], check=True, capture_output=True)
		cls.got = cls.run_eval("--limit", str(TOKENS), "--window", str(WINDOW + 1))
		llama = Llama(MODEL)
		start = json.loads((MODEL / "config.json").read_text())["bos_token_id"]
		beginning = llama.logits([start] + cls.ids[:WINDOW - 1])
		cls.logits = list(beginning) + [llama.logits(cls.ids[i - WINDOW:i])[-1] for i in range(WINDOW, TOKENS)]
		cls.p = [np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in cls.logits]

	@classmethod
	def run_eval(cls, *options):
		return json.loads(subprocess.run(
			[PITH, "eval", cls.model, "--text", pathlib.Path(cls.folder.name) / "text", "--llmzip", "--json", *options],
			check=True, capture_output=True).stdout)

	def test_text(self):
		self.assertEqual(TOKENS, self.got["tokens"])
		data = self.text.encode()[:self.got["bytes"]]
		self.assertEqual(len(data.decode()), self.got["characters"])
		self.assertLess(self.got["characters"], self.got["bytes"])

	def test_entropy(self):
		want = sum(-math.log2(p[t]) for p, t in zip(self.p, self.ids))
		self.assertLess(abs(self.got["entropy_bits"] / want - 1), 1e-6)

	def test_token_by_token(self):
		want = sum(max(1, math.ceil(-math.log2(p[t]))) for p, t in zip(self.p, self.ids))
		self.assertEqual(want, self.got["token_bits"])

	def test_ranks(self):
		ranks = [int((p > p[t]).sum() + (p[:t] == p[t]).sum()) for p, t in zip(self.p, self.ids)]
		text = "".join("%d " % r for r in ranks).encode()
		self.assertEqual(8 * len(gzip.compress(text, 9)), self.got["rank_bits"])

	def test_arithmetic(self):
		want = sum(-math.log2((p[t] * 1e7 + 1) / (1e7 + len(p))) for p, t in zip(self.p, self.ids))
		self.assertLess(abs(self.got["arithmetic_bits"] - want), 8)  # bits still pending at the end

	def test_threads(self):
		again = self.run_eval("--limit", str(TOKENS), "--window", str(WINDOW + 1), "--threads", "1")
		self.assertEqual({**self.got, "seconds": 0}, {**again, "seconds": 0})

	def test_window_too_long(self):
		r = subprocess.run([PITH, "eval", self.model, "--text", self.model, "--llmzip", "--window", "100000"],
		                   capture_output=True, text=True)
		self.assertEqual(2, r.returncode)
		self.assertIn("512", r.stderr)


if __name__ == "__main__":
	unit_summary.main()
