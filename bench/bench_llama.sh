#!/bin/sh
# Speed beside llama.cpp, as the npm package node-llama-cpp ships it: same shape, same threads, runs in
# turn, medians and ratios.  Weights have no meaning on either side.
#
#   BUILD=build ROUNDS=5 sh bench/bench_llama.sh              prints a table
#   README=README.md sh bench/bench_llama.sh                  and puts it there between the markers of table 'llama'
#
# PAIRS      "OURS=THEIRS ...": a scheme of 'pith convert' and one of Q8_0 Q4_0 Q4_K_M Q3_K_S
# THREADS    "1 2"; PROMPT, COUNT: tokens read and decoded
# PEER       the folder where the package is installed, or is to be installed; default: a temporary one, for which npm
#            and a network are needed
# MODELS     where the models are kept (6 GB); default: a temporary folder
# RESULTS    a file of single measurements; those of earlier runs count too
#
# SPDX-License-Identifier: Apache-2.0
set -eu
HERE=$(dirname "$0")
PITH=${BUILD:-build}/pith
PYTHON=${PYTHON:-/usr/bin/python3}
THREADS=${THREADS:-1 2} ROUNDS=${ROUNDS:-5} PROMPT=${PROMPT:-256} COUNT=${COUNT:-32}
# the nearest in stored bits: 8.8 and 8.5, 4.8 and 4.9, 4.2 and 4.6, 3.5 and 3.6
PAIRS=${PAIRS:-rtn:bits=8,group=32=Q8_0 rtn:bits=4,group=32=Q4_K_M rtn:bits=4,group=128=Q4_0 rtn:bits=3,group=64=Q3_K_S}
T=$(mktemp -d "${TMPDIR:-/tmp}/pith-llama.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 130' INT TERM
PEER=${PEER:-$T/npm} MODELS=${MODELS:-$T} RESULTS=${RESULTS:-$T/results}
mkdir -p "$PEER" "$MODELS"
: >>"$RESULTS"

if [ ! -d "$PEER/node_modules/node-llama-cpp" ]; then
	echo '{"private": true}' >"$PEER/package.json"
	if ! command -v npm >/dev/null || ! (cd "$PEER" && npm install --no-audit --no-fund --ignore-scripts \
		node-llama-cpp >"$T/npm.log" 2>&1); then
		echo "the peer is absent: node-llama-cpp cannot be installed here; only our own numbers follow" >&2
		PEER=
	fi
fi

for pair in $PAIRS; do
	theirs=${pair##*=} scheme=${pair%=*}
	ours=$MODELS/$(echo "$scheme" | tr -c 'a-z0-9\n' _).pith
	case $scheme in rtn:*) stored=$scheme,search=0 ;; *) stored=$scheme ;; esac # the bytes read are as many
	[ -e "$ours" ] || "$PITH" bench --shape tinyllama --scheme "$stored" -o "$ours" --prompt 1 --count 1 \
		--batch 1 --rounds 1 --seconds 0 --no-verify --json >/dev/null
	[ -z "$PEER" ] || [ -e "$MODELS/$theirs.gguf" ] || "$PYTHON" "$HERE/make_gguf.py" "$theirs" "$MODELS/$theirs.gguf"
	round=0
	while [ "$round" -lt "$ROUNDS" ]; do
		round=$((round + 1))
		for threads in $THREADS; do
			numbers=$("$PITH" bench "$ours" --threads "$threads" --prompt "$PROMPT" --count "$COUNT" --batch 64 \
				--rounds 1 --seconds 0 --json | tr -d '\n')
			echo "$scheme $theirs $threads ours $numbers" >>"$RESULTS"
			[ -n "$PEER" ] || continue
			numbers=$(node "$HERE/bench_llama.mjs" "$PEER" "$MODELS/$theirs.gguf" "$threads" "$PROMPT" "$COUNT")
			echo "$scheme $theirs $threads theirs $numbers" >>"$RESULTS"
		done
	done
	[ "$MODELS" != "$T" ] || rm -f "$T"/*.pith "$T"/*.gguf
done

"$PYTHON" "$HERE/llama_table.py" "$RESULTS" ${README:+"$README"}
