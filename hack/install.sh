#!/bin/sh
# Installs Belay from its sources and locked versions, and nothing that only its development needs: install.sh SOURCES TARGET
#
# Every package is fetched by the hash in requirements.lock; what is installed is then chosen among these, off line.
set -eu
sources=$1
target=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# Archives carry no time of their making: the same sources give the same wheel.
export SOURCE_DATE_EPOCH=315532800

python3 -m venv "$work/build"
"$work/build/bin/pip" wheel --quiet --require-hashes -r "$sources/requirements.lock" -w "$work/wheels"
"$work/build/bin/pip" install --quiet --no-index --find-links "$work/wheels" hatchling
"$work/build/bin/pip" wheel --quiet --no-index --no-deps --no-build-isolation "$sources" -w "$work/wheels"

python3 -m venv "$target"
"$target/bin/pip" install --quiet --no-index --find-links "$work/wheels" "belay[bus]"
"$target/bin/pip" check
# Nothing is installed in a running container.
"$target/bin/pip" uninstall --quiet --yes pip
