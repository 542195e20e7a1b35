"""Every `// spec NAME.N: "..."` in the C code stands word for word in spec/.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import unittest

FOLDERS = ("format", "loader", "runtime", "convert", "cli", "tests")
# A quote may go on over following comment lines until its closing mark.
QUOTE = re.compile(r'//\s*spec\s+([\w./-]+(?:\s+[\w.]+)?):\s*"((?:[^"\\]|\\.)*)"')


def plain(text):
    """One line, without the marks of Markdown and comments."""
    return re.sub(r"\s+", " ", re.sub(r"[`*]", "", text)).strip()


def spec_pages():
    """Text of each page of spec/ by its name without .md."""
    return {p.stem: p.read_text(encoding="utf-8") for p in sorted(pathlib.Path("spec").rglob("*.md"))}


def quotes(text):
    joined = re.sub(r"\n\s*//(?!\s*spec\b)", " ", text)
    return [(m.group(1), plain(m.group(2))) for m in QUOTE.finditer(joined)]


def page_of(rule, pages):
    """The page that has rule 'affine.3', section 3 of numerics.md, or is the page; "" when none."""
    for text in pages.values():
        if f"**{rule}**" in text:
            return plain(text)
    name, _, number = rule.partition(".")
    page = pages.get(name, "")
    section = re.search(rf"^#+ {re.escape(number)}\. ", page, re.M)
    return plain(page) if number in ("", "md") or section else ""


def drifted(text, pages):
    """Quotes in 'text' that the page they name does not have."""
    return [f'{rule}: "{quote}"' for rule, quote in quotes(text) if quote not in page_of(rule, pages)]


class Quotes(unittest.TestCase):
    maxDiff = None

    def test_quotes_are_in_the_spec(self):
        spec = spec_pages()
        count = 0
        for folder in FOLDERS:
            for path in sorted(pathlib.Path(folder).rglob("*.[ch]")):
                text = path.read_text(encoding="utf-8")
                count += len(quotes(text))
                with self.subTest(file=str(path)):
                    self.assertEqual(drifted(text, spec), [])
        self.assertGreater(count, 0, "no quote found: the pattern is wrong")

    def test_a_drifted_quote_is_found(self):
        spec = spec_pages()
        self.assertEqual(drifted('// spec affine.1: "bits is 1..9."', spec), ['affine.1: "bits is 1..9."'])
        self.assertEqual(drifted('// spec affine.1: "bits is\n\t// 1..8."', spec), [])


if __name__ == "__main__":
    unittest.main()
