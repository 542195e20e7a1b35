#!/bin/sh
# pith eval, against what the framework that trained the model measured.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16
model "$T/q8.pith" rtn:bits=8,group=32
text=bench/texts/docs-eips-00.txt

check_exit 0 'bf16' "$PITH" eval "$T/bf16.pith" --text $text --json
cp "$T/out" "$T/bf16.json"
near_reference() {
	"$PYTHON" - "$T/bf16.json" <<'PY'
import json, sys
got = json.load(open(sys.argv[1]))
want = json.load(open("models/tiny1m/reference.json"))["texts"]["docs_eips_00"]
for key in ("perplexity", "bits_per_byte"):
    assert abs(got[key] / want[key] - 1) < 1e-3, (key, got[key], want[key])
assert got["tokens"] == want["tokens"], (got, want)
PY
}
check 'perplexity within 0.1 % of the reference' near_reference
check_exit 0 'all threads' "$PITH" eval "$T/bf16.pith" --text $text --json --limit 2048
cp "$T/out" "$T/best.json"
check_exit 0 'one thread' "$PITH" eval "$T/bf16.pith" --text $text --json --threads 1 --limit 2048
same_result() {
	"$PYTHON" -c 'import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["perplexity"] == b["perplexity"] and a["bits_per_byte"] == b["bits_per_byte"], (a, b)' "$1" "$2"
}
check 'the same result' same_result "$T/best.json" "$T/out"
check_exit 0 'reference kernels' env PITH_CPU=-avx512,-avx2 "$PITH" eval "$T/bf16.pith" --text $text --json --limit 2048
check 'the same result' same_result "$T/best.json" "$T/out"
check_exit 0 'against a reference model' "$PITH" eval "$T/q8.pith" --text $text --against "$T/bf16.pith" --json --limit 2048
check 'small divergence, high agreement' json "0 < d['kl'] < 0.01 and d['top1_agreement'] > 0.9"
check_exit 0 'against itself' "$PITH" eval "$T/bf16.pith" --text $text --against "$T/bf16.pith" --json --limit 1024
check 'no divergence' json "d['kl'] == 0 and d['top1_agreement'] == 1"
cp "$T/bf16.pith" "$T/bad.pith"
flip "$T/bad.pith" 100000
check_exit 3 'a damaged model' "$PITH" eval "$T/bad.pith" --text $text
check_exit 2 'no text' "$PITH" eval "$T/bf16.pith"
check_exit 1 'no such text' "$PITH" eval "$T/bf16.pith" --text "$T/absent"
finish
