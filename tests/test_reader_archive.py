#!/usr/bin/python3
"""The spec's second reader on what the command writes: directory, records and content agree with the tree that went
in, by both readers; every rule that a changed byte breaks is found by both.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "spec" / "reader")]

import archive_maker
from reader_archive import DIRECTORY, FILE, HARD_LINK, LINK, Archive, recover
from reader_bytes import Fault

PITH = os.environ.get("PITH", "build/pith")


def pith(*args, cwd, code=0):
    done = subprocess.run([PITH, *args], cwd=cwd, capture_output=True)
    assert code is None or done.returncode == code, (args, done.returncode, done.stderr)
    return done


class ReaderArchive(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = cls.holder.name
        rng = random.Random(5)
        root = pathlib.Path(cls.folder, "in")
        (root / "sub" / "empty").mkdir(parents=True)
        (root / "random").write_bytes(rng.randbytes(150_000))
        (root / "zeros").write_bytes(bytes(90_000))
        (root / "nothing").write_bytes(b"")
        for i in range(40):
            (root / "sub" / f"file {i:02}").write_bytes(b"%d " % i * rng.randrange(1, 900))
        (root / "link").symlink_to("sub/file 01")
        os.link(root / "random", root / "same")
        os.utime(root / "zeros", ns=(0, -5_000_000_007))
        os.chmod(root / "nothing", 0o604)
        pith("zip", "--no-model", "--segment", "64KiB", "-o", "a.pz", "in", cwd=cls.folder)
        cls.data = pathlib.Path(cls.folder, "a.pz").read_bytes()

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def test_members_are_those_of_the_tree(self):
        archive = Archive(self.data)
        root = pathlib.Path(self.folder)
        seen = {os.fsencode(p.relative_to(root)) for p in root.joinpath("in").rglob("*")} | {b"in"}
        self.assertEqual(seen, {m.name for m in archive.members})
        for m in archive.members:
            path = root / os.fsdecode(m.name)
            st = path.lstat()
            with self.subTest(m.name):
                self.assertEqual(m.mtime * 10 ** 9 + m.mtime_nsec, st.st_mtime_ns)
                self.assertEqual(m.mode, st.st_mode & 0o7777)
                self.assertEqual(m.owner[:2], (st.st_uid, st.st_gid))
                if m.kind == LINK:
                    self.assertEqual(os.fsencode(os.readlink(path)), m.target)
                if m.kind == HARD_LINK:
                    self.assertEqual((m.name, m.target), (b"in/same", b"in/random"))
                self.assertEqual(m.kind == DIRECTORY, path.is_dir() and not path.is_symlink())

    def test_content(self):
        files = Archive(self.data).extract()
        self.assertEqual(len(files), 43)
        for name, data in files.items():
            self.assertEqual(pathlib.Path(self.folder, os.fsdecode(name)).read_bytes(), data)

    def test_records_repeat_the_directory(self):
        archive = Archive(self.data)
        places = {m.name: m.content_off for m in archive.members if m.kind == FILE and m.nbytes}
        named = {}
        for s in archive.segments:
            for m, off in archive.records(s):
                named.setdefault(m.name, off)
                if m.name in places:
                    self.assertEqual(off, places[m.name])
        self.assertEqual(set(named), {m.name for m in archive.members})

    def test_recovery_without_ends(self):
        archive = Archive(self.data)
        last = archive.segments[-1].end
        files, left = recover(bytes(64) + self.data[64:last])
        content = b"".join(left[off] for off in sorted(left))
        for m in archive.members:
            if m.kind == FILE and m.nbytes:
                begin, end = files[m.name]
                self.assertEqual(content[begin:end], pathlib.Path(self.folder, os.fsdecode(m.name)).read_bytes())

    def test_append_and_what_is_behind_the_end(self):
        pathlib.Path(self.folder, "more").write_bytes(b"more")
        pathlib.Path(self.folder, "b.pz").write_bytes(self.data)
        pith("zip", "--append", "--no-model", "-o", "b.pz", "more", "in/zeros", cwd=self.folder)
        data = pathlib.Path(self.folder, "b.pz").read_bytes()
        self.assertEqual(data[:len(self.data)], self.data, "nothing old is changed")
        names = [m.name for m in Archive(data).members]
        self.assertEqual(len(names), len(Archive(self.data).members) + 1)
        self.assertEqual(names[-2:], [b"in/zeros", b"more"])
        self.assertEqual(Archive(data).extract()[b"more"], b"more")
        old = Archive(data[:-1])
        self.assertEqual(old.end, len(self.data))

    def test_both_readers_refuse_what_is_damaged(self):
        rng = random.Random(6)
        path = pathlib.Path(self.folder, "hurt.pz")
        for _ in range(25):
            at = rng.randrange(len(self.data))
            hurt = bytearray(self.data)
            hurt[at] ^= 1 << rng.randrange(8)
            path.write_bytes(hurt)
            with self.subTest(byte=at):
                self.assertIn(pith("test", "hurt.pz", cwd=self.folder, code=None).returncode, (3, 4))
                with self.assertRaises(Fault):
                    Archive(bytes(hurt)).extract()

    def test_archives_made_from_the_prose(self):
        for name, data in archive_maker.seeds().items():
            path = pathlib.Path(self.folder, name)
            path.write_bytes(data)
            archive = Archive(data)
            listed = json.loads(pith("list", "--json", name, cwd=self.folder, code=None).stdout)
            with self.subTest(name):
                self.assertEqual([m.name.decode() for m in archive.members], [m["name"] for m in listed["members"]])
                for member, content in archive.extract().items():
                    done = pith("cat", name, member.decode(), cwd=self.folder, code=None)
                    self.assertEqual(content, done.stdout)

    def test_embedded_model(self):
        pathlib.Path(self.folder, "t").write_bytes(b"text")
        pith("zip", "--embed-model", "-o", "e.pz", "t", cwd=self.folder)
        data = pathlib.Path(self.folder, "e.pz").read_bytes()
        pathlib.Path(self.folder, "model.pith").write_bytes(data[64:Archive(data).begin])
        pith("info", "model.pith", cwd=self.folder)
        self.assertIn(b"t", Archive(data).extract())


if __name__ == "__main__":
    unittest.main()
