#!/bin/sh
# pith zip and unzip with tar and zip streams, links, owners, append.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
Z="$PITH zip --no-model"

mkdir -p "$T/in/sub/empty"
head -c 70000 models/tiny1m/model.safetensors >"$T/in/binary"
ln "$T/in/binary" "$T/in/sub/hard"
ln -s ../binary "$T/in/sub/soft"
printf 'caf\303\251' >"$T/in/caf$(printf '\303\251')"
: >"$T/in/nothing"
chmod 640 "$T/in/nothing"
truncate -s 300000 "$T/in/sparse" && printf end >>"$T/in/sparse"
long=$(printf 'x%.0s' $(seq 200)) && mkdir "$T/in/$long" && echo deep >"$T/in/$long/$long"
touch -d '1999-12-31 23:59:59.123456789' "$T/in/binary"
listing() { (cd "$1" && find . -exec stat -c '%n %a %y %U %G %h %N' {} + | sort); }

# ---- tar and zip in ----
(cd "$T" && tar -c --format=pax -S in | zstd -q >t.tar.zst && tar -cf plain.tar in && tar -czf t.tgz in)
check_exit 0 'a compressed tar' sh -c "cd $T && $Z -o a.pz t.tar.zst"
check 'is said to be one' grep -q 't.tar.zst: .* members of the archive (--as-file' "$T/err"
check_exit 0 'unzip' "$PITH" unzip -C "$T/got" "$T/a.pz"
check 'the same tree' diff -r --no-dereference "$T/in" "$T/got/in"
same_metadata() { listing "$T/in" >"$T/want" && listing "$T/got/in" >"$T/have" && diff "$T/want" "$T/have"; }
check 'modes, times, owners, links' same_metadata
check_exit 0 'a tar from a pipe' sh -c "cd $T && zstd -qdc t.tar.zst | $Z --from-tar -o p.pz -"
check 'the same archive' cmp "$T/a.pz" "$T/p.pz"
check_exit 0 'as a file' sh -c "cd $T && $Z --as-file -o f.pz plain.tar"
check_exit 0 'it is one member' sh -c "'$PITH' cat $T/f.pz plain.tar | cmp - $T/plain.tar"
check_exit 0 'in a folder it is a file, too' sh -c "mkdir $T/box && cp $T/t.tgz $T/box && cd $T && $Z -o box.pz box && '$PITH' cat box.pz box/t.tgz | cmp - t.tgz"
"$PYTHON" - "$T" <<'PY'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/z.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("one/a.txt", "text " * 100)
    z.writestr("../../up", "up")
PY
check_exit 0 'a zip' sh -c "cd $T && $Z -o z.pz z.zip && '$PITH' list --json z.pz"
check 'names stay inside' json '[m["name"] for m in d["members"]] == ["one/a.txt", "up"]'
head -c 20000 "$T/plain.tar" >"$T/cut.tar"
check_exit 3 'a truncated tar' sh -c "cd $T && $Z -o cut.pz cut.tar"
check 'makes no archive' test ! -e "$T/cut.pz"
cp "$T/in/binary" "$T/no.tar"
check_exit 3 'a file that only has the name' sh -c "cd $T && $Z -o no.pz no.tar"
"$PYTHON" - "$T" <<'PY'
import io, sys, tarfile
with tarfile.open(sys.argv[1] + "/owners.tar", "w", format=tarfile.PAX_FORMAT) as t:
    for name, fields in {"id": {"uid": 1 << 32}, "name": {"uname": "u" * 300, "uid": 7}}.items():
        entry = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(entry, key, value)
        t.addfile(entry, io.BytesIO())
PY
check_exit 0 'owners that no member can have' sh -c "cd $T && $Z -o owners.pz owners.tar && '$PITH' list --json owners.pz"
check 'are left out, not made root' json '[(m.get("uid"), m.get("user")) for m in d["members"]] == [(None, None), (7, "")]'
mkdir "$T/odd" && echo text >"$T/odd/text" && mkfifo "$T/odd/fifo"
check_exit 1 'a fifo is left out' sh -c "cd $T && $Z --json -o fifo.pz odd"
check 'and counted' json 'd["left_out"] == 1'
check 'the rest is there' "$PITH" test "$T/fifo.pz"

# ---- tar out ----
check_exit 0 'a tar stream' sh -c "'$PITH' unzip --to-tar $T/a.pz | (mkdir $T/tar && cd $T/tar && tar xf - 2>$T/tar.err)"
check 'tar has nothing to say' test ! -s "$T/tar.err"
check 'the same tree' diff -r --no-dereference "$T/in" "$T/tar/in"
same_tar() { listing "$T/in" >"$T/want" && listing "$T/tar/in" >"$T/have" && diff "$T/want" "$T/have"; }
check 'modes, times, owners, links' same_tar
check_exit 0 'to a file, one folder' "$PITH" unzip --to-tar -o "$T/o.tar" "$T/a.pz" in/sub/empty in/sub/hard
check 'with what the hard link needs' sh -c "tar tf $T/o.tar | sort | tr '\n' ' ' | grep -qx 'in/binary in/sub/empty/ in/sub/hard '"
cp "$T/a.pz" "$T/bad.pz" && flip "$T/bad.pz" 30000
check_exit 3 'a damaged archive' "$PITH" unzip --to-tar -o "$T/bad.tar" "$T/bad.pz"
check 'leaves no tar' test ! -e "$T/bad.tar"

# ---- owners ----
if [ "$(id -u)" -eq 0 ]; then
	mkdir "$T/own" && echo text >"$T/own/file" && ln -s file "$T/own/link"
	chown -h 1234:2345 "$T/own/file" "$T/own/link"
	(cd "$T" && $Z -o own.pz own && $Z --no-owner -o none.own own) 2>/dev/null
	owners() { (cd "$1" && stat -c '%u:%g' own/file own/link | tr '\n' ' '); }
	check_exit 0 'root' "$PITH" unzip -C "$T/o1" "$T/own.pz"
	check 'restores owners' test "$(owners "$T/o1")" = '1234:2345 1234:2345 '
	check_exit 0 'unless told' "$PITH" unzip --no-owner -C "$T/o2" "$T/own.pz"
	check 'not to' test "$(owners "$T/o2")" = '0:0 0:0 '
	check_exit 0 'or nobody stored them' "$PITH" unzip -C "$T/o3" "$T/none.own"
	check 'then they are of who restores' test "$(owners "$T/o3")" = '0:0 0:0 '
else
	skip 'owners' 'only root may give files away'
fi

# ---- damage ----
check_exit 3 'the undamaged members are restored' "$PITH" unzip --json -C "$T/rest" "$T/bad.pz"
check 'what is damaged is named' json '[m["lost"] for m in d["damaged"] if m["name"] == "in/binary"][0][0]["nbytes"] > 0'
check 'and not there' sh -c "[ -f $T/rest/in/nothing ] && [ ! -e $T/rest/in/binary ] && [ ! -e $T/rest/in/binary.damaged ]"
check_exit 3 '--recover' "$PITH" unzip --recover -C "$T/part" "$T/bad.pz"
check 'keeps what is left' sh -c "[ \$(stat -c %s $T/part/in/binary.damaged) = 70000 ] && [ ! -e $T/part/in/binary ]"

# ---- append ----
(cd "$T" && mkdir more && head -c 50000 in/binary | tail -c 20000 >more/new && cp a.pz grow.pz)
check_exit 0 'append' sh -c "cd $T && $Z --append -o grow.pz more && '$PITH' test grow.pz"
check_exit 0 'unzip' "$PITH" unzip -C "$T/grown" "$T/grow.pz"
check 'old and new' sh -c "diff -r --no-dereference $T/in $T/grown/in && diff -r $T/more $T/grown/more"
check_exit 0 'a name again' sh -c "cd $T && echo newer >more/new && $Z --json --append -o grow.pz more && '$PITH' cat grow.pz more/new >$T/newer"
check 'is replaced' cmp "$T/newer" "$T/more/new"
check_exit 1 'append to nothing' sh -c "cd $T && $Z --append -o none.pz more"
cp "$T/a.pz" "$T/kill.pz"
old=$(wc -c <"$T/kill.pz")
mkfifo "$T/pipe"
"$PITH" zip --no-model --append -o "$T/kill.pz" --threads 1 - <"$T/pipe" 2>/dev/null &
writer=$!
"$PYTHON" - "$T/pipe" "$T/kill.pz" "$writer" "$old" <<'PY'
import os, random, signal, sys, time
pipe, path, pid, old = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open(pipe, "wb", buffering=0) as out:
    while os.path.getsize(path) < old + 300_000:  # until segments are on their way
        out.write(random.randbytes(65536))
    os.kill(pid, signal.SIGKILL)
PY
wait "$writer" 2>/dev/null
check 'killed half-way, it has grown' test "$(wc -c <"$T/kill.pz")" -gt "$old"
check_exit 3 'the old archive is readable' "$PITH" unzip -C "$T/killed" "$T/kill.pz"
check 'and whole' diff -r --no-dereference "$T/in" "$T/killed/in"
check 'the interruption is said' grep -q 'an append was interrupted' "$T/err"
check_exit 0 'and appended to again' sh -c "cd $T && $Z --append -o kill.pz more && '$PITH' test kill.pz && '$PITH' cat kill.pz more/new | cmp - more/new"
finish
