#!/bin/sh
# Decoding when other programs share the cores: tokens a second for 1 and for all threads, beside
# no, one and two loops that never sleep.  Runs in turn; medians, and ratios to one undisturbed thread.
#
#   BUILD=build ROUNDS=5 MODELS="a.pith b.pith" sh bench/bench_threads.sh
#
# MODELS: default is a synthetic model of 135 M weights in 4 bits; "embedded" is the one inside.
#
# SPDX-License-Identifier: Apache-2.0
set -eu
PITH=${BUILD:-build}/pith
PYTHON=${PYTHON:-/usr/bin/python3}
ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-0.5}
T=$(mktemp -d "${TMPDIR:-/tmp}/pith-threads.XXXXXX")
busy=
stop_busy() { [ -z "$busy" ] || kill $busy 2>/dev/null || true; busy=; }
trap 'stop_busy; rm -rf "$T"' EXIT
trap 'exit 130' INT TERM

if [ -z "${MODELS:-}" ]; then
	"$PITH" bench --shape smollm-135m --scheme rtn:bits=4,group=32,search=0 -o "$T/smollm-135m.pith" --prompt 8 \
		--count 1 --batch 1 --seconds 0.01 --no-verify --json >/dev/null
	MODELS="$T/smollm-135m.pith"
fi

for model in $MODELS; do
	: >"$T/results"
	round=0
	while [ "$round" -lt "$ROUNDS" ]; do
		round=$((round + 1))
		for loops in 0 1 2; do
			for _ in $(seq "$loops"); do
				while :; do :; done &
				busy="$busy $!"
			done
			for threads in 1 "$(nproc)"; do
				operand=$model
				[ "$model" != embedded ] || operand=
				printf '%s %s ' "$loops" "$threads" >>"$T/results"
				"$PITH" bench $operand --threads "$threads" --prompt 8 --count 16 --batch 1 \
					--seconds "$SECONDS_EACH" --no-verify --json | tr -d '\n' >>"$T/results"
				echo >>"$T/results"
			done
			stop_busy
		done
	done
	"$PYTHON" - "$T/results" "$(basename "$model")" <<'PY'
import json, statistics, sys

runs = {}
for line in open(sys.argv[1]):
	loops, threads, numbers = line.split(" ", 2)
	runs.setdefault((int(loops), int(threads)), []).append(json.loads(numbers)["decode_tok_s"])
base = statistics.median(runs[0, 1])
print(f"{sys.argv[2]}: decode, tokens/s, medians of {len(runs[0, 1])}")
for (loops, threads), speeds in sorted(runs.items()):
	speed = statistics.median(speeds)
	print(f"  {loops} busy loops, {threads} threads: {speed:8.1f}  {speed / base:5.2f} of one thread alone"
	      f"  (least {min(speeds):.1f}, most {max(speeds):.1f})")
PY
done
