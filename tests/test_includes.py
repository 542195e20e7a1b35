"""Who may include whom: each folder knows only those below it (a forbidden include is found in a
copy of a file); file names are unique; the libraries neither print nor exit.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import unittest

ALLOWED = {
    "format": {"format"},
    "loader": {"loader", "format"},
    "runtime": {"runtime", "loader", "format"},
    "convert": {"convert", "loader", "format"},
    "cli": {"cli", "convert", "runtime", "loader", "format"},
}
# Files that see more than their folder does, and why.
EXCEPTIONS = (
    ("convert/calibrate", "runtime/"),  # calibration runs the model
    # the importer of tokenizers builds the blob that the runtime reads
    ("convert/import_tokenizer", "runtime/tokenizer/"),
)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]*)"', re.M)
TALK = re.compile(r"\b(printf|puts|perror|exit|_Exit|abort|fputs|putchar|vprintf)\s*\(|\bstd(out|err)\b")


def sources():
    return {str(p): p.read_text(encoding="utf-8")
            for folder in ALLOWED for p in sorted(pathlib.Path(folder).rglob("*.[chS]"))}


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def broken_includes(files):
    where = {pathlib.PurePath(path).name: path for path in files}
    for path, text in files.items():
        for name in INCLUDE.findall(text):
            target = where.get(name)
            if target is None:
                yield f'{path} includes "{name}", which is nowhere'
            elif target.split("/")[0] not in ALLOWED[path.split("/")[0]] and not any(
                    path.startswith(a) and target.startswith(b) for a, b in EXCEPTIONS):
                yield f"{path} may not include {target}"


def talk(files):
    return [f"{path}: {m.group(0)}" for path, text in files.items()
            if path.split("/")[0] in ("format", "loader", "runtime")
            for m in TALK.finditer(without_comments(text))]


class Includes(unittest.TestCase):
    def test_includes_follow_the_folders(self):
        self.assertEqual(list(broken_includes(sources())), [])

    def test_a_forbidden_include_is_found(self):
        files = sources()
        files["format/status.c"] += '#include "pithrun.h"\n'
        self.assertEqual(list(broken_includes(files)), ["format/status.c may not include runtime/pithrun.h"])

    def test_file_names_are_unique(self):
        names = [pathlib.PurePath(path).name for path in sources()]
        self.assertEqual(sorted({n for n in names if names.count(n) > 1}), [])

    def test_libraries_do_not_print_or_exit(self):
        files = sources()
        self.assertEqual(talk(files), [])
        files["format/status.c"] += "abort();"
        self.assertEqual(talk(files), ["format/status.c: abort("])


if __name__ == "__main__":
    unittest.main()
