#!/bin/sh
# Speed beside llama.cpp, as the npm package node-llama-cpp ships it: same shape, same threads, runs in
# turn, medians and ratios.  Weights have no meaning on either side.
#
#   BUILD=build THREADS=2 ROUNDS=5 PROMPT=512 COUNT=32 PAIRS="8:Q8_0 4:Q4_0" sh bench/bench_llama.sh
#
# A pair is a scheme of ours (8, 4, 3: rtn at that many bits) and a type of theirs.  LLAMA_FOLDER: where the
# package is installed already; else it is installed into a temporary folder, for which npm and a network are needed.
#
# SPDX-License-Identifier: Apache-2.0
set -eu
HERE=$(dirname "$0")
PITH=${BUILD:-build}/pith
THREADS=${THREADS:-2} ROUNDS=${ROUNDS:-5} PROMPT=${PROMPT:-512} COUNT=${COUNT:-32}
PAIRS=${PAIRS:-8:Q8_0 4:Q4_0 4:Q4_K_M 3:Q3_K_S}
PYTHON=${PYTHON:-/usr/bin/python3}
T=$(mktemp -d "${TMPDIR:-/tmp}/pith-llama.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 130' INT TERM

scheme() {
	case $1 in
	8) echo rtn:bits=8,group=32,search=0 ;;
	4) echo rtn:bits=4,group=32,search=0 ;;
	3) echo rtn:bits=3,group=128,search=0 ;;
	*) echo "$1" ;;
	esac
}

PEER=${LLAMA_FOLDER:-}
if [ -z "$PEER" ]; then
	PEER=$T/npm
	mkdir "$PEER"
	echo '{"private": true}' >"$PEER/package.json"
	if ! command -v npm >/dev/null || ! (cd "$PEER" && npm install --no-audit --no-fund --ignore-scripts \
		node-llama-cpp >"$T/npm.log" 2>&1); then
		echo "the peer is absent: node-llama-cpp cannot be installed here; only our own numbers follow" >&2
		PEER=
	fi
fi

: >"$T/results"
for pair in $PAIRS; do
	ours=${pair%%:*} theirs=${pair##*:}
	"$PITH" bench --shape tinyllama --scheme "$(scheme "$ours")" -o "$T/ours.pith" --prompt 8 --count 1 --batch 8 \
		--seconds 0.01 --no-verify --json >/dev/null
	[ -z "$PEER" ] || "$PYTHON" "$HERE/make_gguf.py" "$theirs" "$T/theirs.gguf"
	round=0
	while [ "$round" -lt "$ROUNDS" ]; do
		round=$((round + 1))
		printf '%s ours ' "$pair" >>"$T/results"
		"$PITH" bench "$T/ours.pith" --threads "$THREADS" --prompt "$PROMPT" --count "$COUNT" --batch 64 \
			--seconds 0.5 --json | tr -d '\n' >>"$T/results"
		echo >>"$T/results"
		[ -n "$PEER" ] || continue
		printf '%s theirs ' "$pair" >>"$T/results"
		node "$HERE/bench_llama.mjs" "$PEER" "$T/theirs.gguf" "$THREADS" "$PROMPT" "$COUNT" >>"$T/results"
	done
	rm -f "$T/ours.pith" "$T/theirs.gguf"
done

"$PYTHON" - "$T/results" "$THREADS" "$ROUNDS" <<'PY'
import collections, json, statistics, sys

runs = collections.OrderedDict()
for line in open(sys.argv[1]):
	pair, side, numbers = line.split(" ", 2)
	runs.setdefault(pair, {"ours": [], "theirs": []})[side].append(json.loads(numbers))
print(f"tinyllama shape, {sys.argv[2]} threads, medians of {sys.argv[3]} runs in turn; ratio: ours to llama.cpp\n")
print("| ours | llama.cpp | prefill, tok/s | ratio | decode, tok/s | ratio | share of bandwidth | start warm, s | ratio |")
print("|---|---|---|---|---|---|---|---|---|")
for pair, sides in runs.items():
	ours, theirs = pair.split(":")
	median = lambda side, key: statistics.median([r[key] for r in sides[side]]) if sides[side] else None
	cells = []
	for key, form in (("prefill_tok_s", ".0f"), ("decode_tok_s", ".1f"), ("start_warm_seconds", ".2f")):
		a, b = median("ours", key), median("theirs", key)
		cells += [f"{a:{form}}" + (f" / {b:{form}}" if b else " / absent"), f"{a / b:.2f}" if b else ""]
	share = f"{100 * median('ours', 'bandwidth_share'):.0f} %"
	print(f"| {ours} bits | {theirs} | " + " | ".join(cells[:4] + [share] + cells[4:]) + " |")
PY
