#!/usr/bin/python3
# The exact twin of a Llama checkpoint with planted outlier channels.
#
#   make_twin.py MODEL_DIR OUT_DIR [--share 0.02] [--power 5] [--seed 0]
#
# Small models have few of the outlier channels that make large ones hard to quantize.  Here a share
# of the inputs of every block's attention and feed-forward is made 2^power times larger: the norm's
# weight times 2^power, the columns of the linears behind it times 2^-power.  Powers of two are exact
# in bf16, f16 and f32 (a value that would overflow or fall below the smallest normal number is
# refused), so it is the same function.
#
# Reads and writes safetensors itself; the other files of the model are copied.
#
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import pathlib
import shutil
import sys

import numpy as np

READERS = {
	"input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
	"post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
# bits: unsigned integer, its mantissa and exponent widths
FORMATS = {"BF16": ("<u2", 7, 8), "F16": ("<u2", 10, 5), "F32": ("<u4", 23, 8)}


def times_power(values, dtype, power):
	"""Stored values times 2^power, exactly: the exponent field moves."""
	kind, mantissa, exponent = FORMATS[dtype]
	top = (1 << exponent) - 1
	bits = values.astype(np.int64)
	field = (bits >> mantissa) & top
	moved = field + power
	zero = (bits & ((1 << (mantissa + exponent)) - 1)) == 0
	if np.any(~zero & ((field == 0) | (field == top) | (moved < 1) | (moved >= top))):
		raise SystemExit(f"a value of {dtype} cannot take the factor 2^{power} exactly")
	return np.where(zero, bits, bits + (power << mantissa)).astype(kind)


class Checkpoint:
	"""One safetensors file; tensors are views of its bytes."""

	def __init__(self, path):
		self.path = path
		self.data = bytearray(path.read_bytes())
		self.start = 8 + int.from_bytes(self.data[:8], "little")
		self.header = json.loads(bytes(self.data[8:self.start]))
		self.header.pop("__metadata__", None)

	def tensor(self, name):
		t = self.header[name]
		begin, end = (self.start + off for off in t["data_offsets"])
		return np.frombuffer(self.data, FORMATS[t["dtype"]][0], offset=begin,
		                     count=(end - begin) // np.dtype(FORMATS[t["dtype"]][0]).itemsize).reshape(t["shape"])

	def scale(self, name, channels, power):
		values = self.tensor(name)
		values[..., channels] = times_power(values[..., channels], self.header[name]["dtype"], power)


def make_twin(source, out, share=0.02, power=5, seed=0):
	"""Returns {norm's name: its channels}."""
	source, out = pathlib.Path(source), pathlib.Path(out)
	out.mkdir(parents=True, exist_ok=True)
	for path in source.iterdir():
		if path.is_file() and path.suffix != ".safetensors":
			shutil.copy(path, out / path.name)
	files = [Checkpoint(path) for path in sorted(source.glob("*.safetensors"))]
	where = {name: file for file in files for name in file.header}
	if not where:
		raise SystemExit(f"{source} has no safetensors")
	planted, rng = {}, np.random.default_rng(seed)
	for block in range(json.loads((source / "config.json").read_text())["num_hidden_layers"]):
		for norm, readers in READERS.items():
			name = f"model.layers.{block}.{norm}.weight"
			n = where[name].header[name]["shape"][0]
			channels = np.sort(rng.choice(n, max(1, round(share * n)), replace=False))
			where[name].scale(name, channels, power)
			for reader in (f"model.layers.{block}.{r}.weight" for r in readers):
				where[reader].scale(reader, channels, -power)
			planted[name] = channels
	for file in files:
		(out / file.path.name).write_bytes(file.data)
	return planted


def main():
	parser = argparse.ArgumentParser(description="The same model with outlier channels.")
	parser.add_argument("model")
	parser.add_argument("out")
	parser.add_argument("--share", type=float, default=0.02, help="of the channels (0.02)")
	parser.add_argument("--power", type=int, default=5, help="of two, the factor (5)")
	parser.add_argument("--seed", type=int, default=0)
	args = parser.parse_args()
	planted = make_twin(args.model, args.out, args.share, args.power, args.seed)
	print(f"{sum(map(len, planted.values()))} channels of {len(planted)} norms times 2^{args.power}")


if __name__ == "__main__":
	sys.exit(main())
