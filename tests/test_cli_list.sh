#!/bin/sh
# pith list.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
mkdir -p "$T/in/sub"
head -c 2000 bench/texts/docs-eips-00.txt >"$T/in/a.txt"
printf x >"$T/in/sub/one"
(cd "$T" && "$PITH" zip -o a.pz in) >/dev/null 2>&1
check_exit 0 'text' "$PITH" list "$T/a.pz"
check 'name and size' grep -qE ' 2000 .* in/a.txt$' "$T/out"
check_exit 0 'json' "$PITH" list --json "$T/a.pz"
check 'all members' json "sorted(m['name'].rstrip('/') for m in d['members']) == ['in', 'in/a.txt', 'in/sub', 'in/sub/one']"
head -c 100 "$T/a.pz" >"$T/cut.pz"
check_exit 3 'truncated' "$PITH" list "$T/cut.pz"
check_exit 4 'no archive' "$PITH" list bench/texts/docs-eips-00.txt
finish
