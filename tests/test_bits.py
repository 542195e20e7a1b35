#!/usr/bin/python3
# The engine's logits, bit for bit, against the spec's reader: numerics.md by the prose.
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

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PITH = ROOT / os.environ.get("BUILD", "build") / "pith"
MODEL = ROOT / "models" / "tiny1m"
TEXT = ROOT / "bench" / "texts" / "docs-eips-00.txt"
sys.path[:0] = [str(HERE), str(ROOT / "spec" / "reader")]

import reader_llama
import reader_numerics as numerics
import unit_summary
from oracle_bpe import Encoder
from reader_bytes import Fault
from reader_container import PithFile
from reader_tokenizer import Tokenizer
from reader_verify import verify

TOKENS = 37  # more than one block of 32 keys


class Bits(unittest.TestCase):
	def engine(self, scheme, cpu=None, kv="f32"):
		"""(the file, logits) that the engine makes with a scheme."""
		with tempfile.TemporaryDirectory() as folder:
			path, dump = pathlib.Path(folder) / "model.pith", pathlib.Path(folder) / "logits.f32"
			environment = dict(os.environ, **({"PITH_CPU": cpu} if cpu else {}))
			for arguments in (["convert", MODEL, "-o", path, "--scheme", scheme, "--kv", kv],
			                  ["eval", path, "--text", TEXT, "--window", TOKENS, "--limit", TOKENS, "--dump-logits", dump]):
				run = subprocess.run([str(PITH)] + [str(a) for a in arguments], capture_output=True, text=True, env=environment)
				self.assertEqual(0, run.returncode, run.stderr)
			return PithFile(path.read_bytes()), np.fromfile(dump, np.uint32).reshape(TOKENS, -1)

	def compare(self, scheme, kv="f32"):
		ids = Encoder(MODEL).encode(TEXT.read_text(encoding="utf-8")[:2000])[:TOKENS]
		file, engine = self.engine(scheme, kv=kv)
		self.assertEqual([], verify(file))  # the canaries too
		prose = reader_llama.logits(file, ids).view(np.uint32)
		self.assertEqual(prose.shape, engine.shape)
		self.assertEqual(0, int((prose != engine).sum()), f"logits of {scheme} whose bits differ")

	def test_bf16(self):
		self.compare("bf16")

	def test_rtn4(self):
		self.compare("rtn:bits=4,group=32")

	def test_rtn3_row(self):
		self.compare("rtn:bits=3,group=row")

	def test_rtn8_group16(self):
		self.compare("rtn:bits=8,group=16")

	def test_kv_f16(self):
		self.compare("bf16", "f16")

	def test_kv_int8(self):
		self.compare("bf16", "int8")

	def test_tokenizer(self):
		"""The stored tables by the prose: valid, and the ids of the tests' own encoder."""
		file, _ = self.engine("bf16")
		tokenizer = Tokenizer(file.section("TOKN"))
		tokenizer.check()
		text = TEXT.read_text(encoding="utf-8")[:4000] + " it's  the\n\n 12ab\u00e9\u4e2d\U0001f600 \t x"
		self.assertEqual(Encoder(MODEL).encode(text), tokenizer.encode(text))

	def test_tokenizer_rules(self):
		"""One changed number in the tables breaks the rule that is about it."""
		file, _ = self.engine("bf16")
		blob = file.section("TOKN")
		t = Tokenizer(blob)
		at = dict(zip(("token_off", "token_bytes", "token_flags", "byte_ids", "merges", "text", "first", "added"),
		              [128] + [(end + 63) // 64 * 64 for end in t.ends]))
		merge = at["merges"] + 16 * int(np.flatnonzero(t.merge_slots[:, 0] != 0xffffffff)[0])
		slot = at["text"] + 8 * int(np.flatnonzero(t.text_slots[:, 1] != 0xffffffff)[0])
		changes = {0: "1", 4: "1", 8: "2", 12: "2", 17: "2", 80: "2", 36: "3", 60: "12", at["token_off"] + 4 * 1024: "6",
		           at["token_bytes"] + 30: "8", at["token_flags"] + 300: "7", at["byte_ids"] + 4 * 65: "8", merge: "9", merge + 8: "9",
		           merge + 12: "9", slot: "10", slot + 4: "10", at["first"] + 4: "11", at["added"] + 4: "11"}
		for offset, rule in changes.items():
			value = {36: 0xff, 60: 0xff, at["token_flags"] + 300: 0x20, at["added"] + 4: 4}.get(offset, 0x55)
			damaged = bytearray(blob)
			damaged[offset] = damaged[offset] ^ value
			if offset in (36, 60):
				damaged[offset:offset + 4] = b"\x00\x00\x00\x10"
			with self.subTest(offset=offset, rule=rule), self.assertRaises(Fault) as caught:
				Tokenizer(bytes(damaged)).check()
			self.assertEqual("tokenizer." + rule, caught.exception.rule)
		with self.assertRaises(Fault) as caught:
			Tokenizer(blob + bytes(64))
		self.assertEqual("tokenizer.4", caught.exception.rule)

	def test_it_can_fail(self):
		"""A norm that sums in binary64 instead of sixteen lanes changes bits."""
		ids = Encoder(MODEL).encode(TEXT.read_text(encoding="utf-8")[:2000])[:4]
		file, engine = self.engine("bf16")
		right = numerics.rmsnorm
		def binary64(x, w, eps):
			m = np.float32((np.asarray(x, np.float64) ** 2).mean())
			return (x * (np.float32(1) / np.sqrt(m + eps))) * w
		self.addCleanup(setattr, numerics, "rmsnorm", right)
		numerics.rmsnorm = binary64
		prose = reader_llama.logits(file, ids).view(np.uint32)
		self.assertGreater(int((prose != engine[:4]).sum()), 0)


if __name__ == "__main__":
	unit_summary.main()
