# container.md section 8: every checksum, entry, rule and gap, the identity and the canaries.
#
# SPDX-License-Identifier: Apache-2.0

import struct

import numpy as np

from reader_bytes import Fault, need, u32, u64, xxh3_64, xxh3_128
from reader_container import DATA_OFF, TABLES, read_directory
from reader_tokenizer import Tokenizer


class Verifier:
	def __init__(self, file):
		self.file, self.faults = file, []
		self.extents = []  # (first, end, shareable) of everything that owns bytes

	def attempt(self, check, *args):
		"""Run a check and keep its fault; returns the result or None."""
		try:
			return check(*args)
		except Fault as fault:
			self.faults.append(fault)
			return None

	def run(self):
		file = self.file
		self.attempt(self.check_ends)
		self.attempt(self.check_other_slot)
		for name in file.sections:
			self.attempt(file.section, name)
		for table in TABLES:
			for i in range(file.count(table)):
				self.attempt(file.entry, table, i)
		if self.faults:
			return self.faults  # entries that cannot be trusted are not looked into
		for i in range(file.count("PLAN")):
			plane = self.attempt(file.plane, i)
			if plane:
				self.attempt(self.check_plane, i, plane)
		self.attempt(self.check_order)
		for i in range(file.count("WGHT")):
			self.attempt(self.check_weight, i)
		for check in (file.arch, self.check_blocks, self.check_canaries, self.check_lineage, self.check_tokenizer):
			self.attempt(check)
		if not self.faults:
			self.attempt(self.check_llama)
		self.attempt(self.check_gaps)
		if not self.faults:
			self.attempt(self.check_identity)
		return self.faults

	def check_ends(self):
		file = self.file
		need(len(file.data) == file.header.file_nbytes, "container.6", "bytes behind file_nbytes", file.header.file_nbytes)

	def check_other_slot(self):
		file, other = self.file, self.file.other
		need(other.state != "damaged", "container.3", "a damaged header slot")
		if other.state != "valid":
			return
		need(other.file_nbytes <= len(file.data), "container.6", "the other slot's file_nbytes")
		for name, section in read_directory(file.data, other).items():
			stored = file.data[section.off:section.off + section.padded_nbytes]
			need(xxh3_64(stored) == section.xxh3, "container.11", f"older {name}: checksum", section.off)

	def check_plane(self, i, plane):
		stored = self.file.data[plane.off:plane.off + plane.nbytes]
		need(xxh3_64(stored) == plane.xxh3, "container.16", f"plane {i}: checksum", plane.off)

	def check_order(self):
		last = None
		for i in range(self.file.count("WGHT")):
			w = self.file.weight(i)
			key = (w.name_hash, w.raw_name)
			need(last is None or key > last, "container.13", f"{w.name}: the weights are not sorted", w.at)
			last = key

	def check_weight(self, i):
		w = self.file.weight(i)
		bound, transforms = self.file.bind(w)
		for part in transforms + bound:
			for plane in part.stored:
				behind = self.file.data[plane.off + plane.content_nbytes:plane.off + plane.nbytes]
				need(not any(behind), "container.15", f"{w.name}: bytes behind a plane's content", plane.off)
			part.check_values()

	def check_blocks(self):
		file, rule, blocks = self.file, "container.18", []
		need(file.count("BLCK") <= 2 ** 20, rule, "too many blocks")
		for i in range(file.count("BLCK")):
			raw, at = file.entry("BLCK", i)
			b = struct.unpack_from("<10I", raw, 0)
			blocks.append(b)
			flags, heads, kv_heads, head_dim, ffn, attention_of, ffn_of, _, attention_const, ffn_const = b
			if flags & 1:
				need(all(1 <= v <= 65536 for v in (heads, kv_heads, head_dim)) and heads % kv_heads == 0, rule,
				     f"block {i}: head counts", at)
				need(attention_const == 0, rule, f"block {i}: a const beside its branch", at)
				need(attention_of <= i and blocks[attention_of][0] & 1
				     and blocks[attention_of][1:4] == b[1:4], rule, f"block {i}: attention_of", at)
			else:
				need((heads, kv_heads, head_dim) == (0, 0, 0), rule, f"block {i}: counts of an absent branch", at)
			if flags & 2:
				need(1 <= ffn <= 2 ** 24, rule, f"block {i}: ffn_count", at)
				need(ffn_const == 0, rule, f"block {i}: a const beside its branch", at)
				need(ffn_of <= i and blocks[ffn_of][0] & 2 and blocks[ffn_of][4] == ffn, rule, f"block {i}: ffn_of", at)
			else:
				need(ffn == 0, rule, f"block {i}: counts of an absent branch", at)
			for const in (attention_const, ffn_const):
				need(const <= file.count("WGHT"), rule, f"block {i}: const outside of WGHT", at)

	def check_canaries(self):
		file, last = self.file, -1
		for i in range(file.count("CNRY")):
			raw, at = file.entry("CNRY", i)
			index, seed = u32(raw, 0), u32(raw, 4)
			need(index < file.count("WGHT"), "container.19", f"canary {i}: weight", at)
			need(index > last, "container.19", "canaries are not sorted", at)
			last = index
			w = file.weight(index)
			first, last_tile = file.canary(w, seed)
			stored = np.frombuffer(raw, "<u4", 32, 8)
			made = np.concatenate([first, last_tile]).view(np.uint32)
			need((stored == made).all(), "canary.1", f"{w.name}: the canary differs", at)

	def check_lineage(self):
		file, rule = self.file, "container.19"
		for i in range(file.count("LINE")):
			raw, at = file.entry("LINE", i)
			weight = u32(raw, 4)
			need(weight <= file.count("WGHT"), rule, f"lineage {i}: weight", at)
			file.text(u64(raw, 8), u32(raw, 16), rule)
			file.text(u64(raw, 24), u32(raw, 20), rule)

	def check_tokenizer(self):
		if "TOKN" in self.file.sections:
			Tokenizer(self.file.section("TOKN")).check()

	def check_llama(self):
		"""models/llama.md, for files that say so."""
		file, arch, rule = self.file, self.file.arch(), "llama.1"
		if arch.get("arch") != "llama":
			return
		for key in ("hidden_size", "vocab_size", "rms_norm_eps", "rope.ratio", "head_tied", "kv_dtype"):
			need(key in arch, rule, f"key {key} is missing")
		weights = {w.name: w for w in file.weights()}
		def present(name, *dim):
			w = weights.get(name)
			need(w is not None and tuple(w.dim[:w.rank]) == dim, rule, f"{name} is not there with shape {list(dim)}")
			if len(dim) == 1:
				kinds = [t.name for t in file.bind(w)[0]]
				need(kinds == ["dense"], rule, f"{name} is not a single dense term")
		d, vocab = arch["hidden_size"], arch["vocab_size"]
		present("model.embed_tokens.weight", vocab, d)
		present("model.norm.weight", d)
		if arch["head_tied"] == 0:
			present("lm_head.weight", vocab, d)
		for i in range(file.count("BLCK")):
			raw, _ = file.entry("BLCK", i)
			flags, heads, kv, h, f, attention_of, ffn_of = struct.unpack_from("<7I", raw, 0)
			p = f"model.layers.{i}."
			if flags & 1:
				present(p + "input_layernorm.weight", d)
			if flags & 1 and attention_of == i:
				for name, rows, columns in (("q", heads * h, d), ("k", kv * h, d), ("v", kv * h, d), ("o", d, heads * h)):
					present(f"{p}self_attn.{name}_proj.weight", rows, columns)
			if flags & 2:
				present(p + "post_attention_layernorm.weight", d)
			if flags & 2 and ffn_of == i:
				for name, rows, columns in (("gate", f, d), ("up", f, d), ("down", d, f)):
					present(f"{p}mlp.{name}_proj.weight", rows, columns)

	def check_gaps(self):
		"""container.20: nothing overlaps, and what belongs to nobody is 0."""
		file, header = self.file, self.file.header
		taken = {(header.directory_off, header.directory_off + 64 * header.directory_count): 1}
		for section in file.sections.values():
			if section.nbytes:
				extent = (section.off, section.off + section.padded_nbytes)
				taken[extent] = taken.get(extent, 0) + 1
		planes = {(p.off, p.off + p.nbytes) for p in map(file.plane, range(file.count("PLAN")))}
		for extent in planes:
			taken[extent] = taken.get(extent, 0) + 1
		end = DATA_OFF
		for (first, last), owners in sorted(taken.items()):
			need(owners == 1 and first >= end, "container.20", "two things overlap", first)
			if file.other.state == "empty":
				need(not any(file.data[end:first]), "container.20", "a gap is not 0", end)
			end = last
		if file.other.state == "empty":
			need(not any(file.data[end:header.file_nbytes]), "container.20", "a gap is not 0", end)

	def check_identity(self):
		need(model_identity(self.file) == self.file.header.model_identity, "container.22",
		     "model_identity is not that of the content", 512)


def model_identity(file):
	"""Section 9."""
	out = [b"pith identity 0\n", struct.pack("<I", file.header.numerics_version)]
	for i in range(file.count("ARCH")):
		raw, _ = file.entry("ARCH", i)
		if u32(raw, 36) & 2:
			continue
		out.append(raw[:36])
		if u32(raw, 32) == 3:
			value = file.text(u64(raw, 40), u64(raw, 48), "container.17")
			first = file.sections["TEXT"].off + u64(raw, 40) if value else 0
			out += [raw[48:56], file.data[first:first + u64(raw, 48)]]
		else:
			out.append(raw[40:48])
	for i in range(file.count("BLCK")):
		raw, _ = file.entry("BLCK", i)
		out.append(raw[:32])
		for const in (u32(raw, 32), u32(raw, 36)):
			out.append(struct.pack("<Q", file.weight(const - 1).name_hash if const else 0))
	out.append(struct.pack("<Q", file.sections["TOKN"].xxh3 if "TOKN" in file.sections else 0))
	for w in file.weights():
		if not w.flags & 1:
			continue
		out.append(struct.pack("<QI4QI", w.name_hash, w.rank, *w.dim, w.activation))
		out.append(w.raw[84:88] if w.activation == 3 else b"")
		bound, transforms = file.bind(w)
		for part in transforms + bound:
			p = part.part
			out.append(struct.pack(f"<{2 + len(p.param)}I", p.kind, p.plane_count, *p.param))
			for plane in part.stored:
				out.append(struct.pack("<QQIII", plane.nbytes, plane.xxh3, plane.role, plane.layout, plane.dtype))
	return xxh3_128(b"".join(out))


def verify(file):
	"""All faults of an opened file; [] when there is none."""
	return Verifier(file).run()
