#!/bin/sh
# Run every benchmark of this folder: used by 'make bench'.  SPDX-License-Identifier: Apache-2.0
set -u
BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
PITH=$BUILD/pith
export BUILD PITH PYTHON
code=0
printf 'machine: %s, %s cores\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)"
for program in "$@" bench/bench_*.sh bench/bench_*.py; do
	[ -e "$program" ] || continue
	case $program in */bench_llama.sh) continue ;; esac # half an hour and a download: by itself
	printf '\n== %s\n' "$(basename "$program")"
	case $program in
	*.sh) sh "$program" ;;
	*.py) "$PYTHON" "$program" ;;
	/*) "$program" ;;
	*) "./$program" ;;
	esac || code=1
done
exit $code
