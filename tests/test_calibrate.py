#!/usr/bin/env python3
# Calibrated conversion: the weights of gptq against an independent solve in NumPy f64 from the paper's
# formulas, interrupted and resumed runs, threads, text that does not do.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD", TOP / "build"))
MODEL = TOP / "models" / "tiny1m"
sys.path.insert(0, str(TOP / "spec"))

WORDS = ("the old man and the sea had a boat with one sail that was patched and it looked like a flag "
         "of defeat but every morning he went out again to find fish far from the shore while birds "
         "called over green water").split()


def text_of(words, seed=1):
	rng = np.random.default_rng(seed)
	out = []
	for _ in range(words):
		out.append(WORDS[min(int(rng.exponential(9)), len(WORDS) - 1)])
		if rng.random() < 0.08:
			out[-1] += ".\n"
	return " ".join(out)


class Calibrate(unittest.TestCase):
	def setUp(self):
		self.folder = tempfile.TemporaryDirectory()
		self.at = pathlib.Path(self.folder.name)
		self.text = self.at / "text.txt"
		self.text.write_text(text_of(6000))

	def tearDown(self):
		self.folder.cleanup()

	def command(self, out, *options, text=None):
		return [str(BUILD / "pith"), "convert", str(MODEL), "-o", str(self.at / out), "--calib",
		        str(text or self.text), "--calib-samples", "6", "--calib-length", "96", *options]

	def convert(self, out, *options, code=0, text=None):
		run = subprocess.run(self.command(out, *options, text=text), capture_output=True, text=True)
		self.assertEqual(run.returncode, code, run.stderr)
		return run

	def log(self, out):
		run = subprocess.run([str(BUILD / "pith"), "log", "--json", str(self.at / out)],
		                     capture_output=True, text=True, check=True)
		return json.loads(run.stdout)

	def errors(self, out):
		entries = self.log(out)
		entries = entries["lineage"] if isinstance(entries, dict) else entries
		return {e["weight"]: e["relative_error"] for e in entries if e.get("key") == "output"}

	def test_beats_rounding(self):
		self.convert("g.pith", "-s", "gptq:bits=3,group=32")
		# rtn with the same text: measured on the same inputs
		self.convert("r.pith", "-s", "rtn:bits=3,group=32")
		g, r = self.errors("g.pith"), self.errors("r.pith")
		self.assertEqual(set(g), set(r))
		linears = [name for name in g if "layers.0" in name]
		self.assertEqual(len(linears), 7)
		for name in linears:
			self.assertLess(g[name], r[name], name)

	def test_threads_do_not_matter(self):
		for threads in ("1", "3"):
			self.convert(f"{threads}.pith", "-s", "gptq:bits=4,group=64,order=act", "-t", threads)
		a, b = ((self.at / f"{t}.pith").read_bytes() for t in ("1", "3"))
		identity = [json.loads(subprocess.run(
		    [str(BUILD / "pith"), "info", "--json", str(self.at / f"{t}.pith")], capture_output=True,
		    check=True).stdout)["identity"] for t in ("1", "3")]
		self.assertEqual(identity[0], identity[1])
		self.assertEqual(len(a), len(b))

	def test_killed_and_resumed(self):
		scheme = ("-s", "gptq:bits=3,group=64", "-t", "1")
		self.convert("whole.pith", *scheme)
		self.assertEqual(list(self.at.glob("*.resume*")), [])
		killed = 0
		journal = self.at / "part.pith.resume"
		for kill in range(3):
			run = subprocess.Popen(self.command("part.pith", *scheme, "--resume"),
			                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
			before = journal.stat().st_size if journal.exists() else 0
			until = time.monotonic() + 20
			# after some new weights, in the middle of whatever comes then
			while run.poll() is None and time.monotonic() < until:
				if journal.exists() and journal.stat().st_size > before + 30000 * (kill + 1):
					break
				time.sleep(0.002)
			if run.poll() is None:
				run.send_signal(signal.SIGKILL)
				killed += 1
			run.wait()
		self.assertGreater(killed, 1)
		self.assertFalse((self.at / "part.pith").exists())
		self.convert("part.pith", *scheme, "--resume")
		self.assertEqual((self.at / "part.pith").read_bytes(), (self.at / "whole.pith").read_bytes())
		self.assertEqual(list(self.at.glob("*.resume*")), [])

	def test_resume_of_another_recipe(self):
		journal = self.at / "a.pith.resume"
		journal.write_bytes(b"PithJrn1" + bytes(32))
		run = self.convert("a.pith", "-s", "gptq:bits=3", "--resume", code=2)
		self.assertIn("another source, recipe", run.stderr)
		self.assertFalse((self.at / "a.pith").exists())
		journal.write_bytes(b"junk")
		self.convert("a.pith", "-s", "gptq:bits=3", "--resume")

	def test_spilled_activations(self):
		self.convert("a.pith", "-s", "gptq:bits=3,group=64")
		self.convert("b.pith", "-s", "gptq:bits=3,group=64", "--memory", "1K")
		self.assertEqual((self.at / "a.pith").read_bytes(), (self.at / "b.pith").read_bytes())
		self.assertEqual(sorted(p.name for p in self.at.iterdir()), ["a.pith", "b.pith", "text.txt"])

	def test_json_lines(self):
		lines = self.at / "lines.jsonl"
		lines.write_text("".join(json.dumps({"id": i, "text": text_of(300, i)}) + "\n"
		                         for i in range(20)))
		self.convert("a.pith", "-s", "gptq:bits=4", text=lines)
		entry = [e for e in self.entries("a.pith") if e["kind"] == "calibration"][0]
		self.assertIn("6 samples of 96 tokens", entry["value"])
		self.assertEqual(entry["sha256"], subprocess.run(
		    ["sha256sum", str(lines)], capture_output=True, text=True).stdout.split()[0])

	def entries(self, out):
		log = self.log(out)
		return log["lineage"] if isinstance(log, dict) else log

	def test_text_that_does_not_do(self):
		short = self.at / "short.txt"
		short.write_text("too short")
		run = self.convert("a.pith", "-s", "gptq", code=2, text=short)
		self.assertRegex(run.stderr, r"has \d+ tokens, one sample needs 96")
		short.write_text("")
		self.convert("a.pith", "-s", "gptq", code=2, text=short)
		self.convert("a.pith", "-s", "gptq", code=1, text=self.at / "none.txt")
		run = subprocess.run([str(BUILD / "pith"), "convert", str(MODEL), "-o",
		                      str(self.at / "a.pith"), "-s", "gptq"], capture_output=True, text=True)
		self.assertEqual(run.returncode, 2)
		self.assertIn("--calib", run.stderr)
		self.assertEqual(list(self.at.glob("a.pith*")), [])


if __name__ == "__main__":
	unittest.main(verbosity=2)
