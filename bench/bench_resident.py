#!/usr/bin/env python3
# Resident memory of pith eval beside the size of its file, for every method: kernels read the stored planes,
# so that the weights are in memory once, as mapped pages of the file (RssFile), and what the process
# allocates (RssAnon: session, logits, text) does not depend on how they are stored.  A hidden dense copy would show as
# RssAnon growing by the size of the weights in f32.
#
# Fails when RssAnon of a method is more than 10 % of the dense f32 weights above that of bf16.
#
# usage: BUILD=build bench/bench_resident.py [SCHEME...]
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
PITH = pathlib.Path(os.environ.get("BUILD", TOP / "build")) / "pith"
MODEL = TOP / "models" / "books6m"
TEXT = TOP / "bench" / "texts" / "docs-peps-00.txt"
SCHEMES = ("bf16", "f32", "rtn:bits=4", "rtn:bits=8,act=token", "rtn:bits=8,act=static", "gptq:bits=3", "spqr", "owq", "awq:bits=4",
           "squeezellm", "smoothquant+rtn:bits=8", "os+:steps=4,shift=1+rtn:bits=8", "rptq+rtn:bits=8", "nf4", "fp4", "fp6", "fp8",
           "mofq", "ternary", "llm-qat", "magnitude:50%", "wanda:2:4", "sparsegpt:50%", "sparsegpt:2:4+gptq:bits=4",
           "gptq:bits=3+lorc:rank=8")


def resident(command):
	"""Most RssAnon and RssFile of the process, in bytes."""
	child, most = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), [0, 0]
	while child.poll() is None:
		status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
		for i, what in enumerate(("RssAnon", "RssFile")):
			found = re.search(rf"{what}:\s*(\d+) kB", status) # gone when the process is done
			most[i] = max(most[i], int(found.group(1)) << 10 if found else 0)
		time.sleep(0.002)
	if child.returncode != 0:
		raise SystemExit(f"{' '.join(map(str, command))}: exit {child.returncode}")
	return most


def main():
	schemes, wrong, base = sys.argv[1:] or SCHEMES, 0, None
	print(f"{'scheme':36} {'file':>9} {'RssFile':>9} {'RssAnon':>9}")
	with tempfile.TemporaryDirectory() as folder:
		out = pathlib.Path(folder) / "m.pith"
		for scheme in schemes:
			done = subprocess.run([PITH, "convert", MODEL, "-o", out, "--force", "--json", "--scheme", scheme, "--calib", TEXT,
			                       "--calib-samples", "4", "--calib-length", "256"], capture_output=True, text=True)
			if done.returncode != 0:
				raise SystemExit(done.stderr)
			dense = 4 * json.loads(done.stdout)["parameters"]
			anonymous, mapped = resident([PITH, "eval", out, "--text", TEXT, "--limit", "600", "--threads", "1"])
			base = anonymous if base is None else base
			wrong += anonymous - base > dense // 10
			print(f"{scheme:36} {out.stat().st_size / 2**20:5.1f} MiB {mapped / 2**20:5.1f} MiB {anonymous / 2**20:5.1f} MiB", flush=True)
	print(f"the weights as f32: {dense / 2**20:.1f} MiB")
	return wrong


if __name__ == "__main__":
	sys.exit(main())
