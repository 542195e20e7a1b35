# A second writer of .pith files, from the prose of spec/, for test vectors.
#
# A Vector is a description that can be bent at three points: the content before the layout,
# the entries after it (every checksum still follows), and the final bytes.  So a bad vector
# breaks the one rule it is about and is otherwise sealed.  The output is annotated hex.
#
# SPDX-License-Identifier: Apache-2.0

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "spec" / "reader"))
from reader_bytes import xxh3_64, xxh3_128  # the hash functions only

ENTRY = {
	"preamble": "magic 8s, slot_nbytes I, reserved 44s",
	"slot": "generation Q, container_version I, numerics_version I, incompatible Q, read_only_compatible Q, "
	        "compatible Q, file_nbytes Q, directory_off Q, directory_count I, tensor_align I, reserved 8s, "
	        "file_root 16s, model_identity 16s, reserved2 400s",
	"directory": "section_id 4s, encoding I, off Q, nbytes Q, raw_nbytes Q, xxh3 Q, flags I, entry_nbytes I, reserved 8s",
	"WGHT": "name_hash Q, name_off Q, name_nbytes I, flags I, rank I, term_count I, dim 4Q, first_term I, "
	        "first_transform I, transform_count I, activation I, source_dtype I, activation_scale f, reserved 32s",
	"TERM": "kind I, first_plane I, plane_count I, flags I, param 24I, reserved 8s",
	"XFRM": "kind I, first_plane I, plane_count I, flags I, param 10I",
	"PLAN": "off Q, nbytes Q, xxh3 Q, role I, layout I, dtype I, encoding I, reserved 16s",
	"ARCH": "key 32s, type I, flags I, value Q, value_nbytes Q",
	"BLCK": "flags I, head_count I, kv_head_count I, head_dim I, ffn_count I, attention_of I, ffn_of I, window I, "
	        "attention_const I, ffn_const I, reserved 16s",
	"CNRY": "weight I, seed I, first 16I, last 16I, reserved 16s",
	"LINE": "kind I, weight I, key_off Q, key_nbytes I, value_nbytes I, value_off Q, number 2d, digest 32s, reserved 40s",
}
MUST = ("WGHT", "TERM", "XFRM", "PLAN", "NAME", "ARCH", "BLCK", "TOKN")
TABLE_ORDER = ("WGHT", "TERM", "XFRM", "PLAN", "ARCH", "BLCK", "CNRY", "LINE")


def fields(kind, values):
	"""[(name, bytes)] of an entry; values missing are 0."""
	out = []
	for item in ENTRY[kind].split(", "):
		name, code = item.split()
		size = struct.calcsize("<" + code)
		value = values.get(name)
		if value is None:
			out.append((name, bytes(size)))
		elif isinstance(value, (list, tuple)):
			out.append((name, struct.pack("<" + code, *value)))
		else:
			out.append((name, struct.pack("<" + code, value)))
	return out


def joined(pairs):
	return b"".join(raw for _, raw in pairs)


def sealed(kind, values):
	"""An entry with its checksum behind (tables) or before (slot)."""
	pairs = fields(kind, values)
	seal = struct.pack("<Q", xxh3_64(joined(pairs)) ^ values.get("break_xxh3", 0))
	if kind == "slot":
		return [("slot_xxh3", seal)] + pairs
	return pairs + [("preamble_xxh3" if kind == "preamble" else "entry_xxh3", seal)]


def pad64(raw):
	return raw + bytes(-len(raw) % 64)


def section_id(name):
	return int.from_bytes(name.encode(), "little")


class Vector:
	"""
	weights: dicts with name, dim, flags, activation, source_dtype, terms, transforms; a term or
	transform has kind, param, planes; a plane has role, layout, dtype, content (bytes).
	"""

	def __init__(self, weights, arch=(), blocks=(), canaries=(), lineage=(), text=b"", blobs=None):
		self.header = {"generation": 1, "numerics_version": 1, "tensor_align": 64}
		self.preamble = {"magic": bytes.fromhex("895054480d0a1a0a"), "slot_nbytes": 512}
		self.weights = sorted(weights, key=lambda w: (xxh3_64(w["name"]), w["name"]))
		self.tables = {t: [] for t in TABLE_ORDER}
		self.tables["ARCH"] = [dict(a) for a in arch]
		self.tables["BLCK"] = [dict(b) for b in blocks]
		self.tables["LINE"] = [dict(e) for e in lineage]
		self.blobs = dict(blobs or {})  # name -> bytes, or (stored bytes, raw_nbytes) for zstd
		if text:
			self.blobs["TEXT"] = text
		self.planes = []  # bytes of every PLAN entry
		self.behind = {}  # plane number -> bytes put behind its content in the padding
		self.preamble_gap = bytes(448)
		self.order = lambda names: sorted(names, key=section_id)
		self.trailing = b""
		self.other_slot = None
		self._fill_tables()
		for index, seed, first, last in canaries:
			self.tables["CNRY"].append({"weight": index, "seed": seed, "first": first, "last": last})

	def _fill_tables(self):
		names, t = b"", self.tables
		for w in self.weights:
			t["WGHT"].append({
				"name_hash": xxh3_64(w["name"]), "name_off": len(names), "name_nbytes": len(w["name"]),
				"flags": w.get("flags", 1), "rank": len(w["dim"]), "term_count": len(w["terms"]),
				"dim": list(w["dim"]) + [1] * (4 - len(w["dim"])), "first_term": len(t["TERM"]),
				"first_transform": len(t["XFRM"]) if w.get("transforms") else 0,
				"transform_count": len(w.get("transforms", ())), "activation": w["activation"],
				"source_dtype": w.get("source_dtype", 0), "activation_scale": w.get("activation_scale", 0.0)})
			names += w["name"]
			for kind, parts, count in (("XFRM", w.get("transforms", ()), 10), ("TERM", w["terms"], 24)):
				for part in parts:
					t[kind].append({"kind": part["kind"], "first_plane": len(self.planes),
					                "plane_count": len(part["planes"]),
					                "param": list(part["param"]) + [0] * (count - len(part["param"]))})
					for plane in part["planes"]:
						self.planes.append(plane["content"])
						t["PLAN"].append({k: plane[k] for k in ("role", "layout", "dtype")})
		self.blobs["NAME"] = names

	def build(self, bend=None, patch=None):
		"""
		bend(vector, stage) is called with stage 'layout' (offsets known), 'directory' (section
		entries made) and 'header'; patch(bytearray) on the result.  Returns [(comment, bytes)].
		"""
		call = bend or (lambda vector, stage: None)
		self._place(call)
		self._directory(call)
		return self._assemble(call, patch)

	def _place(self, call):
		at = 1536
		for entry, content in zip(self.tables["PLAN"], self.planes):
			align = self.header["tensor_align"] if len(pad64(content)) >= 65536 else 64
			at = -(-at // align) * align
			entry.update(off=at, nbytes=len(pad64(content)))
			at += len(pad64(content))
		self.data_end = at
		self.plane_bytes = [pad64(c) for c in self.planes]
		for number, raw in self.behind.items():
			content = self.planes[number]
			self.plane_bytes[number] = pad64(content + raw)
		for entry, raw in zip(self.tables["PLAN"], self.plane_bytes):
			entry["xxh3"] = xxh3_64(raw)
		call(self, "layout")

	def _directory(self, call):
		self.chunks = []  # (name, off, [(comment, bytes)])
		self.sections = []
		present = [t for t in TABLE_ORDER if self.tables[t]] + list(self.blobs)
		at = self.data_end
		for name in self.order(present):
			if name in self.tables:
				rows = [(f"{name}[{i}].", sealed(name, e)) for i, e in enumerate(self.tables[name])]
				pairs = [(prefix + n, raw) for prefix, row in rows for n, raw in row]
				stored, raw_nbytes, encoding = joined(pairs), None, 0
				entry_nbytes = len(joined(rows[0][1]))
			else:
				blob = self.blobs[name]
				stored, raw_nbytes = blob if isinstance(blob, tuple) else (blob, None)
				pairs, encoding, entry_nbytes = [(name, stored)], 0 if raw_nbytes is None else 1, 0
			padding = bytes(-len(stored) % 64)
			self.chunks.append([name, at, pairs + ([(f"{name} padding", padding)] if padding else [])])
			self.sections.append({
				"section_id": name.encode(), "encoding": encoding, "off": at, "nbytes": len(stored),
				"raw_nbytes": len(stored) if raw_nbytes is None else raw_nbytes,
				"flags": 1 if name in MUST else 0, "entry_nbytes": entry_nbytes})
			at += len(stored) + len(padding)
		for section, chunk in zip(self.sections, self.chunks):
			section["xxh3"] = xxh3_64(joined(chunk[2]))
		self.header.update(directory_off=at)
		call(self, "directory")

	def _assemble(self, call, patch):
		rows = [sealed("directory", s) for s in self.sections]
		directory = b"".join(joined(r) for r in rows)
		header = self.header
		header.setdefault("directory_count", len(rows))
		header.setdefault("file_nbytes", header["directory_off"] + len(directory))
		header.setdefault("file_root", xxh3_128(directory))
		header.setdefault("model_identity", self.identity())
		call(self, "header")
		slots = [sealed("slot", header), self.other_slot or [("empty slot", bytes(512))]]
		segments = [("preamble." + n, raw) for n, raw in sealed("preamble", self.preamble)]
		segments.append(("zero", self.preamble_gap))
		for i, slot in enumerate(slots):
			segments += [(f"slot{i}." + n, raw) for n, raw in slot]
		at = 1536
		for i, (entry, raw) in enumerate(zip(self.tables["PLAN"], self.plane_bytes)):
			off = entry.get("real_off", entry["off"])
			if entry.get("shared"):
				continue
			if off > at:
				segments.append(("gap", bytes(off - at)))
			segments.append((f"plane {i}", raw))
			at = off + len(raw)
		for chunk in self.chunks:
			segments += chunk[2]
		for i, row in enumerate(rows):
			segments += [(f"directory[{i}]." + n, raw) for n, raw in row]
		if self.trailing:
			segments.append(("behind the file", self.trailing))
		return apply_patch(segments, patch)

	def identity(self):
		"""container.md section 9."""
		t = self.tables
		out = [b"pith identity 0\n" + struct.pack("<I", self.header.get("numerics_version", 1))]
		for a in t["ARCH"]:
			if a.get("flags", 0) & 2:
				continue
			out.append(joined(fields("ARCH", a))[:36])
			if a["type"] == 3:
				first, size = a["value"], a["value_nbytes"]
				out.append(struct.pack("<Q", size) + self.blobs.get("TEXT", b"")[first:first + size])
			else:
				out.append(struct.pack("<Q", a["value"]))
		for b in t["BLCK"]:
			out.append(joined(fields("BLCK", b))[:32])
			for const in ("attention_const", "ffn_const"):
				index = b.get(const, 0)
				known = 0 < index <= len(t["WGHT"])
				out.append(struct.pack("<Q", t["WGHT"][index - 1]["name_hash"] if known else 0))
		tokn = self.blobs.get("TOKN")
		out.append(struct.pack("<Q", xxh3_64(pad64(tokn)) if tokn is not None else 0))
		for w in t["WGHT"]:
			if not w["flags"] & 1:
				continue
			out.append(struct.pack("<QI4QI", w["name_hash"], w["rank"], *w["dim"], w["activation"]))
			if w["activation"] == 3:
				out.append(struct.pack("<f", w["activation_scale"]))
			parts = [("XFRM", i) for i in range(w["first_transform"], w["first_transform"] + w["transform_count"])]
			parts += [("TERM", i) for i in range(w["first_term"], w["first_term"] + w["term_count"])]
			for table, i in parts:
				if i < len(t[table]):
					out.append(self._identity_part(t[table][i]))
		return xxh3_128(b"".join(out))

	def _identity_part(self, part):
		raw = struct.pack(f"<2I{len(part['param'])}I", part["kind"], part["plane_count"], *part["param"])
		for p in self.tables["PLAN"][part["first_plane"]:part["first_plane"] + part["plane_count"]]:
			raw += struct.pack("<QQIII", p["nbytes"], p["xxh3"], p["role"], p["layout"], p["dtype"])
		return raw


def apply_patch(segments, patch):
	"""Change the final bytes; the segments keep their comments where lengths stay."""
	if patch is None:
		return segments
	data = bytearray(joined(segments))
	changed = patch(data)
	data = data if changed is None else changed
	out, at = [], 0
	for comment, raw in segments:
		out.append((comment, bytes(data[at:at + len(raw)])))
		at += len(raw)
	if len(data) > at:
		out.append(("behind the file", bytes(data[at:])))
	return out


def hex_lines(raw):
	"""Bytes as text: lines of up to 32 bytes, runs of 8 or more equal bytes as XX*COUNT."""
	words, i = [], 0
	while i < len(raw):
		run = i
		while run < len(raw) and raw[run] == raw[i]:
			run += 1
		if run - i >= 8:
			words.append((f"{raw[i]:02x}*{run - i}", 8))
			i = run
		else:
			words.append((f"{raw[i]:02x}", 2))
			i += 1
	lines, line, width = [], [], 0
	for word, size in words:
		if width + size > 64:
			lines.append(" ".join(line))
			line, width = [], 0
		line.append(word)
		width += size
	return lines + ([" ".join(line)] if line else [])


def to_text(head, segments):
	"""The .hex file: 'head' lines as comments, then every field with its name."""
	out, at = [f"# {line}" for line in head], 0
	for comment, raw in segments:
		if not raw:
			continue
		lines = hex_lines(raw)
		out.append(f"{lines[0]}  # {at} {comment}")
		out += lines[1:]
		at += len(raw)
	return "\n".join(out) + "\n"
