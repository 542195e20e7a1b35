#!/usr/bin/python3
# Three processes that map one model share its memory: the sum of their proportional set
# sizes (Pss of /proc/PID/smaps_rollup, everything in the process) is at most 1.1 times that of one.
#
# A small C program opens the file with libpith, verifies and so touches every plane, then
# waits.  Runs from the root of the tree; BUILD names the folder of pith and libpith.a.
#
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / os.environ.get("BUILD", "build")
sys.path.insert(0, str(HERE))
if os.environ.get("PITH_SANITIZED"):
	print("skip: sanitizers have memory of their own")
	sys.exit(77)

import unit_summary

PROGRAM = r"""
#include "pith.h"
#include <stdio.h>
int main(int argc, char **argv)
{
	struct pith_file *file;
	struct pith_file_info info;
	struct pith_error err = {0};
	if (argc != 2 || pith_file_open(argv[1], 0, &file, &err) != PITH_OK)
		return 1;
	pith_file_info(file, &info);
	for (size_t i = 0; i < info.weight_count; i++) {
		struct pith_weight weight;
		if (pith_file_weight_at(file, i, &weight, &err) != PITH_OK ||
		    pith_weight_verify(&weight, &err) != PITH_OK)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	getchar();
	pith_file_close(file);
	return 0;
}
"""


def kib(pid, file, name="Pss", mapping=None):
	"""Sum of a field of smaps (of one mapping) or smaps_rollup, in KiB."""
	text = pathlib.Path(f"/proc/{pid}/{file}").read_text()
	if mapping:
		parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M)
		text = "".join(p for p in parts if p.splitlines() and p.splitlines()[0].endswith(mapping))
	return sum(int(v) for v in re.findall(rf"^{name}:\s+(\d+) kB", text, flags=re.M))


class Sharing(unittest.TestCase):
	def setUp(self):
		folder = tempfile.TemporaryDirectory()
		self.addCleanup(folder.cleanup)
		self.model = pathlib.Path(folder.name) / "books6m.pith"
		self.program = pathlib.Path(folder.name) / "touch"
		subprocess.run([str(BUILD / "pith"), "convert", str(ROOT / "models" / "books6m"), "-o", str(self.model),
		                "--scheme", "f32"], check=True, capture_output=True)
		source = self.program.with_suffix(".c")
		source.write_text(PROGRAM)
		compiler = shlex.split(os.environ.get("CC") or "cc")
		subprocess.run(compiler + ["-std=c11", "-O1", f"-I{ROOT / 'loader'}", f"-I{ROOT / 'format'}", str(source),
		                           str(BUILD / "libpith.a"), "-lzstd", "-lxxhash", "-lm", "-pthread", "-o",
		                           str(self.program)], check=True)

	def measure(self, count):
		"""(whole processes, the model's mapping): sums over 'count' processes in KiB."""
		processes = [subprocess.Popen([str(self.program), str(self.model)], stdin=subprocess.PIPE,
		                              stdout=subprocess.PIPE) for _ in range(count)]
		try:
			for process in processes:
				self.assertEqual(b"ready\n", process.stdout.readline())
			return (sum(kib(p.pid, "smaps_rollup") for p in processes),
			        sum(kib(p.pid, "smaps", mapping=self.model.name) for p in processes))
		finally:
			for process in processes:
				process.communicate(b"\n")

	def test_three(self):
		size = self.model.stat().st_size / 1024
		one, one_map = self.measure(1)
		three, three_map = self.measure(3)
		print(f"model {size:.0f} KiB; one process {one} KiB (map {one_map}), three together {three} KiB (map {three_map}): "
		      f"{three / one:.3f} times")
		self.assertGreater(one_map, 0.95 * size)  # it was really touched
		self.assertLessEqual(three, 1.1 * one)
		self.assertLessEqual(three_map, 1.01 * one_map)


if __name__ == "__main__":
	unit_summary.main()
