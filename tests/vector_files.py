# Reads the files of tests/vectors/ (their form: spec/vectors.md).
#
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent / "vectors"


class VectorFile:
	def __init__(self, path):
		self.path, self.name = path, str(path.relative_to(ROOT))
		lines = path.read_text().splitlines()
		head = dict(re.findall(r"(\w+): (\S+)", lines[0]))
		self.status, self.rule, self.needs = head["status"], head.get("rule"), head.get("needs")
		self.about = lines[1][2:]
		data = bytearray()
		for line in lines:
			for word in line.split("#")[0].split():
				byte, _, count = word.partition("*")
				data += bytes.fromhex(byte) * int(count or 1)
		self.data = bytes(data)

	def expected(self):
		"""{name: rows of f32 bit patterns} of a good vector."""
		out, rows = {}, None
		for line in self.path.with_suffix(".txt").read_text().splitlines():
			if line.startswith("weight "):
				rows = out.setdefault(line.split()[1], [])
				continue
			row = []
			for word in line.split():
				bits, _, count = word.partition("*")
				row += [int(bits, 16)] * int(count or 1)
			rows.append(row)
		return out


def vector_files():
	return [VectorFile(p) for p in sorted(ROOT.rglob("*.hex"))]
