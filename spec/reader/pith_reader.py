#!/usr/bin/python3
# The spec's second reader: reads .pith files by the prose of spec/, in Python 3 and NumPy.
#
#   pith_reader.py FILE             summary as JSON
#   pith_reader.py FILE --check     every rule; one line a fault; exit 0, 3 (damaged), 4 (unsupported, not ours)
#   pith_reader.py FILE --dump W    the f32 bits of weight W as hex, a row a line
#   pith_reader.py FILE --canary W  the canary of weight W as it should be, 16 + 16 f32 bits
#   pith_reader.py FILE --section S the decoded bytes of section S to stdout
#
# It exists to show that the prose is enough, and to hold the C code against something
# that shares nothing with it.  It is slow.
#
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import pathlib
import sys

import numpy as np

from reader_bytes import Fault, u32
from reader_container import PithFile
from reader_verify import verify


def summary(file):
	header = file.header
	weights = []
	for w in file.weights():
		bound, transforms = file.bind(w)
		nbytes = sum(p.nbytes for part in bound + transforms for p in part.stored)
		weights.append({"name": w.name, "dim": w.dim[:w.rank], "terms": [t.name for t in bound],
		                "transforms": [t.name for t in transforms], "nbytes": nbytes,
		                "bits_per_weight": 8 * nbytes / (w.m * w.n)})
	return {"generation": header.generation, "container_version": header.container_version,
	        "numerics_version": header.numerics_version, "file_nbytes": header.file_nbytes,
	        "tensor_align": header.tensor_align, "file_root": header.file_root.hex(),
	        "model_identity": header.model_identity.hex(),
	        "sections": {name: s.raw_nbytes for name, s in file.sections.items()},
	        "arch": file.arch(), "blocks": file.count("BLCK"), "weights": weights}


def stored_seed(file, weight):
	for i in range(file.count("CNRY")):
		raw, _ = file.entry("CNRY", i)
		if u32(raw, 0) == weight.index:
			return u32(raw, 4)
	return 0


def hex_rows(rows):
	bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
	return "\n".join(" ".join(f"{b:08x}" for b in row) for row in bits)


def main():
	parser = argparse.ArgumentParser(description="Read a .pith file by the prose of spec/.")
	parser.add_argument("file")
	parser.add_argument("--check", action="store_true", help="check every rule")
	parser.add_argument("--dump", metavar="WEIGHT", help="f32 bits of a weight")
	parser.add_argument("--canary", metavar="WEIGHT", help="recompute a canary")
	parser.add_argument("--section", metavar="ID", help="decoded bytes of a section")
	args = parser.parse_args()
	try:
		file = PithFile(pathlib.Path(args.file).read_bytes())
		if args.check:
			faults = verify(file)
			if faults:
				return report(faults)
			print("ok")
		elif args.dump:
			print(hex_rows(file.unpack(file.find(args.dump))))
		elif args.canary:
			weight = file.find(args.canary)
			print(hex_rows(np.stack(file.canary(weight, stored_seed(file, weight)))))
		elif args.section:
			sys.stdout.buffer.write(file.section(args.section))
		else:
			print(json.dumps(summary(file), indent=1))
	except KeyError as error:
		print(f"{args.file}: no weight or section {error}", file=sys.stderr)
		return 1
	except Fault as fault:
		return report([fault])
	return 0


def report(faults):
	for fault in faults:
		print(f"{fault.status} {fault.rule}: {fault.msg}" + ("" if fault.off is None else f" (byte {fault.off})"))
	return 3 if any(f.status == "corrupt" for f in faults) else 4


if __name__ == "__main__":
	sys.exit(main())
