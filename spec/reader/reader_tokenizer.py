# tokenizer.md: the blob's rules, and encoding by the prose (plain text, gpt2 or no pretokenizer).
#
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import numpy as np

from reader_bytes import need, round_up, u32, unsupported

NONE = 0xffffffff
CONTROL, BYTE, UNUSED, ADDED, DIRECT = 1, 2, 4, 8, 16
IGNORE_MERGES = 1 << 7
PRETOKENIZER_KINDS = {0: (0, 1), 1: (0,), 2: (0,), 3: (0,), 4: (0,), 5: (0,), 6: (1,), 7: (1,)}
FIELDS = ("magic", "version", "kind", "pretokenizer", "flags", "vocab_count", "token_bytes_nbytes", "merge_count",
          "merge_slot_count", "merge_max_probe", "text_count", "text_slot_count", "text_max_probe", "added_count",
          "max_token_nbytes", "bos_id", "eos_id", "unk_id", "pad_id")


def text_hash(raw):
	h = 0x811c9dc5
	for b in raw:
		h = (h ^ b) * 0x01000193 & NONE
	h ^= h >> 15
	h = h * 0x2c1b3c6d & NONE
	return h ^ h >> 13


def merge_hash(left, right):
	return ((left << 32 | right) * 0x9e3779b97f4a7c15 & (1 << 64) - 1) >> 32


class Tokenizer:
	"""The blob with tokenizer.1 to .4 and .12 checked; check() does the others."""

	def __init__(self, blob):
		self.blob = blob
		need(len(blob) >= 128 and blob[:4] == b"PTOK", "tokenizer.1", "magic", 0)
		for i, name in enumerate(FIELDS):
			setattr(self, name, u32(blob, 4 * i))
		if self.version != 0:
			raise unsupported("tokenizer.1", f"version {self.version}", 4)
		self._check_head()
		self._place()

	def _check_head(self):
		rule = "tokenizer.2"
		if self.kind > 1 or self.pretokenizer not in PRETOKENIZER_KINDS:
			raise unsupported(rule, f"kind {self.kind}, pretokenizer {self.pretokenizer}", 8)
		need(self.kind in PRETOKENIZER_KINDS[self.pretokenizer], rule, "kind and pretokenizer do not go together", 8)
		if self.flags >> 9 or any(self.blob[76:128]):
			raise unsupported(rule, "reserved flags or bytes", 16)
		bounds = {"vocab_count": (1, 2 ** 24), "token_bytes_nbytes": (0, 2 ** 30), "merge_count": (0, 2 ** 24),
		          "merge_slot_count": (self.merge_count + 1, 2 ** 26), "merge_max_probe": (1, 1024),
		          "text_count": (0, self.vocab_count), "text_slot_count": (self.text_count + 1, 2 ** 26),
		          "text_max_probe": (1, 1024), "added_count": (0, 2 ** 16), "max_token_nbytes": (1, 2 ** 16)}
		for name, (low, high) in bounds.items():
			need(low <= getattr(self, name) <= high, "tokenizer.3", f"{name} {getattr(self, name)}")
		for name in ("bos_id", "eos_id", "unk_id", "pad_id"):
			need(getattr(self, name) == NONE or getattr(self, name) < self.vocab_count, "tokenizer.12", name)

	def _place(self):
		arrays = [("token_off", "<u4", self.vocab_count + 1, 1), ("token_bytes", "u1", self.token_bytes_nbytes, 1),
		          ("token_flags", "u1", self.vocab_count, 1), ("byte_ids", "<u4", 256, 1),
		          ("merge_slots", "<u4", self.merge_slot_count, 4), ("text_slots", "<u4", self.text_slot_count, 2),
		          ("added_first", "<u4", 257, 1), ("added", "<u4", self.added_count, 2)]
		at, self.ends = 128, []
		for name, dtype, count, width in arrays:
			at = round_up(at, 64)
			nbytes = count * width * np.dtype(dtype).itemsize
			need(at + nbytes <= len(self.blob), "tokenizer.4", f"{name} ends behind the blob")
			array = np.frombuffer(self.blob, dtype, count * width, at)
			setattr(self, name, array.reshape(count, width) if width > 1 else array)
			at += nbytes
			self.ends.append(at)
		need(len(self.blob) == round_up(at, 64), "tokenizer.4", f"{len(self.blob)} bytes, not {round_up(at, 64)}")

	def bytes_of(self, i):
		return bytes(self.token_bytes[self.token_off[i]:self.token_off[i + 1]])

	def check(self):
		"""tokenizer.5 to .14."""
		for end in self.ends:
			need(not any(self.blob[end:round_up(end, 64)]), "tokenizer.5", "padding", end)
		offsets = self.token_off.astype(np.int64)
		need(offsets[0] == 0 and (np.diff(offsets) >= 0).all() and offsets[-1] == self.token_bytes_nbytes
		     and np.diff(offsets).max() <= self.max_token_nbytes, "tokenizer.6", "token_off")
		self.tokens = [self.bytes_of(i) for i in range(self.vocab_count)]
		unused = (self.token_flags & UNUSED) != 0
		need(not (self.token_flags & 0xe0).any() and ((np.diff(offsets) == 0) == unused).all()
		     and (self.token_flags[unused] == UNUSED).all(), "tokenizer.7", "token flags")
		for b, i in enumerate(self.byte_ids.tolist()):
			need(i == NONE or (i < self.vocab_count and self.tokens[i] == bytes([b])
			                   and not self.token_flags[i] & (CONTROL | ADDED)), "tokenizer.8", f"byte_ids[{b}]")
		self._check_merges()
		self._check_text()
		self._check_added()
		self._check_direct()

	def _probe(self, table, hashed, limit, same, empty):
		"""Index of the slot that 'same' accepts, or None."""
		count = len(table)
		at = hashed * count >> 32
		for _ in range(limit):
			if empty(table[at]):
				return None
			if same(table[at]):
				return at
			at = (at + 1) % count
		return None

	def find_merge(self, left, right):
		at = self._probe(self.merge_slots, merge_hash(left, right), self.merge_max_probe,
		                 lambda s: s[0] == left and s[1] == right, lambda s: s[0] == NONE)
		return None if at is None else self.merge_slots[at]

	def find_text(self, raw):
		h = text_hash(raw)
		at = self._probe(self.text_slots, h, self.text_max_probe,
		                 lambda s: s[0] == h and self.tokens[s[1]] == raw, lambda s: s[1] == NONE)
		return None if at is None else int(self.text_slots[at][1])

	def _check_merges(self):
		rule = "tokenizer.9"
		used = self.merge_slots[self.merge_slots[:, 0] != NONE]
		empty = self.merge_slots[self.merge_slots[:, 0] == NONE]
		need(not empty[:, 1:].any(), rule, "an empty slot is not zero")
		need(len(used) == self.merge_count, rule, "merge_count")
		need(sorted(used[:, 2].tolist()) == list(range(self.merge_count)), rule, "ranks")
		for left, right, rank, merged in used.tolist():
			need(max(left, right, merged) < self.vocab_count, rule, f"merge {rank}: ids")
			need(not any(self.token_flags[i] & CONTROL for i in (left, right, merged)), rule, f"merge {rank}: control token")
			need(self.tokens[left] + self.tokens[right] == self.tokens[merged], rule, f"merge {rank}: bytes")
			found = self.find_merge(left, right)
			need(found is not None and found[2] == rank, rule, f"merge {rank} is not found")
			if self.pretokenizer == 6:
				need(self.tokens[left].endswith(b" ") or not self.tokens[right].startswith(b" "), "tokenizer.14",
				     f"merge {rank} joins across a cut")
		need(self.pretokenizer != 6 or self.byte_ids[0x20] != NONE, "tokenizer.14", "byte_ids of a space")

	def _check_text(self):
		rule, wanted = "tokenizer.10", {}
		for i, raw in enumerate(self.tokens):
			if not self.token_flags[i] & (CONTROL | BYTE | UNUSED | ADDED):
				wanted.setdefault(raw, i)
		used = self.text_slots[self.text_slots[:, 1] != NONE]
		empty = self.text_slots[self.text_slots[:, 1] == NONE]
		need(not empty[:, 0].any(), rule, "an empty slot is not zero")
		need(len(used) == self.text_count == len(wanted), rule, "text_count")
		need((used[:, 1] < self.vocab_count).all(), rule, "ids")
		for raw, i in wanted.items():
			need(self.find_text(raw) == i, rule, f"token {i} is not found")

	def _check_added(self):
		rule, first = "tokenizer.11", self.added_first.tolist()
		need(first[0] == 0 and first[-1] == self.added_count and sorted(first) == first, rule, "added_first")
		listed = self.added[:, 0].tolist()
		wanted = [i for i in range(self.vocab_count) if self.token_flags[i] & (CONTROL | ADDED)]
		need(sorted(listed) == wanted, rule, "added does not list the added tokens")
		need(not (self.added[:, 1] & ~np.uint32(3)).any(), rule, "reserved added_flags")
		for b in range(256):
			group = [self.tokens[i] for i in listed[first[b]:first[b + 1]]]
			need(all(raw[0] == b for raw in group), rule, f"a token under byte {b:02x}")
			sizes = [len(raw) for raw in group]
			need(sizes == sorted(sizes, reverse=True), rule, f"order under byte {b:02x}")

	def _check_direct(self):
		rule = "tokenizer.13"
		for i in np.flatnonzero(self.token_flags & DIRECT).tolist():
			need(self.find_text(self.tokens[i]) == i, rule, f"DIRECT token {i} is not in the text table")
			need(self.flags & IGNORE_MERGES or self.merged(self.units(self.tokens[i])) == [i], rule,
			     f"DIRECT token {i} does not encode to itself")

	# ---- encoding, section 4 ----

	def units(self, raw):
		"""Step 5."""
		if self.kind == 0:
			return [int(self.byte_ids[b]) for b in raw]
		out = []
		for c in raw.decode("utf-8", "surrogateescape"):
			piece = c.encode("utf-8", "surrogateescape")
			found = int(self.byte_ids[piece[0]]) if len(piece) == 1 else self.find_text(piece)
			if found is None or found == NONE:
				pieces = [int(self.byte_ids[b]) for b in piece]
				out += pieces if NONE not in pieces else [self.unk_id] if self.unk_id != NONE else []
			else:
				out.append(found)
		return out

	def merged(self, units):
		"""Step 6."""
		units = list(units)
		while True:
			found = [(int(m[2]), i, int(m[3])) for i, pair in enumerate(zip(units, units[1:]))
			         if (m := self.find_merge(*pair)) is not None]
			if not found:
				return units
			_, i, token = min(found)
			units[i:i + 2] = [token]

	def encode(self, text):
		"""Token ids of plain text without added tokens, normalization or prefix."""
		cut = {0: lambda t: [t], 1: gpt2}[self.pretokenizer]
		out = []
		for pretoken in cut(text):
			raw = pretoken.encode()
			found = self.find_text(raw)
			if found is not None and self.token_flags[found] & DIRECT:
				out.append(found)
			else:
				out += self.merged(self.units(raw))
		return out


def _class(c):
	return "s" if c.isspace() else {"L": "L", "N": "N"}.get(unicodedata.category(c)[0], "o")


def gpt2(text):
	"""Pretokenizer 1: the first alternative that matches wins."""
	out, at = [], 0
	def run(first, kind):
		end = first
		while end < len(text) and _class(text[end]) == kind:
			end += 1
		return end
	while at < len(text):
		end = at
		for suffix in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
			if text.startswith(suffix, at):
				end = at + len(suffix)
				break
		for kind in "LNo":
			if end == at:
				first = at + (text[at] == " ")
				end = max(at, run(first, kind) if first < len(text) and _class(text[first]) == kind else at)
		if end == at:
			spaces = run(at, "s")
			end = spaces - 1 if spaces < len(text) and spaces - at > 1 else spaces
		out.append(text[at:end])
		at = end
	return out
