#!/bin/sh
# pith cat.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
mkdir -p "$T/in"
head -c 2000 bench/texts/docs-eips-00.txt >"$T/in/a"
head -c 1500 bench/texts/docs-peps-00.txt >"$T/in/b"
(cd "$T/in" && "$PITH" zip -o ../a.pz a b) >/dev/null 2>&1
check_exit 0 'a member' "$PITH" cat "$T/a.pz" b
check 'its bytes' cmp "$T/out" "$T/in/b"
check_exit 0 'all' "$PITH" cat "$T/a.pz"
cat "$T/in/a" "$T/in/b" >"$T/both"
check 'one after the other' cmp "$T/out" "$T/both"
check_exit 1 'a member that is not there' "$PITH" cat "$T/a.pz" c
finish
