#!/usr/bin/python3
"""The vectors of text coder and mixer are what their generators make.  SPDX-License-Identifier: Apache-2.0"""
import subprocess
import sys
import unittest


class TextVectors(unittest.TestCase):
    def made_again(self, script):
        self.assertEqual(subprocess.run([sys.executable, "-B", script, "--check"]).returncode, 0)

    def test_coder(self):
        self.made_again("tests/make_text_vectors.py")

    def test_mixer(self):
        self.made_again("tests/make_mix_vectors.py")


if __name__ == "__main__":
    unittest.main()
