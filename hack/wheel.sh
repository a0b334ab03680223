#!/bin/sh
# Builds Belay's own wheel, off line, with the hatchling among other wheels: wheel.sh SOURCES WHEELS TARGET
#
# The same sources give the same bytes, wherever they lie and whenever it runs: archives carry no time of their making.
set -eu
sources=$1
wheels=$2
target=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export SOURCE_DATE_EPOCH=315532800

python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet --no-index --find-links "$wheels" hatchling
"$work/build/bin/pip" wheel --quiet --no-index --no-deps --no-build-isolation "$sources" -w "$target"
