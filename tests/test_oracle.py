#!/usr/bin/python3
# The engine's logits against a binary64 forward pass, and that one against the framework
# that trained the models.
#
# Runs from the root of the tree; BUILD names the folder of the pith command.
#
# SPDX-License-Identifier: Apache-2.0

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
sys.path.insert(0, str(HERE))

import unit_summary
from oracle_bpe import Encoder
from oracle_llama import Llama, nll

BOUND = 3e-5  # of the largest |logit|
WINDOW = 512


def text_of(name):
	return (ROOT / "bench" / "texts" / name).read_text(encoding="utf-8")


class Oracle(unittest.TestCase):
	"""The oracle itself, against reference.json of the two models."""

	def test_prompt(self):
		for name in ("tiny1m", "books6m"):
			with self.subTest(name):
				reference = json.loads((ROOT / "models" / name / "reference.json").read_text())
				llama, ids = Llama(ROOT / "models" / name), reference["prompt_ids"]
				self.assertEqual(ids, Encoder(ROOT / "models" / name).encode(reference["prompt"]))
				last = llama.logits(ids)[-1]
				self.assertLess(np.abs(last[:64] - reference["last_logits_first_64"]).max(), 2e-5)
				grown = list(ids)
				for _ in reference["greedy_ids_48"]:
					grown.append(int(llama.logits(grown)[-1].argmax()))
				self.assertEqual(reference["greedy_ids_48"], grown[len(ids):])

	def test_perplexity(self):
		"""A whole text: the same tokens, and the perplexity of the framework to a part in 10^5."""
		folder = ROOT / "models" / "tiny1m"
		reference = json.loads((folder / "reference.json").read_text())["texts"]["docs_eips_00"]
		llama, ids = Llama(folder), Encoder(folder).encode(text_of("docs-eips-00.txt"))
		self.assertEqual(reference["tokens"], len(ids))
		total = 0.0
		for first in range(0, len(ids), WINDOW):
			part = ids[first:first + WINDOW]
			total += nll(llama.logits(part), part)
		self.assertLess(abs(math.exp(total / reference["predicted"]) / reference["perplexity"] - 1), 1e-5)


class Engine(unittest.TestCase):
	"""pith convert and pith eval on 512 tokens, against the oracle on the safetensors."""

	@classmethod
	def setUpClass(cls):
		cls.folder = tempfile.TemporaryDirectory()
		cls.addClassCleanup(cls.folder.cleanup)
		text = ROOT / "bench" / "texts" / "docs-peps-00.txt"
		cls.ids = Encoder(ROOT / "models" / "books6m").encode(text_of("docs-peps-00.txt")[:8192])[:WINDOW]
		cls.engine = {}
		for scheme in ("bf16", "f32"):
			file, dump = (pathlib.Path(cls.folder.name) / (scheme + end) for end in (".pith", ".f32"))
			cls.run_pith("convert", ROOT / "models" / "books6m", "-o", file, "--scheme", scheme)
			cls.run_pith("eval", file, "--text", text, "--window", WINDOW, "--limit", WINDOW, "--dump-logits", dump)
			cls.engine[scheme] = np.fromfile(dump, "<f4").reshape(WINDOW, -1)
		cls.oracle = Llama(ROOT / "models" / "books6m").logits(cls.ids)

	@staticmethod
	def run_pith(*arguments):
		run = subprocess.run([str(PITH)] + [str(a) for a in arguments], capture_output=True, text=True)
		if run.returncode != 0:
			raise AssertionError(f"pith {arguments[0]}: exit {run.returncode}: {run.stderr}")

	def distance(self, logits, oracle):
		"""Largest |difference| over the largest |logit|."""
		return np.abs(logits - oracle).max() / np.abs(oracle).max()

	def test_logits(self):
		got = self.distance(self.engine["bf16"], self.oracle)
		print(f"max |difference| / max |logit| over {WINDOW} positions: {got:.2e} (bound {BOUND:.0e})")
		self.assertEqual(self.oracle.shape, self.engine["bf16"].shape)
		self.assertLessEqual(got, BOUND)

	def test_dense_kinds_agree(self):
		"""bf16 widened when it is stored or when it is used: the same bits."""
		self.assertEqual(self.engine["bf16"].tobytes(), self.engine["f32"].tobytes())

	def test_wrong_eps(self):
		"""The bound would see an eps of 1e-6 in place of 1e-5."""
		wrong = Llama(ROOT / "models" / "books6m", eps=1e-6).logits(self.ids)
		got = self.distance(self.engine["bf16"], wrong)
		print(f"with an eps of 1e-6 in the oracle: {got:.2e}")
		self.assertGreater(got, BOUND)


if __name__ == "__main__":
	unit_summary.main()
