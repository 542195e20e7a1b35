# Test cases in shell: source this, call check / check_exit / skip, end with finish.  The lines are
# those of cmocka, so that tests/run.sh counts both alike.  PITH, BUILD, PYTHON and TMPDIR are set.
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
: "${BUILD:=$PWD/build}" "${PITH:=$BUILD/pith}" "${PYTHON:=/usr/bin/python3}"
: "${TMPDIR:=$(mktemp -d)}"
export BUILD PITH PYTHON TMPDIR
T=$TMPDIR
export T
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)) && echo "[       OK ] $1"; }
fail() { failed=$((failed + 1)) && echo "[  FAILED  ] $1${2:+: $2}"; }
skip() { skipped=$((skipped + 1)) && echo "skip: $1: $2"; }

# check NAME COMMAND...: passes when the command succeeds; leaves $T/out and $T/err as they are.
check() {
	name=$1
	shift
	if "$@" >"$T/check" 2>&1; then
		pass "$name"
	else
		fail "$name" "exit $? of $*"
		head -n 20 "$T/check"
	fi
}

# check_exit CODE NAME COMMAND...: passes when it ends with CODE; its output stays in $T/out, $T/err.
check_exit() {
	code=$1 name=$2
	shift 2
	"$@" >"$T/out" 2>"$T/err"
	status=$?
	if [ $status -eq "$code" ]; then
		pass "$name"
	else
		fail "$name" "exit $status, not $code, of $*"
		head -n 20 "$T/out" "$T/err"
	fi
}

finish() {
	echo "[  PASSED  ] $passed test(s)."
	[ $skipped -eq 0 ] || echo "[  SKIPPED ] $skipped test(s)."
	[ $failed -eq 0 ] || echo "[  FAILED  ] $failed test(s)."
	[ $failed -eq 0 ]
	exit
}
