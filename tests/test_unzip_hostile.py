#!/usr/bin/python3
"""Hostile archives: what they say decides neither where a file goes, nor how much memory it takes, nor whether what comes
out is right.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from archive_maker import DIRECTORY, FILE, HARD_LINK, LINK, Maker, le, record, seeds, varint, xxh3_64, zstd

PITH = os.environ.get("PITH", "build/pith")
MEMORY = 1 << 30


def limit():
    """Bounded memory, but not under a sanitizer, whose own takes terabytes."""
    if "PITH_SANITIZED" not in os.environ:
        resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY, 2 * MEMORY))


class Hostile(unittest.TestCase):
    def setUp(self):
        self.holder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.holder.name)
        self.outside = self.root / "outside"
        self.target = self.root / "target"
        self.outside.mkdir()
        self.target.mkdir()

    def tearDown(self):
        """Nothing ever got out."""
        self.assertEqual([], list(self.outside.iterdir()))
        self.assertLessEqual({p.name for p in self.root.iterdir()}, {"outside", "target", "a.pz", "victim.pz"})
        self.holder.cleanup()

    def unzip(self, data, *options, command="unzip"):
        path = self.root / "a.pz"
        path.write_bytes(data)
        args = [PITH, command, *(["-C", str(self.target)] if command == "unzip" else []), *options, str(path)]
        done = subprocess.run(args, capture_output=True, preexec_fn=limit, timeout=60)
        self.assertIn(done.returncode, (0, 1, 3, 4), done.stderr)
        return done

    def everywhere(self, data):
        """By the directory and without it.  Returns unzip's exit code."""
        code = self.unzip(data).returncode
        self.assertEqual(code, self.unzip(data, command="test").returncode)
        self.unzip(data[:-64], "--recover", "--force")
        return code

    def test_the_maker_makes_archives(self):
        for name, data in seeds().items():
            with self.subTest(name):
                want = 3 if name == "behind.pz" else 0
                self.assertEqual(want, self.unzip(data, command="test").returncode)
                self.assertEqual(want, self.unzip(data, "--force").returncode)

    def test_names_that_lead_out(self):
        for name in (b"../up", b"a/../../up", b".", b"a//b", b"a\0b", b"", b"x" * 4096, os.fsencode(self.outside) + b"/file"):
            m = Maker()
            m.file(name, b"content")
            with self.subTest(name[:20]):
                self.assertEqual(3, self.everywhere(m.finish()))

    def test_links_on_the_way(self):
        """A link, then a file through it; a link in the target already; links as targets of hard links."""
        m = Maker()
        m.member(LINK, b"way", target=os.fsencode(self.outside))
        m.file(b"way/file", b"content")
        self.assertEqual(1, self.unzip(m.finish(), "--any-links").returncode)
        m = Maker()
        m.member(LINK, b"way2", target=b"../outside")
        m.member(DIRECTORY, b"way2/inside")
        self.unzip(m.finish(), "--any-links", "--force")
        os.symlink(self.outside, self.target / "there")
        m = Maker()
        m.file(b"there/file", b"content")
        self.assertEqual(1, self.unzip(m.finish(), "--force").returncode)
        m = Maker()
        m.file(b"f", b"content")
        m.member(HARD_LINK, b"there/hard", target=b"f")
        self.assertEqual(1, self.unzip(m.finish(), "--force").returncode)

    def test_a_link_in_a_file_s_place_is_replaced_not_followed(self):
        victim = self.root / "victim.pz"
        victim.write_bytes(b"precious")
        os.symlink(victim, self.target / "f")
        m = Maker()
        m.file(b"f", b"content")
        self.assertEqual(1, self.unzip(m.finish()).returncode)
        self.assertEqual(0, self.unzip(m.finish(), "--force").returncode)
        self.assertEqual(b"precious", victim.read_bytes())
        self.assertFalse((self.target / "f").is_symlink())

    def test_hard_links_to_what_is_no_member(self):
        for target in (b"/etc/passwd", b"h", b"later", b"d"):
            m = Maker()
            m.member(DIRECTORY, b"d")
            m.member(HARD_LINK, b"h", target=target)
            m.file(b"later", b"content")
            with self.subTest(target):
                self.assertEqual(3, self.everywhere(m.finish()))

    def test_one_name_twice(self):
        m = Maker()
        m.file(b"a", b"one")
        m.file(b"a", b"two")
        self.assertEqual(3, self.everywhere(m.finish()))

    def test_sizes_that_lie(self):
        zeros = bytes(1 << 20)
        for raw_nbytes in (1, len(zeros) + 1, (1 << 24) + 1):
            m = Maker()
            m.segment(zeros, method=1, code=zstd(zeros), raw_nbytes=raw_nbytes)
            m.member(FILE, b"f", zeros, nbytes=raw_nbytes)
            with self.subTest(raw_nbytes):
                self.assertEqual(3, self.everywhere(m.finish()))

    def test_bombs(self):
        """A frame of far more than a segment holds; a frame with a huge window; a directory of zeros."""
        bomb = zstd(bytes(1 << 28))
        m = Maker()
        m.segment(b"x", method=1, code=bomb, raw_nbytes=1 << 24)
        m.member(FILE, b"f", b"x", nbytes=1 << 24)
        self.assertEqual(3, self.everywhere(m.finish()))
        m = Maker()
        m.segment(b"x" * 99, method=1, code=zstd(b"x" * 99, "--ultra", "--long=31"))
        m.member(FILE, b"f", b"x" * 99)
        self.unzip(m.finish())
        self.assertEqual(3, self.everywhere(Maker().finish(pack=True, directory=bytes(1 << 28))))
        self.assertEqual(3, self.everywhere(Maker().finish(pack=True, directory=bytes((1 << 28) + 1))))

    def test_counts_that_lie(self):
        for segments, members in ((1 << 24, 0), (0, 1 << 23), (1 << 62, 1)):
            m = Maker()
            directory = m.data[56:64] + varint(segments) + varint(members)
            with self.subTest(segments=segments, members=members):
                self.assertEqual(3, self.everywhere(m.finish(directory=directory + bytes(1000))))

    def test_members_outside_the_content_or_over_each_other(self):
        for gap, nbytes in ((0, 6), (5, 1), ((1 << 64) - 1, 2)):
            m = Maker()
            m.segment(b"12345")
            m.member(FILE, b"f", b"12345", gap=gap, nbytes=nbytes)
            with self.subTest(gap=gap, nbytes=nbytes):
                self.assertEqual(3, self.everywhere(m.finish()))

    def test_content_of_another_member(self):
        """Right segments, wrong member: its own checksum finds it."""
        m = Maker()
        m.segment(b"12345")
        m.member(FILE, b"f", b"54321")
        self.assertEqual(3, self.unzip(m.finish()).returncode)
        self.assertEqual([], list(self.target.iterdir()))

    def test_records_that_lie(self):
        """Recovery believes no record that leads out, overlaps or lies about its place."""
        for records in (record(FILE, b"../up") + varint(0), record(FILE, b"f") + varint(1 << 62),
                        record(HARD_LINK, b"h", b"/etc/passwd") + varint(0), b"\xff" * 40,
                        record(FILE, b"a") + varint(3) + record(FILE, b"b") + varint(1)):
            m = Maker()
            m.segment(b"12345", records=records)
            m.member(FILE, b"f", b"12345")
            data = m.finish()
            with self.subTest(records[:12]):
                done = self.unzip(data[:-64], "--recover", "--force")
                self.assertEqual(3, done.returncode)

    def test_many_headers_that_promise_payloads(self):
        """Recovery's work is bounded by the file's size, not by what headers promise."""
        head = bytes.fromhex("8950545a0d0a1a0a") + bytes(16) + le(1 << 20, 4) + bytes(28)
        data = head + le(xxh3_64(head), 8)
        for i in range(20_000):
            fake = b"PZSG" + bytes([0, 0, 1, 0]) + le(900_000, 4) * 2 + le(0, 4)
            fake += le(len(data), 8) + le(i * 900_000, 8) + bytes(16)
            data += fake + le(xxh3_64(fake), 4)
        self.unzip(data, "--recover")


if __name__ == "__main__":
    unittest.main()
