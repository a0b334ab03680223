"""The demo agents' work, as any program would do it: the prompt comes on standard input, progress and result go out.

index FOLDER into FILE     fingerprint each file once, write the index
index FOLDER for ever      the same over and over
"""

import hashlib
import sys
from itertools import count
from pathlib import Path

_ROUNDS = 4_000_000
"""Rounds of key stretching for each file: about a second of honest work."""


def main() -> None:
    """Read the prompt, do as it says."""
    _, folder, *how = sys.stdin.read().split()
    files = sorted(Path(folder).iterdir())
    if how[:1] == ["into"]:
        index(files, Path(how[1]))
    else:
        for lap in count(1):
            fingerprints(files, f"lap {lap}: ")


def index(files: list[Path], target: Path) -> None:
    """Write `<sha256>  <name>` for each file."""
    lines = [f"{digest}  {path.name}" for path, digest in fingerprints(files).items()]
    target.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} files indexed in {target}")


def fingerprints(files: list[Path], prefix: str = "") -> dict[Path, str]:
    """SHA-256 of each file, telling how far it is."""
    found = {}
    for number, path in enumerate(files):
        print(f"::progress {100 * number // len(files)} {prefix}{path.name}", flush=True)
        content = path.read_bytes()
        hashlib.pbkdf2_hmac("sha256", content, b"belay", _ROUNDS)
        found[path] = hashlib.sha256(content).hexdigest()
    return found


if __name__ == "__main__":
    main()
