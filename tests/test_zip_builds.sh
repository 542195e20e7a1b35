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
cat corpus/* >expected
restores() { # NAME COMMAND...
	by=$1
	shift
	check "$level: $by restores it" "$@" unzip -m tiny.pith -C "$level by $by" $level.pz
	check "$level: $by: it is the corpus" diff -r corpus "$level by $by/corpus"
}

# The level small has recall, whose keys are made of floats.
for level in default small; do
	check_exit 0 "$level: an archive" "$PITH" zip --json --level $level -m tiny.pith -o $level.pz corpus
	check "$level: coded by the model" json 'd["model_segments"] > 0'
	restores 'plain C' env PITH_CPU=$MASKED "$PITH"
	if [ -n "${PITH_SANITIZED-}" ] || [ ! -x "$CLANG" ]; then
		skip "$level: clang" 'not built here'
	else
		check "$level: clang writes the same" \
			sh -c "'$CLANG' zip --level $level -m tiny.pith -o clang.pz --force corpus && cmp $level.pz clang.pz"
		restores 'clang' "$CLANG"
		restores 'plain C by clang' env PITH_CPU=$MASKED "$CLANG"
	fi
	if [ -x "$NEON" ]; then
		qemu-aarch64 "$NEON" restore $level.pz tiny.pith >found
		check "$level: NEON restores it" cmp expected found
	else
		skip "$level: NEON" 'not built, packages are missing: make cross-packages'
	fi
done
finish
