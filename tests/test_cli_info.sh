#!/bin/sh
# pith info.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16
model "$T/q4.pith" rtn:bits=4,group=32

check_exit 0 'text' "$PITH" info "$T/bf16.pith"
check 'blocks' grep -q '4, each 4 heads (2 key-value) of 32, feed-forward 384' "$T/out"
check_exit 0 'every weight' "$PITH" info -v "$T/q4.pith"
check 'weight with its shape and terms' grep -qE 'q_proj.* 128x128 .*affine 4 bits group 32' "$T/out"
check_exit 0 'json' "$PITH" info --json -v "$T/bf16.pith"
# The checkpoint's own header says how many parameters there are.
parameters=$("$PYTHON" -c '
import json, struct, math
f = open("models/tiny1m/model.safetensors", "rb")
h = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
print(sum(math.prod(v["shape"]) for k, v in h.items() if k != "__metadata__"))')
check 'parameters of the checkpoint' json "d['parameters'] == $parameters"
check 'a dense model stores 16 bits a weight, and padding' json "16 <= d['bits_per_weight'] < 16.3"
check 'the list sums up' json "0 < d['weight_bytes'] - sum(w['bytes'] for w in d['weight_list']) < 1000 * d['weights']"
check 'kinds sum up' json "sum(k['bytes'] for k in d['kinds']) == d['weight_bytes']"
check 'architecture' json "d['architecture'] and len(d['blocks']) == 4"
check_exit 0 'json of a quantized model' "$PITH" info --json "$T/q4.pith"
check 'bits per weight of 4-bit codes with f16 scales' json "4.5 <= d['bits_per_weight'] < 5.6"
head -c 2000 "$T/bf16.pith" >"$T/cut.pith"
check_exit 3 'truncated file' "$PITH" info "$T/cut.pith"
finish
