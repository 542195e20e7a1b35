#!/usr/bin/env python3
# Schemes chosen for a size: the size is kept, the choice is better than one scheme for all, and the rules
# that come out make the same file again.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent
PITH = str(pathlib.Path(os.environ.get("BUILD", TOP / "build")) / "pith")
MODEL = str(TOP / "models" / "tiny1m")
CALIB = TOP / "bench" / "texts" / "docs-eips-00.txt"
HELD_OUT = TOP / "bench" / "texts" / "docs-peps-00.txt"


class Allocate(unittest.TestCase):
	def setUp(self):
		self.folder = tempfile.TemporaryDirectory()
		self.at = pathlib.Path(self.folder.name)

	def tearDown(self):
		self.folder.cleanup()

	def run_pith(self, *arguments, code=0):
		run = subprocess.run([PITH, *map(str, arguments)], capture_output=True, text=True)
		self.assertEqual(run.returncode, code, run.stderr)
		return run

	def convert(self, out, *options, code=0):
		run = self.run_pith("convert", MODEL, "-o", self.at / out, "--json", "--calib", CALIB, "--calib-samples", 12,
		                    "--calib-length", 128, *options, code=code)
		return json.loads(run.stdout) if code == 0 else run

	def evaluate(self, name):
		run = self.run_pith("eval", self.at / name, "--text", HELD_OUT, "--limit", 3000, "--against", self.at / "ref.pith",
		                    "--windows", "--json")
		return json.loads(run.stdout)

	def test_better_than_one_scheme(self):
		self.run_pith("convert", MODEL, "-o", self.at / "ref.pith")
		self.convert("one.pith", "-s", "gptq:bits=3,group=64")
		one = self.evaluate("one.pith")
		chosen = self.convert("chosen.pith", "--bits", f"{one['bits_per_weight']:.4f}")
		many = self.evaluate("chosen.pith")
		self.assertLessEqual(many["bits_per_weight"], one["bits_per_weight"] + 1e-4)
		self.assertGreater(many["bits_per_weight"], 0.995 * one["bits_per_weight"])
		self.assertLess(many["kl"], one["kl"])
		self.assertLess(many["perplexity"], one["perplexity"])
		# one meaning of bits per weight
		info = json.loads(self.run_pith("info", "--json", self.at / "chosen.pith").stdout)
		self.assertAlmostEqual(info["bits_per_weight"], chosen["bits_per_weight"], places=9)
		self.assertAlmostEqual(info["bits_per_weight"], many["bits_per_weight"], places=9)
		# windows add up to the whole
		self.assertAlmostEqual(sum(w[1] for w in many["windows"]), many["nll"], places=5)
		self.assertEqual(sum(w[0] for w in many["windows"]), many["predicted"])
		# the recipe makes the same file
		rules = self.at / "rules"
		rules.write_text("# of chosen.pith\n\n" + self.run_pith("log", "--rules", self.at / "chosen.pith").stdout)
		self.convert("again.pith", "--rules", rules)
		self.assertEqual((self.at / "again.pith").read_bytes(), (self.at / "chosen.pith").read_bytes())
		self.assertEqual(len(chosen["choices"]), 29)  # 4 blocks of 7 linears, the tied table

	def test_size_of_file(self):
		size, rule = 480000, r"layers\.[123]\..*proj=rtn:bits=3"
		self.convert("s.pith", "--size", size, "--rule", rule)
		self.assertLessEqual(os.path.getsize(self.at / "s.pith"), size)
		# tables and texts, which are bounded and not known, are a fifth of so small a file
		self.assertGreater(os.path.getsize(self.at / "s.pith"), 0.985 * size)
		entries = json.loads(self.run_pith("log", "--json", self.at / "s.pith").stdout)["lineage"]
		rules = [e["value"] for e in entries if e["key"] == "rule"]
		self.assertEqual(rules[0], rule)
		self.assertEqual(len(rules), 1 + 7 + 1)  # what is left: a block, the tied table

	def test_dry_run(self):
		"""What choosing costs is counted too."""
		plain = self.convert("x.pith", "-s", "gptq:bits=3,group=64", "--dry-run")
		chosen = self.convert("x.pith", "--bits", "3.2", "--dry-run")
		self.assertGreater(chosen["seconds"], 2 * plain["seconds"])
		self.assertGreater(chosen["memory_nbytes"], plain["memory_nbytes"])
		self.assertEqual(list(self.at.iterdir()), [])

	def test_refused(self):
		for options, why in ((("--bits", "1"), "at least"), (("--size", "1000"), "too small"),
		                     (("--bits", "3", "--size", "1M"), "exclude"), (("--bits", "3", "-s", "bf16"), "--rule"),
		                     (("--bits", "3", "-r", ".*proj|embed=rtn"), "nothing to choose")):
			self.assertIn(why, self.convert("x.pith", *options, code=2).stderr)
		run = self.run_pith("convert", MODEL, "-o", self.at / "x.pith", "--bits", 3, code=2)
		self.assertIn("--calib", run.stderr)
		self.assertEqual(list(self.at.iterdir()), [])


if __name__ == "__main__":
	unittest.main(verbosity=2)
