#!/bin/sh
# pith convert, as a command; what it makes is tested in test_convert.py.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh

check_exit 0 'convert' "$PITH" convert models/tiny1m -o "$T/a.pith" --scheme bf16
check_exit 0 'again' "$PITH" convert models/tiny1m -o "$T/b.pith" --scheme bf16
check 'the same bytes' cmp "$T/a.pith" "$T/b.pith"
check 'no file is left beside it' test "$(ls "$T" | grep -c '^[ab]\.pith')" -eq 2
check_exit 2 'no output' "$PITH" convert models/tiny1m
check_exit 2 'unknown scheme' "$PITH" convert models/tiny1m -o "$T/c.pith" --scheme rnt:bits=4
check_exit 2 'bits out of range' "$PITH" convert models/tiny1m -o "$T/c.pith" --scheme rtn:bits=9
check_exit 1 'no such folder' "$PITH" convert "$T/absent" -o "$T/c.pith"
check_exit 0 'dry run' "$PITH" convert models/tiny1m --dry-run --json --scheme rtn:bits=4,group=32
check 'dry run: size' json "d['bits_per_weight'] > 4"
check 'dry run: nothing written' test ! -e "$T/c.pith"
check_exit 1 'target in a folder that is not there' "$PITH" convert models/tiny1m -o "$T/absent/c.pith"

# Interrupted: nothing under the final name, no temporary file.
mkdir "$T/stop"
for delay in 0.01 0.03 0.1 0.2; do
	"$PITH" convert models/books6m -o "$T/stop/m.pith" --scheme rtn:bits=3,group=32 >/dev/null 2>&1 &
	process=$!
	sleep "$delay"
	kill -INT "$process" 2>/dev/null
	kill -TERM "$process" 2>/dev/null
	wait "$process"
done
check 'interrupted: nothing is left' test -z "$(ls -A "$T/stop" | grep -v '^m.pith$')"
finish
