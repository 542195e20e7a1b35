# container.md: slots, directory, tables, weights.
#
# Opening checks container.1 to container.10 as a mapped reader would; entries and planes are
# checked when they are used.  reader_verify.py does the rest.
#
# SPDX-License-Identifier: Apache-2.0

import struct

import numpy as np

import reader_numerics as numerics
import reader_terms as terms
from reader_bytes import (Fault, need, round_up, u32, u64, unsupported, xxh3_64, xxh3_128,
                          zstd_decompress)

MAGIC = bytes.fromhex("895054480d0a1a0a")
DATA_OFF = 1536
FEATURES = {0: "packed-planes", 1: "entropy-bf16", 2: "split"}
TABLES = {"WGHT": 128, "TERM": 128, "XFRM": 64, "PLAN": 64, "ARCH": 64, "BLCK": 64, "CNRY": 160,
          "LINE": 128}
RAW_BLOBS = ("NAME", "TEXT", "TOKN")
BLOBS = RAW_BLOBS + ("cfg ", "tkj ", "tkc ", "gen ", "lic ", "card")
ALWAYS = ("WGHT", "TERM", "PLAN", "NAME")
# (offset, size) of the reserved bytes of an entry, and (offset, known bits) of its flags
RESERVED = {"WGHT": (88, 32), "TERM": (112, 8), "XFRM": (56, 0), "PLAN": (40, 16), "ARCH": (56, 0),
            "BLCK": (40, 16), "CNRY": (136, 16), "LINE": (80, 40)}
FLAGS = {"WGHT": (20, 1), "TERM": (12, 0), "XFRM": (12, 0), "ARCH": (36, 3), "BLCK": (0, 3)}


class Slot:
	"""One of the two header slots: state is 'empty', 'valid' or 'damaged'."""

	def __init__(self, raw):
		self.raw = raw
		self.generation = u64(raw, 8)
		if not any(raw):
			self.state = "empty"
		elif xxh3_64(raw[8:512]) == u64(raw, 0) and self.generation != 0:
			self.state = "valid"
		else:
			self.state = "damaged"
		self.container_version, self.numerics_version = u32(raw, 16), u32(raw, 20)
		self.incompatible, self.read_only_compatible, self.compatible = (u64(raw, o) for o in (24, 32, 40))
		self.file_nbytes, self.directory_off = u64(raw, 48), u64(raw, 56)
		self.directory_count, self.tensor_align = u32(raw, 64), u32(raw, 68)
		self.file_root, self.model_identity = raw[80:96], raw[96:112]


class Section:
	def __init__(self, raw, at):
		self.id = raw[0:4].decode("latin-1")
		self.number, self.encoding = u32(raw, 0), u32(raw, 4)
		self.off, self.nbytes, self.raw_nbytes, self.xxh3 = (u64(raw, o) for o in (8, 16, 24, 32))
		self.flags, self.entry_nbytes = u32(raw, 40), u32(raw, 44)
		self.padded_nbytes = round_up(self.nbytes, 64)
		self.at = at


def read_directory(data, slot):
	"""The sections of a generation, container.7 to container.10."""
	need(not any(slot.raw[72:80]) and not any(slot.raw[112:512]), "container.7", "reserved header bytes")
	align = slot.tensor_align
	need(64 <= align <= 65536 and align & (align - 1) == 0, "container.7", f"tensor_align {align}")
	need(1 <= slot.directory_count <= 256, "container.7", f"directory_count {slot.directory_count}")
	first, end = slot.directory_off, slot.directory_off + 64 * slot.directory_count
	need(first % 64 == 0 and first >= DATA_OFF and end <= slot.file_nbytes, "container.7",
	     "the directory lies outside of the file")
	raw = data[first:end]
	need(xxh3_128(raw) == slot.file_root, "container.8", "file_root does not match the directory", first)
	sections, last = {}, -1
	for i in range(slot.directory_count):
		entry, at = raw[64 * i:64 * i + 64], first + 64 * i
		need(xxh3_64(entry[:56]) == u64(entry, 56), "container.9", f"checksum of directory entry {i}", at)
		section = Section(entry, at)
		check_section(section, entry, slot)
		need(section.number > last, "container.9", "the directory is not sorted", at)
		last = section.number
		sections[section.id] = section
	for name in ALWAYS:
		need(name in sections, "container.10", f"section {name} is missing")
	return sections


def check_section(section, entry, slot):
	name, at = section.id, section.at
	need(not any(entry[48:56]) and section.flags & ~1 == 0, "container.9", f"{name}: reserved bits", at)
	need(section.encoding in (0, 1), "container.9", f"{name}: encoding {section.encoding}", at)
	need(section.encoding == 1 or section.raw_nbytes == section.nbytes, "container.9",
	     f"{name}: raw_nbytes of a raw section", at)
	need(section.off % 64 == 0 and section.off >= DATA_OFF
	     and section.off + section.padded_nbytes <= slot.file_nbytes, "container.9",
	     f"{name} lies outside of the file", at)
	if name in TABLES:
		need(section.encoding == 0, "container.10", f"table {name} is not raw", at)
		need(section.entry_nbytes == TABLES[name], "container.10", f"{name}: entry_nbytes", at)
		need(section.nbytes % TABLES[name] == 0, "container.10", f"{name}: broken entry", at)
		need(section.nbytes // TABLES[name] <= 2 ** 32 - 1, "container.10", f"{name}: entries", at)
	elif name in BLOBS:
		need(section.entry_nbytes == 0, "container.10", f"blob {name}: entry_nbytes", at)
		need(name not in RAW_BLOBS or section.encoding == 0, "container.10", f"{name} is not raw", at)
	elif section.flags & 1:
		raise unsupported("container.10", f"unknown section {name!r} must be understood", at)


class Plane:
	def __init__(self, raw, at):
		self.raw, self.at = raw, at
		self.off, self.nbytes, self.xxh3 = (u64(raw, o) for o in (0, 8, 16))
		self.role, self.layout, self.dtype, self.encoding = (u32(raw, o) for o in (24, 28, 32, 36))


class Part:
	"""A TERM or XFRM entry."""

	def __init__(self, raw, at, param_count):
		self.raw, self.at = raw, at
		self.kind, self.first_plane, self.plane_count = (u32(raw, o) for o in (0, 4, 8))
		self.param = list(struct.unpack_from(f"<{param_count}I", raw, 16))


class Weight:
	def __init__(self, raw, at, index):
		self.raw, self.at, self.index = raw, at, index
		self.name_hash, self.name_off = u64(raw, 0), u64(raw, 8)
		(self.name_nbytes, self.flags, self.rank, self.term_count) = struct.unpack_from("<4I", raw, 16)
		self.dim = list(struct.unpack_from("<4Q", raw, 32))
		(self.first_term, self.first_transform, self.transform_count, self.activation,
		 self.source_dtype, self.activation_scale) = struct.unpack_from("<5If", raw, 64)
		self.m = 1 if self.rank == 1 else self.dim[0]
		self.n = self.dim[0] if self.rank == 1 else self.dim[1] * self.dim[2] * self.dim[3]


def sum_of_terms(bound, transforms, x, rows):
	"""numerics.md 2."""
	for transform in transforms:
		x = transform.forward(x)
	y = None
	for term in bound:
		t = term.apply(rows, x)
		y = t if y is None else y + t
	for transform in transforms:
		if transform.name == "shift":
			y = y + transform.bias[rows]
	return y


class PithFile:
	"""An opened file; 'data' is its bytes."""

	def __init__(self, data):
		self.data = data
		need_ours(data)
		self.slots = [Slot(data[512:1024]), Slot(data[1024:1536])]
		valid = [s for s in self.slots if s.state == "valid"]
		need(valid, "container.3", "no valid header slot", 512)
		need(len({s.generation for s in valid}) == len(valid), "container.3", "two slots of one generation")
		self.header = max(valid, key=lambda s: s.generation)
		self.other = self.slots[1 - self.slots.index(self.header)]
		header = self.header
		if header.container_version != 0:
			raise unsupported("container.4", f"container_version {header.container_version}")
		for bit in range(64):
			if header.incompatible >> bit & 1:
				raise unsupported("container.5", f"feature {FEATURES.get(bit, f'bit {bit}')}")
		need(header.file_nbytes <= len(data), "container.6",
		     f"the file ends at {len(data)} of {header.file_nbytes} bytes", len(data))
		self.sections = read_directory(data, header)

	# ---- sections and entries ----

	def count(self, table):
		return self.sections[table].nbytes // TABLES[table] if table in self.sections else 0

	def entry(self, table, i):
		"""(bytes, offset) of an entry, container.12 checked."""
		size = TABLES[table]
		at = self.sections[table].off + i * size
		raw = self.data[at:at + size]
		need(xxh3_64(raw[:size - 8]) == u64(raw, size - 8), "container.12", f"{table} entry {i}: checksum", at)
		first, nbytes = RESERVED[table]
		need(not any(raw[first:first + nbytes]), "container.12", f"{table} entry {i}: reserved bytes", at)
		if table in FLAGS:
			off, known = FLAGS[table]
			need(u32(raw, off) & ~known == 0, "container.12", f"{table} entry {i}: reserved flags", at)
		return raw, at

	def section(self, name):
		"""Decoded bytes of a section, container.11 checked."""
		section = self.sections[name]
		stored = self.data[section.off:section.off + section.padded_nbytes]
		need(xxh3_64(stored) == section.xxh3, "container.11", f"{name}: checksum", section.off)
		need(not any(stored[section.nbytes:]), "container.11", f"{name}: padding", section.off)
		if section.encoding == 0:
			return stored[:section.nbytes]
		raw = zstd_decompress(stored[:section.nbytes], section.raw_nbytes)
		need(raw is not None, "container.21", f"{name}: not one zstd frame of raw_nbytes", section.off)
		return raw

	def text(self, off, nbytes, rule):
		size = self.sections["TEXT"].nbytes if "TEXT" in self.sections else 0
		need(off + nbytes <= size, rule, "a string lies outside of TEXT")
		if not nbytes:
			return ""
		first = self.sections["TEXT"].off + off
		return self.data[first:first + nbytes].decode("utf-8", "replace")

	def arch(self):
		"""{key: value} in file order, with container.17 checked."""
		keys, last = {}, b""
		for i in range(self.count("ARCH")):
			raw, at = self.entry("ARCH", i)
			key = raw[:32].rstrip(b"\0")
			need(1 <= len(key) <= 31 and all(0x21 <= c <= 0x7e for c in key), "container.17",
			     f"ARCH entry {i}: key", at)
			need(raw[:32] > last, "container.17", "ARCH is not sorted by unique keys", at)
			last = raw[:32]
			kind, value, nbytes = u32(raw, 32), u64(raw, 40), u64(raw, 48)
			need(kind in (1, 2, 3), "container.17", f"ARCH entry {i}: type {kind}", at)
			need(kind == 3 or nbytes == 0, "container.17", f"ARCH entry {i}: value_nbytes of a number", at)
			if kind == 3:
				value = self.text(value, nbytes, "container.17")
			elif kind == 2:
				value = struct.unpack_from("<d", raw, 40)[0]
			keys[key.decode()] = value
		return keys

	# ---- weights ----

	def name_of(self, weight):
		need(1 <= weight.name_nbytes <= 255, "container.13", "length of a name", weight.at)
		names = self.sections["NAME"]
		need(weight.name_off + weight.name_nbytes <= names.nbytes, "container.13", "a name outside of NAME", weight.at)
		first = names.off + weight.name_off
		raw = self.data[first:first + weight.name_nbytes]
		need(xxh3_64(raw) == weight.name_hash, "container.13", "name_hash is not that of the name", weight.at)
		try:
			raw.decode("utf-8")
		except UnicodeDecodeError:
			raise Fault("container.13", "a name is not UTF-8", weight.at) from None
		need(all(c >= 0x20 and c != 0x7f for c in raw), "container.13", "a control character in a name", weight.at)
		return raw

	def weight(self, i):
		"""WGHT entry i with container.12 to container.14."""
		raw, at = self.entry("WGHT", i)
		w = Weight(raw, at, i)
		w.raw_name = self.name_of(w)
		w.name = w.raw_name.decode()
		rule = "container.14"
		need(1 <= w.rank <= 4, rule, f"{w.name}: rank {w.rank}", at)
		need(1 <= w.term_count <= 16, rule, f"{w.name}: term_count {w.term_count}", at)
		need(w.transform_count <= 4, rule, f"{w.name}: transform_count {w.transform_count}", at)
		need(all(1 <= d <= 2 ** 40 for d in w.dim), rule, f"{w.name}: dim {w.dim}", at)
		need(all(d == 1 for d in w.dim[w.rank:]), rule, f"{w.name}: an unused dim is not 1", at)
		need(w.m * w.n <= 2 ** 48, rule, f"{w.name}: too many elements", at)
		need(w.first_term + w.term_count <= self.count("TERM"), rule, f"{w.name}: terms", at)
		need(w.transform_count == 0 or w.first_transform + w.transform_count <= self.count("XFRM"), rule,
		     f"{w.name}: transforms", at)
		need(w.source_dtype <= 7, "weight.1", f"{w.name}: source_dtype", at)
		if w.activation > 3:
			raise unsupported("weight.1", f"{w.name}: activation {w.activation}", at)
		return w

	def weights(self):
		return [self.weight(i) for i in range(self.count("WGHT"))]

	def find(self, name):
		for w in self.weights():
			if w.name == name:
				return w
		raise KeyError(name)

	def plane(self, i):
		"""PLAN entry i: bounds and known ids; its page's demands are checked by bind()."""
		raw, at = self.entry("PLAN", i)
		plane = Plane(raw, at)
		if plane.encoding != 0:
			raise unsupported("container.15", f"plane {i}: encoding {plane.encoding}", at)
		rule = "container.15"
		align = self.header.tensor_align if plane.nbytes >= 65536 else 64
		need(plane.nbytes != 0 and plane.nbytes % 64 == 0, rule, f"plane {i}: nbytes {plane.nbytes}", at)
		need(plane.off % align == 0, rule, f"plane {i}: not aligned to {align}", at)
		need(plane.off >= DATA_OFF and plane.off + plane.nbytes <= self.header.file_nbytes, rule,
		     f"plane {i} lies outside of the file", at)
		return plane

	def bind(self, weight):
		"""(terms, transforms) of a weight, ready to use; their planes are theirs in .stored."""
		bound, found = [], {}
		for t in range(weight.transform_count):
			raw, at = self.entry("XFRM", weight.first_transform + t)
			part = Part(raw, at, 10)
			need(part.kind not in found, "weight.4", f"{weight.name}: a second {part.kind}", at)
			need(all(part.kind > k for k in found), "weight.6", f"{weight.name}: {part.kind} comes too late", at)
			found[part.kind] = self._bind_part(weight, part, terms.TRANSFORMS, terms.RESERVED_TRANSFORMS, 0, 4)
		for t in range(weight.term_count):
			raw, at = self.entry("TERM", weight.first_term + t)
			bound.append(self._bind_part(weight, Part(raw, at, 24), terms.TERMS, terms.RESERVED_TERMS, 1, 8))
			bound[-1].rule = (weight.activation, weight.activation_scale)
		need(any(t.integer for t in bound) == (weight.activation != 0), "weight.2",
		     f"{weight.name}: activation {weight.activation}", weight.at)
		good_scale = (2.0 ** -100 <= weight.activation_scale <= 2.0 ** 100 if weight.activation == numerics.STATIC
		              else u32(weight.raw, 84) == 0)
		need(good_scale, "weight.7", f"{weight.name}: activation_scale", weight.at)
		return bound, list(found.values())

	def _bind_part(self, weight, part, kinds, reserved, fewest, most):
		need(part.kind != 0, "weight.1", f"{weight.name}: kind 0", part.at)
		if part.kind not in kinds:
			what = reserved.get(part.kind, "experimental" if part.kind >> 31 else "unknown")
			raise unsupported("weight.1", f"{weight.name}: kind {part.kind} ({what})", part.at)
		need(fewest <= part.plane_count <= most
		     and part.first_plane + part.plane_count <= self.count("PLAN"), "container.14",
		     f"{weight.name}: planes outside of the table", part.at)
		cls = kinds[part.kind]
		need(not any(part.param[cls.used_params:]), "weight.3", f"{weight.name}: unused parameters", part.at)
		bound = cls(part.param, weight.m, weight.n)
		bound.part, bound.stored = part, [self.plane(part.first_plane + p) for p in range(part.plane_count)]
		wanted = bound.planes()
		need(len(wanted) == part.plane_count, "weight.5", f"{weight.name}: plane_count", part.at)
		contents = []
		for plane, (role, layout, dtype, count) in zip(bound.stored, wanted):
			for what, value, known in (("role", plane.role, 10), ("layout", plane.layout, 5), ("dtype", plane.dtype, 7)):
				need(value != 0, "container.15", f"{weight.name}: {what} 0", plane.at)
				if value > known:
					raise unsupported("weight.1", f"{weight.name}: {what} {value}", plane.at)
			nbytes = count * terms.DTYPE_NBYTES[dtype]
			rule = "dense.1" if cls.name == "dense" and plane.dtype != dtype else "container.15"
			need((plane.role, plane.layout, plane.dtype) == (role, layout, dtype), rule,
			     f"{weight.name}: role, layout or dtype of a plane of {cls.name}", plane.at)
			need(plane.nbytes == round_up(nbytes, 64), "container.15", f"{weight.name}: nbytes of a plane", plane.at)
			plane.content_nbytes = nbytes
			contents.append(self.data[plane.off:plane.off + nbytes])
		bound.bind(contents)
		return bound

	def unpack(self, weight, rows=None):
		"""The meaning: [rows, n] f32, terms added in file order, transforms undone."""
		bound, transforms = self.bind(weight)
		rows = np.arange(weight.m) if rows is None else np.asarray(rows)
		total = None
		for term in bound:
			values = term.values(rows).astype(np.float32)
			total = values if total is None else total + values
		for transform in reversed(transforms):
			total = transform.undo(total)
		return total

	def product(self, weight, x, rows):
		"""y[rows] for x [n] f32, by numerics.md."""
		return sum_of_terms(*self.bind(weight), x, rows)

	def canary(self, weight, seed):
		"""(first, last): f32[16] each, 0 where there is no row."""
		x = numerics.canary_input(weight.n, seed)
		out = []
		for first in (0, (weight.m - 1) // 16 * 16):
			rows = np.arange(first, min(first + 16, weight.m))
			lanes = np.zeros(16, np.float32)
			lanes[:rows.size] = self.product(weight, x, rows)
			out.append(lanes)
		return out


def need_ours(data):
	"""container.1 and container.2."""
	if data[:8] != MAGIC:
		raise Fault("container.1", "not a Pith file", 0, "not-ours")
	need(len(data) >= DATA_OFF, "container.2", "the file ends inside its header", len(data))
	need(xxh3_64(data[:56]) == u64(data, 56), "container.2", "preamble_xxh3", 56)
	need(u32(data, 8) == 512 and not any(data[12:56]) and not any(data[64:512]), "container.2",
	     "the preamble's fields", 8)
