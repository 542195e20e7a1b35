#!/bin/sh
# For 'make test-all': the whole matrix and all logits by the builds of gcc, clang and aarch64 (emulated),
# which give one hash.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
case $CLANG_BUILD in /*) ;; *) CLANG_BUILD=$PWD/$CLANG_BUILD ;; esac
NEON="$BUILD/arm64/tests/test_equality"

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

# ---- aarch64 ----
if [ -x "$NEON" ]; then
	report neon
	same_hash neon
else
	skip "aarch64" "not built, packages are missing: make cross-packages"
fi
finish
