"""Every kind of term has its page, code, kernel, vectors and table rows; and one that lacks any of
them is found (shown on a copy with it removed).

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import re
import shutil
import tempfile
import unittest

TREE = ("spec", "format", "runtime/kernels", "tests/vectors")


def kinds(root):
    """Names of the kinds in spec/weight.md that are not reserved."""
    text = (root / "spec/weight.md").read_text(encoding="utf-8")
    table = text.split("## Kinds of term", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\|\s*\d+\s*\|\s*(\w+)\s*\|\s*(.*?)\s*\|$", table, re.M)
    return [name for name, page in rows if page != "reserved"]


def contains(path, pattern):
    return path.is_file() and re.search(pattern, path.read_text(encoding="utf-8")) is not None


# What a kind K needs: a name for it, and how to see that it is there.
NEEDS = {
    "spec/terms/K.md": lambda r, k: (r / f"spec/terms/{k}.md").is_file(),
    "format/term_K.h": lambda r, k: (r / f"format/term_{k}.h").is_file(),
    "format/term_K.c": lambda r, k: (r / f"format/term_{k}.c").is_file(),
    "runtime/kernels/kern_K.c": lambda r, k: (r / f"runtime/kernels/kern_{k}.c").is_file(),
    "tests/vectors/K/good-*": lambda r, k: any((r / f"tests/vectors/{k}").glob("good-*")),
    "tests/vectors/K/bad-*": lambda r, k: any((r / f"tests/vectors/{k}").glob("bad-*")),
    "row in spec/README.md": lambda r, k: contains(r / "spec/README.md", rf"terms/{k}\.md"),
    "row in format/term.c": lambda r, k: contains(r / "format/term.c", rf"PITH_KIND_{k.upper()}\b|term_kind_{k}\b|\bpith_{k}_kind\b"),
    "row in the reference set": lambda r, k: contains(
        r / "runtime/kernels/set_reference.c", rf"PITH_KIND_{k.upper()}\b"),
}
# How to take each away again, from the copy.
FILES = {
    "spec/terms/K.md": "spec/terms/{k}.md",
    "format/term_K.h": "format/term_{k}.h",
    "format/term_K.c": "format/term_{k}.c",
    "runtime/kernels/kern_K.c": "runtime/kernels/kern_{k}.c",
    "tests/vectors/K/good-*": "tests/vectors/{k}",
    "tests/vectors/K/bad-*": "tests/vectors/{k}",
    "row in spec/README.md": "spec/README.md",
    "row in format/term.c": "format/term.c",
    "row in the reference set": "runtime/kernels/set_reference.c",
}


def missing(root):
    return [f"{k}: {need}" for k in kinds(root) for need, have in NEEDS.items() if not have(root, k)]


def take_away(root, need, k):
    path = root / FILES[need].format(k=k)
    if path.is_dir():
        shutil.rmtree(path)
    elif need.startswith("row"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.unlink()  # the copy shares its files with the tree it came from
        path.write_text("".join(line for line in lines if k not in line.lower()), encoding="utf-8")
    else:
        path.unlink()


class Registry(unittest.TestCase):
    def test_every_kind_is_complete(self):
        self.assertGreaterEqual(len(kinds(pathlib.Path("."))), 4)
        self.assertEqual(missing(pathlib.Path(".")), [])

    def test_a_missing_piece_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            whole, copy = pathlib.Path(folder) / "whole", pathlib.Path(folder) / "copy"
            for name in TREE:
                shutil.copytree(name, whole / name)
            for need in NEEDS:
                shutil.copytree(whole, copy, copy_function=os.link)
                take_away(copy, need, "affine")
                with self.subTest(removed=need):
                    self.assertIn(f"affine: {need}", missing(copy))
                shutil.rmtree(copy)


if __name__ == "__main__":
    unittest.main()
