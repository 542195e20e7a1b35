#!/bin/sh
# Convert models/books6m by the schemes of tests/logit_hashes.txt, where they are not converted yet.
# usage: tests/make_logit_models.sh PITH FOLDER
# SPDX-License-Identifier: Apache-2.0
set -eu

grep -v '^#' tests/logit_hashes.txt | while read -r name scheme cache _; do
	[ "$scheme" != - ] || continue
	"$1" convert models/books6m -o "$2/$name.pith" --force --scheme "$scheme" --kv "$cache" >/dev/null
done
