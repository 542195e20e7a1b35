#!/bin/sh
# pith diff.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16
model "$T/f32.pith" f32
model "$T/q8.pith" rtn:bits=8,group=32
model "$T/q4.pith" rtn:bits=4,group=32
"$PITH" convert models/books6m -o "$T/other.pith" --scheme bf16 >/dev/null 2>&1

check_exit 0 'the same file' "$PITH" diff --json "$T/bf16.pith" "$T/bf16.pith"
check 'same model, nothing differs' json "d['same_model'] and d['differing'] == 0 and d['equal'] > 0"
check_exit 0 'wider floats' "$PITH" diff --json "$T/bf16.pith" "$T/f32.pith"
check 'other terms, the same values' json \
	"not d['same_model'] and d['differing'] > 0 and all(w['max_difference'] == 0 for w in d['weights'])"
"$PITH" diff --json "$T/bf16.pith" "$T/q8.pith" >"$T/q8.json"
check_exit 0 'quantized' "$PITH" diff --json "$T/bf16.pith" "$T/q4.pith"
cp "$T/out" "$T/q4.json"
# A uniform code of b bits has an error in proportion to 2^-b: 16 times from 8 to 4 bits, roughly.
errors_scale() {
	"$PYTHON" - "$T/q8.json" "$T/q4.json" <<'PY'
import json, sys
q8, q4 = (sum(w["relative_difference"] for w in json.load(open(p))["weights"]) for p in sys.argv[1:])
assert 12 < q4 / q8 < 22, (q8, q4)
PY
}
check 'the error grows as the bits shrink' errors_scale
check_exit 0 'another architecture' "$PITH" diff "$T/bf16.pith" "$T/other.pith"
check 'a key that differs' grep -qE '128 \| 256' "$T/out"
check 'weights of another shape' grep -qE 'shape 128x128 \| 256x256' "$T/out"
check 'weights that only one has' grep -q "layers.5.*only in $T/other.pith" "$T/out"
finish
