#!/usr/bin/env bash
# Runs the Dockerfile's steps in a clean directory, and sees that the same sources give the same wheel and that both processes
# start from what comes out: with nothing but that on the path, from a folder nobody may write to, as far as an API server
# that isn't there. For machines without a container engine, as in CI.
set -euo pipefail
cd "$(dirname "$0")/.."
clean=$(mktemp -d)
trap 'chmod -R u+w "$clean"; rm -rf "$clean"' EXIT

say() { echo "image: $*"; }

fail() { say "$*" >&2; exit 1; }

say "copying what the build may see"
mkdir "$clean/src"
git ls-files -z --cached --others --exclude-standard -- \
  LICENSE README.md pyproject.toml requirements.lock crds kube operator gateway client hack manifests |
  while IFS= read -r -d '' file; do if [ -e "$file" ]; then printf '%s\0' "$file"; fi; done |
  tar --create --null --files-from=- | tar --extract --directory="$clean/src"
(umask 077; cp -r "$clean/src" "$clean/elsewhere")
find "$clean/elsewhere" -exec touch --date=2001-02-03 {} +

say "installing from the lock file"
"$clean/src/hack/install.sh" "$clean/src" "$clean/opt/belay" "$clean/wheels"
rm -r "$clean/src"
chmod -R a-w "$clean/opt"

say "building the wheel again, from a copy at another place and of another time"
"$clean/elsewhere/hack/wheel.sh" "$clean/elsewhere" "$clean/wheels" "$clean/rebuilt"
(cd "$clean/wheels" && sha256sum belay-*.whl) | (cd "$clean/rebuilt" && sha256sum --check --quiet) ||
  fail "two builds of the same sources differ"

packages=$(echo "$clean"/opt/belay/lib/python3*/site-packages)
cat > "$clean/nowhere" <<END
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:1", certificate-authority: "$packages/certifi/cacert.pem"}}]
users: [{name: nobody, user: {token: none}}]
END

run() { (cd / && env -i PATH="$clean/opt/belay/bin" PYTHONDONTWRITEBYTECODE=1 "$@"); }

for process in belay-operator belay-gateway; do
  say "starting $process"
  run "$process" --help > /dev/null
  if run "$process" --kubeconfig "$clean/nowhere" > /dev/null 2> "$clean/said"; then fail "$process found an API server"; fi
  said=$(grep "^$process: " "$clean/said") || fail "$process: $(cat "$clean/said")"
  [[ $said == "$process: API server at https://127.0.0.1:1 can't be reached: "* ]] || fail "$said"
done

say "looking for what has no place in it"
for name in pip pytest mypy ruff hatchling hypothesis; do
  if [ -e "$packages/$name" ]; then fail "$name is in the image"; fi
done
say "done: $(du -sm "$clean/opt/belay" | cut -f1) MB"
