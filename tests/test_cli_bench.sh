#!/bin/sh
# pith bench.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/q4.pith" rtn:bits=4,group=32
check_exit 0 'json' "$PITH" bench "$T/q4.pith" --json --seconds 0.2
check 'speeds' json "d['prefill_tok_s'] > 0 and d['decode_tok_s'] > 0 and d['bandwidth_share'] > 0"
check 'start' json "d['start_warm_seconds'] > 0 and d['start_unchecked_warm_seconds'] > 0 and d['map_read_warm_seconds'] > 0"
# 4 blocks x 2 heads x 32 values x 4 bytes x keys and values; the prompt takes half the context
check 'keys and values' json "d['kv_nbytes'] == 2048 and d['kv_read_nbytes'] == 2048 * 256"
check 'energy: a number, or none' json "d['joules_per_token'] is None or d['joules_per_token'] >= 0"
"$PITH" bench --help | tr ' ,.;()' '\n' >"$T/words"
check 'every key is in the help' "$PYTHON" -c 'import json, sys
words = set(open(sys.argv[2]).read().split())
sys.exit(str(sorted(set(json.load(open(sys.argv[1]))) - words)) if set(json.load(open(sys.argv[1]))) - words else 0)' \
	"$T/out" "$T/words"
check_exit 0 'unchecked' "$PITH" bench "$T/q4.pith" --json --seconds 0 --rounds 2 --no-verify --threads 1 --prompt 8 --count 2
check 'unchecked: not measured checked' json "d['start_warm_seconds'] is None and d['start_unchecked_warm_seconds'] > 0 and d['threads'] == 1"
check_exit 0 'text' "$PITH" bench "$T/q4.pith" --seconds 0.2
check_exit 2 'unknown option' "$PITH" bench "$T/q4.pith" --second 1
check_exit 0 'shape' env TMPDIR="$T" "$PITH" bench --shape 2,64,96,4,2,300 --scheme rtn:bits=3,group=32 --kv int8 \
	--seconds 0.1 --json
# 2 blocks x 2 heads x (16 bytes + a scale) x keys and values
check 'shape: numbers' json "d['kv_nbytes'] == 160 and d['weight_nbytes'] > 0 and d['start_warm_seconds'] > 0"
check 'shape: nothing stays' sh -c '! ls "$1"/pith-bench-* 2>/dev/null' - "$T"
check_exit 0 'shape: a scheme that calibrates' env TMPDIR="$T" "$PITH" bench --shape tiny --scheme spqr:bits=3,group=16 \
	--seconds 0 --rounds 1 --json
check 'shape: nothing stays of it' sh -c '! ls "$1"/pith-bench-* 2>/dev/null' - "$T"
check_exit 0 'shape: kept' "$PITH" bench --shape tiny -o "$T/tiny.pith" --seconds 0.1
check_exit 0 'shape: valid' "$PITH" verify "$T/tiny.pith"
check_exit 1 'shape: exists' "$PITH" bench --shape tiny -o "$T/tiny.pith" --seconds 0.1
check_exit 2 'no rounds' "$PITH" bench "$T/q4.pith" --rounds 0
check_exit 2 'no such shape' "$PITH" bench --shape huge
check_exit 2 'shape and file' "$PITH" bench --shape tiny "$T/q4.pith"
check_exit 2 'scheme alone' "$PITH" bench "$T/q4.pith" --scheme bf16
finish
