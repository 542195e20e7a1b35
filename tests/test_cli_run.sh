#!/bin/sh
# pith run.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/bf16.pith" bf16

prompt=$("$PYTHON" -c 'import json; print(json.load(open("models/tiny1m/reference.json"))["prompt"], end="")')
check_exit 0 'greedy' "$PITH" run "$T/bf16.pith" -p "$prompt" -n 48 --temp 0
greedy_text() {
	"$PYTHON" - "$T/out" <<'PY'
import json, sys
want = json.load(open("models/tiny1m/reference.json"))["greedy_text"]
got = open(sys.argv[1], encoding="utf-8").read()
assert want.strip() in got or got.strip() and want.strip().endswith(got.strip()), (got, want)
PY
}
check 'the continuation of the reference' greedy_text
"$PITH" run "$T/bf16.pith" -p "$prompt" -n 24 --temp 0.9 --seed 7 >"$T/a"
check_exit 0 'a seed' "$PITH" run "$T/bf16.pith" -p "$prompt" -n 24 --temp 0.9 --seed 7
check 'gives one text' cmp "$T/a" "$T/out"
check_exit 0 'the reference kernels' env PITH_CPU=-avx512,-avx2 "$PITH" run "$T/bf16.pith" -p "$prompt" -n 24 --temp 0.9 --seed 7
check 'give the same text' cmp "$T/a" "$T/out"
check_exit 0 'another seed' "$PITH" run "$T/bf16.pith" -p "$prompt" -n 24 --temp 0.9 --seed 8
check 'gives another text' sh -c '! cmp -s "$T/a" "$T/out"'
check_exit 2 'a temperature that is no number' "$PITH" run "$T/bf16.pith" -p x --temp warm
finish
