#!/usr/bin/python3
# What the text coder loses: without mixing, a segment's code against the sum of -log2 p of a binary64
# forward pass over exactly the contexts coded (spec/text_archive.md 6 to 9).
#
# Runs from the root of the tree; BUILD names the folder of the pith command.
#
# SPDX-License-Identifier: Apache-2.0

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
sys.path[:0] = [str(HERE), str(ROOT / "spec" / "reader")]

import unit_summary
from oracle_bpe import Encoder
from oracle_llama import Llama
from reader_archive import MODEL as BY_MODEL, Archive

START = 0  # bos of the model
TEXT = (ROOT / "bench/texts/docs-eips-00.txt").read_bytes()


def varint(data, at):
	value = shift = 0
	while True:
		byte = data[at]
		value |= (byte & 127) << shift
		at, shift = at + 1, shift + 7
		if byte < 128:
			return value, at


def model_codes(data):
	"""The codes of the segments of method 2."""
	return [data[s.place + 56 + s.records_nbytes:s.end] for s in Archive(data).segments if s.method == BY_MODEL]


def plan(code, text_nbytes):
	"""window, overlap and the bytes of every stream."""
	assert code[0] == 0, "not plain text without mixing"
	window, at = varint(code, 1)
	overlap, at = varint(code, at)
	count, at = varint(code, at)
	streams = []
	for _ in range(count - 1):
		nbytes, at = varint(code, at)
		streams.append(nbytes)
	return window, overlap, streams + [text_nbytes - sum(streams)]


def cut(ids, sizes, streams):
	"""The ids of every stream."""
	out, i = [], 0
	for nbytes in streams:
		first = i
		while nbytes > 0:
			nbytes -= sizes[ids[i]]
			i += 1
		assert nbytes == 0, "a stream ends inside a token"
		out.append(ids[first:i])
	return out


def ideal_bits(llama, ids, window, overlap):
	"""Sum of -log2 p over one stream with its restarts, and the number of these."""
	bits, done, restarts = 0.0, 0, 0
	while done < len(ids):
		kept = ids[max(0, done - overlap):done]
		fed = [START] + kept
		ahead = ids[done:done + window - len(fed) + 1]
		logits = llama.logits(fed + ahead[:-1])[len(fed) - 1:]
		for row, token in zip(logits, ahead):
			top = row.max()
			bits += (np.log(np.exp(row - top).sum()) + top - row[token]) / np.log(2)
		done += len(ahead)
		restarts += done < len(ids)
	return bits, restarts


class Bound(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.folder = tempfile.TemporaryDirectory()
		cls.addClassCleanup(cls.folder.cleanup)
		cls.model = pathlib.Path(cls.folder.name) / "bf16.pith"
		subprocess.run([PITH, "convert", MODEL, "-o", cls.model, "--scheme", "bf16"], check=True, capture_output=True)
		cls.llama, cls.encoder = Llama(MODEL), Encoder(MODEL)
		cls.sizes = {i: len(text) for text, i in cls.encoder.vocab.items()}  # a character for every byte

	def check(self, text, *options):
		folder = pathlib.Path(self.folder.name)
		(folder / "text").write_bytes(text)
		subprocess.run([PITH, "zip", "-m", self.model, "--no-mix", "--no-verify", "--force", "-o", folder / "out.pz", *options,
		                folder / "text"], check=True, capture_output=True)
		codes = model_codes((folder / "out.pz").read_bytes())
		self.assertEqual(1, len(codes))
		window, overlap, streams = plan(codes[0], len(text))
		ids = self.encoder.encode(text.decode())
		bits, restarts = 0.0, 0
		for stream in cut(ids, self.sizes, streams):
			b, r = ideal_bits(self.llama, stream, window, overlap)
			bits, restarts = bits + b, restarts + r
		got = len(codes[0])
		print(f"{len(text)} bytes, {len(streams)} streams, {restarts} restarts: {got} bytes, ideal {bits / 8:.1f}")
		self.assertLessEqual(got, 1.001 * bits / 8 + 64)
		self.assertGreaterEqual(got, 0.999 * bits / 8)
		return restarts

	def test_default_plan(self):
		self.check(TEXT[:32000])

	def test_restarts(self):
		self.assertGreater(self.check(TEXT[:8000], "--window", "100", "--overlap", "30", "--streams", "3"), 5)

	def test_without_overlap(self):
		self.assertGreater(self.check(TEXT[:6000], "--window", "64", "--overlap", "0", "--streams", "5"), 5)


if __name__ == "__main__":
	unit_summary.main()
