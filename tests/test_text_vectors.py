#!/usr/bin/python3
"""The text coder's vectors are what their generator makes.  SPDX-License-Identifier: Apache-2.0"""
import subprocess
import sys

result = subprocess.run([sys.executable, "tests/make_text_vectors.py", "--check"])
good = result.returncode == 0
print("[  PASSED  ] %d test(s)." % good)
if not good:
    print("[  FAILED  ] 1 test(s).")
sys.exit(not good)
