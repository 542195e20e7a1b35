#!/bin/sh
# Run test programs (cmocka), scripts (*.sh) and Python tests (*.py), two or more at a time, and sum
# up: the last line is 'N passed, N failed, N skipped', counting test cases.
#
# usage: tests/run.sh PROGRAM...     with BUILD, PYTHON, CC in the environment
#
# Every program gets an empty folder of its own in TMPDIR, and sees BUILD, PITH (the command) and
# PYTHON.  Kernels and engine are tested again with instruction sets masked, newest first.  Programs in
# a folder arm64 run under qemu-aarch64.
#
# SPDX-License-Identifier: Apache-2.0
set -u

BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
CC=${CC:-cc}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
PITH=$BUILD/pith
export BUILD PYTHON CC PITH

# Exit status 77: skipped as a whole.  Counts come from the program's own summary lines.
count() { # PATTERN LOG: sum of the first numbers in the lines that match
	sed -n "s/^$1.*/\1/p" "$2" | awk '{n += $1} END {print n + 0}'
}

run_one() { # MASK PROGRAM
	mask=$1 program=$2
	name=$(basename "$program")
	case $program in */arm64/*) name="arm64 $name" ;; esac
	[ -z "$mask" ] || name="$name [PITH_CPU=$mask]"
	log=$BUILD/tests/log/$(echo "$name" | tr ' /=,[]' '_______').log
	TMPDIR=$(mktemp -d) || exit 1 # outside the tree: short, and perhaps in memory
	export TMPDIR
	trap 'rm -rf "$TMPDIR"' EXIT
	trap 'exit 1' INT TERM
	[ -z "$mask" ] || { PITH_CPU=$mask && export PITH_CPU; }
	case ${PITH_SANITIZED:+slow}$program in
	slow*/test_equality) PITH_EMULATED=1 && export PITH_EMULATED ;; # a sample of the sample
	esac
	start=$(date +%s.%N)
	case $program in
	*/arm64/*)
		if [ -x "$program" ]; then
			PITH_EMULATED=1 qemu-aarch64 "$program"
		else
			echo "skip: not built, packages are missing: make cross-packages"
			(exit 77)
		fi
		;;
	*.sh) sh "$program" ;;
	*.py) "$PYTHON" "$program" ;;
	/*) "$program" ;;
	*) "./$program" ;;
	esac >"$log" 2>&1 </dev/null
	status=$?
	seconds=$(echo "$(date +%s.%N) $start" | awk '{printf "%.1f", $1 - $2}')
	passed=$(count '\[  PASSED  \] \([0-9]*\) test' "$log")
	failed=$(count '\[  FAILED  \] \([0-9]*\) test' "$log")
	skipped=$(count '\[  SKIPPED \] \([0-9]*\) test' "$log")
	case $program in
	*.py)
		ran=$(count 'Ran \([0-9]*\) test' "$log")
		# a case with several failing subtests is one case
		failed=$(sed -nE 's/^(FAIL|ERROR): ([^ ]*) \(([^)]*)\).*/\2 \3/p' "$log" | sort -u | wc -l)
		skipped=$(grep -E '^(OK|FAILED) \(' "$log" | grep -oE 'skipped=[0-9]+' |
			awk -F= '{n += $2} END {print n + 0}')
		passed=$((ran > failed + skipped ? ran - failed - skipped : 0))
		;;
	esac
	if [ $status -eq 77 ]; then
		skipped=$((skipped + 1))
	elif [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
		failed=1 # it crashed, or did not get as far as a summary
	elif [ $((passed + failed + skipped)) -eq 0 ]; then
		failed=1 # a test that tests nothing
	fi
	word=ok
	[ "$failed" -eq 0 ] || word=FAILED
	{
		printf '%-7s%-46s %4d passed %3d failed %3d skipped %6s s\n' "$word" "$name" "$passed" \
			"$failed" "$skipped" "$seconds"
		grep -E '^(\[  SKIPPED \] [^0-9]|skip: |matrix: )|\.\.\. skipped' "$log" | sort -u | sed 's/^/       /'
		if [ "$failed" -ne 0 ]; then
			echo "       exit status $status; $log:"
			grep -vE '^\[( RUN      |       OK )\]' "$log" | tail -n 60 | sed 's/^/       | /'
		fi
	} >"$log.report"
	cat "$log.report" # one write, so that reports do not mix
	echo "$passed $failed $skipped" >"$log.counts"
}

if [ "${1-}" = --one ]; then
	run_one "$2" "$3"
	exit 0
fi

rm -rf "$BUILD/tests/log"
mkdir -p "$BUILD/tests/log"
for program in "$@"; do
	printf '%s\0%s\0' '' "$program"
	case $program in
	*/arm64/*) ;;
	*/test_kernel* | */test_engine* | */test_model* | */test_linear* | */test_text* | */test_numerics*)
		[ -n "${PITH_SANITIZED-}" ] || printf '%s\0%s\0' -avx512 "$program"
		# the engine's tests mask by themselves, and sanitizers make them slow
		case ${PITH_SANITIZED:+slow}$program in
		slow*/test_engine*) ;;
		*) printf '%s\0%s\0' -avx512,-avx2 "$program" ;;
		esac
		;;
	esac
done | xargs -0 -n 2 -P "$(nproc)" sh "$0" --one

cat "$BUILD"/tests/log/*.counts | awk '
	{ passed += $1; failed += $2; skipped += $3 }
	END {
		printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
		exit failed > 0 || passed == 0
	}'
