# Byte-level BPE straight from a tokenizer.json with the GPT-2 pattern: the tests' own encoder.
#
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import unicodedata


def byte_characters():
	"""GPT-2's printable character for every byte."""
	shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
	hidden = [b for b in range(256) if b not in shown]
	return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def kind_of(c):
	if c.isspace():
		return "space"
	category = unicodedata.category(c)[0]
	return {"L": "letter", "N": "number"}.get(category, "other")


def pretokens(text):
	"""'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"""
	at = 0
	while at < len(text):
		end = next((at + len(s) for s in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(s, at)), 0)
		if not end:
			first = at + 1 if text[at] == " " and at + 1 < len(text) and kind_of(text[at + 1]) != "space" else at
			kind, end = kind_of(text[first]), first
			while end < len(text) and kind_of(text[end]) == kind:
				end += 1
			if kind == "space" and end < len(text) and end - at > 1:
				end -= 1  # the last white space goes with what follows
		yield text[at:end]
		at = end


class Encoder:
	def __init__(self, folder):
		tokenizer = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())
		self.vocab = tokenizer["model"]["vocab"]
		merges = tokenizer["model"]["merges"]
		self.rank = {tuple(m.split(" ") if isinstance(m, str) else m): i for i, m in enumerate(merges)}
		self.characters, self.cache = byte_characters(), {}

	def encode(self, text):
		return [i for word in pretokens(text) for i in self.encode_word(word)]

	def encode_word(self, word):
		if word not in self.cache:
			parts = [self.characters[b] for b in word.encode()]
			while len(parts) > 1:
				pairs = [(self.rank.get(pair, len(self.rank)), i) for i, pair in enumerate(zip(parts, parts[1:]))]
				rank, i = min(pairs)
				if rank == len(self.rank):
					break
				parts[i:i + 2] = [parts[i] + parts[i + 1]]
			self.cache[word] = [self.vocab[p] for p in parts]
		return self.cache[word]
