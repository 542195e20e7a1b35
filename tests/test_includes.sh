#!/bin/sh
# Who may include whom (each folder knows only those below it), and unique file names.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh

# folder of a header by its name; file names are unique in the tree
find format loader runtime convert cli -name '*.[ch]' | sort >"$T/files"

# allowed FILE: the top folders that FILE may include from
allowed() {
	case $1 in
	format/*) echo 'format' ;;
	loader/*) echo 'loader|format' ;;
	runtime/*) echo 'runtime|loader|format' ;;
	convert/calibrate*) echo 'convert|runtime|loader|format' ;;
	convert/*) echo 'convert|loader|format' ;;
	cli/*) echo 'cli|convert|runtime|loader|format' ;;
	esac
}

# The importer of tokenizers writes the blob that the runtime reads: that header is shared.
exception() {
	case $1:$2 in
	convert/import_tokenizer*:runtime/tokenizer/tokenizer*.h) return 0 ;;
	convert/import_tokenizer*:runtime/tokenizer/unicode*.h) return 0 ;;
	convert/import_tokenizer*:runtime/tokenizer/pretokenize.h) return 0 ;;
	esac
	return 1
}

# check_includes ROOT: prints each include that breaks a rule
check_includes() {
	(cd "$1" && find format loader runtime convert cli -name '*.[ch]' -exec grep -Ho '^#include "[^"]*"' {} + |
		sed 's/:#include "\(.*\)"/ \1/' | while read -r file header; do
		target=$(grep "/$header\$" "$T/files")
		if [ -z "$target" ]; then
			echo "$file includes \"$header\", which is nowhere"
		elif ! echo "${target%%/*}" | grep -qxE "$(allowed "$file")" && ! exception "$file" "$target"; then
			echo "$file may not include $target"
		fi
	done)
}

names_unique() {
	duplicate=$(git ls-files 2>/dev/null | grep -E '\.[ch]$' | sed 's|.*/||' | sort | uniq -d)
	[ -z "$duplicate" ] || { echo "used twice: $duplicate" && return 1; }
}

includes_allowed() {
	check_includes . >"$T/broken"
	cat "$T/broken"
	[ ! -s "$T/broken" ]
}

# The check itself finds a forbidden include in a copy.
check_can_fail() {
	mkdir "$T/copy" && cp -r format loader runtime convert cli "$T/copy" || return 1
	echo '#include "pithrun.h"' >>"$T/copy/format/status.c"
	check_includes "$T/copy" | grep -q 'format/status.c may not include runtime/pithrun.h'
}

# assert-free of the environment: the libraries print nothing and never exit
library_is_silent() {
	! grep -nE '\b(printf|puts|perror|exit|abort|fputs|fprintf)\(' $(find format loader runtime -name '*.c') |
		grep -vE '(sn|vsn)printf|fprintf\((f|out|file)\b'
}

check 'includes follow the folders' includes_allowed
check 'a forbidden include is found' check_can_fail
check 'file names are unique' names_unique
check 'libraries do not print or exit' library_is_silent
finish
