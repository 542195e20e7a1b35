#!/usr/bin/python3
# What the text coder loses: without mixing, a segment's payload against the sum of -log2 p of a binary64
# forward pass over exactly the contexts coded (spec/text_archive.md 6 to 9).
#
# Runs from the root of the tree; BUILD names the folder of the pith command.
#
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import struct
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


def model_payloads(archive):
	"""The payloads of the segments of method 2."""
	at = 64
	while archive[at:at + 4] == b"PZSG":
		method, (stored,) = archive[at + 4], struct.unpack_from("<I", archive, at + 12)
		if method == 2:
			yield archive[at + 40:at + 40 + stored]
		at += 40 + stored


def plan(payload, text_nbytes):
	"""window, overlap and the bytes of every stream."""
	assert payload[0] == 0, "not plain text without mixing"
	window, at = varint(payload, 1)
	overlap, at = varint(payload, at)
	count, at = varint(payload, at)
	streams = []
	for _ in range(count - 1):
		nbytes, at = varint(payload, at)
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
		subprocess.run([PITH, "zip", "-m", self.model, "--no-mix", "--force", "-o", folder / "out.pz", *options,
		                folder / "text"], check=True, capture_output=True)
		payloads = list(model_payloads((folder / "out.pz").read_bytes()))
		self.assertEqual(1, len(payloads))
		window, overlap, streams = plan(payloads[0], len(text))
		ids = self.encoder.encode(text.decode())
		bits, restarts = 0.0, 0
		for stream in cut(ids, self.sizes, streams):
			b, r = ideal_bits(self.llama, stream, window, overlap)
			bits, restarts = bits + b, restarts + r
		got = len(payloads[0])
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
