#!/bin/sh
# pith zip and what comes back from its archives.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/tiny.pith" rtn:bits=8,group=32

# A folder of what is hard: text, bytes that are no text, nothing, one byte, a link, odd names.
mkdir -p "$T/in/empty folder"
head -c 6000 bench/texts/docs-peps-00.txt >"$T/in/text.txt"
head -c 3000 models/tiny1m/model.safetensors >"$T/in/binary"
printf 'caf\351 \300\257 \377' >"$T/in/invalid utf-8"
: >"$T/in/nothing"
printf x >"$T/in/one"
ln -s text.txt "$T/in/link"
chmod 640 "$T/in/one"
touch -d '2001-02-03 04:05:06' "$T/in/text.txt"

z() { (cd "$T" && "$PITH" zip -m tiny.pith "$@"); }
check_exit 0 'a folder' z -o a.pz in
check_exit 0 'one thread' z -o b.pz --threads 1 in
check 'the same archive' cmp "$T/a.pz" "$T/b.pz"
check_exit 0 'the reference kernels' env PITH_CPU=-avx512,-avx2 sh -c 'cd "$T" && "$PITH" zip -m tiny.pith -o c.pz in'
check 'the same archive' cmp "$T/a.pz" "$T/c.pz"
check_exit 0 'unzip' "$PITH" unzip -m "$T/tiny.pith" -C "$T/back" "$T/a.pz"
check 'the same tree' diff -r --no-dereference "$T/in" "$T/back/in"
listing() { (cd "$1" && find . -exec stat -c '%n %a %Y %N' {} + | sort); }
same_metadata() {
	listing "$T/in" >"$T/want" && listing "$T/back/in" >"$T/got" && diff "$T/want" "$T/got"
}
check 'modes, times and links' same_metadata
check_exit 0 'from a pipe to a pipe' sh -c \
	'"$PITH" zip -m "$T/tiny.pith" -o - - <"$T/in/text.txt" | cat >"$T/pipe.pz" && "$PITH" cat -m "$T/tiny.pith" "$T/pipe.pz" >"$T/out.bytes"'
check 'gives the same bytes' cmp "$T/in/text.txt" "$T/out.bytes"
check_exit 2 'no output' "$PITH" zip in
check_exit 1 'no such file' z -o d.pz absent
check 'and no archive' test ! -e "$T/d.pz"
finish
