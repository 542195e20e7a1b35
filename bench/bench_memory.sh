#!/bin/sh
# Peak memory of pith convert on a checkpoint with two tensors of 512 MiB: at most 256 MiB plus twice
# the largest tensor, for any scheme.  The checkpoint is a file with a hole; the result takes up to
# 2.5 GB in TMPDIR for a moment.
#
# usage: BUILD=build sh bench/bench_memory.sh [SCHEME...]
#
# SPDX-License-Identifier: Apache-2.0
set -eu

BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT INT TERM
[ $# -gt 0 ] || set -- bf16 f32 rtn:bits=4,search=0 rtn:bits=8,group=16,search=0

"$PYTHON" - "$BUILD/pith" "$T" "$@" <<'PYTHON'
import json, os, pathlib, resource, struct, subprocess, sys

pith, folder, schemes = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
HIDDEN, VOCAB, FFN, LAYERS = 2048, 131072, 4096, 1
shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "lm_head.weight": [VOCAB, HIDDEN],
          "model.norm.weight": [HIDDEN]}
for i in range(LAYERS):
	p = f"model.layers.{i}."
	shapes.update({p + "input_layernorm.weight": [HIDDEN], p + "post_attention_layernorm.weight": [HIDDEN]})
	shapes.update({f"{p}self_attn.{n}_proj.weight": [HIDDEN, HIDDEN] for n in "qkvo"})
	shapes.update({f"{p}mlp.{n}_proj.weight": s for n, s in
	               (("gate", [FFN, HIDDEN]), ("up", [FFN, HIDDEN]), ("down", [HIDDEN, FFN]))})
(folder / "config.json").write_text(json.dumps({
    "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 16, "vocab_size": VOCAB, "tie_word_embeddings": False}))
header, off = {}, 0
for name, shape in shapes.items():
	nbytes = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
	header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [off, off + nbytes]}
	off += nbytes
text = json.dumps(header).encode()
with open(folder / "model.safetensors", "wb") as f:
	f.write(struct.pack("<Q", len(text)) + text)
	f.truncate(8 + len(text) + off)

largest = 2 * VOCAB * HIDDEN
limit = (256 << 20) + 2 * largest
print(f"largest tensor {largest >> 20} MiB, limit {limit >> 20} MiB")
failed = False
for scheme in schemes:
	out = folder / "out.pith"
	child = subprocess.Popen([pith, "convert", folder, "-o", out, "--scheme", scheme],
	                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
	_, status, usage = os.wait4(child.pid, 0)
	child.returncode = status
	peak = usage.ru_maxrss << 10
	failed |= status != 0 or peak > limit
	print(f"{scheme:40} {'exit %d' % status if status else ''} peak {peak >> 20} MiB,"
	      f" {usage.ru_utime + usage.ru_stime:.1f} s of CPU")
	out.unlink(missing_ok=True)
sys.exit(failed)
PYTHON
