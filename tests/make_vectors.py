#!/usr/bin/python3
# Writes tests/vectors/: small .pith files as annotated hex, good, bad and unsupported.
#
#   make_vectors.py            write them all
#   make_vectors.py --check    exit 1 when a file differs from what would be written
#
# The form of the files is spec/vectors.md.  Bad vectors break one numbered rule and are
# sealed again, unless the rule is about a checksum.
#
# SPDX-License-Identifier: Apache-2.0

import itertools
import pathlib
import struct
import sys

import vector_terms as terms
from vector_catalogue_container import container_vectors
from vector_catalogue_terms import term_vectors
from vector_writer import Vector, to_text

ROOT = pathlib.Path(__file__).resolve().parent / "vectors"


def runs(row):
	"""Bit patterns as words; 8 or more equal ones as XXXXXXXX*COUNT."""
	out = []
	for bits, group in itertools.groupby(row):
		count = len(list(group))
		out += [f"{bits:08x}*{count}"] if count >= 8 else [f"{bits:08x}"] * count
	return out


def expected_text(weights):
	"""The sidecar: every weight's meaning as f32 bit patterns."""
	out = []
	for w in sorted(weights, key=lambda w: w["name"]):
		rows = w.get("bits") or [[struct.unpack("<I", struct.pack("<f", v))[0] for v in row]
		                         for row in terms.meaning(w)]
		out.append(f"weight {w['name'].decode()} {len(rows)} {len(rows[0])}")
		out += [" ".join(runs(row)) for row in rows]
	return "\n".join(out) + "\n"


def files_of(vector):
	"""{path: text} of one catalogue entry."""
	name = vector["name"]
	path = ROOT / vector["folder"] / f"{name}.hex"
	if "segments" in vector:
		segments = vector["segments"]
	else:
		segments = Vector(vector["weights"], **vector.get("extra", {})).build(vector.get("bend"), vector.get("patch"))
	status = vector.get("status") or name.split("-")[0].replace("bad", "corrupt")
	first = f"status: {status}"
	if vector.get("rule"):
		first = f"rule: {vector['rule']} {first}"
	if vector.get("needs"):
		first += f" needs: {vector['needs']}"
	out = {path: to_text([first, vector["about"]], segments)}
	if status == "good":
		out[path.with_suffix(".txt")] = expected_text(vector["weights"])
	return out


def main():
	wanted = {}
	for vector in term_vectors() + container_vectors():
		for path, text in files_of(vector).items():
			assert path not in wanted, path
			wanted[path] = text
	have = {p for p in ROOT.rglob("*") if p.suffix in (".hex", ".txt")}
	if sys.argv[1:] == ["--check"]:
		differ = sorted(p for p in have | set(wanted) if p not in wanted or p not in have or p.read_text() != wanted[p])
		for path in differ:
			print(f"{path.relative_to(ROOT)} is not what make_vectors.py writes")
		return 1 if differ else 0
	for path in have - set(wanted):
		path.unlink()
	for path, text in wanted.items():
		path.parent.mkdir(parents=True, exist_ok=True)
		path.write_text(text)
	print(f"{len(wanted)} files, {sum(len(t) for t in wanted.values())} bytes")
	return 0


if __name__ == "__main__":
	sys.exit(main())
