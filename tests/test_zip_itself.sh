#!/bin/sh
# pith zip beside other programs: an append that another one holds up, a disk that fills, an archive in the folder that it
# holds.  SPDX-License-Identifier: Apache-2.0
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

# ---- the archive itself ----
mkdir self && cp one self
check_exit 1 'standard output in the folder' sh -c "cd self && $Z -o - . >self.pz"
check 'is left out' grep -q 'self.pz: the archive itself: left out' err
check 'one member' sh -c "'$PITH' list self/self.pz | grep -q '^1 members'"
check_exit 1 'an append to an archive in the folder' $Z --append -o self/self.pz self
check 'leaves it out, too' sh -c "'$PITH' list self/self.pz | grep -q '^3 members'"

finish
