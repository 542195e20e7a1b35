# The vectors of container.md: header, directory, sections, entries, planes, gaps, identity.
#
# SPDX-License-Identifier: Apache-2.0

import struct

import vector_terms as t
from vector_catalogue_terms import bent, good, poked, set_field, with_canaries
from vector_terms import BF16, F16, F32, Random
from vector_writer import Vector, joined, sealed

TEXT = b"plainexamplesourcemodel.safetensorstoolpith 0"
ARCH = [
	{"key": b"arch", "type": 3, "flags": 1, "value": 0, "value_nbytes": 5},
	{"key": b"hidden_size", "type": 1, "flags": 1, "value": 4},
	{"key": b"name", "type": 3, "flags": 2, "value": 5, "value_nbytes": 7},
	{"key": b"rms_norm_eps", "type": 2, "flags": 1, "value": struct.unpack("<Q", struct.pack("<d", 1e-5))[0]},
]
BLOCKS = [
	{"flags": 3, "head_count": 4, "kv_head_count": 2, "head_dim": 8, "ffn_count": 12},
	{"flags": 2, "ffn_count": 12, "ffn_of": 0, "attention_const": 1},
]
LINEAGE = [
	{"kind": 1, "weight": 0, "key_off": 12, "key_nbytes": 6, "value_off": 18, "value_nbytes": 17,
	 "digest": bytes(range(32))},
	{"kind": 3, "key_off": 35, "key_nbytes": 4, "value_off": 39, "value_nbytes": 6},
	{"kind": 7, "weight": 1, "number": (0.015625, 4.5)},
]


def raw_zstd(content):
	"""A zstd frame by hand: single segment, one-byte content size, one raw block."""
	assert len(content) < 256
	block = (len(content) << 3 | 1).to_bytes(3, "little")
	return struct.pack("<IBB", 0xFD2FB528, 0x20, len(content)) + block + content, len(content)


def weights():
	rng = Random(8)
	return [t.weight("bias", [t.dense(t.random_matrix(rng, 1, 4, F32), F32)], dim=[4]),
	        t.weight("matrix", [t.dense(t.random_matrix(rng, 3, 5, BF16), BF16)])]


def full():
	"""Keyword arguments of a file with every kind of section."""
	extra = with_canaries(weights())
	extra.update(arch=ARCH, blocks=BLOCKS, lineage=LINEAGE, text=TEXT,
	             blobs={"lic ": raw_zstd(b"No rights reserved.\n"), "xabc": b"an experiment"})
	return extra


def container_vectors():
	return goods() + headers() + directories() + entries() + planes() + metadata() + whole_file()


def goods():
	rng = Random(9)
	one = [t.weight("w", [t.dense([[1.0, -2.5]], F32)], dim=[2])]
	everything = {"folder": "container", "name": "good-full", "weights": weights(), "extra": full(),
	              "about": "Keys, blocks, lineage, canary, a zstd section, an experimental section."}
	later = dict(everything, name="good-lineage-kind", about="Lineage of kind 9 is passed over.", extra=dict(full()))
	later["extra"]["lineage"] = LINEAGE + [{"kind": 9}]
	unread = weights()
	unread[0]["flags"] = 0
	rank4 = [t.weight("w", [t.dense(t.random_matrix(rng, 2, 12, F16), F16)], dim=[2, 3, 2, 2])]
	return [good("container", "one-weight", "The smallest file: one weight of two numbers.", one), everything, later,
	        good("container", "rank-4", "Four dimensions: a matrix of 2 rows and 12 columns.", rank4),
	        good("container", "unread-weight", "A weight that the forward pass does not read is no part of the identity.",
	             unread, canaries=False),
	        good_aligned(), good_two_slots(), good_shared()]


def good_aligned():
	big = t.weight("big", [t.dense([[0.0] * 16384], F32)], dim=[16384])
	vector = good("container", "aligned", "A plane of 64 KiB starts at a multiple of tensor_align, here 4096.", [big])
	vector["segments"] = aligned([big], 4096)
	return vector


def aligned(ws, align, start=None):
	vector = Vector(ws)
	vector.header["tensor_align"] = align
	return vector.build()


def good_two_slots():
	"""A file after an edit: slot 0 names generation 2, slot 1 the directory before it."""
	w = weights()
	return {"folder": "container", "name": "good-two-slots", "weights": w, "segments": edited(w),
	        "about": "After a metadata edit: the older slot still names its directory, a licence was appended."}


def edited(w, older=None):
	first = joined(Vector(w).build())
	off = struct.unpack_from("<Q", first, 512 + 56)[0]
	old_slot = bytearray(first[512:1024])
	if older:
		older(old_slot)
		old_slot[:8] = struct.pack("<Q", xxh3(old_slot[8:]))
	# The second generation: the old bytes stay, a section and a new directory follow.
	licence = b"No rights reserved.\n"
	body = first[1536:]
	count = struct.unpack_from("<I", first, 512 + 64)[0]
	rows = [first[off + 64 * i:off + 64 * i + 64] for i in range(count)]
	stored = licence + bytes(-len(licence) % 64)
	at = len(first)
	new = joined(sealed("directory", {"section_id": b"lic ", "off": at, "nbytes": len(licence),
	                                  "raw_nbytes": len(licence), "xxh3": xxh3(stored)}))
	rows = sorted(rows + [new], key=lambda row: int.from_bytes(row[:4], "little"))
	directory = b"".join(rows)
	slot = sealed("slot", {
		"generation": 2, "numerics_version": 1, "tensor_align": 64, "file_nbytes": at + len(stored) + len(directory),
		"directory_off": at + len(stored), "directory_count": len(rows), "file_root": root(directory),
		"model_identity": first[512 + 96:512 + 112]})
	return ([("preamble and zero", first[:512]), ("slot 0, generation 1", bytes(old_slot))]
	        + [("slot1." + n, raw) for n, raw in slot]
	        + [("generation 1", body), ("lic ", licence), ("lic padding", bytes(-len(licence) % 64)),
	           ("directory of generation 2", directory)])


def xxh3(raw):
	from reader_bytes import xxh3_64
	return xxh3_64(bytes(raw))


def root(raw):
	from reader_bytes import xxh3_128
	return xxh3_128(raw)


def good_shared():
	rng = Random(10)
	matrix = t.random_matrix(rng, 2, 3, F32)
	a, b = t.weight("a", [t.dense(matrix, F32)]), t.weight("b", [t.dense(matrix, F32)])
	def share(vector, stage):
		if stage == "layout":
			first, second = vector.tables["PLAN"]
			second.update(off=first["off"], shared=True)
			vector.data_end -= 64
	vector = good("container", "shared-plane", "Two weights whose plane entries name one and the same bytes.", [a, b])
	vector["bend"] = share
	vector["extra"] = {}
	return vector


def header_bend(name, rule, about, change, stage="header"):
	return bent("container", name, rule, about, weights(), change, stage)


def header_set(**values):
	return lambda vector: vector.header.update(values)


def patched(name, rule, about, patch, needs_status=None, ws=None, extra=None):
	out = {"folder": "container", "name": name, "rule": rule, "about": about, "weights": ws or weights(), "patch": patch}
	if extra:
		out["extra"] = extra
	if needs_status:
		out["status"] = needs_status
	return out


def flip(at):
	def patch(data):
		data[at] ^= 1
	return patch


def cut(nbytes):
	return lambda data: data[:nbytes] if nbytes > 0 else data[:len(data) + nbytes]


def headers():
	feature = lambda bit: header_set(incompatible=1 << bit)
	def ascii_transfer(data):
		return bytearray(bytes(data).replace(b"\r\n", b"\n", 1))
	def preamble(**values):
		return lambda vector: vector.preamble.update(values)
	def gap(vector):
		vector.preamble_gap = bytes(100) + b"\x01" + bytes(347)
	def no_slot(data):
		data[512:1024] = bytes(512)
	def slot1(raw):
		def change(vector):
			values = dict(vector.header)
			slot = bytearray(joined(sealed("slot", values)))
			vector.other_slot = [("slot1", raw(slot))]
		return change
	def damaged(slot):
		slot[20] ^= 1
		return bytes(slot)
	return [
		patched("not-ours-magic", "container.1", "The first byte is not that of the magic.", flip(0), "not-ours"),
		patched("not-ours-text-transfer", "container.1", "CR LF became LF on the way.", ascii_transfer, "not-ours"),
		patched("not-ours-empty", "container.1", "An empty file.", lambda data: bytearray(b""), "not-ours"),
		patched("bad-preamble-xxh3", "container.2", "The preamble's checksum is wrong.", flip(56)),
		patched("bad-short", "container.2", "The file ends inside its header.", cut(1000)),
		header_bend("bad-preamble-reserved", "container.2", "A reserved byte of the preamble is not 0.",
		            preamble(reserved=b"\x01" + bytes(43))),
		header_bend("bad-slot-nbytes", "container.2", "slot_nbytes is 1024.", preamble(slot_nbytes=1024)),
		header_bend("bad-preamble-gap", "container.2", "A byte between the preamble and slot 0 is not 0.", gap),
		patched("bad-slot-xxh3", "container.3", "The only slot's checksum is wrong.", flip(512)),
		patched("bad-slots-empty", "container.3", "Both slots are empty.", no_slot),
		header_bend("bad-generation-0", "container.3", "The only slot has generation 0.", header_set(generation=0)),
		header_bend("bad-generations-equal", "container.3", "Two valid slots have one generation.", slot1(bytes)),
		header_bend("bad-slot-damaged", "container.3", "A damaged slot beside a valid one: verification reports it.",
		            slot1(damaged)),
		header_bend("unsupported-version", "container.4", "container_version is 1.", header_set(container_version=1)),
		header_bend("unsupported-packed-planes", "container.5", "Feature packed-planes.", feature(0)),
		header_bend("unsupported-entropy-bf16", "container.5", "Feature entropy-bf16.", feature(1)),
		header_bend("unsupported-split", "container.5", "Feature split.", feature(2)),
		header_bend("unsupported-feature-63", "container.5", "An unknown feature.", feature(63)),
		patched("bad-truncated", "container.6", "The last 64 bytes are missing.", cut(-64)),
		patched("bad-trailing", "container.6", "A byte behind file_nbytes: verification reports it.",
		        lambda data: data + b"\x01"),
		header_bend("bad-header-reserved", "container.7", "A reserved byte of the header is not 0.",
		            header_set(reserved2=bytes(399) + b"\x01")),
		header_bend("bad-align-0", "container.7", "tensor_align is 0.", header_set(tensor_align=0)),
		header_bend("bad-align-96", "container.7", "tensor_align is 96.", header_set(tensor_align=96)),
		header_bend("bad-align-large", "container.7", "tensor_align is 131072.", header_set(tensor_align=131072)),
		header_bend("bad-directory-count-0", "container.7", "directory_count is 0.", header_set(directory_count=0)),
		header_bend("bad-directory-count-257", "container.7", "directory_count is 257.", header_set(directory_count=257)),
		header_bend("bad-directory-outside", "container.7", "The directory starts at the end of the file.",
		            lambda v: v.header.update(directory_off=-(-v.header["file_nbytes"] // 64) * 64)),
		header_bend("bad-directory-wraps", "container.7", "directory_off is close to 2^64.",
		            header_set(directory_off=2 ** 64 - 64)),
		header_bend("bad-file-root", "container.8", "file_root is not that of the directory.", header_set(file_root=bytes(16))),
	]


def directories():
	def section(name, **values):
		return lambda v: next(s for s in v.sections if s["section_id"] == name.encode()).update(values)
	def grow(v):
		v.sections[0].update(off=2 ** 63)
	def swap(v):
		v.sections[0], v.sections[1] = v.sections[1], v.sections[0]
	def twice(v):
		v.sections[1] = dict(v.sections[0])
	def without(name):
		def change(v):
			v.sections = [s for s in v.sections if s["section_id"] != name.encode()]
		return change
	def at_directory(name, rule, about, change, extra=None):
		vector = bent("container", name, rule, about, weights(), change, "directory")
		if extra:
			vector["extra"] = extra
		return vector
	def padding(v):
		chunk = next(c for c in v.chunks if c[0] == "NAME")
		chunk[2][1] = (chunk[2][1][0], bytes(len(chunk[2][1][1]) - 1) + b"\x01")
		section("NAME", xxh3=xxh3(joined(chunk[2])))(v)
	frame, size = raw_zstd(b"No rights reserved.\n")
	lic = lambda stored, raw: {"blobs": {"lic ": (stored, raw)}}
	return [
		at_directory("bad-directory-entry-xxh3", "container.9", "An entry's checksum is wrong, the root is that of the bytes.",
		             section("NAME", break_xxh3=1)),
		at_directory("bad-directory-reserved", "container.9", "A reserved byte of an entry is not 0.",
		             section("NAME", reserved=b"\x01" + bytes(7))),
		at_directory("bad-section-flags", "container.9", "A reserved flag of a section.", section("NAME", flags=3)),
		at_directory("bad-raw-nbytes", "container.9", "raw_nbytes of a raw section is not nbytes.", section("NAME", raw_nbytes=9)),
		at_directory("bad-section-outside", "container.9", "A section starts at 2^63.", grow),
		at_directory("bad-section-unaligned", "container.9", "A section starts at no multiple of 64.",
		             lambda v: v.sections[0].update(off=v.sections[0]["off"] + 8)),
		at_directory("bad-section-header", "container.9", "A section starts inside the header.", section("NAME", off=1024)),
		at_directory("bad-directory-order", "container.9", "The directory is not sorted.", swap),
		at_directory("bad-section-twice", "container.9", "A section occurs twice.", twice),
		at_directory("unsupported-section", "container.10", "An unknown section that must be understood.",
		             section("xabc", flags=1), {"blobs": {"xabc": b"an experiment"}}),
		at_directory("bad-table-zstd", "container.10", "A table with encoding zstd.", section("PLAN", encoding=1)),
		at_directory("bad-name-zstd", "container.10", "NAME with encoding zstd.", section("NAME", encoding=1)),
		at_directory("bad-entry-nbytes", "container.10", "entry_nbytes of WGHT is 64.", section("WGHT", entry_nbytes=64)),
		at_directory("bad-blob-entry-nbytes", "container.10", "entry_nbytes of a blob is 1.", section("NAME", entry_nbytes=1)),
		at_directory("bad-table-nbytes", "container.10", "PLAN ends inside an entry.",
		             lambda v: section("PLAN", nbytes=100, raw_nbytes=100)(v)),
		at_directory("bad-no-terms", "container.10", "TERM is missing.", without("TERM")),
		at_directory("bad-section-padding", "container.11", "A byte behind NAME is not 0.", padding),
		at_directory("bad-section-xxh3", "container.11", "The checksum of NAME is wrong.", section("NAME", xxh3=1)),
		at_directory("bad-zstd-xxh3", "container.11", "The checksum of a zstd section is wrong.", section("lic ", xxh3=1),
		             lic(frame, size)),
		at_directory("bad-zstd-size", "container.21", "raw_nbytes is not the frame's content size.", lambda v: None,
		             lic(frame, size + 1)),
		at_directory("bad-zstd-two-frames", "container.21", "Two frames in a section.", lambda v: None, lic(frame + frame, size)),
		at_directory("bad-zstd-cut", "container.21", "The frame is cut.", lambda v: None, lic(frame[:-3], size)),
		at_directory("bad-zstd-garbage", "container.21", "The section is no zstd frame.", lambda v: None, lic(b"plain text", 10)),
	]


def entry(name, rule, about, table, index, **values):
	return bent("container", name, rule, about, weights(), set_field(table, index, **values))


def entries():
	def names(vector, change):
		raw = bytearray(vector.blobs["NAME"])
		change(raw)
		vector.blobs["NAME"] = bytes(raw)
		for w in vector.tables["WGHT"]:
			w["name_hash"] = xxh3(raw[w["name_off"]:w["name_off"] + w["name_nbytes"]])
	def character(value):
		def change(vector):
			at = next(w["name_off"] for w in vector.tables["WGHT"] if w["name_nbytes"] == 6)
			names(vector, lambda raw: raw.__setitem__(at, value))
			resort(vector)
		return change
	def resort(vector):
		vector.tables["WGHT"].sort(key=lambda w: w["name_hash"])
	def swap(vector):
		vector.tables["WGHT"].reverse()
	def twins(vector):
		first, second = vector.tables["WGHT"]
		for key in ("name_hash", "name_off", "name_nbytes"):
			second[key] = first[key]
	huge = [2 ** 24, 2 ** 25, 1, 1]
	def bend(name, rule, about, change):
		return bent("container", name, rule, about, weights(), change)
	return [
		entry("bad-weight-xxh3", "container.12", "The checksum of a WGHT entry is wrong.", "WGHT", 0, break_xxh3=1),
		entry("bad-weight-reserved", "container.12", "A reserved byte of a WGHT entry.", "WGHT", 1, reserved=b"\x01" + bytes(31)),
		entry("bad-weight-flags", "container.12", "A reserved flag of a weight.", "WGHT", 0, flags=2),
		entry("bad-term-xxh3", "container.12", "The checksum of a TERM entry is wrong.", "TERM", 0, break_xxh3=1),
		entry("bad-term-flags", "container.12", "A reserved flag of a term.", "TERM", 0, flags=1),
		entry("bad-term-reserved", "container.12", "A reserved byte of a TERM entry.", "TERM", 0, reserved=bytes(7) + b"\x01"),
		entry("bad-plane-xxh3", "container.12", "The checksum of a PLAN entry is wrong.", "PLAN", 0, break_xxh3=1),
		entry("bad-plane-reserved", "container.12", "A reserved byte of a PLAN entry.", "PLAN", 0, reserved=b"\x01" + bytes(15)),
		entry("bad-name-outside", "container.13", "A name outside of NAME.", "WGHT", 0, name_off=2 ** 64 - 2),
		entry("bad-name-length", "container.13", "A name of 0 bytes.", "WGHT", 0, name_nbytes=0),
		entry("bad-name-hash", "container.13", "name_hash is not that of the name.", "WGHT", 0, name_hash=1),
		bend("bad-name-utf8", "container.13", "A name is not UTF-8.", character(0xff)),
		bend("bad-name-control", "container.13", "A control character in a name.", character(0x0a)),
		bend("bad-weights-order", "container.13", "WGHT is not sorted.", swap),
		bend("bad-weights-twins", "container.13", "Two weights have one name.", twins),
		entry("bad-rank-0", "container.14", "rank is 0.", "WGHT", 0, rank=0),
		entry("bad-rank-5", "container.14", "rank is 5.", "WGHT", 0, rank=5),
		entry("bad-dim-0", "container.14", "A dimension is 0.", "WGHT", 0, dim=[0, 1, 1, 1]),
		entry("bad-dim-large", "container.14", "A dimension is 2^40 + 1.", "WGHT", 0, dim=[2 ** 40 + 1, 1, 1, 1]),
		entry("bad-dim-unused", "container.14", "An unused dimension is 2.", "WGHT", 0, dim=[1, 1, 1, 2], rank=1),
		entry("bad-elements", "container.14", "2^49 elements.", "WGHT", 0, dim=huge, rank=2),
		entry("bad-dims-wrap", "container.14", "The product of the dimensions wraps to 0.", "WGHT", 0, dim=[2 ** 32] * 4, rank=4),
		entry("bad-term-count-0", "container.14", "term_count is 0.", "WGHT", 0, term_count=0),
		entry("bad-term-count-17", "container.14", "term_count is 17.", "WGHT", 0, term_count=17),
		entry("bad-first-term", "container.14", "Terms outside of TERM.", "WGHT", 0, first_term=2 ** 32 - 1),
		entry("bad-transforms", "container.14", "A transform in a file without XFRM.", "WGHT", 0, transform_count=1),
		entry("bad-transform-count", "container.14", "transform_count is 5.", "WGHT", 0, transform_count=5),
		entry("bad-first-plane", "container.14", "Planes outside of PLAN.", "TERM", 0, first_plane=2),
		entry("bad-plane-count-9", "container.14", "plane_count is 9.", "TERM", 0, plane_count=9),
	]


def planes():
	big = lambda: [t.weight("big", [t.dense([[0.0] * 16384], F32)], dim=[16384])]
	def misaligned(vector, stage):
		if stage == "header":
			vector.header["tensor_align"] = 1024
	return [
		entry("bad-plane-unaligned", "container.15", "A plane starts at no multiple of 64.", "PLAN", 0, off=1568, real_off=1536),
		entry("bad-plane-outside", "container.15", "A plane lies behind the file.", "PLAN", 0, off=2 ** 20, real_off=1536),
		entry("bad-plane-wraps", "container.15", "The end of a plane wraps around 2^64.", "PLAN", 0, off=2 ** 64 - 64, real_off=1536),
		entry("bad-plane-header", "container.15", "A plane lies inside the header.", "PLAN", 0, off=1024, real_off=1536),
		entry("bad-plane-empty", "container.15", "nbytes of a plane is 0.", "PLAN", 0, nbytes=0),
		{"folder": "container", "name": "bad-plane-size", "rule": "container.15", "segments": longer(),
		 "about": "nbytes of a plane is 64 too large, the bytes are there."},
		entry("unsupported-plane-encoding", "container.15", "encoding of a plane is 1.", "PLAN", 0, encoding=1),
		{"folder": "container", "name": "bad-plane-tensor-align", "rule": "container.15", "weights": big(), "bend": misaligned,
		 "about": "A plane of 64 KiB starts at 1536, tensor_align is 1024."},
		{"folder": "container", "name": "bad-plane-padding", "rule": "container.15", "segments": behind(),
		 "about": "A byte behind the content of a plane is not 0."},
		patched("bad-plane-bytes", "container.16", "A payload byte was flipped.", flip(1537)),
	]


def longer():
	vector = Vector(weights())
	vector.planes[0] += bytes(64)
	return vector.build()


def behind():
	vector = Vector(weights())
	vector.behind = {0: b"\x01"}
	return vector.build()


def metadata():
	def meta(name, rule, about, table, index, **values):
		out = bent("container", name, rule, about, weights(), set_field(table, index, **values))
		out["extra"] = full()
		return out
	def bend(name, rule, about, change):
		out = bent("container", name, rule, about, weights(), change)
		out["extra"] = full()
		return out
	def swap(table):
		def change(v):
			v.tables[table].reverse()
		return change
	def canaries(second):
		def change(v):
			first = v.tables["CNRY"][0]
			v.tables["CNRY"].append(dict(first, **second))
		return change
	wrong = meta("bad-canary", "canary.1", "A canary is not what the weight gives.", "CNRY", 0, last=[0x3f800000] * 16)
	wrong["needs"] = "runtime"
	return [
		meta("bad-key-order", "container.17", "The keys are not sorted.", "ARCH", 0, key=b"zebra"),
		meta("bad-key-twice", "container.17", "Two keys are equal.", "ARCH", 1, key=b"arch"),
		meta("bad-key-empty", "container.17", "A key of 0 characters.", "ARCH", 0, key=b""),
		meta("bad-key-space", "container.17", "A space in a key.", "ARCH", 0, key=b"a b"),
		meta("bad-key-padding", "container.17", "A byte behind the end of a key.", "ARCH", 0, key=b"arch\0x"),
		meta("bad-key-long", "container.17", "A key of 32 characters.", "ARCH", 0, key=b"a" * 32),
		meta("bad-key-type", "container.17", "type is 4.", "ARCH", 1, type=4),
		meta("bad-key-value-nbytes", "container.17", "value_nbytes of a number is 8.", "ARCH", 1, value_nbytes=8),
		meta("bad-key-string", "container.17", "A string ends behind TEXT.", "ARCH", 0, value_nbytes=len(TEXT) + 1),
		meta("bad-key-flags", "container.12", "A reserved flag of a key.", "ARCH", 1, flags=5),
		meta("bad-block-flags", "container.12", "A reserved flag of a block.", "BLCK", 0, flags=7),
		meta("bad-block-reserved", "container.12", "A reserved byte of a block.", "BLCK", 0, reserved=b"\x01" + bytes(15)),
		meta("bad-block-heads", "container.18", "kv_head_count does not divide head_count.", "BLCK", 0, kv_head_count=3),
		meta("bad-block-heads-0", "container.18", "head_dim is 0.", "BLCK", 0, head_dim=0),
		meta("bad-block-ffn", "container.18", "ffn_count is 2^24 + 1.", "BLCK", 0, ffn_count=2 ** 24 + 1),
		meta("bad-block-absent", "container.18", "A block without attention has heads.", "BLCK", 1, head_count=4),
		meta("bad-block-const", "container.18", "A const beside the branch that it stands for.", "BLCK", 0, attention_const=1),
		meta("bad-block-const-range", "container.18", "A const names weight 2 of 2.", "BLCK", 1, attention_const=3),
		meta("bad-block-later", "container.18", "attention_of names a later block.", "BLCK", 0, attention_of=1),
		meta("bad-block-shape", "container.18", "ffn_of names a block of another shape.", "BLCK", 1, ffn_count=16),
		meta("bad-canary-weight", "container.19", "A canary of weight 2 of 2.", "CNRY", 0, weight=2),
		bend("bad-canary-twice", "container.19", "Two canaries of one weight.", canaries({})),
		meta("bad-canary-reserved", "container.12", "A reserved byte of a canary.", "CNRY", 0, reserved=b"\x01" + bytes(15)),
		meta("bad-lineage-weight", "container.19", "Lineage of weight 2 of 2.", "LINE", 2, weight=3),
		meta("bad-lineage-string", "container.19", "A string of lineage ends behind TEXT.", "LINE", 1, value_off=2 ** 63),
		meta("bad-lineage-reserved", "container.12", "A reserved byte of lineage.", "LINE", 0, reserved=b"\x01" + bytes(39)),
		wrong,
	]


def whole_file():
	older = lambda slot: slot.__setitem__(slice(80, 96), bytes(16))
	w = weights()
	return [
		{"folder": "container", "name": "bad-gap", "rule": "container.20", "about": "A byte between two sections is not 0.",
		 "segments": with_gap(b"\x01")},
		{"folder": "container", "name": "bad-overlap", "rule": "container.20", "segments": overlapping(),
		 "about": "Two planes overlap by half, each with the right checksum."},
		{"folder": "container", "name": "bad-older-root", "rule": "container.8", "segments": edited(w, older),
		 "about": "The older generation's root is not that of its directory: verification reports it."},
		bent("container", "bad-identity", "container.22", "model_identity is not that of the content.", weights(),
		     lambda v: v.header.update(model_identity=bytes(16)), "header"),
	]


def with_gap(byte):
	"""64 bytes that belong to nobody between the planes and the sections; the first is 'byte'."""
	def grow(vector, stage):
		if stage == "layout":
			vector.data_end += 64
			vector.plane_bytes[-1] += byte + bytes(63)
	return Vector(weights()).build(grow)


def overlapping():
	"""Two vectors of 32 numbers (128 bytes); the second starts in the middle of the first."""
	zeros = lambda name: t.weight(name, [t.dense([[0.0] * 32], F32)], dim=[32])
	def bend(vector, stage):
		if stage == "layout":
			vector.tables["PLAN"][1].update(off=1536 + 64, real_off=1536 + 128)
	return Vector([zeros("a"), zeros("b")]).build(bend)
