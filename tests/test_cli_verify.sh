#!/bin/sh
# pith verify.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/good.pith" rtn:bits=4,group=32

check_exit 0 'a good file' "$PITH" verify "$T/good.pith"
check 'ok, with canaries' grep -qE ': ok: .* [1-9][0-9]* canaries' "$T/out"
check_exit 0 'quiet' "$PITH" verify -q "$T/good.pith"
check 'quiet: nothing said' test ! -s "$T/out"
check_exit 0 'json' "$PITH" verify --json -j 1 "$T/good.pith"
check 'json: ok' json "d['ok'] and d['fault_count'] == 0 and d['canaries'] > 0"

# Two weights damaged: both are named, with the byte range that holds the damage.
cp "$T/good.pith" "$T/bad.pith"
"$PITH" info --json -v "$T/good.pith" >"$T/out"
"$PYTHON" - "$T/good.pith" >"$T/offsets" <<'PY'
# Where two planes start, read from the plane table as spec/container.md describes it.
import struct, sys
data = open(sys.argv[1], "rb").read()
slot = max((data[512 + 512 * s:1024 + 512 * s] for s in (0, 1)), key=lambda s: struct.unpack_from("<Q", s, 8)[0])
off, count = struct.unpack_from("<QI", slot, 56)
for i in range(count):
    entry = data[off + 64 * i:off + 64 * i + 64]
    if entry[:4] == b"PLAN":
        start, nbytes = struct.unpack_from("<QQ", entry, 8)
        planes = sorted({struct.unpack_from("<Q", data, start + 64 * p)[0] for p in range(nbytes // 64)})
        print(planes[0] + 3, planes[-1] + 5)
PY
read -r first last <"$T/offsets"
flip "$T/bad.pith" "$first"
flip "$T/bad.pith" "$last"
check_exit 3 'damaged weights' "$PITH" verify "$T/bad.pith"
check 'both are listed' test "$(grep -c 'container.16' "$T/out")" -eq 2
check_exit 3 'damaged weights: json' "$PITH" verify --json "$T/bad.pith"
check 'json: both faults' json "not d['ok'] and d['fault_count'] == 2 and len(d['faults']) == 2"
check_exit 3 'truncated' sh -c 'head -c 3000 "$T/good.pith" >"$T/cut.pith"; "$PITH" verify "$T/cut.pith"'
check_exit 3 'truncated: json' "$PITH" verify --json "$T/cut.pith"
check 'json of a file that cannot be opened' json "not d['ok'] and d['fault_count'] == 1"
cp "$T/good.pith" "$T/tail.pith" && echo more >>"$T/tail.pith"
check_exit 3 'bytes behind the end are reported' "$PITH" verify "$T/tail.pith"
finish
