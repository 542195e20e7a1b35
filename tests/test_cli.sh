#!/bin/sh
# The frame of the command: help, options, exit codes, broken outputs.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh

commands=$("$PITH" help | sed -n 's/^  \([a-z]*\) .*/\1/p')

# Rows of the table in the source, so that a command missing from the help is found.
table=$(sed -n 's/^\tX(\([a-z]*\)).*/\1/p' cli/cli.c)
check 'help lists the whole table' test "$(echo $commands)" = "$(echo $table)"

help_is_complete() {
	"$PITH" "$1" --help >"$T/help" || return 1
	grep -q '^usage: pith' "$T/help" && grep -q '^examples:' "$T/help" || return 1
	sed -n '/^examples:/,$p' "$T/help" | grep -q "pith $1" || return 1
	awk 'length($0) > 100 { exit 1 }' "$T/help" || return 1
	"$PITH" help "$1" | cmp -s - "$T/help"
}
man_is_clean() {
	"$PITH" help --man "$1" >"$T/page.1" || return 1
	grep -q '^.SH EXAMPLES' "$T/page.1" || return 1
	command -v man >/dev/null || return 0
	LC_ALL=C.UTF-8 man --warnings -l "$T/page.1" 2>"$T/warnings" >/dev/null
	[ ! -s "$T/warnings" ]
}
for c in $commands; do
	check "$c: help with an example" help_is_complete "$c"
	check "$c: man page" man_is_clean "$c"
	check "$c: has a test file" test -f "tests/test_cli_$c.sh"
	check "$c: has a file of its own" test -f "cli/cmd_$c.c"
done

says() { grep -q -- "$1" "$T/err"; }
check_exit 2 'no command' "$PITH"
check_exit 2 'unknown command' "$PITH" conver
check 'unknown command: suggestion' says 'did you mean convert'
check_exit 2 'unknown option' "$PITH" info --jsn x
check 'unknown option: suggestion' says 'did you mean --json'
check_exit 2 'unknown short option' "$PITH" info -X x
check_exit 2 'value missing' "$PITH" verify file -j
check_exit 2 'value of the wrong type' "$PITH" verify --threads=two file
check_exit 2 'value for a flag' "$PITH" info --json=yes file
check_exit 2 'operand missing' "$PITH" info
check_exit 2 'too many operands' "$PITH" info a b
check_exit 0 'help after an operand' "$PITH" info file --help
check_exit 1 'file that is not there' "$PITH" info "$T/absent"
check 'file that is not there: named' says "$T/absent: "
check_exit 1 'operand behind --' "$PITH" info -- --json
echo 'not a model at all, but long enough to be read as one' >"$T/other"
check_exit 4 'not ours' "$PITH" info "$T/other"
check_exit 2 'unknown set in PITH_CPU' env PITH_CPU=-avx9 "$PITH" version
check 'unknown set in PITH_CPU: named' says avx9
check_exit 0 'mask of PITH_CPU' env PITH_CPU=-avx512,-avx2 "$PITH" version --json
check 'mask of PITH_CPU: reference set' grep -q '"kernels": "reference"' "$T/out"
check_exit 0 'version as an option' "$PITH" --version --json
check 'version --json is JSON' "$PYTHON" -c \
	'import json, sys; d = json.load(open(sys.argv[1])); d["numerics_version"]; d["libraries"]["zstd"]' "$T/out"
if [ -w /dev/full ]; then
	check_exit 1 'full disk behind stdout' sh -c '"$PITH" help >/dev/full'
	check 'full disk: told' says 'standard output'
else
	skip 'full disk behind stdout' 'no /dev/full'
fi
check_exit 1 'closed stdout' sh -c '"$PITH" help >&-'

finish
