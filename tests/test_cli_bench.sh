#!/bin/sh
# pith bench.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/q4.pith" rtn:bits=4,group=32
check_exit 0 'json' "$PITH" bench "$T/q4.pith" --json --seconds 0.2
check 'speeds' json "d['prefill_tok_s'] > 0 and d['decode_tok_s'] > 0 and d['bandwidth_share'] > 0"
check_exit 0 'text' "$PITH" bench "$T/q4.pith" --seconds 0.2
check_exit 2 'unknown option' "$PITH" bench "$T/q4.pith" --second 1
check_exit 0 'shape' env TMPDIR="$T" "$PITH" bench --shape 2,64,96,4,2,300 --scheme rtn:bits=3,group=32 --kv int8 \
	--seconds 0.1 --json
# 2 blocks x 2 heads x (16 bytes + a scale) x keys and values
check 'shape: numbers' json "d['kv_nbytes'] == 160 and d['weight_nbytes'] > 0 and d['start_warm_seconds'] > 0"
check 'shape: nothing stays' sh -c '! ls "$1"/pith-bench-* 2>/dev/null' - "$T"
check_exit 0 'shape: kept' "$PITH" bench --shape tiny -o "$T/tiny.pith" --seconds 0.1
check_exit 0 'shape: valid' "$PITH" verify "$T/tiny.pith"
check_exit 1 'shape: exists' "$PITH" bench --shape tiny -o "$T/tiny.pith" --seconds 0.1
check_exit 2 'no such shape' "$PITH" bench --shape huge
check_exit 2 'shape and file' "$PITH" bench --shape tiny "$T/q4.pith"
check_exit 2 'scheme alone' "$PITH" bench "$T/q4.pith" --scheme bf16
finish
