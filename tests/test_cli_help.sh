#!/bin/sh
# pith help.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
check_exit 0 'list' "$PITH" help
check_exit 0 'of a command' "$PITH" help verify
check 'of a command: options' grep -q -- '-j, --threads N' "$T/out"
check_exit 0 'pith --help' "$PITH" --help
check_exit 2 'of an unknown command' "$PITH" help verfy
check 'suggestion' grep -q 'did you mean verify' "$T/err"
check_exit 0 'man page of pith' "$PITH" help --man
check 'man page names all commands' test "$(grep -c '^.BR pith-' "$T/out")" -ge 13
finish
