#!/bin/sh
# Install what was built: used by 'make install'.  Arguments: the public headers.
# SPDX-License-Identifier: Apache-2.0
set -eu
: "${BUILD:?}" "${PREFIX:?}" "${VERSION:?}" "${DESTDIR:=}"
root=$DESTDIR$PREFIX

install -d "$root/bin" "$root/lib/pkgconfig" "$root/include/pith" "$root/share/man/man1" \
	"$root/share/doc/pith"
install -m 755 "$BUILD/pith" "$root/bin/"
for library in libpith libpithrun; do
	install -m 644 "$BUILD/$library.a" "$root/lib/"
	install -m 755 "$BUILD/$library.so.0" "$root/lib/"
	ln -sf "$library.so.0" "$root/lib/$library.so"
done
for header in "$@"; do
	install -m 644 "$header" "$root/include/pith/"
done
install -m 644 LICENSE NEWS.md README.md models/NOTICE "$root/share/doc/pith/"
cp -R spec "$root/share/doc/pith/"
find "$root/share/doc/pith/spec" -name __pycache__ -prune -exec rm -rf {} +

# The Python package is plain Python over the shared library.
if [ -d loader/python ]; then
	install -d "$root/share/pith"
	cp -R loader/python "$root/share/pith/"
	find "$root/share/pith" -name __pycache__ -prune -exec rm -rf {} +
fi

pkgconfig() { # NAME DESCRIPTION REQUIRES REQUIRES.PRIVATE LIBS
	cat >"$root/lib/pkgconfig/$1.pc" <<PC
prefix=$PREFIX
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: $1
Description: $2
Version: $VERSION
Requires: $3
Requires.private: $4
Cflags: -I\${includedir}/pith
Libs: -L\${libdir} $5
Libs.private: -lm -pthread
PC
}
pkgconfig pith 'read compressed language models' '' 'libzstd libxxhash' -lpith
pkgconfig pithrun 'run compressed language models' pith '' -lpithrun

# One source for help texts and man pages: the table entries of the commands.
"$BUILD/pith" help --man >"$root/share/man/man1/pith.1"
"$BUILD/pith" help | sed -n 's/^  \([a-z]*\) .*/\1/p' | while read -r command; do
	"$BUILD/pith" help --man "$command" >"$root/share/man/man1/pith-$command.1"
done
