#!/bin/sh
# 'make install', then a program that knows only what was installed.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
if [ -n "${PITH_SANITIZED-}" ]; then
	skip 'install' 'the libraries are built with sanitizers'
	finish
fi
model "$T/m.pith" bf16
headers='format/pith_status.h loader/pith.h runtime/pithrun.h'
for h in runtime/tokenizer/tokenizer.h runtime/text/text.h; do
	[ ! -f $h ] || headers="$headers $h"
done

root="$T/a root"
check_exit 0 'install' env DESTDIR="$root" PREFIX=/usr VERSION=0.1.0 BUILD="$BUILD" sh cli/install.sh $headers
for f in bin/pith lib/libpith.a lib/libpith.so lib/libpithrun.so.0 include/pith/pithrun.h lib/pkgconfig/pith.pc \
	share/man/man1/pith-verify.1 share/man/man1/pith.1 share/doc/pith/LICENSE share/doc/pith/spec/container.md; do
	check "installed: $f" test -s "$root/usr/$f"
done
check_exit 0 'the installed command' "$root/usr/bin/pith" verify -q "$T/m.pith"
check_exit 0 'symbols of libpithrun.so' nm -D --defined-only "$root/usr/lib/libpithrun.so.0"
check 'only pith_ symbols are visible' sh -c '! grep -vE " (pith_[a-z0-9_]*@@?PITH[A-Z0-9_]*|A|PITH[A-Z]*_[A-Z0-9]*)$| A PITH" "$T/out"'

cat >"$T/user.c" <<'C'
#include <pithrun.h>
#include <stdio.h>
int main(int argc, char **argv)
{
	struct pith_file *file;
	struct pith_model *model;
	struct pith_model_info info;
	struct pith_error err;
	if (argc != 2 || pith_file_open(argv[1], 0, &file, &err) != PITH_OK ||
	    pith_model_open(file, NULL, &model, &err) != PITH_OK)
		return 1;
	pith_model_info(model, &info);
	printf("%u tokens\n", (unsigned)info.vocab_count);
	pith_model_close(model);
	pith_file_close(file);
	return 0;
}
C
flags() { PKG_CONFIG_PATH="$root/usr/lib/pkgconfig" pkg-config --define-variable=prefix=USR "$@" pithrun | sed "s| -[IL]USR[^ ]*||g; s|^-[IL]USR[^ ]*||"; }
build() { # OUTPUT FLAGS...: with what pkg-config gives, the prefix replaced by where it was installed
	output=$1
	shift
	${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror "$T/user.c" -o "$output" \
		"-I$root/usr/include/pith" "-L$root/usr/lib" "$@"
}
check 'a program builds against the shared library' build "$T/shared" $(flags --libs)
check_exit 0 'and runs' env LD_LIBRARY_PATH="$root/usr/lib" "$T/shared" "$T/m.pith"
check 'it read the model' grep -qx '1024 tokens' "$T/out"
rm -f "$root"/usr/lib/*.so
check 'a program builds against the static library' build "$T/static" $(flags --static --libs)
check_exit 0 'and runs without the shared one' "$T/static" "$T/m.pith"
for h in $headers; do
	if ! command -v "${CXX:-c++}" >/dev/null; then
		skip "$(basename $h) is C++ too" 'no C++ compiler'
		continue
	fi
	check "$(basename $h) is C++ too" sh -c \
		"echo '#include <$(basename $h)>' | ${CXX:-c++} -x c++ -std=c++17 -Wall -Werror '-I$root/usr/include/pith' -fsyntax-only -"
done
finish
