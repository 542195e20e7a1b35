# Small models for the tests of commands: source this behind testing.sh.
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
model() { # FILE SCHEME: convert tiny1m
	"$PITH" convert models/tiny1m -o "$1" --scheme "$2" >"$T/convert.out" 2>"$T/convert.err" || {
		echo "cannot make the test model:"
		cat "$T/convert.err"
		exit 1
	}
}

flip() { # FILE OFFSET: invert a byte
	"$PYTHON" - "$1" "$2" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2]))
    byte = f.read(1)[0]
    f.seek(int(sys.argv[2]))
    f.write(bytes([byte ^ 0xff]))
PY
}

json() { # EXPRESSION: of d, the JSON in $T/out; passes when true
	"$PYTHON" -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(0 if eval(sys.argv[2]) else 1)' \
		"$T/out" "$1"
}
