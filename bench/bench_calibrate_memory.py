#!/usr/bin/env python3
# Memory of a calibrated conversion: what --dry-run predicts beside the measured peak, on a synthetic model
# with the proportions of a 70B one (ffn 3.5 times as wide as the rest, 8 queries a key head) at two
# widths; activations in memory and, with --memory, in a file.  Then the prediction for 70B itself.
# Measured is memory of the process alone (RssAnon, sampled): pages of the activations' file can go at any time.
#
# Fails when a prediction is below the measured peak or more than 35 % above it (room for a solve is counted for every
# scheme, and round to nearest solves nothing).
#
# usage: BUILD=build bench/bench_calibrate_memory.py
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

TOP = pathlib.Path(__file__).resolve().parent.parent
PITH = pathlib.Path(os.environ.get("BUILD", TOP / "build")) / "pith"
TOKENIZER = TOP / "models" / "tiny1m" / "tokenizer.json"
TEXT = TOP / "bench" / "texts" / "docs-peps-00.txt"
HEAD_DIM = 128


def shapes_of(hidden, ffn, layers, vocab):
	kv = max(hidden // 8, HEAD_DIM)
	shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden], "model.norm.weight": [hidden]}
	for i in range(layers):
		p = f"model.layers.{i}."
		shapes |= {p + "input_layernorm.weight": [hidden], p + "post_attention_layernorm.weight": [hidden]}
		shapes |= {f"{p}self_attn.{n}_proj.weight": [m, hidden] for n, m in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden))}
		shapes |= {f"{p}mlp.{n}_proj.weight": [ffn, hidden] for n in ("gate", "up")}
		shapes[p + "mlp.down_proj.weight"] = [hidden, ffn]
	return shapes, kv // HEAD_DIM


def make_model(folder, hidden, ffn, layers, vocab, values=True):
	shapes, kv_heads = shapes_of(hidden, ffn, layers, vocab)
	(folder / "config.json").write_text(json.dumps({
		"model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
		"num_attention_heads": hidden // HEAD_DIM, "num_key_value_heads": kv_heads, "vocab_size": vocab,
		"max_position_embeddings": 4096, "tie_word_embeddings": False}))
	shutil.copy(TOKENIZER, folder)
	header, off = {}, 0
	for name, shape in shapes.items():
		nbytes = 2 * int(np.prod(shape))
		header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [off, off + nbytes]}
		off += nbytes
	text = json.dumps(header).encode()
	rng = np.random.default_rng(1)
	with open(folder / "model.safetensors", "wb") as f:
		f.write(struct.pack("<Q", len(text)) + text)
		for shape in shapes.values() if values else ():
			w = rng.standard_normal(int(np.prod(shape)), np.float32) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
			if len(shape) == 1:
				w += 1
			f.write((w.view(np.uint32) >> 16).astype("<u2").tobytes())
		f.truncate(8 + len(text) + off)


def command(folder, scheme, *options):
	return [PITH, "convert", folder, "-o", folder / "out.pith", "--force", "--scheme", scheme, "--calib", TEXT, *options]


def predicted(*args):
	done = subprocess.run(command(*args, "--dry-run", "--json"), capture_output=True, text=True, check=True)
	return json.loads(done.stdout)["memory_nbytes"]


def measured(*args):
	child, peak = subprocess.Popen(command(*args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
	while child.poll() is None:
		status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
		anonymous = re.search(r"RssAnon:\s*(\d+) kB", status) # gone when the process is done
		peak = max(peak, int(anonymous.group(1)) << 10 if anonymous else 0)
		time.sleep(0.005)
	if child.returncode != 0:
		raise SystemExit(f"pith convert: exit {child.returncode}")
	return peak


def main():
	wrong = 0
	print(f"{'model':24} {'scheme':22} {'activations':12} {'predicted':>10} {'measured':>10}  ratio")
	for hidden, ffn in ((512, 1792), (768, 2688)):
		with tempfile.TemporaryDirectory() as folder:
			folder = pathlib.Path(folder)
			make_model(folder, hidden, ffn, 2, 1024)
			for scheme, samples in (("gptq:bits=4", "4"), ("smoothquant+rtn:bits=8", "16")):
				for where, memory in (("in memory", "8G"), ("in a file", "1M")):
					options = ("--calib-samples", samples, "--calib-length", "1024", "--memory", memory, "--threads", "2")
					a, b = predicted(folder, scheme, *options), measured(folder, scheme, *options)
					wrong += not 1 <= a / b <= 1.35
					print(f"2 layers, {hidden} x {ffn:<6}  {scheme:22} {where:12} {a >> 20:6} MiB {b >> 20:6} MiB  {a / b:.2f}", flush=True)
	with tempfile.TemporaryDirectory() as folder:
		folder = pathlib.Path(folder)
		make_model(folder, 8192, 28672, 80, 32000, values=False) # a file with a hole: dry runs read no weights
		for memory in ("8G", "1G"):
			a = predicted(folder, "gptq:bits=4", "--calib-length", "2048", "--memory", memory)
			print(f"80 layers, 8192 x 28672   gptq:bits=4, 128 samples of 2048, --memory {memory}: {a / 2 ** 30:.1f} GiB predicted")
	return wrong


if __name__ == "__main__":
	sys.exit(main())
