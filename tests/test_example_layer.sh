#!/bin/sh
# Another runtime runs one layer from the map, built against what was installed and nothing else.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
if [ -n "${PITH_SANITIZED-}" ]; then
	skip 'example_layer' 'the libraries are built with sanitizers'
	finish
fi
headers='format/pith_status.h loader/pith.h runtime/pithrun.h'
root="$T/root"
# shellcheck disable=SC2086 # a list of words
check_exit 0 'install' env DESTDIR="$root" PREFIX=/usr VERSION=0.1.0 BUILD="$BUILD" sh cli/install.sh $headers
cp tests/install/example_layer.c "$T/"
check 'it builds against libpithrun and libpith alone' sh -c 'cd "$T" && ${CC:-cc} -std=c11 \
	-Wall -Wextra -Wpedantic -Werror example_layer.c -o example -Iroot/usr/include/pith \
	-Lroot/usr/lib -lpithrun -lpith -lm'
LD_LIBRARY_PATH=$root/usr/lib
export LD_LIBRARY_PATH
model "$T/bf16.pith" bf16
model "$T/rtn8.pith" rtn:bits=8,group=32
for layer in 0 3; do
	check_exit 0 "layer $layer in bf16 is that of double precision" "$T/example" "$T/bf16.pith" $layer 1e-6
	check_exit 0 "layer $layer in 8 bits is near" "$T/example" "$T/rtn8.pith" $layer 0.02
	check_exit 1 "but not the same (activations are int8)" "$T/example" "$T/rtn8.pith" $layer 1e-6
done
check_exit 1 'a layer that is not there' "$T/example" "$T/bf16.pith" 4 1
finish
