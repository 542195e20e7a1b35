#!/bin/sh
# pith test.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
mkdir -p "$T/in"
head -c 90000 models/tiny1m/model.safetensors >"$T/in/first"
head -c 180000 models/tiny1m/model.safetensors | tail -c 90000 >"$T/in/second"
(cd "$T" && "$PITH" zip --no-model --segment 64KiB -o a.pz in) >/dev/null 2>&1
check_exit 0 'a sound archive' "$PITH" test --json "$T/a.pz"
check 'is good' json "d['good'] and d['members'] == 3 and d['damaged'] == [] and d['content_nbytes'] == 180000"
cp "$T/a.pz" "$T/bad.pz" && flip "$T/bad.pz" 100000
check_exit 3 'a damaged one' "$PITH" test --json "$T/bad.pz"
check 'member and range are named' json "not d['good'] and d['damaged'][0]['name'] in ('in/first', 'in/second') and sum(r['nbytes'] for m in d['damaged'] for r in m['lost']) == d['lost_nbytes'] > 0"
cp "$T/a.pz" "$T/more.pz" && echo more >>"$T/more.pz"
check_exit 3 'bytes behind the end' "$PITH" test --json "$T/more.pz"
check 'are counted' json "d['ignored_nbytes'] == 5 and d['damaged'] == []"
head -c 100000 "$T/a.pz" >"$T/cut.pz"
check_exit 3 'truncated' "$PITH" test "$T/cut.pz"
check_exit 4 'no archive' "$PITH" test "$T/in/first"
finish
