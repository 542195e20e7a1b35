#!/bin/sh
# For 'make test-all': the whole matrix and all logits by the builds of gcc, clang and aarch64 (emulated),
# which give one hash; an archive written by the first is restored by the others, the second with plain C.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
case $CLANG_BUILD in /*) ;; *) CLANG_BUILD=$PWD/$CLANG_BUILD ;; esac
NEON="$BUILD/arm64/tests/test_equality"
MASKED=-avx512,-avx2,-neon

whole() { # NAME COMMAND...: its output stays in $T/NAME
	name=$1
	shift
	PITH_WHOLE=1 "$@" >"$T/$name" 2>&1
	echo $? >"$T/$name.status"
}
report() { # NAME
	check "$1: all kernels, logits of all sets" test "$(cat "$T/$1.status")" = 0
	cat "$T/$1"
}
same_hash() { # NAME: the line of the matrix is that of gcc
	grep '^matrix: ' "$T/gcc" >"$T/expected"
	grep '^matrix: ' "$T/$1" >"$T/found"
	check "$1: the hash of gcc" cmp "$T/expected" "$T/found"
}

# ---- kernels and logits ----
[ ! -x "$NEON" ] || whole neon env PITH_EMULATED=1 qemu-aarch64 "$NEON" &
neon=$!
whole gcc "$BUILD/tests/test_equality"
whole clang env "BUILD=$CLANG_BUILD" "$CLANG_BUILD/tests/test_equality"
wait $neon
report gcc
report clang
same_hash clang

# ---- archives ----
mkdir "$T/corpus" "$T/clang-out"
for text in bench/texts/*.txt; do
	head -c 3000 "$text" >"$T/corpus/$(basename "$text")"
done
(cd "$T" && "$PITH" zip -o gcc.pz corpus && "$CLANG_BUILD/pith" zip -o clang.pz corpus) 2>"$T/err"
check "gcc and clang write the same archive" cmp "$T/gcc.pz" "$T/clang.pz"
check "clang restores it in plain C" env PITH_CPU=$MASKED "$CLANG_BUILD/pith" unzip "$T/gcc.pz" -C "$T/clang-out"
check "and it is the corpus" diff -r "$T/corpus" "$T/clang-out/corpus"

# ---- aarch64 ----
if [ -x "$NEON" ]; then
	report neon
	same_hash neon
	cat "$T"/corpus/* >"$T/expected"
	qemu-aarch64 "$NEON" restore "$T/gcc.pz" "$BUILD/models/default.pith" >"$T/found"
	check "NEON restores the archive" cmp "$T/expected" "$T/found"
else
	skip "aarch64" "not built, packages are missing: make cross-packages"
fi
finish
