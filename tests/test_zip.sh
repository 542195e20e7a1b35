#!/bin/sh
# pith zip, unzip, list, cat.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/m.pith" rtn:bits=8,group=32
model "$T/other.pith" rtn:bits=4,group=32
M=$T/m.pith
tree() { "$PYTHON" tests/zip_trees.py "$@"; }

# ---- a tree with everything in it ----
tree make "$T/in"
in=${T#/}/in # as it is named in the archive
check_exit 0 'zip a folder' "$PITH" zip -m "$M" -o "$T/a.pz" "$T/in" --json --threads 1
check 'text goes through the model' json 'd["model_segments"] >= 1 and d["verify_failures"] == 0 and d["verified"]'
check 'archive, coder and numerics are version 1' json 'd["archive_version"] == d["coder_version"] == d["numerics_version"] == 1'
check_exit 0 'with two threads' "$PITH" zip -m "$M" -o "$T/b.pz" "$T/in" --threads 2
check 'it is the same archive' cmp "$T/a.pz" "$T/b.pz"
check_exit 0 'unzip' "$PITH" unzip -m "$M" -C "$T/got" "$T/a.pz"
check 'names, content, modes, times and links are back' tree same "$T/in" "$T/got/$in"
check_exit 1 'nothing is replaced' "$PITH" unzip -m "$M" -C "$T/got" "$T/a.pz"
check_exit 0 'but with --force' "$PITH" unzip -m "$M" -C "$T/got" "$T/a.pz" --force
check_exit 0 'list' "$PITH" list "$T/a.pz" --json
check 'list names all' json 'len(d["members"]) > 15 and sum(m["size"] for m in d["members"]) == d["content_nbytes"]'
check_exit 0 "cat one member" "$PITH" cat -m "$M" "$T/a.pz" "$in/text.txt"
check 'and only that' cmp "$T/out" "$T/in/text.txt"
check_exit 0 'unzip one folder' "$PITH" unzip -m "$M" -C "$T/part" "$T/a.pz" "$in/deep"
check 'and only that' sh -c '[ "$(ls "$1")" = deep ]' - "$T/part/$in"
check_exit 1 'a member that is not there' "$PITH" cat -m "$M" "$T/a.pz" nobody

# ---- levels ----
head -c 2000 "$T/in/text.txt" >"$T/level.txt"
for level in fast default small; do
	check_exit 0 "zip --level $level" sh -c 'cd "$T" && "$PITH" zip -m "$1" --level "$2" -o "$2.pz" level.txt' - "$M" "$level"
	check_exit 0 'cat' "$PITH" cat -m "$M" "$T/$level.pz" level.txt
	check 'the text is back' cmp "$T/out" "$T/level.txt"
done
check_exit 0 'zip --level fast with no model named' sh -c 'cd "$T" && "$PITH" zip --level fast -o own.pz level.txt'
check_exit 0 'cat finds the model' "$PITH" cat "$T/own.pz" level.txt
check 'the text is back' cmp "$T/out" "$T/level.txt"
check_exit 0 'list' "$PITH" list "$T/own.pz" --json
own() { "$PITH" version --json | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["fast_model"]["identity"])'; }
check 'it is the one for fast' json "d['model_identity'] == '$(own)'"
check_exit 0 'zip --level fast --embed-model' sh -c 'cd "$T" && "$PITH" zip --level fast --embed-model -f -o own.pz level.txt'
check 'that model is inside' sh -c '[ "$(wc -c <"$1")" -gt 700000 ] && [ "$(wc -c <"$1")" -lt 1100000 ]' - "$T/own.pz"
check_exit 0 'cat' "$PITH" cat "$T/own.pz" level.txt
check 'the text is back' cmp "$T/out" "$T/level.txt"
check 'levels differ' sh -c '! cmp -s "$T/fast.pz" "$T/small.pz"'

# ---- pipes ----
check_exit 0 'from a pipe to a pipe' sh -c '"$PITH" zip -m "$1" -o - - <"$2" >"$3"' - "$M" "$T/in/text.txt" "$T/p.pz"
check_exit 0 'read from a pipe' sh -c 'cat "$2" | "$PITH" cat -m "$1" - stdin' - "$M" "$T/p.pz"
check 'the text is back' cmp "$T/out" "$T/in/text.txt"

# ---- one archive on every kernel set ----
head -c 700 "$T/in/text.txt" >"$T/short"
(cd "$T" && "$PITH" zip -m "$M" -o s.pz short 2>/dev/null)
(cd "$T" && "$PITH" zip --level small -m "$M" -o r.pz short 2>/dev/null)
for mask in -avx512 -avx512,-avx2; do
	check_exit 0 "zip with PITH_CPU=$mask" sh -c 'cd "$T" && PITH_CPU=$1 "$PITH" zip -m "$2" -o s$1.pz short' - "$mask" "$M"
	check 'the same archive' cmp "$T/s.pz" "$T/s$mask.pz"
	check_exit 0 'level small' sh -c 'cd "$T" && PITH_CPU=$1 "$PITH" zip --level small -m "$2" -o r$1.pz short' - "$mask" "$M"
	check 'the same archive' cmp "$T/r.pz" "$T/r$mask.pz"
	check_exit 0 'decodes' env PITH_CPU=$mask "$PITH" cat -m "$M" "$T/s.pz"
	check 'to the text' cmp "$T/out" "$T/short"
done

# ---- wrong and damaged input ----
check_exit 4 'another model' "$PITH" cat -m "$T/other.pith" "$T/s.pz"
identity=$("$PITH" info "$M" --json | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["identity"])')
check 'the message names the right one' grep -q "$identity" "$T/err"
cp "$M" "$T/hurt.pith" && flip "$T/hurt.pith" 300000
check_exit 3 'a damaged model' "$PITH" cat -m "$T/hurt.pith" "$T/s.pz"
check 'the message says the model' grep -q 'hurt.pith' "$T/err"
cp "$T/s.pz" "$T/hurt.pz" && flip "$T/hurt.pz" 120
check_exit 3 'a damaged archive' "$PITH" cat -m "$M" "$T/hurt.pz"
check 'the message names segment and member' grep -q "segment 0.*short" "$T/err"
check_exit 3 'nothing is left of a damaged member' "$PITH" unzip -m "$M" -C "$T/none" "$T/hurt.pz"
check 'not even a temporary file' sh -c '[ -z "$(ls -A "$1")" ]' - "$T/none"
head -c 200 "$T/s.pz" >"$T/cut.pz"
check_exit 3 'a cut archive' "$PITH" list "$T/cut.pz"
check_exit 4 'not an archive' "$PITH" list "$T/in/text.txt"
check_exit 2 'no output named' "$PITH" zip "$T/short"
check_exit 1 'an archive that exists' "$PITH" zip -m "$M" -o "$T/s.pz" "$T/short"

# ---- hostile links and folders ----
mkdir -p "$T/evil" "$T/target" "$T/outside"
ln -s /etc/passwd "$T/evil/absolute"
ln -s ../../outside "$T/evil/up"
ln -s a/../../outside "$T/evil/hidden"
(cd "$T" && "$PITH" zip -m "$M" -o evil.pz evil 2>/dev/null)
check_exit 1 'links that leave the folder' "$PITH" unzip -m "$M" -C "$T/target" "$T/evil.pz"
check 'are not made' sh -c '[ -z "$(ls -A "$1/evil")" ]' - "$T/target"
check_exit 0 'unless asked for' "$PITH" unzip -m "$M" -C "$T/target" "$T/evil.pz" --any-links --force
rm -rf "$T/target/in" && mkdir -p "$T/x/dir" && echo inside >"$T/x/dir/file"
(cd "$T/x" && "$PITH" zip -m "$M" -o ../x.pz dir 2>/dev/null)
ln -s "$T/outside" "$T/target/dir"
check_exit 1 'a link in place of a folder' "$PITH" unzip -m "$M" -C "$T/target" "$T/x.pz" --force
check 'is not followed' sh -c '[ -z "$(ls -A "$1")" ]' - "$T/outside"
chmod 4755 "$T/x/dir/file"
(cd "$T/x" && "$PITH" zip -m "$M" -o ../y.pz dir 2>/dev/null && "$PITH" unzip -m "$M" -C ../y ../y.pz 2>/dev/null)
check 'no set-user-id' sh -c '[ "$(stat -c %a "$1")" = 755 ]' - "$T/y/dir/file"

# ---- size: never more than zstd -19 a segment + 0.5 % + 256 + 96 a member ----
check 'size limit' "$PYTHON" - "$T/in" "$T/a.pz" <<'PY'
import os, subprocess, sys
files = [os.path.join(at, f) for at, _, fs in os.walk(os.fsencode(sys.argv[1])) for f in fs]
names = [f for f in files if not os.path.islink(f)]
zstd = sum(len(subprocess.run([b"zstd", b"-19", b"-c"], stdin=open(f, "rb"), capture_output=True,
                              check=True).stdout) for f in names)
size = os.path.getsize(sys.argv[2])
assert size <= zstd * 1.005 + 256 + 96 * 24, (size, zstd)
PY
finish
