#!/bin/sh
# Install those of the Debian packages named on the command line that are missing.
# SPDX-License-Identifier: Apache-2.0
set -eu

if ! command -v dpkg-query >/dev/null; then
	echo "packages: not a Debian or Ubuntu system; needed are the equivalents of: $*"
	exit 0
fi
missing=
for package in "$@"; do
	case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
	*"install ok installed"*) ;; # twice where two architectures have it
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if ! command -v apt-get >/dev/null || ! command -v ${sudo:-env} >/dev/null; then
	echo "packages: missing, please install:$missing" >&2
	exit 1
fi
echo "packages: installing$missing"
export DEBIAN_FRONTEND=noninteractive
for package in $missing; do # of another architecture: name:architecture
	case $package in *:*) $sudo dpkg --add-architecture "${package#*:}" ;; esac
done
# shellcheck disable=SC2086 # a list of words
if ! { $sudo apt-get update -q && $sudo apt-get install -qy --no-install-recommends $missing; }; then
	echo "packages: apt-get failed; please install:$missing" >&2
	exit 1
fi
