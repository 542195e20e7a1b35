#!/usr/bin/python3
"""The vectors of text coder and mixer are what their generators make.  SPDX-License-Identifier: Apache-2.0"""
import subprocess
import sys

scripts = ["tests/make_text_vectors.py", "tests/make_mix_vectors.py"]
bad = sum(subprocess.run([sys.executable, "-B", s, "--check"]).returncode != 0 for s in scripts)
print("%d passed, %d failed, 0 skipped" % (len(scripts) - bad, bad))
sys.exit(1 if bad else 0)
