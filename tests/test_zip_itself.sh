#!/bin/sh
# pith zip beside other programs: an append that another one holds up, a disk that fills, an archive in the folder that it
# holds; and names that would write to the terminal.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
cd "$T" || exit 1
Z="$PITH zip --no-model"
echo one >one
"$PYTHON" -c 'import random; open("large", "wb").write(random.Random(1).randbytes(400_000))'
$Z -o a.pz one 2>/dev/null

# ---- append ----
cp a.pz busy.pz && echo 'what another append has written so far' >>busy.pz && cp busy.pz before.pz
check_exit 1 'a second append' flock busy.pz $Z --append -o busy.pz large
check 'is told why' grep -q 'another append' err
check 'and changes nothing' cmp before.pz busy.pz
cp a.pz full.pz
head -c 1500 large >small
check_exit 1 'a full disk' sh -c "ulimit -f $(($(wc -c <full.pz) / 512 + 1)) && exec $Z --append -o full.pz small"
check 'leaves what was there' cmp a.pz full.pz
cp one none.pz
check_exit 4 'append to what is no archive' $Z --append -o none.pz large
check 'leaves it alone' cmp one none.pz

# ---- what is no file ----
mkdir self && mkfifo fifo && ln -s fifo link
for path in fifo link self; do
	check_exit 1 "--force onto $path" $Z --force -o "$path" one
done
check_exit 1 '--force of a model, too' sh -c "cd '$OLDPWD' && '$PITH' convert models/tiny1m --force -o '$T/fifo'"
check 'replaces none of them' sh -c '[ -p fifo ] && [ -L link ] && [ -d self ]'

# ---- the archive itself ----
cp one self
check_exit 1 'standard output in the folder' sh -c "cd self && $Z -o - . >self.pz"
check 'is left out' grep -q 'self.pz: the archive itself: left out' err
check 'one member' sh -c "'$PITH' list self/self.pz | grep -q '^1 members'"
ln self/self.pz self/same.pz
check_exit 1 'an append to an archive in the folder' $Z --append -o self/self.pz self
check 'leaves it out, too' sh -c "'$PITH' list self/self.pz | grep -q '^3 members'"

# ---- names ----
odd=$(printf 'a\033[31m\nb')
cp large "$odd" && $Z -o name.pz "$odd" 2>/dev/null && cp name.pz bad.pz && flip bad.pz 5000
plain() { ! LC_ALL=C grep -q "$(printf '\033')" "$1"; }
check_exit 3 'a damaged member with a name like that' "$PITH" unzip -C got bad.pz
check 'is named without control characters' plain err
check 'yet named' grep -q 'a\\x1b\[31m\\x0ab' err
check_exit 0 'list' "$PITH" list name.pz
check 'neither has them' plain out
mkdir got2 && mkdir "got2/$odd"
check_exit 1 'one that is in the way' "$PITH" unzip -C got2 name.pz
check 'nor has that' plain err
finish
