#!/bin/sh
# pith bench.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/q4.pith" rtn:bits=4,group=32
check_exit 0 'json' "$PITH" bench "$T/q4.pith" --json --seconds 0.2
check 'speeds' json "d['prefill_tok_s'] > 0 and d['decode_tok_s'] > 0 and d['bandwidth_share'] > 0"
check_exit 0 'text' "$PITH" bench "$T/q4.pith" --seconds 0.2
check_exit 2 'unknown option' "$PITH" bench "$T/q4.pith" --second 1
finish
