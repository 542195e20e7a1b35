#!/usr/bin/python3
"""Trees of files for tests/test_zip.sh: make one with everything that is odd, compare two.

usage: zip_trees.py make DIR | same DIR DIR
SPDX-License-Identifier: Apache-2.0
"""
import os
import random
import stat
import sys

TEXT = open("bench/texts/speeches-us-gov-00.txt", "rb").read()


def make(root):
    rng = random.Random(7)
    os.makedirs(root + "/deep/er/still")
    os.makedirs(root + "/empty")
    files = {
        "text.txt": TEXT[:9000],
        "none": b"",
        "one": b"x",
        "all": bytes(range(256)),
        "random": rng.randbytes(9000),
        "not-utf8": bytes(rng.randrange(128, 256) for _ in range(700)),
        "run": b"a" * 3000,
        "line": b"word " * 2000,
        "deep/er/still/file": TEXT[6000:7000],
        "-o": b"a name like an option",
        " a b\nc\\": b"an odd name",
        "...": b"dots",
        ".hidden": b"hidden",
        "\u00e9\u4e2d": b"letters",
    }
    for name, content in files.items():
        with open(os.path.join(root, name), "wb") as f:
            f.write(content)
    with open(os.fsencode(root) + b"/\xff\xfe", "wb") as f:
        f.write(b"a name that is no text")
    os.symlink("text.txt", root + "/link")
    os.symlink("../../text.txt", root + "/deep/er/up")
    os.symlink("nowhere", root + "/dangling")
    os.chmod(root + "/one", 0o400)
    os.chmod(root + "/all", 0o755)
    os.chmod(root + "/deep/er", 0o700)
    os.utime(root + "/one", ns=(0, -5_000_000_007))
    os.utime(root + "/all", ns=(0, 1_234_567_890_123_456_789))
    os.utime(root + "/empty", ns=(0, 86_400_000_000_001))


def describe(root):
    found = {}
    root = os.fsencode(root)
    for at, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(at, name)
            st = os.lstat(path)
            is_link = stat.S_ISLNK(st.st_mode)
            content = os.readlink(path) if is_link else None
            if stat.S_ISREG(st.st_mode):
                content = open(path, "rb").read()
            found[os.path.relpath(path, root)] = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode),
                                                  st.st_mtime_ns, content)
    return found


def same(a, b):
    left, right = describe(a), describe(b)
    assert left, "nothing in " + a
    for name in sorted(set(left) | set(right)):
        assert left.get(name) == right.get(name), (name, left.get(name), right.get(name))


if __name__ == "__main__":
    {"make": make, "same": same}[sys.argv[1]](*sys.argv[2:])
