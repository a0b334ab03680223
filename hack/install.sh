#!/bin/sh
# Installs Belay from its sources and locked versions, and nothing that only its development needs:
# install.sh SOURCES TARGET [WHEELS]; what it is installed from stays in WHEELS, where that is given.
#
# Every package is fetched by the hash in requirements.lock; what is installed is then chosen among these, off line.
set -eu
sources=$1
target=$2
work=$(mktemp -d)
wheels=${3:-$work/wheels}
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

python3 -m venv "$target"
"$target/bin/pip" wheel --quiet --require-hashes -r "$sources/requirements.lock" -w "$wheels"
"$sources/hack/wheel.sh" "$sources" "$wheels" "$wheels"
"$target/bin/pip" install --quiet --no-index --find-links "$wheels" "belay[bus]"
"$target/bin/pip" check
# Nothing is installed in a running container.
"$target/bin/pip" uninstall --quiet --yes pip
