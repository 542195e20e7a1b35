#!/usr/bin/python3
# What the version scripts promise is what the installed headers declare: no function more or less.
#
# Runs from the root of the tree.
#
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import unit_summary

LIBRARIES = {
	"loader/libpith.map": ("format/pith_status.h", "loader/pith.h"),
	"runtime/libpithrun.map": ("runtime/pithrun.h", "runtime/tokenizer/tokenizer.h", "runtime/text/text.h"),
}


def declared(header):
	"""Functions, without what is a type or stands in a comment."""
	text = re.sub(r"/\*.*?\*/|//[^\n]*|#[^\n]*", "", (ROOT / header).read_text(), flags=re.S)
	text = re.sub(r"\btypedef\b[^;]*;", "", text)
	return set(re.findall(r"\b(pith_\w+)\s*\((?!\*)", text))


def promised(script):
	"""Names in the first node of a version script."""
	text = (ROOT / script).read_text()
	return set(re.findall(r"\b(pith_\w+);", text[:text.index("local:")]))


class Exports(unittest.TestCase):
	def test_lists(self):
		for script, headers in LIBRARIES.items():
			with self.subTest(script):
				functions = set().union(*map(declared, headers))
				self.assertGreater(len(functions), 20)
				self.assertEqual(set(), functions - promised(script), "declared, not in the version script")
				self.assertEqual(set(), promised(script) - functions, "in the version script, not declared")

	def test_headers_are_the_installed_ones(self):
		text = re.search(r"^HEADERS = (.*?)(?<!\\)$", (ROOT / "Makefile").read_text(), re.S | re.M).group(1)
		installed = set(re.findall(r"[\w/]+\.h", text))
		self.assertEqual(installed, set().union(*map(set, LIBRARIES.values())))


if __name__ == "__main__":
	unit_summary.main()
