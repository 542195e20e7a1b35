#!/bin/sh
# pith version.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
check_exit 0 'text' "$PITH" version
check 'names the kernel set' grep -q '^kernels ' "$T/out"
check 'an embedded model' grep -qE '^model +[0-9a-f]{32} ' "$T/out"
embedded_is_small() {
	"$PITH" version --json | "$PYTHON" -c '
import json, sys
d = json.load(sys.stdin)
assert 0 < d["fast_model"]["bytes"] < d["default_model"]["bytes"] <= 5000000, d
assert d["fast_model"]["identity"] != d["default_model"]["identity"], d
assert d["kernels"] == d["kernels_available"][0], d'
}
check 'two embedded models, of at most 5 MB each' embedded_is_small
check_exit 2 'operand' "$PITH" version x
finish
