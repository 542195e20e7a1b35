#!/usr/bin/python3
# Models that spqr and owq made: every stored rule holds and the weights are readable for the spec's
# reader, the engine runs them, and they predict better than rounding to nearest at about the same size.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
PITH = TOP / os.environ.get("BUILD", "build") / "pith"
sys.path.insert(0, str(TOP / "spec" / "reader"))
from reader_container import PithFile  # noqa: E402
from reader_verify import verify  # noqa: E402

CALIB = TOP / "bench" / "texts" / "docs-eips-00.txt"
HELD_OUT = TOP / "bench" / "texts" / "docs-peps-00.txt"


class QuantizedModels(unittest.TestCase):
	def pith(self, *args):
		run = subprocess.run([PITH, *map(str, args)], capture_output=True, text=True, timeout=120)
		self.assertEqual(run.returncode, 0, run.stderr)
		return run.stdout

	def convert(self, folder, name, scheme):
		out = pathlib.Path(folder) / name
		report = json.loads(self.pith("convert", TOP / "models" / "tiny1m", "-o", out, "-s", scheme,
		                              "--calib", CALIB, "--calib-samples", 8, "--calib-length", 128,
		                              "--json"))
		return out, report

	def perplexity(self, path):
		return json.loads(self.pith("eval", path, "--text", HELD_OUT, "--limit", 1500, "--window", 128,
		                            "--json"))["perplexity"]

	def test_run_and_read(self):
		with tempfile.TemporaryDirectory() as folder:
			rtn, report = self.convert(folder, "r.pith", "rtn:bits=2,group=32,search=0")
			most, limit = self.perplexity(rtn), report["bits_per_weight"]
			for name, scheme, kinds in (("s", "spqr:bits=2,outliers=0.5%,order=act", {"affine", "sparse"}),
			                            ("o", "owq:bits=2.1,group=64", {"affine", "columns"})):
				path, report = self.convert(folder, name + ".pith", scheme)
				self.assertEqual([str(f) for f in verify(PithFile(path.read_bytes()))], [])
				self.assertLess(report["bits_per_weight"], limit + 0.75)
				value = self.perplexity(path)
				self.assertTrue(np.isfinite(value))
				self.assertLess(value, most, scheme)
				info = json.loads(self.pith("info", "--json", path))
				self.assertTrue(kinds <= set(json.dumps(info).replace('"', " ").replace(",", " ").split()),
				                scheme)


if __name__ == "__main__":
	unittest.main(verbosity=2)
