#!/bin/sh
# An archive written by this build is restored by others, bit for bit: plain C of this one, clang's with all kernels and in
# plain C, NEON under emulation.  And clang's archive is the same.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
CLANG=${CLANG_BUILD:-build-clang}/pith
case $CLANG in /*) ;; *) CLANG=$PWD/$CLANG ;; esac
NEON=$BUILD/arm64/tests/test_equality
MASKED=-avx512,-avx2,-neon

model "$T/tiny.pith" rtn:bits=8,group=32
mkdir "$T/corpus"
for text in docs-peps-00 speeches-us-gov-00; do
	head -c 1000 bench/texts/$text.txt >"$T/corpus/$text"
done
head -c 500 models/tiny1m/model.safetensors >"$T/corpus/weights"
cd "$T" || exit 1
restores() { # NAME COMMAND...
	by=$1
	shift
	check "$by restores it" "$@" unzip -m tiny.pith -C "out of $by" archive.pz
	check "$by: it is the corpus" diff -r corpus "out of $by/corpus"
}

check_exit 0 'an archive' "$PITH" zip --json -m tiny.pith -o archive.pz corpus
check 'coded by the model' json 'd["model_segments"] > 0'
restores 'plain C' env PITH_CPU=$MASKED "$PITH"
if [ -n "${PITH_SANITIZED-}" ] || [ ! -x "$CLANG" ]; then
	skip 'clang' 'not built here'
else
	check 'clang writes the same' sh -c "'$CLANG' zip -m tiny.pith -o clang.pz corpus && cmp archive.pz clang.pz"
	restores 'clang' "$CLANG"
	restores 'plain C by clang' env PITH_CPU=$MASKED "$CLANG"
fi
if [ -x "$NEON" ]; then
	cat corpus/* >expected
	qemu-aarch64 "$NEON" restore archive.pz tiny.pith >found
	check 'NEON restores it' cmp expected found
else
	skip 'NEON' 'not built, packages are missing: make cross-packages'
fi
finish
