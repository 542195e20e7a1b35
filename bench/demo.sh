#!/bin/sh
# The main jobs on real input, in one or two minutes: used by 'make demo'.
# SPDX-License-Identifier: Apache-2.0
set -eu

BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
scheme=${SCHEME:-rtn:bits=4,group=32}
source=models/books6m
text=bench/texts/speeches-us-gov-00.txt
out=$BUILD/demo
PATH=$BUILD:$PATH
export PATH
rm -rf "$out"
mkdir -p "$out"

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { # run a command and show it
	printf '$ %s\n' "$*" >&2
	"$@"
}
field() { # KEY FILE: a number out of a JSON result
	"$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[2]))[sys.argv[1]])' "$1" "$2"
}
size() { wc -c <"$1" | tr -d ' '; }

say '1. Convert a Hugging Face checkpoint: as it is (bf16), and quantized'
show pith convert $source -o "$out/books6m.pith" --scheme bf16
show pith convert $source -o "$out/books6m-q.pith" --scheme "$scheme"

say '2. Check every byte of both, and see what is inside'
show pith verify "$out/books6m.pith"
show pith verify "$out/books6m-q.pith"
show pith info "$out/books6m-q.pith"

say '3. How much does quantization cost?'
for m in books6m books6m-q; do
	show pith eval "$out/$m.pith" --text $text --json >"$out/$m.json"
	printf '%s: perplexity %.2f\n' $m.pith "$(field perplexity "$out/$m.json")"
done

say '4. Generate text'
show pith run "$out/books6m-q.pith" -p 'The people of the United States' -n 40 --temp 0.7 --seed 1
echo

say '5. Archive a text with the built-in model, and read it back'
show pith zip -o "$out/text.pz" $text
show pith list "$out/text.pz"
show pith unzip "$out/text.pz" -C "$out/back"
found=$(find "$out/back" -type f)
cmp "$found" $text && echo "the same bytes: $text"
xz -9e -k -c $text >"$out/text.xz"
zstd -q -19 -k -c $text >"$out/text.zst"

say 'Results'
printf '%-26s %10s %12s %12s %10s\n' model bytes 'bits/weight' perplexity bits/byte
for m in books6m books6m-q; do
	printf '%-26s %10s %12.3f %12.2f %10.3f\n' "$m.pith" "$(size "$out/$m.pith")" \
		"$(field bits_per_weight "$out/$m.json")" "$(field perplexity "$out/$m.json")" \
		"$(field bits_per_byte "$out/$m.json")"
done
total=$(size $text)
printf '\n%-26s %10s %12s\n' "$(basename $text)" bytes bits/byte
printf '%-26s %10s %12s\n' 'as it is' "$total" 8.000
for f in text.pz text.xz text.zst; do
	case $f in *.pz) how='pith zip' ;; *.xz) how='xz -9e' ;; *) how='zstd -19' ;; esac
	printf '%-26s %10s %12s\n' "$how" "$(size "$out/$f")" \
		"$(awk -v n="$(size "$out/$f")" -v t="$total" 'BEGIN { printf "%.3f", 8 * n / t }')"
done
