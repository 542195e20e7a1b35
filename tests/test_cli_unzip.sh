#!/bin/sh
# pith unzip: the embedded model, members, and what it refuses.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/tiny.pith" rtn:bits=8,group=32
model "$T/other.pith" rtn:bits=4,group=32
mkdir -p "$T/in/sub"
head -c 4000 bench/texts/docs-eips-00.txt >"$T/in/a.txt"
head -c 1000 bench/texts/docs-peps-00.txt >"$T/in/sub/b.txt"
(cd "$T" && "$PITH" zip -o default.pz in && "$PITH" zip -m tiny.pith -o tiny.pz in) >/dev/null 2>&1

check_exit 0 'with the embedded model' "$PITH" unzip -C "$T/one" "$T/default.pz"
check 'the same tree' diff -r "$T/in" "$T/one/in"
check_exit 0 'a member' "$PITH" unzip -m "$T/tiny.pith" -C "$T/two" "$T/tiny.pz" in/sub/b.txt
check 'only that one' test "$(find "$T/two" -type f)" = "$T/two/in/sub/b.txt"
check 'the same bytes' cmp "$T/two/in/sub/b.txt" "$T/in/sub/b.txt"
check_exit 4 'an archive of another model' "$PITH" unzip -C "$T/three" "$T/tiny.pz"
identity=$("$PITH" info --json "$T/tiny.pith" | sed -n 's/.*"identity": "\(.*\)".*/\1/p')
check 'names the model it needs' grep -q "$identity" "$T/err"
check_exit 4 'a given model that is another one' "$PITH" unzip -m "$T/other.pith" -C "$T/three" "$T/tiny.pz"
cp "$T/tiny.pith" "$T/bad.pith" && flip "$T/bad.pith" 100000
check_exit 3 'a damaged model' "$PITH" unzip -m "$T/bad.pith" -C "$T/three" "$T/tiny.pz"
for off in 70 200 $(($(wc -c <"$T/tiny.pz") - 20)); do
	cp "$T/tiny.pz" "$T/bad.pz" && flip "$T/bad.pz" "$off"
	check_exit 3 "a damaged byte at $off" "$PITH" unzip -m "$T/tiny.pith" -C "$T/three" "$T/bad.pz"
done
head -c 300 "$T/tiny.pz" >"$T/cut.pz"
check_exit 3 'a truncated archive' "$PITH" unzip -m "$T/tiny.pith" -C "$T/three" "$T/cut.pz"
check 'nothing was restored from what was refused' test -z "$(find "$T/three" -type f 2>/dev/null)"
check_exit 4 'a file that is no archive' "$PITH" unzip "$T/in/a.txt"
check_exit 1 'files that are there are kept' "$PITH" unzip -C "$T/one" "$T/default.pz"
check_exit 0 'unless told' "$PITH" unzip --force -C "$T/one" "$T/default.pz"
finish
