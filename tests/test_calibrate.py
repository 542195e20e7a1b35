#!/usr/bin/env python3
# Calibrated conversion: the weights of gptq against an independent solve in NumPy f64 from the paper's
# formulas, interrupted and resumed runs, threads, text that does not do.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import random
import resource
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

	SCHEME = ("-s", "os+:steps=2,shift=1+gptq:bits=3,group=64", "-t", "1")

	def kill_after(self, seconds):
		"""Kill a resumed conversion of part.pith; false: it was done before."""
		run = subprocess.Popen(self.command("part.pith", *self.SCHEME, "--resume"),
		                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
		try:
			run.wait(seconds)
		except subprocess.TimeoutExpired:
			run.send_signal(signal.SIGKILL)
		return run.wait() == -signal.SIGKILL

	def leave_half(self, stages):
		"""Kill a conversion that has committed this many stages; the journal's path."""
		journal, states = self.at / "part.pith.resume", self.at / f"part.pith.resume-{stages % 2}"
		run = subprocess.Popen(self.command("part.pith", *self.SCHEME), stdout=subprocess.DEVNULL,
		                       stderr=subprocess.DEVNULL)
		size = 0
		while run.poll() is None and size == 0:
			time.sleep(0.002)
			if states.exists() and states.stat().st_size > 0:
				size = journal.stat().st_size
		while run.poll() is None and journal.stat().st_size == size:
			time.sleep(0.002)
		run.send_signal(signal.SIGKILL)
		run.wait()
		self.assertFalse((self.at / "part.pith").exists())
		return journal

	def test_killed_at_ten_moments(self):
		start = time.monotonic()
		self.convert("whole.pith", *self.SCHEME)
		whole, duration = (self.at / "whole.pith").read_bytes(), time.monotonic() - start
		self.assertEqual(list(self.at.glob("*.resume*")), [])
		moments, killed, part = random.Random(7), 0, self.at / "part.pith"
		while killed < 10:
			killed += self.kill_after(duration * moments.uniform(0.02, 0.5))
			if part.exists(): # the rest took less than that: from the start again
				self.assertEqual(part.read_bytes(), whole)
				part.unlink()
		self.convert("part.pith", *self.SCHEME, "--resume")
		self.assertEqual(part.read_bytes(), whole)
		self.assertEqual(list(self.at.glob("*.resume*")), [])

	def test_damaged_journal(self):
		self.convert("whole.pith", *self.SCHEME)
		whole, part = (self.at / "whole.pith").read_bytes(), self.at / "part.pith"
		journal = self.leave_half(2)
		kept = {p: p.read_bytes() for p in self.at.glob("part.pith.resume*")}
		raw = kept[journal]
		outcomes = set()
		for name, damaged in (("cut", raw[:-1]), ("cut more", raw[:len(raw) // 2]), ("head", raw[:20]),
		                      ("record", raw[:60] + bytes([raw[60] ^ 1]) + raw[61:]),
		                      ("behind", raw + b"not a record")):
			for p, content in kept.items():
				p.write_bytes(content)
			journal.write_bytes(damaged)
			run = subprocess.run(self.command("part.pith", *self.SCHEME, "--resume"), capture_output=True, text=True)
			outcomes.add(run.returncode)
			if run.returncode == 0: # never other bytes
				self.assertEqual(part.read_bytes(), whole, name)
				part.unlink()
			else:
				self.assertEqual(run.returncode, 3, (name, run.stderr))
				self.assertRegex(run.stderr, "part.pith.resume.* is damaged: remove it", name)
				self.assertFalse(part.exists())
		self.assertIn(0, outcomes)
		for p, content in kept.items():
			p.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if p != journal else content)
		run = self.convert("part.pith", *self.SCHEME, "--resume", code=3)
		self.assertIn("is damaged: remove it or leave --resume out", run.stderr)
		self.convert("part.pith", *self.SCHEME)
		self.assertEqual(part.read_bytes(), whole)

	def limited(self, out, nbytes, *options):
		"""Convert where no file may be longer than this, which is what a full disk is like."""
		limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))
		return subprocess.run(self.command(out, *options), capture_output=True, text=True, preexec_fn=limit)

	def test_disk_full(self):
		(self.at / "old.pith").write_bytes(b"old")
		for options in (("-s", "bf16", "-f"), ("-s", "gptq:bits=3", "-f"), ("-s", "gptq:bits=3", "-f", "--memory", "1K")):
			for out in ("new.pith", "old.pith"):
				for nbytes in (0, 4096, 200000, 330000):
					run = self.limited(out, nbytes, *options)
					self.assertEqual(run.returncode, 1, (options, nbytes, run.stderr))
					self.assertIn("File too large", run.stderr)
			self.assertEqual((self.at / "old.pith").read_bytes(), b"old")
			left = {p.name for p in self.at.iterdir()} - {"text.txt", "old.pith"}
			self.assertEqual({name for name in left if ".resume" not in name}, set(), options)
		# the journal of what was done is still good
		self.convert("new.pith", "-s", "gptq:bits=3", "--resume")

	def test_vectors_and_methods(self):
		run = self.convert("a.pith", "-r", "layernorm=gptq:bits=4", code=2)
		self.assertIn("only vectors such as model.layers.0.", run.stderr)
		self.assertIn("llama.1", run.stderr)
		self.convert("a.pith", "-r", "layers.0=gptq:bits=4")

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
