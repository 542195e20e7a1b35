"""Text archives made from the prose of spec/text_archive.md, sections 1 to 5, right or wrong on purpose.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "spec" / "reader"))

from reader_bytes import xxh3_64, xxh3_128

FILE, DIRECTORY, LINK, HARD_LINK = 1, 2, 3, 4


def le(value, nbytes):
    return (value % 256 ** nbytes).to_bytes(nbytes, "little")


def varint(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def string(text):
    return varint(len(text)) + text


def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, capture_output=True, check=True).stdout


def record(kind, name, target=b"", mode=0o644):
    out = varint(kind) + varint(mode) + varint(0) + varint(0) + string(name)
    return out + string(target) if kind in (LINK, HARD_LINK) else out


def segment(off, content_off, raw, code=None, method=0, records=b"", raw_nbytes=None, raw_xxh3=None):
    code = raw if code is None else code
    head = b"PZSG" + bytes([method, 0, 1, 0])
    head += le(len(raw) if raw_nbytes is None else raw_nbytes, 4) + le(len(code), 4) + le(len(records), 4)
    head += le(off, 8) + le(content_off, 8) + le(xxh3_64(raw) if raw_xxh3 is None else raw_xxh3, 8)
    head += le(xxh3_64(records + code), 8)
    return head + le(xxh3_64(head), 4) + records + code


class Maker:
    """header(), then segments and members as they are given, then finish()."""

    def __init__(self):
        head = bytes.fromhex("8950545a0d0a1a0a") + le(1, 4) + bytes(4) + le(1, 4) + bytes(4) + le(1 << 20, 4) + bytes(28)
        self.head = head
        self.data = head + le(xxh3_64(head), 8)
        self.segments, self.members = b"", b""
        self.segment_count = self.member_count = self.content_nbytes = 0

    def segment(self, raw, method=0, code=None, records=b"", raw_nbytes=None):
        s = segment(len(self.data), self.content_nbytes, raw, code, method, records, raw_nbytes)
        size = len(raw) if raw_nbytes is None else raw_nbytes
        stored = len(raw if code is None else code)
        for value in (0, method, size, stored, len(records)):
            self.segments += varint(value)
        self.segments += le(xxh3_64(s[:56]), 8)
        self.data += s
        self.segment_count += 1
        self.content_nbytes += size

    def member(self, kind, name, content=b"", target=b"", gap=0, nbytes=None):
        self.members += record(kind, name, target)
        self.member_count += 1
        if kind == FILE:
            self.members += varint(gap) + varint(len(content) if nbytes is None else nbytes) + xxh3_128(content)

    def file(self, name, content):
        """A member in a segment of its own."""
        self.segment(content, records=record(FILE, name) + varint(self.content_nbytes))
        self.member(FILE, name, content)

    def finish(self, pack=False, directory=None):
        if directory is None:
            directory = self.data[56:64] + varint(self.segment_count) + varint(self.member_count)
            directory += self.segments + self.members
        stored = zstd(directory, "--content-size", "-19", f"--stream-size={len(directory)}") if pack else directory
        trailer = b"PZTR" + le(int(pack), 4) + le(len(self.data), 8) + le(len(stored), 8) + le(len(directory), 8)
        trailer += xxh3_128(stored) + le(len(self.data) + len(stored) + 64, 8)
        return self.data + stored + trailer + le(xxh3_64(trailer), 8)


def seeds():
    """Small archives with everything in them, for the fuzzers."""
    m = Maker()
    m.file(b"a", b"the end of the thin abcd\n")
    m.segment(b"x" * 500, method=1, code=zstd(b"x" * 500, "--no-check"))
    m.member(FILE, b"d/x", b"x" * 500)
    m.segment(b"12", records=record(FILE, b"r") + varint(m.content_nbytes) + record(HARD_LINK, b"s", b"nobody") + varint(0))
    m.member(FILE, b"r", b"12")
    m.member(DIRECTORY, b"d/e")
    m.member(LINK, b"l", target=b"a")
    m.member(HARD_LINK, b"h", target=b"a")
    first = m.finish()
    return {"plain.pz": first, "packed.pz": m.finish(pack=True), "empty.pz": Maker().finish(),
            "behind.pz": first + b"PZSG and more"}
