#!/bin/sh
# pith log.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/q4.pith" rtn:bits=4,group=32

check_exit 0 'text' "$PITH" log "$T/q4.pith"
sha=$(sha256sum models/tiny1m/model.safetensors | cut -d' ' -f1)
check 'source with its SHA-256' grep -qE "^source .*model.safetensors.*$sha" "$T/out"
check 'recipe' grep -qE '^recipe .*rtn:bits=4,group=32' "$T/out"
check_exit 0 'measured errors' "$PITH" log -v "$T/q4.pith"
check 'an error for a projection' grep -qE '^weight error .*q_proj.*relative error' "$T/out"
check_exit 0 'json' "$PITH" log --json "$T/q4.pith"
check 'json: the same source' json "any(e.get('sha256') == '$sha' for e in d['lineage'])"
finish
