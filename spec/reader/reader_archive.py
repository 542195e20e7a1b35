# Text archives: the container of spec/text_archive.md, sections 1 to 5.  Segments of method 2 are checked, not
# decoded: that takes the engine.
#
# SPDX-License-Identifier: Apache-2.0

import ctypes

from reader_bytes import Fault, _load, _pointer, need, u32, u64, unsupported, xxh3_64, xxh3_128, zstd_decompress

MAGIC = bytes.fromhex("8950545a0d0a1a0a")
FILE, DIRECTORY, LINK, HARD_LINK = 1, 2, 3, 4
STORED, ZSTD, MODEL = 0, 1, 2


class Cursor:
	"""Bytes read from the front; 'rule' is broken where they end too soon."""

	def __init__(self, data, rule):
		self.data, self.at, self.rule = data, 0, rule

	def take(self, nbytes):
		need(nbytes <= len(self.data) - self.at, self.rule, "the bytes end too soon")
		self.at += nbytes
		return self.data[self.at - nbytes:self.at]

	def varint(self):
		value = shift = 0
		while True:
			byte = self.take(1)[0]
			need(shift == 0 or byte != 0, self.rule, "a varint is not in its shortest form")
			value |= (byte & 127) << shift
			need(value < 2 ** 64, self.rule, "a varint is too large")
			if byte < 128:
				return value
			shift += 7

	def string(self, least, most):
		nbytes = self.varint()
		need(least <= nbytes <= most, "text.13", "the size of a string is out of range")
		text = self.take(nbytes)
		need(0 not in text, "text.13", "a string has a NUL byte")
		return text


class Member:
	owner = None
	target = b""
	nbytes = content_off = 0
	content_xxh3 = None


class Segment:
	pass


def read_header(data):
	if data[:8] != MAGIC:
		raise Fault("text.1", "no magic", 0, "not-ours")
	need(len(data) >= 64 and u64(data, 56) == xxh3_64(data[:56]), "text.2", "header_xxh3", 0)
	features = u32(data, 20)
	if u32(data, 8) != 1 or u32(data, 16) != 1 or features & ~3:
		raise unsupported("text.3", "version or feature", 8)
	model_nbytes = u64(data, 48)
	need(u32(data, 28) == 0 and 4096 <= u32(data, 24) <= 2 ** 24 and model_nbytes <= 2 ** 40
	     and (model_nbytes > 0) == bool(features & 1), "text.2", "a field is out of range", 24)
	return model_nbytes


def read_segment_header(data, off):
	"""text.4; the fields by name, the payload's place too."""
	head = data[off:off + 56]
	need(len(head) == 56 and head[:4] == b"PZSG" and u32(head, 52) == xxh3_64(head[:52]) & 0xFFFFFFFF,
	     "text.4", "a damaged segment header", off)
	s = Segment()
	s.method, s.records_encoding, s.ends_member = head[4], head[5], head[6]
	s.raw_nbytes, s.stored_nbytes, s.records_nbytes = u32(head, 8), u32(head, 12), u32(head, 16)
	s.off, s.content_off, s.raw_xxh3, s.stored_xxh3 = (u64(head, at) for at in (20, 28, 36, 44))
	need(s.method <= 2 and s.records_encoding <= 1 and s.ends_member <= 1 and head[7] == 0
	     and s.raw_nbytes <= 2 ** 24 and s.stored_nbytes <= 2 ** 24 + 2 ** 16
	     and s.records_nbytes <= 2 ** 24, "text.4", "a field is out of range", off)
	need((s.raw_nbytes == 0) == (s.stored_nbytes == 0), "text.4", "one size is 0", off)
	need(s.raw_nbytes or (s.method == 0 and s.records_nbytes), "text.4", "an empty segment", off)
	s.place, s.xxh3 = off, xxh3_64(head)
	s.end = off + 56 + s.records_nbytes + s.stored_nbytes
	return s


def name_is_valid(name):
	return all(part not in (b"", b".", b"..") for part in name.split(b"/"))


def read_record(c):
	"""text.13 and text.15."""
	m = Member()
	kind = c.varint()
	need(kind & ~8 in (FILE, DIRECTORY, LINK, HARD_LINK), "text.13", "kind")
	m.kind = kind & ~8
	m.mode = c.varint()
	folded = c.varint()
	m.mtime = -(folded + 1) // 2 if folded & 1 else folded // 2
	m.mtime_nsec = c.varint()
	need(m.mode <= 0o7777 and m.mtime_nsec < 10 ** 9, "text.13", "mode or mtime_nsec")
	if kind & 8:
		uid, gid = c.varint(), c.varint()
		need(max(uid, gid) < 2 ** 32, "text.13", "user or group")
		m.owner = (uid, gid, c.string(0, 255), c.string(0, 255))
	m.name = c.string(1, 4095)
	if m.kind in (LINK, HARD_LINK):
		m.target = c.string(1, 4095)
	need(name_is_valid(m.name), "text.15", "a name that is no relative path")
	return m


def zstd_run(data, raw_nbytes):
	"""text.7: one or more frames without content size."""
	zstd = _load("zstd", "libzstd.so.1")
	size, address = ctypes.c_size_t, ctypes.c_void_p
	zstd.ZSTD_decompress.argtypes, zstd.ZSTD_decompress.restype = [address, size, address, size], size
	out = ctypes.create_string_buffer(raw_nbytes + 1)
	got = zstd.ZSTD_decompress(out, raw_nbytes + 1, _pointer(bytes(data)), len(data))
	return out.raw[:raw_nbytes] if got == raw_nbytes else None


class Archive:
	"""A whole archive by its directory."""

	def __init__(self, data):
		self.data = data
		self.begin = 64 + read_header(data)
		self.end = self.find_end()
		self.read_directory()

	def find_end(self):
		for end in range(len(self.data), self.begin + 63, -1):
			t = self.data[end - 64:end]
			if t[:4] == b"PZTR" and u64(t, 56) == xxh3_64(t[:56]) and u64(t, 48) == end:
				return end
		raise Fault("text.8", "no trailer", len(self.data))

	def read_directory(self):
		t = self.data[self.end - 64:self.end]
		off, stored_nbytes, nbytes = u64(t, 8), u64(t, 16), u64(t, 24)
		need(self.begin <= off <= self.end - 64 and stored_nbytes == self.end - 64 - off and u32(t, 4) <= 1,
		     "text.9", "the directory is not in its place", self.end - 64)
		stored = self.data[off:off + stored_nbytes]
		need(xxh3_128(stored) == t[32:48], "text.10", "archive_root", off)
		plain = zstd_decompress(stored, nbytes, 2 ** 28) if u32(t, 4) else stored
		need(plain is not None and len(plain) == nbytes, "text.10", "the directory does not decode", off)
		c = Cursor(plain, "text.11")
		need(u64(c.take(8), 0) == u64(self.data, 56), "text.11", "header_xxh3")
		segment_count, member_count = c.varint(), c.varint()
		need(segment_count <= 2 ** 24 and member_count <= 2 ** 23, "text.11", "a count is out of range")
		self.read_segments(c, segment_count, off)
		self.read_members(c, member_count)
		need(c.at == len(plain), "text.11", "the directory is too long")

	def read_segments(self, c, count, directory_off):
		self.segments, at, content = [], self.begin, 0
		for _ in range(count):
			at += c.varint()
			method, raw, stored, records = (c.varint() for _ in range(4))
			checksum = u64(c.take(8), 0)
			need(at + 56 + records + stored <= directory_off, "text.12", "a segment is not in its place")
			s = read_segment_header(self.data, at)
			need((s.xxh3, s.method, s.raw_nbytes, s.stored_nbytes, s.records_nbytes, s.off, s.content_off)
			     == (checksum, method, raw, stored, records, at, content), "text.16", "another segment", at)
			self.segments.append(s)
			at, content = s.end, content + raw
		self.content_nbytes = content

	def read_members(self, c, count):
		self.members, end, kinds = [], 0, {}
		for _ in range(count):
			m = read_record(c)
			if m.kind == FILE:
				gap, m.nbytes = c.varint(), c.varint()
				m.content_xxh3 = c.take(16)
				need(m.nbytes > 0 or gap == 0, "text.14", "a gap before nothing")
				m.content_off = end + gap
				end = m.content_off + m.nbytes
				need(end <= self.content_nbytes, "text.14", "a member is not in its place")
			need(m.name not in kinds, "text.22", "a name twice")
			need(m.kind != HARD_LINK or kinds.get(m.target) == FILE, "text.23", "no file before the link")
			kinds[m.name] = m.kind
			self.members.append(m)

	def records(self, s):
		"""[(member, content_off of the file, None of what has none)] of a segment: text.21."""
		stored = self.data[s.place + 56:s.place + 56 + s.records_nbytes]
		if s.records_encoding:
			stored = zstd_decompress(stored, frame_size(stored), 2 ** 24)
			need(stored is not None, "text.21", "the records do not decode", s.place)
		c, found = Cursor(stored, "text.21"), []
		while c.at < len(stored):
			m = read_record(c)
			found.append((m, c.varint() if m.kind in (FILE, HARD_LINK) else None))
		return found

	def content(self, s):
		"""Content bytes of a segment; None for method 2.  text.5 to text.7."""
		payload = self.data[s.place + 56:s.end]
		need(xxh3_64(payload) == s.stored_xxh3, "text.5", "stored_xxh3", s.place)
		code = payload[s.records_nbytes:]
		if s.method == MODEL:
			return None
		need(s.method != STORED or s.stored_nbytes == s.raw_nbytes, "text.6", "sizes differ", s.place)
		raw = code if s.method == STORED else zstd_run(code, s.raw_nbytes)
		need(raw is not None, "text.7", "the frames do not decode", s.place)
		need(xxh3_64(raw) == s.raw_xxh3, "text.5", "raw_xxh3", s.place)
		return raw

	def extract(self):
		"""{name: bytes} of the files; None where a segment of method 2 has part of it.  text.17."""
		parts, files = [self.content(s) for s in self.segments], {}
		for m in self.members:
			if m.kind != FILE:
				continue
			data, begin, end = b"", m.content_off, m.content_off + m.nbytes
			for s, raw in zip(self.segments, parts):
				low, high = max(begin, s.content_off), min(end, s.content_off + s.raw_nbytes)
				if low < high and data is not None:
					data = None if raw is None else data + raw[low - s.content_off:high - s.content_off]
			need(data is None or xxh3_128(data) == m.content_xxh3, "text.17", "content_xxh3")
			files[m.name] = data
		return files


def frame_size(stored):
	"""The content size that a zstd frame gives; 2^63 and more when it gives none."""
	zstd = _load("zstd", "libzstd.so.1")
	zstd.ZSTD_getFrameContentSize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
	zstd.ZSTD_getFrameContentSize.restype = ctypes.c_uint64
	return zstd.ZSTD_getFrameContentSize(_pointer(bytes(stored)), len(stored))


def recover(data):
	"""
	What recovery finds without header, directory and trailer: {name: (content_off, end or None)} of the files whose
	record is in a sound segment, and the content that is left, {content_off: bytes or None}.
	"""
	at, end, files, order, left = 0, 0, {}, [], {}
	while (at := data.find(b"PZSG", at)) >= 0:
		try:
			s = read_segment_header(data, at)
		except Fault:
			at += 1
			continue
		payload = data[at + 56:s.end]
		if s.off < at or s.content_off < end or xxh3_64(payload) != s.stored_xxh3:
			at += 1
			continue
		archive = Archive.__new__(Archive)
		archive.data = data
		left[s.content_off] = archive.content(s)
		order += [(m.name, off) for m, off in archive.records(s) if m.kind == FILE]
		at, end = s.end, s.content_off + s.raw_nbytes
	for i, (name, off) in enumerate(order):
		following = [o for n, o in order[i + 1:] if (n, o) != (name, off)]
		files[name] = (off, following[0] if following else end)
	return files, left
