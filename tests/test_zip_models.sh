#!/bin/sh
# Which model restores an archive: inside, named, found by its identity, missing.  SPDX-License-Identifier: Apache-2.0
. tests/testing.sh
. tests/cli_models.sh
model "$T/tiny.pith" rtn:bits=4,group=32
head -c 700 bench/texts/docs-peps-00.txt >"$T/text"
identity=$("$PITH" info --json "$T/tiny.pith" | sed -n 's/.*"identity": "\(.*\)".*/\1/p')
cd "$T" || exit 1
check_exit 0 'zip with a model of its own' "$PITH" zip -m tiny.pith -o a.pz text
check_exit 0 'and with the model inside' "$PITH" zip -m tiny.pith --embed-model --json -o e.pz text
check 'text is coded by it' json 'd["model_segments"] == 1'
check_exit 4 'restoring without it' "$PITH" cat a.pz
check 'names it and where it was looked for' grep -q "identity $identity.* models/$identity.pith.*share/pith/models/$identity.pith" err
mkdir models && cp tiny.pith "models/$identity.pith"
check_exit 0 'found by its identity' "$PITH" cat a.pz
check 'the text is back' cmp out text
mv models/"$identity.pith" away.pith
check_exit 0 'inside: no other file is needed' "$PITH" cat e.pz
check 'the text is back' cmp out text
check_exit 0 'list says so' "$PITH" list --json e.pz
check 'with the identity' json "d['model_embedded'] and d['model_identity'] == '$identity'"
echo more >more
check_exit 0 'append takes the model inside' "$PITH" zip --append -o e.pz more
check_exit 4 'append without the model' "$PITH" zip --append -o a.pz more
check_exit 0 'append with it' "$PITH" zip --append -m tiny.pith -o a.pz more
check_exit 0 'test' "$PITH" test -m tiny.pith a.pz
check_exit 0 'no model at all' "$PITH" zip --no-model -o n.pz text
check_exit 0 'needs none' "$PITH" cat n.pz
check 'the text is back' cmp out text
cp e.pz hurt.pz && flip hurt.pz 100000
check_exit 3 'a damaged model inside' "$PITH" cat hurt.pz
cp a.pz hurt.pz && head -c 64 /dev/zero | dd of=hurt.pz conv=notrunc 2>/dev/null
check_exit 3 'a lost header' "$PITH" unzip --recover -m tiny.pith -C back hurt.pz
check 'is no loss with the model at hand' cmp back/text text
finish
