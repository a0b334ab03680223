#!/usr/bin/env bash
# Runs the Dockerfile's steps in a clean directory, and sees that both processes start from what comes out: with nothing
# but that on the path, from a folder nobody may write to. For machines without a container engine, as in CI.
set -euo pipefail
cd "$(dirname "$0")/.."
clean=$(mktemp -d)
trap 'chmod -R u+w "$clean"; rm -rf "$clean"' EXIT

say() { echo "image: $*"; }

say "copying what the build may see"
mkdir "$clean/src"
git ls-files -z --cached --others --exclude-standard -- \
  LICENSE README.md pyproject.toml requirements.lock crds kube operator gateway client hack manifests |
  while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
  tar --create --null --files-from=- | tar --extract --directory="$clean/src"

say "installing from the lock file"
"$clean/src/hack/install.sh" "$clean/src" "$clean/opt/belay"
rm -r "$clean/src"
chmod -R a-w "$clean/opt"

for process in belay-operator belay-gateway; do
  say "starting $process"
  (cd / && env -i PATH="$clean/opt/belay/bin" PYTHONDONTWRITEBYTECODE=1 "$process" --help > /dev/null)
done

say "looking for what has no place in it"
packages=$(echo "$clean"/opt/belay/lib/python3*/site-packages)
for name in pip pytest mypy ruff hatchling hypothesis; do
  if [ -e "$packages/$name" ]; then say "$name is in the image" >&2; exit 1; fi
done
say "done: $(du -sm "$clean/opt/belay" | cut -f1) MB"
