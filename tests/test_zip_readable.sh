#!/bin/sh
# pith zip and unzip where not everything can be read, entered or named as it is: by a user who is not root.
# SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
cd "$T" || exit 1
chmod 755 "$T" && cp "$PITH" pith && mkdir u && chmod 777 u || exit 1
P=$T/pith
if [ "$(id -u)" != 0 ]; then
	user() { "$@"; }
elif command -v setpriv >/dev/null; then
	user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
else
	skip 'as a user who is not root' 'no setpriv here'
	finish
fi
Z="$P zip --no-model"

# ---- what cannot be read ----
user sh -c 'umask 022; mkdir u/in u/in/shut && echo 1 >u/in/a && echo 2 >u/in/secret && ln u/in/secret u/in/too && echo 3 >u/in/z
	echo 4 >u/in/shut/inside && chmod 0 u/in/secret u/in/shut'
check_exit 1 'a file and a folder that cannot be read' user $Z -o u/a.pz u/in
check 'are named with the reason' grep -q 'u/in/secret: Permission denied: left out' err
check 'the folder as well' grep -q 'u/in/shut: Permission denied: left out' err
check 'and counted' grep -q '^pith zip: 3 things were left out' err
check 'the rest is there' sh -c "'$P' test u/a.pz && '$P' list --json u/a.pz >out"
check 'and nothing else' json "sorted(m['name'] for m in d['members']) == ['u/in', 'u/in/a', 'u/in/shut', 'u/in/z']"
check_exit 0 '--ignore-failed-read' user $Z --ignore-failed-read -o u/b.pz u/in
check 'gives the same archive' cmp u/a.pz u/b.pz
check 'and names them, too' grep -q 'u/in/secret: Permission denied: left out' err
check_exit 1 'a name that is not there' user $Z --ignore-failed-read -o u/c.pz u/in nothing
check 'gives no archive' test ! -e u/c.pz
if [ -r /proc/self/mem ]; then # opens, and cannot be read
	mkdir -p proc/self && echo old >proc/self/mem && $Z -o m.pz u/in/a proc/self/mem 2>err
	check_exit 1 'a file that fails when it is read' $Z --append -o m.pz u/in/z /proc/self/mem
	check 'leaves what it would replace' sh -c "[ \$('$P' cat m.pz proc/self/mem) = old ]"
	check 'and adds the rest' sh -c "[ \$('$P' cat m.pz u/in/z) = 3 ] && '$P' test m.pz"
else
	skip 'a file that fails when it is read' 'no /proc here'
fi
mkdir gone && seq 600000 >gone/0 && echo 7 >gone/a && ln gone/a gone/b && ln gone/a gone/c
$Z --segment 65536 --ignore-failed-read -o gone.pz gone 2>err &
reads_first() { ls -l "/proc/$1/fd" 2>/dev/null | grep -q gone/0; }
while readlink "/proc/$!/exe" >/dev/null && ! reads_first $!; do sleep 0.01; done
if kill -STOP $! 2>/dev/null && reads_first $!; then # all names are gathered, 'gone/a' was not opened yet
	rm gone/a && kill -CONT $! && wait $!
	check 'a name that vanished' grep -q 'gone/a: No such file or directory: left out' err
	check 'leaves its content to the next of its links' sh -c "[ \$('$P' cat gone.pz gone/b) = 7 ] && '$P' test gone.pz"
	"$P" list --json gone.pz >out
	check 'and that to the others' json "[m['target'] for m in d['members'] if m['name'] == 'gone/c'] == ['gone/b']"
else
	kill -CONT $! 2>/dev/null
	wait $!
	skip 'a name that vanishes' 'the archive was complete too soon'
fi

# ---- folders without x, named behind what is in them ----
"$PYTHON" - <<'PY'
import io, tarfile
with tarfile.open("shut.tar", "w") as tar:
    for name, mode in (("d/e/f/g", 0o600), ("d/e/f", 0), ("d", 0o600), ("d/e", 0o400)):
        member = tarfile.TarInfo(name)
        member.mode = mode
        member.type = tarfile.REGTYPE if name.endswith("g") else tarfile.DIRTYPE
        tar.addfile(member, io.BytesIO())
PY
$Z --no-owner -o u/shut.pz shut.tar 2>err
check_exit 0 'folders that shut the way to others' user "$P" unzip -C u/shut u/shut.pz
check 'have their modes' test "$(stat -c %a u/shut/d u/shut/d/e u/shut/d/e/f u/shut/d/e/f/g | tr '\n' ' ')" = '600 400 0 600 '
chmod -R 700 u

# ---- what is left of a damaged file ----
"$PYTHON" -c '
import random
for i, name in enumerate(("x", "x.damaged", "y", "y" * 250)):
    open(name, "wb").write(random.Random(i).randbytes(131072 + 70000 * (i > 2)))'
long=$(printf '%0250d' 0 | tr 0 y)
mkdir y.damaged && echo z >y.damaged/z
$Z --segment 131072 -o x.pz x x.damaged "$long" y y.damaged 2>err && cp x.pz hurt.pz
"$PYTHON" - <<'PY'
data = bytearray(open("hurt.pz", "rb").read())
for name in ("x", "y", "y" * 250):
    data[data.find(open(name, "rb").read()[-1000:])] ^= 1
open("hurt.pz", "wb").write(data)
PY
check_exit 3 'names that are taken or too long' "$P" unzip --recover --force -C rest hurt.pz
check 'do not cost a member' cmp x.damaged rest/x.damaged
check 'nor what is left' sh -c '[ $(stat -c %s rest/x~*.damaged) = 131072 ] && [ $(stat -c %s rest/yyy*~*.damaged) = 201072 ]'
check 'of any of them' sh -c '[ $(stat -c %s rest/y~*.damaged) = 131072 ] && [ $(cat rest/y.damaged/z) = z ]'

# ---- append ----
cp x.pz cut.pz && echo appended >late && $Z --append -o cut.pz late 2>err && truncate -s -10 cut.pz
check_exit 3 'an append that lost its end' "$P" unzip --recover -C late.out cut.pz
check 'is found behind the older directory' cmp late late.out/late
check 'with all that was before it' cmp x.damaged late.out/x.damaged
mkdir -p kept/sub && : >kept/empty && head -c 300000 /dev/urandom >kept/noise
$Z --segment 65536 --no-model -o kept.pz kept 2>err && cp kept.pz cut.pz && ln -sf empty link
printf x | dd of=cut.pz bs=1 seek=1000 conv=notrunc 2>err
$Z --append -o cut.pz link 2>err && truncate -s -10 cut.pz
check_exit 3 'an append without content that lost its end, and damage' "$P" unzip --recover -C kept.out cut.pz
check 'its link is back' test -L kept.out/link
check 'and what has records in the damaged segment' sh -c 'test -d kept.out/kept/sub && test -f kept.out/kept/empty'
check_exit 2 'segments of another size' $Z --append --segment 8192 -o x.pz x
finish
