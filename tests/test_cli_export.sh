#!/bin/sh
# pith export: a Hugging Face folder again.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16
model "$T/q4.pith" rtn:bits=4,group=32

check_exit 0 'dense' "$PITH" export "$T/bf16.pith" -o "$T/hf"
check 'config.json, byte for byte' cmp "$T/hf/config.json" models/tiny1m/config.json
check 'tokenizer.json, byte for byte' cmp "$T/hf/tokenizer.json" models/tiny1m/tokenizer.json
same_tensors() {
	"$PYTHON" - "$1/model.safetensors" models/tiny1m/model.safetensors <<'PY'
import json, struct, sys
def tensors(path):
    data = open(path, "rb").read()
    n, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in header.items()}
a, b = (tensors(p) for p in sys.argv[1:])
assert a and a == b
PY
}
check 'the same tensors, bit for bit' same_tensors "$T/hf"
check_exit 0 'quantized' "$PITH" export "$T/q4.pith" -o "$T/hf4"
check 'quantized: other values' sh -c "! cmp -s '$T/hf4/model.safetensors' models/tiny1m/model.safetensors"
check_exit 0 'what was exported converts again' "$PITH" convert "$T/hf" -o "$T/again.pith" --scheme bf16
check_exit 0 'compare' "$PITH" diff --json "$T/bf16.pith" "$T/again.pith"
check 'the same model' json "d['same_model']"
check_exit 2 'no output' "$PITH" export "$T/bf16.pith"
check_exit 2 'unknown target' "$PITH" export "$T/bf16.pith" -o "$T/x" --to onnx
finish
